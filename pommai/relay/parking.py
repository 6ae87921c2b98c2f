"""Conversations whose toy was cut off, kept for as long as it may come back.

A toy that shows the session of its conversation within `RESUME_S` goes on with it: with the turn that its hello asks
for, if that can be resumed, and with what was said before in any case. A toy that knows the session but asks for no
turn has given up the one it was in; and one that asks for a turn that never began here was cut off while the child
spoke. Both keep the memory, for children go on talking. Every other hello begins a new conversation, and ends the one
that was kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pommai.protocol import RESUME_S, Hello
from pommai.relay.conversation import Conversation
from pommai.relay.ports import Outcome, ToyToken
from pommai.relay.reply import Reply

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parked:
    """A conversation without a connection, and the token that its last one was opened with."""

    token: ToyToken
    conversation: Conversation
    timer: asyncio.TimerHandle


class Parking:
    """At most one conversation for each toy. `close` it."""

    def __init__(self) -> None:
        self._parked: dict[str, Parked] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def parked(self) -> dict[str, Parked]:
        """What is parked now, by toy."""
        return dict(self._parked)

    def park(self, token: ToyToken, conversation: Conversation) -> None:
        """Keep a conversation until its toy comes back, is given up, or `RESUME_S` have passed."""
        if self._closed:
            self._end(conversation)
            return
        _log.info("toy cut off toy=%s in_turn=%s", token.toy, conversation.in_turn)
        timer = asyncio.get_running_loop().call_later(RESUME_S, self.give_up, conversation)
        self._parked[token.toy] = Parked(token, conversation, timer)

    def pick_up(self, toy: str, hello: Hello, new: Callable[[], Conversation]) -> tuple[Conversation, Reply | None]:
        """The conversation for a toy that says hello, and the reply that goes on in it, if one does."""
        parked = self._parked.pop(toy, None)
        if parked is None:
            return new(), None
        parked.timer.cancel()
        conversation = parked.conversation
        if hello.session == conversation.session:
            reply = conversation.resume(hello)
            if reply is not None or hello.turn is None or conversation.is_behind(hello.turn):
                _log.info("toy came back toy=%s resumed=%s", toy, reply is not None)
                return conversation, reply
        self._end(conversation)
        return new(), None

    def give_up(self, conversation: Conversation) -> None:
        """End a conversation, if it is still parked: its turn counts as interrupted."""
        parked = self._parked.get(conversation.toy)
        if parked is not None and parked.conversation is conversation:
            del self._parked[conversation.toy]
            parked.timer.cancel()
            self._end(conversation)

    async def close(self) -> None:
        """End every conversation that is parked, or ever will be; return when their turns are stored."""
        self._closed = True
        for parked in tuple(self._parked.values()):
            self.give_up(parked.conversation)
        if self._ending:
            await asyncio.wait(self._ending)

    def _end(self, conversation: Conversation) -> None:
        _log.info("conversation ended without its toy toy=%s", conversation.toy)
        ending = asyncio.create_task(conversation.end(Outcome.INTERRUPTED), name="ending")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
