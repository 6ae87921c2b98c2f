"""The toy's behaviour: the golden table, the stories that matter, and what holds for any sequence of events."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from pommai.device.machine import (
    LIMIT_S,
    RESTS,
    Booting,
    Connecting,
    Error,
    Fault,
    Idle,
    Listening,
    Offline,
    Paused,
    Speaking,
    State,
    Thinking,
    step,
)
from pommai.limits import Rest
from pommai.protocol import ErrorCode
from tests.unit.device import state_table


def tell(state: State, *events: Event) -> tuple[State, list[Effect]]:
    """The state after all `events`, and all effects in order."""
    effects: list[Effect] = []
    for event in events:
        state, more = step(state, event)
        effects += more
    return state, effects


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_golden_table_is_what_the_machine_does() -> None:
    assert state_table.GOLDEN.read_text(encoding="utf-8") == state_table.golden()


def test_the_document_is_what_the_machine_does() -> None:
    assert state_table.DOCUMENT.read_text(encoding="utf-8") == state_table.document()


def test_the_table_knows_every_state_and_every_event() -> None:
    assert {type(state) for state in state_table.STATES} == set(typing.get_args(State))
    assert {type(event) for event in state_table.EVENTS} == set(typing.get_args(Event))


def test_the_codes_to_rest_are_those_of_the_limits() -> None:
    assert {str(code) for code in RESTS} == set(Rest)


# --- stories ----------------------------------------------------------------------------------------------------------


def test_a_whole_conversation() -> None:
    state, effects = tell(
        Booting(),
        Started(),
        Connected(),
        Pressed(),
        Held(),
        Released(),
        SpeakingStarted(1),
        PlaybackFinished(1),
    )
    assert state == Idle(1)
    assert effects == [Connect(), OpenMic(1), StartUtterance(1), EndUtterance(1), StartSpeaker(1)]


def test_nothing_is_sent_of_a_tap() -> None:
    assert tell(Idle(4), Pressed(), Tapped(1)) == (Idle(5), [OpenMic(5), CloseMic()])


def test_a_double_tap_uses_two_turns_and_sends_nothing() -> None:
    state, effects = tell(Idle(4), Pressed(), Tapped(1), Pressed(), Tapped(2))
    assert (state, effects) == (Idle(6), [OpenMic(5), CloseMic(), OpenMic(6), CloseMic()])


@pytest.mark.parametrize("state", [Thinking(3), Speaking(3)])
def test_a_press_barges_in(state: State) -> None:
    after, effects = step(state, Pressed())
    assert after == Listening(4, started=False)
    assert effects == [StopSpeaker(), CancelTurn(3), OpenMic(4)]


def test_a_tap_while_speaking_only_silences() -> None:
    state, effects = tell(Speaking(3), Pressed(), Tapped(1), SpeakingStarted(3), PlaybackFinished(3))
    assert state == Idle(4)
    assert effects == [StopSpeaker(), CancelTurn(3), OpenMic(4), CloseMic()]


def test_a_cancelled_reply_that_comes_late_is_not_played() -> None:
    state, effects = tell(
        Thinking(3), Pressed(), Held(), Released(), SpeakingStarted(3), TurnFailed(3, ErrorCode.INTERNAL)
    )
    assert state == Thinking(4)
    assert StartSpeaker(3) not in effects


def test_an_utterance_that_is_too_long_is_ended_and_not_lost() -> None:
    state, effects = tell(Listening(2, started=True), TimeLimitReached(), Released())
    assert (state, effects) == (Thinking(2), [EndUtterance(2)])


def test_a_reply_that_never_comes_is_given_up() -> None:
    state, effects = tell(Thinking(2), TimeLimitReached(), TimeLimitReached())
    assert (state, effects) == (Idle(2), [CancelTurn(2)])


def test_a_failed_turn_shows_for_a_moment() -> None:
    state, effects = step(Speaking(2), TurnFailed(2, ErrorCode.UNAVAILABLE))
    assert (state, effects) == (Error(2, ErrorCode.UNAVAILABLE), [StopSpeaker()])
    assert step(state, TimeLimitReached()) == (Idle(2), [])
    assert step(state, Pressed()) == (Listening(3, started=False), [OpenMic(3)])


@pytest.mark.parametrize("code", sorted(RESTS))
@pytest.mark.parametrize("state", [Listening(2, started=True), Thinking(2), Speaking(2)])
def test_a_turn_that_a_parent_does_not_allow_leads_to_rest(state: State, code: ErrorCode) -> None:
    after, _ = step(state, TurnFailed(2, code))
    assert after == Paused(2, code)


def test_a_resting_toy_answers_no_press_until_it_may() -> None:
    state, effects = tell(
        Connecting(0), Connected(ErrorCode.QUIET_HOURS), Pressed(), Held(), Released(), Pressed(), Tapped(1)
    )
    assert (state, effects) == (Paused(0, ErrorCode.QUIET_HOURS), [])
    assert step(state, Connected()) == (Idle(0), [])


def test_without_a_network_the_toy_waits_and_comes_back() -> None:
    state, effects = tell(Idle(5), Disconnected(), TimeLimitReached())
    assert (state, effects) == (Offline(5), [])
    state, effects = tell(
        state, Pressed(), Held(), Released(), Pressed(), Tapped(1), Disconnected(), TimeLimitReached()
    )
    assert (state, effects) == (Offline(5), [])
    assert tell(state, Connected(), Pressed()) == (Listening(6, started=False), [OpenMic(6)])


def test_a_lost_connection_closes_the_microphone_and_tells_nobody() -> None:
    assert step(Listening(2, started=True), Disconnected()) == (Connecting(2), [CloseMic()])


def test_broken_sound_ends_the_turn_on_both_sides() -> None:
    assert step(Listening(2, started=True), SoundFailed()) == (Error(2, Fault.SOUND), [CloseMic(), CancelTurn(2)])
    assert step(Speaking(2), SoundFailed()) == (Error(2, Fault.SOUND), [StopSpeaker(), CancelTurn(2)])


# --- what always holds ------------------------------------------------------------------------------------------------

# In this part, the turn of a drawn event says how many turns it is late: 0 is the present one.

lags = st.sampled_from([0, 0, 0, 1, 2])
alone = (Started(), Disconnected(), Pressed(), Held(), Released(), SoundFailed(), TimeLimitReached())
events: st.SearchStrategy[Event] = st.one_of(
    *map(st.just, alone),
    st.builds(Connected, st.none() | st.sampled_from(sorted(RESTS))),
    st.builds(Tapped, st.integers(min_value=1, max_value=4)),
    st.builds(SpeakingStarted, lags),
    st.builds(PlaybackFinished, lags),
    st.builds(TurnFailed, lags, st.sampled_from(ErrorCode)),
)
"""Anything."""

CONVERSATION = (Connected(), Pressed(), Held(), Released(), SpeakingStarted(0), PlaybackFinished(0))
"""A good course of things."""

sequences = st.lists(st.tuples(st.integers(0, len(CONVERSATION)), events), min_size=1, max_size=25).map(
    lambda scenes: [event for n, interruption in scenes for event in (*CONVERSATION[:n], interruption)]
)
"""Conversations that are broken into, at any point, by anything."""


class Body:
    """A toy's body as far as effects can tell; it refuses what a real one could not do."""

    def __init__(self) -> None:
        self.mic: int | None = None
        self.sending: int | None = None
        self.playing: int | None = None

    def perform(self, effect: Effect) -> None:
        match effect:
            case OpenMic(turn):
                assert self.mic is None, "two microphones"
                assert self.playing is None, "the toy would hear itself"
                self.mic = turn
            case StartUtterance(turn):
                assert self.mic == turn and self.sending is None
                self.sending = turn
            case EndUtterance(turn):
                assert self.mic == turn == self.sending, "ended what was not being sent"
                self.mic = self.sending = None
            case CloseMic():
                assert self.mic is not None, "closed what was not open"
                self.mic = self.sending = None
            case StartSpeaker(turn):
                assert self.mic is None and self.playing is None
                self.playing = turn
            case StopSpeaker():
                self.playing = None
            case CancelTurn() | Connect():
                pass


