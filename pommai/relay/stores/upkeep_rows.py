"""What is not about turns: events that toys report, commands that wait for them, and the sound of phrases.

Events and commands are on the disk before anybody is told so (`durably`): a toy lets go of an event that is
acknowledged, and a parent of a command that is queued.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pommai.protocol import Command, ErrorCode, EventRecord
from pommai.relay.stores.database import durably
from pommai.relay.stores.worker import StoreFile

MAX_EVENTS: Final = 50_000
"""The most events of one toy; the oldest go first, and urgent ones last."""

EVENTS_SLACK: Final = 1_000
"""How many more there may be before they are counted out: not with every batch."""

MAX_EVENT_BYTES: Final = 16_000_000
"""The most that the data of one toy's events take; some ten times what `MAX_EVENTS` usual ones do."""

EVENT_BYTES_SLACK: Final = 1_000_000

MAX_PENDING: Final = 20
"""The most commands that a toy is sent and has not answered; the others follow its answers."""

PENDING_S: Final = 30 * 86_400.0
"""How long a command waits for a toy that does not come."""

MOMENTARY: Final = frozenset({"play", "celebrate", "restart"})
MOMENTARY_S: Final = 600.0
"""How long these wait: a song that somebody wished for this afternoon must not begin in the night."""

REPLACES: Final = (frozenset({"pause", "resume"}), frozenset({"volume"}), frozenset({"brightness"}))
"""Of each of these kinds only the newest command counts: those that still wait are given up for it."""

_INSERT_EVENT = """
    INSERT INTO events (toy, id, kind, at_s, urgent, data, received_at_s)
    SELECT ?, ?, ?, ?, ?, ?, ?
    WHERE ? OR NOT EXISTS (SELECT 1 FROM forgotten WHERE digest = ? AND at_s >= ?)
    ON CONFLICT (toy, id) DO NOTHING
"""
_TRIM_EVENTS = """
    DELETE FROM events WHERE rowid IN (
        SELECT id FROM (
            SELECT rowid AS id, count(*) OVER newest AS n_rows, sum(length(data)) OVER newest AS n_bytes
            FROM events WHERE toy = ? WINDOW newest AS (ORDER BY urgent DESC, received_at_s DESC, rowid DESC)
        ) WHERE n_rows > ? OR n_bytes > ?
    )
"""
_LAST_EVENTS = """
    SELECT id, kind, at_s, urgent, data, received_at_s FROM events
    WHERE toy = ? ORDER BY received_at_s DESC, rowid DESC LIMIT ?
"""
_COMMAND_COLUMNS = "id, action, value, phrase, created_at_s, done_at_s, code"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event, and when (Unix seconds) it came to the relay."""

    event: EventRecord
    received_at_s: float


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command and what became of it.

    `done_at_s`: None while it waits, and for ever if it expired. `code`: why it was refused, if it was; `replaced` by
    a newer one, it did not even wait any longer.
    """

    command: Command
    created_at_s: float
    done_at_s: float | None
    code: str | None

    @property
    def expires_at_s(self) -> float:
        """From then on the toy is not told any more (Unix seconds)."""
        return self.created_at_s + (MOMENTARY_S if self.command.action in MOMENTARY else PENDING_S)


