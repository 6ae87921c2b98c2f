"""One toy's connection: its link, at most one turn in flight, and what was said lately.

A dialect feeds it the messages of its toy, one after another, and puts on the wire what it sends. It is a context
manager: when the block is left, whatever the reason, no task of it is left and no word is remembered.

An utterance that is longer than allowed is cut and answered: a child who talks too long should not be met by silence.
Only a toy that goes on far beyond that is told so.

A turn that is over is remembered at once and stored beside the turns that follow: no child waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pommai.errors import AudioError, StoreError
from pommai.limits import Rest
from pommai.link import Link, Phase, Side
from pommai.protocol import (
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Message,
    ToToy,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.relay.hearing import Hearing
from pommai.relay.ports import Layer, Outcome, TurnRecord, Utterance
from pommai.relay.prompt import Exchange, History, remember
from pommai.relay.turn import Pipeline, run_turn
from pommai.relay.voice import Send

MAX_UNSTORED: Final = 16
"""Turns that may wait for the store; beyond that the next one waits too, so that no store fills the memory."""

UPGRADE_RETRY_S: Final = 3600.0
"""When a toy of another protocol version may try again: it will not help before one of the two is updated."""

_log = logging.getLogger(__name__)


def never_rests() -> None:
    """The answer for a toy without limits."""


class Conversation:
    """`async with Conversation(...) as conversation:` then `receive` for each message of the toy."""

    def __init__(
        self,
        toy: str,
        pipeline: Pipeline,
        send: Send,
        *,
        record: Callable[[TurnRecord], Awaitable[None]],
        rest: Callable[[], Rest | None] = never_rests,
        max_utterance_s: float = 20.0,
        volume_ceiling: float = 1.0,
        turn_budget_s: float = 20.0,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """`record`: called when a turn is over; what it returns stores it. `rest`: asked when an utterance begins."""
        self.toy = toy
        self.session = uuid.uuid4().hex
        self._pipeline = pipeline
        self._put = send
        self._store = record
        self._rest = rest
        self._resting = False
        self._max_utterance_s = max_utterance_s
        self._volume_ceiling = volume_ceiling
        self._turn_budget_s = turn_budget_s
        self._unix_time = unix_time
        self._link = Link(Side.RELAY)
        self._group = asyncio.TaskGroup()
        self._turn: asyncio.Task[None] | None = None
        self._record = TurnRecord(toy, 0, 0.0)
        self._unstored: set[asyncio.Task[None]] = set()
        self._captions = False
        self._history: History = ()
        self._heard = Hearing(max_utterance_s)
        self._started_at_s = 0.0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        try:
            await self._stop_turn()
            await self._stored()
        finally:
            self._history = ()
            # The group must see a cancellation, which may be its own; any other error leaves the block as it came.
            await self._group.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))

    @property
    def closed(self) -> bool:
        """Whether the conversation is over: the connection is to be closed now."""
        return self._link.phase is Phase.CLOSED

    @property
    def rested(self) -> bool:
        """Whether the toy was told to rest and need not any more. pommai/1 tells it so by a new welcome."""
        return self._resting and self._rest() is None

    @property
    def in_turn(self) -> bool:
        """Whether a turn is being answered."""
        return self._turn is not None and not self._turn.done()

    async def receive(self, message: Message) -> None:
        """Act on one message of the toy; not to be called again before it returns.

        Raises RemoteProtocolError for what the toy may not send now (answer with `refuse`; the conversation goes on),
        and ConnectionError if the toy is gone.
        """
        accepted = self._link.received(message)
        match accepted:
            case Hello():
                await self._greet(accepted)
            case UtteranceStart(turn):
                await self._listen(turn)
            case AudioFrame(turn, _, packet):
                await self._collect(turn, packet)
            case UtteranceEnd(turn):
                self._answer(turn)
            case Cancel():
                await self._stop_turn()
            case _:
                pass  # the echo of a turn that is over

    async def refuse(self, code: ErrorCode) -> None:
        """Tell the toy that a message of it could not be read or was not allowed."""
        await self._send(Error(code))

    async def close(self, code: ErrorCode, *, grace_s: float, retry_after_s: float) -> None:
        """Say goodbye: a turn in flight may end within `grace_s` seconds. After it the link is closed to any other.

        Returns when every turn has been stored.
        """
        if self._turn is not None and not self._turn.done():
            await asyncio.wait({self._turn}, timeout=grace_s)
        await self._stop_turn()
        if not self.closed:
            await self._send(Goodbye(code, retry_after_s))
        await self._stored()

    async def _greet(self, hello: Hello) -> None:
        if hello.version != VERSION:
            await self._send(Error(ErrorCode.UNSUPPORTED_VERSION))
            await self._send(Goodbye(ErrorCode.UNSUPPORTED_VERSION, UPGRADE_RETRY_S))
            return
        self._captions = hello.captions
        rest = self._ask_rest()
        paused = None if rest is None else ErrorCode(rest)
        welcome = Welcome(VERSION, self.session, self._unix_time(), self._max_utterance_s, paused, self._volume_ceiling)
        await self._send(welcome)

    def _ask_rest(self) -> Rest | None:
        """Why the toy must rest now, remembered for `rested`."""
        rest = self._rest()
        self._resting = rest is not None
        return rest

    async def _listen(self, turn: int) -> None:
        await self._stop_turn()
        if len(self._unstored) >= MAX_UNSTORED:
            await asyncio.wait(self._unstored, return_when=asyncio.FIRST_COMPLETED)
        rest = self._ask_rest()
        if rest is not None:
            await self._send(Error(ErrorCode(rest), turn=turn))
        else:
            self._heard = Hearing(self._max_utterance_s)
            self._started_at_s = self._unix_time()

    async def _collect(self, turn: int, packet: bytes) -> None:
        try:
            self._heard.add(packet)
        except AudioError:
            await self._send(Error(ErrorCode.BAD_AUDIO, turn=turn))
            return
        if self._heard.overlong:
            await self._send(Error(ErrorCode.UTTERANCE_TOO_LONG, turn=turn))

    def _answer(self, turn: int) -> None:
        packets = tuple(self._heard.packets)
        self._heard = Hearing(self._max_utterance_s)
        self._record = TurnRecord(self.toy, turn, self._started_at_s, Outcome.CANCELLED, uplink_packets=len(packets))
        self._record.marks_s["ended"] = asyncio.get_running_loop().time()
        self._turn = self._group.create_task(self._take_turn(Utterance(packets), self._record), name="turn")

    async def _take_turn(self, utterance: Utterance, record: TurnRecord) -> None:
        """Run the turn, then finish with it; of one that is cancelled, `_stop_turn` does that."""
        await run_turn(
            self._pipeline,
            utterance,
            record,
            self._history,
            self._send,
            captions=self._captions,
            budget_s=self._turn_budget_s,
        )
        self._finish(record)

    async def _stop_turn(self) -> None:
        """Cancel the turn in flight and wait until it is gone."""
        task, self._turn = self._turn, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            self._finish(self._record)

    def _finish(self, record: TurnRecord) -> None:
        """Remember a turn that is over, and begin to store it; what was not judged counts as not passed."""
        if record.heard:
            passed = any(verdict.passed for layer, verdict in record.verdicts if layer is Layer.INPUT)
            self._history = remember(self._history, Exchange(record.heard, " ".join(record.said), passed))
        _log.info("turn over toy=%s turn=%d outcome=%s", record.toy, record.turn, record.outcome)
        storing = self._group.create_task(self._keep(record, self._store(record)), name="store")
        self._unstored.add(storing)
        storing.add_done_callback(self._unstored.discard)

    async def _keep(self, record: TurnRecord, storing: Awaitable[None]) -> None:
        """Wait until a turn is stored. Such tasks begin in the order of their turns, and so do the store's writes."""
        try:
            await storing
        except StoreError as error:
            _log.error("turn not stored toy=%s turn=%d: %s", record.toy, record.turn, error)

    async def _stored(self) -> None:
        """Wait until every turn that is over has been stored, or has failed to be."""
        if self._unstored:
            await asyncio.wait(self._unstored)

    async def _send(self, message: ToToy | AudioFrame) -> None:
        """Put a message on the wire.

        Raises ConnectionError if the toy is gone, has ended this turn meanwhile, or was told goodbye.
        """
        if self.closed:
            raise ConnectionAbortedError("the conversation is over")
        if not self._link.sending(message):
            raise ConnectionAbortedError("the toy has ended this turn")
        await self._put(message)
