"""One toy's connection, everything that is not about a turn: events, commands and phrases.

Rule one: an event is acknowledged when it is stored for good, and not before; the store takes each id once. So nothing
is lost and nothing counts twice, wherever the relay or the connection breaks.
Rule two: a command is sent once a connection, and again at each welcome until the toy has answered it or it is too old.
If its answer cannot be stored it is sent again sooner.
Those of a toy go out in the order in which they were given, and not all at once: the next follow the toy's answers.

Nothing here belongs to a turn, and no failure here ends one: what the store cannot do now, the toy asks for again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol, assert_never

from pommai.errors import StoreError
from pommai.protocol import (
    MAX_CHUNKS,
    MAX_PACKET_BYTES,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    PhraseChunk,
    PhraseEnd,
    PhrasesWanted,
    PhraseWanted,
    ToToy,
)
from pommai.relay.phrase_audio import SpokenPhrases

_MOST_BYTES: Final = MAX_CHUNKS * MAX_PACKET_BYTES

_log = logging.getLogger(__name__)

Send = Callable[[ToToy | PhraseChunk], Awaitable[None]]
"""Puts one message on the wire. Raises ConnectionError when the toy is gone, and nothing else."""

Answerable = EventBatch | CommandDone | PhrasesWanted | PhraseWanted
"""What a toy sends that is not about a turn (`link.ASIDE`)."""


class UpkeepStore(Protocol):
    """Keeps what toys report and what they are told to do. Every method that fails raises StoreError, nothing else."""

    async def store_events(self, toy: str, events: Sequence[EventRecord], now_s: float) -> Collection[str]:
        """Store, for good, those whose id is not stored yet; the ids that were not known before.

        What happened before the toy was forgotten is not stored, and its id never becomes known.
        """

    async def pending_commands(self, toy: str, now_s: float) -> list[Command]:
        """What the toy has not answered yet and is not too old, oldest first; of very many, the oldest."""

    async def command_done(self, toy: str, id: str, code: ErrorCode | None, now_s: float) -> None:
        """The toy has answered a command; an answer to one that is not pending changes nothing."""


class Upkeep:
    """Made for each connection. Its methods may be called while another one is still at work."""

    def __init__(
        self,
        toy: str,
        store: UpkeepStore,
        phrases: SpokenPhrases | None,
        send: Send,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """`phrases`: shared by all toys; None if the relay speaks none."""
        self._toy = toy
        self._store = store
        self._phrases = phrases
        self._send = send
        self._unix_time = unix_time
        self._sent: set[str] = set()
        self._announced = None if phrases is None else phrases.revision

    async def look_again(self) -> None:
        """Send the commands that wait, oldest first, each once: right after the welcome, and from time to time.

        They are queued by other processes too. A toy that does not know of the present phrases gets the first part of
        their manifest, which it did not ask for. Raises StoreError, then the next look will find them;
        ConnectionError.
        """
        if self._phrases is not None and self._phrases.revision not in (None, self._announced):
            self._announced = self._phrases.revision
            await self._list_phrases(0)
        await self._send_commands()

    async def _send_commands(self) -> None:
        for command in await self._store.pending_commands(self._toy, self._unix_time()):
            if command.id not in self._sent:
                self._sent.add(command.id)
                await self._send(command)
                _log.info("command sent toy=%s action=%s id=%s", self._toy, command.action, command.id)

    async def receive(self, message: Answerable) -> None:
        """Act on one message of the toy; it may have to wait for the disk, so nothing of a turn should wait for it.

        Its ids and kinds are tokens: `wire.decode` lets nothing else in, so they may be logged. Raises ConnectionError
        if the toy is gone, and StoreError as `look_again` does.
        """
        match message:
            case EventBatch(events):
                await self._keep(events)
            case CommandDone(id, code):
                await self._done(id, code)
            case PhrasesWanted(first):
                await self._list_phrases(first)
            case PhraseWanted():
                await self._send_phrase(message)
            case _ as never:
                assert_never(never)

    async def _keep(self, events: Sequence[EventRecord]) -> None:
        """Store a batch, then acknowledge all of it: also what the store knew already, for its answer was lost."""
        try:
            new = await self._store.store_events(self._toy, events, self._unix_time())
        except StoreError as error:
            _log.error("events not stored toy=%s: %s", self._toy, error)
            await self._send(Error(ErrorCode.UNAVAILABLE, retryable=True))
            return
        for event in events:
            if event.urgent and event.id in new:
                _log.warning("urgent event toy=%s kind=%s id=%s", self._toy, event.kind, event.id)
        await self._send(EventsStored(tuple(event.id for event in events)))

    async def _done(self, id: str, code: ErrorCode | None) -> None:
        try:
            await self._store.command_done(self._toy, id, code, self._unix_time())
        except StoreError as error:
            self._sent.discard(id)  # so it is sent again at the next look, and the toy answers again
            _log.error("answer not stored toy=%s id=%s: %s", self._toy, id, error)
            return
        _log.info("command done toy=%s id=%s code=%s", self._toy, id, code or "none")
        await self._send_commands()

    async def _list_phrases(self, first: int) -> None:
        manifest = None if self._phrases is None else self._phrases.manifest(first)
        await self._send(manifest or Error(ErrorCode.UNAVAILABLE, retryable=True))

    async def _send_phrase(self, wanted: PhraseWanted) -> None:
        """Up to `MAX_CHUNKS` pieces, so that a turn on the same wire waits for no more than those."""
        sound = await self._sound(wanted)
        for sequence, start in enumerate(range(0, len(sound or b""), MAX_PACKET_BYTES)):
            piece = (sound or b"")[start : start + MAX_PACKET_BYTES]
            await self._send(PhraseChunk(wanted.request, sequence, piece))
        await self._send(PhraseEnd(wanted.request, ErrorCode.UNAVAILABLE if sound is None else None))

    async def _sound(self, wanted: PhraseWanted) -> bytes | None:
        """What is to be sent now; None for a phrase that is not, or no longer, there as the toy knows it."""
        if self._phrases is None:
            return None
        try:
            return await self._phrases.sound(wanted.id, wanted.sha256, wanted.offset, _MOST_BYTES)
        except StoreError as error:
            _log.error("phrase not read toy=%s: %s", self._toy, error)
            return None
