"""Pause, quiet hours, daily limit and volume ceiling."""

from __future__ import annotations

from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.limits import BREAK_S, Limits, Rest, Talk, allowed_volume, in_quiet_hours, rest
from pommai.protocol import ErrorCode

NIGHT = Limits(quiet_from=time(19, 30), quiet_until=time(7))
NAP = Limits(quiet_from=time(13), quiet_until=time(14))


@pytest.mark.parametrize(
    ("limits", "now", "quiet"),
    [
        (NIGHT, time(19, 29, 59), False),
        (NIGHT, time(19, 30), True),
        (NIGHT, time(0), True),
        (NIGHT, time(6, 59, 59), True),
        (NIGHT, time(7), False),
        (NAP, time(12, 59), False),
        (NAP, time(13), True),
        (NAP, time(14), False),
        (Limits(), time(0), False),
    ],
)
def test_quiet_hours_begin_with_their_first_minute_and_end_before_their_last(
    limits: Limits, now: time, quiet: bool
) -> None:
    assert in_quiet_hours(limits, now) is quiet
    assert rest(limits, now, 0.0) is (Rest.QUIET_HOURS if quiet else None)


def test_the_parents_own_word_comes_first() -> None:
    assert rest(Limits(paused=True, quiet_from=time(0), quiet_until=time(23)), time(1), 1e9) is Rest.PAUSED


@pytest.mark.parametrize(("used_s", "expected"), [(59.9, None), (60.0, Rest.DAILY_LIMIT), (61.0, Rest.DAILY_LIMIT)])
def test_the_daily_limit_is_reached_with_its_last_second(used_s: float, expected: Rest | None) -> None:
    assert rest(Limits(daily_limit_s=60.0), time(12), used_s) is expected


def test_no_daily_limit_is_never_reached() -> None:
    assert rest(Limits(), time(12), 1e9) is None


@given(st.floats(-2, 2), st.floats(0, 1))
def test_the_volume_never_passes_its_ceiling(wanted: float, ceiling: float) -> None:
    volume = allowed_volume(Limits(volume_ceiling=ceiling), wanted)
    assert 0.0 <= volume <= ceiling
    assert volume in (0.0, wanted, ceiling)


def test_every_reason_to_rest_has_its_code_on_the_wire() -> None:
    assert {ErrorCode(reason) for reason in Rest} == {
        ErrorCode.PAUSED,
        ErrorCode.QUIET_HOURS,
        ErrorCode.DAILY_LIMIT,
        ErrorCode.CONVERSATION_LIMIT,
    }


def talk(*turns_s: float) -> Talk:
    """The conversation after turns at these times."""
    talk = Talk()
    for at_s in turns_s:
        talk = talk.went_on(at_s)
    return talk


def test_a_conversation_goes_on_until_there_is_a_break() -> None:
    assert talk(1000, 1000 + BREAK_S - 1) == Talk(1000, 1000 + BREAK_S - 1)
    assert talk(1000, 1000 + BREAK_S) == Talk(1000 + BREAK_S, 1000 + BREAK_S)


@pytest.mark.parametrize(("now_s", "expected"), [(1600, Rest.CONVERSATION_LIMIT), (1600 + BREAK_S, None)])
def test_a_conversation_that_is_too_long_needs_a_break(now_s: float, expected: Rest | None) -> None:
    limits = Limits(max_conversation_s=600)
    assert rest(limits, time(12), 0, talk(1000, 1200, 1400, 1590), now_s) is None
    assert rest(limits, time(12), 0, talk(1000, 1200, 1400, 1600), now_s) is expected


def test_a_conversation_without_a_limit_is_never_too_long() -> None:
    assert rest(Limits(), time(12), 0, talk(*range(0, 90_000, 100)), 89_900) is None
