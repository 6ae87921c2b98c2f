"""What the store keeps besides turns: events exactly once, commands until answered, phrases by text and voice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pommai.errors import StoreError
from pommai.protocol import Command, ErrorCode, EventRecord
from pommai.relay.settings import StoreSettings
from pommai.relay.stores import database, upkeep_rows
from pommai.relay.stores.sqlite import DAY_S, SqliteStore
from pommai.relay.stores.upkeep_rows import StoredCommand, StoredEvent
from tests.relay.test_store import NOW_S, bytes_on_disk, opened, path, rows, turn

__all__ = ["path"]


def event(number: int, at_s: float = NOW_S, *, urgent: bool = False, **data: Any) -> EventRecord:
    return EventRecord(f"e{number}", "gesture", at_s, urgent, data)


def events(count: int, start: int = 0) -> list[EventRecord]:
    return [event(number) for number in range(start, start + count)]


# --- events -----------------------------------------------------------------------------------------------------------


async def test_an_event_comes_back_as_it_was(path: Path) -> None:
    record = event(1, urgent=True, phrase="joke-3", battery=15, charging=False, load=0.5)
    async with opened(path) as store:
        assert await store.store_events("teddy", [record], NOW_S + 60) == {"e1"}
    async with opened(path) as store:
        assert await store.list_events("teddy", 10) == [StoredEvent(record, NOW_S + 60)]
        assert await store.list_events("panda", 10) == []


async def test_an_id_is_stored_once_and_each_toy_has_ids_of_its_own(path: Path) -> None:
    async with opened(path) as store:
        assert await store.store_events("teddy", [event(1), event(2), event(1)], NOW_S) == {"e1", "e2"}
        assert await store.store_events("teddy", [event(2, 5.0), event(3)], NOW_S) == {"e3"}
        assert await store.store_events("panda", [event(1)], NOW_S) == {"e1"}
        assert await store.store_events("panda", [], NOW_S) == set()
        stored = rows(path, "SELECT toy, id, at_s FROM events ORDER BY toy, id")
        assert [(row["toy"], row["id"]) for row in stored] == [
            ("panda", "e1"),
            ("teddy", "e1"),
            ("teddy", "e2"),
            ("teddy", "e3"),
        ]
        assert {row["at_s"] for row in stored} == {NOW_S}, "what is known is not changed"


async def test_the_last_events_stand_in_the_order_in_which_they_happened(path: Path) -> None:
    async with opened(path) as store:
        await store.store_events("teddy", [event(1, NOW_S)], NOW_S)
        await store.store_events("teddy", [event(3, NOW_S + 2, urgent=True), event(2, NOW_S + 1)], NOW_S + 9)
        assert [stored.event.id for stored in await store.list_events("teddy", 9)] == ["e1", "e2", "e3"]
        assert [stored.event.id for stored in await store.list_events("teddy", 2)] == ["e2", "e3"]


async def test_a_batch_is_stored_whole_or_not_at_all(path: Path) -> None:
    async with opened(path) as store:
        await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 24").fetchone())
        with pytest.raises(StoreError, match="disk is full"):
            await store.store_events("teddy", [event(n, note="x" * 60) for n in range(2_000)], NOW_S)
        assert rows(path, "SELECT * FROM events") == []
        assert await store.store_events("teddy", [event(1)], NOW_S) == {"e1"}


async def test_only_what_must_be_is_flushed_to_the_disk(path: Path) -> None:
    """`synchronous`: 2 is FULL, 1 is NORMAL."""
    seen: list[int] = []
    async with opened(path) as store:

        def level() -> int:
            (value,) = store._connection.execute("PRAGMA synchronous").fetchone()
            return int(value)

        def watch() -> None:
            store._connection.set_trace_callback(lambda sql: seen.append(level()) if sql == "COMMIT" else None)

        await store._run(watch)
        await store.store_events("teddy", [event(1)], NOW_S)
        id = await store.queue_command("teddy", "celebrate", now_s=NOW_S)
        await store.command_done("teddy", id, None, NOW_S)
        assert seen == [2, 2, 2]
        await store.forget("panda")
        assert seen == [2, 2, 2, 1] and await store._run(level) == 1


async def test_the_rows_of_one_toy_are_bounded_and_urgent_ones_go_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_rows, "MAX_EVENTS", 10)
    monkeypatch.setattr(upkeep_rows, "EVENTS_SLACK", 5)
    async with opened(path) as store:
        await store.store_events("panda", events(12), NOW_S)
        await store.store_events("teddy", [event(0, urgent=True), *events(14, 1)], NOW_S)
        assert len(await store.list_events("teddy", 99)) == 15
        await store.store_events("teddy", [event(15)], NOW_S + 1)
        kept = [stored.event.id for stored in await store.list_events("teddy", 99)]
        assert kept == ["e0", *(f"e{n}" for n in range(7, 16))]
        assert len(await store.list_events("panda", 99)) == 12


async def test_the_sweep_removes_what_came_too_long_ago(path: Path) -> None:
    async with opened(path, turns_days=5) as store:
        await store.store_events("teddy", [event(1, 0.0)], NOW_S - 6 * DAY_S)
        await store.store_events("teddy", [event(2, 0.0)], NOW_S - 4 * DAY_S)
        assert await store.sweep(NOW_S) == 1
        assert [stored.event.id for stored in await store.list_events("teddy", 9)] == ["e2"], "whatever its own clock"
        assert await store.sweep(NOW_S) == 0


async def test_a_forgotten_toy_leaves_no_event_and_no_command(path: Path) -> None:
    async with opened(path) as store:
        await store.store_events("teddy", [event(1, secret="GIVEAWAY")], NOW_S)
        await store.queue_command("teddy", "play", phrase="GIVEAWAY", now_s=NOW_S)
        await store.store_events("panda", [event(1)], NOW_S)
        await store.queue_command("panda", "restart", now_s=NOW_S)
        await store.forget("teddy")
        on_disk = bytes_on_disk(path)
        assert b"GIVEAWAY" not in on_disk and b"teddy" not in on_disk
        assert len(await store.list_events("panda", 9)) == len(await store.pending_commands("panda", NOW_S)) == 1


async def test_what_happened_before_a_toy_was_forgotten_is_not_stored_when_it_comes(path: Path) -> None:
    async with opened(path) as store:
        before_s = time.time() - DAY_S
        await store.forget("teddy")
        batch = [event(1, before_s), event(2, time.time() + 1)]
        assert await store.store_events("teddy", batch, NOW_S) == {"e2"}
        assert await store.store_events("teddy", batch, NOW_S) == set()
        assert [stored.event.id for stored in await store.list_events("teddy", 9)] == ["e2"]
        await store.store_events("panda", [event(1, before_s)], NOW_S)
        assert len(await store.list_events("panda", 9)) == 1


async def test_what_nobody_can_date_is_not_older_than_the_forgetting(path: Path) -> None:
    """A toy whose clock is not set knows no better than 1970; what it reports today is of today."""
    async with opened(path) as store:
        await store.forget("teddy")
        undated, dated = event(1, 5.0, clock="unsure"), event(2, 5.0, clock="sure")
        assert await store.store_events("teddy", [undated, dated], NOW_S) == {"e1"}


async def test_the_bytes_of_one_toy_are_bounded_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(json.dumps(dict(event(1, note="x" * 60).data)))
    monkeypatch.setattr(upkeep_rows, "MAX_EVENT_BYTES", 10 * size)
    monkeypatch.setattr(upkeep_rows, "EVENT_BYTES_SLACK", 4 * size)
    async with opened(path) as store:
        await store.store_events("panda", [event(n, note="x" * 60) for n in range(14)], NOW_S)
        await store.store_events("teddy", [event(0, urgent=True, note="x" * 60)], NOW_S)
        await store.store_events("teddy", [event(n, note="x" * 60) for n in range(1, 14)], NOW_S)
        assert len(await store.list_events("teddy", 99)) == 14
        await store.store_events("teddy", [event(14, note="x" * 60)], NOW_S + 1)
        kept = [stored.event.id for stored in await store.list_events("teddy", 99)]
        assert kept == ["e0", *(f"e{n}" for n in range(6, 15))], "the oldest go first, and urgent ones last"
        assert len(await store.list_events("panda", 99)) == 14


KILLED = """
import asyncio, sys
from pathlib import Path
from pommai.protocol import EventRecord
from pommai.relay.settings import StoreSettings
from pommai.relay.stores.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(StoreSettings(sys.argv[1]))
    print("open", flush=True)
    for n in range(100_000):
        await store.store_events("teddy", [EventRecord(f"{n}-{i}", "gesture", 1.0) for i in range(5)], 1.0)
        print(n, flush=True)

