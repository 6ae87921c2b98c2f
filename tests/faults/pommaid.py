"""A real `pommaid` in a process of its own: started, pressed, watched, listened to, and killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from pommai.audio import SPEECH, read_recording
from tests.unit.device.pommaid import START, settings

PATIENCE_S: Final = 20.0
POLL_S: Final = 0.02
NEXT_PICTURE_S: Final = 0.1
TOKEN: Final = "POMMAI_RELAY_TOKEN"

AWAY: Final = ("connecting", "offline")
"""The states of a toy that reaches nobody."""

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """The toy at one moment (monotonic seconds): its state and for how long it was that, the colour of its light."""

    at_s: float
    state: str
    since_s: float
    light: str


def light_of(status: Status) -> str:
    """The name of the colour that the LED shows: what a child would call it; `dark` for hardly any light."""
    red, green, blue = status["lights"]["color"]
    if max(red, green, blue) < 0.05:
        return "dark"
    lit = tuple(channel > 0.01 for channel in (red, green, blue))
    match lit:
        case (True, True, True):
            return "white" if max(red, green, blue) - min(red, green, blue) < 0.03 else "mixed"
        case (True, True, False):
            return "amber" if abs(green - red / 2) < 0.03 else "mixed"
        case (True, False, True):
            return "purple" if red < blue else "mixed"
    return {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}.get(lit, "mixed")


class Supervisor:
    """What systemd would be told: `said`, each message with its time (monotonic seconds)."""

    def __init__(self, path: Path) -> None:
        self.said: list[tuple[float, str]] = []
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def times(self, message: str) -> list[float]:
        """When `message` came."""
        return [at_s for at_s, text in self.said if text.split("\n")[0] == message]

    def longest_silence_s(self, message: str) -> float:
        """The longest time between two of `message`, and from the last until now."""
        times = [*self.times(message), time.monotonic()]
        return max(after - before for before, after in pairwise(times))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            self.said.append((time.monotonic(), self._socket.recv(4096).decode()))


@dataclass
class Pommaid:
    """A toy: its folder outlives its processes. Use it as `async with Pommaid(folder, url, token) as toy`.

    `sections` are added to its settings, `env` to its environment; `before`: words that go before the command, such as
    `unshare`. An empty `token` leaves it to the settings. `seen`: what the toy looked like each time that it was asked,
    over all its lives. `heard`: all that `hear` brought; `gaps_ms`: how long each silence in it was that nobody wanted.
    """

    folder: Path
    url: str
    token: str
    sections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    seen: list[Sight] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    gaps_ms: list[float] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        self.supervisor = Supervisor(self.folder / "notify")
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.kill()
        self.supervisor.close()

    @property
    def log(self) -> str:
        """What all its lives have said on stderr."""
        return (self.folder / "pommaid.log").read_text(encoding="utf-8")

    def configure(self, **sections: Mapping[str, object]) -> Path:
        """Write the settings file, with `sections` on top of the toy's own."""
        own: dict[str, Mapping[str, object]] = {
            "relay": {"url": self.url},
            "sound": {"kind": "virtual", "volume": 1.0},
        }
        both: dict[str, dict[str, object]] = {}
        for layer in (own, self.sections, sections):
            for name, values in layer.items():
                both.setdefault(name, {}).update(values)
        return settings(self.folder, **both)

    async def launch(self) -> None:
        """Begin a life; it may be a short one."""
        file = self.folder / "device.toml"
        if not file.exists():
            self.configure()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POMMAI_")}
        token = {TOKEN: self.token} if self.token else {}
        own = token | {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        with (self.folder / "pommaid.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self.before, sys.executable, "-c", START, "--config", str(file)),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=clean | own | dict(self.env),
                cwd=self.folder,
            )

    async def start(self) -> None:
        """Begin a life, and return when the toy can be asked."""
        await self.launch()
        assert self.process is not None
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            assert self.process.returncode is None, self.log
            with suppress(OSError, ConnectionError):
                await self.status()
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"the toy cannot be asked: {self.log}")

    # --- the world ----------------------------------------------------------------------------------------------------

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer at the control socket; OSError if nobody gives one."""
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "control.sock"))
        try:
            writer.write(json.dumps({"do": do, **request}).encode() + b"\n")
            async with asyncio.timeout(PATIENCE_S + request.get("hold_ms", 0) / 1000):
                line = await reader.readline()
        finally:
            writer.close()
        if not line:
            raise ConnectionResetError("the toy went away")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def press(self, hold_ms: float | None = None, say: Path | None = None) -> None:
        """Press the button, hold it, and let it up; meanwhile the child says what is in a recording."""
        held = {} if hold_ms is None else {"hold_ms": hold_ms}
        answer = await self.ask("press", **held, **({} if say is None else {"say": str(say)}))
        assert answer["ok"], answer

    async def tap(self, times: int) -> None:
        """Press briefly, so many times in a row."""
        for _ in range(times):
            await self.press(100)
            await asyncio.sleep(0.1)  # a finger's own time

    async def status(self) -> Status:
        """What the toy says of itself; remembered in `seen`."""
        status = await self.ask("status")
        self.seen.append(Sight(time.monotonic(), status["state"], status["since_s"], light_of(status)))
        return status

    async def until(self, wanted: str | Callable[[Status], bool], patience_s: float = PATIENCE_S) -> Status:
        """The status, as soon as the toy is in the state `wanted`, or the condition holds."""
        deadline_s = time.monotonic() + patience_s
        while True:
            status = await self.status()
            if status["state"] == wanted if isinstance(wanted, str) else wanted(status):
                return status
            assert time.monotonic() < deadline_s, f"never {wanted}; {status}; {self.log[-3000:]}"
            await asyncio.sleep(POLL_S)

    async def hear(self) -> bytes:
        """What was heard of the toy since the last time, without the pauses in between; see `heard`, `gaps_ms`."""
        path = self.folder / "heard.wav"
        answer = await self.ask("heard", path=str(path))
        assert answer["ok"], answer
        pcm = read_recording(path).pcm if answer["heard_ms"] else b""
        self.heard += pcm
        self.gaps_ms += answer["gaps_ms"]
        return pcm

    async def until_heard(self, ms: float) -> None:
        """Listen until so much has been heard since the last time."""
        enough = len(self.heard) + SPEECH.bytes(ms)
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < enough:
                await self.hear()
                await asyncio.sleep(POLL_S)

    async def says(self, **press: Any) -> bytes:
        """What it says of its own after a press, while it reaches nobody; heard to its end."""
        await self.hear()
        start = len(self.heard)
        await self.press(**press)
        await self.until_heard(20)
        await self.until(lambda status: status["state"] in AWAY, 60)
        await self.hear()
        return bytes(self.heard[start:])

    async def until_seen(self, state: str, *colors: str) -> None:
        """Look until the light has shown all of `colors` in a state, from now on; it may show no other."""
        before, self.seen = self.seen, []
        try:
            await self.until(lambda _: not self.lights(state) <= set(colors) or self.lights(state) == set(colors))
            assert self.lights(state) == set(colors), f"it is {state}"
        finally:
            self.seen = before + self.seen

    def states(self) -> list[str]:
        """The states that were seen, each once in a row."""
        return [each.state for n, each in enumerate(self.seen) if n == 0 or self.seen[n - 1].state != each.state]

    def lights(self, *states: str) -> set[str]:
        """The colours that were seen in these states; a picture that was not drawn yet does not count."""
        return {each.light for each in self.seen if each.state in states and each.since_s >= NEXT_PICTURE_S}

    # --- the end of a life --------------------------------------------------------------------------------------------

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Tell it to end; the exit code, and the seconds that it took."""
        assert self.process is not None
        began_s = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        return code, time.monotonic() - began_s

    async def kill(self) -> None:
        """A power cut."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
