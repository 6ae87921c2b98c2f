"""The whole behaviour of the toy: what it is now and what happens give what it is next and what it does.

Rule one: a state says only what is true in it, so that no question about the toy ever needs two variables. What passes
by itself (a phrase, an error, a rest, a held button) lies on top of the state to come after it, its `then`, and what
happens meanwhile happens to that one.
Rule two: `step` decides and touches nothing; whatever it cannot decide from its two arguments belongs in an event.

The microphone is open in `Listening` and in `Holding`, and in no other state. `turn` is the number of the last turn
that was begun, 0 before the first; numbers only grow, for as long as the process lives, and what the toy says by itself
takes a number too. docs/states.md lists all states and events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pommai.device.mind.conversing import Step, answering, excuse, interrupted, listening, say, tapped, welcomed
from pommai.device.mind.effects import (
    CancelTurn,
    CloseMic,
    Connect,
    Earcon,
    Effect,
    OpenMic,
    PlayEarcon,
    StartUtterance,
    Stop,
    StopSpeaker,
    Wake,
)
from pommai.device.mind.events import (
    Connected,
    Disconnected,
    Event,
    Held,
    HeldForRestart,
    HeldLong,
    Occasion,
    PlaybackFinished,
    PlayRequested,
    Pressed,
    Released,
    RestBegan,
    RestEnded,
    SoundFailed,
    SpeakingStarted,
    Started,
    StopRequested,
    Tapped,
    TimeLimitReached,
    TurnFailed,
)
from pommai.device.mind.states import (
    Beneath,
    Booting,
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
    Stopping,
    Thinking,
)
from pommai.limits import Rest
from pommai.protocol import ErrorCode


def step(state: State, event: Event) -> Step:
    """The state after `event` in `state`, and the effects to perform, in this order; defined for every pair."""
    match state, event:
        case Stopping(), _:
            return state, []
        case _, SpeakingStarted(turn) | PlaybackFinished(turn) | TurnFailed(turn) if turn != state.turn:
            return state, []  # an echo of an older turn
        case _, Connected(paused, int(resumed)) if not isinstance(state, Interrupted) or resumed != state.turn:
            after, effects = step(state, Connected(paused))  # the child has given up that reply meanwhile
            return after, [*effects, CancelTurn(resumed)]
        case Playing(turn, is_help=True), StopRequested(restart=True):  # a wish, and no signal: it can wait
            return replace(state, then=Stopping(turn, restart=True)), []
        case _, StopRequested(restart):
            return _stop(state, restart=restart)
        case _, HeldLong(answered=True):
            return state, []
        case ((Listening() | Holding()), HeldForRestart(silent=True)):
            return _restart_soon(state)
        case ((Idle() | Connecting() | Offline() | Error() | Playing()), Pressed(Rest() as why)):
            return _both(state, RestBegan(why), Pressed())  # before a microphone is open
    return _STEPS[type(state)](state, event)


# --- waiting: the network, a parent or the child has to begin ---------------------------------------------------------


def _booting(state: Booting, event: Event) -> Step:
    return (Connecting(state.turn), [Connect()]) if isinstance(event, Started) else (state, [])


def _idle(state: Idle, event: Event) -> Step:
    turn = state.turn
    match event:
        case Pressed():
            return Listening(turn + 1, started=False), [OpenMic(turn + 1), PlayEarcon(Earcon.START), Wake()]
        case Held():  # of a press that came while the toy could not listen; it is too late for an earcon
            return Listening(turn + 1, started=True), [OpenMic(turn + 1), StartUtterance(turn + 1), Wake()]
        case Disconnected():
            return Connecting(turn), []
        case SoundFailed():
            return Error(turn, Fault.SOUND, state), []
    return _waiting(state, event)


def _apart(state: Connecting | Offline, event: Event) -> Step:
    turn = state.turn
    match state, event:
        case _, Pressed() | Held():
            return Holding(turn + 1, state), [OpenMic(turn + 1), Wake()]
        case Connecting(), TimeLimitReached():
            return Offline(turn), []
    return _waiting(state, event)


def _waiting(state: Idle | Connecting | Offline, event: Event) -> Step:
    turn = state.turn
    match event:
        case HeldLong():  # the microphone failed meanwhile, or the reason for the press has gone
            return say(turn + 1, Occasion.HELP, state)
        case PlayRequested(occasion, phrase):
            return say(turn + 1, occasion, state, phrase)
        case Connected(paused):
            return welcomed(turn, paused), []
        case RestBegan(why):
            return Paused(turn, ErrorCode(why), state), []
    return state, []


# --- what passes: it has its own end, and what happens meanwhile happens to what is beneath it ------------------------


def _playing(state: Playing, event: Event) -> Step:
    turn, then = state.turn, state.then
    match event:
        case Held() if state.is_help and not isinstance(then, Paused | Stopping):  # the child wants something else now
            after, effects = step(_numbered(then, turn), event)
            return after, [StopSpeaker(), *effects]
        case Pressed() | PlayRequested() if state.is_help:  # it may be a tap, by mistake: help is heard to its end
            return state, []
        case HeldLong() if not state.is_help and not isinstance(then, Stopping):  # of a press that began before this
            after, effects = say(turn + 1, Occasion.HELP, then)
            return after, [StopSpeaker(), *effects]
        case PlaybackFinished(called=True) if isinstance(then, Idle | Connecting | Offline) and state.is_help:
            return Holding(turn + 1, then), [OpenMic(turn + 1)]  # whether it means a restart
        case PlaybackFinished():
            return _uncovered(state)
        case TimeLimitReached():
            after, effects = _uncovered(state)
            return after, [StopSpeaker(), *effects]
        case SoundFailed():
            return Error(turn, Fault.SOUND, then), [StopSpeaker()]
        case Pressed() if not isinstance(then, Stopping):
            after, effects = step(_numbered(then, turn), event)
            return after, [StopSpeaker(), *(effect for effect in effects if not isinstance(effect, PlayEarcon))]
        case PlayRequested(occasion, phrase):
            after, effects = say(turn + 1, occasion, then, phrase)
            return after, [StopSpeaker(), *effects]
    return _beneath(state, event)


def _showing(state: Error, event: Event) -> Step:
    match event:
        case TimeLimitReached():
            return _uncovered(state)
        case Pressed() | HeldLong() | PlayRequested() if not isinstance(state.then, Stopping):
            return step(_numbered(state.then, state.turn), event)
    return _beneath(state, event)


def _paused(state: Paused, event: Event) -> Step:
    turn = state.turn
    match event:
        case Tapped(count) if count > 2:
            return say(turn + 1, Occasion.STATUS, state)
        case Released(long=False) | Tapped():  # a longer hold was a call for help, and has been answered
            return say(turn + 1, excuse(state.why), state)
        case HeldLong():
            return say(turn + 1, Occasion.HELP, state)
        case PlayRequested(occasion, phrase):
            return say(turn + 1, occasion, state, phrase)
        case Connected(paused):
            return welcomed(turn, paused), []
        case RestBegan(why):
            return replace(state, why=ErrorCode(why)), []
        case RestEnded():
            return _uncovered(state)
    return _beneath(state, event)


def _beneath(state: Playing | Error | Paused, event: Event) -> Step:
    """What the network and parents do meanwhile."""
    if not isinstance(event, Connected | Disconnected | RestBegan | RestEnded):
        return state, []
    then, effects = step(state.then, event)
    return replace(state, then=then), effects


def _uncovered(state: Playing | Error | Paused) -> Step:
    """It is over: what is beneath it comes to light."""
    beneath = _numbered(state.then, state.turn)
    return _stop(beneath, restart=beneath.restart) if isinstance(beneath, Stopping) else (beneath, [])


# --- the button is down -----------------------------------------------------------------------------------------------


def _holding(state: Holding, event: Event) -> Step:
    """The button is down and there is nobody to talk to: what the child means shows when it comes up, or in time."""
    turn, then = state.turn, state.then
    given_up = Offline(then.turn) if isinstance(then, Connecting) else then  # it was reached neither then nor since
    after: State
    effects: list[Effect]
    match event:
        case Tapped(1) | Released(long=True) | TimeLimitReached():  # a longer hold has been answered
            after, effects = _numbered(given_up, turn), []
        case Tapped() | Released() | HeldLong():
            after, effects = say(turn, _gesture(event, then), given_up)
        case SoundFailed():
            after, effects = Error(turn, Fault.SOUND, given_up), []
        case Connected() | Disconnected() | RestBegan():
            beneath, effects = step(then, event)
            if isinstance(beneath, Idle | Connecting | Offline):
                return Holding(turn, beneath), effects
            after = _numbered(beneath, turn)  # a rest: not even loudness is measured
        case _:
            return state, []
    return after, [CloseMic(), *effects]


# --- the end ----------------------------------------------------------------------------------------------------------


def _stop(state: State, *, restart: bool) -> Step:
    """Leave nothing open, and let the child hear that it was no whim: an error's earcon for a turn that is cut off."""
    turn = state.turn
    farewell: list[Effect] = [Stop()]
    match state:
        case Listening(started=True):
            farewell = [CloseMic(), CancelTurn(turn), PlayEarcon(Earcon.ERROR), Stop()]
        case Listening() | Holding():
            farewell = [CloseMic(), PlayEarcon(Earcon.END), Stop()]
        case Thinking() | Speaking():
            farewell = [StopSpeaker(), CancelTurn(turn), PlayEarcon(Earcon.ERROR), Stop()]
        case Interrupted() | Playing():
            farewell = [StopSpeaker(), PlayEarcon(Earcon.ERROR), Stop()]
    return Stopping(turn, restart), farewell


