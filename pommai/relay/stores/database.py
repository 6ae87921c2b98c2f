"""Opening the relay's SQLite file: for the owner's eyes only, migrated, and with errors that say what to do.

Only the relay's user may read the file, from its first byte. SQLite gives `-wal` and `-shm` the mode of the main file,
so that one is made here before SQLite sees it. What the tables are for, only `MIGRATIONS` knows.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pommai.errors import StoreError

if TYPE_CHECKING:
    from sqlite_utils import Database

MODE: Final = 0o600
BUSY_S: Final = 5.0
"""How long to wait for another process (the CLI beside the relay) before giving up."""

APPLICATION_ID: Final = 0x706F6D61
"""`poma` in the file's header, so that another program's database is never migrated by mistake."""


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the file at `path`, made and migrated where needed; autocommit, bound to this thread.

    Raises StoreError, with the path and what is wrong.
    """
    _make_private(path)
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", timeout=BUSY_S, isolation_level=None, uri=True
        )
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """See that the file exists and that nobody but its owner can read it, nor what SQLite keeps beside it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{path} is not a file")
            os.fchmod(descriptor, MODE)
        finally:
            os.close(descriptor)
        for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if beside.exists():
                beside.chmod(MODE)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: the folder {path.parent} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be opened for writing: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    with closing(connection.execute("PRAGMA journal_mode = WAL")) as cursor:
        cursor.fetchone()
    connection.execute(
        "PRAGMA synchronous = NORMAL"
    )  # with WAL: safe against a crash, a power cut loses the last turns
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # VACUUM must not copy words into a temporary file
    if _number(connection, "user_version") != len(MIGRATIONS):
        _migrate(connection, path)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to date, one numbered step at a time, all in one transaction."""
    from sqlite_utils import Database  # a quarter of a second, needed only here

    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _number(connection, "user_version")
        if version > len(MIGRATIONS):
            raise StoreError(f"{path} was written by a newer pommai (schema {version}, known up to {len(MIGRATIONS)})")
        if _number(connection, "application_id") != APPLICATION_ID and _has_tables(connection):
            raise StoreError(f"{path} is the database of another program")
        database = Database(connection)
        for step in MIGRATIONS[version:]:
            step(database)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What an error of SQLite means for the owner of the relay. SQLite's own texts never hold stored values."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the kind of error
    meaning = {
        sqlite3.SQLITE_NOTADB: "is not an SQLite database",
        sqlite3.SQLITE_CORRUPT: "is damaged: restore a backup, or move it away to begin anew",
        sqlite3.SQLITE_BUSY: f"is locked by another program for more than {BUSY_S:g} s",
        sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
        sqlite3.SQLITE_READONLY: "may not be written",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened",
        sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
    }.get(code, f"cannot be used: {error}")
    return StoreError(f"{path} {meaning}")


# --- migrations: never change one that was released; append the next --------------------------------------------------


def _turns_and_tokens(database: Database) -> None:
    """1: turns with their times, verdicts and (where wanted) words; device tokens as digests."""
    database.table("turns").create(
        {
            "toy": str,
            "started_at_ms": int,
            "turn": int,
            "outcome": str,
            "source": str,
            "error": str,
            "tokens": int,
            "uplink_packets": int,
            "downlink_packets": int,
            "ms": str,
            "verdicts": str,
            "heard": str,
            "said": str,
        },
        pk=("toy", "started_at_ms", "turn"),
        not_null={"outcome", "tokens", "uplink_packets", "downlink_packets", "ms", "verdicts"},
    )
    database.table("turns").create_index(["started_at_ms"])
    database.table("tokens").create(
        {
            "token_id": str,
            "toy": str,
            "digest": bytes,
            "created_at_s": float,
            "last_used_at_s": float,
            "revoked_at_s": float,
        },
        pk="token_id",
        not_null={"toy", "digest", "created_at_s"},
    )
    database.table("tokens").create_index(["toy"])


def _forgotten(database: Database) -> None:
    """2: which toys were forgotten when, by digests, so that no turn of before is stored afterwards."""
    database.table("forgotten").create({"digest": bytes, "at_s": float}, pk="digest", not_null={"at_s"})


MIGRATIONS: Final[tuple[Callable[[Database], None], ...]] = (_turns_and_tokens, _forgotten)
"""Step n brings a file from version n to n + 1; `PRAGMA user_version` counts the steps that were done."""
