"""Events, commands and phrases between toy and relay: breaks, refusals and nonsense, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pommai.device.cache.cache import Cache
from pommai.device.network.commands import KEPT_IDS, KEY, MAX_WAITING, OBEY_S
from pommai.device.network.delivery import BATCH_BYTES, BUSY_BATCH_BYTES, MAX_EVENT_BYTES, MAX_TRIES
from pommai.device.network.manifest import MAX_PHRASE_BYTES, MAX_PHRASES
from pommai.device.network.phrase_sync import PAUSE_S
from pommai.device.network.upkeep import ToyUpkeep
from pommai.device.ports import AboutToy, ToSend, UplinkListener
from pommai.device.settings import CacheSettings
from pommai.errors import StoreError
from pommai.packets import SHELF_BYTES, pack
from pommai.protocol import (
    MAX_CHUNKS,
    MAX_PACKET_BYTES,
    VERSION,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    PhraseChunk,
    PhraseEnd,
    PhraseEntry,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    Welcome,
)
from pommai.wire import encode, encoded_size

from .virtual_time import in_virtual_time

WELCOME = Welcome(VERSION, "s1", 1.7e9, 30.0)


@dataclass
class MemoryCache:
    """As much of the toy's cache as the upkeep uses; `broken`: it raises StoreError."""

    events: dict[str, EventRecord] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    entries: list[PhraseEntry] = field(default_factory=list)
    manifest_revision: str | None = None
    pieces: dict[tuple[str, str], bytes] = field(default_factory=dict)
    damaged: int = 0
    broken: bool = False
    lasts: bool = True

    def _check(self) -> None:
        if self.broken:
            raise StoreError("toy.db cannot grow: the disk is full")

    async def unsent(
        self, max_events: int, max_bytes: int, without: Collection[str] = frozenset()
    ) -> tuple[EventRecord, ...]:
        self._check()
        batch: list[EventRecord] = []
        waiting = [each for each in self.events.values() if each.id not in without]
        for event in sorted(waiting, key=lambda event: not event.urgent)[:max_events]:
            if batch and sum(map(encoded_size, [*batch, event])) > max_bytes:
                break
            batch.append(event)
        return tuple(batch)

    async def acknowledge(self, ids: Iterable[str]) -> None:
        self._check()
        for each in ids:
            self.acknowledged.append(each)
            self.events.pop(each, None)

    async def recall(self, key: str) -> Any:
        self._check()
        return self.memory.get(key)

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        self._check()
        assert durable
        self.memory[key] = value

    def _is_held(self, entry: PhraseEntry) -> bool:
        blob = self.pieces.get((entry.id, entry.sha256), b"")
        return hashlib.sha256(blob).hexdigest() == entry.sha256

    async def revision(self) -> str | None:
        self._check()
        return self.manifest_revision if all(map(self._is_held, self.entries)) else None

    async def manifest(self, revision: str, entries: Sequence[PhraseEntry]) -> None:
        self.manifest_revision, self.entries = revision, list(entries)

    async def phrases(self) -> tuple[PhraseEntry, ...]:
        return tuple(
            PhraseEntry(id_, "fact", sha256, len(blob))
            for (id_, sha256), blob in self.pieces.items()
            if hashlib.sha256(blob).hexdigest() == sha256
        )

    async def wanted(self) -> tuple[PhraseEntry, int] | None:
        self._check()
        for entry in self.entries:
            if not self._is_held(entry) and self.damaged < 3:
                return entry, len(self.pieces.get((entry.id, entry.sha256), b""))
        return None

    async def add_chunk(self, phrase: str, sha256: str, offset: int, chunk: bytes) -> bool:
        (entry,) = [entry for entry in self.entries if (entry.id, entry.sha256) == (phrase, sha256)]
        blob = self.pieces.get((phrase, sha256), b"")
        assert offset == len(blob), "pieces have to follow on each other"
        self.pieces[phrase, sha256] = blob + chunk
        if len(blob + chunk) >= entry.size and not self._is_held(entry):
            self.damaged += 1
            del self.pieces[phrase, sha256]
        return self._is_held(entry)


