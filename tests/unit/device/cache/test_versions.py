"""A database of a newer pommai: set aside as it is, and taken back when that version is here again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pommai import sqlite
from pommai.device.cache import aside, database

from .opened import NOW_S, event, fetch, names, opened, phrase, unsent_ids


def _telemetry(tables: Any) -> None:
    """A step of the future."""
    tables.table("telemetry").create({"n": int}, pk="n")
    tables.table("events").add_column("note", str)


FUTURE: tuple[Callable[[Any], None], ...] = (*database.MIGRATIONS, _telemetry)
NOW, NEXT = len(database.MIGRATIONS), len(FUTURE)
ASIDE = f"toy.db.v{NEXT}"
DAMAGED = f"toy.db.damaged-{int(NOW_S)}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.db"


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(database, "MIGRATIONS", FUTURE)


@pytest.fixture
def downgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(database, "MIGRATIONS", FUTURE[:-1])


def content_of(path: Path) -> bytes:
    return path.read_bytes()


async def test_downgrade_and_upgrade(
    path: Path, upgrade: Callable[[], None], downgrade: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    hello, blob = phrase("hello")
    upgrade()
    async with opened(path) as cache:
        for number in range(5):
            await cache.append(event(number, urgent=number == 3), durable=True)
        await cache.acknowledge(["e0"])
        await cache.remember("volume", 0.5)
        await cache.remember("cycle", 3)
        await cache.manifest("r1", [hello])
        await fetch(cache, {"hello": blob})
    before = content_of(path)

    downgrade()
    async with opened(path) as cache:
        assert cache.problem == "" and await unsent_ids(cache) == [] and await cache.phrases() == ()
        await cache.append(event(10))
        await cache.append(event(11))
        await cache.acknowledge(["e10"])
        await cache.remember("volume", 0.2)
    assert names(path.parent) == ["toy.db", ASIDE]
    assert content_of(path.with_name(ASIDE)) == before
    assert f"set aside as {ASIDE}" in caplog.text
    async with opened(path) as cache:
        assert await unsent_ids(cache) == ["e11"], "it stays aside as long as it is newer"
    assert content_of(path.with_name(ASIDE)) == before

    upgrade()
    for _ in range(2):
        async with opened(path) as cache:
            assert cache.problem == ""
            assert await unsent_ids(cache) == ["e3", "e1", "e2", "e4", "e11"]
            assert (await cache.spool_size()).rows == 7
            assert await cache.recall("volume") == 0.2, "what was set last counts"
            assert await cache.recall("cycle") == 3
            assert await cache.phrases() == (hello,)
    assert names(path.parent) == ["toy.db"]


async def test_the_log_of_a_newer_file_goes_with_it(
    path: Path, tmp_path: Path, upgrade: Callable[[], None], downgrade: Callable[[], None]
) -> None:
    """A toy that was switched off, then downgraded: the last events are in the log only."""
    upgrade()
    async with opened(path) as cache:
        await cache.append(event(1), durable=True)
        off = tmp_path / "off"
        off.mkdir()
        for each in (path, sqlite.beside(path)[0]):
            (off / each.name).write_bytes(each.read_bytes())
    downgrade()
    async with opened(off / "toy.db") as cache:
        await cache.append(event(2))
    assert names(off) == ["toy.db", ASIDE, f"{ASIDE}-wal"]
    upgrade()
    async with opened(off / "toy.db") as cache:
        assert await unsent_ids(cache) == ["e1", "e2"]
    assert names(off) == ["toy.db"]


async def test_everything_that_was_set_aside_comes_back(path: Path, upgrade: Callable[[], None]) -> None:
    upgrade()
    for number, name in ((1, ASIDE), (2, f"{ASIDE}.1"), (3, f"toy.db.v{NEXT + 1}")):
        async with opened(path.with_name(name)) as cache:
            await cache.append(event(number))
    async with opened(path) as cache:
        assert await unsent_ids(cache) == ["e1", "e2"]
    assert names(path.parent) == ["toy.db", f"toy.db.v{NEXT + 1}"]


def test_a_name_that_is_taken_is_not_overwritten(path: Path) -> None:
    path.with_name("toy.db.v9").write_bytes(b"first")
    for content in (b"second", b"third"):
        path.write_bytes(content)
        aside.set_newer_aside(path, 9)
    assert [(path.parent / name).read_bytes() for name in names(path.parent)] == [b"first", b"second", b"third"]
    assert [each.name for each in aside.newer_files(path, 9)] == names(path.parent)
    assert aside.newer_files(path, 8) == []


def test_setting_aside_that_was_cut_short_is_finished_by_the_next_start(path: Path) -> None:
    """Killed between the two renames: the log is aside already, the file is not."""
    path.write_bytes(b"file")
    sqlite.beside(path.with_name("toy.db.v9"))[0].write_bytes(b"log")
    for each in sqlite.beside(path):
        each.write_bytes(b"")  # what a look at the file leaves behind
    aside.set_newer_aside(path, 9)
    assert names(path.parent) == ["toy.db.v9", "toy.db.v9-wal"]
    assert path.with_name("toy.db.v9-wal").read_bytes() == b"log"


async def test_a_file_set_aside_that_is_damaged_gives_what_can_be_read(
    path: Path, upgrade: Callable[[], None], downgrade: Callable[[], None]
) -> None:
    upgrade()
    async with opened(path) as cache:
        for number in range(500):
            await cache.append(event(number))
    downgrade()
    async with opened(path) as cache:
        await cache.append(event(1000))
    newer = path.with_name(ASIDE)
    content = newer.read_bytes()
    newer.write_bytes(content[: len(content) * 2 // 3])
    upgrade()
    async with opened(path) as cache:
        assert cache.problem == ""
        left = await unsent_ids(cache)
        assert "e1000" in left and 200 < len(left) < 501
    assert names(path.parent) == ["toy.db", DAMAGED], "what cannot be read is not thrown away"
    newer.write_bytes(b"no database at all")
    async with opened(path) as cache:
        assert cache.problem == "" and await unsent_ids(cache) == left
    assert len(names(path.parent)) == 3


async def test_the_database_of_another_program_is_left_as_it_was(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = content_of(path)
    async with opened(path) as cache:
        assert "another program" in cache.problem
        await cache.append(event(1), durable=True)
        assert await unsent_ids(cache) == ["e1"] and not await cache.retry()
    assert content_of(path) == before and names(path.parent) == ["toy.db"]
