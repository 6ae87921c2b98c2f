"""The battery, as Linux shows it below /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

MAX_PERCENT: Final = 110
"""Fuel gauges count a little above 100 when they are new; anything beyond this is no percentage."""

MAX_CHARS: Final = 64
"""No file that we read is longer."""

ON_POWER: Final = ("Charging", "Full")
"""What `status` says of a battery that is at its charger; the others are Discharging, Not charging and Unknown."""


@dataclass(frozen=True, slots=True)
class Charge:
    """How full a battery is."""

    percent: int
    """0 to 100."""
    charging: bool
    """Whether it is at its charger, full or on the way."""


class Battery:
    """One battery; `path` is its folder, and empty for a toy without one.

    A toy does not depend on it: what is missing or makes no sense gives None, `problem`, and one line in the log.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._logged: str | None = None
        self.problem: str | None = None
        """What was wrong with the last reading, and what to do; for the status and the doctor."""

    def read(self) -> Charge | None:
        """Look at it now; None if there is none or it cannot be read.

        No disk is read, but the kernel asks the fuel gauge over I2C: some ms, and longer with a bad driver. So it
        belongs in a thread.
        """
        if self._path is None:
            return None
        try:
            percent = self._percent(_first_line(self._path / "capacity"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problem = (
                f"the battery cannot be read: {self._path / 'capacity'}: {reason}; set battery.path to a folder below"
                " /sys/class/power_supply, or to nothing"
            )
            if self.problem != self._logged:
                _log.warning("%s", self.problem)
                self._logged = self.problem
            return None
        self.problem = None
        try:
            charging = _first_line(self._path / "status") in ON_POWER
        except OSError:  # some boards tell how full a battery is, and nothing else
            charging = False
        return Charge(percent, charging)

    @staticmethod
    def _percent(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) <= MAX_PERCENT):
            raise ValueError(f"{text!r} is no percentage")
        return min(100, int(text))


def _first_line(file: Path) -> str:
    with file.open(encoding="ascii", errors="replace") as lines:
        return lines.read(MAX_CHARS).partition("\n")[0].strip()
