"""The whole behaviour of the toy: what it is now and what happens give what it is next and what it does.

Rule one: a state says only what is true in it, so that no question about the toy ever needs two variables.
Rule two: `step` decides and touches nothing; whatever it cannot decide from its two arguments belongs in an event.

The microphone is open in `Listening` and in no other state. `turn` is the number of the last turn that was begun, 0
before the first; numbers only grow, for as long as the process lives. docs/states.md lists all states and events.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pommai.device.events import (
    CancelTurn,
    CloseMic,
    Connect,
    Connected,
    Disconnected,
    Effect,
    EndUtterance,
    Event,
    Held,
    OpenMic,
    PlaybackFinished,
    Pressed,
    Released,
    SoundFailed,
    SpeakingStarted,
    Started,
    StartSpeaker,
    StartUtterance,
    StopSpeaker,
    Tapped,
    TimeLimitReached,
    TurnFailed,
)
from pommai.protocol import ErrorCode

RESTS: Final = frozenset({ErrorCode.PAUSED, ErrorCode.QUIET_HOURS, ErrorCode.DAILY_LIMIT})
"""The codes that are no failure: a parent wants the toy to rest."""


class Fault(StrEnum):
    """What fails in the toy itself; what fails beyond it has an `ErrorCode`."""

    SOUND = "sound"


# --- states -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booting:
    """The process has just been started; sound and lights are being made ready."""

    turn: int = 0


@dataclass(frozen=True, slots=True)
class Connecting:
    """There is no connection to the relay yet, or no longer; it may come back at any moment."""

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
class Thinking:
    """The utterance has been sent; the relay's reply has not begun."""

    turn: int


@dataclass(frozen=True, slots=True)
class Speaking:
    """The reply is being played."""

    turn: int


@dataclass(frozen=True, slots=True)
class Offline:
    """The relay has not been reached for a while; the uplink goes on trying."""

    turn: int


@dataclass(frozen=True, slots=True)
class Paused:
    """Connected, but a parent wants the toy to rest. `why`: one of `RESTS`."""

    turn: int
    why: ErrorCode


@dataclass(frozen=True, slots=True)
class Error:
    """Connected, but the last turn came to nothing. Shown for a moment; the child may press again at once."""

    turn: int
    why: ErrorCode | Fault


State = Booting | Connecting | Idle | Listening | Thinking | Speaking | Offline | Paused | Error

LIMIT_S: Final[dict[type[State], float]] = {
    Connecting: 10.0,  # long enough for a restarted relay, short enough that a child does not give up on a silent toy
    Listening: 20.0,  # the relay's longest utterance; reaching it ends the utterance and loses none of it
    Thinking: 30.0,  # the relay ends a turn within 25 s: 20 for the engines, 5 to say that they failed
    Speaking: 300.0,  # the longest bedtime story; beyond it, the end of the reply was lost
    Error: 3.0,
}
"""Seconds after which a state is left by `TimeLimitReached`, counted from when a state of this *type* was entered."""


# --- the step ---------------------------------------------------------------------------------------------------------

_Step = tuple[State, list[Effect]]


def step(state: State, event: Event) -> _Step:
    """The state after `event` in `state`, and the effects to perform, in this order; defined for every pair."""
    match state, event:
        case _, SpeakingStarted(turn) | PlaybackFinished(turn) | TurnFailed(turn) if turn != state.turn:
            return state, []  # an echo of an older turn
        case ((Booting() | Connecting() | Offline() | Paused()), _):
            return _apart(state, event)
        case ((Idle() | Error()), _):
            return _ready(state, event)
        case Listening(), _:
            return _listening(state, event)
        case _:
            return _answering(state, event)


def _apart(state: Booting | Connecting | Offline | Paused, event: Event) -> _Step:
    """No conversation is possible: the network or a parent has to speak first."""
    match state, event:
        case Booting(turn), Started():
            return Connecting(turn), [Connect()]
        case ((Connecting(turn) | Offline(turn) | Paused(turn)), Connected(paused)):
            return _welcomed(turn, paused), []
        case Paused(turn), Disconnected():
            return Connecting(turn), []
        case Connecting(turn), TimeLimitReached():
            return Offline(turn), []
    return state, []


def _ready(state: Idle | Error, event: Event) -> _Step:
    """A press begins a turn, also while an error still shows: a child does not wait for a light to go out."""
    turn = state.turn
    match state, event:
        case _, Pressed():
            return Listening(turn + 1, started=False), [OpenMic(turn + 1)]
        case _, Connected(paused):
            return _welcomed(turn, paused), []
        case _, Disconnected():
            return Connecting(turn), []
        case _, SoundFailed():
            return Error(turn, Fault.SOUND), []
        case Error(), TimeLimitReached():
            return Idle(turn), []
    return state, []


def _listening(state: Listening, event: Event) -> _Step:
    """The microphone is open, so whatever leads out of here ends the utterance or closes the microphone."""
    turn, started = state.turn, state.started
    forget: list[Effect] = [CloseMic(), CancelTurn(turn)] if started else [CloseMic()]
    match event:
        case Held() if not started:
            return Listening(turn, started=True), [StartUtterance(turn)]
        case Released() | TimeLimitReached() if started:
            return Thinking(turn), [EndUtterance(turn)]
        case Released() | Tapped() | TimeLimitReached():
            return Idle(turn), forget
        case TurnFailed(_, code):
            return _failed(turn, code), [CloseMic()]
        case Disconnected():
            return Connecting(turn), [CloseMic()]
        case SoundFailed():
            return Error(turn, Fault.SOUND), forget
    return state, []


def _answering(state: Thinking | Speaking, event: Event) -> _Step:
    """The relay owes us a reply, or we are playing it; whatever leads out of here leaves the speaker silent."""
    turn = state.turn
    hush: list[Effect] = [StopSpeaker()] if isinstance(state, Speaking) else []
    match state, event:
        case _, Pressed():  # barge-in
            return Listening(turn + 1, started=False), [StopSpeaker(), CancelTurn(turn), OpenMic(turn + 1)]
        case Thinking(), SpeakingStarted():
            return Speaking(turn), [StartSpeaker(turn)]
        case Speaking(), PlaybackFinished():
            return Idle(turn), []
        case _, TurnFailed(_, code):
            return _failed(turn, code), hush
        case _, Disconnected():
            return Connecting(turn), hush
        case _, SoundFailed():
            return Error(turn, Fault.SOUND), [*hush, CancelTurn(turn)]
        case _, TimeLimitReached():
            return Error(turn, ErrorCode.TIMEOUT), [*hush, CancelTurn(turn)]
    return state, []


def _welcomed(turn: int, paused: ErrorCode | None) -> Idle | Paused:
    return Idle(turn) if paused is None else Paused(turn, paused)


def _failed(turn: int, code: ErrorCode) -> Error | Paused:
    return Paused(turn, code) if code in RESTS else Error(turn, code)
