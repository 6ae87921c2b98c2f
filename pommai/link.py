"""The order of messages in pommai/1, for both ends, without any I/O.

Rule one: `ALLOWED` is the specification; a message that it does not list for the present phase is somebody's bug.
Rule two: the two ends see each other's messages late, so a message about a turn that its receiver has already ended is
no bug but an echo, and is dropped without a word.

A driver keeps one `Link` a connection. It asks `sending` before each frame it sends and `received` after each it gets.
"""

from __future__ import annotations

from enum import StrEnum

from pommai.errors import LocalProtocolError, RemoteProtocolError
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventsStored,
    Goodbye,
    Hello,
    Message,
    PhraseChunk,
    PhraseEnd,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.wire import type_name


class Side(StrEnum):
    """The two ends of a link."""

    TOY = "toy"
    RELAY = "relay"


class Phase(StrEnum):
    """Where a connection is in its conversation."""

    NEW = "new"
    GREETING = "greeting"
    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    CLOSED = "closed"


IN_TURN = frozenset({Phase.LISTENING, Phase.THINKING, Phase.SPEAKING})
"""The phases in which a turn is open."""

_TOY, _RELAY = Side.TOY, Side.RELAY

ALLOWED: dict[Phase, dict[tuple[Side, type], Phase]] = {
    Phase.NEW: {
        (_TOY, Hello): Phase.GREETING,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.GREETING: {
        (_RELAY, Welcome): Phase.IDLE,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.IDLE: {
        (_TOY, UtteranceStart): Phase.LISTENING,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.LISTENING: {
        (_TOY, AudioFrame): Phase.LISTENING,
        (_TOY, UtteranceEnd): Phase.THINKING,
        (_TOY, Cancel): Phase.IDLE,
        (_RELAY, Error): Phase.IDLE,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.THINKING: {
        (_TOY, Cancel): Phase.IDLE,
        (_RELAY, Transcript): Phase.THINKING,
        (_RELAY, SpeakingStart): Phase.SPEAKING,
        (_RELAY, Error): Phase.IDLE,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.SPEAKING: {
        (_TOY, Cancel): Phase.IDLE,
        (_RELAY, Sentence): Phase.SPEAKING,
        (_RELAY, AudioFrame): Phase.SPEAKING,
        (_RELAY, SpeakingEnd): Phase.IDLE,
        (_RELAY, Error): Phase.IDLE,
        (_RELAY, Goodbye): Phase.CLOSED,
    },
    Phase.CLOSED: {},
}
"""Phase → (who sends, what) → the phase after it. An `Error` without a turn may come in any phase and changes none.

A `Welcome` that resumes a turn leads to `THINKING` of that turn, and not to `IDLE`.
"""

ASIDE: dict[Side, frozenset[type]] = {
    _TOY: frozenset({EventBatch, CommandDone, PhrasesWanted, PhraseWanted}),
    _RELAY: frozenset({EventsStored, Command, PhraseManifest, PhraseChunk, PhraseEnd}),
}
"""What is about the toy and not about a turn: each side may send it in any phase of `WELCOMED`, and it changes none."""

WELCOMED = frozenset({Phase.IDLE, *IN_TURN})
"""The phases between the welcome and the end."""


class _NotAllowedError(Exception):
    """A message that the table does not list; becomes a Local or a Remote error at the two doors below."""


class Link:
    """One end of one connection. `turn` is the number of the last turn that was opened, 0 before the first."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.phase = Phase.NEW
        self.turn = 0
        self._ended_by: Side | None = None

    def sending(self, message: Message) -> bool:
        """Ask before you send. True: send it now. False: the other end has ended this turn meanwhile; drop it.

        Raises LocalProtocolError if the message is not allowed now: a bug on our side; do not send it.
        """
        try:
            return self._advance(self.side, message)
        except _NotAllowedError as error:
            raise LocalProtocolError(f"{self.side} may not send {error}") from None

    def received(self, message: Message) -> Message | None:
        """Tell after you received. The message: act on it. None: an echo of a turn that is over; ignore it.

        Raises RemoteProtocolError if the other end was not allowed to send it; answer with its code, the link goes on.
        """
        other = Side.RELAY if self.side is Side.TOY else Side.TOY
        try:
            return message if self._advance(other, message) else None
        except _NotAllowedError as error:
            raise RemoteProtocolError(ErrorCode.OUT_OF_ORDER, f"{other} may not send {error}") from None

    def _advance(self, sender: Side, message: Message) -> bool:
        """Move to the phase after `message`; False if it is an echo and moves nothing."""
        turn: int | None = None if isinstance(message, Hello) else getattr(message, "turn", None)
        if isinstance(message, Error) and turn is None:
            return True
        if self._is_echo(sender, message, turn):
            return False
        if type(message) in ASIDE[sender] and self.phase in WELCOMED:
            return True
        after = ALLOWED[self.phase].get((sender, type(message)))
        if after is None:
            raise _NotAllowedError(f"{type_name(type(message))} while {self.phase}")
        if isinstance(message, UtteranceStart):
            self.turn = message.turn
        if isinstance(message, Welcome) and message.resumed is not None:
            self.turn, after = message.resumed, Phase.THINKING
        if after not in IN_TURN:
            self._ended_by = sender
        self.phase = after
        return True

    def _is_echo(self, sender: Side, message: Message, turn: int | None) -> bool:
        """Whether `message` was overtaken: its turn, or the connection, was ended by the end that it travels to."""
        name = type_name(type(message))
        if self.phase is Phase.CLOSED:
            return sender is not self._ended_by
        if turn is None:
            return False
        if isinstance(message, UtteranceStart):
            if turn <= self.turn:
                raise _NotAllowedError(f"{name} of turn {turn} after turn {self.turn}")
            return False
        if turn > self.turn:
            raise _NotAllowedError(f"{name} of turn {turn} before it was started")
        if turn < self.turn:
            return True
        return self.phase not in IN_TURN and sender is not self._ended_by
