"""What one toy is told when it is welcomed, and again whenever it wants to talk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pommai.limits import Rest
from pommai.protocol import VERSION, ErrorCode, LimitsRecord, Welcome


def never_rests() -> None:
    """The answer for a toy without limits."""


def nothing() -> None:
    """What a toy is to keep that is told nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Asked anew each time, for parents may change their mind. `rest`: why the toy must rest now, if it must.

    `limits`, `phrases`: what `Welcome` says of them.
    """

    rest: Callable[[], Rest | None] = never_rests
    limits: Callable[[], LimitsRecord | None] = nothing
    phrases: Callable[[], str | None] = nothing
    max_utterance_s: float = 20.0
    volume_ceiling: float = 1.0
    unix_time: Callable[[], float] = time.time

    @property
    def utc_offset_min(self) -> int | None:
        """The local time of the toy's home, as `limits` says it."""
        limits = self.limits()
        return None if limits is None else limits.utc_offset_min

    def welcome(self, session: str, rest: Rest | None, resumed: int | None) -> Welcome:
        """The welcome to a conversation, for a toy that must `rest` or may talk."""
        return Welcome(
            VERSION,
            session,
            self.unix_time(),
            self.max_utterance_s,
            paused=None if rest is None else ErrorCode(rest),
            volume_ceiling=self.volume_ceiling,
            resumed=resumed,
            limits=self.limits(),
            phrases=self.phrases(),
        )
