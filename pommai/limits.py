"""What a parent allowed: pause, quiet hours, daily limit and volume ceiling.

Pure, and the same rules on toy and relay. Nothing here reads a clock: the caller passes the local time of day and the
seconds already used today. Nobody asks here about distress, so no limit can shorten the answer to a child in need.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from enum import StrEnum


class Rest(StrEnum):
    """Why a toy rests; the values are the `ErrorCode`s that tell it so."""

    PAUSED = "paused"
    QUIET_HOURS = "quiet_hours"
    DAILY_LIMIT = "daily_limit"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one toy; the defaults limit nothing but the volume.

    `quiet_from` to `quiet_until`, local time of day, may cross midnight; equal times mean no quiet hours.
    `daily_limit_s`: seconds of talk a day, 0 for no limit. `volume_ceiling`: 0.0 to 1.0.
    """

    paused: bool = False
    quiet_from: time = time(0)
    quiet_until: time = time(0)
    daily_limit_s: float = 0.0
    volume_ceiling: float = 1.0


def rest(limits: Limits, now: time, used_today_s: float) -> Rest | None:
    """Why the toy must rest at the local time `now`, the parent's own word first; None if it may talk."""
    if limits.paused:
        return Rest.PAUSED
    if in_quiet_hours(limits, now):
        return Rest.QUIET_HOURS
    if limits.daily_limit_s and used_today_s >= limits.daily_limit_s:
        return Rest.DAILY_LIMIT
    return None


def in_quiet_hours(limits: Limits, now: time) -> bool:
    """Whether `now` is in the quiet hours: from their first minute, until just before their last."""
    start, end = limits.quiet_from, limits.quiet_until
    if start <= end:
        return start <= now < end
    return now >= start or now < end


def allowed_volume(limits: Limits, wanted: float) -> float:
    """The volume to use for the one that was asked for: 0.0 to the ceiling."""
    return max(0.0, min(wanted, limits.volume_ceiling))
