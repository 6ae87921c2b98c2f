"""SQLite files of our own: for the owner's eyes only, migrated step by step, and with errors that say what to do.

Only the user who runs pommai may read such a file, from its first byte. SQLite gives `-wal` and `-shm` the mode of the
main file, so that one is made here before SQLite sees it. A file that is not ours is refused and stays as it was, with
its mode. What the tables are for, only the migrations know.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pommai.errors import StoreError

if TYPE_CHECKING:
    from sqlite_utils import Database as Database

MODE: Final = 0o600
BUSY_S: Final = 5.0
"""How long to wait for another process that uses the file before giving up."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is in a file. `application_id` stands in its header, so that no other program's database is ever migrated.

    `migrations`: step n brings a file from version n to n + 1; `PRAGMA user_version` counts the steps that were done.
    """

    application_id: int
    migrations: tuple[Callable[[Database], None], ...]


def open_database(path: Path, schema: Schema, pragmas: Sequence[str], *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """A connection to the file at `path`, made and migrated where needed; autocommit, bound to this thread.

    `pragmas`: as in "synchronous = NORMAL", after WAL and before the migrations. Raises StoreError, with the path and
    what is wrong.
    """
    connection = connect(path, busy_s=busy_s)
    try:
        prepare(connection, path, schema, pragmas)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def connect(path: Path, *, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """A connection to the file at `path`, empty and private if it is new; SQLite has not read it. Raises StoreError."""
    _make(path)
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=busy_s, isolation_level=None, uri=True)
    except sqlite3.Error as error:
        raise store_error(path, error) from error


def beside(path: Path) -> tuple[Path, Path]:
    """What SQLite keeps beside the file at `path`: the log and its index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _make(path: Path) -> None:
    """See that the file exists, can be written, and that nobody but its owner can read a new one. Raises StoreError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{path} is not a file")
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: the folder {path.parent} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be opened for writing: {error.strerror}") from error


def _make_private(path: Path) -> None:
    """Let nobody but its owner read a file of ours, nor what SQLite keeps beside it. Raises StoreError."""
    try:
        for each in (path, *beside(path)):
            if each.exists():
                each.chmod(MODE)
    except OSError as error:
        raise StoreError(f"{path} cannot be made private: {error.strerror}") from error


def prepare(connection: sqlite3.Connection, path: Path, schema: Schema, pragmas: Sequence[str]) -> None:
    """Write-ahead logging, the settings, and the tables as they are today. Raises StoreError and sqlite3.Error.

    Nothing is written to a file that is refused.
    """
    _check(connection, path, schema)
    _make_private(path)
    with closing(connection.execute("PRAGMA journal_mode = WAL")) as cursor:
        cursor.fetchone()
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    if number(connection, "user_version") != len(schema.migrations):
        _migrate(connection, path, schema)


def _migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Bring the tables up to date, one numbered step at a time, all in one transaction."""
    from sqlite_utils import Database  # a quarter of a second, needed only here

    newest = len(schema.migrations)
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check(connection, path, schema)  # another process may have been faster
        database = Database(connection)
        for step in schema.migrations[number(connection, "user_version") :]:
            step(database)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Raise StoreError for a file that must not be touched."""
    if is_foreign(connection, schema):
        raise StoreError(f"{path} is the database of another program")
    version, newest = number(connection, "user_version"), len(schema.migrations)
    if version > newest:
        raise StoreError(f"{path} was written by a newer pommai (schema {version}, known up to {newest})")


def is_foreign(connection: sqlite3.Connection, schema: Schema) -> bool:
    """Whether the tables in the file were made by another program."""
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
        return False  # asked first: tables of ours come together with the number, whoever makes them meanwhile
    return number(connection, "application_id") != schema.application_id


def number(connection: sqlite3.Connection, pragma: str) -> int:
    """The value of a PRAGMA that is a number."""
    value: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value


def error_code(error: sqlite3.Error) -> int:
    """The kind of error, as one of SQLite's primary result codes (`sqlite3.SQLITE_FULL` and the like)."""
    code: Any = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return int(code) & 0xFF  # the low byte is the kind of error


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What an error of SQLite means for the owner of the file. SQLite's own texts never hold stored values."""
    meaning = {
        sqlite3.SQLITE_NOTADB: "is not an SQLite database",
        sqlite3.SQLITE_CORRUPT: "is damaged: restore a backup, or move it away to begin anew",
        sqlite3.SQLITE_BUSY: "is locked by another program",
        sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
        sqlite3.SQLITE_READONLY: "may not be written",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened",
        sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
    }.get(error_code(error), f"cannot be used: {error}")
    return StoreError(f"{path} {meaning}")
