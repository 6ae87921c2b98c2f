"""A private PulseAudio with two rooms and no sound card: speak into the microphone, and listen at the speaker.

Import the fixture in a `conftest.py` (`from tests.pulse import pulse`, named in `__all__`), or use `running_pulse`
as a context manager. Sound is 24 kHz mono 16 bit. Nothing of it is shared with the machine: the server has its own
folder and its own socket, and is ended by its own process id.

    async def test_an_echo(pulse: Pulse) -> None:
        async with pulse.record() as ear:
            await pulse.say(pcm)              # into the microphone; returns when it has been said
            await ear.until(lambda pcm: ...)  # at the speaker
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from pommai.audio import SPEECH, read_recording

PATIENCE_S = 15.0
"""How long the server may take to answer, and a sound to be heard."""

FAST_MS = 20
"""The latency that is asked for to listen."""

SAFE_MS = 200
"""The latency that is asked for to speak: with less a busy machine leaves holes in what is said."""

ALSA_CONF = Path("/usr/share/alsa/alsa.conf")

ALSA_TO_PULSE = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.toybox { type pulse hint { show on description "toybox" } }
ctl.!hw { type none }
"""
"""The default sound card, and one called `toybox`, lead to PulseAudio; this machine's own cards are hidden."""

# Without `norewinds` a null sink renders up to 2 s ahead: a stream begins 1.5 s late, and after an underrun again.
SCRIPT = """\
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
load-module module-null-sink sink_name=mic_in rate={rate} channels={channels} format=s16le norewinds=1
load-module module-remap-source source_name=mic master=mic_in.monitor
load-module module-null-sink sink_name=speaker rate={rate} channels={channels} format=s16le norewinds=1
set-default-sink speaker
set-default-source mic
"""

OPTIONS = "-n --daemonize=no --exit-idle-time=-1 --disallow-exit --use-pid-file=no --realtime=no --high-priority=no"

ANSWERS = ("pactl", "info")

FORM = ("--raw", "--rate=24000", "--channels=1", "--format=s16le")


def noise(seconds: float) -> bytes:
    """A sound that never repeats: pseudo-random samples at about -25 dBFS, none of them zero."""
    state, samples = 1, []
    for _ in range(int(SPEECH.rate_hz * seconds)):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        samples.append((state >> 16) % 6000 - 3000 or 1)
    return struct.pack(f"<{len(samples)}h", *samples)