class Wire:
    """The uplink as the upkeep sees it, and a relay behind it: `answers` says what comes back, a moment later."""

    def __init__(self) -> None:
        self.sent: list[ToSend] = []
        self.times_s: list[float] = []
        self.answers: Callable[[Any], Iterable[AboutToy | Error]] = lambda message: ()
        self.upkeep: ToyUpkeep | None = None
        self.is_up = False
        self.delay_s = 0.05
        self._changed = asyncio.Event()

    def start(self, listener: UplinkListener) -> None:
        raise AssertionError("the runner starts it")

    def wake(self) -> None:
        raise AssertionError("the machine wakes it")

    def send_audio(self, turn: int, packet: bytes) -> None:
        raise AssertionError("the recorder sends it")

    def send(self, message: ToSend) -> None:
        encode(message)  # raises for what fits in no message
        self.sent.append(message)
        self.times_s.append(asyncio.get_running_loop().time())
        self._changed.set()
        if self.is_up:
            asyncio.get_running_loop().call_later(self.delay_s, self._answer, message)

    def _answer(self, message: ToSend) -> None:
        assert self.upkeep is not None
        for answer in self.answers(message):
            if self.is_up:
                self.upkeep.received(answer)

    def up(self, **changes: Any) -> None:
        assert self.upkeep is not None
        self.is_up = True
        self.upkeep.welcomed(replace(WELCOME, **changes))

    def down(self) -> None:
        assert self.upkeep is not None
        self.is_up = False
        self.upkeep.lost()

    async def until(self, condition: Callable[[], bool], limit_s: float = 3600.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_sent(self, count: int, limit_s: float = 3600.0) -> None:
        await self.until(lambda: len(self.sent) >= count, limit_s)

    def batches(self) -> list[list[str]]:
        return [[event.id for event in message.events] for message in self.sent if isinstance(message, EventBatch)]


@dataclass
class Rig:
    """An upkeep at work."""

    wire: Wire
    cache: MemoryCache
    upkeep: ToyUpkeep
    obeyed: list[Command]
    idle: asyncio.Event


@asynccontextmanager
async def rig(
    cache: MemoryCache | None = None, obey: Callable[[Command], ErrorCode | None] = lambda command: None
) -> AsyncIterator[Rig]:
    wire, cache, idle = Wire(), cache or MemoryCache(), asyncio.Event()
    obeyed: list[Command] = []
    idle.set()

    async def do(command: Command) -> ErrorCode | None:
        obeyed.append(command)
        return obey(command)

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, do, is_idle=idle.is_set)
    task = asyncio.create_task(upkeep.run())
    try:
        yield Rig(wire, cache, upkeep, obeyed, idle)
    finally:
        assert not task.done(), "the upkeep broke"
        task.cancel()
        await asyncio.wait([task])


def event(number: int, *, urgent: bool = False, size: int = 0) -> EventRecord:
    data = {f"k{n}": "x" * 60 for n in range(size)}
    return EventRecord(f"e{number}", "tap", 1.7e9 + number, urgent, data)


def holding(*events: EventRecord) -> MemoryCache:
    return MemoryCache(events={each.id: each for each in events})


def storing(message: Any) -> Iterable[AboutToy | Error]:
    """A relay that stores every event."""
    if isinstance(message, EventBatch):
        yield EventsStored(tuple(each.id for each in message.events))


# --- events -----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_events_are_delivered_urgent_first_in_batches_that_fit() -> None:
    cache = holding(*(event(n, size=5) for n in range(60)), event(99, urgent=True))
    async with rig(cache) as toy:
        toy.wire.answers = storing
        toy.wire.up()
        await toy.wire.until(lambda: len(cache.acknowledged) > 40)
        await asyncio.sleep(1)
        assert not cache.events
        assert sorted(cache.acknowledged) == sorted(["e99", *(f"e{n}" for n in range(60))])
        assert toy.wire.batches()[0][0] == "e99"
        assert len(toy.wire.batches()) > 1
        assert all(len(encode(message)) < BATCH_BYTES + 100 for message in toy.wire.sent)


@in_virtual_time
async def test_one_batch_is_in_flight_and_small_while_somebody_talks() -> None:
    async with rig(holding(*(event(n, size=5) for n in range(60)))) as toy:
        toy.idle.clear()
        toy.wire.up()
        await asyncio.sleep(9)
        assert len(toy.wire.sent) == 1
        assert len(encode(toy.wire.sent[0])) < BUSY_BATCH_BYTES + 100


@in_virtual_time
async def test_what_is_appended_later_goes_as_soon_as_it_is_told() -> None:
    async with rig() as toy:
        toy.wire.answers = storing
        toy.wire.up()
        await asyncio.sleep(100)
        assert toy.wire.sent == []
        toy.cache.events["e1"] = event(1)
        toy.upkeep.poke()
        await asyncio.sleep(0.1)
        assert toy.cache.acknowledged == ["e1"]


@in_virtual_time
async def test_without_an_answer_the_same_is_sent_again_and_never_in_a_hot_loop() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.up()
        await toy.wire.until_sent(6)
        assert toy.wire.batches() == [["e1"]] * 6
        gaps_s = [later - earlier for earlier, later in zip(toy.wire.times_s, toy.wire.times_s[1:], strict=False)]
        assert min(gaps_s) >= 11
        assert max(gaps_s) <= 41


@in_virtual_time
async def test_a_batch_that_was_lost_with_its_answer_is_sent_again_on_the_next_connection() -> None:
    async with rig(holding(event(1), event(2))) as toy:
        toy.wire.up()
        await toy.wire.until_sent(1)
        toy.wire.down()
        await asyncio.sleep(100)
        assert len(toy.wire.sent) == 1
        toy.wire.answers = storing
        toy.wire.up()
        await asyncio.sleep(1)
        assert toy.wire.batches() == [["e1", "e2"]] * 2
        assert toy.cache.acknowledged == ["e1", "e2"]


@in_virtual_time
async def test_only_what_was_sent_can_be_acknowledged() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.answers = lambda message: [EventsStored(("e7", "")), EventsStored(())]
        toy.cache.events["e7"] = event(7, size=30)
        toy.cache.events["e1"] = event(1, size=31)
        toy.idle.clear()
        toy.wire.up()
        await toy.wire.until_sent(2)
        assert toy.wire.batches() == [["e1"]] * 2
        assert toy.cache.acknowledged == []


@in_virtual_time
async def test_an_answer_that_comes_too_late_still_counts() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.up()
        await toy.wire.until_sent(1)
        await asyncio.sleep(10.5)  # the toy has given up on it, and waits a while
        assert len(toy.wire.sent) == 1
        toy.upkeep.received(EventsStored(("e1",)))
        await asyncio.sleep(60)
        assert toy.cache.acknowledged == ["e1"]
        assert len(toy.wire.sent) == 1


