"""What happened to the toy, as events for the relay: kept on disk, in the toy's own time, never with words."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from pommai.protocol import EventRecord, Value


class Spool(Protocol):
    """Where events wait for the relay."""

    async def append(self, event: EventRecord, durable: bool = False) -> None:
        """Keep it; `durable` or urgent: on disk before this returns."""


class Diary:
    """Writes events down and tells whoever delivers them."""

    def __init__(self, spool: Spool, now_s: Callable[[], float], written: Callable[[], None]) -> None:
        """`now_s`: Unix time as well as the toy knows. `written`: called when there is something to deliver."""
        self._spool = spool
        self._now_s = now_s
        self._written = written

    async def write(self, kind: str, *, urgent: bool = False, durable: bool = False, **data: Value) -> None:
        """Write down that this has just happened. `data`: tokens and numbers (`wire.TOKEN`).

        `urgent` goes before all else. `durable`: on disk before this returns, as `urgent` is.
        """
        event = EventRecord(uuid.uuid4().hex, kind, round(self._now_s(), 3), urgent, data)
        await self._spool.append(event, durable)
        self._written()
