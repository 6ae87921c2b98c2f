"""Phrases with their audio: what the relay's manifest names, what is held of it, and what is still to be fetched.

The audio of a phrase that has changed stays playable until the new one is complete. Pieces that have arrived survive a
restart. Every method runs in the cache's thread, inside its transaction.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pommai.errors import AudioError
from pommai.packets import unpack
from pommai.protocol import PhraseEntry

_log = logging.getLogger(__name__)

MAX_FAILURES: Final = 3
"""So often a phrase may fail before it is left alone until the next manifest or start."""

MAX_BYTES_IN_MEMORY: Final = 8_000_000
"""Room for audio without a file: a Pi Zero has 512 MB for everything."""

REVISION: Final = "phrases.revision"
"""Where the memory keeps the manifest's revision."""

_CURRENT: Final = "held_sha256 IS NOT NULL AND held_sha256 = sha256"


class Phrases:
    """The tables of phrases and of their pieces."""

    def __init__(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        """`max_bytes`: room for audio; a phrase that does not fit is not wanted."""
        self._connection = connection
        self._max_bytes = max_bytes
        self._failures: Counter[str] = Counter()

    def held(self) -> tuple[PhraseEntry, ...]:
        """The phrases that can be played, in the manifest's order."""
        sql = "SELECT id, kind, held_sha256, held_size FROM phrases WHERE audio IS NOT NULL ORDER BY position, id"
        return tuple(PhraseEntry(*row) for row in self._connection.execute(sql).fetchall())

    def packets(self, phrase: str) -> tuple[bytes, ...] | None:
        """The Opus packets of a phrase; None if it is not held. What cannot be unpacked is fetched again."""
        row = self._connection.execute("SELECT audio FROM phrases WHERE id = ?", (phrase,)).fetchone()
        if row is None or row[0] is None:
            return None
        try:
            return unpack(row[0])
        except (AudioError, TypeError):  # damaged on the disk: anything may come
            _log.error("phrase dropped, unreadable")
            sql = "UPDATE phrases SET audio = NULL, held_sha256 = NULL, held_size = NULL WHERE id = ?"
            self._connection.execute(sql, (phrase,))
            return None

    def manifest(self, entries: Sequence[PhraseEntry]) -> None:
        """From now on these are the phrases: others are removed, changed ones wanted anew. Failures are forgiven."""
        self._failures.clear()
        wanted = {entry.id for entry in entries}
        for (phrase,) in self._connection.execute("SELECT id FROM phrases").fetchall():
            if phrase not in wanted:
                self._connection.execute("DELETE FROM phrases WHERE id = ?", (phrase,))
                self._drop_pieces(phrase)
        for position, entry in enumerate(entries):
            self.want(entry, position)

    def want(self, entry: PhraseEntry, position: int) -> None:
        """Want this phrase, at this place of the manifest."""
        sql = "SELECT sha256, size FROM phrases WHERE id = ?"
        before = self._connection.execute(sql, (entry.id,)).fetchone()
        if before is not None and before != (entry.sha256, entry.size):
            self._drop_pieces(entry.id)
        sql = """
            INSERT INTO phrases (id, position, kind, sha256, size) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET position = excluded.position, kind = excluded.kind,
                sha256 = excluded.sha256, size = excluded.size
        """
        self._connection.execute(sql, (entry.id, position, entry.kind, entry.sha256, entry.size))

    def hold(self, phrase: str, sha256: str, blob: bytes) -> None:
        """Take the audio of another database, if it is whole, fits, and this one has nothing better for the phrase."""
        sql = f"SELECT sha256, audio IS NULL, {_CURRENT} FROM phrases WHERE id = ?"
        row = self._connection.execute(sql, (phrase,)).fetchone()
        if row is None or not is_whole(blob, sha256) or len(blob) > self._room():
            return
        wanted, silent, current = row
        if silent or (sha256 == wanted and not current):
            self._store(phrase, sha256, blob)

    def wanted(self) -> tuple[PhraseEntry, int] | None:
        """The next phrase to fetch, and from which byte on; None if there is nothing to do."""
        room = self._room()
        sql = f"SELECT id, kind, sha256, size FROM phrases WHERE NOT ({_CURRENT}) ORDER BY position"
        for row in self._connection.execute(sql).fetchall():
            entry = PhraseEntry(*row)
            if self._failures[entry.id] < MAX_FAILURES and 0 < entry.size <= room:
                return entry, self._arrived(entry.id)
        return None

    def add_piece(self, phrase: str, sha256: str, start: int, piece: bytes) -> bool:
        """Take a piece of audio; whether the phrase is now complete. What nobody wants any more is ignored.

        A gap, a byte too many or a wrong hash at the end: what has arrived is dropped, and fetched again. What was
        still on its way behind it has nothing to follow on, and is ignored.
        """
        sql = f"SELECT size, {_CURRENT} FROM phrases WHERE id = ? AND sha256 = ?"
        row = self._connection.execute(sql, (phrase, sha256)).fetchone()
        if row is None:
            return False
        size, complete = row
        if complete:
            return True
        arrived = self._arrived(phrase)
        if start and not arrived:
            return False
        if start != arrived or arrived + len(piece) > size:
            self._failed(phrase)
            return False
        self._connection.execute("INSERT INTO pieces (phrase, start, piece) VALUES (?, ?, ?)", (phrase, start, piece))
        return arrived + len(piece) == size and self._finish(phrase, sha256)

    def is_complete(self) -> bool:
        """Whether every phrase of the manifest is held as the manifest has it."""
        sql = f"SELECT NOT EXISTS (SELECT 1 FROM phrases WHERE NOT ({_CURRENT}))"
        return bool(self._connection.execute(sql).fetchone()[0])

    def _finish(self, phrase: str, sha256: str) -> bool:
        sql = "SELECT piece FROM pieces WHERE phrase = ? ORDER BY start"
        blob = b"".join(piece for (piece,) in self._connection.execute(sql, (phrase,)).fetchall())
        if not is_whole(blob, sha256):
            self._failed(phrase)
            return False
        self._store(phrase, sha256, blob)
        del self._failures[phrase]
        return True

    def _store(self, phrase: str, sha256: str, blob: bytes) -> None:
        sql = "UPDATE phrases SET audio = ?, held_sha256 = ?, held_size = ? WHERE id = ?"
        self._connection.execute(sql, (blob, sha256, len(blob), phrase))
        self._drop_pieces(phrase)

    def _room(self) -> int:
        held_bytes: int = self._connection.execute("SELECT coalesce(sum(held_size), 0) FROM phrases").fetchone()[0]
        return self._max_bytes - held_bytes

    def _failed(self, phrase: str) -> None:
        self._failures[phrase] += 1
        _log.warning("phrase arrived damaged count=%d", self._failures[phrase])
        self._drop_pieces(phrase)

    def _arrived(self, phrase: str) -> int:
        sql = "SELECT coalesce(sum(length(piece)), 0) FROM pieces WHERE phrase = ?"
        count: int = self._connection.execute(sql, (phrase,)).fetchone()[0]
        return count

    def _drop_pieces(self, phrase: str) -> None:
        self._connection.execute("DELETE FROM pieces WHERE phrase = ?", (phrase,))


def is_whole(blob: bytes, sha256: str) -> bool:
    """Whether `blob` is the audio that was announced, and can be played."""
    if hashlib.sha256(blob).hexdigest() != sha256:
        return False
    try:
        return bool(unpack(blob))
    except AudioError:
        return False
