"""Fetches the phrases that the relay has spoken for this toy, a piece at a time, while nobody talks.

What has arrived stays: after a break the next connection goes on where the last one stopped. The cache judges whether a
phrase is whole; here is only what to ask for next, and for how long to believe in an answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pommai.device.network.backoff import delay_s
from pommai.device.network.manifest import INCOMPLETE, Manifest, NonsenseError
from pommai.device.ports import ToSend
from pommai.errors import StoreError
from pommai.protocol import (
    MAX_CHUNKS,
    MAX_TURN,
    Error,
    ErrorCode,
    PhraseChunk,
    PhraseEnd,
    PhraseEntry,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
)

_log = logging.getLogger(__name__)

ANSWER_S: Final = 10.0
"""For the next message of an answer."""

PAUSE_S: Final = 1.0
"""After a failure at least so long, and backoff on top."""

IDLE_POLL_S: Final = 0.5
"""How soon it is noticed that the toy is idle again."""

MAX_NONSENSE: Final = 3
"""Manifests that cannot be used, before we wait for the next welcome."""

MAX_CHANGES: Final = 3
"""So often a manifest may change while it is fetched, before we wait a while."""

MAX_REFUSALS: Final = 2
"""After so many for a phrase, with a fresh manifest in between, it is left as it is until the next welcome."""

Answer = PhraseManifest | PhraseChunk | PhraseEnd | Error


class Shelf(Protocol):
    """Where phrases are kept. Raises StoreError."""

    async def revision(self) -> str | None:
        """The revision of the manifest whose phrases are all there."""

    async def manifest(self, revision: str, entries: Sequence[PhraseEntry]) -> None:
        """From now on these are the phrases."""

    async def phrases(self) -> tuple[PhraseEntry, ...]:
        """What can be played now."""

    async def wanted(self) -> tuple[PhraseEntry, int] | None:
        """The next phrase to fetch, and the byte to go on from."""

    async def add_chunk(self, phrase: str, sha256: str, offset: int, chunk: bytes) -> bool:
        """Keep a piece; whether the phrase is now complete."""


class _NoAnswerError(Exception):
    """The relay does not answer, or cannot now."""


class _RefusedError(Exception):
    """The relay does not give this phrase."""


class _UnknownError(Exception):
    """The relay knows no phrases."""


class PhraseSync:
    """`run` works for one connection."""

    def __init__(self, shelf: Shelf, send: Callable[[ToSend], None], is_idle: Callable[[], bool]) -> None:
        """`send`: onto the wire, or nowhere without a connection. `is_idle`: whether nobody talks now."""
        self._shelf = shelf
        self._send = send
        self._is_idle = is_idle
        self._inbox: asyncio.Queue[Answer] = asyncio.Queue(2 * MAX_CHUNKS)
        self._request = 0
        self._wants: type[PhraseManifest] | type[PhraseChunk] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is on its way: the toy is being updated."""
        return self._wants is not None

    def received(self, message: Answer) -> None:
        """Take what belongs to the answer that is awaited; what comes too late, or too often, is dropped."""
        match message:
            case PhraseManifest():
                is_awaited = self._wants is PhraseManifest
            case PhraseChunk() | PhraseEnd():
                is_awaited = self._wants is PhraseChunk and message.request == self._request
            case Error():
                is_awaited = self._wants is not None
        if is_awaited and not self._inbox.full():
            self._inbox.put_nowait(message)

    async def run(self, revision: str | None) -> None:
        """Fetch what the relay has at `revision`, until all is there or cancelled."""
        try:
            if revision is None or await self._shelf.revision() == revision:
                return
            await self._fetch_all()
            if await self._shelf.revision():
                _log.info("phrases: up to date")
            else:
                _log.warning("phrases: some were not to be had, or had no room: left until the next welcome")
        except _UnknownError:
            _log.info("phrases: this relay has none to send")
        except NonsenseError as error:
            _log.warning("phrases: left until the next welcome: %s", error)
        except StoreError as error:
            _log.warning("phrases: left until the next welcome: %s", error)
        finally:
            self._wants = None

    async def _fetch_all(self) -> None:
        refusals: Counter[str] = Counter()
        has_manifest, failures, nonsense = False, 0, 0
        while True:
            try:
                if not has_manifest:
                    await self._keep(await self._fetch_manifest(), refusals)
                    has_manifest = True
                if (wanted := await self._shelf.wanted()) is None:
                    return
                await self._fetch(*wanted)
                failures = 0
                continue
            except _NoAnswerError:
                failures += 1
            except _RefusedError as error:
                failures += 1
                refusals[str(error)] += 1
                has_manifest = False  # the phrase may have changed meanwhile
            except NonsenseError:
                failures += 1
                nonsense += 1
                if nonsense == MAX_NONSENSE:
                    raise
            self._wants = None
            await asyncio.sleep(PAUSE_S + delay_s(failures, random.random()))

    # --- the manifest -------------------------------------------------------------------------------------------------

    async def _fetch_manifest(self) -> Manifest:
        """All parts of it. Raises NonsenseError, and _NoAnswerError also if it changes faster than it comes."""
        manifest = Manifest()
        changes = 0
        while not manifest.is_whole:
            await self._ask(PhrasesWanted(len(manifest.entries)), PhraseManifest)
            part = await self._next()
            self._wants = None
            assert isinstance(part, PhraseManifest)
            if not manifest.add(part):
                changes += 1
            if changes == MAX_CHANGES:
                raise _NoAnswerError
        return manifest

    async def _keep(self, manifest: Manifest, refusals: Counter[str]) -> None:
        """Hand the manifest to the shelf; a phrase that the relay does not give stays there as it is."""
        withheld = {entry.id for entry in manifest.entries if refusals[entry.id] >= MAX_REFUSALS}
        if not withheld:
            await self._shelf.manifest(manifest.revision, manifest.entries)
            return
        held = {entry.id: entry for entry in await self._shelf.phrases() if entry.id in withheld}
        entries = [held.get(entry.id, entry) for entry in manifest.entries]
        await self._shelf.manifest(INCOMPLETE, [each for each in entries if each.id not in withheld or each.id in held])

    # --- a phrase -----------------------------------------------------------------------------------------------------

    async def _fetch(self, entry: PhraseEntry, offset: int) -> None:
        """Ask once, and keep what comes. Raises _RefusedError if that is nothing, or not what was asked for."""
        self._request = self._request % MAX_TURN + 1
        await self._ask(PhraseWanted(self._request, entry.id, entry.sha256, offset), PhraseChunk)
        count = 0
        while not isinstance(answer := await self._next(), PhraseEnd):
            assert isinstance(answer, PhraseChunk)
            if answer.sequence != count or count == MAX_CHUNKS:
                _log.warning("phrases: pieces out of order")
                raise _RefusedError(entry.id)
            await self._shelf.add_chunk(entry.id, entry.sha256, offset, answer.chunk)
            offset += len(answer.chunk)
            count += 1
        self._wants = None
        if answer.code is not None or count == 0:
            _log.warning("phrases: one is not to be had now, code=%s", answer.code or "none")
            raise _RefusedError(entry.id)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _ask(
        self, message: PhrasesWanted | PhraseWanted, wants: type[PhraseManifest] | type[PhraseChunk]
    ) -> None:
        """Send a question once nobody talks."""
        self._wants = None
        is_idle = self._is_idle()
        while not is_idle:
            await asyncio.sleep(IDLE_POLL_S)
            is_idle = self._is_idle()
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._wants = wants
        self._send(message)

    async def _next(self) -> PhraseManifest | PhraseChunk | PhraseEnd:
        """The next message of the answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._inbox.get()
        except TimeoutError:
            raise _NoAnswerError from None
        if not isinstance(answer, Error):
            return answer
        _log.info("phrases: the relay cannot answer now, code=%s", answer.code)
        raise _UnknownError if answer.code is ErrorCode.UNKNOWN_TYPE else _NoAnswerError
