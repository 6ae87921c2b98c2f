"""A whole toy without hardware, for `pommai demo`, `pommai sim`, tests and load: the real runner, player and uplink.

Composition root: what stands for button, microphone, speaker and lights is chosen here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from pommai.device.body.sim import TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.mind.states import Booting, Connecting, State
from pommai.device.network.meter import Meter
from pommai.device.network.uplink import WebSocketUplink
from pommai.device.ports import Lights, Mic, Note, Observer, RelayLost, RelayReached, Speaker
from pommai.device.runner import Body, Ending, Runner
from pommai.device.settings import DeviceSettings
from pommai.device.spoken import Progress, SpokenTurn
from pommai.errors import ConnectError, HardwareError


class VirtualToy:
    """A toy that a program holds in its hand. Use it as `async with VirtualToy(settings) as toy`.

    Entering connects, and raises ConnectError at once if the relay cannot be reached or refuses; afterwards a lost
    connection is a state like any other, and the toy tries again by itself. `mic` and `speaker` may be real ones: then
    press, talk, release and await `answer`; `say` needs the virtual microphone.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        observer: Observer | None = None,
        mic: Mic | None = None,
        speaker: Speaker | None = None,
        lights: Lights | None = None,
        button: VirtualButton | None = None,
    ) -> None:
        """Raises ConfigError for an address that must not be used."""
        self.button = button if button is not None else VirtualButton()
        self.lights = lights if lights is not None else TerminalLights()
        self.meter = Meter()
        self._mic = mic if mic is not None else VirtualMic()
        speaker = speaker if speaker is not None else VirtualSpeaker()
        self._speaker = speaker if isinstance(speaker, VirtualSpeaker) else _Remembering(speaker)
        self._observer = observer
        self._uplink = WebSocketUplink(settings.relay, captions=True, meter=self.meter)
        body = Body(self.button, self._mic, self._speaker, self.lights)
        self._runner = Runner(body, self._uplink, settings.timing, self)
        self._task: asyncio.Task[Ending] | None = None
        self._changed = asyncio.Event()
        self._first_contact: RelayReached | RelayLost | None = None
        self._progress = Progress(0, over=True)
        self._open: list[Progress] = []

    @property
    def state(self) -> State:
        """What the toy is now."""
        return self._runner.state

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._runner.run(), name="virtual toy")
        self._task.add_done_callback(lambda _: self._changed.set())
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._aclose)
            await self._connect()
            stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._aclose()

    def press(self) -> int:
        """Push the button down: begin to talk, or barge in. Returns the number that the turn will have."""
        self.button.press()
        self._progress = Progress(self.state.turn + 1)
        self._progress.enter(self.state)
        if not self._progress.over:
            self._open.append(self._progress)
        return self._progress.turn

    def release(self) -> None:
        """Let the button up: the end of speech."""
        self._progress.let_go_at_s = asyncio.get_running_loop().time()
        self.button.release()

    async def say(self, pcm: bytes) -> SpokenTurn:
        """Press, speak `pcm` (24 kHz mono) in real time, release at its end, and wait until the reply has been played.

        Called while the toy thinks or speaks, it barges in. Raises HardwareError without the virtual microphone.
        """
        if not isinstance(self._mic, VirtualMic):
            raise HardwareError("a real microphone does not say what a program wants")
        await self._until(lambda: not isinstance(self.state, Booting | Connecting))
        mic = self._mic
        mic.speak(pcm)
        self.press()
        progress = self._progress
        mic.on_spoken = self._changed.set
        await self._until(lambda: not progress.listening or (progress.started and not mic.unsaid_ms))
        progress.cut = mic.unsaid_ms > 0 and progress.released_at_s is not None
        mic.speak(b"")
        self.release()
        return await self._over(progress)

    async def answer(self) -> SpokenTurn:
        """Wait until the turn of the last press is over: its reply played, failed or interrupted."""
        return await self._over(self._progress)

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        if self._first_contact is None and isinstance(note, RelayReached | RelayLost):
            self._first_contact = note
        for progress in self._open:
            progress.note(note)
            if progress.over:
                progress.reply_pcm = self._speaker.take_heard()
        self._open = [progress for progress in self._open if not progress.over]
        self._changed.set()
        if self._observer is not None:
            self._observer.noticed(note)

    async def _connect(self) -> None:
        await self._until(lambda: self._first_contact is not None)
        if isinstance(self._first_contact, RelayLost):
            raise ConnectError(str(self._first_contact.error)) from self._first_contact.error
        await self._until(lambda: not isinstance(self.state, Booting | Connecting))

    async def _over(self, progress: Progress) -> SpokenTurn:
        await self._until(lambda: progress.over)
        return progress.outcome(self.meter.turn(progress.turn))

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, which may change with each note. Raises what broke the runner, if it is broken."""
        while not condition():
            if self._task is not None and self._task.done():
                self._task.result()
                raise HardwareError("the toy was switched off")
            self._changed.clear()
            await self._changed.wait()

    async def _aclose(self) -> None:
        await self._uplink.aclose()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task


class _Remembering:
    """A real speaker, and what was handed to it."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._written = bytearray()

    async def write(self, pcm: bytes) -> None:
        self._written += pcm
        await self._speaker.write(pcm)

    async def drain(self) -> None:
        await self._speaker.drain()

    def flush(self) -> None:
        self._speaker.flush()

    def take_heard(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written
