"""A runner with a virtual body, and collaborators that write what they are asked to do into one list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from pommai.audio import SPEECH
from pommai.codec import OpusEncoder
from pommai.device.body.sim import TerminalLights, VirtualButton, VirtualMic
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import OFF, Color
from pommai.device.mind.states import State
from pommai.device.ports import Allowance, Note, StateChanged, ToSend, Upkeep, UplinkListener
from pommai.device.runner import Body, Ending, Runner
from pommai.errors import HardwareError
from pommai.limits import Rest
from pommai.protocol import (
    VERSION,
    AudioFrame,
    ErrorCode,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    Welcome,
)

from .monitor import MonitoredSpeaker

TALK = bytes(range(1, 251)) * 192  # 1 s, loud
PACKET = OpusEncoder().encode(TALK[:2880])
WORDS = b"\x00\x08" * 12_000  # 0.5 s
BEEPS = {
    Earcon.START: b"\x00\x11" * SPEECH.samples(80),
    Earcon.END: b"\x00\x12" * SPEECH.samples(100),
    Earcon.ERROR: b"\x00\x13" * SPEECH.samples(200),
}


def now_s() -> float:
    return asyncio.get_running_loop().time()


def welcome(paused: ErrorCode | None = None, max_utterance_s: float = 30.0, **changes: object) -> Welcome:
    return Welcome(VERSION, "s1", 1.7e9, max_utterance_s, paused, **changes)  # type: ignore[arg-type]  # tests give what fits


class Diary:
    """What all collaborators did, in one list; the time is not in it, but each test's course is exact."""

    def __init__(self) -> None:
        self.lines: list[object] = []

    def take(self) -> list[object]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


class FakeUplink:
    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.listener: UplinkListener | None = None

    def start(self, listener: UplinkListener) -> None:
        self.diary.lines.append("uplink started")
        self.listener = listener

    def wake(self) -> None:
        self.diary.lines.append("wake")

    def send(self, message: ToSend) -> None:
        self.diary.lines.append(message)

    def send_audio(self, turn: int, packet: bytes) -> None:
        """Packets in a row are one line: `audio of TURN: N packets`."""
        line = self.diary.lines[-1] if self.diary.lines else None
        if isinstance(line, tuple) and line[0] == f"audio of {turn}":
            self.diary.lines[-1] = (line[0], line[1] + 1)
        else:
            self.diary.lines.append((f"audio of {turn}", 1))


class DiaryMic(VirtualMic):
    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary
        self.is_broken = self.is_mute = False

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        self.diary.lines.append("mic open")
        if self.is_broken:
            raise HardwareError("no microphone")
        super().open((lambda pcm: None) if self.is_mute else on_pcm)

    def die(self) -> None:
        """Stay open and give nothing any more."""
        assert self._timer is not None
        self._timer.cancel()

    def close(self) -> None:
        if self.is_open:
            self.diary.lines.append("mic closed")
        super().close()


class DiarySpeaker(MonitoredSpeaker):
    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary
        self.is_broken = False

    async def write(self, pcm: bytes) -> None:
        if self.is_broken:
            raise HardwareError("no speaker")
        if not self._is_flowing:
            self.diary.lines.append("speaker began")
        await super().write(pcm)

    def flush(self) -> None:
        self.diary.lines.append("speaker flushed")
        super().flush()


class FakeVoice:
    """Says half a second of the same on every occasion, and writes down which."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.times = 1

    async def speak(self, occasion: Occasion, phrase: str = "") -> AsyncGenerator[bytes, None]:
        self.diary.lines.append(f"says {occasion} {phrase}".strip())
        for _ in range(5 * self.times):
            yield WORDS[: len(WORDS) // 5]

    async def repeat(self, reply: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self.diary.lines.append("repeats")
        async with aclosing(reply):
            async for pcm in reply:
                yield pcm


class FakeAllowance:
    """What a parent allows, as the test wants it."""

    def __init__(self) -> None:
        self.volume = 1.0
        self.why: Rest | None = None
        self.welcomes: list[Welcome] = []
        self.talked_s = 0.0

    def rest(self) -> Rest | None:
        return self.why

    def told(self, welcome: Welcome) -> None:
        self.welcomes.append(welcome)

    def talked(self, seconds: float) -> None:
        assert seconds >= 0
        self.talked_s += seconds


class Toy:
    """A runner with a diary. Notes of states go into the diary as the state itself."""

    def __init__(
        self,
        *,
        voice: bool = False,
        allowance: Allowance | None = None,
        upkeep: Upkeep | None = None,
        earcons: Mapping[Earcon, bytes] | None = None,
        shows_open_mic: bool = True,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.diary = Diary()
        self.notes: list[Note] = []
        self.uplink = FakeUplink(self.diary)
        self.button = VirtualButton()
        self.mic = DiaryMic(self.diary)
        self.speaker = DiarySpeaker(self.diary)
        self.shown: list[tuple[float, Color]] = []
        self.lights = TerminalLights(lambda c: self.shown.append((now_s(), c)))
        self.voice = FakeVoice(self.diary)
        self.runner = Runner(
            Body(self.button, self.mic, self.speaker, self.lights, shows_open_mic),
            self.uplink,
            observer=self,
            voice=self.voice if voice else None,
            allowance=allowance,
            upkeep=upkeep,
            earcons=earcons,
            on_alive=on_alive,
        )
        self.task: asyncio.Task[Ending] | None = None

    def noticed(self, note: Note) -> None:
        if isinstance(note, StateChanged):
            self.diary.lines.append(note.state)
        else:
            self.notes.append(note)

    @property
    def relay(self) -> UplinkListener:
        assert self.uplink.listener is not None
        return self.uplink.listener

    @property
    def state(self) -> State:
        return self.runner.state

    @property
    def said(self) -> list[str]:
        """What the toy has said of its own since the diary was last taken."""
        return [line for line in self.diary.lines if isinstance(line, str) and line.startswith("says")]

    def knows(self, line: object) -> bool:
        """Whether this happened since the diary was last taken."""
        return line in self.diary.lines

    async def hold(self, seconds: float) -> None:
        """Press, hold, let go."""
        self.button.press()
        await asyncio.sleep(seconds)
        self.button.release()
        await asyncio.sleep(0.01)

    async def tap(self, times: int) -> None:
        for _ in range(times):
            await self.hold(0.1)
            await asyncio.sleep(0.1)

    async def ended(self) -> Ending:
        assert self.task is not None
        return await self.task


@asynccontextmanager
async def running(toy: Toy | None = None, *, connected: bool = True) -> AsyncIterator[Toy]:
    """A toy that lives for the length of the block."""
    toy = Toy() if toy is None else toy
    toy.task = asyncio.create_task(toy.runner.run())
    await asyncio.sleep(0.01)
    if connected:
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.01)
        toy.diary.take()
    yield toy
    toy.task.cancel()
    with suppress(asyncio.CancelledError):
        await toy.task
    assert not toy.mic.is_open
    assert toy.lights.color == OFF


async def reply(
    toy: Toy, turn: int, n_packets: int, *, first: int = 0, mood: str | None = None, end: bool = True
) -> None:
    """What the relay sends: the reply from its packet `first` on, all at once."""
    toy.relay.received(Transcript(turn, "why"))
    toy.relay.received(SpeakingStart(turn, mood))
    toy.relay.received(Sentence(turn, "Because."))
    for sequence in range(first, n_packets):
        toy.relay.received(AudioFrame(turn, sequence, PACKET))
    if end:
        toy.relay.received(SpeakingEnd(turn))
    await asyncio.sleep(0.01)
