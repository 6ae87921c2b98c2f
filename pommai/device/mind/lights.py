"""What each state of the toy looks like: patterns are pure functions of the seconds since the state began.

An open microphone can be seen at every moment and is never mistaken: the states that open it light blue, nothing but
blue, at `OPEN_MIC_BLUE` or more, and no mood can cover it. A brightness setting dims all patterns alike and cannot put
them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Color:
    """Light of one RGB LED; each channel 0.0 (off) to 1.0 (full)."""

    red: float
    green: float
    blue: float

    def scaled(self, factor: float) -> Color:
        """The same hue at `factor` times the light."""
        return Color(self.red * factor, self.green * factor, self.blue * factor)


Pattern = Callable[[float], Color]
"""Seconds since the pattern began (0.0 or more) to the colour to show."""

OFF: Final = Color(0.0, 0.0, 0.0)
RED: Final = Color(1.0, 0.0, 0.0)
GREEN: Final = Color(0.0, 1.0, 0.0)
BLUE: Final = Color(0.0, 0.0, 1.0)
WHITE: Final = Color(1.0, 1.0, 1.0)
AMBER: Final = Color(1.0, 0.5, 0.0)
PURPLE: Final = Color(0.6, 0.0, 1.0)

OPEN_MIC_BLUE: Final = 0.6
"""Listening is never darker than this, also between its pulses."""

MIN_BRIGHTNESS: Final = 0.1
"""The darkest setting that is obeyed: below it, an open microphone could not be seen."""


# --- shapes -----------------------------------------------------------------------------------------------------------


def _wave(seconds: float, period_s: float) -> float:
    """A smooth swell from 0.0 to 1.0 and back, dark at the beginning."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * seconds / period_s)


def _wheel(seconds: float, period_s: float) -> Color:
    """All hues at full light, once round from red over green and blue in each period."""
    sixth = seconds / period_s % 1.0 * 6

    def channel(peak: float) -> float:
        distance = min(abs(sixth - peak), 6 - abs(sixth - peak))
        return max(0.0, min(1.0, 2 - distance))

    return Color(channel(0), channel(2), channel(4))


def _is_on(seconds: float, *durations_s: float) -> bool:
    """Whether a blink is lit: the durations are on, off, on, off … and begin again after the last."""
    within_s = seconds % sum(durations_s)
    return sum(within_s >= edge_s for edge_s in accumulate(durations_s)) % 2 == 0


# --- patterns ---------------------------------------------------------------------------------------------------------


def idle(seconds: float) -> Color:
    """Blue, breathing between 0 and 30 %, one breath in 4 s."""
    return BLUE.scaled(0.3 * _wave(seconds, 4.0))


_PULSING_S: Final = 0.4


def listening(seconds: float) -> Color:
    """Blue: two pulses of 100 ms, then solid. Between them it is dimmed and not dark: the microphone is open."""
    pulsing = seconds < _PULSING_S
    return BLUE.scaled(1.0 if not pulsing or _is_on(seconds, 0.1, 0.1) else OPEN_MIC_BLUE)


def thinking(seconds: float) -> Color:
    """A slow turn through the colours at half light, once in 6 s."""
    return _wheel(seconds, 6.0).scaled(0.5)


def speaking(seconds: float) -> Color:
    """Solid green."""
    return GREEN


def error(seconds: float) -> Color:
    """Red, 100 ms on, 100 ms off."""
    return RED if _is_on(seconds, 0.1, 0.1) else OFF


def connecting(seconds: float) -> Color:
    """Amber, slow pulse of 2 s: there is no connection yet, or no longer."""
    return AMBER.scaled(_wave(seconds, 2.0))


def offline(seconds: float) -> Color:
    """White, slow pulse between 0 and 20 % of 4 s."""
    return WHITE.scaled(0.2 * _wave(seconds, 4.0))


def paused(seconds: float) -> Color:
    """Solid dim purple: a parent wants the toy to rest, and the microphone stays closed."""
    return PURPLE.scaled(0.15)


def guardian_alert(seconds: float) -> Color:
    """Amber, two flashes of 150 ms with 100 ms between, once a second. Never shown for distress."""
    return AMBER if _is_on(seconds, 0.15, 0.1, 0.15, 0.6) else OFF


def updating(seconds: float) -> Color:
    """White in four steps of half a second, 25 to 100 %, then again."""
    return WHITE.scaled((int(seconds / 0.5) % 4 + 1) / 4)


def low_battery(seconds: float) -> Color:
    """Red for 500 ms, every 2 s."""
    return RED if _is_on(seconds, 0.5, 1.5) else OFF


def no_sound(seconds: float) -> Color:
    """Red, a flash of 100 ms every second: the toy can neither hear nor speak."""
    return RED if _is_on(seconds, 0.1, 0.9) else OFF


