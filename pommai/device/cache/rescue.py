"""Copies what can be read from one database into another: damaged, read-only, of another version, or in memory."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pommai import sqlite
from pommai.device.cache.memory import entry_from
from pommai.device.cache.phrases import REVISION
from pommai.device.cache.spool import event_from
from pommai.device.cache.tables import Tables
from pommai.protocol import PhraseEntry

_log = logging.getLogger(__name__)

PATIENCE: Final = 500
"""So many numbers of rows that cannot be read are tried one by one, some five pages of events; then in longer steps."""

MAX_MISSES: Final = 5_000
"""After so many, the rest of a table is given up: on a Pi Zero this takes a second."""

MAX_ROWID: Final = 2**62


def copy(source: sqlite3.Connection, target: Tables, *, prefer_source: bool, history: bool) -> None:
    """Copy events, phrases and memory, in the transaction of `target`.

    `prefer_source`: what `source` remembers and its phrases count, else what `target` has. `history`: events that the
    relay already has, too, and of a preferred source the log. Whatever cannot be read is left out.
    """
    source.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that was cut off
    try:
        _copy(source, target, prefer_source=prefer_source, history=history)
    finally:
        source.execute("PRAGMA writable_schema = OFF")


def _copy(source: sqlite3.Connection, target: Tables, *, prefer_source: bool, history: bool) -> None:
    reading = _Reading(source)
    unreadable = 0
    condition = "TRUE" if history else "pending = 1"
    for *row, pending in reading.rows("events", "id, kind, at_s, priority, data, pending", condition):
        event = event_from(row)
        if event is None:
            unreadable += 1
        else:
            target.spool.append(event, pending=bool(pending))
    for key, value in reading.rows("memory", "key, value"):
        if key != REVISION and _is_json(value) and (prefer_source or target.memory.recall(key) is None):
            target.memory.remember(key, value)
    _copy_phrases(reading, target, prefer_source=prefer_source)
    if history and prefer_source:
        for at_s, kind, data in reading.rows("log", "at_s, kind, data"):
            entry = entry_from(at_s, kind, data)
            if entry is not None:
                target.memory.gather(entry, math.inf)  # written with all the rest
    if unreadable or reading.misses:
        _log.error("not all of the database could be read")


def _copy_phrases(reading: _Reading, target: Tables, *, prefer_source: bool) -> None:
    """The phrases and the revision of the one that knows a manifest; without one, of both."""
    theirs = next((value for key, value in reading.rows("memory", "key, value") if key == REVISION), None)
    ours = target.memory.recall(REVISION)
    if ours is not None and not (prefer_source and theirs is not None):
        return
    rows = [row for row in reading.rows("phrases", "id, kind, sha256, size, position") if _is_entry(row)]
    if theirs is not None and prefer_source:
        target.phrases.manifest([])
    for *fields, position in rows:
        target.phrases.want(PhraseEntry(*fields), position)
    for phrase, sha256, blob in reading.rows("phrases", "id, held_sha256, audio", "audio IS NOT NULL"):
        if isinstance(sha256, str) and isinstance(blob, bytes):
            target.phrases.hold(phrase, sha256, blob)
    if theirs is not None and not reading.misses and _is_json(theirs):
        target.memory.remember(REVISION, theirs)


@dataclass(slots=True)
class _Reading:
    """Reads tables whose pages may be damaged. `misses`: how often something could not be read.

    `given_up`: the tables of which the log has been told.
    """

    source: sqlite3.Connection
    misses: int = 0
    given_up: set[str] = field(default_factory=set)

    def rows(self, table: str, columns: str, condition: str = "TRUE") -> Iterator[tuple[Any, ...]]:
        """Every row that can be read, in the order in which they were written; a damaged index hides none."""
        sql = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid > ? AND {condition} ORDER BY rowid"
        after, misses, step = 0, 0, 1
        while misses < MAX_MISSES and after < MAX_ROWID:
            try:
                for number, *row in self.source.execute(sql, (after,)):
                    after, step = number, 1
                    yield tuple(row)
            except sqlite3.DatabaseError as error:
                self.misses += 1
                if sqlite.error_code(error) != sqlite3.SQLITE_CORRUPT:
                    if table not in self.given_up:
                        _log.warning("table not rescued table=%s: %s", table, error)
                    self.given_up.add(table)
                    return
                misses += 1
                after += step  # past the damaged page, number by number
                if misses >= PATIENCE:
                    step *= 2
            else:
                return


def _is_json(value: Any) -> bool:
    try:
        json.loads(value)
    except (ValueError, TypeError):
        return False
    return True


def _is_entry(row: tuple[Any, ...]) -> bool:
    return [type(value) for value in row] == [str, str, str, int, int]
