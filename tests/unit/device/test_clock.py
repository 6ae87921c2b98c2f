"""The time of a board that has no clock: remembered, set by the network, told by the relay."""

from __future__ import annotations

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.mind.clock import EARLIEST_S, LATEST_S, WallClock

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0


class Board:
    """A board whose clock starts wherever the test says, and its kernel."""

    def __init__(self, system_s: float = 1.6e9) -> None:
        self.up_s = 20.0
        self.system_s = system_s
        self.synchronised = False

    def clock(self, remembered_s: object = None) -> WallClock:
        return WallClock(
            remembered_s,
            system_s=lambda: self.system_s,
            monotonic_s=lambda: self.up_s,
            is_set=lambda: self.synchronised,
        )

    def wait(self, seconds: float) -> None:
        self.up_s += seconds
        self.system_s += seconds

    def set(self, now_s: float) -> None:
        """An NTP client sets the clock."""
        self.system_s, self.synchronised = now_s, True


def test_without_a_memory_time_begins_where_the_board_thinks_it_is_and_is_not_trusted() -> None:
    board = Board()
    clock = board.clock()
    board.wait(5)
    assert clock.now_s() == 1.6e9 + 5
    assert not clock.trusted


def test_time_goes_on_from_where_it_was_written_down_whatever_the_board_thinks() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    board.wait(30)
    board.system_s += 1e6  # somebody sets the clock, and nobody vouches for it
    assert clock.now_s() == NOW_S + 30
    assert not clock.trusted


def test_the_network_sets_the_clock_later() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    board.wait(30)
    board.set(NOW_S + 8 * HOUR_S)
    assert clock.trusted
    board.wait(1)
    assert clock.now_s() == NOW_S + 8 * HOUR_S + 1


def test_the_relay_tells_the_time_and_may_correct_itself() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    clock.told(NOW_S + HOUR_S)
    board.wait(10)
    assert clock.trusted
    assert clock.now_s() == NOW_S + HOUR_S + 10
    clock.told(NOW_S)
    assert clock.now_s() == NOW_S


def test_the_network_knows_better_than_the_relay() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    clock.told(NOW_S + HOUR_S)
    board.set(NOW_S + 2 * HOUR_S)
    assert clock.now_s() == NOW_S + 2 * HOUR_S
    clock.told(NOW_S + HOUR_S)
    assert clock.now_s() == NOW_S + 2 * HOUR_S


def test_a_clock_that_was_set_once_is_known_for_as_long_as_the_toy_is_on() -> None:
    """Nine hours without a network, and the kernel no longer vouches for its clock: time must not fall back."""
    board = Board()
    clock = board.clock(NOW_S)
    board.set(NOW_S + 72 * HOUR_S)
    assert clock.trusted
    board.wait(9 * HOUR_S)
    board.synchronised = False
    board.system_s = 0.0
    assert clock.now_s() == NOW_S + 81 * HOUR_S
    assert clock.trusted
    clock.told(NOW_S + 82 * HOUR_S)
    assert clock.now_s() == NOW_S + 82 * HOUR_S


@pytest.mark.parametrize("told_s", [0.0, EARLIEST_S - 1, LATEST_S, 2.0**52, math.inf, math.nan])
def test_a_relay_whose_clock_is_plainly_wrong_is_not_believed(told_s: float, caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    clock = board.clock(NOW_S)
    clock.told(told_s)
    assert clock.now_s() == NOW_S
    assert not clock.trusted
    assert [(record.levelno, "relay's clock is wrong" in record.message) for record in caplog.records] == [
        (logging.WARNING, True)
    ]


def test_a_kernel_that_vouches_for_a_time_that_cannot_be_is_not_believed() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    board.set(10.0)
    assert clock.now_s() == NOW_S
    assert not clock.trusted


def test_the_steady_clock_never_jumps() -> None:
    board = Board()
    clock = board.clock(NOW_S)
    before_s = clock.steady_s()
    board.wait(2)
    board.set(NOW_S + HOUR_S)
    clock.told(NOW_S)
    assert clock.steady_s() - before_s == 2


@given(st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.lists(st.integers())))
def test_any_memory_gives_a_time_that_can_be(remembered: object) -> None:
    clock = Board(1.6e9).clock(remembered)
    now_s = clock.now_s()
    assert now_s == 1.6e9 or (now_s == pytest.approx(remembered) and EARLIEST_S <= now_s <= LATEST_S)
    assert not clock.trusted
