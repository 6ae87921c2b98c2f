"""What parents allow, as the toy knows it: told by the relay, kept across reboots, obeyed without a network.

The relay and the toy keep to the same rules (`pommai.limits`). The toy counts its own talk, because it also talks where
the relay does not hear it, and takes the relay's count where that is higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from pommai.device.clock import WallClock
from pommai.limits import Limits, Rest, Talk, allowed_volume, rest
from pommai.protocol import LimitsRecord, Welcome

MINUTES_A_DAY: Final = 24 * 60


class ToyAllowance:
    """See `ports.Allowance`. Nothing in here is ever written by itself: `snapshot` is what has to be kept."""

    def __init__(self, clock: WallClock, volume: float, kept: Mapping[str, Any] | None = None) -> None:
        """`volume`: of a toy that was never told another.

        `kept`: an earlier `snapshot`; what makes no sense in it is ignored.
        """
        kept = kept if isinstance(kept, Mapping) else {}
        self._clock = clock
        self._record = _record(kept.get("limits"))
        self._own_volume = _number(kept.get("volume"), volume, 1.0)
        self.paused_here = kept.get("paused_here") is True
        """Somebody has paused the toy at the toy itself."""
        self._used_s = _number(kept.get("used_s"), 0.0)
        self._day = int(_number(kept.get("day"), 0.0)) or self._today()
        self._talk = Talk(_number(kept.get("talk_began_s"), 0.0), _number(kept.get("talk_last_s"), 0.0))

    # --- what is asked ------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What parents allow."""
        record = self._record
        return Limits(
            paused=record.paused or self.paused_here,
            quiet_from=_time(record.quiet_from_min),
            quiet_until=_time(record.quiet_until_min),
            daily_limit_s=record.daily_limit_s,
            volume_ceiling=record.volume_ceiling,
            max_conversation_s=record.max_conversation_s,
        )

    @property
    def volume(self) -> float:
        """See `ports.Allowance`."""
        return allowed_volume(self.limits, self._own_volume)

    @property
    def used_today_s(self) -> float:
        """Seconds of talk today."""
        self._roll_over()
        return self._used_s

    def rest(self) -> Rest | None:
        """See `ports.Allowance`."""
        self._roll_over()
        return rest(self.limits, self._local().time(), self._used_s, self._talk, self._clock.now_s())

    # --- what happens -------------------------------------------------------------------------------------------------

    def told(self, welcome: Welcome) -> None:
        """See `ports.Allowance`."""
        self._clock.told(welcome.server_time_s)
        self._record = welcome.limits or LimitsRecord(volume_ceiling=welcome.volume_ceiling)
        self._roll_over()
        self._used_s = max(self._used_s, self._record.used_today_s)

    def talked(self, seconds: float) -> None:
        """See `ports.Allowance`."""
        self._roll_over()
        self._used_s += seconds
        self._talk = self._talk.went_on(self._clock.now_s())

    def set_volume(self, wanted: float) -> float:
        """Remember the volume that somebody wants, 0.0 to 1.0; what it comes to under the ceiling."""
        self._own_volume = max(0.0, min(1.0, wanted))
        return self.volume

    def snapshot(self) -> dict[str, Any]:
        """Everything that has to survive a reboot, for JSON."""
        record = self._record
        return {
            "limits": {name: getattr(record, name) for name in LimitsRecord.__dataclass_fields__},
            "volume": self._own_volume,
            "paused_here": self.paused_here,
            "used_s": round(self._used_s, 1),
            "day": self._day,
            "talk_began_s": self._talk.began_s,
            "talk_last_s": max(0.0, self._talk.last_s),
        }

    # --- time ---------------------------------------------------------------------------------------------------------

    def _local(self) -> datetime:
        """The time where the toy lives."""
        return datetime.fromtimestamp(self._clock.now_s(), UTC) + timedelta(minutes=self._record.utc_offset_min)

    def _today(self) -> int:
        return self._local().toordinal()

    def _roll_over(self) -> None:
        """A new day begins with nothing used; but only a clock that can be trusted can say that it is one."""
        if self._clock.trusted and self._today() != self._day:
            self._day = self._today()
            self._used_s = 0.0


def _record(kept: object) -> LimitsRecord:
    """Limits as they were kept; the default in place of what makes no sense."""
    default = LimitsRecord()
    if not isinstance(kept, Mapping):
        return default
    names = LimitsRecord.__dataclass_fields__
    values = {name: kept[name] for name in names if type(kept.get(name)) is type(getattr(default, name))}
    return LimitsRecord(**values)


def _number(kept: object, default: float, most: float = float("inf")) -> float:
    return float(kept) if isinstance(kept, int | float) and 0 <= kept <= most else default


def _time(minute: int) -> time:
    """A minute of the day; one that is none is taken from the next day."""
    return time(*divmod(minute % MINUTES_A_DAY, 60))