asyncio.run(main())
"""


def killed_after(path: Path, batches: int) -> int:
    """Kill a process that stores batches, whatever it is doing; of how many it had told us by then."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for _ in range(1 + batches):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        return batches + len(process.stdout.read().splitlines())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("batches", [1, 2, 7])
async def test_what_was_stored_before_a_kill_is_there_and_comes_twice_without_harm(path: Path, batches: int) -> None:
    told = killed_after(path, batches)
    async with opened(path) as store:
        stored = [kept.event.id for kept in await store.list_events("teddy", 999_999)]
        assert set(stored) >= {f"{n}-{i}" for n in range(told) for i in range(5)}
        assert len(stored) % 5 == 0 and len(stored) - 5 * told in (0, 5), "no half batch, and at most one untold"
        again = [EventRecord(f"{n}-{i}", "gesture", 1.0) for n in range(told) for i in range(5)]
        assert await store.store_events("teddy", again, 2.0) == set()
        assert len(await store.list_events("teddy", 999_999)) == len(stored)


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_commands_wait_in_order_until_they_are_answered(path: Path) -> None:
    async with opened(path) as store:
        louder = await store.queue_command("teddy", "volume", value=0.5, now_s=NOW_S)
        joke = await store.queue_command("teddy", "play", phrase="joke-1", now_s=NOW_S)
        await store.queue_command("panda", "pause", now_s=NOW_S)
        pending = [Command(louder, "volume", 0.5), Command(joke, "play", phrase="joke-1")]
        assert await store.pending_commands("teddy", NOW_S) == pending
        await store.command_done("teddy", louder, None, NOW_S + 1)
        assert await store.pending_commands("teddy", NOW_S) == pending[1:]
        await store.command_done("teddy", joke, ErrorCode.UNAVAILABLE, NOW_S + 2)
        await store.command_done("teddy", joke, None, NOW_S + 3)
        done = StoredCommand(pending[1], NOW_S, NOW_S + 2, "unavailable")
        assert await store.find_command(joke) == done, "the first answer counts"
        assert await store.list_commands("teddy", 1) == [done]
        assert [c.command.id for c in await store.list_commands("teddy", 9)] == [louder, joke]
        assert await store.find_command("nothing") is None


