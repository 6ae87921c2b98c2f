"""What holds for any sequence of events: the machine against a body, a relay and a clock that refuse the impossible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pommai.device.mind.effects import (
    CancelTurn,
    CloseMic,
    Connect,
    Effect,
    EndUtterance,
    OpenMic,
    Play,
    StartSpeaker,
    StartUtterance,
    Stop,
    StopSpeaker,
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
from pommai.device.mind.machine import step
from pommai.device.mind.states import (
    LIMIT_S,
    RESTS,
    SIGNS,
    Booting,
    Connecting,
    Error,
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
from tests.unit.device import state_table

# In a drawn event, the turn says how many turns it is late: 0 is the present one. `Connected(resumed=0)` stands for a
# relay that resumes what it is asked to.

RELAY_ANSWERS: Final = (SpeakingStarted(0), SpeakingStarted(0), SpeakingStarted(1), TurnFailed(1, ErrorCode.INTERNAL))
ANYTHING: Final[tuple[Event, ...]] = (
    Pressed(),
    Pressed(),
    Pressed(Rest.QUIET_HOURS),
    Held(),
    HeldLong(),
    HeldLong(answered=True),
    HeldForRestart(),
    HeldForRestart(silent=True),
    Released(),
    Released(long=True),
    Tapped(1),
    Tapped(2),
    Tapped(3),
    Tapped(4),
    Connected(),
    Connected(resumed=0),
    Connected(ErrorCode.QUIET_HOURS),
    Connected(ErrorCode.PAUSED, resumed=0),
    Disconnected(),
    Disconnected(complete=True),
    Disconnected(silent_long=True),
    *RELAY_ANSWERS,
    *(TurnFailed(0, code) for code in (ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, *sorted(RESTS))),
    PlaybackFinished(0),
    PlaybackFinished(0, called=True),
    PlaybackFinished(1),
    PlaybackFinished(2),
    RestBegan(Rest.PAUSED),
    RestBegan(Rest.DAILY_LIMIT),
    RestEnded(),
    SoundFailed(),
    TimeLimitReached(),
    TimeLimitReached(),
    PlayRequested(Occasion.PHRASE, "song-1"),
    PlayRequested(Occasion.LOW_BATTERY),
    StopRequested(),
    StopRequested(restart=True),
)
CONVERSATION: Final = (Connected(), Pressed(), Held(), Released(), SpeakingStarted(0), PlaybackFinished(0))
"""A good course of things."""

scenes = st.sampled_from([(event,) for event in ANYTHING] + [CONVERSATION[: n + 1] for n in range(len(CONVERSATION))])
sequences = st.lists(scenes, min_size=1, max_size=20)
"""Conversations that are broken into, at any point, by anything."""


class World:
    """A toy's body and its relay, as far as events and effects can tell; they refuse what real ones could not do."""

    def __init__(self) -> None:
        self.connected = False
        self.given_up: int | None = None
        """The reply that the toy asked its relay to resume, when it said hello."""
        self.mic: int | None = None
        self.sending: int | None = None
        self.playing: int | None = None
        self.cancelled: set[int] = set()
        self.stopped = False

    def events(self, drawn: Event, state: State) -> Iterable[Event]:
        """What can really happen when `drawn` wants to."""
        match drawn:
            case Connected(paused, resumed):
                if self.connected:
                    yield Disconnected()
                yield Connected(paused, None if resumed is None else self.given_up)
            case Disconnected(complete=True) if not isinstance(state, Speaking):
                yield Disconnected()  # no reply, or not the whole of it
            case SpeakingStarted(lag) | TurnFailed(lag) if self.connected:
                yield replace(drawn, turn=state.turn - lag)
            case SpeakingStarted() | TurnFailed():
                pass
            case PlaybackFinished(lag):
                if lag or not isinstance(state, Interrupted):  # what is not here as a whole cannot end
                    yield replace(drawn, turn=state.turn - lag)
            case _:
                yield drawn

    def happened(self, event: Event) -> None:
        """Before the machine is told."""
        match event:
            case Connected():
                assert not self.connected
                self.connected, self.given_up = True, None
            case Disconnected():
                self.connected = False
            case PlaybackFinished(turn) if turn == self.playing:
                self.playing = None

    def perform(self, effect: Effect) -> None:
        """What the machine wants."""
        assert not self.stopped, "something after the end"
        assert effect != Connect(), "connected twice"
        self.stopped = effect == Stop()
        self._hear(effect)
        self._sound(effect)

    def _hear(self, effect: Effect) -> None:
        match effect:
            case OpenMic(turn):
                assert self.mic is None, "two microphones"
                assert self.playing is None, "the toy would hear itself"
                self.mic = turn
            case StartUtterance(turn):
                assert self.mic == turn and self.sending is None and self.connected
                self.sending = turn
            case EndUtterance(turn):
                assert self.mic == turn == self.sending, "ended what was not being sent"
                self.mic = self.sending = None
            case CloseMic():
                assert self.mic is not None, "closed what was not open"
                self.mic = self.sending = None

    def _sound(self, effect: Effect) -> None:
        match effect:
            case StartSpeaker(turn) | Play(turn):
                assert self.mic is None, "the toy would hear itself"
                assert self.playing is None, "two things at once"
                if isinstance(effect, StartSpeaker):
                    assert turn not in self.cancelled, "a cancelled turn is played"
                self.playing = turn
            case StopSpeaker():
                self.playing = None
            case CancelTurn(turn):
                assert turn != self.playing, "a turn is cancelled and goes on"
                self.cancelled.add(turn)


def reached(state: State) -> bool | None:
    """Whether the toy believes that there is a connection."""
    match state:
        case Idle() | Listening() | Thinking() | Speaking():
            return True
        case Connecting() | Offline() | Interrupted():
            return False
        case Holding(then=then) | Paused(then=then) | Playing(then=then) | Error(then=then):
            return reached(then)
    return None


