"""What the toy remembers, and its log: bounded, gathered, and without words."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pommai.device.cache import memory
from pommai.device.cache.memory import LogEntry

from .opened import NOW_S, event, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.db"


@pytest.mark.parametrize("value", [0.5, "quiet", True, None, [1, 2], {"paused": False, "used_s": 12.5}])
async def test_any_json_value_is_remembered(path: Path, value: Any) -> None:
    async with opened(path) as cache:
        assert await cache.recall("key") is None
        await cache.remember("key", "before", durable=True)
        await cache.remember("key", value)
    async with opened(path) as cache:
        assert await cache.recall("key") == value


async def test_what_json_cannot_hold_is_refused_and_nothing_changes(path: Path) -> None:
    async with opened(path) as cache:
        await cache.remember("key", 1)
        for value in (float("nan"), {1, 2}):
            with pytest.raises((ValueError, TypeError)):
                await cache.remember("key", value)
        assert await cache.recall("key") == 1


async def test_a_value_that_went_bad_on_the_disk_is_forgotten(path: Path) -> None:
    async with opened(path) as cache:
        await cache.remember("key", 1)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memory SET value = '{\"a'")
    connection.commit()
    connection.close()
    async with opened(path) as cache:
        assert await cache.recall("key") is None


async def test_the_log_is_a_ring(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_ENTRIES", 100)
    async with opened(path) as cache:
        for number in range(250):
            await cache.log(NOW_S + number, "press", {"n": number})
        assert await cache.recent_log(2) == (
            LogEntry(NOW_S + 248, "press", {"n": 248}),
            LogEntry(NOW_S + 249, "press", {"n": 249}),
        )
        assert len(await cache.recent_log(10_000)) == 100
    async with opened(path) as cache:
        assert [entry.data["n"] for entry in await cache.recent_log(10_000)] == list(range(150, 250))
        await cache.log(NOW_S, "boot")
        assert (await cache.recent_log(1)) == (LogEntry(NOW_S, "boot", {}),)


def rows_in_file(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM log").fetchone()
    connection.close()
    return int(count)


async def test_log_entries_are_written_together(path: Path) -> None:
    async with opened(path) as cache:
        for _ in range(memory.GATHER - 1):
            await cache.log(NOW_S, "press")
        assert rows_in_file(path) == 0
        await cache.log(NOW_S, "press")
        assert rows_in_file(path) == memory.GATHER
        await cache.log(NOW_S, "press")
        assert rows_in_file(path) == memory.GATHER
        await cache.append(event(1))  # the next commit takes them along
        assert rows_in_file(path) == memory.GATHER + 1
        await cache.log(NOW_S, "press")
    assert rows_in_file(path) == memory.GATHER + 2  # and so does closing


async def test_a_log_entry_waits_no_longer_than_it_may(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(path) as cache:
        await cache.log(NOW_S, "press")
        monkeypatch.setattr(memory, "GATHER_S", 0.0)
        await cache.log(NOW_S, "press")
        assert rows_in_file(path) == 2