@in_virtual_time
async def test_an_answer_that_comes_too_late_is_none_to_the_batch_on_its_way() -> None:
    async with rig(holding(event(1))) as toy:
        toy.idle.clear()
        toy.wire.up()
        await toy.wire.until_sent(1)
        await asyncio.sleep(10.5)
        toy.cache.events["e9"] = event(9, urgent=True, size=29)  # so large that nothing else fits while somebody talks
        await toy.wire.until_sent(2)
        toy.upkeep.received(EventsStored(("e1",)))
        await asyncio.sleep(5)
        assert toy.wire.batches() == [["e1"], ["e9"]]
        toy.wire.answers = storing
        await asyncio.sleep(60)
        assert toy.wire.batches() == [["e1"], ["e9"], ["e9"]]
        assert sorted(toy.cache.acknowledged) == ["e1", "e9"]


@in_virtual_time
async def test_half_an_acknowledgement_leaves_the_other_half() -> None:
    async with rig(holding(event(1), event(2), event(3))) as toy:
        toy.wire.answers = lambda message: [EventsStored((message.events[0].id,))]
        toy.wire.up()
        await asyncio.sleep(1)
        assert toy.wire.batches() == [["e1", "e2", "e3"], ["e2", "e3"], ["e3"]]
        assert toy.cache.acknowledged == ["e1", "e2", "e3"]


@in_virtual_time
async def test_a_relay_that_cannot_store_now_is_asked_again() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.answers = lambda message: [Error(ErrorCode.UNAVAILABLE, True)]
        toy.wire.up()
        await toy.wire.until_sent(5)
        gaps_s = [later - earlier for earlier, later in zip(toy.wire.times_s, toy.wire.times_s[1:], strict=False)]
        assert min(gaps_s) >= 1
        toy.wire.answers = storing
        await asyncio.sleep(60)
        assert toy.cache.acknowledged == ["e1"]


@in_virtual_time
async def test_an_error_of_a_turn_is_not_about_events() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.answers = lambda message: [Error(ErrorCode.BAD_MESSAGE, turn=3)] * 20
        toy.wire.up()
        await toy.wire.until_sent(4)
        assert toy.wire.times_s[1] - toy.wire.times_s[0] >= 11
        assert toy.cache.acknowledged == []


@in_virtual_time
async def test_one_poisonous_event_holds_up_no_other_and_is_set_aside_by_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored: list[str] = []

    def picky(message: EventBatch) -> Iterable[AboutToy | Error]:
        if any(each.id == "e3" for each in message.events):
            return [Error(ErrorCode.BAD_MESSAGE)]
        stored.extend(each.id for each in message.events)
        return storing(message)

    async with rig(holding(*(event(n) for n in range(6)))) as toy:
        toy.wire.answers = picky
        toy.wire.up()
        await toy.wire.until(lambda: toy.wire.batches().count(["e3"]) == MAX_TRIES)
        await asyncio.sleep(1)
        assert sorted(stored) == ["e0", "e1", "e2", "e4", "e5"]
        assert toy.cache.events == {}
        assert "one was set aside, id=e3 kind=tap code=bad_message" in caplog.text
        sent = len(toy.wire.sent)
        await asyncio.sleep(1000)
        assert len(toy.wire.sent) == sent


@in_virtual_time
async def test_what_is_urgent_is_never_given_up_whatever_the_relay_complains_of() -> None:
    refusals = 20

    def grumpy(message: EventBatch) -> Iterable[AboutToy | Error]:
        nonlocal refusals
        if refusals and any(each.urgent for each in message.events):
            refusals -= 1
            return [Error(ErrorCode.BAD_MESSAGE)]
        return storing(message)

    async with rig(holding(event(0, urgent=True), *(event(n) for n in range(1, 4)))) as toy:
        toy.wire.answers = grumpy
        toy.wire.up()
        await toy.wire.until(lambda: not refusals)
        assert sorted(toy.cache.acknowledged) == ["e1", "e2", "e3"], "it holds up no other"
        await asyncio.sleep(1000)
        assert toy.cache.events == {}


@in_virtual_time
async def test_however_many_urgent_events_are_refused_for_ever_the_others_get_through() -> None:
    """More of them than go in a batch, by number and by size, and while somebody talks."""

    def grumpy(message: EventBatch) -> Iterable[AboutToy | Error]:
        if any(each.urgent for each in message.events):
            return [Error(ErrorCode.BAD_MESSAGE)]
        return storing(message)

    refused = [event(n, urgent=True, size=5) for n in range(150)]
    async with rig(holding(*refused, *(event(n) for n in range(200, 210)))) as toy:
        toy.idle.clear()
        toy.wire.answers = grumpy
        toy.wire.up()
        await asyncio.sleep(3600)
        assert sorted(toy.cache.acknowledged) == [f"e{n}" for n in range(200, 210)]
        singly = {batch[0] for batch in toy.wire.batches() if len(batch) == 1}
        assert singly >= {each.id for each in refused}, "and each of them has its turn"


@in_virtual_time
async def test_an_event_that_fits_in_no_message_is_set_aside_at_once() -> None:
    huge = EventRecord("huge", "tap", 1.7e9, True, {"k": "x" * MAX_EVENT_BYTES})
    async with rig(holding(huge, event(1))) as toy:
        toy.wire.answers = storing
        toy.wire.up()
        await asyncio.sleep(1)
        assert toy.wire.batches() == [["e1"]]
        assert toy.cache.acknowledged == ["huge", "e1"]