def dated(event: Event, present: int) -> Event:
    """The drawn `event`, its lag made the number of a turn."""
    if isinstance(event, SpeakingStarted | PlaybackFinished | TurnFailed):
        return replace(event, turn=present - event.turn)
    return event


@given(sequences)
def test_what_holds_for_any_sequence_of_events(sequence: list[Event]) -> None:
    body = Body()
    state: State = step(Booting(), Started())[0]
    for drawn in sequence:
        before, event = state, dated(drawn, state.turn)
        state, effects = step(before, event)
        if event == PlaybackFinished(body.playing or 0):
            body.playing = None
        for effect in effects:
            body.perform(effect)
        assert state.turn >= before.turn, "turn numbers went back"
        assert Connect() not in effects, "connected twice"
        assert all(effect.turn == before.turn for effect in effects if isinstance(effect, CancelTurn))
        assert body.mic == (state.turn if isinstance(state, Listening) else None)
        assert body.sending == (state.turn if isinstance(state, Listening) and state.started else None)
        assert body.playing == (state.turn if isinstance(state, Speaking) else None)


@given(state=st.sampled_from(state_table.STATES), lag=st.integers(min_value=1, max_value=state_table.TURN))
def test_an_older_turn_changes_nothing(state: State, lag: int) -> None:
    turn = state.turn - lag
    for event in (SpeakingStarted(turn), PlaybackFinished(turn), TurnFailed(turn, ErrorCode.PAUSED)):
        assert step(state, event) == (state, [])


@pytest.mark.parametrize("state", state_table.STATES, ids=state_table.show)
def test_a_state_ends_with_its_time_limit_if_it_has_one(state: State) -> None:
    after, effects = step(state, TimeLimitReached())
    if type(state) in LIMIT_S:
        assert type(after) is not type(state)
    else:
        assert (after, effects) == (state, [])
