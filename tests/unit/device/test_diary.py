"""What happened is written down once, in the toy's own time, and tried again where the spool would not take it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pommai.device import diary as diary_module
from pommai.device.cache.cache import Cache
from pommai.device.diary import Diary
from pommai.device.settings import CacheSettings
from pommai.errors import LocalProtocolError, StoreError
from pommai.protocol import EventRecord


class Shelf:
    """A spool in a list: one id once; it fails while told to."""

    def __init__(self) -> None:
        self.kept: dict[str, EventRecord] = {}
        self.durable: list[bool] = []
        self.tries = 0
        self.failures = 0

    async def append(self, event: EventRecord, durable: bool = False) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise StoreError("no room")
        self.kept.setdefault(event.id, event)
        self.durable.append(durable)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.kept.values()]


class Desk:
    def __init__(self) -> None:
        self.shelf = Shelf()
        self.told: list[int] = []
        self.diary = Diary(self.shelf, lambda: 1_800_000_000.12345, lambda: self.told.append(len(self.shelf.kept)))


async def test_an_event_by_a_clock_that_nobody_has_set_says_so() -> None:
    shelf = Shelf()
    diary = Diary(shelf, lambda: 1_700_000_000.0, lambda: None, lambda: False)
    await diary.write("help", urgent=True)
    assert [event.data for event in shelf.kept.values()] == [{"clock": "unsure"}]


async def test_an_event_says_what_and_when_and_is_told_of_when_it_is_kept() -> None:
    desk = Desk()
    await desk.diary.write("activity", durable=True, phrase="song-1", ms=300)
    await desk.diary.write("help", urgent=True)
    first, second = desk.shelf.kept.values()
    assert (first.kind, first.at_s, first.urgent, first.data) == (
        "activity",
        1_800_000_000.123,
        False,
        {"phrase": "song-1", "ms": 300},
    )
    assert (second.kind, second.urgent, second.data) == ("help", True, {})
    assert first.id != second.id
    assert desk.shelf.durable == [True, False]
    assert desk.told == [1, 2]


async def test_a_failure_is_told_and_nobody_is_told_to_deliver() -> None:
    desk = Desk()
    desk.shelf.failures = 1
    with pytest.raises(StoreError, match="no room"):
        await desk.diary.write("help", urgent=True)
    assert desk.told == []


async def test_what_matters_is_tried_again_with_the_next_event() -> None:
    desk = Desk()
    desk.shelf.failures = 3
    for kind, urgent, durable in (("help", True, False), ("activity", False, True), ("telemetry", False, False)):
        with pytest.raises(StoreError):
            await desk.diary.write(kind, urgent=urgent, durable=durable)
    await desk.diary.write("turn")
    assert desk.shelf.kinds == ["turn", "help", "activity"]  # figures are not worth a second try
    assert [event.urgent for event in desk.shelf.kept.values()] == [False, True, False]
    assert desk.shelf.durable == [False, True, True]
    await desk.diary.write("turn")
    assert len(desk.shelf.kept) == 4


async def test_what_still_fails_goes_on_waiting_and_is_no_failure_of_the_next_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.shelf.failures = 1
    with pytest.raises(StoreError):
        await desk.diary.write("help", urgent=True)

    original = desk.shelf.append

    async def only_turns(event: EventRecord, durable: bool = False) -> None:
        if event.kind != "turn":
            raise StoreError("no room")
        await original(event, durable)

    desk.shelf.append = only_turns  # type: ignore[method-assign]
    await desk.diary.write("turn")
    assert desk.shelf.kinds == ["turn"]
    assert "earlier events still wait, count=1" in caplog.text
    desk.shelf.append = original  # type: ignore[method-assign]
    await desk.diary.retry()
    assert desk.shelf.kinds == ["turn", "help"]
    assert desk.told == [1, 2]


async def test_two_who_try_again_at_once_keep_it_once() -> None:
    desk = Desk()
    desk.shelf.failures = 2
    for _ in range(2):
        with pytest.raises(StoreError):
            await desk.diary.write("help", urgent=True)
    await asyncio.gather(desk.diary.retry(), desk.diary.retry(), desk.diary.write("turn"))
    assert sorted(desk.shelf.kinds) == ["help", "help", "turn"]
    tries = desk.shelf.tries
    await desk.diary.retry()
    assert desk.shelf.tries == tries


async def test_memory_is_bounded_and_calls_for_help_are_lost_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(diary_module, "MAX_UNWRITTEN", 3)
    desk = Desk()
    desk.shelf.failures = 6
    for number in range(6):
        kind, urgent = ("help", True) if number in (0, 4, 5) else ("activity", False)
        with pytest.raises(StoreError):
            await desk.diary.write(kind, urgent=urgent, durable=True, number=number)
    await desk.diary.retry()
    assert [event.data["number"] for event in desk.shelf.kept.values()] == [0, 4, 5]
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "diary: an event is lost, kind=activity"
    ] * 3


async def test_the_real_spool_takes_it_and_refuses_words() -> None:
    cache = await Cache.open(CacheSettings(path=":memory:"))
    try:
        diary = Diary(cache, lambda: 1.8e9, lambda: None)
        await diary.write("help", urgent=True)
        await diary.write("activity", durable=True, occasion="activity", phrase="story-1")
        with pytest.raises(LocalProtocolError):
            await diary.write("activity", said="I am afraid of the dark")
        events = await cache.unsent(10, 10_000)
    finally:
        await cache.close()
    assert [(event.kind, event.urgent) for event in events] == [("help", True), ("activity", False)]
