"""Parents' limits: read whole, counted by the day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from pommai.errors import ConfigError
from pommai.limits import Limits, Rest
from pommai.relay.allowance import Allowances, limits_of, local_now
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import ToySettings


class Clock:
    """A local time that a test moves."""

    def __init__(self, hour: int) -> None:
        self.now = datetime(2030, 5, 1, hour, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def talk(seconds: float, toy: str = "teddy") -> TurnRecord:
    packets = round(seconds / 0.06)
    return TurnRecord(toy, 1, 0.0, uplink_packets=packets // 2, downlink_packets=packets - packets // 2)


def test_settings_become_limits() -> None:
    settings = ToySettings(quiet_from="19:30", quiet_until="07:00", daily_limit_min=30, volume_ceiling=0.5)
    expected = Limits(False, time(19, 30), time(7), 1800, 0.5)
    assert limits_of({"teddy": settings, "panda": ToySettings()}) == {"teddy": expected, "panda": Limits()}


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        limits_of(
            {"Teddy": ToySettings(quiet_from="late"), "panda": ToySettings(quiet_from="19:00", quiet_until="25:00")}
        )
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    assert "[toys.Teddy]: a toy's id" in text and "belong together" in text
    assert "toys.Teddy.quiet_from" in text and "toys.panda.quiet_until" in text


def test_pause_and_quiet_hours() -> None:
    clock = Clock(20)
    quiet = Limits(quiet_from=time(19), quiet_until=time(7))
    allowances = Allowances({"teddy": quiet, "panda": Limits(paused=True)}, clock)
    assert allowances.rest("teddy") is Rest.QUIET_HOURS
    assert allowances.rest("panda") is Rest.PAUSED
    assert allowances.rest("unknown") is None
    clock.now = clock.now.replace(hour=8)
    assert allowances.rest("teddy") is None


def test_the_daily_limit_counts_both_sides_and_starts_anew_at_midnight() -> None:
    clock = Clock(12)
    allowances = Allowances({"teddy": Limits(daily_limit_s=60)}, clock)
    allowances.used(talk(50))
    allowances.used(talk(50, "panda"))
    assert allowances.rest("teddy") is None
    allowances.used(talk(12))
    assert allowances.rest("teddy") is Rest.DAILY_LIMIT
    clock.now += timedelta(hours=12)
    assert allowances.rest("teddy") is None
    allowances.used(talk(62))
    assert allowances.rest("teddy") is Rest.DAILY_LIMIT


def test_the_time_is_local_and_knows_its_zone() -> None:
    assert local_now().utcoffset() is not None
