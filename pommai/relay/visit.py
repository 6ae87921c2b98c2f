"""One connection of a toy: the order of its messages, what it hears, and the replies that it gets.

A dialect feeds it the messages of its toy, one after another, and puts on the wire what it sends. It is a context
manager: when the block is left, whatever the reason, no task of it is left. Its conversation ends with it, unless the
toy was cut off (`let_go`).

An utterance that is longer than allowed is cut and answered: a child who talks too long should not be met by silence.
Only a toy that goes on far beyond that is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pommai.errors import AudioError
from pommai.limits import Rest
from pommai.link import Link, Phase, Side
from pommai.protocol import (
    VERSION,
    AudioFrame,
    Binary,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Message,
    Sentence,
    ToToy,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
)
from pommai.relay.conversation import Conversation
from pommai.relay.hearing import Hearing
from pommai.relay.parking import Parking
from pommai.relay.ports import ToyToken, Utterance
from pommai.relay.reply import Reply
from pommai.relay.terms import Terms

UPGRADE_RETRY_S: Final = 3600.0
"""When a toy of another protocol version may try again: it will not help before one of the two is updated."""

Send = Callable[[ToToy | Binary], Awaitable[None]]
"""Puts one message on the wire. Raises ConnectionError when the toy is gone, and nothing else."""


class Visit:
    """`async with Visit(...) as visit:` then `receive` for each message of the toy."""

    def __init__(
        self,
        token: ToyToken,
        send: Send,
        parking: Parking,
        new: Callable[[], Conversation],
        terms: Terms,
    ) -> None:
        """`new`: makes the toy's conversation, where none goes on."""
        self._token = token
        self._put = send
        self._parking = parking
        self._new = new
        self._terms = terms
        self._resting = False
        self._utc_offset_min: int | None = None
        self._link = Link(Side.RELAY)
        self._group = asyncio.TaskGroup()
        self._conversation: Conversation | None = None
        self._delivery: asyncio.Task[None] | None = None
        self._has_let_go = False
        self._captions = False
        self._heard = Hearing(terms.max_utterance_s)
        self._started_at_s = 0.0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        try:
            await self._stop_delivery()
            if self._conversation is not None:
                await self._conversation.end()
        finally:
            # The group must see a cancellation, which may be its own; any other error leaves the block as it came.
            await self._group.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))

    @property
    def closed(self) -> bool:
        """Whether the visit is over: the connection is to be closed now."""
        return self._link.phase is Phase.CLOSED

    @property
    def outdated(self) -> bool:
        """Whether the toy needs a new welcome, and is in no turn now.

        That is when it was told to rest and need not any more, or when local time has changed to or from summer time:
        pommai/1 says such things only in a welcome.
        """
        if self._link.phase is not Phase.IDLE:
            return False
        return self._utc_offset_min != self._terms.utc_offset_min or (self._resting and self._terms.rest() is None)

    @property
    def conversation(self) -> Conversation | None:
        """The conversation that goes on here; None before the toy was welcomed, and once it was let go."""
        return self._conversation

    async def receive(self, message: Message) -> Message | None:
        """Act on one message of the toy; not to be called again before it returns.

        Returns what the toy may send now and what is not about a turn: for the caller to act on. Raises
        RemoteProtocolError for what the toy may not send now (answer with `refuse`; the visit goes on), and
        ConnectionError if the toy is gone.
        """
        if self._has_let_go:
            raise ConnectionAbortedError("the toy was let go")
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
                return accepted  # None for the echo of a turn that is over
        return None

    async def send(self, message: ToToy | Binary) -> None:
        """Put a message on the wire.

        Raises ConnectionError if the toy is gone, has ended this turn meanwhile, or was told goodbye.
        """
        if self.closed:
            raise ConnectionAbortedError("the conversation is over")
        if isinstance(message, Transcript | Sentence) and not self._captions:
            return
        if not self._link.sending(message):
            raise ConnectionAbortedError("the toy has ended this turn")
        await self._put(message)

    async def refuse(self, code: ErrorCode) -> None:
        """Tell the toy that a message of it could not be read or was not allowed."""
        await self.send(Error(code))

    def let_go(self) -> None:
        """The toy was cut off, or has another connection: its conversation waits for it. Nothing more is taken here."""
        self._has_let_go = True
        if self._delivery is not None:
            self._delivery.cancel()
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            self._parking.park(self._token, conversation)

    async def close(self, code: ErrorCode, *, grace_s: float, retry_after_s: float) -> None:
        """Say goodbye: a turn in flight may end within `grace_s` seconds. After it the link is closed to any other.

        Returns when every turn has been stored.
        """
        conversation = self._conversation
        if conversation is not None:
            await conversation.wait(grace_s)
            await self._stop_turn()
        if not self.closed:
            await self.send(Goodbye(code, retry_after_s))
        if conversation is not None:
            await conversation.stored()

    async def _greet(self, hello: Hello) -> None:
        if hello.version != VERSION:
            await self.send(Error(ErrorCode.UNSUPPORTED_VERSION))
            await self.send(Goodbye(ErrorCode.UNSUPPORTED_VERSION, UPGRADE_RETRY_S))
            return
        self._captions = hello.captions
        conversation, reply = self._parking.pick_up(self._token.toy, hello, self._new)
        self._conversation = conversation
        if reply is None:
            await self._stop_turn()  # the one that the toy has given up
        rest = self._ask_rest()
        resumed = None if reply is None else reply.turn
        self._utc_offset_min = self._terms.utc_offset_min
        await self.send(self._terms.welcome(conversation.session, rest, resumed))
        if reply is not None and not self._has_let_go:
            self._deliver(reply)

    def _ask_rest(self) -> Rest | None:
        """Why the toy must rest now, remembered for `outdated`."""
        rest = self._terms.rest()
        self._resting = rest is not None
        return rest

    async def _listen(self, turn: int) -> None:
        await self._stop_turn()
        if self._conversation is not None:
            await self._conversation.room()
        rest = self._ask_rest()
        if rest is not None:
            await self.send(Error(ErrorCode(rest), turn=turn))
        else:
            self._heard = Hearing(self._terms.max_utterance_s)
            self._started_at_s = self._terms.unix_time()

    async def _collect(self, turn: int, packet: bytes) -> None:
        try:
            self._heard.add(packet)
        except AudioError:
            await self.send(Error(ErrorCode.BAD_AUDIO, turn=turn))
            return
        if self._heard.overlong:
            await self.send(Error(ErrorCode.UTTERANCE_TOO_LONG, turn=turn))

    def _answer(self, turn: int) -> None:
        utterance = Utterance(tuple(self._heard.packets))
        self._heard = Hearing(self._terms.max_utterance_s)
        if self._conversation is not None:
            self._deliver(self._conversation.answer(turn, utterance, self._started_at_s))

    def _deliver(self, reply: Reply) -> None:
        self._delivery = self._group.create_task(self._delivering(reply), name="turn delivery")

    async def _delivering(self, reply: Reply) -> None:
        with suppress(ConnectionError):  # whoever reads from the toy meets it too
            await reply.deliver(self.send)

    async def _stop_turn(self) -> None:
        """End the turn in flight, and whatever is still being delivered."""
        await self._stop_delivery()
        if self._conversation is not None:
            await self._conversation.stop()

    async def _stop_delivery(self) -> None:
        task, self._delivery = self._delivery, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
