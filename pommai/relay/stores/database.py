"""The relay's SQLite file: how it is opened, and its tables as numbered migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
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
