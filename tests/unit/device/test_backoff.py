"""Delays between attempts to connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.network.backoff import CAP_S, delay_s


@pytest.mark.parametrize(("failures", "bound_s"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (8, 30), (100_000, 30)])
def test_the_upper_bound_doubles_up_to_the_cap(failures: int, bound_s: float) -> None:
    assert delay_s(failures, 1.0) == bound_s


def test_jitter_is_full() -> None:
    assert [delay_s(7, chance) for chance in (0.0, 0.25, 0.5)] == [0.0, 7.5, 15.0]


@given(st.integers(min_value=1), st.floats(0, 1))
def test_no_wait_is_negative_or_over_the_cap(failures: int, chance: float) -> None:
    assert 0 <= delay_s(failures, chance) <= CAP_S
