"""Parents' limits: read whole, counted by the day."""

from __future__ import annotations

import time as system
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from pommai.errors import ConfigError
from pommai.limits import BREAK_S, Limits, Rest
from pommai.protocol import LimitsRecord, Signed
from pommai.relay.allowance import Allowances, idle_limits, limits_of
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import ToySettings


class Clock:
    """A time that a test moves."""

    def __init__(self, hour: int) -> None:
        self.now = datetime(2030, 5, 1, hour, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def talk(seconds: float, toy: str = "teddy") -> TurnRecord:
    packets = round(seconds / 0.06)
    return TurnRecord(toy, 1, 0.0, uplink_packets=packets // 2, downlink_packets=packets - packets // 2)


def test_settings_become_limits() -> None:
    settings = ToySettings(
        quiet_from="19:30", quiet_until="07:00", daily_limit_min=30, max_conversation_min=15, volume_ceiling=0.5
    )
    expected = Limits(False, time(19, 30), time(7), 1800, 0.5, 900)
    assert limits_of({"teddy": settings, "panda": ToySettings()}) == {"teddy": expected, "panda": Limits()}


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        limits_of(
            {"Teddy": ToySettings(quiet_from="late"), "panda": ToySettings(quiet_from="19:00", quiet_until="25:00")}
        )
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    assert "toys.Teddy is no toy's id" in text and "toys.Teddy.quiet_until must be set too" in text
    assert "toys.Teddy.quiet_from" in text and "toys.panda.quiet_until" in text


def test_limits_that_hold_for_no_toy_are_told_with_the_one_that_was_meant() -> None:
    toys = {"bobbo": ToySettings(paused=True), "bobo": ToySettings(), "x": ToySettings()}
    assert idle_limits(toys, {"bobo", "teddy"}) == [
        "[toys.bobbo] holds for no toy: there is no valid token for 'bobbo'; did you mean 'bobo'?",
        "[toys.x] holds for no toy: there is no valid token for 'x'; known are: bobo, teddy",
    ]
    assert idle_limits({}, set()) == []


@pytest.mark.parametrize("text", ["19:30:15", "19:30+02:00", "19:30Z", "24:00", "7", "\u0661\u0669:\u0663\u0660x"])
def test_a_time_of_day_is_hours_and_minutes(text: str) -> None:
    """One with a zone could not even be compared with the time of day."""
    with pytest.raises(ConfigError, match="must be a time of day"):
        limits_of({"teddy": ToySettings(quiet_from=text, quiet_until="07:00")})


def test_pause_and_quiet_hours() -> None:
    clock = Clock(20)
    quiet = Limits(quiet_from=time(19), quiet_until=time(7))
    allowances = Allowances({"teddy": quiet, "panda": Limits(paused=True)}, clock, zone=UTC)
    assert allowances.rest("teddy") is Rest.QUIET_HOURS
    assert allowances.rest("panda") is Rest.PAUSED
    assert allowances.rest("unknown") is None
    clock.now = clock.now.replace(hour=8)
    assert allowances.rest("teddy") is None


def test_the_daily_limit_counts_both_sides_and_starts_anew_at_midnight() -> None:
    clock = Clock(12)
    allowances = Allowances({"teddy": Limits(daily_limit_s=60)}, clock, zone=UTC)
    allowances.used(talk(50))
    allowances.used(talk(50, "panda"))
    assert allowances.rest("teddy") is None
    allowances.used(talk(12))
    assert allowances.rest("teddy") is Rest.DAILY_LIMIT
    clock.now += timedelta(hours=12)
    assert allowances.rest("teddy") is None
    allowances.used(talk(62))
    assert allowances.rest("teddy") is Rest.DAILY_LIMIT


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine stands there; its summer began on 2030-03-31 at 1:00 UTC."""
    with monkeypatch.context() as moved:
        moved.setenv("TZ", "Europe/Berlin")
        system.tzset()
        yield
    system.tzset()


@pytest.mark.parametrize("zone", [None, ZoneInfo("Europe/Berlin")])
@pytest.mark.usefixtures("berlin")
async def test_the_time_is_that_of_the_relays_zone_also_when_its_clocks_change(zone: ZoneInfo | None) -> None:
    clock = Clock(12)
    clock.now = datetime(2030, 3, 31, 0, 59, tzinfo=UTC)
    store = Remembered({})
    allowances = Allowances({"teddy": Limits(quiet_from=time(4), quiet_until=time(5))}, clock, zone=zone)
    assert allowances.record("teddy").utc_offset_min == 60
    clock.now += timedelta(hours=1, minutes=1)
    assert allowances.record("teddy").utc_offset_min == 120
    assert allowances.rest("teddy") is Rest.QUIET_HOURS, "it is four, and not three"
    await allowances.recall(store)
    assert store.asked_s == [datetime(2030, 3, 30, 23, tzinfo=UTC).timestamp()], "midnight was before the change"


def test_a_conversation_that_lasts_too_long_needs_a_break() -> None:
    clock, seconds = Clock(12), [1_000.0]
    allowances = Allowances({"teddy": Limits(max_conversation_s=60)}, clock, lambda: seconds[0], UTC)
    allowances.used(talk(9, "panda"))
    allowances.used(talk(9))
    seconds[0] += 59
    assert allowances.rest("teddy") is None, "nobody has talked since"
    allowances.used(talk(3))
    assert allowances.rest("teddy") is None
    seconds[0] += 1
    allowances.used(talk(3))
    assert allowances.rest("teddy") is Rest.CONVERSATION_LIMIT
    assert allowances.rest("panda") is None
    seconds[0] += BREAK_S - 1
    assert allowances.rest("teddy") is Rest.CONVERSATION_LIMIT
    seconds[0] += 1
    assert allowances.rest("teddy") is None
    allowances.used(talk(30))
    assert allowances.rest("teddy") is None, "a new conversation begins"


def test_the_conversation_clock_is_not_the_clock_on_the_wall() -> None:
    clock, seconds = Clock(12), [0.0]
    allowances = Allowances({"teddy": Limits(max_conversation_s=60)}, clock, lambda: seconds[0], UTC)
    allowances.used(talk(9))
    seconds[0] += 60
    allowances.used(talk(9))
    clock.now += timedelta(hours=3)
    assert allowances.rest("teddy") is Rest.CONVERSATION_LIMIT


def test_the_toy_gets_its_limits_as_it_has_to_keep_them() -> None:
    clock = Clock(12)
    zone = timezone(timedelta(hours=-3, minutes=-30))
    limits = Limits(True, time(19, 30), time(7), 1800, 0.5, 900)
    allowances = Allowances({"teddy": limits}, clock, zone=zone)
    allowances.used(talk(90))
    assert allowances.record("teddy") == LimitsRecord(True, 1170, 420, 1800, 900, 0.5, 90.0, Signed(-210))
    assert allowances.record("panda") == LimitsRecord(utc_offset_min=Signed(-210))
    clock.now += timedelta(days=1)
    assert allowances.record("teddy").used_today_s == 0


class Remembered:
    """A store that knows of some talk."""

    def __init__(self, packets: Mapping[str, int]) -> None:
        self.packets = packets
        self.asked_s: list[float] = []

    async def talked_since(self, since_s: float) -> Mapping[str, int]:
        self.asked_s.append(since_s)
        return self.packets


async def test_a_restart_of_the_relay_gives_no_child_another_day() -> None:
    clock = Clock(12)
    zone = timezone(timedelta(hours=2))
    store = Remembered({"teddy": 900, "panda": 900})
    allowances = Allowances({"teddy": Limits(daily_limit_s=60)}, clock, zone=zone)
    await allowances.recall(store)
    assert store.asked_s == [datetime(2030, 4, 30, 22, tzinfo=UTC).timestamp()], "midnight where the toys are"
    assert allowances.record("teddy").used_today_s == 54
    assert allowances.rest("teddy") is None
    allowances.used(talk(7))
    assert allowances.rest("teddy") is Rest.DAILY_LIMIT
    clock.now += timedelta(days=1)
    assert allowances.rest("teddy") is None
