"""What is durable waits for the disk, what is not does not; and closing never waits for ever."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from pommai.device.cache import cache as module
from pommai.device.cache.cache import Cache
from pommai.device.settings import CacheSettings
from pommai.errors import StoreError

from .opened import event, opened, phrase, unsent_ids

FULL = ["PRAGMA synchronous = FULL", "BEGIN IMMEDIATE", "COMMIT", "PRAGMA synchronous = NORMAL"]
NORMAL = ["BEGIN IMMEDIATE", "COMMIT"]


async def traced(cache: Cache, statements: list[str]) -> None:
    await cache._read(lambda tables: tables.connection.set_trace_callback(statements.append))


async def test_only_what_must_not_be_lost_waits_for_the_disk(tmp_path: Path) -> None:
    hello, blob = phrase("hello")
    async with opened(tmp_path / "toy.db") as cache:
        assert await cache._read(lambda tables: tables.connection.execute("PRAGMA synchronous").fetchone()) == (1,)
        assert await cache._read(lambda tables: tables.connection.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
        for work, expected in (
            (lambda: cache.append(event(1), durable=True), FULL),
            (lambda: cache.append(event(2, "help", urgent=True)), FULL),
            (lambda: cache.append(event(3, "telemetry")), NORMAL),
            (lambda: cache.remember("limits", {}, durable=True), FULL),
            (lambda: cache.remember("used_s", 1), NORMAL),
            (lambda: cache.acknowledge(["e1"]), NORMAL),
            (lambda: cache.manifest("r1", [hello]), NORMAL),
            (lambda: cache.add_chunk("hello", hello.sha256, 0, blob), NORMAL),
            (lambda: cache.log(1.0, "press"), []),
            (lambda: cache.unsent(10, 1000), []),
        ):
            statements: list[str] = []
            await traced(cache, statements)
            await work()
            assert [each for each in statements if each.startswith(("PRAGMA", "BEGIN", "COMMIT", "ROLL"))] == expected


async def test_an_append_that_was_cancelled_leaves_the_cache_in_order(tmp_path: Path) -> None:
    gate = threading.Event()
    async with opened(tmp_path / "toy.db") as cache:
        blocked = asyncio.ensure_future(cache._run(gate.wait))
        waiting = asyncio.ensure_future(cache.append(event(1), durable=True))
        await asyncio.sleep(0)
        waiting.cancel()
        gate.set()
        await blocked
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await cache.append(event(2))
        assert "e2" in await unsent_ids(cache)


async def test_closing_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    gate = threading.Event()
    cache = await Cache.open(CacheSettings(str(tmp_path / "toy.db")))
    hanging = asyncio.ensure_future(cache._run(gate.wait))
    await asyncio.sleep(0)
    try:
        await asyncio.wait_for(cache.close(), 5)
        assert "does not answer" in caplog.text
        with pytest.raises(StoreError, match="closed"):
            await cache.append(event(1))
    finally:
        gate.set()
        assert await hanging


async def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    hello, _ = phrase("hello")

    async with opened(tmp_path / "toy.db") as cache:

        def fails(tables: module.Tables) -> None:
            tables.spool.append(event(1))
            tables.phrases.manifest([hello])
            raise ValueError("a bug")

        before = await cache.spool_size()
        with pytest.raises(ValueError, match="a bug"):
            await cache._write(fails, durable=True)
        assert await cache.spool_size() == before and await cache.wanted() is None
        assert await cache._read(lambda tables: tables.connection.execute("PRAGMA synchronous").fetchone()) == (1,)
        await cache.append(event(2))
        assert await unsent_ids(cache) == ["e2"] and (await cache.spool_size()).rows == 1
