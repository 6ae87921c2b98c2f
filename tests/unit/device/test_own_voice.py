"""What the toy says by itself, whatever fails: a child always hears something, and a call for help is on disk first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pommai import starter
from pommai.audio import SPEECH
from pommai.codec import OpusEncoder
from pommai.device.diary import Diary
from pommai.device.mind.events import Occasion
from pommai.device.mind.jukebox import Jukebox, Status
from pommai.device.speech import own_voice
from pommai.device.speech.espeak import find_espeak
from pommai.device.speech.own_voice import POSITION, CachedVoice
from pommai.errors import AudioError, HardwareError, MissingExtra, StoreError
from pommai.protocol import EventRecord, PhraseEntry

from .virtual_time import in_virtual_time

BEEP = b"\x01\x02" * 240
CANARY = "canary words that nobody may write down"


def sound(level: int, ms: int = 120) -> tuple[bytes, ...]:
    """So much sound as packets of 60 ms."""
    encoder = OpusEncoder()
    pcm = (level.to_bytes(2, "little", signed=True) * 20 + (-level).to_bytes(2, "little", signed=True) * 20) * 36
    return tuple(encoder.encode(pcm) for _ in range(ms // 60))


class Shelf:
    """A cache in dictionaries that logs what it is asked; `broken` methods raise StoreError, `stuck` ones hang."""

    def __init__(self) -> None:
        self.recordings: dict[str, tuple[bytes, ...]] = {}
        self.log: list[Any] = []
        self.events: list[EventRecord] = []
        self.memory: dict[str, Any] = {}
        self.broken: set[str] = set()
        self.stuck: set[str] = set()
        self.free = asyncio.Event()

    async def _asked(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self.stuck:
            await self.free.wait()
        if name in self.broken:
            raise StoreError("no disk")
        self.log.append(name)

    async def phrases(self) -> tuple[PhraseEntry, ...]:
        await self._asked("phrases")
        return tuple(PhraseEntry(id, id.rpartition("-")[0], "0" * 64, 1) for id in self.recordings)

    async def phrase_packets(self, phrase: str) -> tuple[bytes, ...] | None:
        await self._asked("packets")
        return self.recordings.get(phrase)

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        await self._asked("remember")
        self.memory[key] = value

    async def append(self, event: EventRecord, durable: bool = False) -> None:
        await self._asked("append")
        self.events.append(event)
        self.log.append((event.kind, event.urgent or durable))


class Teddy:
    """A toy that speaks; without espeak-ng unless `program` is given."""

    def __init__(self, program: str | None = None, *, online: bool = False) -> None:
        self.shelf = Shelf()
        self.online = online
        self.jukebox = Jukebox(starter.load())
        self.diary = Diary(self.shelf, lambda: 1.8e9, lambda: None)
        self.voice = CachedVoice(self.shelf, self.jukebox, self.diary, self.status, BEEP, program)

    def status(self) -> Status:
        return Status(online=self.online, battery_percent=None, charging=False, volume=0.5)

    async def say(self, occasion: Occasion, phrase: str = "") -> bytes:
        async with aclosing(self.voice.speak(occasion, phrase)) as pieces:
            return b"".join([pcm async for pcm in pieces])


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Makes an espeak-ng of the lines of a shell script; its process id is in `pid`."""

    def make(lines: str) -> str:
        path = tmp_path / "espeak-ng"
        path.write_text(f"#!/bin/sh\ncd '{tmp_path}'\necho $$ > pid\n{lines}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make


def ms(pcm: bytes) -> float:
    return SPEECH.ms(len(pcm))


# --- what is heard ----------------------------------------------------------------------------------------------------


async def test_a_phrase_is_heard_as_it_was_recorded() -> None:
    teddy = Teddy()
    teddy.shelf.recordings["song-1"] = sound(8000, 600)
    pcm = await teddy.say(Occasion.PHRASE, "song-1")
    assert ms(pcm) == 600
    assert any(pcm)


async def test_two_phrases_are_heard_one_after_the_other() -> None:
    teddy = Teddy()
    teddy.shelf.recordings |= {"greeting-1": sound(8000, 300), "affection-1": sound(8000, 240)}
    assert ms(await teddy.say(Occasion.ACTIVITY)) == 540


async def test_without_a_recording_the_synthetic_voice_says_it() -> None:
    real = find_espeak()
    assert real is not None, "make test installs espeak-ng"
    teddy = Teddy(real)
    pcm = await teddy.say(Occasion.HELP)
    assert ms(pcm) > 1000
    assert BEEP not in pcm


@pytest.mark.parametrize(
    "lines", ["exit 1", "cat > /dev/null", "kill -9 $$", "echo this is no sound at all, and longer than a head of WAV"]
)
async def test_a_synthetic_voice_that_fails_leaves_the_last_resort(
    lines: str, program: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    teddy = Teddy(program(lines))
    assert await teddy.say(Occasion.HELP) == BEEP
    assert "espeak-ng failed, phrase=help-1" in caplog.text


async def test_a_synthetic_voice_that_has_gone_leaves_the_last_resort(tmp_path: Path) -> None:
    assert await Teddy(str(tmp_path / "gone")).say(Occasion.ACTIVITY) == BEEP


@pytest.mark.parametrize("occasion", list(Occasion))
async def test_a_toy_that_can_say_nothing_makes_a_sound_on_every_occasion(occasion: Occasion) -> None:
    assert await Teddy().say(occasion, "song-1") == BEEP


async def test_broken_packets_are_left_out_and_what_is_whole_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    teddy = Teddy()
    whole = sound(8000, 300)
    teddy.shelf.recordings["song-1"] = (whole[0], b"", b"\xff\xff\xff", *whole[1:])
    assert ms(await teddy.say(Occasion.PHRASE, "song-1")) == 300
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "own voice: a recording is damaged, phrase=song-1 packets=2"
    ]


async def test_what_is_recorded_is_not_said_a_second_time(program: Callable[[str], str], tmp_path: Path) -> None:
    teddy = Teddy(program("exit 0"))
    teddy.shelf.recordings["help-1"] = sound(8000)
    assert ms(await teddy.say(Occasion.HELP)) == 120
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("packets", [(), (b"",), (b"\xff\xff\xff", b"")])
async def test_a_recording_with_nothing_in_it_is_no_recording(packets: tuple[bytes, ...]) -> None:
    teddy = Teddy()
    teddy.shelf.recordings["song-1"] = packets
    assert await teddy.say(Occasion.PHRASE, "song-1") == BEEP
    if (real := find_espeak()) is not None:
        spoken = Teddy(real)
        spoken.shelf.recordings["greeting-1"] = packets
        assert ms(await spoken.say(Occasion.PHRASE, "greeting-1")) > 500


async def test_without_opus_the_other_ways_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtra("opuslib is not installed")

    monkeypatch.setattr(own_voice, "OpusDecoder", missing)
    teddy = Teddy()
    teddy.shelf.recordings["song-1"] = (b"x",)
    assert await teddy.say(Occasion.PHRASE, "song-1") == BEEP


async def test_a_phrase_of_this_toy_alone_is_known_by_its_sound() -> None:
    teddy = Teddy()
    teddy.shelf.recordings["custom-7"] = sound(8000, 180)
    assert ms(await teddy.say(Occasion.PHRASE, "custom-7")) == 180
    assert teddy.shelf.events[-1].data["phrase"] == "custom-7"
    assert ms(await teddy.say(Occasion.REPEAT)) == 180


async def test_a_phrase_that_nobody_knows_is_a_sound() -> None:
    teddy = Teddy()
    assert await teddy.say(Occasion.PHRASE, "custom-7") == BEEP
    assert teddy.shelf.events[-1].data == {"occasion": "phrase", "phrase": "none"}


@pytest.mark.parametrize("first", [Occasion.ACTIVITY, Occasion.HELP])
async def test_what_was_for_the_child_is_repeated_and_the_status_is_not(first: Occasion) -> None:
    teddy = Teddy()
    teddy.shelf.recordings |= {
        "greeting-1": sound(8000, 300),
        "help-1": sound(8000, 300),
        "nothing_to_repeat-1": sound(8000, 60),
    }
    assert ms(await teddy.say(Occasion.REPEAT)) == 60
    await teddy.say(first)
    await teddy.say(Occasion.STATUS)
    assert ms(await teddy.say(Occasion.REPEAT)) == 300


async def test_where_it_was_in_the_cycle_is_remembered_before_it_is_heard() -> None:
    teddy = Teddy()
    async with aclosing(teddy.voice.speak(Occasion.ACTIVITY)) as pieces:
        await anext(pieces)
        assert teddy.shelf.memory[POSITION] == teddy.jukebox.position
    again = Jukebox(starter.load(), teddy.shelf.memory[POSITION])
    assert [phrase.id for phrase in again.choose(Occasion.ACTIVITY)] == ["song-1"]


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("online", [True, False])
async def test_a_call_for_help_is_on_disk_before_the_first_sound_of_the_answer(online: bool) -> None:
    teddy = Teddy(online=online)
    teddy.shelf.recordings["help-1"] = sound(8000)
    async with aclosing(teddy.voice.speak(Occasion.HELP)) as pieces:
        await anext(pieces)
        assert ("help", True) in teddy.shelf.log
        assert [(event.kind, event.urgent, event.data) for event in teddy.shelf.events] == [("help", True, {})]


async def test_what_the_toy_does_without_a_network_is_on_disk_before_it_is_heard() -> None:
    teddy = Teddy()
    async with aclosing(teddy.voice.speak(Occasion.ACTIVITY)) as pieces:
        await anext(pieces)
        assert ("activity", True) in teddy.shelf.log
    assert teddy.shelf.events[0].data == {"occasion": "activity", "phrase": "greeting-1", "phrase_2": "affection-1"}


async def test_all_that_the_toy_says_without_a_network_is_written() -> None:
    teddy = Teddy()
    teddy.shelf.recordings |= {"greeting-1": sound(8000), "affection-1": sound(8000)}
    await teddy.say(Occasion.ACTIVITY)
    await teddy.say(Occasion.STATUS)
    assert [event.data for event in teddy.shelf.events] == [
        {"occasion": "activity", "phrase": "greeting-1", "phrase_2": "affection-1"},
        {"occasion": "status", "phrase": "offline-1", "phrase_2": "volume_medium-1"},
    ]


async def test_a_reply_that_is_repeated_without_a_network_is_on_disk_before_it_is_heard() -> None:
    closed: list[bool] = []

    async def reply() -> AsyncGenerator[bytes, None]:
        try:
            yield BEEP
            yield b"no more"
        finally:
            closed.append(True)

    teddy = Teddy()
    async with aclosing(teddy.voice.repeat(reply())) as pieces:
        assert await anext(pieces) == BEEP
        assert [event.data for event in teddy.shelf.events] == [{"occasion": "repeat", "phrase": "reply"}]
    assert closed


async def test_with_a_network_parents_know_already() -> None:
    teddy = Teddy(online=True)
    await teddy.say(Occasion.ACTIVITY)
    assert await anext(teddy.voice.repeat(teddy.voice.speak(Occasion.REPEAT)))
    assert teddy.shelf.events == []


async def test_a_call_for_help_is_written_down_even_if_nobody_ever_listens() -> None:
    """The next press may stop the player before it has begun."""
    teddy = Teddy()
    pieces: AsyncGenerator[bytes, None] = teddy.voice.speak(Occasion.HELP)
    await pieces.aclose()
    await until(lambda: len(teddy.shelf.events) == 1)
    assert teddy.shelf.events[0].urgent


async def test_a_call_for_help_is_written_down_even_if_the_child_presses_again_meanwhile() -> None:
    teddy = Teddy()
    teddy.shelf.stuck = {"append"}
    speaking = asyncio.create_task(teddy.say(Occasion.HELP))
    await until(lambda: "remember" in teddy.shelf.log)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    teddy.shelf.free.set()
    await until(lambda: len(teddy.shelf.events) == 1)


async def test_nothing_that_is_written_or_logged_holds_words(
    caplog: pytest.LogCaptureFixture, program: Callable[[str], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    teddy = Teddy(program("exit 3"))
    phrases = tuple(starter.Phrase(phrase.id, phrase.kind, f"{CANARY} {phrase.text}") for phrase in starter.load())
    teddy.jukebox = Jukebox(phrases)
    teddy.voice = CachedVoice(
        teddy.shelf, teddy.jukebox, teddy.diary, teddy.status, BEEP, str(program("cat > heard; exit 3"))
    )
    for occasion in Occasion:
        teddy.shelf.broken = {"append"} if occasion is Occasion.STATUS else set()
        await teddy.say(occasion, "joke-1")
    assert len(teddy.shelf.events) >= len(Occasion) - 1
    assert caplog.records
    written = [repr(teddy.shelf.events), repr(teddy.shelf.memory), caplog.text]
    assert not [text for text in written if "canary" in text]


# --- a poor disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["phrases", "packets", "remember", "append"])
@pytest.mark.parametrize("occasion", [Occasion.HELP, Occasion.ACTIVITY, Occasion.RESTING])
async def test_a_child_hears_something_whatever_the_cache_cannot_do(
    broken: str, occasion: Occasion, caplog: pytest.LogCaptureFixture
) -> None:
    teddy = Teddy()
    ids = ("help-1", "greeting-1", "resting-1")
    teddy.shelf.recordings |= {id: sound(8000) for id in ids}
    teddy.shelf.broken = {broken}
    pcm = await teddy.say(occasion)
    if broken == "packets":
        assert pcm == BEEP
    else:
        assert ms(pcm) == 120
    assert {record.levelno for record in caplog.records if "no disk" in record.message} == {logging.ERROR}


async def test_a_call_for_help_that_no_disk_took_is_told_and_written_with_the_next_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    teddy = Teddy()
    teddy.shelf.broken = {"append"}
    assert await teddy.say(Occasion.HELP) == BEEP
    assert "not on the disk yet, kind=help" in caplog.text
    teddy.shelf.broken = set()
    await teddy.say(Occasion.ACTIVITY)
    await until(lambda: len(teddy.shelf.events) == 2)
    assert {event.kind for event in teddy.shelf.events} == {"help", "activity"}


@in_virtual_time
async def test_a_child_does_not_wait_for_a_disk_that_hangs() -> None:
    loop = asyncio.get_running_loop()
    teddy = Teddy()
    teddy.shelf.recordings["help-1"] = sound(8000)
    teddy.shelf.stuck = {"append"}
    began_s = loop.time()
    async with aclosing(teddy.voice.speak(Occasion.HELP)) as pieces:
        await anext(pieces)
        assert loop.time() - began_s == pytest.approx(own_voice.DISK_S)
    assert teddy.shelf.events == []
    teddy.shelf.free.set()
    await until(lambda: len(teddy.shelf.events) == 1)


@in_virtual_time
async def test_a_disk_that_answers_nothing_at_all_leaves_the_last_resort() -> None:
    loop = asyncio.get_running_loop()
    teddy = Teddy()
    teddy.shelf.stuck = {"append", "phrases", "packets", "remember"}
    began_s = loop.time()
    assert await teddy.say(Occasion.HELP) == BEEP
    assert loop.time() - began_s <= own_voice.DISK_S + 4 * own_voice.HUNG_S
    began_s = loop.time()
    assert await teddy.say(Occasion.ACTIVITY) == BEEP
    assert loop.time() - began_s <= 6 * own_voice.HUNG_S
    teddy.shelf.free.set()
    await until(lambda: len(teddy.shelf.events) == 2)
    assert {event.kind for event in teddy.shelf.events} == {"help", "activity"}


@in_virtual_time
async def test_a_disk_that_answers_again_is_waited_for_as_before() -> None:
    loop = asyncio.get_running_loop()
    teddy = Teddy(online=True)
    teddy.shelf.stuck = {"packets"}
    for waits_s in (own_voice.DISK_S, own_voice.DISK_S):  # all but the recording answers, and so patience comes back
        began_s = loop.time()
        await teddy.say(Occasion.RESTING)
        assert loop.time() - began_s == pytest.approx(waits_s)


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_a_child_who_has_heard_enough_leaves_no_process(program: Callable[[str], str], tmp_path: Path) -> None:
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x22\x56\0\0\x44\xac\0\0\x02\0\x10\0data\0\0\0\0"
    (tmp_path / "head").write_bytes(head)
    teddy = Teddy(program("cat head; exec yes"))
    async with aclosing(teddy.voice.speak(Occasion.HELP)) as pieces:
        assert any(await anext(pieces))
        pid = (tmp_path / "pid").read_text().strip()
        assert is_running(pid)
    assert not is_running(pid)


async def test_a_task_that_is_cancelled_in_mid_phrase_leaves_no_process(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    teddy = Teddy(program("exec sleep 100"))
    speaking = asyncio.create_task(teddy.say(Occasion.HELP))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    assert not is_running((tmp_path / "pid").read_text().strip())


def is_running(pid: str) -> bool:
    """Whether there is such a process; a zombie counts."""
    return Path(f"/proc/{pid}").exists()


async def until(happened: Callable[[], bool]) -> None:
    """Give way until it has happened; the test's own time limit ends what never does."""
    while not happened():
        await _give_way()


def _give_way() -> Awaitable[None]:
    return asyncio.sleep(0)


@pytest.mark.parametrize("error", [OSError("no file"), HardwareError("no sound"), AudioError("no packet")])
@in_virtual_time
async def test_a_voice_that_breaks_off_in_a_way_that_nobody_foresaw_still_makes_its_last_sound(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    teddy = Teddy()
    monkeypatch.setattr(teddy.jukebox, "choose", broken)
    assert await teddy.say(Occasion.HELP) == BEEP
    await asyncio.sleep(0.1)
    assert [event.kind for event in teddy.shelf.events] == ["help"]
