"""What happened to the toy, as events for the relay: kept on disk, in the toy's own time, never with words."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from pommai.errors import StoreError
from pommai.protocol import EventRecord, Value

_log = logging.getLogger(__name__)

MAX_UNWRITTEN: Final = 100
"""Events in memory that no spool took; beyond it the oldest are lost, but urgent ones only to urgent ones."""


UNSURE: Final = {"clock": "unsure"}
"""In the data of an event whose `at_s` is only where the toy's own clock stood: it may be wrong by years."""


class Spool(Protocol):
    """Where events wait for the relay."""

    async def append(self, event: EventRecord, durable: bool = False) -> None:
        """Keep it, one id once; `durable` or urgent: on disk before this returns. Raises StoreError."""


class Diary:
    """Writes events down and tells whoever delivers them."""

    def __init__(
        self,
        spool: Spool,
        now_s: Callable[[], float],
        written: Callable[[], None],
        is_sure: Callable[[], bool] = lambda: True,
    ) -> None:
        """`now_s`: Unix time as well as the toy knows; `is_sure`: whether it is right.

        `written`: called when there is something to deliver.
        """
        self._spool = spool
        self._now_s = now_s
        self._is_sure = is_sure
        self._written = written
        self._unwritten: deque[EventRecord] = deque()

    async def write(self, kind: str, *, urgent: bool = False, durable: bool = False, **data: Value) -> None:
        """Write down that this has just happened. `data`: tokens and numbers (`wire.TOKEN`).

        `urgent` goes before all else. `durable`: on disk before this returns, as `urgent` is. Raises StoreError if the
        spool takes nothing; what is urgent or durable then waits in memory, and is tried again with the next event.
        """
        doubt = {} if self._is_sure() else UNSURE
        event = EventRecord(uuid.uuid4().hex, kind, round(self._now_s(), 3), urgent, {**data, **doubt})
        try:
            await self._spool.append(event, durable)
        except StoreError:
            if urgent or durable:
                self._hold(event)
            raise
        self._written()
        try:
            await self.retry()
        except StoreError as error:
            _log.warning("diary: earlier events still wait, count=%d: %s", len(self._unwritten), error)

    async def retry(self) -> None:
        """Write down what the spool would not take. Raises StoreError if it still does not."""
        while self._unwritten:
            event = self._unwritten[0]
            await self._spool.append(event, True)
            if event in self._unwritten:  # another retry may have been quicker
                self._unwritten.remove(event)
            self._written()

    def _hold(self, event: EventRecord) -> None:
        self._unwritten.append(event)
        if len(self._unwritten) > MAX_UNWRITTEN:
            oldest = next((each for each in self._unwritten if not each.urgent), self._unwritten[0])
            self._unwritten.remove(oldest)
            _log.error("diary: an event is lost, kind=%s", oldest.kind)
