"""Turns in SQLite: private from the first byte, stored once, and really gone when they are forgotten."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pommai.errors import StoreError
from pommai.relay.ports import Action, Category, Layer, Outcome, Source, ToyToken, TurnRecord, Verdict
from pommai.relay.settings import StoreSettings
from pommai.relay.stores import database
from pommai.relay.stores.sqlite import DAY_S, SqliteStore

NOW_S = 1_700_000_000.0


@asynccontextmanager
async def opened(path: Path, words_days: int = 0, turns_days: int = 30) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(StoreSettings(str(path), words_days, turns_days))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


def turn(toy: str = "teddy", number: int = 1, at_s: float = NOW_S, **fields: Any) -> TurnRecord:
    return TurnRecord(toy, number, at_s, **fields)


def rows(path: Path, sql: str = "SELECT * FROM turns ORDER BY turn") -> list[dict[str, Any]]:
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute(sql)]
    connection.close()
    return found


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def modes(path: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob(f"{path.name}*")}


async def test_a_turn_as_it_is_stored(path: Path) -> None:
    verdict = Verdict(Category.DISTRESS, 6, 0.9, "anchor:hurt", Action.COMFORT)
    record = turn(
        outcome=Outcome.ANSWERED,
        source=Source.FIXED,
        heard="words of a child",
        said=["words of a toy"],
        verdicts=[(Layer.INPUT, verdict)],
        tokens=7,
        uplink_packets=30,
        downlink_packets=40,
        marks_s={"ended": 100.0, "stt": 100.25, "judge_in": 100.3, "first_audio": 100.5},
    )
    async with opened(path) as store:
        await store.record(record)
        (row,) = rows(path)
    assert row["toy"] == "teddy" and row["turn"] == 1 and row["started_at_ms"] == NOW_S * 1000
    assert (row["outcome"], row["source"], row["error"], row["tokens"]) == ("answered", "fixed", None, 7)
    assert (row["uplink_packets"], row["downlink_packets"]) == (30, 40)
    assert row["ms"] == '{"stt": 250.0, "judge_in": 300.0, "first_audio": 500.0}'
    assert '"layer": "input", "category": "distress", "severity": 6' in row["verdicts"]
    assert row["heard"] is None and row["said"] is None
    assert b"words of a" not in bytes_on_disk(path)


async def test_words_are_kept_where_the_settings_say_so(path: Path) -> None:
    async with opened(path, words_days=1) as store:
        await store.record(turn(heard="hello", said=["Hi!", "How are you?"]))
        (row,) = rows(path)
    assert row["heard"] == "hello" and row["said"] == '["Hi!", "How are you?"]'


async def test_a_turn_whose_utterance_never_ended_has_no_times(path: Path) -> None:
    async with opened(path) as store:
        await store.record(turn(outcome=Outcome.CANCELLED, marks_s={"stt": 5.0}))
        (row,) = rows(path)
    assert (row["outcome"], row["source"], row["ms"]) == ("cancelled", None, "{}")


async def test_the_same_turn_is_stored_once(path: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(store.record(turn()) for _ in range(5)))
        await store.record(turn(number=2))
        await store.record(turn(at_s=NOW_S + 1))
        await store.record(turn("panda"))
        assert len(rows(path)) == 4


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_nobody_else_may_read_the_file_from_its_first_byte(
    path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, int]] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def spy(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        seen.append(modes(path))
        return connect(*args, **kwargs)

    monkeypatch.setattr(database.sqlite3, "connect", spy)
    before = os.umask(umask)
    try:
        async with opened(path) as store:
            await store.record(turn())
            during = modes(path)
    finally:
        os.umask(before)
    assert seen == [{"relay.db": 0o600}]
    assert during == {"relay.db": 0o600, "relay.db-wal": 0o600, "relay.db-shm": 0o600}


async def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    async with opened(path) as store:
        await store.record(turn())
        for file in path.parent.glob("relay.db*"):
            file.chmod(0o644)
        async with opened(path):
            assert set(modes(path).values()) == {0o600}


async def test_forgetting_a_toy_leaves_none_of_its_bytes_and_all_of_the_others(path: Path) -> None:
    """Rows of mixed lengths, some overflowing their page: `secure_delete` alone leaves copies behind (5 of 8 seeds)."""
    rng = random.Random(1)
    async with opened(path, words_days=10) as store:
        for number in range(600):
            toy = rng.choice(["teddy", "panda"])
            words = f"{toy} SECRET " * rng.randrange(1, 900 if number % 50 == 0 else 40)
            await store.record(turn(toy, number, NOW_S + rng.randrange(10**6), heard=words, said=[words]))
        assert b"teddy SECRET" in bytes_on_disk(path)
        expected = sum(row["toy"] == "teddy" for row in rows(path))
        assert await store.forget("teddy") == expected > 0
        on_disk = bytes_on_disk(path)
        assert b"teddy" not in on_disk
        assert b"panda SECRET" in on_disk
        assert {row["toy"] for row in rows(path)} == {"panda"}
        assert await store.forget("teddy") == 0


async def test_forgetting_a_toy_keeps_its_tokens(path: Path) -> None:
    async with opened(path) as store:
        await store.add_token(ToyToken("id", "teddy", NOW_S, None, None), b"digest")
        await store.forget("teddy")
        assert await store.find_token("id") is not None


async def test_a_turn_that_began_before_its_toy_was_forgotten_is_not_stored(path: Path) -> None:
    async with opened(path, words_days=10) as store:
        before_s = time.time()
        await store.forget("teddy")
        after_s = time.time() + 1
        await store.record(turn("teddy", 1, before_s, heard="SECRET", outcome=Outcome.CANCELLED))
        await store.record(turn("panda", 2, before_s))
        await store.record(turn("teddy", 3, after_s))
        assert [row["turn"] for row in rows(path)] == [2, 3]
        assert b"SECRET" not in bytes_on_disk(path)
        toys = {"teddy": before_s, "panda": before_s}
        assert await store.forgotten(toys) == {"teddy"}
        assert await store.forgotten(toys | {"teddy": after_s}) == set()
    async with opened(path) as store:
        assert await store.forgotten(toys) == {"teddy"}, "it is known after a restart"
        await store.sweep(time.time() + 365 * DAY_S)
        assert await store.forgotten(toys) == {"teddy"}, "as long as a toy may keep what it could not send"
        await store.sweep(time.time() + 367 * DAY_S)
        assert await store.forgotten(toys) == set(), "and for no longer than it matters"


async def test_a_file_of_the_first_schema_is_migrated_with_its_turns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        async with opened(path) as store:
            await store.add_token(ToyToken("id", "teddy", NOW_S, None, None), b"digest")
    async with opened(path) as store:
        assert await store.find_token("id") is not None
        await store.record(turn())
        assert await store.forget("teddy") == 1


async def test_forgetting_says_so_when_a_reader_keeps_the_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    async with opened(path) as store:
        await store.record(turn())
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        try:
            with pytest.raises(StoreError, match="is in use"):
                await store.forget("teddy")
        finally:
            reader.close()
        await store.forget("teddy")
        assert rows(path) == []


async def test_the_sweep_removes_words_first_and_turns_later(path: Path) -> None:
    async with opened(path, words_days=2, turns_days=5) as store:
        for number, age_days in enumerate((1, 3, 6), start=1):
            await store.record(turn(number=number, at_s=NOW_S - age_days * DAY_S, heard=f"WORDS{age_days}", said=["x"]))
        assert await store.sweep(NOW_S) == 3  # the oldest turn loses its words, then is removed
        assert [(row["turn"], row["heard"], row["said"]) for row in rows(path)] == [
            (1, "WORDS1", '["x"]'),
            (2, None, None),
        ]
        assert b"WORDS3" not in bytes_on_disk(path) and b"WORDS6" not in bytes_on_disk(path)
        assert await store.sweep(NOW_S) == 0


async def test_words_go_at_once_when_the_owner_no_longer_wants_them(path: Path) -> None:
    async with opened(path, words_days=30) as store:
        await store.record(turn(heard="WORDS", said=["WORDS"]))
    async with opened(path, words_days=0) as store:
        assert await store.sweep(NOW_S + 1) == 1
        assert b"WORDS" not in bytes_on_disk(path)
        assert len(rows(path)) == 1


async def test_tokens_come_back_as_they_were_and_survive_a_restart(path: Path) -> None:
    first, second = ToyToken("1", "teddy", 1.0, None, None), ToyToken("2", "panda", 2.0, None, None)
    async with opened(path) as store:
        await store.add_token(first, b"one")
        await store.add_token(second, b"two")
    async with opened(path) as store:
        assert await store.find_token("1") == (first, b"one")
        assert await store.find_token("3") is None
        assert await store.list_tokens() == [second, first]
        assert await store.list_tokens("teddy") == [first]
        await store.token_used("1", 5.0)
        assert await store.revoke_tokens("teddy", 6.0) == 1
        assert await store.revoke_tokens("teddy", 7.0) == 0
        assert await store.list_tokens("teddy") == [ToyToken("1", "teddy", 1.0, 5.0, 6.0)]


async def test_two_processes_may_open_a_new_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(StoreSettings(str(path))) for _ in range(4)))
    await asyncio.gather(*(store.record(turn(number=n)) for n, store in enumerate(stores)))
    assert len(rows(path)) == 4
    for store in stores:
        await store.close()


async def test_a_closed_store_says_so_and_may_be_closed_again(path: Path) -> None:
    async with opened(path) as store:
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.record(turn())
    assert [file.name for file in path.parent.iterdir()] == ["relay.db"]


async def refused(path: Path) -> str:
    """What the store says about a file that it cannot use."""
    with pytest.raises(StoreError) as caught:
        await SqliteStore.open(StoreSettings(str(path)))
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "folder" in await refused(tmp_path / "missing" / "relay.db")


async def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert "directory" in await refused(tmp_path)


async def test_a_folder_that_may_not_be_written() -> None:
    """/sys takes no new file, not even from root."""
    assert "cannot be opened for writing" in await refused(Path("/sys/relay.db"))


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


async def test_what_is_no_file_at_all(path: Path) -> None:
    os.mkfifo(path, 0o644)
    assert "is not a file" in await refused(path)
    assert modes(path) == {"relay.db": 0o644}


async def test_a_file_that_is_no_database_is_left_as_it_was(path: Path) -> None:
    overwrite(path, b"a letter to grandmother\n" * 100)
    assert "is not an SQLite database" in await refused(path)
    assert bytes_on_disk(path) == b"a letter to grandmother\n" * 100


@pytest.mark.parametrize("version", [0, 1, len(database.MIGRATIONS), 99])
async def test_the_database_of_another_program_is_left_as_it_was(path: Path, version: int) -> None:
    """Whatever its version is, by chance or because it is that of the toy."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    open_to_all(path)
    before = bytes_on_disk(path)
    assert "another program" in await refused(path)
    assert bytes_on_disk(path) == before and modes(path) == {"relay.db": 0o644}


