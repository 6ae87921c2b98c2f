"""What time it is, on a board without a clock of its own.

A Pi that was switched off wakes up in the past. Until its clock has been set by the network, or the relay has said what
time it is, time goes on from where the toy last wrote it down, and nothing that depends on a new day happens. What has
once been set stays known for as long as the process lives: the kernel calls its clock unsynchronised again after some
nine hours without a network (adjtimex(2): the possible error grows by 0.5 ms a second, up to 16 s), when it is still
right to the second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

EARLIEST_S: Final = 1_672_531_200.0
LATEST_S: Final = 4_102_444_800.0
"""The years 2023 to 2099: a clock that says anything else is wrong, whoever it belongs to."""


class WallClock:
    """Unix time, and whether it can be trusted."""

    def __init__(
        self,
        remembered_s: object,
        *,
        system_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        is_set: Callable[[], bool],
    ) -> None:
        """`remembered_s`: the time when the toy last wrote it down; what is no such time counts as none.

        `monotonic_s`: seconds that never jump, whoever sets the clock. `is_set`: whether the network has set the
        system's clock.
        """
        self._system_s = system_s
        self._monotonic_s = monotonic_s
        self._is_set = is_set
        self._trusted = False
        remembers = isinstance(remembered_s, int | float) and EARLIEST_S <= remembered_s < LATEST_S
        began_s = float(remembered_s) if remembers and isinstance(remembered_s, int | float) else system_s()
        self._ahead_s = began_s - monotonic_s()

    @property
    def trusted(self) -> bool:
        """Whether the day and the hour are sure."""
        self._look()
        return self._trusted

    def now_s(self) -> float:
        """Unix seconds: by the network's time, else by the relay's, else as if the toy had never been switched off.

        It jumps when the clock is set, in either direction; see `steady_s`.
        """
        self._look()
        return self.steady_s() + self._ahead_s

    def steady_s(self) -> float:
        """Seconds for what lies between two moments of one process."""
        return self._monotonic_s()

    def told(self, now_s: float) -> None:
        """The relay says that it is `now_s`; a time that cannot be is not believed, and the network knows better."""
        if not EARLIEST_S <= now_s < LATEST_S:
            _log.warning("clock: the relay's clock is wrong, and not believed; set it")
        else:
            self._ahead_s = now_s - self._monotonic_s()
            self._trusted = True

    def _look(self) -> bool:
        """Whether the system's clock is set now; if so, go by it."""
        if not self._is_set() or not EARLIEST_S <= (system_s := self._system_s()) < LATEST_S:
            return False
        self._ahead_s = system_s - self._monotonic_s()
        self._trusted = True
        return True