async def test_no_toy_answers_for_another(path: Path) -> None:
    async with opened(path) as store:
        id = await store.queue_command("teddy", "pause", now_s=NOW_S)
        await store.command_done("panda", id, None, NOW_S)
        assert len(await store.pending_commands("teddy", NOW_S)) == 1


async def test_very_many_commands_come_in_portions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_rows, "MAX_PENDING", 3)
    async with opened(path) as store:
        ids = [await store.queue_command("teddy", "celebrate", now_s=NOW_S) for _ in range(5)]
        assert [command.id for command in await store.pending_commands("teddy", NOW_S)] == ids[:3]
        await store.command_done("teddy", ids[0], None, NOW_S)
        assert [command.id for command in await store.pending_commands("teddy", NOW_S)] == ids[1:4]


@pytest.mark.parametrize(
    ("first", "second", "replaces"),
    [
        ("pause", "resume", True),
        ("resume", "pause", True),
        ("pause", "pause", True),
        ("volume", "volume", True),
        ("brightness", "brightness", True),
        ("volume", "brightness", False),
        ("volume", "pause", False),
        ("play", "play", False),
        ("restart", "celebrate", False),
    ],
)
async def test_of_what_undoes_itself_only_the_newest_counts(
    path: Path, first: str, second: str, replaces: bool
) -> None:
    async with opened(path) as store:
        done = await store.queue_command("teddy", first, value=0.1, now_s=NOW_S - 9)
        await store.command_done("teddy", done, None, NOW_S - 8)
        other = await store.queue_command("panda", first, now_s=NOW_S)
        old = await store.queue_command("teddy", first, value=0.2, now_s=NOW_S)
        new = await store.queue_command("teddy", second, value=0.3, now_s=NOW_S + 1)
        waiting = [command.id for command in await store.pending_commands("teddy", NOW_S + 1)]
        assert waiting == ([new] if replaces else [old, new])
        assert [command.id for command in await store.pending_commands("panda", NOW_S)] == [other]
        states = [(stored.done_at_s, stored.code) for stored in await store.list_commands("teddy", 9)]
        assert states[0] == (NOW_S - 8, None)
        assert states[1] == ((NOW_S + 1, ErrorCode.REPLACED) if replaces else (None, None))


@pytest.mark.parametrize("action", ["volume", "brightness", "pause", "resume", "play", "celebrate", "restart"])
@pytest.mark.parametrize("turns_days", [1, 3650])
async def test_a_command_waits_for_its_time_however_long_turns_are_kept(
    path: Path, action: str, turns_days: int
) -> None:
    async with opened(path, turns_days=turns_days) as store:
        await store.queue_command("teddy", action, value=0.5, phrase="joke-1", now_s=NOW_S)
        (stored,) = await store.list_commands("teddy", 9)
        assert stored.expires_at_s - NOW_S == (600 if action in ("play", "celebrate", "restart") else 30 * DAY_S)
        await store.sweep(stored.expires_at_s - 1)
        assert len(await store.pending_commands("teddy", stored.expires_at_s - 1)) == 1
        assert await store.pending_commands("teddy", stored.expires_at_s) == []
        await store.sweep(NOW_S + 30 * DAY_S)
        assert await store.list_commands("teddy", 9) == []


