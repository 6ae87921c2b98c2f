"""What one toy and the relay say to one another: a memory, and at most one turn in flight.

A conversation outlives its connections (`pommai.relay.visit`): one that breaks off does not end it. Its turn goes on,
and what is answered is kept (`pommai.relay.reply`) until a new connection delivers it, or until nobody has come back
in time (`pommai.relay.parking`).

A turn is over when its reply has been delivered. It is remembered then, and stored beside the turns that follow: no
child waits for a disk. Of a turn that was cut short, only what was delivered counts as said.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from pommai.bugs import places
from pommai.errors import StoreError
from pommai.protocol import ErrorCode, Hello
from pommai.relay.ports import Layer, Outcome, TurnRecord, Utterance
from pommai.relay.prompt import Exchange, History, remember
from pommai.relay.reply import Reply
from pommai.relay.turn import Pipeline, run_turn

MAX_UNSTORED: Final = 16
"""Turns that may wait for the store; beyond that the next one waits too, so that no store fills the memory."""

Record = Callable[[TurnRecord], Awaitable[None]]
"""Called when a turn is over; what it returns stores it, and raises StoreError."""

_log = logging.getLogger(__name__)


class Conversation:
    """Made when a toy is welcomed; `end` it. `since_s`: Unix time of the first welcome: nothing older is remembered."""

    def __init__(
        self,
        toy: str,
        pipeline: Pipeline,
        record: Record,
        *,
        turn_budget_s: float = 20.0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.toy = toy
        self.session = uuid.uuid4().hex
        self.since_s = unix_time()
        self._pipeline = pipeline
        self._store = record
        self._turn_budget_s = turn_budget_s
        self._unix_time = unix_time
        self._turn: asyncio.Task[None] | None = None
        self._reply = Reply(0)
        self._cut_as = Outcome.CANCELLED
        self._unstored: set[asyncio.Task[None]] = set()
        self._history: History = ()

    @property
    def in_turn(self) -> bool:
        """Whether a turn is being answered, or its reply delivered."""
        return self._turn is not None and not self._turn.done()

    def answer(self, turn: int, utterance: Utterance, started_at_s: float) -> Reply:
        """Begin a turn, when `stop` has ended the one before; its reply is for the caller to deliver.

        `started_at_s`: Unix time of the utterance's start.
        """
        record = TurnRecord(self.toy, turn, started_at_s, Outcome.CANCELLED, uplink_packets=len(utterance.packets))
        record.marks_s["ended"] = asyncio.get_running_loop().time()
        self._reply.drop()
        self._reply = reply = Reply(turn)
        self._turn = asyncio.create_task(self._take_turn(utterance, record, reply), name="turn")
        self._turn.add_done_callback(partial(self._over, record, reply))
        return reply

    def resume(self, hello: Hello) -> Reply | None:
        """The reply that a toy asks for, gone back to where it was interrupted; None if it cannot be resumed."""
        if hello.turn is None or hello.turn != self._reply.turn or not self._reply.rewind(hello.next_sequence or 0):
            return None
        return self._reply

    def is_behind(self, turn: int) -> bool:
        """Whether no turn of that number has begun here yet."""
        return turn > self._reply.turn

    async def wait(self, timeout_s: float) -> None:
        """Return when the turn in flight is over, or after `timeout_s` seconds."""
        if self._turn is not None and not self._turn.done():
            await asyncio.wait({self._turn}, timeout=timeout_s)

    async def stop(self, outcome: Outcome = Outcome.CANCELLED) -> None:
        """End the turn in flight, if there is one; it counts as `outcome`. When this returns, it is recorded."""
        task, self._turn = self._turn, None
        if task is None:
            return
        if not self._reply.delivered.is_set():
            self._cut_as = outcome
            task.cancel()
        await asyncio.wait({task})

    async def end(self, outcome: Outcome = Outcome.CANCELLED) -> None:
        """Stop the turn in flight, wait until every turn is stored, and forget every word."""
        try:
            await self.stop(outcome)
            await self.stored()
        finally:
            self._history = ()
            self._reply.drop()

    async def stored(self) -> None:
        """Wait until every turn that is over has been stored, or has failed to be."""
        if self._unstored:
            await asyncio.wait(self._unstored)

    async def room(self) -> None:
        """Wait until fewer than `MAX_UNSTORED` turns wait for the store."""
        while len(self._unstored) >= MAX_UNSTORED:
            await asyncio.wait(self._unstored, return_when=asyncio.FIRST_COMPLETED)

    async def _take_turn(self, utterance: Utterance, record: TurnRecord, reply: Reply) -> None:
        """Run the turn, and stay with it until its reply has been delivered."""
        await run_turn(self._pipeline, utterance, record, self._history, reply.put, budget_s=self._turn_budget_s)
        await reply.delivered.wait()

    def _over(self, record: TurnRecord, reply: Reply, turn: asyncio.Task[None]) -> None:
        """Finish with a turn, however it ended, also if it was cancelled before its task had begun."""
        bug = None if turn.cancelled() else turn.exception()
        if turn.cancelled() or bug is not None:
            record.said, record.downlink_packets = list(reply.said), reply.n_sent
        if turn.cancelled():
            if record.outcome is not Outcome.FAILED:
                record.outcome = self._cut_as
            reply.drop()
        elif bug is not None:
            _log.error("turn broken toy=%s turn=%d: %s", record.toy, record.turn, places(bug))
            record.outcome, record.error = Outcome.FAILED, ErrorCode.INTERNAL
            reply.fail(bug)
        self._remember(record)
        _log.info("turn over toy=%s turn=%d outcome=%s", record.toy, record.turn, record.outcome)
        storing = asyncio.create_task(self._keep(record, self._store(record)), name="store")
        self._unstored.add(storing)
        storing.add_done_callback(self._unstored.discard)

    def _remember(self, record: TurnRecord) -> None:
        """Remember a turn that is over; what was not judged counts as not passed."""
        if record.heard:
            passed = any(verdict.passed for layer, verdict in record.verdicts if layer is Layer.INPUT)
            self._history = remember(self._history, Exchange(record.heard, " ".join(record.said), passed))

    async def _keep(self, record: TurnRecord, storing: Awaitable[None]) -> None:
        """Wait until a turn is stored. Such tasks begin in the order of their turns, and so do the store's writes."""
        try:
            await storing
        except StoreError as error:
            _log.error("turn not stored toy=%s turn=%d: %s", record.toy, record.turn, error)
