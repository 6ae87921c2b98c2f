"""The toy in the middle of a turn: the microphone is open, or the relay owes it a reply, or it plays one.

Part of `machine.step`, and pure as that is.
"""

from __future__ import annotations

from dataclasses import replace

from pommai.device.mind.effects import (
    CancelTurn,
    CloseMic,
    Earcon,
    Effect,
    EndUtterance,
    OpenMic,
    Play,
    PlayEarcon,
    StartSpeaker,
    StartUtterance,
    StopSpeaker,
    Wake,
)
from pommai.device.mind.events import (
    Connected,
    Disconnected,
    Event,
    Held,
    Occasion,
    PlaybackFinished,
    Pressed,
    Released,
    SoundFailed,
    SpeakingStarted,
    Tapped,
    TimeLimitReached,
    TurnFailed,
)
from pommai.device.mind.states import (
    RESTS,
    SIGNS,
    Beneath,
    Connecting,
    Error,
    Fault,
    Holding,
    Idle,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    State,
    Thinking,
)
from pommai.limits import Rest
from pommai.protocol import ErrorCode

Step = tuple[State, list[Effect]]
"""The state after an event, and the effects to perform, in this order."""


def listening(state: Listening, event: Event) -> Step:
    """The microphone is open, so whatever leads out of here ends the utterance or closes the microphone."""
    turn, started = state.turn, state.started
    forget: list[Effect] = [CloseMic(), CancelTurn(turn)] if started else [CloseMic()]
    match event:
        case Held() if not started:
            return Listening(turn, started=True), [StartUtterance(turn)]
        case Released() | TimeLimitReached() if started:
            return Thinking(turn), [EndUtterance(turn), PlayEarcon(Earcon.END)]
        case Tapped(count) if count > 1:
            after, effects = say(turn, tapped(count), Idle(turn))
            return after, [*forget, *effects]
        case Released() | Tapped() | TimeLimitReached():
            return Idle(turn), forget
        case TurnFailed(_, code):
            after, effects = _failed(turn, code)
            return after, [CloseMic(), *effects]
        case Disconnected(silent_long=silent_long) if started:
            after, effects = say(turn, Occasion.HELP if silent_long else Occasion.UNREACHABLE, Connecting(turn))
            return after, [CloseMic(), *effects]
        case Disconnected():
            return Holding(turn, Connecting(turn)), []
        case SoundFailed():
            return Error(turn, Fault.SOUND, Idle(turn)), forget
    return state, []


# --- a reply ----------------------------------------------------------------------------------------------------------


def answering(state: Thinking | Speaking, event: Event) -> Step:
    """The relay owes us a reply, or we are playing it; limits wait until it is over."""
    turn = state.turn
    hush: list[Effect] = [StopSpeaker()] if isinstance(state, Speaking) else []
    match state, event:
        case _, Pressed(Rest() as why):  # it is silent, as always, and no more
            return Paused(turn, ErrorCode(why), Idle(turn)), [StopSpeaker(), CancelTurn(turn)]
        case _, Pressed():  # barge-in
            return Listening(turn + 1, started=False), [StopSpeaker(), CancelTurn(turn), OpenMic(turn + 1), Wake()]
        case Thinking(), SpeakingStarted():
            return Speaking(turn), [StartSpeaker(turn)]
        case Speaking(), PlaybackFinished():
            return Idle(turn), []
        case _, TurnFailed(_, code):
            after, effects = _failed(turn, code)
            return after, [*hush, *effects]
        case Speaking(), Disconnected(complete=True):
            return Playing(turn, Connecting(turn)), []
        case _, Disconnected():
            return Interrupted(turn, began=isinstance(state, Speaking)), []
        case _, SoundFailed():
            return Error(turn, Fault.SOUND, Idle(turn)), [*hush, CancelTurn(turn)]
        case _, TimeLimitReached():
            return _error(turn, ErrorCode.TIMEOUT, [*hush, CancelTurn(turn)])
    return state, []


def interrupted(state: Interrupted, event: Event) -> Step:
    """The connection was lost in mid-turn; what is here of the reply plays on, and the rest may still come."""
    turn = state.turn
    match event:
        case Connected(_, int()):
            return Speaking(turn) if state.began else Thinking(turn), []
        case Connected(None):
            after, effects = say(turn + 1, Occasion.LOST_THREAD, Idle(turn))
            return after, [StopSpeaker(), *effects]
        case Connected(ErrorCode() as paused):
            after, effects = say(turn + 1, excuse(paused), Paused(turn, paused, Idle(turn)))
            return after, [StopSpeaker(), *effects]
        case TimeLimitReached() if state.signs < SIGNS:  # heard only if nothing else is
            return replace(state, signs=state.signs + 1), [PlayEarcon(Earcon.END)]
        case TimeLimitReached():
            after, effects = say(turn + 1, Occasion.UNREACHABLE, Offline(turn))
            return after, [StopSpeaker(), *effects]
        case Pressed(Rest() as why):
            return Paused(turn, ErrorCode(why), Connecting(turn)), [StopSpeaker()]
        case Pressed():
            return Holding(turn + 1, Connecting(turn)), [StopSpeaker(), OpenMic(turn + 1), Wake()]
        case SoundFailed():
            return Error(turn, Fault.SOUND, Connecting(turn)), [StopSpeaker()]
    return state, []


def say(turn: int, occasion: Occasion, then: Beneath, phrase: str = "") -> Step:
    return Playing(turn, then, is_help=occasion is Occasion.HELP), [Play(turn, occasion, phrase)]


def tapped(count: int) -> Occasion:
    """What a row of two taps or more asks for: a child who taps on and on means the last that has a meaning."""
    return Occasion.REPEAT if count == 2 else Occasion.STATUS


def welcomed(turn: int, paused: ErrorCode | None) -> Idle | Paused:
    return Idle(turn) if paused is None else Paused(turn, paused, Idle(turn))


def _failed(turn: int, code: ErrorCode) -> Step:
    """A turn that came to nothing; that a parent wants the toy to rest is said, and no error.

    It is said under a number of its own: the end of the reply that it cuts off may be on its way to us.
    """
    if code in RESTS:
        return say(turn + 1, excuse(code), Paused(turn, code, Idle(turn)))
    return _error(turn, code, [])


def _error(turn: int, why: ErrorCode, effects: list[Effect]) -> Step:
    return Error(turn, why, Idle(turn)), [*effects, PlayEarcon(Earcon.ERROR)]


def excuse(why: ErrorCode) -> Occasion:
    return Occasion.BEDTIME if why is ErrorCode.QUIET_HOURS else Occasion.RESTING
