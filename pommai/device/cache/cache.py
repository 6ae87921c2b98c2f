"""The toy's cache: events for the relay, phrases with audio, and what it must remember, in one SQLite file.

Every statement runs in one worker thread, which owns the database; the event loop never waits for the disk. Where the
file is damaged, full, read-only or of a newer version, the toy lives on: see `Cache.problem` and `Cache.retry`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pommai import sqlite
from pommai.device.cache.memory import LogEntry
from pommai.device.cache.phrases import REVISION
from pommai.device.cache.spool import SpoolSize, check
from pommai.device.cache.storage import Storage
from pommai.device.cache.tables import Tables
from pommai.device.settings import CacheSettings
from pommai.errors import StoreError
from pommai.protocol import EventRecord, PhraseEntry, Value

T = TypeVar("T")

_log = logging.getLogger(__name__)

OPEN_S: Final = 5.0
"""How long opening may take before the toy begins without its file: a child does not wait for a disk that hangs."""

CLOSE_S: Final = 1.0
"""How long closing may take: the daemon has two seconds in all."""


class Cache:
    """What the toy keeps for itself. Every method may be called from any task; none raises for what the disk does."""

    def __init__(
        self,
        settings: CacheSettings,
        storage: Storage,
        worker: ThreadPoolExecutor,
        hanging: Future[None] | None = None,
    ) -> None:
        """Use `open`; `storage` belongs to the one thread of `worker`. `hanging`: an opening that took too long."""
        self._path = Path(settings.path)
        self._storage = storage
        self._worker = worker
        self._hanging = hanging
        self._closed = False

    @classmethod
    async def open(cls, settings: CacheSettings, now_s: float | None = None) -> Self:
        """Open the file of the settings, or live from memory (`:memory:`, or because there is no other way).

        `now_s`: Unix time for the name of a damaged file that is set aside; without one, that of the system. Raises
        InUseError beside another daemon.
        """
        worker = _worker()
        at_s = time.time() if now_s is None else now_s
        opening = worker.submit(Storage, settings, at_s)
        try:
            waiting = asyncio.wrap_future(opening)
            waiting.add_done_callback(lambda opened: opened.cancelled() or opened.exception())  # or it is logged
            done, _ = await asyncio.wait({waiting}, timeout=OPEN_S)
            if done:
                return cls(settings, waiting.result(), worker)
        except BaseException:
            worker.shutdown(wait=False)  # it may be the disk that takes so long
            raise
        hanging = worker.submit(_give_back, opening)
        worker.shutdown(wait=False)
        why = StoreError(f"{settings.path} was not open within {OPEN_S:g} s: the disk does not answer")
        second = _worker()
        storage = await asyncio.get_running_loop().run_in_executor(second, lambda: Storage(settings, at_s, without=why))
        return cls(settings, storage, second, hanging)

    @property
    def problem(self) -> str:
        """Why the toy lives from memory, as a sentence for the log and for `pommai device status`; else empty."""
        return self._storage.problem

    @property
    def lasts(self) -> bool:
        """Whether what is kept now outlives the process: False while the toy lives from memory."""
        return self._storage.lasts

    async def retry(self) -> bool:
        """Try the file again where there is a problem, and move over what was kept meanwhile; whether all is well."""
        if self._hanging is not None and not self._hanging.done():
            return False  # to try would be to hang as well
        return await self._run(self._storage.retry)

    async def close(self) -> None:
        """Write what is gathered and release the file, in bounded time. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._worker, self._storage.close)
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
        self._worker.shutdown(wait=bool(done))
        if not done:
            _log.error("the disk does not answer: the cache is left open")
            return
        try:
            closing.result()
        except sqlite3.Error as error:
            _log.error("the cache did not close: %s", sqlite.store_error(self._path, error))

    # --- events -------------------------------------------------------------------------------------------------------

    async def append(self, event: EventRecord, durable: bool = False) -> None:
        """Keep an event until the relay has it; the same id twice is kept once.

        `durable`, or an urgent event: on the disk before this returns, as far as the disk is any good. Raises
        LocalProtocolError for an event that no relay would take.
        """
        check(event)
        await self._write(lambda tables: tables.spool.append(event), durable=durable or event.urgent)

    async def unsent(
        self, max_events: int, max_bytes: int, without: Collection[str] = frozenset()
    ) -> tuple[EventRecord, ...]:
        """Events that the relay does not have, `without` those ids: urgent ones first, then the oldest.

        `max_bytes`: on the wire. The first is returned even if it is larger, so that it never blocks the others.
        """
        return await self._read(lambda tables: tables.spool.unsent(max_events, max_bytes, without))

    async def acknowledge(self, ids: Iterable[str]) -> None:
        """The relay has stored these; they are not sent again. Ids that are unknown are ignored."""
        known = tuple(ids)
        await self._write(lambda tables: tables.spool.acknowledge(known))

    async def sweep(self, now_s: float) -> int:
        """Remove events that are older than the settings allow at this Unix time; how many."""
        return await self._write(lambda tables: tables.spool.sweep(now_s))

    async def spool_size(self) -> SpoolSize:
        """How full the spool is."""
        return await self._read(lambda tables: tables.spool.size())

    # --- phrases ------------------------------------------------------------------------------------------------------

    async def phrases(self) -> tuple[PhraseEntry, ...]:
        """The phrases that can be played now, in the manifest's order."""
        return await self._read(lambda tables: tables.phrases.held())

    async def phrase_packets(self, phrase: str) -> tuple[bytes, ...] | None:
        """The Opus packets of a phrase; None if it is not held, or not readable any more: then it is fetched again."""
        return await self._read(lambda tables: tables.phrases.packets(phrase))

    async def manifest(self, revision: str, entries: Sequence[PhraseEntry]) -> None:
        """From now on these are the toy's phrases: others are removed, and what is new or changed is wanted."""

        def take(tables: Tables) -> None:
            tables.phrases.manifest(entries)
            tables.memory.remember(REVISION, json.dumps(revision))

        await self._write(take)

    async def wanted(self) -> tuple[PhraseEntry, int] | None:
        """The next phrase to fetch and the byte to go on from; None if there is none."""
        return await self._read(lambda tables: tables.phrases.wanted())

    async def add_chunk(self, phrase: str, sha256: str, offset: int, chunk: bytes) -> bool:
        """Take a piece of a phrase's audio; whether the phrase is complete.

        What does not follow on what is there, or does not have the right hash at the end, is dropped and fetched again.
        """
        return await self._write(lambda tables: tables.phrases.add_piece(phrase, sha256, offset, chunk))

    async def revision(self) -> str | None:
        """The revision of the manifest whose phrases are all held; None while something is missing."""

        def find(tables: Tables) -> Any:
            return tables.memory.recall(REVISION) if tables.phrases.is_complete() else None

        revision = await self._read(find)
        return revision if isinstance(revision, str) else None

    # --- memory -------------------------------------------------------------------------------------------------------

    async def recall(self, key: str) -> Any:
        """What was remembered under `key`, as JSON gives it back; None if nothing was."""
        return await self._read(lambda tables: tables.memory.recall(key))

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        """Keep a value that JSON can hold; `durable`: on the disk before this returns, as far as it is any good."""
        text = json.dumps(value, allow_nan=False)
        await self._write(lambda tables: tables.memory.remember(key, text), durable=durable)

    async def log(self, at_s: float, kind: str, data: Mapping[str, Value] | None = None) -> None:
        """Add an entry to the ring of the last 2000. Tokens and numbers only, never words.

        It is written with the next commit, or with others like it within seconds of use.
        """
        entry = LogEntry(at_s, kind, dict(data or {}))

        def gather() -> None:
            if self._storage.gather(entry, time.monotonic()):
                self._storage.perform(lambda tables: None)

        await self._run(gather)

    async def recent_log(self, count: int) -> tuple[LogEntry, ...]:
        """The last `count` entries of the log, oldest first."""
        await self._write(lambda tables: None)
        return await self._read(lambda tables: tables.memory.recent(count))

    # --- in the worker thread -----------------------------------------------------------------------------------------

    async def _write(self, call: Callable[[Tables], T], *, durable: bool = False) -> T:
        return await self._run(lambda: self._storage.perform(call, durable=durable))

    async def _read(self, call: Callable[[Tables], T]) -> T:
        return await self._run(lambda: self._storage.read(call))

    async def _run(self, call: Callable[[], T]) -> T:
        """The result of `call`, made in the worker thread."""
        if self._closed:
            raise StoreError(f"{self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, call)
        except sqlite3.Error as error:
            raise sqlite.store_error(self._path, error) from error


def _worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="pommai-cache")


def _give_back(opening: Future[Storage]) -> None:
    """Release the file of an opening that nobody waited for, so that it can be tried anew."""
    if opening.exception() is None:
        opening.result().close()
