"""Edges and passing time to gestures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.mind.events import Held, HeldForRestart, HeldLong, Pressed, Released, Tapped
from pommai.device.mind.gestures import Gesture, Gestures


def told(gestures: Gestures, *edges: tuple[float, bool], until_ms: float = 10_000) -> list[tuple[float, Gesture]]:
    """What a runner hears that feeds `edges` and asks at every `due_ms` until `until_ms`, with the times."""
    heard: list[tuple[float, Gesture]] = []
    for at_ms, down in (*edges, (until_ms, None)):
        while (due_ms := gestures.due_ms) is not None and due_ms < at_ms:
            heard += [(due_ms, gesture) for gesture in gestures.passed(due_ms)]
        if down is not None:
            heard += [(at_ms, gesture) for gesture in gestures.edge(down, at_ms)]
    return heard


def test_a_press_is_told_at_its_first_edge_and_a_hold_at_300_ms() -> None:
    assert told(Gestures(), (1000, True), (2500, False)) == [
        (1000, Pressed()),
        (1300, Held()),
        (2500, Released()),
    ]


def test_a_press_just_under_300_ms_is_a_tap_and_told_at_once() -> None:
    assert told(Gestures(), (0, True), (299, False)) == [(0, Pressed()), (299, Tapped(1))]


def test_a_press_of_exactly_300_ms_is_a_hold() -> None:
    assert told(Gestures(), (0, True), (300, False)) == [(0, Pressed()), (300, Held()), (300, Released())]


def test_bounces_at_both_ends_are_one_press() -> None:
    edges = [(0, True), (2, False), (3, True), (9, False), (11, True)]
    edges += [(900, False), (901, True), (905, False)]
    assert told(Gestures(), *edges) == [(0, Pressed()), (300, Held()), (900, Released())]


def test_a_release_among_the_bounces_is_seen_when_the_window_ends() -> None:
    assert told(Gestures(), (0, True), (30, False)) == [(0, Pressed()), (50, Tapped(1))]


def test_a_press_among_the_bounces_of_a_release_is_seen_when_the_window_ends() -> None:
    edges = [(0, True), (500, False), (520, True), (1500, False)]
    assert told(Gestures(), *edges) == [
        (0, Pressed()),
        (300, Held()),
        (500, Released()),
        (550, Pressed()),
        (850, Held()),
        (1500, Released()),
    ]


def test_taps_in_a_row_are_counted() -> None:
    edges = [(0, True), (100, False), (300, True), (400, False), (800, True), (900, False)]
    taps = [gesture for _, gesture in told(Gestures(), *edges) if isinstance(gesture, Tapped)]
    assert taps == [Tapped(1), Tapped(2), Tapped(3)]


@pytest.mark.parametrize(("pause_ms", "count"), [(400, 2), (401, 1)])
def test_a_row_of_taps_ends_with_the_tap_window(pause_ms: float, count: int) -> None:
    edges = [(0, True), (100, False), (100 + pause_ms, True), (200 + pause_ms, False)]
    assert told(Gestures(), *edges)[-1][1] == Tapped(count)


def test_a_hold_ends_a_row_of_taps() -> None:
    edges = [(0, True), (100, False), (200, True), (700, False), (800, True), (900, False)]
    assert told(Gestures(), *edges)[-1] == (900, Tapped(1))


def test_a_late_question_catches_up_in_order() -> None:
    gestures = Gestures()
    assert gestures.edge(True, 0) == [Pressed()]
    assert gestures.edge(False, 5_000) == [Held(), HeldLong(), Released(long=True)]
    assert gestures.edge(True, 6_000) == [Pressed()]
    assert gestures.edge(False, 6_010) == []
    assert gestures.edge(True, 9_000) == [Tapped(1), Pressed()]
    assert gestures.passed(30_000) == [Held(), HeldLong(), HeldForRestart()]
    assert gestures.passed(60_000) == []


def test_a_hold_becomes_a_call_for_help_and_then_may_mean_a_restart_each_once() -> None:
    assert told(Gestures(), (1_000, True), (15_000, False), until_ms=20_000) == [
        (1_000, Pressed()),
        (1_300, Held()),
        (5_000, HeldLong()),
        (11_000, HeldForRestart()),
        (15_000, Released(long=True)),
    ]


@pytest.mark.parametrize(
    ("let_go_ms", "last"),
    [
        (3_999, [Held(), Released()]),
        (4_000, [Held(), HeldLong(), Released(long=True)]),
        (9_999, [Held(), HeldLong(), Released(long=True)]),
        (10_000, [Held(), HeldLong(), HeldForRestart(), Released(long=True)]),
    ],
)
def test_each_length_of_a_hold_is_met_exactly(let_go_ms: float, last: list[Gesture]) -> None:
    heard = [gesture for _, gesture in told(Gestures(), (0, True), (let_go_ms, False), until_ms=20_000)]
    assert heard == [Pressed(), *last]


def test_a_long_hold_does_not_count_as_a_tap_nor_shorten_the_next() -> None:
    edges = [(0, True), (5_000, False), (5_100, True), (5_200, False), (5_300, True), (9_300, False)]
    assert [gesture for _, gesture in told(Gestures(), *edges)][3:] == [
        Released(long=True),
        Pressed(),
        Tapped(1),
        Pressed(),
        Held(),
        HeldLong(),
        Released(long=True),
    ]


def test_lengths_can_be_set_in_any_order() -> None:
    gestures = Gestures(help_ms=20_000, restart_ms=5_000)
    assert told(gestures, (0, True), until_ms=30_000)[1:] == [
        (300, Held()),
        (5_000, HeldForRestart()),
        (20_000, HeldLong()),
    ]


def test_a_hold_that_counts_on_from_its_call_for_help_becomes_a_restart_as_long_after() -> None:
    gestures = Gestures()
    assert not gestures.calls
    assert [gesture for _, gesture in told(gestures, (0, True), until_ms=12_000)][2:] == [HeldLong(), HeldForRestart()]
    assert gestures.calls and gestures.due_ms is None
    gestures.count_on(12_000)
    assert gestures.calls and gestures.due_ms == 18_000
    assert gestures.passed(17_999) == []
    assert gestures.passed(18_000) == [HeldForRestart()]
    assert gestures.edge(False, 19_000) == [Released(long=True)]
    assert not gestures.calls


def test_a_hold_calls_from_four_seconds_on_until_it_ends() -> None:
    gestures = Gestures()
    gestures.edge(True, 0)
    gestures.passed(3_999)
    assert not gestures.calls
    gestures.passed(4_000)
    assert gestures.calls
    gestures.edge(False, 4_500)
    assert not gestures.calls
    gestures.edge(True, 5_000)
    assert not gestures.calls, "that was the press before"


def test_an_edge_told_twice_is_one() -> None:
    assert told(Gestures(), (0, True), (100, True), (200, True), (250, False)) == [(0, Pressed()), (250, Tapped(1))]


def test_a_first_edge_that_opens_is_nothing() -> None:
    assert told(Gestures(), (0, False)) == []


def test_times_can_be_set_and_a_hold_is_never_shorter_than_the_debouncing() -> None:
    slow = Gestures(debounce_ms=200, hold_ms=100, tap_window_ms=1000)
    assert told(slow, (0, True), (30, False)) == [(0, Pressed()), (200, Tapped(1))]
    assert told(slow, (900, True), (1_150, False)) == [(900, Pressed()), (1_100, Held()), (1_150, Released())]


def test_without_debouncing_every_edge_counts() -> None:
    edges = [(0, True), (1, False), (2, True), (3, False)]
    assert [gesture for _, gesture in told(Gestures(debounce_ms=0), *edges)] == [
        Pressed(),
        Tapped(1),
        Pressed(),
        Tapped(2),
    ]


QUARTERS_MS = st.integers(0, 2_000).map(lambda n: n / 4)  # their sums are exact, whatever the order


@given(st.lists(st.tuples(QUARTERS_MS, st.booleans()), max_size=40))
def test_any_edges_make_whole_presses_and_end_with_the_true_level(pauses: list[tuple[float, bool]]) -> None:
    at_ms, edges = 0.0, []
    for pause_ms, down in pauses:
        at_ms += pause_ms
        edges.append((at_ms, down))
    gestures = Gestures()
    heard = told(gestures, *edges, until_ms=at_ms + 11_000)
    assert gestures.due_ms is None
    times = [time_ms for time_ms, _ in heard]
    assert times == sorted(times)
    pressed_ms: float | None = None
    held: list[Gesture] = []
    holds: list[tuple[float, Gesture]] = [(300, Held()), (4_000, HeldLong()), (10_000, HeldForRestart())]
    for time_ms, gesture in heard:
        match gesture:
            case Pressed():
                assert pressed_ms is None
                pressed_ms, held = time_ms, []
            case Held() | HeldLong() | HeldForRestart():
                assert pressed_ms is not None
                assert (time_ms - pressed_ms, gesture) == holds[len(held)]
                held.append(gesture)
            case Released(long):
                assert pressed_ms is not None and held
                assert long == (HeldLong() in held)
                pressed_ms = None
            case Tapped():
                assert pressed_ms is not None and not held
                assert 50 <= time_ms - pressed_ms < 300
                pressed_ms = None
    assert (pressed_ms is not None) == (edges[-1][1] if edges else False)
