"""Events that the relay must get exactly once: they stay until it has acknowledged their ids, within bounds.

Where there is no room, the oldest go first: what the relay has, then what matters little, and what is urgent last.
Every method runs in the cache's thread, inside its transaction.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pommai.device.settings import CacheSettings
from pommai.errors import LocalProtocolError, ProtocolError
from pommai.protocol import EventBatch, EventRecord
from pommai.wire import decode, encode, encoded_size

_log = logging.getLogger(__name__)

DAY_S: Final = 86_400.0

LOW_KINDS: Final = frozenset({"log", "telemetry"})
"""What is given up first, when there is no room."""

LOG_EVERY: Final = 100
"""A spool without room says so at the first event that it gives up, and then at every hundredth."""

LOW, NORMAL, URGENT = 0, 1, 2

UNSURE: Final = '%"clock":"unsure"%'
"""In the data of an event that was written by a clock that nobody had set: its age means nothing."""

_INSERT: Final = """
    INSERT OR IGNORE INTO events (id, kind, at_s, priority, pending, size, data) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_UNSENT: Final = """
    SELECT seq, id, kind, at_s, priority, data FROM events
    WHERE pending = 1 AND (priority = 2) = ? ORDER BY at_s, seq LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class SpoolSize:
    """How full the spool is: events that the relay does not have, the urgent ones among them, all rows, all bytes."""

    unsent: int
    urgent: int
    rows: int
    size_bytes: int


class Spool:
    """The table of events."""

    def __init__(self, connection: sqlite3.Connection, settings: CacheSettings) -> None:
        """Nothing is read yet."""
        self._connection = connection
        self._settings = settings
        self._max_bytes = settings.max_event_kb * 1000
        self._rows, self._bytes = 0, 0
        self._counted = False
        self._given_up = 0
        self._acknowledged: frozenset[str] = frozenset()

    def forget_counts(self) -> None:
        """Count anew before the next use: the transaction was undone, or rows went that nobody counted."""
        self._counted = False
        self._acknowledged = frozenset()

    def _count(self) -> None:
        if not self._counted:
            sql = "SELECT count(*), coalesce(sum(size), 0) FROM events"
            self._rows, self._bytes = self._connection.execute(sql).fetchone()
            self._counted = True

    def append(self, event: EventRecord, *, pending: bool = True) -> None:
        """Keep an event; the same id twice is kept once, and is no longer pending if either was not."""
        priority = URGENT if event.urgent else LOW if event.kind in LOW_KINDS else NORMAL
        size = encoded_size(event)
        data = json.dumps(dict(event.data), separators=(",", ":"))
        row = (event.id, event.kind, event.at_s, priority, int(pending), size, data)
        self._count()
        if self._connection.execute(_INSERT, row).rowcount:
            self._rows += 1
            self._bytes += size
            self._make_room()
        elif not pending:
            self.acknowledge([event.id])

    def unsent(
        self, max_events: int, max_bytes: int, without: Collection[str] = frozenset()
    ) -> tuple[EventRecord, ...]:
        """What the relay does not have: urgent ones first, then the oldest, and no more than `max_bytes` on the wire.

        One event is returned even if it is larger, so that no event blocks those behind it; `without` these ids.
        """
        count = max_events + len(without)
        rows = self._connection.execute(_UNSENT, (1, count)).fetchall()
        if len(rows) < count:
            rows += self._connection.execute(_UNSENT, (0, count - len(rows))).fetchall()
        events: list[EventRecord] = []
        unreadable = []
        room = max_bytes
        for seq, *row in rows:
            event = event_from(row)
            if event is None:
                unreadable.append(seq)
                continue
            if event.id in self._acknowledged:
                raise _damaged_index()
            if event.id in without:
                continue
            if len(events) == max_events:
                break
            room -= encoded_size(event)
            if events and room < 0:
                break
            events.append(event)
        if unreadable:
            self._drop(unreadable)
        if unreadable and not events:
            return self.unsent(max_events, max_bytes, without)
        return tuple(events)

    def acknowledge(self, ids: Iterable[str]) -> None:
        """The relay has these; they stay as history. Unknown ids are ignored."""
        acknowledged = frozenset(ids)
        self._connection.executemany("UPDATE events SET pending = 0 WHERE id = ?", [(each,) for each in acknowledged])
        self._acknowledged = acknowledged

    def sweep(self, now_s: float) -> int:
        """Remove what is older than the settings allow; the number of events removed.

        What is urgent waits for the relay however long it takes, and so does what was written by a clock that nobody
        had set; only a lack of room can remove that.
        """
        self._count()
        before = self._rows
        sent_s = now_s - self._settings.keep_sent_days * DAY_S
        waited_s = self._settings.keep_unsent_days * DAY_S
        self._connection.execute("DELETE FROM events WHERE pending = 0 AND at_s < ?", (sent_s,))
        too_old = "DELETE FROM events WHERE pending = 1 AND priority < 2 AND at_s < ? AND data NOT LIKE ?"
        given_up = self._connection.execute(too_old, (now_s - waited_s, UNSURE)).rowcount
        if given_up:
            _log.warning("events given up, too old count=%d", given_up)
        self.forget_counts()
        self._count()
        self._make_room()
        return before - self._rows

    def size(self) -> SpoolSize:
        """How full the spool is."""
        sql = "SELECT count(*), coalesce(sum(priority = 2), 0) FROM events WHERE pending = 1"
        unsent, urgent = self._connection.execute(sql).fetchone()
        self._count()
        return SpoolSize(unsent, urgent, self._rows, self._bytes)

    def _make_room(self) -> None:
        while (over := self._rows - self._settings.max_events) > 0 or self._bytes > self._max_bytes:
            sql = "SELECT seq, size, pending FROM events ORDER BY pending, priority, at_s, seq LIMIT ?"
            for seq, size, pending in self._connection.execute(sql, (max(1, over),)).fetchall():
                self._connection.execute("DELETE FROM events WHERE seq = ?", (seq,))
                self._rows -= 1
                self._bytes -= size
                self._given_up += pending
                if pending and self._given_up % LOG_EVERY == 1:
                    _log.warning("events given up, no room count=%d", self._given_up)

    def _drop(self, unreadable: list[int]) -> None:
        _log.error("events dropped, unreadable count=%d", len(unreadable))
        self._connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in unreadable])
        self.forget_counts()


def _damaged_index() -> sqlite3.DatabaseError:
    """What to raise for a row that one index finds and another does not: it would be sent without end."""
    error = sqlite3.DatabaseError("an index does not match its table")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def event_from(row: Iterable[Any]) -> EventRecord | None:
    """The event of a row (id, kind, at_s, priority, data); None if it is not one that can be sent."""
    try:
        id_, kind, at_s, priority, data = row
        event = EventRecord(id_, kind, at_s, priority == URGENT, json.loads(data))
        check(event)
    except (ProtocolError, ValueError, TypeError):  # from a damaged file anything may come
        return None
    return event


def check(event: EventRecord) -> None:
    """Raise LocalProtocolError for an event that no relay would take: it would block all others."""
    try:
        decode(encode(EventBatch((event,))))
    except ProtocolError as error:
        raise LocalProtocolError(f"an event of kind {event.kind} that cannot be sent") from error