# --- parts of a step --------------------------------------------------------------------------------------------------


def _gesture(event: Tapped | Released | HeldLong, then: Beneath) -> Occasion:
    """What the button means where there is nobody to talk to.

    A hold is for something to do with a toy that is offline; of one that was not, or is no longer, it gets an excuse.
    """
    match event, then:
        case Tapped(count), _:
            return tapped(count)
        case HeldLong(), _:
            return Occasion.HELP
        case _, Offline():
            return Occasion.ACTIVITY
        case _, Idle():
            return Occasion.LOST_THREAD
    return Occasion.UNREACHABLE


def _restart_soon(state: Listening | Holding) -> Step:
    """The child, or whoever cares for the toy, wants it to begin anew: say so first."""
    after, effects = say(state.turn, Occasion.RESTARTING, Stopping(state.turn, restart=True))
    cancel = [CancelTurn(state.turn)] if isinstance(state, Listening) and state.started else []
    return after, [CloseMic(), *cancel, *effects]


def _both(state: State, first: Event, second: Event) -> Step:
    between, effects = step(state, first)
    after, more = step(between, second)
    return after, [*effects, *more]


def _numbered(state: Beneath, turn: int) -> Beneath:
    """`state`, with the number of the last turn that was begun."""
    return replace(state, turn=turn)


_STEPS: Final[dict[type[State], Callable[[Any, Event], Step]]] = {
    Booting: _booting,
    Connecting: _apart,
    Offline: _apart,
    Idle: _idle,
    Listening: listening,
    Holding: _holding,
    Thinking: answering,
    Speaking: answering,
    Interrupted: interrupted,
    Paused: _paused,
    Playing: _playing,
    Error: _showing,
}
