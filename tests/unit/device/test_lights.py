"""The lights, sampled at moments that were worked out by hand from the product's list."""

from __future__ import annotations

import inspect
import itertools
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.mind import lights
from pommai.device.mind.lights import (
    MIN_BRIGHTNESS,
    OPEN_MIC_BLUE,
    Color,
    Mood,
    Pattern,
    dimmed,
    interval_s,
    pattern_for,
)
from pommai.device.mind.states import (
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
from pommai.protocol import ErrorCode
from tests.unit.device.state_table import STATES, show

Percent = tuple[int, int, int]
DARK: Percent = (0, 0, 0)
RED: Percent = (100, 0, 0)
AMBER: Percent = (100, 50, 0)
BLUE: Percent = (0, 0, 100)
DIM_PURPLE: Percent = (9, 0, 15)

GOLDEN: dict[Pattern, dict[float, Percent]] = {
    lights.idle: {0: DARK, 1: (0, 0, 15), 2: (0, 0, 30), 3: (0, 0, 15), 4: DARK, 402: (0, 0, 30)},
    lights.listening: {
        0: BLUE,
        0.09: BLUE,
        0.11: (0, 0, 60),
        0.19: (0, 0, 60),
        0.21: BLUE,
        0.29: BLUE,
        0.31: (0, 0, 60),
        0.39: (0, 0, 60),
        0.41: BLUE,
        0.51: BLUE,
        19.9: BLUE,
    },
    lights.thinking: {
        0: (50, 0, 0),
        1: (50, 50, 0),
        2: (0, 50, 0),
        3: (0, 50, 50),
        4: (0, 0, 50),
        5: (50, 0, 50),
        5.5: (50, 0, 25),
        6: (50, 0, 0),
    },
    lights.speaking: {0: (0, 100, 0), 77.7: (0, 100, 0)},
    lights.error: {0: RED, 0.09: RED, 0.11: DARK, 0.19: DARK, 0.21: RED, 2.95: DARK},
    lights.connecting: {0: DARK, 0.5: (50, 25, 0), 1: AMBER, 1.5: (50, 25, 0), 2: DARK},
    lights.offline: {0: DARK, 1: (10, 10, 10), 2: (20, 20, 20), 4: DARK},
    lights.paused: {0: (9, 0, 15), 3600: (9, 0, 15)},
    lights.guardian_alert: {
        0: AMBER,
        0.14: AMBER,
        0.16: DARK,
        0.24: DARK,
        0.26: AMBER,
        0.39: AMBER,
        0.41: DARK,
        0.99: DARK,
        1.01: AMBER,
    },
    lights.updating: {0: (25, 25, 25), 0.6: (50, 50, 50), 1.1: (75, 75, 75), 1.9: (100, 100, 100), 2.1: (25, 25, 25)},
    lights.no_sound: {0: RED, 0.09: RED, 0.11: DARK, 0.99: DARK, 1.01: RED, 1.11: DARK},
    lights.trouble: {0: RED, 0.49: RED, 0.51: AMBER, 0.99: AMBER, 1.01: RED},
    lights.low_battery: {0: RED, 0.49: RED, 0.51: DARK, 1.99: DARK, 2.01: RED},
    lights.no_sound_at_rest: {0: RED, 0.09: RED, 0.11: DIM_PURPLE, 0.99: DIM_PURPLE, 1.01: RED},
    lights.low_battery_at_rest: {0: RED, 0.49: RED, 0.51: DIM_PURPLE, 1.99: DIM_PURPLE, 2.01: RED},
    lights.celebrate: {0: RED, 1 / 6: (100, 100, 0), 1 / 3: (0, 100, 0), 2 / 3: BLUE, 1: RED},
    lights.test: {0: RED, 0.99: RED, 1.01: (0, 100, 0), 2.5: BLUE, 3.99: (100, 100, 100), 4.01: RED},
    lights.dark: {0: DARK, 60: DARK},
}


def percent(color: Color) -> Percent:
    return round(100 * color.red), round(100 * color.green), round(100 * color.blue)


@pytest.mark.parametrize("pattern", GOLDEN, ids=lambda pattern: pattern.__name__)
def test_a_pattern_looks_as_the_product_says(pattern: Pattern) -> None:
    assert {seconds: percent(pattern(seconds)) for seconds in GOLDEN[pattern]} == GOLDEN[pattern]


@pytest.mark.parametrize("pattern", GOLDEN, ids=lambda pattern: pattern.__name__)
@given(seconds=st.floats(0, 1e6))
def test_every_channel_stays_between_off_and_full(pattern: Pattern, seconds: float) -> None:
    color = pattern(seconds)
    assert all(0.0 <= channel <= 1.0 for channel in (color.red, color.green, color.blue))


@pytest.mark.parametrize("state", STATES, ids=show)
def test_every_state_has_a_pattern(state: State) -> None:
    assert pattern_for(state) in GOLDEN


def test_every_pattern_of_the_module_is_in_the_list() -> None:
    own = [
        value for value in vars(lights).values() if inspect.isfunction(value) and value.__module__ == lights.__name__
    ]
    patterns = {f for f in own if list(inspect.signature(f).parameters) == ["seconds"]}
    assert patterns == set(GOLDEN)


def test_the_pattern_depends_on_the_kind_of_state_alone() -> None:
    assert pattern_for(Listening(1, started=False)) is pattern_for(Listening(9, started=True))
    tired, told = (Paused(1, code, Idle(1)) for code in (ErrorCode.QUIET_HOURS, ErrorCode.PAUSED))
    assert pattern_for(tired) is pattern_for(told)


OPEN = (Listening, Holding)


@given(state=st.sampled_from(STATES), seconds=st.floats(0, 400), brightness=st.floats(0, 1))
def test_an_open_microphone_is_visible_and_never_mistaken(state: State, seconds: float, brightness: float) -> None:
    color = pattern_for(state)(seconds)
    looks_open = color.blue >= OPEN_MIC_BLUE and color.red == color.green == 0
    assert looks_open == isinstance(state, OPEN)
    if looks_open:
        assert dimmed(color, brightness).blue >= OPEN_MIC_BLUE * MIN_BRIGHTNESS


@pytest.mark.parametrize("mood", Mood)
@pytest.mark.parametrize("state", STATES, ids=show)
def test_no_mood_covers_an_open_microphone_an_error_or_a_lost_connection(state: State, mood: Mood) -> None:
    if isinstance(state, Listening | Holding | Error | Interrupted | Booting | Stopping):
        assert pattern_for(state, mood) is pattern_for(state)


COVERED: dict[Mood, set[type[State]]] = {
    Mood.ALERT: {Idle, Offline, Paused, Connecting, Thinking, Speaking, Playing},
    Mood.CELEBRATE: {Idle, Offline, Paused, Connecting, Thinking, Speaking, Playing},
    Mood.TEST: {Idle, Offline, Paused, Connecting, Thinking, Speaking, Playing},
    Mood.NO_SOUND: {Idle, Offline, Connecting},
    Mood.TROUBLE: {Idle, Offline, Paused, Connecting},
    Mood.LOW_BATTERY: {Idle, Offline},
    Mood.UPDATING: {Idle},
}


@pytest.mark.parametrize("mood", Mood)
def test_a_mood_is_shown_where_it_may_be(mood: Mood) -> None:
    shown = {
        Mood.ALERT: lights.guardian_alert,
        Mood.CELEBRATE: lights.celebrate,
        Mood.TEST: lights.test,
        Mood.NO_SOUND: lights.no_sound,
        Mood.TROUBLE: lights.trouble,
        Mood.LOW_BATTERY: lights.low_battery,
        Mood.UPDATING: lights.updating,
    }[mood]
    assert {type(state) for state in STATES if pattern_for(state, mood) is shown} == COVERED[mood]


def test_what_is_wrong_for_long_does_not_hide_that_the_toy_rests() -> None:
    resting = Paused(1, ErrorCode.PAUSED, Idle(1))
    for mood in (Mood.NO_SOUND, Mood.LOW_BATTERY):
        pictures = [percent(pattern_for(resting, mood)(n / 100)) for n in range(400)]
        assert set(pictures) == {RED, DIM_PURPLE}
        assert pictures.count(DIM_PURPLE) >= 300


@pytest.mark.parametrize("mood", Mood)
def test_no_mood_looks_like_an_open_microphone_for_longer_than_a_second(mood: Mood) -> None:
    """The wheel passes blue, and a test of the lights shows each colour for a second; neither stays."""
    pattern = pattern_for(Idle(1), mood)
    blues = [(c := pattern(n / 100)).blue >= OPEN_MIC_BLUE and c.red < 0.1 and c.green < 0.1 for n in range(1_000)]
    longest = max(len(list(run)) if is_blue else 0 for is_blue, run in itertools.groupby(blues))
    assert longest <= {Mood.TEST: 100, Mood.CELEBRATE: 4}.get(mood, 0)


@pytest.mark.parametrize(("brightness", "factor"), [(1.0, 1.0), (0.5, 0.5), (0.1, 0.1), (0.0, 0.1), (7.0, 1.0)])
def test_brightness_dims_every_channel_alike(brightness: float, factor: float) -> None:
    assert dimmed(Color(1.0, 0.5, 0.0), brightness) == Color(factor, 0.5 * factor, 0.0)


BLINKS = {
    lights.listening,
    lights.error,
    lights.guardian_alert,
    lights.no_sound,
    lights.trouble,
    lights.low_battery,
    lights.no_sound_at_rest,
    lights.low_battery_at_rest,
    lights.updating,
    lights.test,
}


@pytest.mark.parametrize("pattern", sorted(set(GOLDEN) - BLINKS, key=repr), ids=lambda pattern: pattern.__name__)
def test_no_step_of_a_smooth_pattern_is_coarse(pattern: Pattern) -> None:
    pause_s = interval_s(pattern, 0.0)
    pictures = [pattern(n * pause_s) for n in range(500)]
    steps = [
        max(abs(old.red - new.red), abs(old.green - new.green), abs(old.blue - new.blue))
        for old, new in itertools.pairwise(pictures)
    ]
    assert max(steps) <= (0.25 if pattern is lights.celebrate else 0.065)


@pytest.mark.parametrize("pattern", sorted(BLINKS, key=repr), ids=lambda pattern: pattern.__name__)
def test_no_blink_falls_between_two_pictures(pattern: Pattern) -> None:
    shortest_s = {
        lights.low_battery: 0.5,
        lights.low_battery_at_rest: 0.5,
        lights.trouble: 0.5,
        lights.updating: 0.5,
        lights.test: 1.0,
    }
    assert interval_s(pattern, 0.0) <= 0.4 * shortest_s.get(pattern, 0.1)


def test_states_that_a_child_must_tell_apart_look_different() -> None:
    by_pattern: dict[Pattern, set[str]] = {}
    for state in STATES:
        by_pattern.setdefault(pattern_for(state), set()).add(type(state).__name__)
    shared = {frozenset(names) for names in by_pattern.values() if len(names) > 1}
    assert shared == {
        frozenset({"Booting", "Connecting", "Interrupted"}),  # there is no connection
        frozenset({"Listening", "Holding"}),  # the microphone is open
        frozenset({"Speaking", "Playing"}),  # the toy talks
    }
    assert len(by_pattern) == len(typing.get_args(State)) - 4


def test_a_light_that_has_become_solid_is_drawn_once_a_second() -> None:
    assert interval_s(lights.listening, 0.39) == pytest.approx(0.04)
    assert interval_s(lights.listening, 0.4) == pytest.approx(1.0)
