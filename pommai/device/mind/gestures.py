"""The edges of a button, and the passing of time, to what the child means by them.

Debounced on the leading edge: the first edge acts at once, and those of the next 50 ms are taken for bounces. The
level that such a window ends with counts, so that a release hidden among bounces is seen when the window is over.

A hold is told at 300 ms, again when it has become a call for help, and again when it may mean a restart: whether it
does, only the one who heard the room can tell. Nobody can while the toy itself speaks, and so that time is not counted.

A press of less than 300 ms is a tap, announced the moment it ends, since the microphone must close then.
`Tapped.count` counts the taps of a row so far; a tap belongs to the row if it begins at most 400 ms after the last one
ended. Nothing waits to see whether the row goes on: what the second tap began, the third press interrupts as any press.

Times are milliseconds on any clock that never goes back. There is no timer in here: `due_ms` tells when to ask again.
"""

from __future__ import annotations

from typing import Final

from pommai.device.mind.events import Held, HeldForRestart, HeldLong, Pressed, Released, Tapped

Gesture = Pressed | Held | HeldLong | HeldForRestart | Released | Tapped

_NEVER: Final = float("-inf")


class Gestures:
    """One button. Feed it every edge and, at `due_ms`, the time; it answers with what the child did, oldest first."""

    def __init__(
        self,
        debounce_ms: float = 50,
        hold_ms: float = 300,
        tap_window_ms: float = 400,
        help_ms: float = 4000,
        restart_ms: float = 10_000,
    ) -> None:
        self._debounce_ms = debounce_ms
        hold_ms = max(hold_ms, debounce_ms)  # what a window hides is known at its end and not before
        holds: list[tuple[float, Gesture]] = [(help_ms, HeldLong()), (restart_ms, HeldForRestart())]
        self._holds = [(hold_ms, Held()), *sorted(holds, key=lambda hold: hold[0])]
        self._help_ms = help_ms
        self._tap_window_ms = tap_window_ms
        self._level = False  # as the wire says
        self._down = False  # as we believe
        self._settled_ms = _NEVER  # end of the debounce window
        self._pressed_ms = _NEVER
        self._told = 0  # how many of `_holds` this press has become
        self._taps = 0
        self._ended_ms = _NEVER  # when the last tap ended

    @property
    def due_ms(self) -> float | None:
        """When to call `passed`, unless an edge comes first; None: nothing will happen by itself."""
        if self._level != self._down:
            return self._settled_ms
        if self._down and self._told < len(self._holds):
            return self._pressed_ms + self._holds[self._told][0]
        return None

    @property
    def calls(self) -> bool:
        """Whether the button is down, and has been for as long as a call for help."""
        return self._down and self._is_long

    def edge(self, down: bool, at_ms: float) -> list[Gesture]:
        """The button's contact closed (`down`) or opened at `at_ms`; bounces and repetitions are welcome."""
        gestures = self.passed(at_ms)
        self._level = down
        if down != self._down and at_ms >= self._settled_ms:
            gestures.append(self._turned(at_ms))
        return gestures

    def passed(self, now_ms: float) -> list[Gesture]:
        """It is `now_ms`: what happened by then and was not told yet. Calling too often or too late is harmless."""
        gestures: list[Gesture] = []
        while (due_ms := self.due_ms) is not None and due_ms <= now_ms:
            if self._level == self._down:
                gestures.append(self._holds[self._told][1])
                self._told += 1
            else:
                gestures.append(self._turned(due_ms))
        return gestures

    def count_on(self, now_ms: float) -> None:
        """The press goes on at `now_ms` as if it had just become a call for help, which has been answered meanwhile."""
        self._pressed_ms = now_ms - self._help_ms
        self._told = sum(length_ms <= self._help_ms for length_ms, _ in self._holds)

    @property
    def _is_long(self) -> bool:
        return any(isinstance(hold, HeldLong) for _, hold in self._holds[: self._told])

    def _turned(self, at_ms: float) -> Gesture:
        """The button went down or came up at `at_ms`, and that is no bounce."""
        self._down = self._level
        self._settled_ms = at_ms + self._debounce_ms
        if self._down:
            self._told = 0
            self._taps = self._taps if at_ms - self._ended_ms <= self._tap_window_ms else 0
            self._pressed_ms = at_ms
            return Pressed()
        if self._told:
            self._taps = 0
            return Released(long=self._is_long)
        self._taps += 1
        self._ended_ms = at_ms
        return Tapped(self._taps)
