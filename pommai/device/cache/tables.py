"""The parts of one open database, and the transaction that they share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pommai.device.cache.memory import Memory
from pommai.device.cache.phrases import MAX_BYTES_IN_MEMORY, Phrases
from pommai.device.cache.spool import Spool
from pommai.device.settings import CacheSettings
from pommai.packets import SHELF_BYTES


class Tables:
    """An open database. It belongs to the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection, settings: CacheSettings, *, in_memory: bool) -> None:
        """`in_memory`: there is no file behind `connection`, so that audio has little room."""
        self.connection = connection
        self.in_memory = in_memory
        self.spool = Spool(connection, settings)
        self.phrases = Phrases(connection, MAX_BYTES_IN_MEMORY if in_memory else SHELF_BYTES)
        self.memory = Memory(connection)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing, with what the log has gathered. `durable`: on the disk when this returns, come what may."""
        if durable:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.memory.write()
            self.connection.execute("COMMIT")
            self.memory.written()
        finally:
            if self.connection.in_transaction:
                self.spool.forget_counts()
                self.connection.execute("ROLLBACK")
            if durable:
                self.connection.execute("PRAGMA synchronous = NORMAL")