class UpkeepRows(StoreFile):
    """The `UpkeepStore` and the `PhraseStore`, and what the command line asks of them."""

    # --- events -------------------------------------------------------------------------------------------------------

    async def store_events(self, toy: str, events: Sequence[EventRecord], now_s: float) -> set[str]:
        """Store, for good, those whose id is not stored yet; the ids of what was stored now.

        What happened before the toy was forgotten is not stored. But what is urgent always is, because a toy whose
        clock is wrong may date a call for help of today long ago; and so is what says that nobody had set its clock.
        """
        return await self._run(lambda: self._store_events(toy, events, now_s))

    async def list_events(self, toy: str, last: int) -> list[StoredEvent]:
        """The `last` events that came from a toy, in the order in which they happened."""
        rows = await self._run(lambda: self._connection.execute(_LAST_EVENTS, (toy, last)).fetchall())
        events = [
            StoredEvent(EventRecord(id, kind, at_s, bool(urgent), json.loads(data)), received_at_s)
            for id, kind, at_s, urgent, data, received_at_s in reversed(rows)
        ]
        return sorted(events, key=lambda stored: stored.event.at_s)

    def _store_events(self, toy: str, events: Sequence[EventRecord], now_s: float) -> set[str]:
        digest = toy_digest(toy)
        with durably(self._connection):
            new = set()
            for event in events:
                row = (toy, event.id, event.kind, event.at_s, event.urgent, json.dumps(dict(event.data)), now_s)
                undated = event.data.get("clock") == "unsure"
                if self._connection.execute(
                    _INSERT_EVENT, (*row, event.urgent or undated, digest, event.at_s)
                ).rowcount:
                    new.add(event.id)
            counting = "SELECT count(*), total(length(data)) FROM events WHERE toy = ?"
            n_events, n_bytes = self._connection.execute(counting, (toy,)).fetchone()
            if n_events > MAX_EVENTS + EVENTS_SLACK or n_bytes > MAX_EVENT_BYTES + EVENT_BYTES_SLACK:
                self._connection.execute(_TRIM_EVENTS, (toy, MAX_EVENTS, MAX_EVENT_BYTES))
        return new

    # --- commands -----------------------------------------------------------------------------------------------------

    async def queue_command(
        self, toy: str, action: str, *, value: float | None = None, phrase: str | None = None, now_s: float
    ) -> str:
        """Have a toy do something as soon as it can be told, in place of what it replaces; the command's id."""
        id = uuid.uuid4().hex
        await self._run(lambda: self._queue(toy, Command(id, action, value, phrase), now_s))
        return id

    async def pending_commands(self, toy: str, now_s: float) -> list[Command]:
        """What the toy has not answered yet and is not too old, oldest first; of very many, the oldest."""
        sql = """
            SELECT id, action, value, phrase FROM commands
            WHERE toy = ? AND done_at_s IS NULL
                AND created_at_s > iif(action IN (SELECT value FROM json_each(?)), ?, ?)
            ORDER BY created_at_s, rowid LIMIT ?
        """
        row = (toy, json.dumps([*MOMENTARY]), now_s - MOMENTARY_S, now_s - PENDING_S, MAX_PENDING)
        rows = await self._run(lambda: self._connection.execute(sql, row).fetchall())
        return [Command(*row) for row in rows]

    async def command_done(self, toy: str, id: str, code: ErrorCode | None, now_s: float) -> None:
        """The toy has answered a command; an answer to one that is not pending changes nothing."""
        sql = "UPDATE commands SET done_at_s = ?, code = ? WHERE toy = ? AND id = ? AND done_at_s IS NULL"
        await self._run(lambda: self._write(sql, now_s, code, toy, id))

    async def list_commands(self, toy: str, last: int) -> list[StoredCommand]:
        """The `last` commands for a toy, oldest first."""
        sql = f"SELECT {_COMMAND_COLUMNS} FROM commands WHERE toy = ? ORDER BY created_at_s DESC, rowid DESC LIMIT ?"
        rows = await self._run(lambda: self._connection.execute(sql, (toy, last)).fetchall())
        return [_command(row) for row in reversed(rows)]

    async def find_command(self, id: str) -> StoredCommand | None:
        """One command, and what became of it; None if there is none, or none any more."""
        sql = f"SELECT {_COMMAND_COLUMNS} FROM commands WHERE id = ?"
        row = await self._run(lambda: self._connection.execute(sql, (id,)).fetchone())
        return None if row is None else _command(row)

    # --- phrases ------------------------------------------------------------------------------------------------------

    async def find_sound(self, text_sha: str, voice: str) -> tuple[str, str, int] | None:
        """The voice, the SHA-256 (hex) and the size of what was spoken of this text; in this voice, if it was."""
        sql = """
            SELECT voice, sha256, length(audio) FROM phrases WHERE text_sha = ? ORDER BY voice = ? DESC, rowid DESC
        """
        found: tuple[str, str, int] | None = await self._run(
            lambda: self._connection.execute(sql, (text_sha, voice)).fetchone()
        )
        return found

    async def keep_sound(self, text_sha: str, voice: str, sha256: str, sound: bytes) -> None:
        """Keep what was spoken, in place of what was kept for this text in this voice."""
        sql = "INSERT OR REPLACE INTO phrases (text_sha, voice, sha256, audio) VALUES (?, ?, ?, ?)"
        await self._run(lambda: self._connection.execute(sql, (text_sha, voice, sha256, sound)).rowcount)

    async def sound(self, text_sha: str, voice: str, offset: int, n_bytes: int) -> bytes:
        """At most `n_bytes` of what was spoken, from byte `offset` on; nothing if it is not kept."""
        sql = "SELECT substr(audio, ?, ?) FROM phrases WHERE text_sha = ? AND voice = ?"
        row = await self._run(lambda: self._connection.execute(sql, (offset + 1, n_bytes, text_sha, voice)).fetchone())
        return b"" if row is None else bytes(row[0])

    async def keep_only(self, sounds: Collection[tuple[str, str]]) -> None:
        """Remove every sound but these; each is a text's SHA-256 (hex) and a voice."""
        sql = """
            DELETE FROM phrases WHERE (text_sha, voice) NOT IN (
                SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
            )
        """
        await self._run(lambda: self._connection.execute(sql, (json.dumps([*sounds]),)).rowcount)

    # --- in the worker thread -----------------------------------------------------------------------------------------

    def _queue(self, toy: str, command: Command, now_s: float) -> None:
        replacing = """
            UPDATE commands SET done_at_s = ?, code = ?
            WHERE toy = ? AND done_at_s IS NULL AND action IN (SELECT value FROM json_each(?))
        """
        replaced = [action for kind in REPLACES if command.action in kind for action in kind]
        sql = "INSERT INTO commands (id, toy, action, value, phrase, created_at_s) VALUES (?, ?, ?, ?, ?, ?)"
        with durably(self._connection):
            self._connection.execute(replacing, (now_s, ErrorCode.REPLACED, toy, json.dumps(replaced)))
            self._connection.execute(sql, (command.id, toy, command.action, command.value, command.phrase, now_s))

    def _write(self, sql: str, *row: object) -> None:
        with durably(self._connection):
            self._connection.execute(sql, row)

    def _forget_upkeep(self, toy: str) -> None:
        """Part of forgetting a toy, inside its transaction."""
        for table in ("events", "commands"):
            self._connection.execute(f"DELETE FROM {table} WHERE toy = ?", (toy,))

    def _sweep_upkeep(self, until_s: float, now_s: float) -> int:
        """Part of a sweep, inside its transaction: what came, or was done, before `until_s`; the rows removed.

        A command that nobody has answered goes when none like it could wait any longer.
        """
        events = self._connection.execute("DELETE FROM events WHERE received_at_s <= ?", (until_s,)).rowcount
        sql = "DELETE FROM commands WHERE done_at_s <= ? OR (done_at_s IS NULL AND created_at_s <= ?)"
        return events + self._connection.execute(sql, (until_s, now_s - PENDING_S)).rowcount


def toy_digest(toy: str) -> bytes:
    """What stands for a toy that was forgotten: its name would be a trace of it."""
    return hashlib.sha256(toy.encode()).digest()


def _command(row: tuple[str, str, float | None, str | None, float, float | None, str | None]) -> StoredCommand:
    return StoredCommand(Command(*row[:4]), *row[4:])