def low_battery_at_rest(seconds: float) -> Color:
    """As `low_battery`, and dim purple between: that the microphone stays closed can be seen all the same."""
    return low_battery(seconds) if _is_on(seconds, 0.5, 1.5) else paused(seconds)


def no_sound_at_rest(seconds: float) -> Color:
    """As `no_sound`, and dim purple between."""
    return no_sound(seconds) if _is_on(seconds, 0.1, 0.9) else paused(seconds)


def trouble(seconds: float) -> Color:
    """Red and amber by turns, half a second each: a part of the toy does not work, and its log says which."""
    return RED if _is_on(seconds, 0.5, 0.5) else AMBER


def celebrate(seconds: float) -> Color:
    """A fast turn through the colours, once in 1 s."""
    return _wheel(seconds, 1.0)


def test(seconds: float) -> Color:
    """For whoever looks at the wiring: red, green, blue, white, a second each."""
    return (RED, GREEN, BLUE, WHITE)[int(seconds) % 4]


def dark(seconds: float) -> Color:
    """Off: the toy is about to be."""
    return OFF


# --- choosing one -----------------------------------------------------------------------------------------------------


class Mood(StrEnum):
    """What may be shown in place of the state's own pattern."""

    ALERT = "alert"
    CELEBRATE = "celebrate"
    TEST = "test"
    NO_SOUND = "no_sound"
    TROUBLE = "trouble"
    LOW_BATTERY = "low_battery"
    UPDATING = "updating"


RELAY_MOODS: Final = frozenset({Mood.ALERT, Mood.CELEBRATE})
"""Those that a relay may want with a reply: the values of `SpeakingStart.mood`. The others tell of the toy's body."""

_PATTERNS: Final[dict[type[State], Pattern]] = {
    Booting: connecting,
    Connecting: connecting,
    Idle: idle,
    Listening: listening,
    Holding: listening,
    Thinking: thinking,
    Speaking: speaking,
    Interrupted: connecting,
    Playing: speaking,
    Offline: offline,
    Paused: paused,
    Error: error,
    Stopping: dark,
}

_QUIET: Final = frozenset({Idle, Offline, Paused})
_SILENT: Final = frozenset({*_QUIET, Connecting, Thinking, Speaking, Playing})

_MOODS: Final[dict[Mood, tuple[Pattern, frozenset[type[State]]]]] = {
    Mood.ALERT: (guardian_alert, _SILENT),
    Mood.CELEBRATE: (celebrate, _SILENT),
    Mood.TEST: (test, _SILENT),
    Mood.NO_SOUND: (no_sound, frozenset({*_QUIET, Connecting})),
    Mood.TROUBLE: (trouble, frozenset({*_QUIET, Connecting})),
    Mood.LOW_BATTERY: (low_battery, _QUIET),
    Mood.UPDATING: (updating, frozenset({Idle})),
}
"""The pattern of a mood, and the states that it may cover: never one with an open microphone, and never an error."""


_AT_REST: Final[dict[Pattern, Pattern]] = {low_battery: low_battery_at_rest, no_sound: no_sound_at_rest}
"""What lasts would hide for hours that the toy rests."""


def pattern_for(state: State, *moods: Mood) -> Pattern:
    """The pattern of the first of `moods` that may cover `state`, or else its own.

    It goes on undisturbed while only the contents of a state change.
    """
    for mood in moods:
        pattern, covers = _MOODS[mood]
        if type(state) in covers:
            return _AT_REST.get(pattern, pattern) if isinstance(state, Paused) else pattern
    return _PATTERNS[type(state)]


def interval_s(pattern: Pattern, seconds: float) -> float:
    """How long the picture at `seconds` may stand: as long as the eye sees no step, so that an idle toy rests."""
    if pattern is listening and seconds >= _PULSING_S:
        return _INTERVALS_S[speaking]
    return _INTERVALS_S.get(pattern, 0.04)


_INTERVALS_S: Final[dict[Pattern, float]] = {
    idle: 0.1,
    thinking: 0.1,
    offline: 0.1,
    low_battery: 0.1,
    low_battery_at_rest: 0.1,
    updating: 0.1,
    trouble: 0.1,
    speaking: 1.0,
    paused: 1.0,
    test: 0.1,
    dark: 1.0,
}
"""Slow patterns change by 5 % of full light at most in this time, solid ones not at all; others need 25 a second."""


def dimmed(color: Color, brightness: float) -> Color:
    """`color` at the global `brightness`, 0.0 to 1.0; less than `MIN_BRIGHTNESS` is raised to it."""
    return color.scaled(max(MIN_BRIGHTNESS, min(1.0, brightness)))
