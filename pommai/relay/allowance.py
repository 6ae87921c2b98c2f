"""What the parents of each toy allow (`[toys.ID]`), and how much of it is used today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from typing import Final

from pommai.errors import ConfigError
from pommai.limits import Limits, Rest, rest
from pommai.protocol import FRAME_MS
from pommai.relay.auth import TOY_ID_RULE, is_toy_id
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import ToySettings

_NO_LIMITS: Final = Limits()


def local_now() -> datetime:
    """The time where the relay runs, which is where its toys are."""
    return datetime.now(UTC).astimezone()


def limits_of(toys: Mapping[str, ToySettings]) -> dict[str, Limits]:
    """The limits of every toy in the settings. Raises ConfigError with every problem."""
    problems: list[str] = []
    limits = {toy: _limits(toy, settings, problems) for toy, settings in toys.items()}
    if problems:
        raise ConfigError(problems)
    return limits


class Allowances:
    """Says when a toy must rest. Talk is counted since the relay was started, or since midnight."""

    def __init__(self, limits: Mapping[str, Limits], now: Callable[[], datetime] = local_now) -> None:
        self._limits = limits
        self._now = now
        self._day = date.min
        self._used_s: dict[str, float] = {}

    def limits(self, toy: str) -> Limits:
        """What the toy's parents allow."""
        return self._limits.get(toy, _NO_LIMITS)

    def rest(self, toy: str) -> Rest | None:
        """Why the toy must rest now, if it must."""
        now = self._today()
        return rest(self.limits(toy), now.time(), self._used_s.get(toy, 0.0))

    def used(self, turn: TurnRecord) -> None:
        """Count the speech of a turn, the child's and the toy's."""
        self._today()
        if turn.toy in self._limits:
            packets = turn.uplink_packets + turn.downlink_packets
            self._used_s[turn.toy] = self._used_s.get(turn.toy, 0.0) + packets * FRAME_MS / 1000

    def _today(self) -> datetime:
        """The present time; a new day begins with nothing used."""
        now = self._now()
        if now.date() != self._day:
            self._day = now.date()
            self._used_s.clear()
        return now


def _limits(toy: str, settings: ToySettings, problems: list[str]) -> Limits:
    if not is_toy_id(toy):
        problems.append(f"[toys.{toy}]: a toy's id is {TOY_ID_RULE}")
    if bool(settings.quiet_from) != bool(settings.quiet_until):
        problems.append(f"[toys.{toy}]: quiet_from and quiet_until belong together")
    return Limits(
        paused=settings.paused,
        quiet_from=_time(f"toys.{toy}.quiet_from", settings.quiet_from, problems),
        quiet_until=_time(f"toys.{toy}.quiet_until", settings.quiet_until, problems),
        daily_limit_s=settings.daily_limit_min * 60,
        volume_ceiling=settings.volume_ceiling,
    )


def _time(where: str, text: str, problems: list[str]) -> time:
    try:
        return time.fromisoformat(text) if text else time(0)
    except ValueError:
        problems.append(f'{where} must be a time of day like "19:30", not {text!r}')
        return time(0)
