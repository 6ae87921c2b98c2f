"""The relay's SQLite file and the one thread that owns it: no event loop ever waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from pommai.errors import StoreError
from pommai.relay.settings import StoreSettings
from pommai.relay.stores.database import open_database
from pommai.sqlite import store_error

T = TypeVar("T")


class StoreFile:
    """The open file; what is in it, its subclasses know."""

    def __init__(self, settings: StoreSettings, connection: sqlite3.Connection, worker: ThreadPoolExecutor) -> None:
        """Use `open`; `connection` belongs to the one thread of `worker`."""
        self._settings = settings
        self._path = Path(settings.path)
        self._connection = connection
        self._worker = worker
        self._closed = False

    @classmethod
    async def open(cls, settings: StoreSettings) -> Self:
        """Open the file, make or migrate it where needed. Raises StoreError with the path and what is wrong."""
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pommai-store")
        try:
            opening = asyncio.get_running_loop().run_in_executor(worker, open_database, Path(settings.path))
            return cls(settings, await opening, worker)
        except BaseException:
            worker.shutdown(wait=True)
            raise

    async def close(self) -> None:
        """Write what is pending, release the file and end the thread. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._run(self._connection.close)
        finally:
            self._worker.shutdown(wait=True)

    async def _run(self, call: Callable[[], T]) -> T:
        """The result of `call`, made in the worker thread. Raises StoreError for whatever SQLite reports."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._worker, call)
        except RuntimeError as error:  # "cannot schedule new futures after shutdown"
            raise StoreError(f"{self._path} is closed") from error
        try:
            return await running
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error
