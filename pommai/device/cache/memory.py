"""Small things that the toy remembers, and a ring of log entries without words.

Log entries are gathered and written together: with the next commit, or when there are enough of them, or when the first
has waited long enough. Every method runs in the cache's thread, inside its transaction.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pommai.protocol import Value

_log = logging.getLogger(__name__)

MAX_ENTRIES: Final = 2000
"""The ring: the oldest entries make room for new ones."""

GATHER: Final = 64
GATHER_S: Final = 5.0
"""So many entries, or so long, until they are written without another reason to write."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something that happened: Unix seconds, a token, and tokens and numbers."""

    at_s: float
    kind: str
    data: Mapping[str, Value] = field(default_factory=dict)


class Memory:
    """The tables of things to remember and of log entries."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Nothing is gathered yet."""
        self._connection = connection
        self._gathered: list[LogEntry] = []
        self._since_s = math.inf

    def recall(self, key: str) -> Any:
        """The JSON value under `key`; None if there is none, or if it cannot be read."""
        row = self._connection.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except (ValueError, TypeError):  # damaged on the disk: anything may come
            _log.error("memory dropped, unreadable")
            return None

    def remember(self, key: str, value: str) -> None:
        """Keep a value, as JSON text."""
        self._connection.execute("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", (key, value))

    def gather(self, entry: LogEntry, now_s: float) -> bool:
        """Keep an entry to be written later; whether it is time to write. `now_s`: any clock that only goes forward."""
        self._since_s = min(self._since_s, now_s)
        self._gathered.append(entry)
        return len(self._gathered) >= GATHER or now_s - self._since_s >= GATHER_S

    def write(self) -> None:
        """Write what was gathered. It stays gathered until `written`: the transaction may yet be undone."""
        if not self._gathered:
            return
        rows = [(entry.at_s, entry.kind, json.dumps(dict(entry.data))) for entry in self._gathered]
        self._connection.executemany("INSERT INTO log (at_s, kind, data) VALUES (?, ?, ?)", rows)
        self._connection.execute("DELETE FROM log WHERE number <= (SELECT max(number) FROM log) - ?", (MAX_ENTRIES,))

    def written(self) -> None:
        """The transaction of `write` is committed."""
        self._gathered.clear()
        self._since_s = math.inf

    def take_over(self, other: Memory) -> None:
        """What another memory gathered and could not write is this one's now."""
        self._gathered += other._gathered
        self._since_s = min(self._since_s, other._since_s)

    def recent(self, count: int) -> tuple[LogEntry, ...]:
        """The last `count` entries, oldest first."""
        sql = "SELECT at_s, kind, data FROM log ORDER BY number DESC LIMIT ?"
        rows = self._connection.execute(sql, (count,)).fetchall()
        return tuple(entry for row in reversed(rows) if (entry := entry_from(*row)) is not None)


def entry_from(at_s: Any, kind: Any, data: Any) -> LogEntry | None:
    """The entry of a row; None if it cannot be read."""
    try:
        return LogEntry(float(at_s), str(kind), dict(json.loads(data)))
    except (ValueError, TypeError):  # damaged on the disk: anything may come
        return None
