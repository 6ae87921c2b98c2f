"""What the light and the voice tell of the toy itself, beside what it does: no sound card, low battery, an update."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from pommai.device.body.battery import Battery, Charge
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
        has_trouble: Callable[[], bool],
        show_trouble: Callable[[], bool],
        complain: Callable[[], bool] | None = None,
    ) -> None:
        """`low_percent`: the setting as it is now.

        `show_trouble`: shows a trouble that has begun once, as soon as it can (then it returns True).
        `complain`: for lights that are broken, makes a sound in the same way.
        """
        self._runner = runner
        self._battery = battery
        self._low_percent = low_percent
        self._has_sound = has_sound
        self._is_updating = is_updating
        self._has_trouble = has_trouble
        self._show_trouble = show_trouble
        self._complain = complain
        self.charge: Charge | None = None
        """The battery as it was at the last look; None without one."""
        self._is_said = False
        self._is_shown = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again(), name="signs: look")
            group.create_task(self._weigh_again(), name="signs: battery")

    async def _look_again(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    async def _weigh_again(self) -> None:
        """In a thread: a fuel gauge whose driver hangs must not stop the loop."""
        while True:
            self.charge = await asyncio.to_thread(self._battery.read)
            await asyncio.sleep(BATTERY_S)

    def look(self) -> None:
        """Look now. That the battery is low is said once, as soon as nobody talks."""
        if self._complain is not None and self._complain():
            self._complain = None
        self._is_shown = self._has_trouble() and (self._is_shown or self._show_trouble())
        self._is_said = self._is_low and (self._is_said or self._runner.say(Occasion.LOW_BATTERY))
        self._runner.picture.keep(*self._moods())

    @property
    def _is_low(self) -> bool:
        charge = self.charge
        return charge is not None and not charge.charging and charge.percent < self._low_percent()

    def _moods(self) -> Iterator[Mood]:
        """What there is to show, the gravest first."""
        if not self._has_sound():
            yield Mood.NO_SOUND
        if self._is_low:
            yield Mood.LOW_BATTERY
        if self._is_updating():
            yield Mood.UPDATING
