"""What a virtual toy tells of one press, whatever came of it."""

from __future__ import annotations

import pytest

from pommai.device.mind.states import (
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
from pommai.device.ports import FirstAudio, Heard, Note, Said, StateChanged, UtteranceEnded
from pommai.device.spoken import Progress
from pommai.protocol import ErrorCode

TALK = (Listening(3, started=False), Listening(3, started=True))
TURN = (*TALK, Thinking(3), Speaking(3))
UNREACHABLE = ErrorCode.UNAVAILABLE


def followed(*states: State) -> Progress:
    """A press that was to be turn 3, after these states; they are told until it is over."""
    progress = Progress(3)
    for state in states:
        progress.note(StateChanged(state, 0.0))
    return progress


GOES_ON: list[tuple[State, ...]] = [
    TALK,
    TURN[:-1],
    TURN,
    (*TURN, Interrupted(3, began=True)),
    (*TURN, Interrupted(3, began=True), Speaking(3)),
    (*TURN[:-1], Interrupted(3, began=False), Thinking(3)),
    (*TURN, Playing(3, Connecting(3))),
    (*TURN, Playing(3, Connecting(3)), Playing(3, Idle(3))),
    (*TURN, Playing(3, Connecting(3)), Playing(3, Paused(3, ErrorCode.PAUSED, Idle(3)))),
]

ENDS: list[tuple[tuple[State, ...], ErrorCode | Fault | None, bool]] = [
    ((*TURN, Idle(3)), None, False),
    ((*TALK[:1], Idle(3)), None, False),
    ((*TALK[:1], Playing(3, Idle(3))), None, False),
    ((*TURN, Listening(4, started=False)), None, True),
    ((*TURN, Error(3, Fault.SOUND, Idle(3))), Fault.SOUND, False),
    ((*TURN, Playing(3, Connecting(3)), Error(3, Fault.SOUND, Idle(3))), Fault.SOUND, False),
    ((*TURN, Playing(3, Connecting(3)), Connecting(3)), None, False),
    ((*TURN, Playing(3, Connecting(3)), Paused(3, ErrorCode.PAUSED, Idle(3))), None, False),
    ((*TURN, Playing(3, Connecting(3)), Holding(4, Connecting(3))), None, True),
    ((*TURN, Interrupted(3, began=True), Playing(4, Idle(3))), UNREACHABLE, False),
    ((*TURN, Interrupted(3, began=True), Playing(4, Offline(3))), UNREACHABLE, False),
    ((*TURN, Interrupted(3, began=True), Holding(4, Connecting(3))), UNREACHABLE, False),
    ((*TURN, Interrupted(3, began=True), Paused(3, ErrorCode.PAUSED, Idle(3))), ErrorCode.PAUSED, False),
    ((*TALK, Playing(3, Connecting(3))), UNREACHABLE, False),
    ((*TALK[:1], Holding(3, Connecting(3))), UNREACHABLE, False),
    ((Holding(3, Offline(2)),), UNREACHABLE, False),
    ((Offline(2),), UNREACHABLE, False),
    ((Paused(2, ErrorCode.QUIET_HOURS, Idle(2)),), ErrorCode.QUIET_HOURS, False),
    ((*TALK, Playing(4, Paused(3, ErrorCode.DAILY_LIMIT, Idle(3)))), ErrorCode.DAILY_LIMIT, False),
    ((*TURN, Playing(4, Paused(3, ErrorCode.PAUSED, Idle(3)))), ErrorCode.PAUSED, False),
    ((*TURN, Stopping(3, restart=False)), None, False),
]


def named(states: object) -> str:
    return "-".join(type(state).__name__ for state in states) if isinstance(states, tuple) else ""


@pytest.mark.parametrize("states", GOES_ON, ids=named)
def test_it_is_not_over_while_the_reply_may_still_be_heard(states: tuple[State, ...]) -> None:
    progress = followed(*states)
    assert not progress.over
    assert not progress.interrupted
    assert progress.error is None


@pytest.mark.parametrize(("states", "error", "interrupted"), ENDS, ids=named)
def test_it_is_over_and_says_why(states: tuple[State, ...], error: ErrorCode | Fault | None, interrupted: bool) -> None:
    assert not followed(*states[:-1]).over
    progress = followed(*states)
    assert progress.over
    assert (progress.error, progress.interrupted) == (error, interrupted)
    progress.note(StateChanged(Error(9, Fault.SOUND, Idle(9)), 0.0))
    assert (progress.error, progress.interrupted) == (error, interrupted), "what comes later is another turn's"


def test_states_before_the_press_was_met_say_nothing() -> None:
    assert not followed(Idle(2), Speaking(2), Thinking(2)).over


def test_only_notes_of_its_turn_count() -> None:
    progress = followed(*TURN)
    notes: list[Note] = [
        Heard(2, "no"),
        Heard(3, "why"),
        Said(3, "Because."),
        Said(4, "no"),
        Said(3, "So."),
        UtteranceEnded(2, 1.0),
        UtteranceEnded(3, 2.0),
        FirstAudio(3, 3.0),
        FirstAudio(4, 4.0),
    ]
    for note in notes:
        progress.note(note)
    assert (progress.heard, progress.said) == ("why", ["Because.", "So."])
    assert (progress.released_at_s, progress.first_audio_at_s) == (2.0, 3.0)
