"""Damaged files: set aside as they are, and what can be read of them is carried over."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pommai import sqlite
from pommai.device.cache import storage
from pommai.errors import StoreError
from pommai.packets import unpack
from pommai.protocol import EventRecord

from .opened import DAY_S, NOW_S, event, fetch, names, opened, phrase, unsent_ids

ASIDE = f"toy.db.damaged-{int(NOW_S)}"
COUNT = 2000
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file with 2,000 events of which 500 were sent, three phrases and a volume."""
    import asyncio

    path = tmp_path_factory.mktemp("whole") / "toy.db"

    async def fill() -> None:
        blobs = {name: phrase(name)[1] for name in ("hello", "joke", "song")}
        async with opened(path) as cache:
            await cache.remember("volume", 0.5)
            await cache.manifest("r1", [phrase(name)[0] for name in blobs])
            await fetch(cache, blobs)
            for number in range(COUNT):
                await cache.append(event(number))
            await cache.acknowledge(f"e{number}" for number in range(500))
            await cache.log(NOW_S, "boot")

    asyncio.run(fill())
    yield path


@pytest.fixture
def path(tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "toy.db"))


def pages_of(path: Path, table: str) -> list[int]:
    """The numbers of a table's leaf pages, found by what is in them."""
    content = path.read_bytes()
    found = []
    for number in range(1, len(content) // PAGE):
        page = content[number * PAGE : (number + 1) * PAGE]
        if page[0] == 0x0D and table.encode() in page:
            found.append(number)
    return found


def overwrite(path: Path, at: int, content: bytes) -> bytes:
    """Damage the file; its bytes from now on."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path.read_bytes()


def cut(path: Path, share: float) -> bytes:
    """Cut the file off; its bytes from now on."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path.read_bytes()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_zeros_in_the_middle_cost_only_the_rows_that_were_there(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaves = pages_of(path, "activity")
    assert len(leaves) > 20
    for leaf in leaves[5:8]:
        damaged = overwrite(path, leaf * PAGE, bytes(PAGE))
    async with opened(path) as cache:
        assert cache.problem == ""
        left = await unsent_ids(cache)
        rows = (await cache.spool_size()).rows
        assert COUNT - 350 < rows < COUNT
        assert set(left) <= {f"e{number}" for number in range(500, COUNT)} and len(left) == len(set(left))
        assert await cache.recall("volume") == 0.5
        assert await cache.phrase_packets("joke") == unpack(phrase("joke")[1])
        assert len(await cache.phrases()) == 3
        assert await cache.revision() is None, "something may be missing: ask for the manifest"
        await cache.append(event(9999), durable=True)
    assert names(path.parent) == ["toy.db", ASIDE]
    assert path.with_name(ASIDE).read_bytes() == damaged
    assert [record.message for record in caplog.records if "set aside" in record.message] == [
        f"the database is damaged, set aside as {ASIDE}"
    ]
    async with opened(path) as cache:
        assert await unsent_ids(cache) == [*left, "e9999"]


@pytest.mark.parametrize(("share", "rows"), [(0.05, 0), (0.3, 200), (0.6, 800), (0.95, 1800)])
async def test_what_is_left_of_a_file_that_was_cut_off(path: Path, share: float, rows: int) -> None:
    damaged = cut(path, share)
    async with opened(path) as cache:
        assert cache.problem == ""
        assert rows <= (await cache.spool_size()).rows < COUNT
        assert set(await unsent_ids(cache)) <= {f"e{number}" for number in range(500, COUNT)}
        await cache.append(event(9999), durable=True)
        assert "e9999" in await unsent_ids(cache)
    assert names(path.parent) == ["toy.db", ASIDE]
    assert path.with_name(ASIDE).read_bytes() == damaged


@pytest.mark.parametrize("header", [b"a letter to grandmother", bytes(100), b"\xff" * 100])
async def test_a_header_of_garbage(path: Path, header: bytes) -> None:
    damaged = overwrite(path, 0, header)
    async with opened(path) as cache:
        assert cache.problem == "" and await unsent_ids(cache) == []
        await cache.append(event(1))
        assert await unsent_ids(cache) == ["e1"]
    assert path.with_name(ASIDE).read_bytes() == damaged


@pytest.mark.parametrize(
    "pragma", ["application_id = 5", "user_version = -3", "user_version = 5000", "user_version = 0", "user_version = 1"]
)
async def test_flipped_bits_in_the_header_cost_nothing(path: Path, pragma: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    async with opened(path) as cache:
        assert cache.problem == ""
        assert (await cache.spool_size()).rows == COUNT and len(await cache.phrases()) == 3
        assert len(await unsent_ids(cache)) == COUNT - 500 and await cache.recall("volume") == 0.5
    assert names(path.parent) == ["toy.db", ASIDE]


async def test_tables_that_vanish_in_use_are_made_again(path: Path) -> None:
    async with opened(path) as cache:
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE memory")
        connection.close()
        await cache.remember("volume", 0.1)
        assert cache.problem == "" and await cache.recall("volume") == 0.1
        assert (await cache.spool_size()).rows == COUNT


async def test_a_file_of_a_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "toy.db"
    path.write_bytes(b"\x00\x01\x02")
    async with opened(path) as cache:
        await cache.append(event(1))
        assert cache.problem == "" and await unsent_ids(cache) == ["e1"]
    assert path.with_name(ASIDE).read_bytes() == b"\x00\x01\x02"


async def test_random_damage_never_stops_the_toy_and_invents_nothing(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    size = len(overwrite(whole, 0, b""))
    salvaged = 0
    for round_ in range(15):
        path = tmp_path / str(round_) / "toy.db"
        path.parent.mkdir()
        shutil.copy(whole, path)
        for _ in range(rng.choice([1, 3, 10])):
            overwrite(path, rng.randrange(size), rng.randbytes(rng.choice([1, 16, 600, PAGE])))
        async with opened(path) as cache:
            left = await unsent_ids(cache)
            assert len(left) - len(set(left)) <= 2  # a flipped bit in an id, which SQLite does not notice
            salvaged += len(left)
            assert len(left) <= COUNT - 500
            for entry in await cache.phrases():
                packets = await cache.phrase_packets(entry.id)
                assert packets is None or packets == unpack(phrase(entry.id)[1]) or cache.problem == ""
            await cache.sweep(NOW_S + DAY_S)
            await cache.append(EventRecord("new", "turn", NOW_S + DAY_S, True))
            assert (await cache.unsent(1, 10_000))[0].id == "new", round_
    assert salvaged > 15 * (COUNT - 500) / 2


async def test_damage_that_shows_only_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path) as cache:
        await cache.append(event(3000), durable=True)
        await cache.log(NOW_S, "press")
        for leaf in pages_of(path, "activity")[10:]:
            overwrite(path, leaf * PAGE, b"\xff" * PAGE)
        await cache._read(lambda tables: tables.connection.execute("PRAGMA shrink_memory").fetchall())
        left = await unsent_ids(cache)
        assert "set aside" in caplog.text and cache.problem == ""
        assert 0 < len(left) < COUNT and len(left) == len(set(left))
        await cache.append(event(3001))
        assert await unsent_ids(cache) == [*left, "e3001"]
        assert (await cache.recent_log(1))[0].kind == "press", "what was gathered is not lost"
    aside = [name for name in names(path.parent) if "damaged" in name]
    assert len(aside) == 2 and aside[1].endswith("-wal"), "with its log, which nobody has written back"


async def test_a_card_that_damages_every_file_ends_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(path) as cache:

        def damaged(_: object) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        real = storage.Tables.transaction
        calls = 0

        def failing(tables: storage.Tables, *, durable: bool = False) -> object:
            nonlocal calls
            if not tables.in_memory:
                calls += 1
                if durable is False:
                    damaged(None)
            return real(tables, durable=durable)

        monkeypatch.setattr(storage.Tables, "transaction", failing)
        await cache.append(event(3000))
        assert "damaged" in cache.problem
        assert "e3000" in await unsent_ids(cache)
        monkeypatch.undo()
        assert await cache.retry() and cache.problem == ""
        assert (await cache.spool_size()).unsent == COUNT - 500 + 1
    async with opened(path) as cache:
        assert (await cache.spool_size()).unsent == COUNT - 500 + 1


async def test_only_the_last_two_damaged_files_are_kept(path: Path) -> None:
    for at_s in (1, 2, 3):
        for ending in ("", "-wal"):
            path.with_name(f"toy.db.damaged-{at_s}{ending}").write_bytes(b"ruin")
    overwrite(path, 0, b"garbage")
    async with opened(path):
        pass
    assert names(path.parent) == ["toy.db", ASIDE, "toy.db.damaged-3", "toy.db.damaged-3-wal"]


async def test_the_file_just_set_aside_is_kept_whatever_the_clock_says(path: Path) -> None:
    for at_s in (NOW_S + 1e6, NOW_S + 2e6, NOW_S + 3e6):
        path.with_name(f"toy.db.damaged-{at_s:.0f}").write_bytes(b"ruin")
    damaged = overwrite(path, 0, b"garbage")
    async with opened(path):
        pass
    assert names(path.parent) == ["toy.db", ASIDE, f"toy.db.damaged-{NOW_S + 3e6:.0f}"]
    assert path.with_name(ASIDE).read_bytes() == damaged


async def test_a_damaged_index_hides_no_event_from_a_toy_that_cannot_write_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect(path)
    sql = "SELECT rootpage FROM sqlite_master WHERE name = 'idx_events_pending_priority_at_s'"
    (root,) = connection.execute(sql).fetchone()
    connection.close()
    overwrite(path, (root - 1) * PAGE, random.Random(7).randbytes(100))

    def refused(path: Path, **_: object) -> sqlite3.Connection:
        raise StoreError(f"{path} cannot be opened for writing: Read-only file system")

    monkeypatch.setattr(sqlite, "connect", refused)
    async with opened(path) as cache:
        assert "Read-only" in cache.problem
        assert await unsent_ids(cache) == [f"e{number}" for number in range(500, COUNT)]


async def lose_from_index(path: Path) -> None:
    """An event that the index of what is unsent has, and the index of the ids has not."""
    sql = "SELECT rowid, * FROM sqlite_master WHERE name = 'idx_events_id'"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    row = connection.execute(sql).fetchone()
    connection.execute("DELETE FROM sqlite_master WHERE name = 'idx_events_id'")
    connection.commit()
    connection.close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO events VALUES (9000, 'lost', 'tap', 1.0, 1, 1, 50, '{}')")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row[1:])
    connection.commit()
    connection.close()


async def stale_in_index(path: Path) -> None:
    """An event that was sent, and that the index of what is unsent has still."""
    sql = "SELECT rowid, * FROM sqlite_master WHERE name LIKE 'idx_events_pending%'"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    row = connection.execute(sql).fetchone()
    connection.execute("DELETE FROM sqlite_master WHERE rowid = ?", row[:1])
    connection.commit()
    connection.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE events SET pending = 0 WHERE id = 'e500'")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row[1:])
    connection.commit()
    connection.close()


@pytest.mark.parametrize(("damage", "first"), [(lose_from_index, "lost"), (stale_in_index, "e500")])
async def test_an_index_that_does_not_match_its_table_is_made_again_and_nothing_is_sent_without_end(
    path: Path, damage: Callable[[Path], Awaitable[None]], first: str
) -> None:
    await damage(path)
    async with opened(path) as cache:
        sent: list[str] = []
        while batch := await cache.unsent(100, 100_000):
            assert len(sent) < 2 * COUNT, "without end"
            sent += [each.id for each in batch]
            await cache.acknowledge(each.id for each in batch)
        assert cache.problem == "" and sent[0] == first
        assert set(sent) == {first, *(f"e{number}" for number in range(500, COUNT))}
        assert len(sent) - len(set(sent)) <= 100, "what went in one batch with it at most"
    assert [name for name in names(path.parent) if "damaged" in name]


async def test_an_acknowledgement_that_was_undone_is_no_damage(path: Path) -> None:
    async with opened(path) as cache:

        def undone(tables: storage.Tables) -> None:
            tables.spool.acknowledge(["e500"])
            raise StoreError("undone")

        with pytest.raises(StoreError, match="undone"):
            await cache._write(undone)
        assert [each.id for each in await cache.unsent(1, 1000)] == ["e500"]
    assert names(path.parent) == ["toy.db"]


def switched_off(path: Path, target: Path) -> None:
    """Copy an open database with its log: what a toy finds that was switched off."""
    target.parent.mkdir()
    for each in (path, sqlite.beside(path)[0]):
        shutil.copy(each, target.with_name(each.name))


async def test_a_damaged_log_costs_only_what_was_in_it(tmp_path: Path) -> None:
    path, target = tmp_path / "toy.db", tmp_path / "off" / "toy.db"
    async with opened(path) as cache:
        for number in range(5):
            await cache.append(event(number))
    async with opened(path) as cache:
        for number in range(5, 50):
            await cache.append(event(number), durable=True)
        switched_off(path, target)
    log = sqlite.beside(target)[0]
    overwrite(log, len(log.read_bytes()) // 2, b"\xff" * 100)
    async with opened(target) as cache:
        left = await unsent_ids(cache)
        assert 5 < len(left) < 50 and left == [f"e{number}" for number in range(len(left))]
        assert cache.problem == ""


async def test_a_whole_log_is_read_after_a_power_cut(tmp_path: Path) -> None:
    path, target = tmp_path / "toy.db", tmp_path / "off" / "toy.db"
    async with opened(path) as cache:
        for number in range(50):
            await cache.append(event(number), durable=True)
        switched_off(path, target)
    async with opened(target) as cache:
        assert await unsent_ids(cache) == [f"e{number}" for number in range(50)]


async def test_a_damaged_file_is_set_aside_with_its_log_unchanged(tmp_path: Path, whole: Path) -> None:
    path, target = tmp_path / "toy.db", tmp_path / "off" / "toy.db"
    shutil.copy(whole, path)
    async with opened(path) as cache:
        await cache.append(event(3000), durable=True)
        switched_off(path, target)
    overwrite(target, pages_of(target, "activity")[3] * PAGE, bytes(PAGE))
    before = digest(target), digest(sqlite.beside(target)[0])
    async with opened(target) as cache:
        assert "e3000" in await unsent_ids(cache)
    aside = target.with_name(ASIDE)
    assert (digest(aside), digest(sqlite.beside(aside)[0])) == before


async def test_each_table_that_cannot_be_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "toy.db"
    path.write_bytes(b"a letter to grandmother, and no database" * 200)
    async with opened(path) as cache:
        assert cache.lasts
    told = [record.message.split(":")[0] for record in caplog.records if "not rescued" in record.message]
    assert sorted(told) == [f"table not rescued table={table}" for table in ("events", "log", "memory", "phrases")]
