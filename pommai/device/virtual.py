"""A whole toy without hardware, for `pommai demo`, `pommai sim`, tests and load: the real runner, player and uplink.

Composition root: what stands for button, microphone, speaker and lights is chosen here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pommai.device.machine import (
    Booting,
    Connecting,
    Error,
    Fault,
    Listening,
    Offline,
    Paused,
    Speaking,
    State,
    Thinking,
)
from pommai.device.meter import Meter
from pommai.device.ports import (
    FirstAudio,
    Heard,
    Lights,
    Mic,
    Note,
    Observer,
    RelayLost,
    RelayReached,
    Said,
    Speaker,
    StateChanged,
    UtteranceEnded,
)
from pommai.device.runner import Body, Runner
from pommai.device.settings import DeviceSettings
from pommai.device.sim import TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.uplink import WebSocketUplink
from pommai.errors import ConnectError, HardwareError
from pommai.protocol import ErrorCode


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """What became of one press. Times are seconds of the loop's clock; rates are kbit/s on the wire, headers included.

    `heard` and `said` are captions. `reply_pcm` is what the speaker really played. `compression` is that of the worse
    direction. `cut`: the utterance was too long and ended before the child did. `interrupted`: by the next press.
    `error`: why there was no reply, or not the whole of it.
    """

    turn: int
    heard: str | None = None
    said: tuple[str, ...] = ()
    released_at_s: float | None = None
    first_audio_at_s: float | None = None
    reply_pcm: bytes = b""
    uplink_kbps: float = 0.0
    downlink_kbps: float = 0.0
    compression: float = 0.0
    cut: bool = False
    interrupted: bool = False
    error: ErrorCode | Fault | None = None


@dataclass(slots=True)
class _Progress:
    """A turn as far as it has come: `listening` until the button is let go, `over` when the state has left it."""

    turn: int
    heard: str | None = None
    said: list[str] = field(default_factory=list)
    let_go_at_s: float | None = None
    released_at_s: float | None = None
    first_audio_at_s: float | None = None
    started: bool = False
    listening: bool = True
    over: bool = False
    interrupted: bool = False
    cut: bool = False
    reply_pcm: bytes = b""
    error: ErrorCode | Fault | None = None

    def note(self, note: Note) -> None:
        match note:
            case StateChanged(state) if not self.over:
                self.enter(state)
            case UtteranceEnded(turn, at_s) if turn == self.turn:
                self.released_at_s = at_s if self.let_go_at_s is None else self.let_go_at_s
            case FirstAudio(turn, at_s) if turn == self.turn:
                self.first_audio_at_s = at_s
            case Heard(turn, text) if turn == self.turn:
                self.heard = text
            case Said(turn, text) if turn == self.turn:
                self.said.append(text)

    def enter(self, state: State) -> None:
        """Follow the state; until the press has been met, only what makes it futile counts."""
        if state.turn < self.turn and not isinstance(state, _APART):
            return
        match state:
            case Listening(started=started):
                self.started = started
            case Error(why=why) | Paused(why=why):
                self.error = why
            case Booting() | Connecting() | Offline():
                self.error = ErrorCode.UNAVAILABLE
        self.interrupted = state.turn > self.turn
        self.listening = isinstance(state, Listening)
        self.over = self.interrupted or not isinstance(state, Listening | Thinking | Speaking)


_APART = (Booting, Connecting, Offline, Paused)
"""The states in which a press is of no use."""


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
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._first_contact: RelayReached | RelayLost | None = None
        self._progress = _Progress(0, over=True)
        self._open: list[_Progress] = []

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
        self._progress = _Progress(self.state.turn + 1)
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

    async def _over(self, progress: _Progress) -> SpokenTurn:
        await self._until(lambda: progress.over)
        traffic = self.meter.turn(progress.turn)
        compressions = [way.compression for way in (traffic.uplink, traffic.downlink) if way.audio_ms]
        return SpokenTurn(
            turn=progress.turn,
            heard=progress.heard,
            said=tuple(progress.said),
            released_at_s=progress.released_at_s,
            first_audio_at_s=progress.first_audio_at_s,
            reply_pcm=progress.reply_pcm,
            uplink_kbps=traffic.uplink.kbps,
            downlink_kbps=traffic.downlink.kbps,
            compression=min(compressions, default=0.0),
            cut=progress.cut,
            interrupted=progress.interrupted,
            error=progress.error,
        )

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