@in_virtual_time
async def test_an_event_under_which_the_connection_breaks_again_and_again_lets_others_go_first() -> None:
    stored: list[str] = []

    def fragile(message: EventBatch) -> Iterable[AboutToy | Error]:
        if any(each.id == "e0" for each in message.events):
            toy.wire.down()
            asyncio.get_running_loop().call_later(1, toy.wire.up)
            return []
        stored.extend(each.id for each in message.events)
        return storing(message)

    async with rig(holding(*(event(n) for n in range(4)))) as toy:
        toy.wire.answers = fragile
        toy.wire.up()
        await toy.wire.until_sent(20)
        assert sorted(stored) == ["e1", "e2", "e3"]
        assert list(toy.cache.events) == ["e0"]  # the network may be to blame: it is never given up
        toy.wire.down()


@in_virtual_time
async def test_a_relay_that_knows_no_events_is_left_in_peace_until_the_next_welcome() -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.answers = lambda message: [Error(ErrorCode.UNKNOWN_TYPE)]
        toy.wire.up()
        await asyncio.sleep(1000)
        assert len(toy.wire.sent) == 1
        toy.wire.down()
        toy.wire.answers = storing
        toy.wire.up()
        await asyncio.sleep(1)
        assert toy.cache.acknowledged == ["e1"]


@in_virtual_time
async def test_a_disk_that_fails_stops_nothing_for_good(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(holding(event(1))) as toy:
        toy.wire.answers = storing
        toy.cache.broken = True
        toy.wire.up(phrases="r1")
        await asyncio.sleep(60)
        assert toy.wire.sent == []
        assert "the disk is full" in caplog.text
        toy.cache.broken = False
        await asyncio.sleep(60)
        assert toy.cache.acknowledged == ["e1"]


# --- commands ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_command_is_obeyed_once_and_answered_each_time() -> None:
    volume = Command("c1", "volume", 0.5)
    async with rig() as toy:
        toy.wire.up()
        toy.upkeep.received(volume)
        toy.upkeep.received(volume)
        await asyncio.sleep(0.1)
        toy.wire.down()
        toy.wire.up()
        toy.upkeep.received(volume)
        await asyncio.sleep(0.1)
        assert toy.obeyed == [volume]
        assert toy.wire.sent == [CommandDone("c1")] * 2
    async with rig(toy.cache) as later:  # after a restart
        later.wire.up()
        later.upkeep.received(volume)
        await asyncio.sleep(0.1)
        assert later.obeyed == []
        assert later.wire.sent == [CommandDone("c1")]


@in_virtual_time
async def test_why_a_command_was_not_obeyed_is_answered_each_time() -> None:
    async with rig(obey=lambda command: ErrorCode.QUIET_HOURS) as toy:
        toy.wire.up()
        for _ in range(2):
            toy.upkeep.received(Command("c1", "celebrate"))
            await asyncio.sleep(0.1)
        assert toy.wire.sent == [CommandDone("c1", ErrorCode.QUIET_HOURS)] * 2
        assert len(toy.obeyed) == 1


@in_virtual_time
async def test_a_restart_is_kept_and_answered_before_it_is_obeyed() -> None:
    seen: list[object] = []

    def restart(command: Command) -> None:
        seen.extend([list(toy.wire.sent), toy.cache.memory[KEY]])

    async with rig(obey=restart) as toy:
        toy.wire.up()
        toy.upkeep.received(Command("c1", "restart"))
        await asyncio.sleep(0.1)
        assert seen == [[CommandDone("c1")], [["c1", None]]]
    async with rig(toy.cache) as later:
        later.wire.up()
        later.upkeep.received(Command("c1", "restart"))
        await asyncio.sleep(0.1)
        assert later.obeyed == []


@in_virtual_time
async def test_a_restart_that_could_not_be_remembered_is_refused() -> None:
    async with rig(MemoryCache(broken=True)) as toy:
        toy.wire.up()
        toy.upkeep.received(Command("c1", "restart"))
        toy.upkeep.received(Command("c2", "pause"))
        await asyncio.sleep(0.1)
        assert toy.obeyed == [Command("c2", "pause")]
        assert toy.wire.sent == [CommandDone("c1", ErrorCode.UNAVAILABLE), CommandDone("c2")]


@in_virtual_time
async def test_a_restart_is_refused_while_the_toy_lives_from_memory() -> None:
    """Obeyed, it would come again after the restart, and so at every boot."""
    async with rig(MemoryCache(lasts=False)) as toy:
        toy.wire.up()
        for each in (Command("c1", "restart"), Command("c2", "play", phrase="song-1")):
            toy.upkeep.received(each)
        await asyncio.sleep(0.1)
        assert [command.action for command in toy.obeyed] == ["play"]
        assert toy.wire.sent == [CommandDone("c1", ErrorCode.UNAVAILABLE), CommandDone("c2")]


@pytest.mark.parametrize(("action", "times"), [("play", 1), ("celebrate", 1), ("volume", 2)])
@in_virtual_time
async def test_what_a_child_would_notice_is_not_done_again_after_a_power_cut(action: str, times: int) -> None:
    """Cut while it is obeyed, before it is answered; what only sets something is set again."""
    wire, cache, hanging = Wire(), MemoryCache(), asyncio.Event()
    command = Command("c1", action, 0.5, "song-1")
    obeyed: list[Command] = []

    async def obey(command: Command) -> None:
        obeyed.append(command)
        await hanging.wait()

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, obey, is_idle=lambda: True)
    task = asyncio.create_task(upkeep.run())
    wire.up()
    upkeep.received(command)
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert len(obeyed) == 1 and wire.sent == []
    async with rig(cache) as later:
        later.wire.up()
        later.upkeep.received(command)
        await asyncio.sleep(0.1)
        assert len(obeyed) + len(later.obeyed) == times
        assert later.wire.sent == [CommandDone("c1")]


