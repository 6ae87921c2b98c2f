"""Brings what happened on the toy to the relay: in batches, one at a time, each event until it is acknowledged.

An id is stored once by the relay, so that sending again is always safe: after a lost answer, a crash, a power cut. What
the relay refuses to read is sent singly, so that one bad event holds up no other, and is set aside in the end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

from pommai.device.network.backoff import delay_s
from pommai.device.ports import ToSend
from pommai.errors import StoreError
from pommai.protocol import MAX_MESSAGE_BYTES, ErrorCode, EventBatch, EventRecord, EventsStored
from pommai.wire import encoded_size

_log = logging.getLogger(__name__)

MAX_EVENTS: Final = 100
BATCH_BYTES: Final = 12_000
BUSY_BATCH_BYTES: Final = 2_000
"""While child and toy talk: the sound behind such a batch waits a third of a second at 50 kbit/s."""

MAX_EVENT_BYTES: Final = MAX_MESSAGE_BYTES - 100
"""What is larger fits in no message."""

ANSWER_S: Final = 10.0
"""For the relay's answer to a batch."""

PAUSE_S: Final = 1.0
"""After a failure at least so long, and backoff on top."""

MAX_TRIES: Final = 3
"""So often an event is refused singly before it is set aside, or lost with its connection before it goes singly."""

_UNREADABLE: Final = (ErrorCode.BAD_MESSAGE, ErrorCode.TOO_LARGE)


class Spool(Protocol):
    """What is kept of the events. Raises StoreError."""

    async def unsent(
        self, max_events: int, max_bytes: int, without: Collection[str] = frozenset()
    ) -> tuple[EventRecord, ...]:
        """What the relay does not have, `without` those ids: urgent ones first, then the oldest; one at least."""

    async def acknowledge(self, ids: Iterable[str]) -> None:
        """These are not to be sent again."""


class Delivery:
    """`run` works for one connection; what it learnt about bad events it keeps for the next."""

    def __init__(self, spool: Spool, send: Callable[[ToSend], None], is_idle: Callable[[], bool]) -> None:
        """`send`: onto the wire, or nowhere without a connection. `is_idle`: whether nobody talks now."""
        self._spool = spool
        self._send = send
        self._is_idle = is_idle
        self._poked = asyncio.Event()
        self._sent: set[str] = set()
        self._late: list[str] = []
        self._in_flight: frozenset[str] = frozenset()
        self._answer: asyncio.Future[tuple[str, ...] | ErrorCode] | None = None
        self._refusals: dict[str, int] = {}
        self._losses: Counter[str] = Counter()

    def poke(self) -> None:
        """There is something new to be sent."""
        self._poked.set()

    @property
    def is_waiting(self) -> bool:
        """Whether a batch is on its way, so that a complaint of the relay may be about it."""
        return self._answer is not None and not self._answer.done()

    def stored(self, message: EventsStored) -> None:
        """The relay has these. Ids that were never sent are ignored: nothing is forgotten on a wrong word."""
        known = tuple(each for each in message.ids if each in self._sent)
        if self._answer is not None and not self._answer.done() and self._in_flight.intersection(known):
            self._answer.set_result(known)
        elif known:
            self._late += known
            self._poked.set()

    def refused(self, code: ErrorCode) -> None:
        """The relay could not take what is on its way."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(code)

    async def run(self) -> None:
        """Deliver until cancelled; returns early if the relay knows no events."""
        failures = 0
        while True:
            try:
                code = await self._deliver_some()
            except StoreError as error:
                _log.warning("events: %s", error)
                code = ErrorCode.INTERNAL
            if code is ErrorCode.UNKNOWN_TYPE:
                _log.warning("events: this relay takes none, code=%s", code)
                return
            failures = failures + 1 if code else 0
            if code:
                _log.info("events: not delivered, code=%s", code)
                await asyncio.sleep(PAUSE_S + delay_s(failures, random.random()))

    async def _deliver_some(self) -> ErrorCode | None:
        """Wait for something to be sent, and send it; why it failed, if it did."""
        self._poked.clear()
        late, self._late = self._late, []
        await self._acknowledge(late)
        batch = await self._next_batch()
        if not batch:
            await self._poked.wait()
            return None
        answer = await self._ask(batch)
        if not isinstance(answer, ErrorCode):
            await self._acknowledge(answer)
            return None
        if answer in _UNREADABLE:
            await self._suspect(batch, answer)
        return answer

    async def _next_batch(self) -> Sequence[EventRecord]:
        """What goes together next; events that are suspect go after all others, and each for itself."""
        max_bytes = BATCH_BYTES if self._is_idle() else BUSY_BATCH_BYTES
        healthy = await self._spool.unsent(MAX_EVENTS, max_bytes, frozenset(self._refusals))
        for event in healthy:
            if encoded_size(event) > MAX_EVENT_BYTES:
                await self._set_aside(event, ErrorCode.TOO_LARGE)
                return await self._next_batch()
        if healthy or not self._refusals:
            return healthy
        suspects = await self._spool.unsent(len(self._refusals), len(self._refusals) * MAX_MESSAGE_BYTES)
        return sorted(suspects, key=lambda event: self._refusals.get(event.id, 0) + self._losses[event.id])[:1]

    async def _ask(self, batch: Sequence[EventRecord]) -> tuple[str, ...] | ErrorCode:
        """Send a batch; the ids that the relay stored, or why it did not."""
        self._answer = asyncio.get_running_loop().create_future()
        self._in_flight = frozenset(event.id for event in batch)
        self._sent |= self._in_flight
        try:
            self._send(EventBatch(tuple(batch)))
            async with asyncio.timeout(ANSWER_S):
                return await self._answer
        except TimeoutError:
            return ErrorCode.TIMEOUT
        except asyncio.CancelledError:
            self._lost(batch)
            raise
        finally:
            self._answer = None

    def _lost(self, batch: Sequence[EventRecord]) -> None:
        """The connection broke under a batch. Should one event be to blame, it must not do so for ever."""
        for event in batch:
            self._losses[event.id] += 1
            if self._losses[event.id] >= MAX_TRIES:
                self._refusals.setdefault(event.id, 0)

    async def _suspect(self, batch: Sequence[EventRecord], code: ErrorCode) -> None:
        """The relay cannot read one of these; or it complains of something else, for its word names no event.

        So what is urgent is never given up: alone and after all others, it is offered again and again.
        """
        if len(batch) > 1:
            for event in batch:
                self._refusals.setdefault(event.id, 0)
            return
        (event,) = batch
        self._refusals[event.id] = self._refusals.get(event.id, 0) + 1
        if self._refusals[event.id] >= MAX_TRIES and not event.urgent:
            await self._set_aside(event, code)

    async def _set_aside(self, event: EventRecord, code: ErrorCode) -> None:
        """Give up on an event that no relay takes: it stays on the toy as history, and is not sent again."""
        _log.error("events: one was set aside, id=%s kind=%s code=%s", event.id, event.kind, code)
        await self._acknowledge([event.id])

    async def _acknowledge(self, ids: Iterable[str]) -> None:
        known = tuple(ids)
        if not known:
            return
        await self._spool.acknowledge(known)
        for each in known:
            self._sent.discard(each)
            self._refusals.pop(each, None)
            self._losses.pop(each, None)
