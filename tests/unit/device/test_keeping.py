"""What the keeper writes down, and when, on a clock that jumps: half a minute is all that a power cut may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pommai.device.mind.clock import WallClock
from pommai.device.service.keeping import ALLOWANCE, AVAILABILITY, RETRY_S, SWEEP_S, WALL_CLOCK, Keeper
from pommai.errors import StoreError
from tests.unit.device.virtual_time import in_virtual_time

NOW_S = 1_750_000_000.0


class Disk:
    """As much of a cache as a keeper needs. `written`: when (seconds of the test), what, and whether it had to last."""

    def __init__(self) -> None:
        self.fails = False
        self.lasts = True
        self.problem = ""
        self.written: list[tuple[float, str, Any, bool]] = []
        self.swept: list[float] = []
        self.tried: list[float] = []
        self._began_s = asyncio.get_running_loop().time()

    @property
    def at_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_s

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        if self.fails:
            raise StoreError("the disk is full")
        self.written.append((self.at_s, key, value, durable))

    async def sweep(self, now_s: float) -> int:
        self.swept.append(self.at_s)
        if self.fails:
            raise StoreError("the disk is full")
        return 0

    async def retry(self) -> bool:
        self.tried.append(self.at_s)
        return not self.problem

    def of(self, key: str) -> list[tuple[float, Any, bool]]:
        """What was written under one key."""
        return [(at_s, value, durable) for at_s, each, value, durable in self.written if each == key]


class Talking:
    """A toy that talks all the time, or not: its allowance is another at each look."""

    def __init__(self, disk: Disk, *, clock_is_set: bool = True) -> None:
        self.talks = True
        self.events_retried: list[float] = []
        self._disk = disk
        self.clock = WallClock(
            None, system_s=lambda: NOW_S + disk.at_s, monotonic_s=lambda: disk.at_s, is_set=lambda: clock_is_set
        )
        self.keeper = Keeper(
            disk,  # type: ignore[arg-type]  # as much of one as a keeper needs
            self.clock,
            {ALLOWANCE: self._used},
            lambda: {"answered_s": disk.at_s},
            self._retry_events,
        )

    def _used(self) -> Mapping[str, Any]:
        return {"used_s": self._disk.at_s if self.talks else 0.0}

    async def _retry_events(self) -> None:
        self.events_retried.append(self._disk.at_s)


@asynccontextmanager
async def keeping(toy: Talking) -> AsyncIterator[Keeper]:
    """The keeper runs for the block."""
    running = asyncio.create_task(toy.keeper.run())
    try:
        yield toy.keeper
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@in_virtual_time
async def test_what_is_used_of_today_is_written_down_every_30_s() -> None:
    disk = Disk()
    async with keeping(Talking(disk)):
        await asyncio.sleep(95)
    assert disk.of(ALLOWANCE) == [(at_s, {"used_s": at_s}, False) for at_s in (30, 60, 90)]
    assert disk.of(AVAILABILITY) == [(at_s, {"answered_s": at_s}, False) for at_s in (30, 60, 90)]
    assert disk.of(WALL_CLOCK) == [(at_s, NOW_S + at_s, False) for at_s in (30, 60, 90)]


@in_virtual_time
async def test_what_has_not_changed_is_not_written_again() -> None:
    disk = Disk()
    toy = Talking(disk)
    toy.talks = False
    async with keeping(toy):
        await asyncio.sleep(65)
        toy.talks = True
        await asyncio.sleep(30)
    assert [at_s for at_s, _, _ in disk.of(ALLOWANCE)] == [30, 90]
    assert [at_s for at_s, _, _ in disk.of(WALL_CLOCK)] == [30, 60, 90]


def test_what_failed_is_written_down_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pommai.device.service.keeping")

    @in_virtual_time
    async def fail_once() -> None:
        disk = Disk()
        async with keeping(Talking(disk)):
            await asyncio.sleep(1)
            disk.fails = True
            await asyncio.sleep(30)
            assert disk.written == []
            disk.fails = False
            await asyncio.sleep(30)
        assert disk.of(ALLOWANCE) == [(60, {"used_s": 60}, False)]

    fail_once()
    assert caplog.messages == ["keeper: the cache failed: the disk is full"]


@in_virtual_time
async def test_what_was_told_is_on_the_disk_at_once_and_only_that_has_to_last() -> None:
    disk = Disk()
    async with keeping(Talking(disk)) as keeper:
        await asyncio.sleep(7)
        keeper.told()
        await asyncio.sleep(35)
    assert disk.of(ALLOWANCE) == [(7, {"used_s": 7}, True), (37, {"used_s": 37}, False)]


@in_virtual_time
async def test_what_was_told_and_could_not_be_written_has_to_last_the_next_time_too() -> None:
    disk = Disk()
    async with keeping(Talking(disk)) as keeper:
        disk.fails = True
        await asyncio.sleep(7)
        keeper.told()
        await asyncio.sleep(1)
        disk.fails = False
        await asyncio.sleep(60)
    assert disk.of(ALLOWANCE) == [(37, {"used_s": 37}, True), (67, {"used_s": 67}, False)]


@in_virtual_time
async def test_a_save_tells_whether_it_outlives_the_process() -> None:
    disk = Disk()
    keeper = Talking(disk).keeper
    assert await keeper.save(durable=True)
    disk.lasts = False
    assert not await keeper.save(durable=True)
    disk.fails = True
    with pytest.raises(StoreError):
        await keeper.save()


@in_virtual_time
async def test_a_disk_with_a_problem_is_tried_again_every_minute_and_old_events_go_every_hour() -> None:
    disk = Disk()
    toy = Talking(disk)
    async with keeping(toy):
        await asyncio.sleep(RETRY_S + 1)
        assert disk.tried == [], "there is nothing wrong with it"
        disk.problem = "the file is read-only"
        await asyncio.sleep(2 * RETRY_S)
        assert disk.tried == [2 * RETRY_S, 3 * RETRY_S]
        assert toy.events_retried == [RETRY_S, 2 * RETRY_S, 3 * RETRY_S]
        disk.fails = True
        await asyncio.sleep(2 * SWEEP_S)
    assert disk.swept == [0, SWEEP_S, 2 * SWEEP_S], "and it goes on when that failed"


@in_virtual_time
async def test_without_a_clock_no_event_is_too_old_and_with_one_it_is_at_once() -> None:
    """A toy that is on for less than an hour at a time keeps nothing longer than others."""
    disk = Disk()
    toy = Talking(disk, clock_is_set=False)
    async with keeping(toy):
        await asyncio.sleep(SWEEP_S + 1)
        assert disk.swept == []
        toy.clock.told(NOW_S)
        await asyncio.sleep(60)
    assert [SWEEP_S < at_s <= SWEEP_S + 6 for at_s in disk.swept] == [True]