async def test_a_newer_schema(path: Path) -> None:
    async with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = bytes_on_disk(path)
    assert "newer pommai (schema 99" in await refused(path)
    assert bytes_on_disk(path) == before


async def test_a_lock_that_is_held_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    async with opened(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StoreError, match="locked by another program"):
                await store.record(turn())
        finally:
            other.close()
        await store.record(turn())
        assert len(rows(path)) == 1


async def test_a_full_disk(path: Path) -> None:
    """`max_page_count` makes SQLite report what it reports on a full disk."""
    async with opened(path, words_days=1) as store:
        await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 20").fetchone())
        with pytest.raises(StoreError, match="disk is full"):
            await store.record(turn(heard="x" * 200_000))
        await store.record(turn(heard="short"))
        assert [row["heard"] for row in rows(path)] == ["short"]


async def test_a_damaged_file(path: Path) -> None:
    async with opened(path, words_days=1) as store:
        for number in range(50):
            await store.record(turn(number=number, heard="x" * 2000))
    damaged = bytearray(bytes_on_disk(path))
    damaged[4096 : 4096 * 4] = b"\xff" * (4096 * 3)
    overwrite(path, damaged)
    async with opened(path) as store:
        with pytest.raises(StoreError, match="damaged"):
            await store.record(turn(number=99))


async def test_no_error_of_the_store_holds_a_word(path: Path) -> None:
    async with opened(path, words_days=1) as store:
        await store._run(lambda: store._connection.execute("DROP TABLE turns"))
        with pytest.raises(StoreError) as caught:
            await store.record(turn(heard="CANARY", said=["CANARY"]))
    chain = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "CANARY" not in chain and "no such table" in chain
