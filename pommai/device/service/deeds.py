"""What a parent may do with the toy, by the control socket or by a command of the relay; the same for both."""

from __future__ import annotations

from typing import Any, Final

from pommai.device.mind.allowance import ToyAllowance
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Mood
from pommai.device.runner import Runner
from pommai.device.service.keeping import Keeper
from pommai.protocol import Command, ErrorCode

TEST_S: Final = 8.0
"""How long a test of the lights lasts: each colour twice."""


class Deeds:
    """Each is done when its method returns; what it changes for good is on the disk by then. They raise StoreError."""

    def __init__(self, runner: Runner, allowance: ToyAllowance, keeper: Keeper) -> None:
        self._runner = runner
        self._allowance = allowance
        self._keeper = keeper

    async def obey(self, command: Command) -> ErrorCode | None:
        """Do what the relay commands; why not, if it cannot be done. See `commands.Obey`."""
        match command:
            case Command(action="volume", value=float(value)):
                await self.volume(value)
            case Command(action="brightness", value=float(value)):
                self._runner.picture.brightness = value
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

    async def volume(self, wanted: float) -> float:
        """Set the volume, 0.0 to 1.0; what it became: never above the ceiling."""
        became = self._allowance.set_volume(wanted)
        await self._keeper.save(durable=True)
        return became

    async def pause(self, *, paused: bool) -> None:
        """Rest until this is taken back, whatever the relay allows; or take it back."""
        self._allowance.paused_here = paused
        await self._keeper.save(durable=True)

    def play(self, phrase: str) -> bool:
        """Say a phrase; False while the child or the relay has the word."""
        return self._runner.say(Occasion.PHRASE, phrase)

    def test_lights(self) -> None:
        """Show each colour, where no state forbids it."""
        self._runner.show(Mood.TEST, TEST_S)

    def test_sound(self) -> bool:
        """Make a small sound; False for a toy that makes none, or not now."""
        return self._runner.test_sound()

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
