"""What the toy can be; `machine.step` says how it gets from one to the other.

A state that passes by itself has a `then`: what the toy is beneath it, and will be when it is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pommai.limits import Rest
from pommai.protocol import RESUME_S, ErrorCode

RESTS: Final = frozenset(ErrorCode(why) for why in Rest)
"""The codes that are no failure: a parent wants the toy to rest."""


class Fault(StrEnum):
    """What fails in the toy itself; what fails beyond it has an `ErrorCode`."""

    SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Booting:
    """The process has just been started; sound and lights are being made ready."""

    turn: int = 0


@dataclass(frozen=True, slots=True)
class Connecting:
    """There is no connection to the relay yet, or no longer; it may come back at any moment."""

    turn: int


@dataclass(frozen=True, slots=True)
class Offline:
    """The relay has not been reached for a while; the uplink goes on trying."""

    turn: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Connected, silent, and waiting for a press."""

    turn: int


@dataclass(frozen=True, slots=True)
class Listening:
    """The button is down and the microphone open. `started`: it is a hold, and the utterance is being sent."""

    turn: int
    started: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """The button is down and there is no connection, or was none. The microphone tells silence from sound; no more."""

    turn: int
    then: Connecting | Offline | Idle


@dataclass(frozen=True, slots=True)
class Thinking:
    """The utterance has been sent; the relay's reply has not begun."""

    turn: int


@dataclass(frozen=True, slots=True)
class Speaking:
    """The reply is being played."""

    turn: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The connection was lost before the reply had come whole; it may be resumed. `began`: some of it was here.

    `signs`: how often the child has been given one that the toy still waits.
    """

    turn: int
    began: bool
    signs: int = 0


@dataclass(frozen=True, slots=True)
class Paused:
    """A parent wants the toy to rest; the microphone stays closed. `why`: one of `RESTS`."""

    turn: int
    why: ErrorCode
    then: Beneath


@dataclass(frozen=True, slots=True)
class Playing:
    """The toy says something of its own, or the rest of a reply that is wholly here.

    `is_help`: the answer to a call for help, which is heard to its end.
    """

    turn: int
    then: Beneath
    is_help: bool = False


@dataclass(frozen=True, slots=True)
class Error:
    """Something came to nothing. Shown for a moment; the child may press again at once."""

    turn: int
    why: ErrorCode | Fault
    then: Beneath


@dataclass(frozen=True, slots=True)
class Stopping:
    """The process is about to end. `restart`: to be started anew."""

    turn: int
    restart: bool


State = (
    Booting
    | Connecting
    | Offline
    | Idle
    | Listening
    | Holding
    | Thinking
    | Speaking
    | Interrupted
    | Paused
    | Playing
    | Error
    | Stopping
)

Beneath = State
"""What may lie beneath a state that passes: one that waits, or, beneath a phrase, a rest or the end."""

SIGNS: Final = 4
"""Signs that the toy still waits for the rest of a reply, before it gives that up."""

LIMIT_S: Final[dict[type[State], float]] = {
    Connecting: 10.0,  # long enough for a restarted relay, short enough that a child does not give up on a silent toy
    Listening: 20.0,  # the relay's longest utterance; reaching it ends the utterance and loses none of it
    Holding: 20.0,  # longer than any gesture: the button is stuck, or something lies on it
    Thinking: 30.0,  # the relay ends a turn within 25 s: 20 for the engines, 5 to say that they failed
    Speaking: 300.0,  # the longest bedtime story; beyond it, the end of the reply was lost
    Interrupted: RESUME_S / (SIGNS + 1),  # until the next sign: a child takes a longer silence for the end
    Playing: 300.0,
    Error: 3.0,
}
"""Seconds after which a state is left by `TimeLimitReached`, counted from when a state of this *type* was entered.

Only `Interrupted` may outlast its limit, and then it begins anew.
"""
