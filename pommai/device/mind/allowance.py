"""What parents allow, as the toy knows it: told by the relay, kept across reboots, obeyed without a network.

The relay and the toy keep to the same rules (`pommai.limits`). The toy counts its own talk, so that a relay that
forgot, or another one, does not give the day anew; it takes the relay's count of the same day where that is higher.
Talk needs a relay, and so a welcome that says what time it is: there is none of which the day is not known.

Time: the day begins anew only when a trusted clock says so, and never because a clock was set back by a day or less
(around midnight, or on a journey). Lengths of time are counted on a clock that never jumps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import time
from typing import Any, Final

from pommai.device.mind.clock import WallClock
from pommai.limits import Limits, Rest, Talk, allowed_volume, rest
from pommai.protocol import LimitsRecord, Welcome

_log = logging.getLogger(__name__)

MINUTES_A_DAY: Final = 24 * 60
DAY_S: Final = 86_400
MOST: Final = float(2**53)
"""No number that is kept is larger: beyond, floats are no longer exact."""

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "quiet_from_min": (0, MINUTES_A_DAY - 1),
    "quiet_until_min": (0, MINUTES_A_DAY - 1),
    "volume_ceiling": (0, 1),
    "utc_offset_min": (-MINUTES_A_DAY, MINUTES_A_DAY),
}
"""Of the numbers in a LimitsRecord; the others are 0 to `MOST`."""


class ToyAllowance:
    """See `ports.Allowance`. Nothing in here is ever written by itself: `snapshot` is what has to be kept."""

    def __init__(self, clock: WallClock, volume: float, kept: object = None) -> None:
        """`volume`: of a toy that was never told another. `kept`: an earlier `snapshot`, None for a new toy.

        What is broken in it is named in the log and taken for its default: no limit. A toy that rested until it met its
        relay again would be mute where it is needed most; without a network it only plays phrases, and before it talks
        the relay tells the limits anew, and keeps to them itself. Only a ceiling of the volume that cannot be read
        becomes `volume`, because ears do not wait.
        """
        reader = _Reader(kept)
        self._clock = clock
        self._record = reader.limits(volume)
        self._own_volume = reader.number("volume", volume, 1)
        self.paused_here = reader.flag("paused_here")
        """Somebody has paused the toy at the toy itself."""
        self._used_s = reader.number("used_s", 0.0)
        self._day = int(
            reader.number("day", self._day_at(clock.now_s()), MOST / DAY_S, least=-1)
        )  # -1: 1970, west of London
        self._talk = self._talk_before(reader.number("talk_s", 0.0), reader.number("talk_ended_s", 0.0))
        self._is_sure = clock.trusted
        self._ahead_s = clock.now_s() - clock.steady_s()
        if reader.broken:
            _log.warning("allowance: some of what was kept cannot be read, fields=%s", ",".join(reader.broken))

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
        self._follow_clock()
        return self._used_s

    def rest(self) -> Rest | None:
        """See `ports.Allowance`."""
        self._follow_clock()
        now = _time(int(self._local_s(self._clock.now_s()) // 60))
        return rest(self.limits, now, self._used_s, self._talk, self._clock.steady_s())

    # --- what happens -------------------------------------------------------------------------------------------------

    def told(self, welcome: Welcome) -> None:
        """See `ports.Allowance`. A relay that does not speak of limits changes none but the ceiling that it names."""
        self._clock.told(welcome.server_time_s)
        self._record = welcome.limits or replace(self._record, volume_ceiling=welcome.volume_ceiling)
        self._follow_clock()
        if welcome.limits is not None and self._day_at(welcome.server_time_s) == self._day:
            self._used_s = max(self._used_s, welcome.limits.used_today_s)

    def talked(self, seconds: float) -> None:
        """See `ports.Allowance`."""
        self._follow_clock()
        self._used_s += seconds
        self._talk = self._talk.went_on(self._clock.steady_s())

    def set_volume(self, wanted: float) -> float:
        """Remember the volume that somebody wants, 0.0 to 1.0; what it comes to under the ceiling."""
        self._own_volume = max(0.0, min(wanted, 1.0))
        return self.volume

    def snapshot(self) -> dict[str, Any]:
        """Everything that has to survive a reboot, for JSON."""
        self._follow_clock()
        talk = self._talk
        talk_ended_s = talk.last_s + self._clock.now_s() - self._clock.steady_s()
        return {
            "limits": asdict(self._record),
            "volume": self._own_volume,
            "paused_here": self.paused_here,
            "used_s": round(self._used_s, 1),
            "day": self._day,
            "talk_s": round(talk.last_s - talk.began_s, 1) if talk_ended_s > 0 else 0.0,
            "talk_ended_s": round(talk_ended_s) if talk_ended_s > 0 else 0,
        }

    # --- time ---------------------------------------------------------------------------------------------------------

    def _local_s(self, unix_s: float) -> float:
        """Seconds since 1970 where the toy lives."""
        return unix_s + 60 * self._record.utc_offset_min

    def _day_at(self, unix_s: float) -> int:
        return int(self._local_s(unix_s) // DAY_S)

    def _follow_clock(self) -> None:
        """Notice when the clock becomes sure, and when a day begins; a clock that cannot be trusted begins none."""
        if not self._clock.trusted:
            return
        today = self._day_at(self._clock.now_s())
        if today > self._day:
            self._used_s = 0.0
        if today != self._day - 1:
            self._day = today
        if not self._is_sure:
            self._is_sure = True
            off_s = self._clock.now_s() - self._clock.steady_s() - self._ahead_s
            self._talk = _earlier(self._talk, max(0.0, off_s))  # now it is known how long the toy was switched off

    def _talk_before(self, lasted_s: float, ended_s: float) -> Talk:
        """The conversation before the reboot, on the steady clock of now."""
        if not ended_s:
            return Talk()
        steady_s = self._clock.steady_s()
        return _earlier(Talk(steady_s - lasted_s, steady_s), max(0.0, self._clock.now_s() - ended_s))


class _Reader:
    """Reads a snapshot in which anything may be broken: what is missing or makes no sense gives the default.

    `broken`: the names of what was there and made no sense.
    """

    def __init__(self, kept: object) -> None:
        self._kept = kept if isinstance(kept, Mapping) else {}
        self.broken = [] if isinstance(kept, Mapping | None) else ["all"]

    def number(self, name: str, default: float, most: float = MOST, least: float = 0) -> float:
        """A number from `least` to `most`; NaN is none."""
        value = self._kept.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        self.broken.append(name)
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """Yes or no."""
        value = self._kept.get(name, default)
        if isinstance(value, bool):
            return value
        self.broken.append(name)
        return default

    def limits(self, careful_volume: float) -> LimitsRecord:
        """What the relay told. `careful_volume`: the ceiling, where one was kept and cannot be read."""
        reader = _Reader(self._kept.get("limits"))
        default = LimitsRecord()
        values: dict[str, Any] = {}
        for name, usual in asdict(default).items():
            if isinstance(usual, bool):
                values[name] = reader.flag(name, usual)
            else:
                least, most = _RANGES.get(name, (0, MOST))
                values[name] = type(usual)(reader.number(name, usual, most, least))
        if {"all", "volume_ceiling"} & {*self.broken, *reader.broken}:
            values["volume_ceiling"] = careful_volume
        self.broken += [f"limits.{name}" for name in reader.broken]
        return LimitsRecord(**values)


def _earlier(talk: Talk, seconds: float) -> Talk:
    return Talk(talk.began_s - seconds, talk.last_s - seconds)


def _time(minute: int) -> time:
    """A minute of the day; one that is none is taken from another day."""
    return time(*divmod(minute % MINUTES_A_DAY, 60))