def sounding(state: State) -> bool:
    return isinstance(state, Speaking | Playing) or (isinstance(state, Interrupted) and state.began)


def check(world: World, before: State, event: Event, state: State, effects: list[Effect]) -> None:
    """What must be true after each event."""
    assert state.turn >= before.turn, "turn numbers went back"
    assert all(effect.turn <= state.turn for effect in effects if isinstance(effect, OpenMic | Play | CancelTurn))
    is_open = isinstance(state, Listening | Holding)
    assert world.mic == (state.turn if is_open else None)
    assert world.sending == (state.turn if isinstance(state, Listening) and state.started else None)
    assert world.playing == (state.turn if sounding(state) else None)
    assert reached(state) in (None, world.connected)
    if isinstance(before, Paused) or (isinstance(event, Pressed) and event.rest):
        assert not any(isinstance(effect, OpenMic) for effect in effects)
    if isinstance(before, Playing) and before.is_help:
        may_cut = isinstance(event, Held | SoundFailed | TimeLimitReached) or event == StopRequested()
        assert may_cut or StopSpeaker() not in effects, "help is cut off"
        is_over = isinstance(event, PlaybackFinished) and event.turn == before.turn
        assert is_over or may_cut or (isinstance(state, Playing) and state.is_help)
    if isinstance(state, Playing) and isinstance(state.then, Stopping) and not isinstance(before, Playing):
        assert event == HeldForRestart(silent=True) and isinstance(before, Listening | Holding), "heard no silence"
    for effect in effects:
        if isinstance(effect, Play):
            assert isinstance(state, Playing) and state.turn == effect.turn
    assert world.stopped == isinstance(state, Stopping)
    if any(isinstance(effect, Stop) for effect in effects):
        assert isinstance(state, Stopping) and effects[-1] == Stop()


def check_help(state: State) -> None:
    """Whoever calls for help where there is nobody to talk to is answered."""
    if isinstance(state, Holding | Offline | Connecting | Paused | Error):
        after, effects = step(state, HeldLong())
        if isinstance(state, Error) and isinstance(state.then, Stopping):
            return
        assert isinstance(after, Playing)
        assert Play(after.turn, Occasion.HELP) in effects


LASTING: Final[dict[type[State], Event]] = {
    Idle: Pressed(),
    Offline: Pressed(),
    Paused: RestEnded(),
    Booting: Started(),
}
"""The states that may last, and what leads out of each."""


PRESSES: Final[tuple[tuple[Event, ...], ...]] = (
    (Pressed(), Tapped(1)),
    (Pressed(), Tapped(2)),
    (Pressed(), Tapped(5)),
    (Pressed(), Held(), Released()),
    (Pressed(), Held(), HeldLong(), Released(long=True)),
)
"""What a child can do with the button."""


def check_offline(state: State) -> None:
    """Who presses, as often and as fast as may be, hears an activity soon: no press makes the toy wait longer."""
    for press in PRESSES:
        after = state
        for _ in range(2):
            for event in press:
                after = step(after, event)[0]
            after = step(after, PlaybackFinished(after.turn))[0]
        if isinstance(beneath_all(after), Stopping | Paused):
            continue
        assert isinstance(after, Offline), "the toy waits for a relay for ever"
        after, effects = tell(after, Pressed(), Held(), Released())
        assert effects[-1] == Play(after.turn, Occasion.ACTIVITY)


def tell(state: State, *events: Event) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        state, more = step(state, event)
        effects += more
    return state, effects


def beneath_all(state: State) -> State:
    """What the toy waits for, or rests from, beneath what passes."""
    return beneath_all(state.then) if isinstance(state, Playing | Error | Holding) else state


def check_ways_out(state: State) -> None:
    """With nothing but time, the toy comes to a state that may last; and each of those has a way out."""
    for _ in range(8 + SIGNS):
        if type(state) not in LIMIT_S:
            break
        before = state
        state = step(before, TimeLimitReached())[0]
        assert type(state) is not type(before) or isinstance(state, Interrupted), "stuck"
    if isinstance(state, Stopping):
        return
    after, _ = step(state, LASTING[type(state)])
    assert type(after) is not type(state), "stuck"


@settings(max_examples=10_000)
@given(sequences)
def test_what_holds_for_any_sequence_of_events(sequence: list[tuple[Event, ...]]) -> None:
    world = World()
    state: State = step(Booting(), Started())[0]
    seen: set[State] = set()
    for scene in sequence:
        for drawn in scene:
            for event in world.events(drawn, state):
                world.happened(event)
                before = state
                state, effects = step(before, event)
                for effect in effects:
                    world.perform(effect)
                check(world, before, event, state, effects)
                if isinstance(state, Interrupted):
                    world.given_up = state.turn
                if state not in seen:
                    seen.add(state)
                    check_help(state)
                    check_ways_out(state)
                    if reached(state) is False:
                        check_offline(state)


@pytest.mark.parametrize("state", state_table.STATES, ids=state_table.show)
def test_every_state_has_a_way_out_and_an_answer_to_a_call_for_help(state: State) -> None:
    check_ways_out(state)
    check_help(state)
    if reached(state) is False:
        check_offline(state)


@given(state=st.sampled_from(state_table.STATES), lag=st.integers(min_value=1, max_value=state_table.TURN))
def test_an_older_turn_changes_nothing(state: State, lag: int) -> None:
    turn = state.turn - lag
    for event in (SpeakingStarted(turn), PlaybackFinished(turn), TurnFailed(turn, ErrorCode.PAUSED)):
        assert step(state, event) == (state, [])
