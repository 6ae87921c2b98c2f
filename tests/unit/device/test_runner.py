"""The loop performs what the machine decides: collaborators write into one list, and the whole list is compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from pommai.codec import OpusEncoder
from pommai.device import machine, ports
from pommai.device.lights import OFF, Color
from pommai.device.machine import Fault, Idle, Listening, Paused
from pommai.device.ports import Failed, FirstAudio, Heard, Note, Played, RelayLost, Said, StateChanged, UplinkListener
from pommai.device.recorder import SILENT_S
from pommai.device.runner import Body, Runner
from pommai.device.sim import TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.errors import ConnectError, HardwareError
from pommai.protocol import (
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)

from .virtual_time import in_virtual_time

TALK = bytes(range(1, 251)) * 192  # 1 s
PACKET = OpusEncoder().encode(TALK[:2880])


def welcome(paused: ErrorCode | None = None, max_utterance_s: float = 30.0) -> Welcome:
    return Welcome(VERSION, "s1", 1.7e9, max_utterance_s, paused)


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

    def send(self, message: UtteranceStart | UtteranceEnd | Cancel) -> None:
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

    def close(self) -> None:
        if self.is_open:
            self.diary.lines.append("mic closed")
        super().close()


class DiarySpeaker(VirtualSpeaker):
    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary

    async def write(self, pcm: bytes) -> None:
        if not self._is_flowing:
            self.diary.lines.append("speaker began")
        await super().write(pcm)

    def flush(self) -> None:
        self.diary.lines.append("speaker flushed")
        super().flush()


class Toy:
    """A runner with a diary. Notes of states go into the diary as the state itself."""

    def __init__(self) -> None:
        self.diary = Diary()
        self.notes: list[Note] = []
        self.uplink = FakeUplink(self.diary)
        self.button = VirtualButton()
        self.mic = DiaryMic(self.diary)
        self.speaker = DiarySpeaker(self.diary)
        self.shown: list[tuple[float, Color]] = []
        self.lights = TerminalLights(lambda c: self.shown.append((asyncio.get_running_loop().time(), c)))
        body = Body(self.button, self.mic, self.speaker, self.lights)
        self.runner = Runner(body, self.uplink, observer=self)

    def noticed(self, note: Note) -> None:
        if isinstance(note, StateChanged):
            self.diary.lines.append(note.state)
        else:
            self.notes.append(note)

    @property
    def relay(self) -> UplinkListener:
        assert self.uplink.listener is not None
        return self.uplink.listener


@asynccontextmanager
async def running(*, connected: bool = True) -> AsyncIterator[Toy]:
    toy = Toy()
    task = asyncio.create_task(toy.runner.run())
    await asyncio.sleep(0.01)
    if connected:
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.01)
        toy.diary.take()
    yield toy
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not toy.mic.is_open
    assert toy.lights.color == OFF


async def reply(toy: Toy, turn: int, n_packets: int, *, end: bool = True) -> None:
    toy.relay.received(Transcript(turn, "why"))
    toy.relay.received(SpeakingStart(turn))
    toy.relay.received(Sentence(turn, "Because."))
    for sequence in range(n_packets):
        toy.relay.received(AudioFrame(turn, sequence, PACKET))
    if end:
        toy.relay.received(SpeakingEnd(turn))
    await asyncio.sleep(0.01)


@in_virtual_time
async def test_it_starts_by_connecting_and_rests_when_told_so() -> None:
    async with running(connected=False) as toy:
        toy.relay.welcomed(welcome(ErrorCode.QUIET_HOURS))
        await asyncio.sleep(0.01)
        assert toy.diary.take() == [
            machine.Booting(),
            machine.Connecting(0),
            "uplink started",
            Paused(0, ErrorCode.QUIET_HOURS),
        ]


@in_virtual_time
async def test_a_whole_turn() -> None:
    async with running() as toy:
        toy.mic.speak(TALK)
        toy.button.press(bounces=3)
        await asyncio.sleep(0.965)
        toy.button.release(bounces=3)
        await asyncio.sleep(0.5)
        await reply(toy, 1, 5)
        await asyncio.sleep(1)
        assert toy.diary.take() == [
            Listening(1, started=False),
            "mic open",
            Listening(1, started=True),
            UtteranceStart(1),
            ("audio of 1", 16),  # 960 ms were heard, in 16 packets of 60 ms
            machine.Thinking(1),
            "mic closed",
            UtteranceEnd(1),
            machine.Speaking(1),
            "speaker began",
            Idle(1),
        ]
        names = [type(note) for note in toy.notes]
        assert names == [ports.RelayReached, ports.UtteranceEnded, Heard, Said, FirstAudio, Played]
        first, played = toy.notes[-2:]
        assert isinstance(first, FirstAudio)
        assert isinstance(played, Played)
        assert played.at_s - first.at_s == pytest.approx(0.3)


@in_virtual_time
async def test_the_last_packet_of_an_utterance_is_short_and_not_lost() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.505)  # 500 ms heard: 8 packets of 60 ms, and one of 20
        toy.button.release()
        await asyncio.sleep(0.01)
        assert toy.diary.take()[-5:] == [
            ("audio of 1", 8),
            machine.Thinking(1),
            "mic closed",
            ("audio of 1", 1),
            UtteranceEnd(1),
        ]


@in_virtual_time
async def test_a_tap_sends_nothing_at_all() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.2)
        toy.button.release()
        await asyncio.sleep(1)
        assert toy.diary.take() == [Listening(1, started=False), "mic open", Idle(1), "mic closed"]


@in_virtual_time
async def test_barge_in_silences_before_it_listens() -> None:
    async with running() as toy:
        await asyncio.sleep(0.1)
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.button.release()
        await asyncio.sleep(0.1)
        await reply(toy, 1, 50)
        await asyncio.sleep(0.5)
        toy.diary.take()
        toy.speaker.take_heard()
        toy.button.press()
        await asyncio.sleep(0.1)
        toy.relay.received(AudioFrame(1, 50, PACKET))  # an echo of the old turn
        await asyncio.sleep(1)
        assert toy.diary.take()[:6] == [
            Listening(2, started=False),
            "speaker flushed",
            Cancel(1),
            "mic open",
            Listening(2, started=True),
            UtteranceStart(2),
        ]
        assert toy.speaker.take_heard() == b""
        assert Played not in [type(note) for note in toy.notes]


@in_virtual_time
async def test_the_relays_longest_utterance_ends_the_childs() -> None:
    async with running(connected=False) as toy:
        toy.relay.welcomed(welcome(max_utterance_s=2.0))
        await asyncio.sleep(0.01)
        toy.button.press()
        await asyncio.sleep(1.9)
        assert toy.runner.state == Listening(1, started=True)
        await asyncio.sleep(0.2)
        assert toy.runner.state == machine.Thinking(1)
        assert ("audio of 1", 33) in toy.diary.take()
        assert not toy.mic.is_open


@in_virtual_time
async def test_a_state_lasts_as_long_as_its_limit_and_no_longer() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.button.release()
        await asyncio.sleep(machine.LIMIT_S[machine.Thinking] - 0.1)
        assert toy.runner.state == machine.Thinking(1)
        await asyncio.sleep(0.2)
        assert toy.runner.state == machine.Error(1, ErrorCode.TIMEOUT)
        await asyncio.sleep(machine.LIMIT_S[machine.Error])
        assert toy.runner.state == Idle(1)


@in_virtual_time
async def test_a_turn_that_failed_is_told_and_the_toy_goes_on() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.relay.received(Error(ErrorCode.UTTERANCE_TOO_LONG, turn=1))
        await asyncio.sleep(0.1)
        assert toy.runner.state == machine.Error(1, ErrorCode.UTTERANCE_TOO_LONG)
        assert toy.notes[-1] == Failed(1, ErrorCode.UTTERANCE_TOO_LONG)
        assert not toy.mic.is_open
        toy.relay.received(Error(ErrorCode.INTERNAL))
        await asyncio.sleep(0.1)
        assert toy.notes[-1] == Failed(None, ErrorCode.INTERNAL)
        assert toy.runner.state == machine.Error(1, ErrorCode.UTTERANCE_TOO_LONG)


@in_virtual_time
async def test_a_lost_connection_closes_the_microphone_and_silences_the_speaker() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.diary.take()
        toy.relay.lost(ConnectError("gone"))
        await asyncio.sleep(0.01)
        assert toy.diary.take() == [machine.Connecting(1), "mic closed"]
        assert isinstance(toy.notes[-1], RelayLost)
        await asyncio.sleep(machine.LIMIT_S[machine.Connecting])
        assert toy.runner.state == machine.Offline(1)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.01)
        assert toy.runner.state == Idle(1)


@pytest.mark.parametrize(("broken", "wait_s"), [(True, 0.1), (False, SILENT_S + 0.1)])
@in_virtual_time
async def test_a_microphone_that_does_not_open_or_gives_nothing_is_an_error(broken: bool, wait_s: float) -> None:
    async with running() as toy:
        toy.mic.is_broken, toy.mic.is_mute = broken, not broken
        toy.button.press()
        await asyncio.sleep(wait_s)
        assert toy.runner.state == machine.Error(1, Fault.SOUND)
        assert not toy.mic.is_open


@in_virtual_time
async def test_lights_move_25_times_a_second_and_only_when_they_change() -> None:
    async with running() as toy:
        toy.shown.clear()
        await asyncio.sleep(2)  # idle breathes
        assert 45 <= len(toy.shown) <= 51
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.button.release()
        await asyncio.sleep(0.1)
        await reply(toy, 1, 50)
        toy.shown.clear()
        await asyncio.sleep(2)  # speaking is solid
        assert toy.shown == []


@in_virtual_time
async def test_an_open_microphone_is_seen_at_once() -> None:
    async with running() as toy:
        await asyncio.sleep(0.1)
        toy.shown.clear()
        pressed_s = asyncio.get_running_loop().time()
        toy.button.press()
        await asyncio.sleep(0.2)
        at_s, color = toy.shown[0]
        assert at_s == pressed_s
        assert color == Color(0.0, 0.0, 1.0)


@in_virtual_time
async def test_a_hold_is_met_at_whatever_fraction_of_a_second_it_begins() -> None:
    """In one press of two hundred, seconds and milliseconds round apart: a wake-up that is too early must not spin."""
    async with running() as toy:
        for n in range(400):
            await asyncio.sleep(4 + n / 977)
            toy.button.press()
            await asyncio.sleep(0.31)
            assert toy.runner.state == Listening(n + 1, started=True)
            toy.button.release()
            await asyncio.sleep(0.1)
            toy.relay.received(Error(ErrorCode.TIMEOUT, turn=n + 1))


@in_virtual_time
async def test_after_a_stall_what_has_happened_comes_before_what_is_due() -> None:
    async with running() as toy:
        loop = asyncio.get_running_loop()
        pressed_ms = loop.time() * 1000 - 400  # told late, together with the timer of the lights
        loop.call_at(toy.runner._picture_s, toy.runner._edge, True, pressed_ms)
        await asyncio.sleep(0.1)
        assert toy.diary.take()[:3] == [Listening(1, started=False), "mic open", Listening(1, started=True)]