class Ear:
    """What was heard at the speaker so far: `pcm`, with `began_s`, the clock's time (monotonic) of its first sample.

    The clock is exact to some 20 ms: that is how the sound comes in.
    """

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.began_s = 0.0
        self._more = asyncio.Event()

    async def until(self, is_there: Callable[[bytes], bool]) -> None:
        """Wait until `is_there` says so of all that was heard. Raises TimeoutError after `PATIENCE_S`."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_there(bytes(self.pcm)):
                self._more.clear()
                await self._more.wait()

    def hear(self, pcm: bytes) -> None:
        """Remember `pcm`, which has just come in."""
        if not self.pcm:
            self.began_s = time.monotonic() - SPEECH.ms(len(pcm)) / 1000
        self.pcm += pcm
        self._more.set()


class Pulse:
    """The running server. `env` is the whole environment of a process that shall find it."""

    def __init__(self, folder: Path, rate_hz: int = SPEECH.rate_hz, channels: int = 1) -> None:
        self._socket, self._script, self._log = folder / "native", folder / "pulse.pa", folder / "pulse.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._deadline_s = 0.0
        alsa = folder / "alsa.conf"
        alsa.write_text(ALSA_CONF.read_text(encoding="utf-8") + ALSA_TO_PULSE, encoding="utf-8")
        self._script.write_text(SCRIPT.format(socket=self._socket, rate=rate_hz, channels=channels), encoding="utf-8")
        places = ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")
        self.changes = {"PULSE_SERVER": f"unix:{self._socket}", "ALSA_CONFIG_PATH": str(alsa)}
        self.env = {**os.environ, **self.changes}
        self._own_env = {**self.env, **dict.fromkeys(places, str(folder))}

    def start(self) -> None:
        """Start the server for the first time, and return when it answers."""
        self._launch()
        while subprocess.run(ANSWERS, env=self._own_env, capture_output=True, check=False).returncode:
            self._check()

    async def return_(self) -> None:
        """Start the server again after `vanish`, and return when it answers; the loop goes on meanwhile."""
        self._launch()
        nowhere = asyncio.subprocess.DEVNULL
        while True:
            asking = await asyncio.create_subprocess_exec(*ANSWERS, env=self._own_env, stdout=nowhere, stderr=nowhere)
            if not await asking.wait():
                return
            self._check()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            command = ["pulseaudio", "-F", str(self._script), *OPTIONS.split()]
            self._server = subprocess.Popen(command, env=self._own_env, stderr=log)
        self._deadline_s = time.monotonic() + PATIENCE_S

    def _check(self) -> None:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text(encoding="utf-8")
        assert time.monotonic() < self._deadline_s, "PulseAudio does not answer"

    def vanish(self) -> None:
        """End the server: every sound card is gone at once, as when a cable is pulled. Twice is allowed."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
        self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the server stand still, as a driver that hangs; `thaw` or `vanish` ends it."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    async def say(self, sound: bytes | Path) -> None:
        """Say PCM, or what is in a WAV file, into the microphone; return when it has been said."""
        pcm = sound if isinstance(sound, bytes) else read_recording(sound).pcm
        async with (
            asyncio.timeout(PATIENCE_S + SPEECH.ms(len(pcm)) / 1000),
            self._tool("pacat", "mic_in", SAFE_MS) as player,
        ):
            await player.communicate(pcm)

    @asynccontextmanager
    async def record(self, device: str = "speaker.monitor") -> AsyncIterator[Ear]:
        """Listen at the speaker, or at `mic_in.monitor`; by the time that the block begins, the ear hears."""
        ear = Ear()
        async with self._tool("parec", device, FAST_MS) as listener:
            hearing = asyncio.create_task(_hear(listener, ear), name="ear")
            try:
                await ear.until(lambda pcm: len(pcm) > 0)
                yield ear
            finally:
                hearing.cancel()
                with suppress(asyncio.CancelledError):
                    await hearing

    @asynccontextmanager
    async def _tool(self, program: str, device: str, latency_ms: int) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run `pacat` or `parec` on raw sound over its standard input or output; it is gone after the block."""
        pipe = asyncio.subprocess.PIPE
        tool = await asyncio.create_subprocess_exec(
            program,
            f"--device={device}",
            f"--latency-msec={latency_ms}",
            *FORM,
            stdin=pipe,
            stdout=pipe,
            env=self._own_env,
        )
        try:
            yield tool
        finally:
            if tool.returncode is None:
                tool.kill()
            await tool.communicate()


async def _hear(listener: asyncio.subprocess.Process, ear: Ear) -> None:
    assert listener.stdout is not None
    while pcm := await listener.stdout.read(SPEECH.bytes(FAST_MS)):
        ear.hear(pcm)


@contextmanager
def running_pulse(folder: Path, rate_hz: int = SPEECH.rate_hz, channels: int = 1) -> Iterator[Pulse]:
    """A server whose rooms run at `rate_hz`, with its files in `folder`; ended after the block."""
    for program in ("pulseaudio", "pactl", "pacat", "parec"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing: apt install pulseaudio libasound2-plugins (`make test` does)")
    pulse = Pulse(folder, rate_hz, channels)
    try:
        pulse.start()
        yield pulse
    finally:
        pulse.vanish()


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """A server for one test; this process finds it too."""
    with running_pulse(tmp_path) as running:
        for name, value in running.changes.items():
            monkeypatch.setenv(name, value)
        yield running
