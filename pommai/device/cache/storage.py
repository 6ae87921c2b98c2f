"""The database wherever it can live: in its file, in a new one where the file is damaged, or in memory.

A toy without a disk is still a toy: nothing that happens to the file stops it. Everything here runs in one thread.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pommai import sqlite
from pommai.device.cache import aside, database, files
from pommai.device.cache.database import Damaged, Newer
from pommai.device.cache.lock import InUseError, Lock
from pommai.device.cache.memory import LogEntry
from pommai.device.cache.rescue import copy
from pommai.device.cache.tables import Tables
from pommai.device.settings import CacheSettings
from pommai.errors import StoreError

T = TypeVar("T")

_log = logging.getLogger(__name__)

IN_MEMORY: Final = ":memory:"

MAX_REBUILDS: Final = 2
"""A file that is damaged more often, between two starts, is not made again: the card is bad."""

OURS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)
"""Errors that say something about our statements, not about the file."""


class Storage:
    """An open database that outlives its file."""

    def __init__(self, settings: CacheSettings, now_s: float, *, without: StoreError | None = None) -> None:
        """Open it. `now_s`: Unix time, for the name of a file that is set aside. Raises InUseError.

        `without`: why to live from memory for now, and not even look at the file.
        """
        self.problem = ""
        """Why the toy lives from memory; empty while all is well."""
        self._settings = settings
        self._path = Path(settings.path)
        self._lock = Lock(self._path)
        self._rebuilds = 0
        if settings.path == IN_MEMORY:
            self._tables = self._memory()
            return
        if without is not None:
            self._tables = self._memory()
            self._live_from_memory(without)
            return
        try:
            self._tables = self._open_file(now_s)
        except InUseError:
            raise
        except (StoreError, OSError, sqlite3.DatabaseError) as error:
            self._tables = self._memory()
            self._keep_what_can_be_read()
            self._live_from_memory(self._said(error))

    @property
    def lasts(self) -> bool:
        """Whether there is a file, so that what is kept outlives the process."""
        return not self._tables.in_memory

    def perform(self, call: Callable[[Tables], T], *, durable: bool = False) -> T:
        """The result of `call`, made in a transaction; `durable`: on the disk before this returns, if there is one."""
        while True:
            try:
                with self._tables.transaction(durable=durable):
                    return call(self._tables)
            except sqlite3.DatabaseError as error:
                self._recover(error)

    def read(self, call: Callable[[Tables], T]) -> T:
        """The result of `call`, which writes nothing that matters."""
        while True:
            try:
                return call(self._tables)
            except sqlite3.DatabaseError as error:
                self._recover(error)

    def gather(self, entry: LogEntry, now_s: float) -> bool:
        """Keep a log entry to be written with others; whether it is time to write. `now_s`: monotonic."""
        return self._tables.memory.gather(entry, now_s)

    def retry(self) -> bool:
        """Try the file again, if the toy lives from memory, and move over what was gathered; whether all is well."""
        if not self.problem:
            return True
        try:
            tables = self._open_file(time.time())
            try:
                with tables.transaction(durable=True):
                    copy(self._tables.connection, tables, prefer_source=True, history=True)
                    tables.memory.take_over(self._tables.memory)
            except BaseException:
                tables.connection.close()
                raise
        except (StoreError, OSError, sqlite3.DatabaseError) as error:
            self.problem = str(self._said(error))
            return False
        self._tables.connection.close()
        self._tables = tables
        if tables.in_memory:
            return False
        self.problem = ""
        _log.info("the cache is back in its file")
        return True

    def close(self) -> None:
        """Write what is gathered, in the file if that is possible again, and release it."""
        try:
            self.perform(lambda tables: None)
            self.retry()
        finally:
            self._tables.connection.close()
            self._lock.release()

    # --- when something is wrong --------------------------------------------------------------------------------------

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """Go on in a new file, or in memory. Raises `error` where neither helps."""
        if self._tables.in_memory or isinstance(error, OURS):
            raise error
        if sqlite.error_code(error) not in database.DAMAGED or self._rebuilds == MAX_REBUILDS:
            self._fall_back(self._said(error))
            return
        before = self._tables
        try:
            self._tables = files.rebuild(before.connection, self._path, self._settings, time.time())
        except (StoreError, OSError) as failure:
            self._fall_back(self._said(failure))
        else:
            self._rebuilds += 1
            self._tables.memory.take_over(before.memory)
            files.close(before.connection)

    def _fall_back(self, error: StoreError) -> None:
        """Go on in memory, with what can be read from the file."""
        before, self._tables = self._tables, self._memory()
        with self._tables.transaction():
            copy(before.connection, self._tables, prefer_source=True, history=False)
            self._tables.memory.take_over(before.memory)
        files.close(before.connection)
        self._live_from_memory(error)

    def _live_from_memory(self, error: StoreError) -> None:
        self.problem = str(error)
        _log.error("the cache lives in memory: %s", error)

    def _keep_what_can_be_read(self) -> None:
        source = database.open_for_reading(aside.in_place(self._path))
        if source is not None:
            with self._tables.transaction():
                copy(source, self._tables, prefer_source=True, history=False)
            files.close(source)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _open_file(self, now_s: float) -> Tables:
        """The file's tables, in a new file where the old one cannot be used. Raises StoreError."""
        self._lock.take()
        aside.finish_swap(self._path)
        connection = sqlite.connect(self._path, busy_s=database.BUSY_S)
        try:
            database.make_ready(connection, self._path)
        except Newer as newer:
            return self._begin_anew(connection, newer.version)
        except Damaged:
            try:
                return files.rebuild(connection, self._path, self._settings, now_s)
            finally:
                files.close(connection)
        except StoreError:
            files.close(connection)
            raise
        tables = Tables(connection, self._settings, in_memory=False)
        files.take_back(tables, self._path, now_s)
        return tables

    def _begin_anew(self, connection: sqlite3.Connection, version: int) -> Tables:
        """Set the file of a newer pommai aside, and begin with an empty one. Raises StoreError."""
        try:
            name = aside.set_newer_aside(self._path, version).name
        except OSError as error:
            raise StoreError(f"{self._path} is of a newer version and cannot be set aside: {error.strerror}") from error
        finally:
            files.close(connection)
        _log.warning("the database is of a newer version, set aside as %s", name)
        return files.tables_in(self._path, self._settings)

    def _memory(self) -> Tables:
        return Tables(database.open_memory(), self._settings, in_memory=True)

    def _said(self, error: StoreError | OSError | sqlite3.DatabaseError) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, OSError):
            return StoreError(f"{self._path} cannot be used: {error.strerror}")
        return sqlite.store_error(self._path, error)
