"""What the light and the voice tell of the toy itself, beside what it does: no sound card, low battery, an update."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from pommai.device.body.battery import Battery
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Mood
from pommai.device.runner import Runner

LOOK_S: Final = 1.0
BATTERY_S: Final = 60.0
"""Between two looks at what changes quickly, and at the battery, which is a file to read."""


class Signs:
    """Looks, and has the runner show and say what it sees."""

    def __init__(
        self,
        runner: Runner,
        battery: Battery,
        low_percent: Callable[[], int],
        has_sound: Callable[[], bool],
        is_updating: Callable[[], bool],
        complain: Callable[[], bool] | None = None,
    ) -> None:
        """`low_percent`: the setting as it is now.

        `complain`: for lights that are broken, makes a sound once, as soon as it can (then it returns True).
        """
        self._runner = runner
        self._battery = battery
        self._low_percent = low_percent
        self._has_sound = has_sound
        self._is_updating = is_updating
        self._complain = complain
        self._battery_due_s = 0.0
        self._is_low = False
        self._is_said = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(LOOK_S)

    def look(self, now_s: float) -> None:
        """Look now (the loop's clock). That the battery is low is said once, as soon as nobody talks."""
        if now_s >= self._battery_due_s:
            self._battery_due_s = now_s + BATTERY_S
            charge = self._battery.read()
            self._is_low = charge is not None and not charge.charging and charge.percent < self._low_percent()
        if self._complain is not None and self._complain():
            self._complain = None
        self._is_said = self._is_low and (self._is_said or self._runner.say(Occasion.LOW_BATTERY))
        self._runner.picture.keep(*self._moods())

    def _moods(self) -> Iterator[Mood]:
        """What there is to show, the gravest first."""
        if not self._has_sound():
            yield Mood.NO_SOUND
        if self._is_low:
            yield Mood.LOW_BATTERY
        if self._is_updating():
            yield Mood.UPDATING