@in_virtual_time
async def test_why_something_that_is_done_once_failed_is_kept_too() -> None:
    async with rig(obey=lambda command: ErrorCode.QUIET_HOURS) as toy:
        toy.wire.up()
        toy.upkeep.received(Command("c1", "celebrate"))
        await asyncio.sleep(0.1)
        assert toy.cache.memory[KEY] == [["c1", "quiet_hours"]]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Command("c1", "dance"), ErrorCode.UNKNOWN_TYPE),
        (Command("c1", "volume"), ErrorCode.BAD_MESSAGE),
        (Command("c1", "brightness", 7.0), ErrorCode.BAD_MESSAGE),
        (Command("c1", "play"), ErrorCode.BAD_MESSAGE),
    ],
)
@in_virtual_time
async def test_what_no_toy_can_do_is_not_tried(command: Command, code: ErrorCode) -> None:
    async with rig() as toy:
        toy.wire.up()
        toy.upkeep.received(command)
        await asyncio.sleep(0.1)
        assert toy.obeyed == []
        assert toy.wire.sent == [CommandDone("c1", code)]


@in_virtual_time
async def test_a_command_goes_on_while_the_connection_is_gone_and_is_answered_at_the_next_welcome() -> None:
    done = asyncio.Event()
    wire, cache = Wire(), MemoryCache()

    async def obey(command: Command) -> None:
        await done.wait()

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, obey, is_idle=lambda: True)
    task = asyncio.create_task(upkeep.run())
    wire.up()
    upkeep.received(Command("c1", "pause"))
    await asyncio.sleep(1)
    wire.down()
    done.set()
    await asyncio.sleep(1)
    assert cache.memory[KEY] == [["c1", None]]
    wire.up()
    upkeep.received(Command("c1", "pause"))
    await asyncio.sleep(1)
    assert wire.sent[-1] == CommandDone("c1")
    done.clear()
    upkeep.received(Command("c2", "pause"))
    await asyncio.sleep(OBEY_S + 1)
    assert wire.sent[-1] == CommandDone("c2", ErrorCode.TIMEOUT)
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_damaged_notes_and_ids_that_are_none_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[object] = [["c1", None], 7, ["c2"], ["c3", "no such code"], [None, None], ["c4", "timeout"]]
    async with rig(MemoryCache(memory={KEY: notes})) as toy:
        toy.wire.up()
        for each in ("c1", "c3", "c4", "not a token", ""):
            toy.upkeep.received(Command(each, "resume"))
        await asyncio.sleep(0.1)
        assert [command.id for command in toy.obeyed] == ["c3"]
        assert toy.wire.sent == [CommandDone("c1"), CommandDone("c3"), CommandDone("c4", ErrorCode.TIMEOUT)]
        assert "not a token" not in caplog.text


@in_virtual_time
async def test_a_flood_of_commands_is_bounded_and_so_is_what_is_remembered() -> None:
    async with rig() as toy:
        toy.wire.up()
        for n in range(KEPT_IDS + 30):
            toy.upkeep.received(Command(f"c{n}", "resume"))
            await asyncio.sleep(0.01)
        assert len(toy.obeyed) == KEPT_IDS + 30
        assert [each[0] for each in toy.cache.memory[KEY]] == [f"c{n}" for n in range(30, KEPT_IDS + 30)]
        for n in range(1000, 2000):
            toy.upkeep.received(Command(f"c{n}", "resume"))
        await asyncio.sleep(1)
        assert len(toy.obeyed) < KEPT_IDS + 100
        assert len(toy.cache.memory[KEY]) == KEPT_IDS


@in_virtual_time
async def test_what_there_is_no_room_for_is_refused_and_never_undoes_a_newer_command() -> None:
    async with rig() as toy:
        toy.wire.up()
        commands = [Command(f"c{n}", "volume", n / 100) for n in range(MAX_WAITING)] + [Command("c99", "pause")]
        for _ in range(2):  # the connection breaks, and all come again
            for each in commands:
                toy.upkeep.received(each)
        await asyncio.sleep(1)
        toy.upkeep.received(Command("c100", "resume"))
        await asyncio.sleep(1)
        toy.wire.down()
        toy.wire.up()
        toy.upkeep.received(commands[-1])
        await asyncio.sleep(1)
        assert toy.obeyed == [*commands[:-1], Command("c100", "resume")]
        assert toy.wire.sent.count(CommandDone("c99", ErrorCode.UNAVAILABLE)) == 3
        assert toy.wire.sent[2:-1] == [CommandDone(each.id) for each in toy.obeyed]