async def test_the_sweep_removes_commands_that_were_done_too_long_ago(path: Path) -> None:
    async with opened(path, turns_days=2) as store:
        for action, done_days in (("pause", 3), ("volume", 1)):
            id = await store.queue_command("teddy", action, now_s=NOW_S - 4 * DAY_S)
            await store.command_done("teddy", id, None, NOW_S - done_days * DAY_S)
        assert await store.sweep(NOW_S) == 1
        assert [stored.command.action for stored in await store.list_commands("teddy", 9)] == ["volume"]


async def test_a_command_of_another_process_is_seen_at_once(path: Path) -> None:
    async with opened(path) as relay, opened(path) as cli:
        id = await cli.queue_command("teddy", "celebrate", now_s=NOW_S)
        assert [command.id for command in await relay.pending_commands("teddy", NOW_S)] == [id]
        await relay.command_done("teddy", id, None, NOW_S + 1)
        found = await cli.find_command(id)
        assert found is not None and found.done_at_s == NOW_S + 1


# --- phrases ----------------------------------------------------------------------------------------------------------


async def test_sounds_are_kept_by_text_and_voice(path: Path) -> None:
    sound = bytes(range(256)) * 40
    async with opened(path) as store:
        assert await store.find_sound("text", "voice") is None
        assert await store.sound("text", "voice", 0, 10) == b""
        await store.keep_sound("text", "voice", "sha", sound)
        await store.keep_sound("text", "other", "sha2", b"other")
    async with opened(path) as store:
        assert await store.find_sound("text", "voice") == ("voice", "sha", len(sound))
        assert await store.find_sound("text", "other") == ("other", "sha2", 5)
        assert await store.find_sound("text", "third") == ("other", "sha2", 5), "of other voices the latest"
        assert await store.sound("text", "voice", 0, 99_999) == sound
        assert await store.sound("text", "voice", 1_000, 7) == sound[1_000:1_007]
        assert await store.sound("text", "voice", len(sound), 7) == b""
        await store.keep_sound("text", "voice", "sha3", b"new")
        assert await store.find_sound("text", "voice") == ("voice", "sha3", 3)


async def test_sounds_of_other_texts_and_voices_are_let_go(path: Path) -> None:
    async with opened(path) as store:
        for text in ("a", "b", "c"):
            await store.keep_sound(text, "now", "sha", b"x")
            await store.keep_sound(text, "before", "sha", b"x")
        await store.keep_only([("a", "now"), ("c", "before")])
        kept = rows(path, "SELECT text_sha, voice FROM phrases ORDER BY text_sha")
        assert [(row["text_sha"], row["voice"]) for row in kept] == [("a", "now"), ("c", "before")]
        await store.keep_only([])
        assert rows(path, "SELECT text_sha FROM phrases") == []


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_a_file_from_before_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(database, "MIGRATIONS", database.MIGRATIONS[:2])
        async with opened(path) as store:
            await store.record(turn())
    async with opened(path) as store:
        assert await store.store_events("teddy", [event(1)], NOW_S) == {"e1"}
        assert len(rows(path)) == 1


async def test_talk_is_added_up_for_each_toy(path: Path) -> None:
    async with opened(path) as store:
        for number, at_s in enumerate((NOW_S - 1, NOW_S, NOW_S + 5), start=1):
            await store.record(turn(number=number, at_s=at_s, uplink_packets=10 * number, downlink_packets=1))
        await store.record(turn("panda", at_s=NOW_S, uplink_packets=0, downlink_packets=7))
        assert await store.talked_since(NOW_S) == {"teddy": 52, "panda": 7}
        assert await store.talked_since(NOW_S + 6) == {}


async def test_many_writers_at_once(path: Path) -> None:
    """The relay and the command line, each with its own connection."""
    stores = await asyncio.gather(*(SqliteStore.open(StoreSettings(str(path))) for _ in range(3)))
    await asyncio.gather(*(store.store_events("teddy", events(20, 10 * n), NOW_S) for n, store in enumerate(stores)))
    assert len(rows(path, "SELECT * FROM events")) == 40
    for store in stores:
        await store.close()


async def test_no_error_of_these_tables_holds_what_was_to_be_stored(path: Path) -> None:
    async with opened(path) as store:
        await store._run(lambda: store._connection.execute("DROP TABLE events"))
        with pytest.raises(StoreError) as caught:
            await store.store_events("teddy", [event(1, note="CANARY")], NOW_S)
    assert "CANARY" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert isinstance(caught.value.__cause__, sqlite3.Error) and json.dumps("CANARY") not in str(caught.value)
