"""The toy's SQLite file: its tables as numbered migrations, and how it is opened and checked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pommai import sqlite
from pommai.errors import StoreError

if TYPE_CHECKING:
    from pommai.sqlite import Database

APPLICATION_ID: Final = 0x706F6D74
"""`pomt` in the file's header."""

BUSY_S: Final = 2.0
"""How long to wait for another process (the CLI beside the daemon): a toy that waits longer seems dead."""

PRAGMAS: Final = ("synchronous = FULL", "temp_store = MEMORY")
"""A new file must not vanish at the first power cut; NORMAL comes when it is ready."""

DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
"""Codes that speak of damage; the last one because our statements fit our tables: then these are not ours any more."""

MAX_VERSION: Final = 1000
"""A schema beyond this is no newer one, but a header with flipped bits."""


class Damaged(StoreError):
    """The toy's database is damaged.

    It is set aside, and a new one is made.
    """


class Newer(StoreError):
    """The toy's database was written by a newer pommai.

    It is set aside until that version is installed again.
    """

    def __init__(self, version: int) -> None:
        """`version`: the schema of the file."""
        super().__init__(f"the database has schema {version}")
        self.version = version


def schema() -> sqlite.Schema:
    """What this version of pommai keeps in the file."""
    return sqlite.Schema(APPLICATION_ID, MIGRATIONS)


def make_ready(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file behind `connection` and bring it up to date; nothing is written to one that cannot be used.

    Raises Damaged, Newer, or StoreError for whatever else is wrong.
    """
    _read_anything(connection)
    try:
        _look(connection, path)
        sqlite.prepare(connection, path, schema(), PRAGMAS)
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError as error:
        kind = Damaged if sqlite.error_code(error) in DAMAGED else StoreError
        raise kind(str(sqlite.store_error(path, error))) from error


def _look(connection: sqlite3.Connection, path: Path) -> None:
    """Raise what is wrong with the file, if it can be seen from outside."""
    if sqlite.is_foreign(connection, schema()) and not _has_events(connection):
        raise StoreError(f"{path} is the database of another program")
    version = sqlite.number(connection, "user_version")
    if len(MIGRATIONS) < version < MAX_VERSION:
        raise Newer(version)
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    ours = not sqlite.is_foreign(connection, schema()) and 0 <= version < MAX_VERSION
    if verdict != "ok" or not ours:
        raise Damaged(f"{path} is damaged")


def _has_events(connection: sqlite3.Connection) -> bool:
    """Whether the table is there that every version has: then it is our file, whatever its header says."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'events'"
    return connection.execute(sql).fetchone() is not None


def fold_log(connection: sqlite3.Connection) -> None:
    """Write the log back into the file, so that the file is whole without it. Raises sqlite3.Error."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy, "nobody else knows of this file"


def open_memory() -> sqlite3.Connection:
    """A database that lasts as long as its connection, with the same tables."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    sqlite.prepare(connection, Path(":memory:"), schema(), ())
    _read_anything(connection)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection to a file that cannot be written; None if it cannot be read either.

    On a read-only disk SQLite can make no index for its log: the file is then read as it is, without the last commits
    of a toy that was switched off.
    """
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", isolation_level=None, uri=True)
        except sqlite3.Error:
            continue
        try:
            connection.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that was cut off
            with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as cursor:
                cursor.fetchone()
        except sqlite3.Error:
            connection.close()
            continue
        _read_anything(connection)
        return connection
    return None


def _read_anything(connection: sqlite3.Connection) -> None:
    """Let a text with flipped bits be read as one with holes: whoever reads it checks it, and drops only this row."""
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")


# --- migrations: never change one that was released; append the next --------------------------------------------------


def _events(database: Database) -> None:
    """1: the spool. `priority`: 0 low, 1 normal, 2 urgent. `pending`: 0 as soon as the relay has it."""
    database.table("events").create(
        {
            "seq": int,
            "id": str,
            "kind": str,
            "at_s": float,
            "priority": int,
            "pending": int,
            "size": int,
            "data": str,
        },
        pk="seq",
        not_null={"id", "kind", "at_s", "priority", "pending", "size", "data"},
    )
    database.table("events").create_index(["id"], unique=True)
    database.table("events").create_index(["pending", "priority", "at_s"])


def _phrases(database: Database) -> None:
    """2: phrases as the manifest wants them, the audio that is held, and the pieces of audio on its way."""
    database.table("phrases").create(
        {
            "id": str,
            "position": int,
            "kind": str,
            "sha256": str,
            "size": int,
            "held_sha256": str,
            "held_size": int,
            "audio": bytes,
        },
        pk="id",
        not_null={"position", "kind", "sha256", "size"},
    )
    database.table("pieces").create(
        {"phrase": str, "start": int, "piece": bytes}, pk=("phrase", "start"), not_null={"piece"}
    )


def _memory(database: Database) -> None:
    """3: small things to remember, as JSON, and the ring of log entries."""
    database.table("memory").create({"key": str, "value": str}, pk="key", not_null={"value"})
    database.table("log").create(
        {"number": int, "at_s": float, "kind": str, "data": str}, pk="number", not_null={"at_s", "kind", "data"}
    )


MIGRATIONS: Final = (_events, _phrases, _memory)