@in_virtual_time
async def test_a_flood_while_a_command_is_obeyed_makes_nothing_forgotten() -> None:
    wire, cache, hanging = Wire(), MemoryCache(), asyncio.Event()
    cache.lasts = False  # what is not kept for good is kept a second time when it has been obeyed

    async def obey(command: Command) -> None:
        await hanging.wait()

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, obey, is_idle=lambda: True)
    task = asyncio.create_task(upkeep.run())
    wire.up()
    upkeep.received(Command("first", "celebrate"))
    await asyncio.sleep(1)
    flood = [Command(f"c{n}", "celebrate") for n in range(MAX_WAITING + KEPT_IDS + 1)]
    for each in flood:
        upkeep.received(each)
    hanging.set()
    await asyncio.sleep(1)
    assert not task.done()
    refused = [CommandDone(each.id, ErrorCode.UNAVAILABLE) for each in flood[MAX_WAITING:]]
    assert wire.sent == [*refused, CommandDone("first"), *(CommandDone(each.id) for each in flood[:MAX_WAITING])]
    task.cancel()
    await asyncio.wait([task])


# --- phrases ----------------------------------------------------------------------------------------------------------


def sound(number: int, packets: int) -> bytes:
    rng = random.Random(number)
    return pack(rng.randbytes(rng.randint(20, 180)) for _ in range(packets))


@dataclass
class PhraseRelay:
    """A relay's shelf of phrases. `part`: entries in one message."""

    sounds: dict[str, bytes]
    revision: str = "r1"
    part: int = 3

    def entries(self) -> tuple[PhraseEntry, ...]:
        return tuple(
            PhraseEntry(id_, "fact", hashlib.sha256(blob).hexdigest(), len(blob)) for id_, blob in self.sounds.items()
        )

    def __call__(self, message: ToSend) -> Iterable[AboutToy | Error]:
        match message:
            case PhrasesWanted(first):
                entries = self.entries()
                yield PhraseManifest(self.revision, first, len(entries), entries[first : first + self.part])
            case PhraseWanted(request, id_, sha256, offset):
                blob = self.sounds.get(id_, b"")
                if hashlib.sha256(blob).hexdigest() != sha256:
                    yield PhraseEnd(request, ErrorCode.UNAVAILABLE)
                    return
                for sequence in range(MAX_CHUNKS):
                    start = offset + sequence * MAX_PACKET_BYTES
                    if chunk := blob[start : start + MAX_PACKET_BYTES]:
                        yield PhraseChunk(request, sequence, chunk)
                yield PhraseEnd(request)
            case _:
                yield from storing(message)


SOUNDS = {f"p{n}": sound(n, 40 + 60 * n) for n in range(5)}


async def synced(toy: Rig, revision: str, limit_s: float = 600.0) -> None:
    async with asyncio.timeout(limit_s):
        while await toy.cache.revision() != revision:  # noqa: ASYNC110 - the cache tells nobody
            await asyncio.sleep(0.1)


def asked(toy: Rig, kind: type) -> list[Any]:
    return [message for message in toy.wire.sent if isinstance(message, kind)]


@in_virtual_time
async def test_phrases_are_fetched_until_all_are_there_and_not_again() -> None:
    async with rig() as toy:
        toy.wire.answers = PhraseRelay(SOUNDS)
        toy.wire.up(phrases="r1")
        await asyncio.sleep(0.01)
        assert toy.upkeep.syncing
        await synced(toy, "r1")
        await asyncio.sleep(1)
        assert not toy.upkeep.syncing
        assert {id_: blob for (id_, _), blob in toy.cache.pieces.items()} == SOUNDS
        assert asked(toy, PhrasesWanted) == [PhrasesWanted(0), PhrasesWanted(3)]
        requests = [message.request for message in asked(toy, PhraseWanted)]
        assert requests == list(range(1, len(requests) + 1))
        count = len(toy.wire.sent)
        toy.wire.down()
        toy.wire.up(phrases="r1")
        await asyncio.sleep(100)
        assert len(toy.wire.sent) == count


@in_virtual_time
async def test_a_relay_without_phrases_is_not_asked_for_them() -> None:
    async with rig() as toy:
        toy.wire.up()
        await asyncio.sleep(100)
        assert toy.wire.sent == []


@in_virtual_time
async def test_phrases_that_become_ready_later_are_fetched_then() -> None:
    async with rig() as toy:
        relay = PhraseRelay(SOUNDS)
        toy.wire.answers = relay
        toy.wire.up()
        await asyncio.sleep(1)
        toy.upkeep.received(PhraseManifest("r1", 0, len(SOUNDS), relay.entries()[:1]))
        await synced(toy, "r1")
        assert {id_: blob for (id_, _), blob in toy.cache.pieces.items()} == SOUNDS


@in_virtual_time
async def test_nothing_is_fetched_while_somebody_talks() -> None:
    async with rig() as toy:
        toy.wire.answers = PhraseRelay(SOUNDS)
        toy.idle.clear()
        toy.wire.up(phrases="r1")
        await asyncio.sleep(100)
        assert toy.wire.sent == []
        assert not toy.upkeep.syncing
        toy.idle.set()
        await toy.wire.until_sent(4)
        toy.idle.clear()
        await asyncio.sleep(1)
        count = len(toy.wire.sent)
        await asyncio.sleep(100)
        assert len(toy.wire.sent) == count
        toy.idle.set()
        await synced(toy, "r1")


