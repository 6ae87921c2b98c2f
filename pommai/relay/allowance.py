"""What the parents of each toy allow (`[toys.ID]`), and how much of it is used today."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Protocol

from pommai.config import did_you_mean
from pommai.errors import ConfigError
from pommai.limits import Limits, Rest, Talk, rest
from pommai.protocol import FRAME_MS, LimitsRecord, Signed
from pommai.relay.auth import TOY_ID_RULE, is_toy_id
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import ToySettings
from pommai.schema import Problem

_NO_LIMITS: Final = Limits()


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def limits_of(toys: Mapping[str, ToySettings]) -> dict[str, Limits]:
    """The limits of every toy in the settings. Raises ConfigError with every problem."""
    if problems := limit_problems(toys):
        raise ConfigError([str(problem) for problem in problems])
    return {toy: _limits(toy, settings, problems) for toy, settings in toys.items()}


def limit_problems(toys: Mapping[str, ToySettings]) -> list[Problem]:
    """What is wrong with the limits of all toys."""
    problems: list[Problem] = []
    for toy, settings in toys.items():
        _limits(toy, settings, problems)
    return problems


def idle_limits(toys: Mapping[str, ToySettings], known: Collection[str]) -> list[str]:
    """One sentence for each toy with limits that is not `known` by a valid token: they hold for nobody."""
    return [
        f"[toys.{toy}] holds for no toy: there is no valid token for {toy!r}{did_you_mean(toy, sorted(known))}"
        for toy in toys
        if toy not in known
    ]


class TalkStore(Protocol):
    """Knows how much was talked."""

    async def talked_since(self, since_s: float) -> Mapping[str, int]:
        """How many packets, the child's and the toy's, were in the turns of each toy since a Unix time. StoreError."""


class Allowances:
    """Says when a toy must rest. Talk is counted by the local day, and by the conversation."""

    def __init__(
        self,
        limits: Mapping[str, Limits],
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = clock.monotonic,
        zone: tzinfo | None = None,
    ) -> None:
        """`now`: with any zone. `monotonic`: seconds that never go back, for conversations.

        `zone`: where the toys are; None for where the relay runs.
        """
        self._limits = limits
        self._now = now
        self._zone = zone
        self._monotonic = monotonic
        self._day = date.min
        self._used_s: dict[str, float] = {}
        self._talks: dict[str, Talk] = {}

    async def recall(self, store: TalkStore) -> None:
        """Count what was talked today before this relay was started. Raises StoreError."""
        midnight = datetime.combine(self._today(), time(0), self._zone)  # whose offset may differ from that of now
        for toy, packets in (await store.talked_since(midnight.timestamp())).items():
            self._add(toy, packets)

    def limits(self, toy: str) -> Limits:
        """What the toy's parents allow."""
        return self._limits.get(toy, _NO_LIMITS)

    def record(self, toy: str) -> LimitsRecord:
        """The same as the toy has to keep it, with what is used today."""
        now, limits = self._today(), self.limits(toy)
        return LimitsRecord(
            paused=limits.paused,
            quiet_from_min=_minute(limits.quiet_from),
            quiet_until_min=_minute(limits.quiet_until),
            daily_limit_s=limits.daily_limit_s,
            max_conversation_s=limits.max_conversation_s,
            volume_ceiling=limits.volume_ceiling,
            used_today_s=round(self._used_s.get(toy, 0.0), 2),
            utc_offset_min=Signed((now.utcoffset() or timedelta()) // timedelta(minutes=1)),
        )

    def rest(self, toy: str) -> Rest | None:
        """Why the toy must rest now, if it must."""
        now, talk = self._today(), self._talks.get(toy, Talk())
        return rest(self.limits(toy), now.time(), self._used_s.get(toy, 0.0), talk, self._monotonic())

    def used(self, turn: TurnRecord) -> None:
        """Count the speech of a turn that has just ended, the child's and the toy's."""
        self._today()
        self._add(turn.toy, turn.uplink_packets + turn.downlink_packets)
        if turn.toy in self._limits:
            self._talks[turn.toy] = self._talks.get(turn.toy, Talk()).went_on(self._monotonic())

    def _add(self, toy: str, packets: int) -> None:
        """Count packets as talk of today, if the toy has limits."""
        if toy in self._limits:
            self._used_s[toy] = self._used_s.get(toy, 0.0) + packets * FRAME_MS / 1000

    def _today(self) -> datetime:
        """The present time where the toys are; a new day begins with nothing used."""
        now = self._now().astimezone(self._zone)
        if now.date() != self._day:
            self._day = now.date()
            self._used_s.clear()
        return now


def _limits(toy: str, settings: ToySettings, problems: list[Problem]) -> Limits:
    """The limits of one toy; what is wrong with them is added to `problems`."""
    if not is_toy_id(toy):
        problems.append(Problem((f"toys.{toy}",), f"is no toy's id: that is {TOY_ID_RULE}"))
    quiet = (f"toys.{toy}.quiet_from", f"toys.{toy}.quiet_until")
    if bool(settings.quiet_from) != bool(settings.quiet_until):
        missing = quiet if not settings.quiet_from else quiet[::-1]
        problems.append(Problem(missing, "must be set too: quiet_from and quiet_until belong together"))
    return Limits(
        paused=settings.paused,
        quiet_from=_time(quiet[0], settings.quiet_from, problems),
        quiet_until=_time(quiet[1], settings.quiet_until, problems),
        daily_limit_s=settings.daily_limit_min * 60,
        volume_ceiling=settings.volume_ceiling,
        max_conversation_s=settings.max_conversation_min * 60,
    )


def _minute(at: time) -> int:
    """The minute of the day, which is all that a setting has."""
    return at.hour * 60 + at.minute


def _time(name: str, text: str, problems: list[Problem]) -> time:
    try:
        at = time.fromisoformat(text) if text else time(0)
    except ValueError:
        at = None
    if at is not None and at == time(at.hour, at.minute):  # neither seconds nor a zone: the toy keeps minutes
        return at
    problems.append(Problem((name,), f'must be a time of day like "19:30", not {text!r}'))
    return time(0)
