"""The relay's SQLite file: how it is opened, and its tables as numbered migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pommai import sqlite

if TYPE_CHECKING:
    from pommai.sqlite import Database

APPLICATION_ID: Final = 0x706F6D61
"""`poma` in the file's header."""

BUSY_S: Final = sqlite.BUSY_S
"""How long to wait for another process (the CLI beside the relay) before giving up."""

PRAGMAS: Final = (
    "synchronous = NORMAL",  # with WAL: safe against a crash, a power cut loses the last turns
    "secure_delete = ON",
    "temp_store = MEMORY",  # VACUUM must not copy words into a temporary file
)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the file at `path`, made and migrated where needed; autocommit, bound to this thread.

    Raises StoreError, with the path and what is wrong.
    """
    return sqlite.open_database(path, sqlite.Schema(APPLICATION_ID, MIGRATIONS), PRAGMAS, busy_s=BUSY_S)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what is executed in the block; it is committed when the block ends well."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def durably(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that no power cut undoes, once the block has ended well."""
    connection.execute("PRAGMA synchronous = FULL")
    try:
        with transaction(connection):
            yield
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


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


def _upkeep(database: Database) -> None:
    """3: what toys report, what they are told to do, and phrases as sound; none of it is words."""
    database.table("events").create(
        {
            "toy": str,
            "id": str,
            "kind": str,
            "at_s": float,
            "urgent": int,
            "data": str,
            "received_at_s": float,
        },
        pk=("toy", "id"),
        not_null={"kind", "at_s", "urgent", "data", "received_at_s"},
    )
    database.table("events").create_index(["received_at_s"])
    database.table("commands").create(
        {
            "id": str,
            "toy": str,
            "action": str,
            "value": float,
            "phrase": str,
            "created_at_s": float,
            "done_at_s": float,
            "code": str,
        },
        pk="id",
        not_null={"toy", "action", "created_at_s"},
    )
    database.table("commands").create_index(["toy", "done_at_s"])
    database.table("phrases").create(
        {"text_sha": str, "voice": str, "sha256": str, "audio": bytes},
        pk=("text_sha", "voice"),
        not_null={"sha256", "audio"},
    )


MIGRATIONS: Final[tuple[Callable[[Database], None], ...]] = (_turns_and_tokens, _forgotten, _upkeep)
"""Step n brings a file from version n to n + 1; `PRAGMA user_version` counts the steps that were done."""
