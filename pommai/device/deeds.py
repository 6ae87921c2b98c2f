"""What a parent may do with the toy, by the control socket or by a command of the relay; the same for both."""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

from pommai.device.events import Earcon, Occasion
from pommai.device.lights import Mood
from pommai.device.ports import Allowance
from pommai.device.runner import Runner
from pommai.protocol import Command, ErrorCode

_log = logging.getLogger(__name__)

TEST_S: Final = 8.0
"""How long a test of the lights lasts: each colour twice."""


class Rules(Allowance, Protocol):
    """An allowance that can be changed at the toy; changes are kept across restarts."""

    @property
    def ceiling(self) -> float:
        """The loudest that parents allow, 0.0 to 1.0."""

    def set_volume(self, wanted: float) -> float:
        """From now on play at this volume, 0.0 to 1.0; what it became: never above the ceiling."""

    def set_paused(self, paused: bool) -> None:
        """Rest until a parent at the toy ends it, whatever the relay allows; or end that."""


class Deeds:
    """Each does its deed at once, and says whether it could be done."""

    def __init__(self, runner: Runner, rules: Rules | None) -> None:
        self._runner = runner
        self._rules = rules

    def obey(self, command: Command) -> ErrorCode | None:
        """Do what the relay commands; why not, if it cannot be done."""
        _log.info("deeds: a command came, action=%s", command.action if command.action.isidentifier() else "?")
        match command:
            case Command(action="volume", value=float(value)) if self.volume(value) is not None:
                return None
            case Command(action="brightness", value=float(value)):
                self._runner.picture.brightness = value
            case Command(action="pause" | "resume" as action) if self.pause(action == "pause"):
                return None
            case Command(action="play", phrase=str(phrase)):
                return None if self.play(phrase) else ErrorCode.UNAVAILABLE
            case Command(action="celebrate"):
                self._runner.show(Mood.CELEBRATE)
            case Command(action="restart"):
                self._runner.stop(restart=True)
            case Command(action="volume" | "pause" | "resume"):
                return ErrorCode.UNAVAILABLE
            case Command(action="brightness" | "play"):
                return ErrorCode.BAD_MESSAGE
            case _:
                return ErrorCode.UNKNOWN_TYPE
        return None

    def volume(self, wanted: float) -> float | None:
        """Set the volume; what it became, None for a toy that keeps none."""
        return None if self._rules is None else self._rules.set_volume(wanted)

    def pause(self, paused: bool) -> bool:
        """Begin or end a rest."""
        if self._rules is None:
            return False
        self._rules.set_paused(paused)
        return True

    def play(self, phrase: str) -> bool:
        """Say a phrase, unless the child or the relay has the word."""
        return self._runner.say(Occasion.PHRASE, phrase)

    def test_lights(self) -> None:
        """Show each colour, where no state forbids it."""
        self._runner.show(Mood.TEST, TEST_S)

    def test_sound(self) -> bool:
        """Make a small sound, if the toy makes any."""
        return self._runner.mouth.make(Earcon.END) > 0

    def told(self) -> dict[str, Any]:
        """What the rules are now, for the status."""
        if self._rules is None:
            return {}
        rest = self._rules.rest()
        return {"volume": self._rules.volume, "ceiling": self._rules.ceiling, "rest": rest and rest.value}
