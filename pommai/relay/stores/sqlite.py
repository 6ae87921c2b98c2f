"""Turns, device tokens and the toys' upkeep in one SQLite file: the default store, for a relay that stands alone.

Every statement runs in one worker thread, which owns the connection; the event loop never waits for the disk.
A turn's words are written only while `keep_words_days` is above 0. What is removed is gone from the file's bytes:
`secure_delete` alone leaves copies where SQLite moved rows between pages, so removal ends with VACUUM and an empty log.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from pommai.errors import StoreError
from pommai.relay.ports import ToyToken, TurnRecord
from pommai.relay.stores.database import transaction
from pommai.relay.stores.upkeep_rows import UpkeepRows, toy_digest

DAY_S: Final = 86_400.0

FORGOTTEN_DAYS: Final = 366
"""How long a toy is known to be forgotten: longer than any toy keeps what it could not send."""

_INSERT = """
    INSERT INTO turns (toy, started_at_ms, turn, outcome, source, error, tokens, uplink_packets,
                                 downlink_packets, ms, verdicts, heard, said)
    SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE digest = ? AND at_s >= ?)
    ON CONFLICT (toy, started_at_ms, turn) DO NOTHING
"""
_FORGET_WORDS = "UPDATE turns SET heard = NULL, said = NULL WHERE started_at_ms <= ? AND heard IS NOT NULL"
_TOKEN_COLUMNS = "token_id, toy, created_at_s, last_used_at_s, revoked_at_s"


class SqliteStore(UpkeepRows):
    """All that the relay keeps (`server.RelayStore`), in the file of the settings."""

    async def record(self, turn: TurnRecord) -> None:
        """Store a finished turn; the same toy, start and turn number twice is stored once.

        A turn that began before its toy was forgotten is not stored.
        """
        row = (
            *_row(turn, with_words=self._settings.keep_words_days > 0),
            toy_digest(turn.toy),
            turn.started_at_s,
        )
        await self._run(lambda: self._connection.execute(_INSERT, row).rowcount)

    async def forget(self, toy: str) -> int:
        """Remove everything about a toy but its tokens, from the file's bytes too; the number of turns removed."""
        return await self._run(lambda: self._forget(toy, time.time()))

    async def forgotten(self, since_s: Mapping[str, float]) -> set[str]:
        """Which of these toys were forgotten at the Unix time given for each, or later."""
        sql = "SELECT digest, at_s FROM forgotten"
        at_s = dict(await self._run(lambda: self._connection.execute(sql).fetchall()))
        return {toy for toy, begin_s in since_s.items() if at_s.get(toy_digest(toy), -math.inf) >= begin_s}

    async def sweep(self, now_s: float) -> int:
        """Remove words and rows that are older than the settings allow; the number of rows changed or removed."""
        return await self._run(lambda: self._sweep(now_s))

    async def talked_since(self, since_s: float) -> dict[str, int]:
        """How many packets, the child's and the toy's, were in the turns of each toy since a Unix time."""
        sql = """
            SELECT toy, sum(uplink_packets + downlink_packets) FROM turns WHERE started_at_ms >= ? GROUP BY toy
        """
        return dict(await self._run(lambda: self._connection.execute(sql, (since_s * 1000,)).fetchall()))

    # --- tokens -------------------------------------------------------------------------------------------------------

    async def add_token(self, token: ToyToken, digest: bytes) -> None:
        """Store a new token, as its digest."""
        sql = f"INSERT INTO tokens ({_TOKEN_COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?)"
        row = (token.token_id, token.toy, token.created_at_s, token.last_used_at_s, token.revoked_at_s, digest)
        await self._run(lambda: self._connection.execute(sql, row).rowcount)

    async def find_token(self, token_id: str) -> tuple[ToyToken, bytes] | None:
        """The token of that id with its digest, revoked or not; None if there is none."""
        sql = f"SELECT {_TOKEN_COLUMNS}, digest FROM tokens WHERE token_id = ?"
        row = await self._run(lambda: self._connection.execute(sql, (token_id,)).fetchone())
        return None if row is None else (ToyToken(*row[:-1]), row[-1])

    async def list_tokens(self, toy: str | None = None) -> list[ToyToken]:
        """The tokens of a toy, or of all toys, oldest first; revoked ones too."""
        sql = f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE ?1 IS NULL OR toy = ?1 ORDER BY toy, created_at_s, token_id"
        rows = await self._run(lambda: self._connection.execute(sql, (toy,)).fetchall())
        return [ToyToken(*row) for row in rows]

    async def revoke_tokens(self, toy: str, now_s: float) -> int:
        """Let no token of this toy in any more; the number of tokens that were valid until now."""
        sql = "UPDATE tokens SET revoked_at_s = ? WHERE toy = ? AND revoked_at_s IS NULL"
        return await self._run(lambda: self._connection.execute(sql, (now_s, toy)).rowcount)

    async def token_used(self, token_id: str, now_s: float) -> None:
        """Remember when a token last let a toy in."""
        sql = "UPDATE tokens SET last_used_at_s = ? WHERE token_id = ?"
        await self._run(lambda: self._connection.execute(sql, (now_s, token_id)).rowcount)

    # --- in the worker thread -----------------------------------------------------------------------------------------

    def _forget(self, toy: str, now_s: float) -> int:
        with transaction(self._connection):
            removed = self._connection.execute("DELETE FROM turns WHERE toy = ?", (toy,)).rowcount
            self._forget_upkeep(toy)
            self._connection.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (toy_digest(toy), now_s))
        self._scrub()
        return removed

    def _sweep(self, now_s: float) -> int:
        words_until_ms = int((now_s - self._settings.keep_words_days * DAY_S) * 1000)
        until_s = now_s - self._settings.keep_turns_days * DAY_S
        turns = "DELETE FROM turns WHERE started_at_ms <= ?"
        with transaction(self._connection):
            silenced = self._connection.execute(_FORGET_WORDS, (words_until_ms,)).rowcount
            removed = self._connection.execute(turns, (int(until_s * 1000),)).rowcount
            removed += self._sweep_upkeep(until_s, now_s)
            self._connection.execute("DELETE FROM forgotten WHERE at_s <= ?", (now_s - FORGOTTEN_DAYS * DAY_S,))
        if silenced or removed:
            self._scrub()
        return silenced + removed

    def _scrub(self) -> None:
        """Leave nothing of removed rows in the file or its log. Raises StoreError if a reader keeps the log in use."""
        self._connection.execute("VACUUM")
        (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(f"{self._path} is in use: the turns are removed, but not yet their bytes; try again")


def _row(turn: TurnRecord, *, with_words: bool) -> tuple[object, ...]:
    """A turn as the columns of `_INSERT`; times in ms after `ended`, or none where the utterance never ended."""
    ended_s = turn.marks_s.get("ended")
    ms = {} if ended_s is None else {stage: round((at_s - ended_s) * 1000, 1) for stage, at_s in turn.marks_s.items()}
    ms.pop("ended", None)
    return (
        turn.toy,
        round(turn.started_at_s * 1000),
        turn.turn,
        turn.outcome,
        turn.source,
        turn.error,
        turn.tokens,
        turn.uplink_packets,
        turn.downlink_packets,
        json.dumps(ms),
        json.dumps([{"layer": layer, **asdict(verdict)} for layer, verdict in turn.verdicts]),
        turn.heard if with_words else None,
        json.dumps(turn.said, ensure_ascii=False) if with_words else None,
    )
