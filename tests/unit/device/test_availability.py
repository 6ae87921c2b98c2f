"""The share of time in which a press would have been answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.mind.availability import FADING_S, Availability, is_online, would_answer
from pommai.device.mind.states import (
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
from pommai.protocol import ErrorCode

IDLE, OFFLINE = Idle(1), Offline(1)
RESTING = ErrorCode.PAUSED


@pytest.mark.parametrize(
    ("state", "answered", "online"),
    [
        (Booting(), False, False),
        (Connecting(1), True, False),
        (OFFLINE, True, False),
        (IDLE, True, True),
        (Listening(1, started=False), True, True),
        (Listening(1, started=True), True, True),
        (Holding(1, OFFLINE), True, False),
        (Holding(1, IDLE), True, True),
        (Thinking(1), True, True),
        (Speaking(1), True, True),
        (Interrupted(1, began=True), True, False),
        (Paused(1, RESTING, IDLE), True, True),
        (Paused(1, RESTING, OFFLINE), True, False),
        (Playing(1, IDLE), True, True),
        (Playing(1, Paused(1, RESTING, OFFLINE)), True, False),
        (Playing(1, Stopping(1, restart=True)), False, False),
        (Error(1, ErrorCode.TIMEOUT, IDLE), True, True),
        (Error(1, ErrorCode.UNAVAILABLE, OFFLINE), True, False),
        (Error(1, ErrorCode.TIMEOUT, Stopping(1, restart=False)), False, False),
        (Error(1, Fault.SOUND, IDLE), False, True),
        (Stopping(1, restart=False), False, False),
    ],
)
def test_what_counts_in_each_state(state: State, answered: bool, online: bool) -> None:
    assert would_answer(state) is answered
    assert is_online(state) is online


def test_time_is_counted_from_state_to_state() -> None:
    availability = Availability(None, "b1", 100.0)
    availability.entered(Connecting(0), 102.0)
    availability.entered(IDLE, 110.0)
    availability.entered(Error(1, Fault.SOUND, IDLE), 180.0)
    availability.entered(IDLE, 183.0)
    shares = availability.shares(200.0)
    assert shares.counted_s == 100
    assert shares.answered == pytest.approx(0.95)
    assert shares.online == pytest.approx(0.90)


def test_asking_changes_nothing() -> None:
    often, once = Availability(None, "b1", 0.0), Availability(None, "b1", 0.0)
    for each in (often, once):
        each.entered(IDLE, 1.0)
    for now_s in range(2, 100):
        often.shares(now_s)
        often.snapshot(now_s)
    assert often.shares(100.0) == once.shares(100.0)


def test_of_no_time_nothing_is_claimed() -> None:
    shares = Availability(None, "b1", 5.0).shares(5.0)
    assert (shares.answered, shares.online, shares.counted_s) == (0.0, 0.0, 0.0)


def test_without_a_sound_card_nobody_is_answered_in_any_state() -> None:
    availability = Availability(None, "b1", 0.0)
    availability.sound(False, 0.0)
    availability.entered(IDLE, 10.0)
    availability.entered(Error(1, Fault.SOUND, IDLE), 20.0)
    availability.entered(IDLE, 23.0)
    availability.sound(True, 60.0)
    assert availability.shares(100.0).answered == pytest.approx(0.4)


def kept_at(now_s: float, boot: str = "b1") -> Any:
    """100 s, all of them answered, written down at `now_s` of its board."""
    availability = Availability(None, boot, now_s - 100)
    availability.entered(IDLE, now_s - 100)
    return json.loads(json.dumps(availability.snapshot(now_s), allow_nan=False))


def test_a_process_that_was_away_on_a_board_that_was_on_answered_nobody() -> None:
    availability = Availability(kept_at(500.0), "b1", 550.0)
    availability.entered(IDLE, 550.0)
    shares = availability.shares(600.0)
    assert shares.counted_s == 200
    assert shares.answered == pytest.approx(0.75)


def test_a_toy_that_was_switched_off_counts_from_when_its_board_was_started() -> None:
    availability = Availability(kept_at(500.0), "b2", 30.0)
    availability.entered(IDLE, 32.0)
    shares = availability.shares(100.0)
    assert shares.counted_s == 200
    assert shares.answered == pytest.approx(0.84)


def test_a_board_that_was_on_before_it_was_a_toy_owes_nothing() -> None:
    assert Availability(None, "b1", 1e6).shares(1e6).counted_s == 0


def test_on_a_board_that_does_not_tell_its_boots_only_the_process_counts() -> None:
    assert Availability(kept_at(500.0, boot=""), "", 550.0).shares(551.0).counted_s == 101


def test_what_is_long_past_fades() -> None:
    availability = Availability(None, "b1", 0.0)
    for day in range(60):  # two months without sound, then two without a fault
        availability.shares(day * 86_400.0)
    availability.entered(IDLE, 60 * 86_400.0)
    for day in range(60, 121):
        shares = availability.shares(day * 86_400.0)
        assert shares.counted_s <= FADING_S + 86_400
    assert shares.answered > 0.9


def test_a_clock_that_goes_back_counts_nothing() -> None:
    availability = Availability(None, "b1", 100.0)
    availability.entered(IDLE, 100.0)
    assert availability.shares(50.0).counted_s == 0
    assert availability.shares(60.0).counted_s == 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.one_of(JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(kept_at(500.0), JSON))),
    st.sampled_from(["", "b1"]),
)
def test_no_memory_breaks_the_count(kept: Any, boot: str) -> None:
    availability = Availability(kept, boot, 10.0)
    availability.entered(IDLE, 11.0)
    shares = availability.shares(20.0)
    assert 0 <= shares.answered <= 1
    assert 0 <= shares.online <= 1
    assert shares.counted_s >= 10
    json.dumps(availability.snapshot(20.0), allow_nan=False)


@given(
    st.lists(st.tuples(st.sampled_from([Booting(), IDLE, OFFLINE, Thinking(1)]), st.integers(0, 10**6)), max_size=30)
)
def test_shares_are_always_shares(steps: list[tuple[State, int]]) -> None:
    availability, now_s = Availability(None, "b1", 0.0), 0.0
    for state, lasts_s in steps:
        availability.entered(state, now_s)
        now_s += lasts_s
        shares = availability.shares(now_s)
        assert 0 <= shares.online <= shares.answered <= 1
