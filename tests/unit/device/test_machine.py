"""The toy's behaviour: the golden table, and the stories that matter. What always holds is in test_any_events.py."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest

from pommai.device.mind.effects import (
    CancelTurn,
    CloseMic,
    Connect,
    Earcon,
    Effect,
    EndUtterance,
    OpenMic,
    Play,
    PlayEarcon,
    StartSpeaker,
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
from pommai.device.mind.machine import step
from pommai.device.mind.states import (
    LIMIT_S,
    RESTS,
    SIGNS,
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
from pommai.protocol import RESUME_S, ErrorCode
from tests.unit.device import state_table

START, END, ERROR = PlayEarcon(Earcon.START), PlayEarcon(Earcon.END), PlayEarcon(Earcon.ERROR)


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


@pytest.mark.parametrize("state", state_table.STATES, ids=state_table.show)
def test_a_state_ends_with_its_time_limit_if_it_has_one(state: State) -> None:
    after, effects = step(state, TimeLimitReached())
    if isinstance(state, Interrupted) and state.signs < SIGNS:
        assert (after, effects) == (replace(state, signs=state.signs + 1), [END])
    elif type(state) in LIMIT_S:
        assert type(after) is not type(state)
    else:
        assert (after, effects) == (state, [])


# --- a turn -----------------------------------------------------------------------------------------------------------


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
    assert effects == [
        Connect(),
        OpenMic(1),
        START,
        Wake(),
        StartUtterance(1),
        EndUtterance(1),
        END,
        StartSpeaker(1),
    ]


def test_nothing_is_sent_of_a_tap() -> None:
    assert tell(Idle(4), Pressed(), Tapped(1)) == (Idle(5), [OpenMic(5), START, Wake(), CloseMic()])


@pytest.mark.parametrize("state", [Thinking(3), Speaking(3)])
def test_a_press_barges_in_and_the_toy_is_silent_before_it_listens(state: State) -> None:
    after, effects = step(state, Pressed())
    assert after == Listening(4, started=False)
    assert effects == [StopSpeaker(), CancelTurn(3), OpenMic(4), Wake()]


def test_a_tap_while_speaking_only_silences() -> None:
    state, effects = tell(Speaking(3), Pressed(), Tapped(1), SpeakingStarted(3), PlaybackFinished(3))
    assert state == Idle(4)
    assert effects == [StopSpeaker(), CancelTurn(3), OpenMic(4), Wake(), CloseMic()]


def test_a_cancelled_reply_that_comes_late_is_not_played() -> None:
    state, effects = tell(
        Thinking(3), Pressed(), Held(), Released(), SpeakingStarted(3), TurnFailed(3, ErrorCode.INTERNAL)
    )
    assert state == Thinking(4)
    assert StartSpeaker(3) not in effects


def test_an_utterance_that_is_too_long_is_ended_and_not_lost() -> None:
    state, effects = tell(Listening(2, started=True), TimeLimitReached(), Released())
    assert (state, effects) == (Thinking(2), [EndUtterance(2), END])


@pytest.mark.parametrize(("state", "hush"), [(Thinking(2), []), (Speaking(2), [StopSpeaker()])])
def test_a_reply_that_never_comes_or_ends_is_given_up_and_that_is_shown_and_heard(
    state: State, hush: list[Effect]
) -> None:
    after, effects = step(state, TimeLimitReached())
    assert (after, effects) == (Error(2, ErrorCode.TIMEOUT, Idle(2)), [*hush, CancelTurn(2), ERROR])
    assert step(after, TimeLimitReached()) == (Idle(2), [])


def test_a_failed_turn_shows_for_a_moment() -> None:
    state, effects = step(Speaking(2), TurnFailed(2, ErrorCode.UNAVAILABLE))
    assert (state, effects) == (Error(2, ErrorCode.UNAVAILABLE, Idle(2)), [StopSpeaker(), ERROR])
    assert step(state, TimeLimitReached()) == (Idle(2), [])
    assert step(state, Pressed()) == (Listening(3, started=False), [OpenMic(3), START, Wake()])


def test_broken_sound_ends_the_turn_on_both_sides() -> None:
    broken = Error(2, Fault.SOUND, Idle(2))
    assert step(Listening(2, started=True), SoundFailed()) == (broken, [CloseMic(), CancelTurn(2)])
    assert step(Listening(2, started=False), SoundFailed()) == (broken, [CloseMic()])
    assert step(Thinking(2), SoundFailed()) == (broken, [CancelTurn(2)])
    assert step(Speaking(2), SoundFailed()) == (broken, [StopSpeaker(), CancelTurn(2)])


# --- gestures ---------------------------------------------------------------------------------------------------------


def test_a_double_tap_repeats_the_last_reply_and_sends_nothing() -> None:
    state, effects = tell(Idle(4), Pressed(), Tapped(1), Pressed(), Tapped(2))
    assert state == Playing(6, Idle(6))
    taps: list[Effect] = [OpenMic(5), START, Wake(), CloseMic(), OpenMic(6), START, Wake(), CloseMic()]
    assert effects == [*taps, Play(6, Occasion.REPEAT)]
    assert step(state, PlaybackFinished(6)) == (Idle(6), [])


def test_a_third_tap_interrupts_what_the_second_began() -> None:
    state, effects = tell(Playing(6, Idle(6)), Pressed(), Tapped(3))
    assert state == Playing(7, Idle(7))
    assert effects == [StopSpeaker(), OpenMic(7), Wake(), CloseMic(), Play(7, Occasion.STATUS)]


@pytest.mark.parametrize("count", [4, 5, 12])
def test_a_child_who_taps_on_and_on_is_told_how_the_toy_is(count: int) -> None:
    state, effects = tell(Playing(7, Idle(7)), Pressed(), Tapped(count))
    assert state == Playing(8, Idle(8))
    assert effects == [StopSpeaker(), OpenMic(8), Wake(), CloseMic(), Play(8, Occasion.STATUS)]
    state, effects = tell(Offline(7), Pressed(), Tapped(count))
    assert (state, effects[-1]) == (Playing(8, Offline(7)), Play(8, Occasion.STATUS))
    state, effects = tell(Paused(7, ErrorCode.PAUSED, Idle(7)), Pressed(), Tapped(count))
    assert effects == [Play(8, Occasion.STATUS)]


def test_a_double_tap_while_speaking_lets_the_child_hear_it_from_the_beginning() -> None:
    state, effects = tell(Speaking(3), Pressed(), Tapped(1), Pressed(), Tapped(2))
    assert state == Playing(5, Idle(5))
    assert effects[-1] == Play(5, Occasion.REPEAT)
    assert effects.count(CancelTurn(3)) == 1


@pytest.mark.parametrize(("taps", "occasion"), [(2, Occasion.REPEAT), (3, Occasion.STATUS), (5, Occasion.STATUS)])
@pytest.mark.parametrize("beneath", [Connecting(6), Offline(6)], ids=state_table.show)
def test_taps_mean_the_same_without_a_network(beneath: Connecting | Offline, taps: int, occasion: Occasion) -> None:
    state, effects = tell(beneath, Pressed(), Tapped(taps))
    assert state == Playing(7, Offline(6))
    assert effects == [OpenMic(7), Wake(), CloseMic(), Play(7, occasion)]
    assert step(state, PlaybackFinished(7)) == (Offline(7), [])


@pytest.mark.parametrize(
    ("beneath", "occasion"), [(Offline(6), Occasion.ACTIVITY), (Connecting(6), Occasion.UNREACHABLE)]
)
def test_a_hold_without_a_network_is_answered(beneath: Connecting | Offline, occasion: Occasion) -> None:
    state, effects = tell(beneath, Pressed(), Held(), Released())
    assert (state, effects) == (Playing(7, Offline(6)), [OpenMic(7), Wake(), CloseMic(), Play(7, occasion)])


def test_a_hold_that_outlasts_the_outage_says_that_it_was_not_heard() -> None:
    state, effects = tell(Offline(6), Pressed(), Held(), Connected(), Released())
    assert (state, effects[-1]) == (Playing(7, Idle(6)), Play(7, Occasion.LOST_THREAD))


def test_who_presses_while_the_toy_connects_gets_one_excuse_and_then_an_activity() -> None:
    said = []
    state: State = Connecting(1)
    for _ in range(3):
        state, effects = tell(state, Pressed(), Held(), Released())
        said += [effect.occasion for effect in effects if isinstance(effect, Play)]
        state, _ = step(state, PlaybackFinished(state.turn))
    assert said == [Occasion.UNREACHABLE, Occasion.ACTIVITY, Occasion.ACTIVITY]
    assert tell(Connecting(1), Pressed(), Tapped(1)) == (Offline(2), [OpenMic(2), Wake(), CloseMic()])
    assert tell(Connecting(1), Pressed(), TimeLimitReached())[0] == Offline(2)
    assert tell(Connecting(1), Pressed(), SoundFailed())[0] == Error(2, Fault.SOUND, Offline(1))


@pytest.mark.parametrize("beneath", [Connecting(6), Offline(6)], ids=state_table.show)
def test_a_hold_of_a_press_that_nobody_took_is_taken(beneath: Connecting | Offline) -> None:
    assert step(beneath, Held()) == (Holding(7, beneath), [OpenMic(7), Wake()])
    assert step(Idle(6), Held()) == (Listening(7, started=True), [OpenMic(7), StartUtterance(7), Wake()])


HELP_IN = [
    Holding(7, Connecting(6)),
    Holding(7, Offline(6)),
    Holding(7, Idle(6)),
    Offline(7),
    Connecting(7),
    Paused(7, ErrorCode.PAUSED, Idle(7)),
    Paused(7, ErrorCode.QUIET_HOURS, Offline(7)),
    Error(7, Fault.SOUND, Offline(7)),
    Error(7, Fault.SOUND, Connecting(7)),
    Error(7, ErrorCode.UNAVAILABLE, Idle(7)),
    Error(7, ErrorCode.UNAVAILABLE, Paused(7, ErrorCode.PAUSED, Idle(7))),
]


@pytest.mark.parametrize("beneath", [Idle(6), Connecting(6), Offline(6)], ids=state_table.show)
def test_a_silent_hold_that_became_a_call_for_help_during_a_phrase_is_answered(beneath: State) -> None:
    helping = Playing(8, beneath, is_help=True)
    assert step(Playing(7, beneath), HeldLong()) == (helping, [StopSpeaker(), Play(8, Occasion.HELP)])
    assert step(helping, HeldLong()) == (helping, [])


def test_a_connection_that_breaks_after_a_long_silent_hold_is_answered_with_help() -> None:
    after, effects = step(Listening(7, started=True), Disconnected(silent_long=True))
    assert (after, effects) == (Playing(7, Connecting(7), is_help=True), [CloseMic(), Play(7, Occasion.HELP)])


def test_a_restart_that_is_commanded_waits_for_help_and_a_signal_does_not() -> None:
    helping = Playing(7, Idle(7), is_help=True)
    waiting = Playing(7, Stopping(7, restart=True), is_help=True)
    assert step(helping, StopRequested(restart=True)) == (waiting, [])
    assert step(waiting, PlaybackFinished(7)) == (Stopping(7, restart=True), [Stop()])
    assert step(helping, StopRequested()) == (Stopping(7, restart=False), [StopSpeaker(), ERROR, Stop()])
    assert step(waiting, StopRequested())[0] == Stopping(7, restart=False)


@pytest.mark.parametrize("state", HELP_IN, ids=state_table.show)
def test_a_call_for_help_is_answered(state: State) -> None:
    after, effects = step(state, HeldLong())
    assert isinstance(after, Playing)
    assert effects[-1] == Play(after.turn, Occasion.HELP)
    assert effects[:-1] == ([CloseMic()] if isinstance(state, Holding) else [])


def test_help_is_heard_to_its_end_though_the_button_comes_up_and_the_network_goes() -> None:
    state, effects = tell(
        Playing(7, Offline(7), is_help=True),
        Released(long=True),
        Disconnected(),
        Connected(),
        RestBegan(Rest.QUIET_HOURS),
        RestEnded(),
        PlayRequested(Occasion.LOW_BATTERY),
        PlayRequested(Occasion.PHRASE, "song-1"),
    )
    assert (state, effects) == (Playing(7, Idle(7), is_help=True), [])
    assert step(state, PlaybackFinished(7)) == (Idle(7), [])


BENEATH_HELP: list[State] = [
    Idle(6),
    Connecting(6),
    Offline(6),
    Paused(6, ErrorCode.PAUSED, Idle(6)),
    Stopping(6, restart=True),
]


@pytest.mark.parametrize("beneath", BENEATH_HELP, ids=state_table.show)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_stray_tap_cuts_off_no_help(beneath: State, count: int) -> None:
    helping = Playing(7, beneath, is_help=True)
    assert tell(helping, Pressed(), Tapped(count)) == (helping, [])
    if not isinstance(beneath, Stopping):
        resting, effects = tell(helping, Pressed(Rest.QUIET_HOURS), Tapped(count))
        assert isinstance(resting, Playing) and isinstance(resting.then, Paused) and resting.is_help
        assert effects == []


def test_a_hold_during_help_is_met_once_it_is_one() -> None:
    talking = tell(Playing(7, Idle(7), is_help=True), Pressed(), Held())
    assert talking == (Listening(8, started=True), [StopSpeaker(), OpenMic(8), StartUtterance(8), Wake()])
    state, effects = tell(Playing(7, Offline(7), is_help=True), Pressed(), Held(), HeldLong())
    assert state == Playing(8, Offline(7), is_help=True)
    assert effects == [StopSpeaker(), OpenMic(8), Wake(), CloseMic(), Play(8, Occasion.HELP)]


def test_a_hold_during_help_in_a_rest_gets_no_excuse_in_its_place() -> None:
    helping = Playing(7, Paused(6, ErrorCode.PAUSED, Idle(6)), is_help=True)
    assert tell(helping, Pressed(), Held(), Released()) == (helping, [])
    assert tell(helping, Pressed(), Held(), HeldLong(), Released(long=True)) == (helping, [])


@pytest.mark.parametrize(
    ("state", "effects"),
    [
        (Listening(7, started=True), [CloseMic(), CancelTurn(7), Play(7, Occasion.RESTARTING)]),
        (Listening(7, started=False), [CloseMic(), Play(7, Occasion.RESTARTING)]),
        (Holding(7, Offline(6)), [CloseMic(), Play(7, Occasion.RESTARTING)]),
    ],
    ids=["listening", "not yet", "offline"],
)
def test_a_silent_hold_is_a_restart_and_that_is_announced(state: State, effects: list[Effect]) -> None:
    assert step(state, HeldForRestart()) == (state, []), "somebody spoke, or nobody can say"
    after, done = step(state, HeldForRestart(silent=True))
    assert (after, done) == (Playing(7, Stopping(7, restart=True)), effects)
    assert step(after, Pressed()) == (after, [])
    assert step(after, PlaybackFinished(7)) == (Stopping(7, restart=True), [Stop()])
    assert step(after, TimeLimitReached()) == (Stopping(7, restart=True), [StopSpeaker(), Stop()])


def test_a_restart_that_cannot_be_announced_comes_all_the_same() -> None:
    state, effects = tell(
        Playing(7, Stopping(7, restart=True)), SoundFailed(), Pressed(), HeldLong(), TimeLimitReached()
    )
    assert (state, effects) == (Stopping(7, restart=True), [StopSpeaker(), Stop()])


@pytest.mark.parametrize("state", state_table.STATES, ids=state_table.show)
def test_a_closed_microphone_knows_of_no_silence_and_restarts_nothing(state: State) -> None:
    if not isinstance(state, Listening | Holding):
        assert step(state, HeldForRestart(silent=True)) == (state, [])


@pytest.mark.parametrize("beneath", [Idle(6), Connecting(6), Offline(6)], ids=state_table.show)
def test_when_help_has_been_heard_a_button_that_is_still_down_may_mean_a_restart(
    beneath: Idle | Connecting | Offline,
) -> None:
    state, effects = step(Playing(7, beneath, is_help=True), PlaybackFinished(7, called=True))
    assert (state, effects) == (Holding(8, beneath), [OpenMic(8)])
    assert step(state, HeldForRestart(silent=True))[0] == Playing(8, Stopping(8, restart=True))
    after, effects = step(state, Released(long=True))
    assert isinstance(after, Idle | Offline), "the call has been answered, and is no wish for an activity"
    assert effects == [CloseMic()]


def test_when_something_else_has_been_heard_a_button_that_is_still_down_means_nothing() -> None:
    for state in (Playing(7, Offline(7)), Playing(7, Paused(7, ErrorCode.PAUSED, Idle(7)), is_help=True)):
        assert step(state, PlaybackFinished(7, called=True)) == step(state, PlaybackFinished(7))


@pytest.mark.parametrize("state", state_table.STATES, ids=state_table.show)
def test_a_press_that_has_been_answered_is_no_call_for_help(state: State) -> None:
    assert step(state, HeldLong(answered=True)) == (state, [])


def test_whoever_called_for_help_hears_no_excuse_when_the_button_comes_up() -> None:
    resting = Paused(7, ErrorCode.PAUSED, Idle(7))
    state, effects = tell(resting, HeldLong(), PlaybackFinished(8), Released(long=True))
    assert (state, effects) == (Paused(8, ErrorCode.PAUSED, Idle(7)), [Play(8, Occasion.HELP)])


# --- rest -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(RESTS))
@pytest.mark.parametrize("state", [Listening(2, started=True), Thinking(2), Speaking(2)])
def test_a_turn_that_a_parent_does_not_allow_is_excused_and_leads_to_rest(state: State, code: ErrorCode) -> None:
    after, effects = step(state, TurnFailed(2, code))
    occasion = Occasion.BEDTIME if code is ErrorCode.QUIET_HOURS else Occasion.RESTING
    assert effects[-1] == Play(3, occasion)
    assert ERROR not in effects
    assert step(after, PlaybackFinished(2)) == (after, [])  # of the reply that was cut off
    assert step(after, PlaybackFinished(3)) == (Paused(3, code, Idle(2)), [])


def test_a_resting_toy_says_why_and_opens_no_microphone() -> None:
    state, effects = tell(Connecting(0), Connected(ErrorCode.QUIET_HOURS), Pressed(), Held(), Released())
    assert state == Playing(1, Paused(0, ErrorCode.QUIET_HOURS, Idle(0)))
    assert effects == [Play(1, Occasion.BEDTIME)]
    state, effects = tell(state, Pressed(), Tapped(1))
    assert effects == [StopSpeaker(), Play(2, Occasion.BEDTIME)]
    state, effects = tell(state, Pressed(), Tapped(2))
    assert effects == [StopSpeaker(), Play(3, Occasion.BEDTIME)], "the second tap cuts off what the first began"
    state, effects = tell(state, Pressed(), Tapped(3))
    assert effects == [StopSpeaker(), Play(4, Occasion.STATUS)]
    state, effects = tell(state, PlaybackFinished(4), Connected())
    assert (state, effects) == (Idle(4), [])


@pytest.mark.parametrize("beneath", [Idle(3), Connecting(3), Offline(3)], ids=state_table.show)
def test_a_press_in_a_rest_that_nobody_has_told_yet_opens_no_microphone(beneath: Idle | Connecting | Offline) -> None:
    resting = Paused(3, ErrorCode.QUIET_HOURS, beneath)
    for state, hush in (
        (beneath, []),
        (Error(3, Fault.SOUND, beneath), []),
        (Playing(3, beneath), [StopSpeaker()]),
    ):
        assert step(state, Pressed(Rest.QUIET_HOURS)) == (resting, hush)
    assert step(resting, Pressed(Rest.QUIET_HOURS)) == (resting, [])


def test_a_barge_in_after_a_limit_was_reached_silences_the_reply_and_is_excused() -> None:
    for state in (Thinking(3), Speaking(3)):
        after, effects = tell(state, Pressed(Rest.DAILY_LIMIT), Released())
        assert after == Playing(4, Paused(3, ErrorCode.DAILY_LIMIT, Idle(3)))
        assert effects == [StopSpeaker(), CancelTurn(3), Play(4, Occasion.RESTING)]
    after, effects = step(Interrupted(3, began=True), Pressed(Rest.PAUSED))
    assert (after, effects) == (Paused(3, ErrorCode.PAUSED, Connecting(3)), [StopSpeaker()])


@pytest.mark.parametrize("beneath", [Idle(3), Connecting(3), Offline(3)], ids=state_table.show)
def test_rest_begins_and_ends_without_the_relay(beneath: Idle | Connecting | Offline) -> None:
    paused = Paused(3, ErrorCode.DAILY_LIMIT, beneath)
    assert step(beneath, RestBegan(Rest.DAILY_LIMIT)) == (paused, [])
    assert step(paused, RestBegan(Rest.PAUSED)) == (Paused(3, ErrorCode.PAUSED, beneath), [])
    assert step(paused, RestEnded()) == (beneath, [])


@pytest.mark.parametrize(
    "state",
    [
        Listening(2, started=False),
        Listening(2, started=True),
        Thinking(2),
        Speaking(2),
        Interrupted(2, began=True),
    ],
    ids=state_table.show,
)
def test_a_limit_that_is_reached_in_mid_turn_waits_for_its_end(state: State) -> None:
    assert step(state, RestBegan(Rest.CONVERSATION_LIMIT)) == (state, [])


def test_a_rest_that_begins_while_the_button_is_down_closes_the_microphone_and_is_told() -> None:
    state, effects = tell(Holding(2, Offline(1)), RestBegan(Rest.PAUSED), Released())
    assert state == Playing(3, Paused(2, ErrorCode.PAUSED, Offline(1)))
    assert effects == [CloseMic(), Play(3, Occasion.RESTING)]


def test_a_resting_toy_that_loses_the_relay_rests_on() -> None:
    state, effects = tell(Paused(3, ErrorCode.PAUSED, Idle(3)), Disconnected(), TimeLimitReached())
    assert (state, effects) == (Paused(3, ErrorCode.PAUSED, Connecting(3)), [])
    assert step(state, RestEnded()) == (Connecting(3), [])


# --- the network ------------------------------------------------------------------------------------------------------


def test_without_a_network_the_toy_waits_and_comes_back() -> None:
    state, effects = tell(Idle(5), Disconnected(), Disconnected(), TimeLimitReached(), Disconnected())
    assert (state, effects) == (Offline(5), [])
    assert tell(state, Connected(), Pressed()) == (Listening(6, started=False), [OpenMic(6), START, Wake()])


def test_a_connection_lost_while_the_child_speaks_closes_the_microphone_and_is_told() -> None:
    state, effects = step(Listening(2, started=True), Disconnected())
    assert (state, effects) == (Playing(2, Connecting(2)), [CloseMic(), Play(2, Occasion.UNREACHABLE)])


def test_a_connection_lost_before_the_press_was_a_hold_makes_it_an_offline_one() -> None:
    state, effects = tell(Listening(2, started=False), Disconnected(), Held(), Released())
    assert (state, effects) == (Playing(2, Offline(2)), [CloseMic(), Play(2, Occasion.UNREACHABLE)])


def test_a_reply_that_is_wholly_here_is_played_to_its_end_without_a_connection() -> None:
    state, effects = tell(Speaking(2), Disconnected(complete=True), Connected(), PlaybackFinished(2))
    assert (state, effects) == (Idle(2), [])


@pytest.mark.parametrize(("state", "began"), [(Thinking(2), False), (Speaking(2), True)])
def test_an_interrupted_reply_goes_on_where_it_stopped(state: State, began: bool) -> None:
    cut, effects = tell(state, Disconnected(), Disconnected())
    assert (cut, effects) == (Interrupted(2, began=began), [])
    assert step(cut, Connected(resumed=2)) == (state, [])


def test_a_reply_that_is_not_resumed_ends_with_a_friendly_sentence() -> None:
    state, effects = tell(Speaking(2), Disconnected(), Connected())
    assert (state, effects) == (Playing(3, Idle(2)), [StopSpeaker(), Play(3, Occasion.LOST_THREAD)])
    assert step(state, PlaybackFinished(2)) == (state, [])


def test_a_reply_that_stays_away_ends_with_a_friendly_sentence_too() -> None:
    state, effects = tell(Thinking(2), Disconnected(), *[TimeLimitReached()] * (SIGNS + 1))
    assert state == Playing(3, Offline(2))
    assert effects == [*[END] * SIGNS, StopSpeaker(), Play(3, Occasion.UNREACHABLE)]


@pytest.mark.parametrize("state", [Thinking(2), Speaking(2)])
def test_a_reply_that_is_waited_for_can_be_resumed_after_each_sign_and_all_of_them_take_30_s(state: State) -> None:
    cut, _ = step(state, Disconnected())
    for _ in range(SIGNS + 1):
        assert step(cut, Connected(resumed=2)) == (state, [])
        cut, _ = step(cut, TimeLimitReached())
    assert not isinstance(cut, Interrupted)
    assert LIMIT_S[Interrupted] * (SIGNS + 1) == RESUME_S
    assert LIMIT_S[Interrupted] <= 8


def test_a_child_who_does_not_wait_for_the_rest_of_a_reply_has_given_it_up() -> None:
    state, effects = tell(Interrupted(2, began=True), Pressed(), Connected(resumed=2))
    assert (state, effects) == (Holding(3, Idle(2)), [StopSpeaker(), OpenMic(3), Wake(), CancelTurn(2)])


def test_a_relay_that_resumes_another_turn_is_told_to_forget_it() -> None:
    state, effects = step(Interrupted(5, began=True), Connected(resumed=4))
    assert state == Playing(6, Idle(5))
    assert effects == [StopSpeaker(), Play(6, Occasion.LOST_THREAD), CancelTurn(4)]


# --- what others want -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beneath", [Idle(3), Connecting(3), Offline(3), Paused(3, ErrorCode.PAUSED, Idle(3))], ids=state_table.show
)
def test_a_phrase_that_is_asked_for_is_played_wherever_nobody_talks(beneath: State) -> None:
    state, effects = step(beneath, PlayRequested(Occasion.PHRASE, "song-1"))
    assert (state, effects) == (Playing(4, beneath), [Play(4, Occasion.PHRASE, "song-1")])
    assert step(state, PlayRequested(Occasion.PHRASE, "song-2")) == (
        Playing(5, beneath),
        [StopSpeaker(), Play(5, Occasion.PHRASE, "song-2")],
    )


@pytest.mark.parametrize("state", [Listening(3, started=True), Thinking(3), Speaking(3), Holding(3, Offline(2))])
def test_a_phrase_that_is_asked_for_disturbs_nobody(state: State) -> None:
    assert step(state, PlayRequested(Occasion.PHRASE, "song-1")) == (state, [])


FAREWELLS: list[tuple[State, list[Effect]]] = [
    (Booting(), []),
    (Connecting(3), []),
    (Idle(3), []),
    (Offline(3), []),
    (Paused(3, ErrorCode.PAUSED, Idle(3)), []),
    (Error(3, Fault.SOUND, Idle(3)), []),
    (Listening(3, started=False), [CloseMic(), END]),
    (Holding(3, Offline(2)), [CloseMic(), END]),
    (Listening(3, started=True), [CloseMic(), CancelTurn(3), ERROR]),
    (Thinking(3), [StopSpeaker(), CancelTurn(3), ERROR]),
    (Speaking(3), [StopSpeaker(), CancelTurn(3), ERROR]),
    (Interrupted(3, began=True), [StopSpeaker(), ERROR]),
    (Playing(3, Idle(3)), [StopSpeaker(), ERROR]),
]


@pytest.mark.parametrize(("state", "farewell"), FAREWELLS, ids=[type(state).__name__ for state, _ in FAREWELLS])
def test_the_end_leaves_nothing_open_and_what_it_cuts_off_is_heard_to_be(state: State, farewell: list[Effect]) -> None:
    after, effects = step(state, StopRequested())
    assert (after, effects) == (Stopping(state.turn, restart=False), [*farewell, Stop()])
    assert tell(after, Pressed(), StopRequested(), Connected(), SoundFailed()) == (after, [])
