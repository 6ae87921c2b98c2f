"""What a parent allowed: pause, quiet hours, daily limit, length of a conversation, and volume ceiling.

Pure, and the same rules on toy and relay. Nothing here reads a clock: the caller passes the local time of day and the
seconds of talk. Nobody asks here about distress, so no limit can shorten the answer to a child in need.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from typing import Final

BREAK_S: Final = 300.0
"""A silence this long ends a conversation; after one that was too long, the toy rests for it."""


class Rest(StrEnum):
    """Why a toy rests; the values are the `ErrorCode`s that tell it so."""

    PAUSED = "paused"
    QUIET_HOURS = "quiet_hours"
    DAILY_LIMIT = "daily_limit"
    CONVERSATION_LIMIT = "conversation_limit"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one toy; the defaults limit nothing but the volume.

    `quiet_from` to `quiet_until`, local time of day, may cross midnight; equal times mean no quiet hours.
    `daily_limit_s`: seconds of talk a day, 0 for no limit. `max_conversation_s`: length of one conversation from its
    first turn on, 0 for no limit. `volume_ceiling`: 0.0 to 1.0.
    """

    paused: bool = False
    quiet_from: time = time(0)
    quiet_until: time = time(0)
    daily_limit_s: float = 0.0
    volume_ceiling: float = 1.0
    max_conversation_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation as it goes on: turns with less than `BREAK_S` between them. Any clock that never goes back."""

    began_s: float = 0.0
    last_s: float = float("-inf")

    def went_on(self, now_s: float) -> Talk:
        """The conversation after a turn at `now_s`: this one, or a new one if there was a break."""
        began_s = now_s if now_s - self.last_s >= BREAK_S else self.began_s
        return Talk(began_s, now_s)

    def is_too_long(self, limits: Limits, now_s: float) -> bool:
        """Whether the toy needs a break now; it ends `BREAK_S` after the last turn."""
        lasted_s = self.last_s - self.began_s
        return 0 < limits.max_conversation_s <= lasted_s and now_s - self.last_s < BREAK_S


_SILENCE: Final = Talk()


def rest(limits: Limits, now: time, used_today_s: float, talk: Talk = _SILENCE, now_s: float = 0.0) -> Rest | None:
    """Why the toy must rest at the local time `now`, the parent's own word first; None if it may talk.

    `talk` and `now_s`, on the clock of `talk`: the conversation that is going on.
    """
    if limits.paused:
        return Rest.PAUSED
    if in_quiet_hours(limits, now):
        return Rest.QUIET_HOURS
    if limits.daily_limit_s and used_today_s >= limits.daily_limit_s:
        return Rest.DAILY_LIMIT
    if talk.is_too_long(limits, now_s):
        return Rest.CONVERSATION_LIMIT
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
