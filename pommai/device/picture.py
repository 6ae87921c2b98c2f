"""What the light shows now: the pattern of the state or of a mood, dimmed, drawn when its time has come."""

from __future__ import annotations

import logging
from typing import Final

from pommai.device.mind.lights import OFF, Color, Mood, dimmed, interval_s, pattern_for
from pommai.device.mind.states import State
from pommai.device.ports import Lights
from pommai.errors import HardwareError

_NEVER: Final = float("inf")
_log = logging.getLogger(__name__)


class Picture:
    """Draws on `lights`. All times are seconds of the loop's clock."""

    def __init__(self, lights: Lights, state: State, brightness: float = 1.0) -> None:
        self.brightness = brightness
        self.due_s = 0.0
        """When to draw next."""
        self._lights = lights
        self._state = state
        self._since_s = 0.0
        self._lasting: tuple[Mood, ...] = ()
        self._passing: tuple[Mood, ...] = ()
        self._passing_until_s = -_NEVER
        self._shown: Color | None = None
        self._is_broken = False

    def begin(self, state: State, now_s: float) -> None:
        """The toy is in `state` now; its pattern begins anew only if its type has changed."""
        if type(state) is not type(self._state):
            self._since_s = now_s
            self.due_s = now_s
        self._state = state

    def show(self, mood: Mood, now_s: float, seconds: float) -> None:
        """Show `mood` for so long, wherever it may cover the state's own pattern."""
        self._passing, self._passing_until_s = (mood,), now_s + seconds
        self._since_s = self.due_s = now_s

    def keep(self, *moods: Mood) -> None:
        """From now on show the first of `moods` that may be shown, whenever nothing passing is; none: no more of it."""
        self._lasting = moods

    def draw(self, now_s: float) -> None:
        """Draw the next picture, if its time has come and it differs from the last."""
        if now_s < self.due_s:
            return
        passing = now_s < self._passing_until_s
        pattern = pattern_for(self._state, *(self._passing if passing else ()), *self._lasting)
        brightness = self.brightness if self._lights.can_dim else 1.0
        seconds = now_s - self._since_s
        self._show(dimmed(pattern(seconds), brightness))
        self.due_s = min(now_s + interval_s(pattern, seconds), self._passing_until_s if passing else _NEVER)

    def off(self) -> None:
        """Dark."""
        self._show(OFF)

    def _show(self, color: Color) -> None:
        """A light that fails is told to the log once; the toy lives without it."""
        if color == self._shown:
            return
        try:
            self._lights.show(color)
        except HardwareError as error:
            if not self._is_broken:
                _log.warning("picture: the light failed: %s", error)
            self._is_broken = True
        else:
            self._shown, self._is_broken = color, False
