"""What time it is, on a board without a clock of its own.

A Pi that was switched off wakes up in the past. Until its clock has been set by the network, or the relay has said what
time it is, time goes on from where the toy last wrote it down, and nothing that depends on a new day happens.
"""

from __future__ import annotations

from collections.abc import Callable


class WallClock:
    """Unix time, and whether it can be trusted."""

    def __init__(
        self,
        remembered_s: float | None,
        *,
        system_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        is_set: Callable[[], bool],
    ) -> None:
        """`remembered_s`: the time when the toy last wrote it down. `is_set`: whether the network has set the system's.

        `monotonic_s`: seconds that never go back, and go on while the system's clock is set.
        """
        self._system_s = system_s
        self._monotonic_s = monotonic_s
        self._is_set = is_set
        self._relay_ahead_s: float | None = None
        began_s = system_s() if remembered_s is None else remembered_s
        self._remembered_ahead_s = began_s - monotonic_s()

    @property
    def trusted(self) -> bool:
        """Whether the day and the hour are sure."""
        return self._relay_ahead_s is not None or self._is_set()

    def now_s(self) -> float:
        """Unix seconds: by the network's time, else by the relay's, else as if the toy had never been switched off."""
        if self._is_set():
            return self._system_s()
        ahead_s = self._remembered_ahead_s if self._relay_ahead_s is None else self._relay_ahead_s
        return self._monotonic_s() + ahead_s

    def told(self, now_s: float) -> None:
        """The relay says that it is `now_s`."""
        self._relay_ahead_s = now_s - self._monotonic_s()