@pytest.mark.parametrize("seed", range(12))
@in_virtual_time
async def test_a_sync_that_breaks_anywhere_goes_on_where_it_stopped(seed: int) -> None:
    rng = random.Random(seed)
    cache = MemoryCache()
    async with rig(cache) as toy:
        toy.wire.answers = PhraseRelay(SOUNDS)
        for _ in range(rng.randint(1, 6)):
            toy.wire.up(phrases="r1")
            await asyncio.sleep(rng.uniform(0.0, 0.6))
            toy.wire.down()
            await asyncio.sleep(rng.uniform(0.0, 0.2))
        held = sum(map(len, cache.pieces.values()))
        before = len(asked(toy, PhraseWanted))
        toy.wire.up(phrases="r1")
        await synced(toy, "r1")
        assert {id_: blob for (id_, _), blob in cache.pieces.items()} == SOUNDS
        missing = sum(map(len, SOUNDS.values())) - held
        most = missing // (MAX_CHUNKS * MAX_PACKET_BYTES) + len(SOUNDS)
        assert len(asked(toy, PhraseWanted)) - before <= most  # nothing that was held is fetched again


@in_virtual_time
async def test_a_manifest_that_changes_on_the_way_begins_anew() -> None:
    relay = PhraseRelay(dict(SOUNDS), part=2)

    def changing(message: ToSend) -> Iterable[AboutToy | Error]:
        if message == PhrasesWanted(2) and relay.revision == "r1":
            relay.revision = "r2"
            relay.sounds["p9"] = sound(9, 10)
        return list(relay(message))

    async with rig() as toy:
        toy.wire.answers = changing
        toy.wire.up(phrases="r1")
        await synced(toy, "r2")
        assert [message.first for message in asked(toy, PhrasesWanted)] == [0, 2, 0, 2, 4]
        assert {id_ for id_, _ in toy.cache.pieces} == {*SOUNDS, "p9"}


@in_virtual_time
async def test_a_manifest_that_never_stays_is_asked_for_slowly() -> None:
    relay = PhraseRelay(SOUNDS)

    def restless(message: ToSend) -> Iterable[AboutToy | Error]:
        relay.revision += "x"
        return list(relay(message))

    async with rig() as toy:
        toy.wire.answers = restless
        toy.wire.up(phrases="r1")
        await asyncio.sleep(600)
        assert 20 < len(toy.wire.sent) < 600


@in_virtual_time
async def test_a_phrase_that_changed_meanwhile_is_fetched_by_a_fresh_manifest() -> None:
    relay = PhraseRelay(dict(SOUNDS))

    def changing(message: ToSend) -> Iterable[AboutToy | Error]:
        if isinstance(message, PhraseWanted) and message.id == "p1" and relay.revision == "r1":
            relay.revision = "r2"
            relay.sounds["p1"] = sound(77, 50)
        return list(relay(message))

    async with rig() as toy:
        toy.wire.answers = changing
        toy.wire.up(phrases="r1")
        await synced(toy, "r2")
        assert sound(77, 50) in toy.cache.pieces.values()


