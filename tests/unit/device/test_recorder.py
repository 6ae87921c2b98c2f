"""What leaves the microphone and when; what the toy makes itself is never heard, and silence is told from sound."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable

import pytest

from pommai.audio import SPEECH
from pommai.device.speech.recorder import SILENT_S, Recorder
from pommai.protocol import UtteranceEnd, UtteranceStart

from .rig import TALK, Diary, DiaryMic, FakeUplink, now_s
from .virtual_time import in_virtual_time


def tone(dbfs: float, seconds: float) -> bytes:
    """A steady tone of this level (RMS)."""
    peak = 32768 * 10 ** (dbfs / 20) * math.sqrt(2)
    n = int(24_000 * seconds)
    return struct.pack(f"<{n}h", *(round(peak * math.sin(k / 5)) for k in range(n)))


class Room:
    def __init__(self) -> None:
        self.diary = Diary()
        self.mic = DiaryMic(self.diary)
        self.recorder = Recorder(self.mic, FakeUplink(self.diary))


@in_virtual_time
async def test_nothing_leaves_before_it_is_a_hold_and_then_nothing_is_missing() -> None:
    room = Room()
    room.mic.speak(TALK)
    room.recorder.open(3)
    await asyncio.sleep(0.305)
    assert room.diary.take() == ["mic open"]
    room.recorder.start(3)
    assert room.diary.take() == [UtteranceStart(3), ("audio of 3", 5)]
    await asyncio.sleep(0.2)
    room.recorder.end(3)
    assert room.diary.take() == [("audio of 3", 3), "mic closed", ("audio of 3", 1), UtteranceEnd(3)]


@in_virtual_time
async def test_a_toy_that_is_offline_records_nothing() -> None:
    room = Room()
    room.mic.speak(TALK)
    room.recorder.open(3, record=False)
    await asyncio.sleep(0.5)
    room.recorder.start(3)
    room.recorder.close()
    assert room.diary.take() == ["mic open", UtteranceStart(3), "mic closed"], "there is not a word to be sent"
    assert not room.recorder.silent


@pytest.mark.parametrize(("dbfs", "silent"), [(-60.0, True), (-51.0, True), (-49.0, False), (-20.0, False)])
@pytest.mark.parametrize("record", [True, False])
@in_virtual_time
async def test_a_room_is_silent_below_50_dbfs(dbfs: float, silent: bool, record: bool) -> None:
    room = Room()
    room.recorder.open(1, record=record)
    room.mic.speak(tone(dbfs, 1.0))
    await asyncio.sleep(0.5)
    assert room.recorder.silent == silent
    room.recorder.close()
    assert room.recorder.silent == silent, "what was heard is still true"
    room.mic.speak(b"")
    room.recorder.open(2, record=record)
    assert not room.recorder.silent, "it is only just open"
    await asyncio.sleep(0.5)
    assert room.recorder.silent == silent, "in the same press"
    room.recorder.close()
    room.recorder.forget()
    room.recorder.open(3, record=record)
    await asyncio.sleep(0.5)
    assert room.recorder.silent
    room.recorder.close()


@in_virtual_time
async def test_one_word_in_ten_seconds_is_no_silence() -> None:
    room = Room()
    room.recorder.open(1)
    await asyncio.sleep(5)
    assert room.recorder.silent
    room.mic.speak(tone(-30.0, 0.02))
    await asyncio.sleep(5)
    assert not room.recorder.silent
    room.recorder.close()


@in_virtual_time
async def test_who_hears_nothing_cannot_say_that_it_was_silent() -> None:
    room = Room()
    assert not room.recorder.silent
    room.mic.is_mute = True
    room.recorder.open(1)
    await asyncio.sleep(10)
    assert not room.recorder.silent
    assert room.recorder.deadline_s < now_s()
    room.recorder.close()
    room.mic.is_mute = False
    room.recorder.open(2)
    await asyncio.sleep(1)
    assert room.recorder.silent
    room.recorder.open(3)
    assert not room.recorder.silent, "it is only just open"
    await asyncio.sleep(1)
    room.recorder.forget()
    assert not room.recorder.silent
    room.recorder.close()


@in_virtual_time
async def test_a_deaf_recorder_hears_neither_words_nor_loudness() -> None:
    room = Room()
    room.mic.speak(TALK)
    room.recorder.open(3)
    room.recorder.deafen(0.5)
    room.recorder.start(3)
    await asyncio.sleep(0.495)
    assert room.diary.take() == ["mic open", UtteranceStart(3)]
    assert room.recorder.deadline_s == pytest.approx(now_s() + SILENT_S, abs=0.03), "it works, though it does not hear"
    room.mic.speak(b"")
    await asyncio.sleep(0.5)
    assert room.recorder.silent, "what the toy said itself was not counted"
    room.recorder.end(3)
    packets = sum(line[1] for line in room.diary.take() if isinstance(line, tuple))
    assert packets == 8  # 480 ms: eight packets of 60 ms, and nothing is left for a short one


@in_virtual_time
async def test_a_sound_that_is_not_made_ends_no_deafness() -> None:
    room = Room()
    room.mic.speak(tone(-10.0, 0.06))
    room.recorder.deafen(0.06)
    room.recorder.deafen(0.0)
    room.recorder.open(3)
    await asyncio.sleep(1)
    assert room.recorder.silent
    room.recorder.close()


@in_virtual_time
async def test_it_can_be_deafened_before_it_opens() -> None:
    room = Room()
    room.mic.speak(tone(-10.0, 0.06))
    room.recorder.deafen(0.06)
    room.recorder.open(3)
    await asyncio.sleep(1)
    assert room.recorder.silent
    room.recorder.close()


@pytest.mark.parametrize(("broken", "wait_s"), [(True, 0.0), (False, SILENT_S)])
@in_virtual_time
async def test_a_microphone_that_fails_or_gives_nothing_is_overdue(broken: bool, wait_s: float) -> None:
    room = Room()
    room.mic.is_broken, room.mic.is_mute = broken, not broken
    room.recorder.open(1)
    assert room.recorder.deadline_s == pytest.approx(now_s() + wait_s)
    room.recorder.close()
    room.recorder.close()
    assert room.recorder.deadline_s == math.inf


class HeldBackMic(DiaryMic):
    """Hands over nothing before it is closed, as a sound card does with its last piece."""

    last = bytes(SPEECH.bytes(60))

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        super().open(lambda pcm: None)
        self.on_last = on_pcm

    def close(self) -> None:
        if self.is_open:
            self.on_last(self.last)
        super().close()


@in_virtual_time
async def test_what_the_microphone_hands_over_at_its_end_belongs_to_the_utterance() -> None:
    room = Room()
    room.recorder = Recorder(HeldBackMic(room.diary), FakeUplink(room.diary))
    room.recorder.open(3)
    room.recorder.start(3)
    room.recorder.end(3)
    assert room.diary.take() == ["mic open", UtteranceStart(3), ("audio of 3", 1), "mic closed", UtteranceEnd(3)]


@in_virtual_time
async def test_nothing_of_a_cancelled_utterance_is_sent_when_the_microphone_closes() -> None:
    room = Room()
    room.recorder = Recorder(HeldBackMic(room.diary), FakeUplink(room.diary))
    room.recorder.open(3)
    room.recorder.start(3)
    room.recorder.close()
    assert room.diary.take() == ["mic open", UtteranceStart(3), "mic closed"]
    assert room.recorder.deadline_s == math.inf
