"""What a parent may do with the toy, by the control socket or by a command of the relay; the same for both."""

from __future__ import annotations

import logging
from typing import Any, Final

from pommai.device.mind.allowance import ToyAllowance
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Mood
from pommai.device.runner import Runner
from pommai.device.service.keeping import Keeper
from pommai.errors import StoreError
from pommai.protocol import Command, ErrorCode

_log = logging.getLogger(__name__)

TEST_S: Final = 8.0
"""How long a test of the lights lasts: each colour twice."""


class Deeds:
    """Each is done when its method returns; what it changes for good is on the disk by then, if there is one.

    Those that change something for good return whether it is kept: False while the cache lives in memory, so that it
    holds only until the toy is switched off. They raise StoreError.
    """

    def __init__(self, runner: Runner, allowance: ToyAllowance, keeper: Keeper) -> None:
        self._runner = runner
        self._allowance = allowance
        self._keeper = keeper

    async def obey(self, command: Command) -> ErrorCode | None:
        """Do what the relay commands; why not, if it cannot be done. See `commands.Obey`.

        What is done and cannot be kept is done: the log says so, and the relay's limits hold again with each welcome.
        Raises nothing for what the cache does.
        """
        try:
            return await self._obey(command)
        except StoreError as error:
            _log.warning("deeds: the cache failed, action=%s: %s", command.action, error)
            return ErrorCode.UNAVAILABLE

    async def _obey(self, command: Command) -> ErrorCode | None:
        match command:
            case Command(action="volume", value=float(value)):
                await self.volume(value)
            case Command(action="brightness", value=float(value)):
                await self.brightness(value)
            case Command(action="pause" | "resume" as action):
                await self.pause(paused=action == "pause")
            case Command(action="play", phrase=str(phrase)):
                return None if self.play(phrase) else ErrorCode.UNAVAILABLE
            case Command(action="celebrate"):
                self._runner.show(Mood.CELEBRATE)
            case Command(action="restart"):
                self._runner.stop(restart=True)
            case _:
                return ErrorCode.UNKNOWN_TYPE
        return None

    async def volume(self, wanted: float) -> bool:
        """Set the volume, 0.0 to 1.0, for good; it never becomes louder than the ceiling. Whether it is kept."""
        self._allowance.set_volume(wanted)
        self._runner.limits_changed()
        return await self._keep("volume")

    async def brightness(self, wanted: float) -> bool:
        """Dim the light, 0.0 to 1.0, until the setting is another. Whether it is kept."""
        self._runner.picture.brightness = wanted
        return await self._keep("brightness")

    async def pause(self, *, paused: bool) -> bool:
        """Rest until this is taken back, whatever the relay allows; or take it back. Whether it is kept."""
        self._allowance.paused_here = paused
        self._runner.limits_changed()
        return await self._keep("pause")

    def play(self, phrase: str) -> bool:
        """Say a phrase; False while the child or the relay has the word."""
        return self._runner.say(Occasion.PHRASE, phrase)

    def test_lights(self) -> None:
        """Show each colour, where no state forbids it."""
        self._runner.show(Mood.TEST, TEST_S)

    def test_sound(self) -> bool:
        """Make a small sound; False for a toy that makes none, or not now."""
        return self._runner.make(Earcon.END)

    async def _keep(self, what: str) -> bool:
        is_kept = await self._keeper.save(durable=True)
        if not is_kept:
            _log.warning("deeds: it holds only until the toy is switched off, what=%s", what)
        return is_kept

    def rules(self) -> dict[str, Any]:
        """What is allowed now, for the status."""
        allowance = self._allowance
        rest = allowance.rest()
        return {
            "volume": round(allowance.volume, 2),
            "ceiling": allowance.limits.volume_ceiling,
            "rest": None if rest is None else rest.value,
            "paused_here": allowance.paused_here,
            "used_today_s": round(allowance.used_today_s, 1),
        }