@pytest.mark.parametrize("refuses", ["code", "silence", "order", "too many"])
@in_virtual_time
async def test_a_phrase_that_the_relay_does_not_give_is_left_and_what_was_held_stays(
    refuses: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    relay = PhraseRelay(dict(SOUNDS))

    def stingy(message: ToSend) -> Iterable[AboutToy | Error]:
        if not (isinstance(message, PhraseWanted) and message.id == "p1"):
            return relay(message)
        match refuses:
            case "code":
                return [PhraseEnd(message.request, ErrorCode.UNAVAILABLE)]
            case "silence":
                return [PhraseEnd(message.request)]
            case "order":
                return [PhraseChunk(message.request, 4, b"x")]
            case _:
                return [PhraseChunk(message.request, n, b"x") for n in range(MAX_CHUNKS + 1)]

    cache = MemoryCache()
    old = sound(50, 5)
    cache.pieces["p1", hashlib.sha256(old).hexdigest()] = old
    async with rig(cache) as toy:
        toy.wire.answers = stingy
        toy.wire.up(phrases="r1")
        await toy.wire.until(lambda: any(each.id == "p1" for each in asked(toy, PhraseWanted)))
        await asyncio.sleep(PAUSE_S)
        assert not toy.upkeep.syncing, "nothing is on its way while it waits to ask again"
        await synced(toy, "")  # complete, as far as it goes; but not what the relay has
        assert {id_ for id_, _ in cache.pieces} == set(SOUNDS)
        assert old in cache.pieces.values()
        count = len(toy.wire.sent)
        await asyncio.sleep(600)
        assert len(toy.wire.sent) == count
        assert "up to date" not in caplog.text and "not to be had" in caplog.text
        toy.wire.down()
        toy.wire.answers = relay
        cache.pieces = {key: blob for key, blob in cache.pieces.items() if key[0] != "p1"}
        toy.wire.up(phrases="r1")
        await synced(toy, "r1")
        await asyncio.sleep(1)
        assert "up to date" in caplog.text


@in_virtual_time
async def test_sound_with_a_wrong_hash_is_given_up_after_a_few_times() -> None:
    relay = PhraseRelay(SOUNDS)

    def flipping(message: ToSend) -> Iterable[AboutToy | Error]:
        for answer in relay(message):
            yield replace(answer, chunk=b"\0" * len(answer.chunk)) if isinstance(answer, PhraseChunk) else answer

    async with rig() as toy:
        toy.wire.answers = flipping
        toy.wire.up(phrases="r1")
        await asyncio.sleep(600)
        assert toy.cache.damaged == 3
        assert toy.cache.pieces == {}
        assert not toy.upkeep.syncing


@in_virtual_time
async def test_a_relay_that_does_not_answer_is_asked_slowly_and_answers_of_old_questions_are_ignored() -> None:
    relay = PhraseRelay(SOUNDS)
    async with rig() as toy:
        toy.wire.answers = lambda message: []
        toy.wire.up(phrases="r1")
        await toy.wire.until_sent(4)
        gaps_s = [later - earlier for earlier, later in zip(toy.wire.times_s, toy.wire.times_s[1:], strict=False)]
        assert min(gaps_s) >= 11
        toy.wire.answers = lambda message: [
            PhraseChunk(999, 0, b"old"),
            PhraseEnd(998),
            *relay(message),
            PhraseEnd(997),
        ]
        await synced(toy, "r1")


@in_virtual_time
async def test_a_relay_that_cannot_answer_yet_is_asked_again_and_one_that_never_will_is_not() -> None:
    async with rig() as toy:
        toy.wire.answers = lambda message: [Error(ErrorCode.UNAVAILABLE, True)]
        toy.wire.up(phrases="r1")
        await toy.wire.until_sent(3)
        toy.wire.answers = lambda message: [Error(ErrorCode.UNKNOWN_TYPE)]  # to the third, already
        await asyncio.sleep(1000)
        assert len(toy.wire.sent) == 3


def manifest_of(*entries: PhraseEntry, **changes: Any) -> PhraseManifest:
    return replace(PhraseManifest("r1", 0, len(entries), entries), **changes)


GOOD = PhraseEntry("p1", "fact", "ab" * 32, 100)


@pytest.mark.parametrize(
    "manifest",
    [
        manifest_of(GOOD, first=7),
        manifest_of(total=5),
        manifest_of(GOOD, total=0),
        manifest_of(GOOD, total=MAX_PHRASES + 1),
        manifest_of(GOOD, GOOD),
        manifest_of(GOOD, revision=""),
        manifest_of(replace(GOOD, id="two words")),
        manifest_of(replace(GOOD, kind="")),
        manifest_of(replace(GOOD, sha256="AB" * 32)),
        manifest_of(replace(GOOD, size=0)),
        manifest_of(replace(GOOD, size=MAX_PHRASE_BYTES + 1)),
        manifest_of(
            *(replace(GOOD, id=f"p{n}", size=MAX_PHRASE_BYTES) for n in range(SHELF_BYTES // MAX_PHRASE_BYTES + 1))
        ),
    ],
)
@in_virtual_time
async def test_a_manifest_of_nonsense_is_not_taken(manifest: PhraseManifest, caplog: pytest.LogCaptureFixture) -> None:
    async with rig() as toy:
        toy.wire.answers = lambda message: [manifest]
        toy.wire.up(phrases="r1")
        await asyncio.sleep(600)
        assert toy.cache.manifest_revision is None
        assert asked(toy, PhrasesWanted) == [PhrasesWanted(0)] * 3
        assert "phrases: left until the next welcome" in caplog.text
        assert "two words" not in caplog.text


@in_virtual_time
async def test_a_flood_that_nobody_asked_for_changes_nothing() -> None:
    async with rig() as toy:
        toy.wire.answers = PhraseRelay(SOUNDS)
        toy.wire.up(phrases="r1")
        for _ in range(1000):
            toy.upkeep.received(PhraseChunk(5, 0, b"x"))
            toy.upkeep.received(PhraseEnd(6, ErrorCode.INTERNAL))
            toy.upkeep.received(EventsStored(("e1",)))
        await synced(toy, "r1")
        toy.upkeep.received(manifest_of(revision="r1"))
        await asyncio.sleep(1)
        assert len(toy.cache.entries) == len(SOUNDS)


# --- the whole --------------------------------------------------------------------------------------------------------


async def test_with_the_real_cache_all_three_work_side_by_side(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache = await Cache.open(CacheSettings(path=str(tmp_path / "toy.db")))
    wire = Wire()
    obeyed: list[str] = []

    async def obey(command: Command) -> None:
        obeyed.append(command.id)

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, obey, is_idle=lambda: True)
    wire.answers, wire.delay_s = PhraseRelay(SOUNDS), 0.001
    for number in range(150):
        await cache.append(event(number, urgent=number == 70))
    task = asyncio.create_task(upkeep.run())
    async with asyncio.timeout(20):
        for _ in range(3):  # broken off twice
            wire.up(phrases="r1")
            upkeep.received(Command("c1", "pause"))
            before = len(wire.sent)
            await wire.until_sent(before + 4)
            wire.down()
        wire.up(phrases="r1")
        while await cache.revision() != "r1" or await cache.unsent(1, 1000):
            with suppress(TimeoutError):
                await wire.until_sent(len(wire.sent) + 1, 0.1)
    assert obeyed == ["c1"]
    assert wire.batches()[0][0] == "e70"
    assert {each for batch in wire.batches() for each in batch} == {f"e{n}" for n in range(150)}
    for number, blob in enumerate(SOUNDS.values()):
        packets = await cache.phrase_packets(f"p{number}")
        assert packets is not None
        assert pack(packets) == blob
    task.cancel()
    await asyncio.wait([task])
    await cache.close()


@in_virtual_time
async def test_a_part_that_breaks_of_a_bug_is_noticed() -> None:
    def stumble(command: Command) -> None:
        raise ZeroDivisionError

    wire, cache = Wire(), MemoryCache()

    async def obey(command: Command) -> None:
        stumble(command)

    upkeep = wire.upkeep = ToyUpkeep(cache, wire, obey, is_idle=lambda: True)
    task = asyncio.create_task(upkeep.run())
    wire.up(phrases="r1")
    upkeep.received(Command("c1", "pause"))
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.group_contains(ZeroDivisionError)
