"""What parents allow, on the toy: told, kept across reboots, obeyed with a clock that may be wrong."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.device.mind.allowance import ToyAllowance
from pommai.device.mind.clock import WallClock
from pommai.limits import BREAK_S, Rest
from pommai.protocol import VERSION, LimitsRecord, Signed, Welcome

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def unix(text: str, offset_h: float = 0) -> float:
    """Unix seconds of a local time such as `2027-03-05 19:30`."""
    zone = timezone(timedelta(hours=offset_h))
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC).timestamp()


NOON_S = unix("2027-03-05 12:00")


class Life:
    """One toy through its reboots. `real_s`: the time that it is; the board does not know."""

    def __init__(self, real_s: float = NOON_S, volume: float = 0.7) -> None:
        self.real_s = real_s
        self.synchronised = False
        self._volume = volume
        self._remembered_s: float | None = None
        self._kept: Any = None
        self._boot()

    def _boot(self) -> None:
        self._booted_s = self.real_s
        self.clock = WallClock(
            self._remembered_s,
            system_s=lambda: self.real_s if self.synchronised else 1.6e9,
            monotonic_s=lambda: self.real_s - self._booted_s,
            is_set=lambda: self.synchronised,
        )
        self.toy = ToyAllowance(self.clock, self._volume, self._kept)

    def wait(self, seconds: float) -> None:
        self.real_s += seconds

    def reboot(self, off_s: float = 0.0, kept: Any = None) -> None:
        """Switched off for so long; the network is gone afterwards, and memory is what JSON gives back."""
        snapshot = self.toy.snapshot() if kept is None else kept
        self._kept = json.loads(json.dumps(snapshot))
        self._remembered_s = self.clock.now_s()
        self.real_s += off_s
        self.synchronised = False
        self._boot()

    def talk(self, seconds: float) -> None:
        """Talk for so long, second by second."""
        for _ in range(int(seconds)):
            self.wait(1)
            self.toy.talked(1)

    def welcome(self, server_s: float | None = None, **limits: Any) -> None:
        self.toy.told(Welcome(VERSION, "s1", server_s or self.real_s, 20.0, limits=LimitsRecord(**limits)))


# --- pause, across reboots --------------------------------------------------------------------------------------------


def test_a_new_toy_may_do_anything() -> None:
    life = Life()
    life.talk(600)
    assert life.toy.rest() is None
    assert life.toy.volume == 0.7


def test_a_pause_that_the_relay_told_holds_across_reboots_until_the_relay_takes_it_back() -> None:
    life = Life()
    life.welcome(paused=True)
    for _ in range(3):
        assert life.toy.rest() is Rest.PAUSED
        life.reboot(off_s=30 * DAY_S)
        assert not life.clock.trusted
    life.welcome()
    assert life.toy.rest() is None
    life.reboot()
    assert life.toy.rest() is None


def test_a_pause_at_the_toy_holds_across_reboots_whatever_the_relay_allows() -> None:
    life = Life()
    life.toy.paused_here = True
    life.welcome(paused=False)
    life.reboot(off_s=DAY_S)
    life.welcome(paused=False)
    assert life.toy.rest() is Rest.PAUSED
    life.toy.paused_here = False
    assert life.toy.rest() is None


def test_a_relay_that_does_not_speak_of_limits_changes_only_the_ceiling() -> None:
    life = Life()
    life.welcome(paused=True, daily_limit_s=60.0, utc_offset_min=Signed(60))
    life.toy.told(Welcome(VERSION, "s2", life.real_s, 20.0, volume_ceiling=0.5))
    assert life.toy.rest() is Rest.PAUSED
    assert life.toy.limits.daily_limit_s == 60
    assert life.toy.volume == 0.5


# --- quiet hours ------------------------------------------------------------------------------------------------------

NIGHT = {"quiet_from_min": 19 * 60 + 30, "quiet_until_min": 7 * 60}


@pytest.mark.parametrize(
    ("local", "rest"),
    [
        ("2027-03-05 19:29:59", None),
        ("2027-03-05 19:30:00", Rest.QUIET_HOURS),
        ("2027-03-05 23:59:59", Rest.QUIET_HOURS),
        ("2027-03-06 00:00:00", Rest.QUIET_HOURS),
        ("2027-03-06 06:59:59", Rest.QUIET_HOURS),
        ("2027-03-06 07:00:00", None),
    ],
)
@pytest.mark.parametrize("offset_h", [0, 1, -8, 5.5, 14])
def test_quiet_hours_go_over_midnight_in_the_time_of_the_toys_home(
    local: str, rest: Rest | None, offset_h: float
) -> None:
    life = Life(unix(local, offset_h))
    life.welcome(utc_offset_min=Signed(int(offset_h * 60)), **NIGHT)
    assert life.toy.rest() is rest
    life.reboot()
    assert life.toy.rest() is rest


def test_quiet_hours_begin_and_end_while_the_clock_is_not_trusted() -> None:
    life = Life(unix("2027-03-05 19:00"))
    life.welcome(**NIGHT)
    life.reboot(off_s=10 * HOUR_S)  # it cannot know: it goes on at 19:00
    assert life.toy.rest() is None
    life.wait(HOUR_S)
    assert life.toy.rest() is Rest.QUIET_HOURS
    life.wait(11 * HOUR_S)
    assert life.toy.rest() is None


def test_summer_time_comes_with_the_next_welcome() -> None:
    life = Life(unix("2027-03-27 18:45", 1))
    life.welcome(utc_offset_min=Signed(60), **NIGHT)
    life.wait(DAY_S)  # 19:45 in summer time; the toy thinks 18:45
    assert life.toy.rest() is None
    life.welcome(utc_offset_min=Signed(120), **NIGHT)
    assert life.toy.rest() is Rest.QUIET_HOURS


# --- the daily limit --------------------------------------------------------------------------------------------------


def test_used_seconds_are_kept_across_reboots_to_the_limit() -> None:
    life = Life()
    for _ in range(3):
        life.welcome(daily_limit_s=180.0)  # of a relay that has forgotten everything
        assert life.toy.rest() is None
        life.talk(60)
        life.reboot(off_s=60)
    assert life.toy.used_today_s == 180
    assert life.toy.rest() is Rest.DAILY_LIMIT


def test_the_day_begins_anew_at_local_midnight() -> None:
    life = Life(unix("2027-03-05 23:59:58", 9))
    life.welcome(daily_limit_s=60.0, used_today_s=60.0, utc_offset_min=Signed(9 * 60))
    life.wait(1.5)
    assert life.toy.rest() is Rest.DAILY_LIMIT
    life.wait(1)
    assert life.toy.rest() is None
    assert life.toy.used_today_s == 0


def test_the_day_never_rolls_over_while_the_clock_is_not_trusted() -> None:
    life = Life()
    life.welcome(daily_limit_s=60.0)
    life.talk(60)
    for _ in range(4):
        life.reboot(off_s=DAY_S)
        life.wait(2 * DAY_S)
        assert life.toy.rest() is Rest.DAILY_LIMIT
    life.synchronised = True
    assert life.toy.rest() is None


def test_the_relays_higher_count_wins_and_the_lower_one_does_not() -> None:
    life = Life()
    life.talk(100)
    life.welcome(used_today_s=250.0)
    assert life.toy.used_today_s == 250
    life.talk(10)
    life.welcome(used_today_s=30.0)
    assert life.toy.used_today_s == 260


def test_yesterdays_count_of_a_relay_whose_clock_is_late_is_not_todays() -> None:
    life = Life(unix("2027-03-06 00:00:01"))
    life.synchronised = True
    life.welcome(server_s=life.real_s - 3, daily_limit_s=60.0, used_today_s=60.0)
    assert life.toy.rest() is None
    life.welcome(daily_limit_s=60.0, used_today_s=60.0)
    assert life.toy.rest() is Rest.DAILY_LIMIT


# --- time jumps -------------------------------------------------------------------------------------------------------


def test_trust_that_comes_on_the_same_day_changes_nothing() -> None:
    life = Life()
    life.welcome(daily_limit_s=300.0)
    life.talk(60)
    life.reboot(off_s=HOUR_S)
    life.synchronised = True
    assert life.toy.used_today_s == 60


def test_trust_that_comes_on_another_day_begins_it_with_what_the_relay_has_counted() -> None:
    life = Life()
    life.welcome(daily_limit_s=300.0)
    life.talk(60)
    life.reboot(off_s=DAY_S)
    life.welcome(daily_limit_s=300.0, used_today_s=20.0)
    assert life.toy.used_today_s == 20


def test_clocks_that_disagree_around_midnight_give_no_second_allowance() -> None:
    life = Life(unix("2027-03-05 23:59:59"))
    life.welcome(daily_limit_s=600.0)
    life.wait(2)
    life.talk(100)
    life.welcome(server_s=unix("2027-03-05 23:59:00"), daily_limit_s=600.0)  # the relay's clock was set back
    assert life.toy.used_today_s == 100
    life.wait(120)
    assert life.toy.used_today_s == 100
    life.wait(DAY_S)
    assert life.toy.used_today_s == 0


def test_a_journey_to_the_west_gives_no_second_allowance() -> None:
    life = Life(unix("2027-03-05 00:30", 2))
    life.welcome(daily_limit_s=600.0, utc_offset_min=Signed(120))
    life.talk(100)
    life.welcome(daily_limit_s=600.0, utc_offset_min=Signed(-300))
    assert life.toy.used_today_s == 100
    life.wait(DAY_S)
    assert life.toy.used_today_s == 100  # it is the 5th at last, whose allowance this is
    life.wait(DAY_S)
    assert life.toy.used_today_s == 0


def test_a_relay_that_was_years_ahead_does_not_stop_the_days_for_years() -> None:
    life = Life()
    life.welcome(server_s=NOON_S + 3000 * DAY_S, daily_limit_s=600.0)
    life.talk(100)
    life.welcome(daily_limit_s=600.0)
    assert life.toy.used_today_s == 100  # set back, and not given anew
    life.wait(DAY_S)
    assert life.toy.used_today_s == 0


def test_a_relay_without_a_clock_moves_no_day() -> None:
    life = Life()
    life.welcome(daily_limit_s=600.0)
    life.talk(100)
    life.toy.told(Welcome(VERSION, "s2", 2.0**52, 20.0, limits=LimitsRecord(daily_limit_s=600.0)))
    assert life.toy.used_today_s == 100


# --- the length of a conversation -------------------------------------------------------------------------------------


def long_talk(life: Life, seconds: int = 601) -> None:
    life.welcome(max_conversation_s=600.0)
    life.talk(seconds)


def test_a_conversation_that_is_too_long_needs_a_break_and_no_more() -> None:
    life = Life()
    long_talk(life, 600)
    assert life.toy.rest() is None  # the first second of talk began it
    life.talk(1)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(BREAK_S - 1)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(1)
    assert life.toy.rest() is None
    life.talk(10)
    assert life.toy.rest() is None


def test_switching_the_toy_off_and_on_does_not_shorten_the_break() -> None:
    life = Life()
    long_talk(life)
    life.wait(100)
    life.reboot(off_s=5)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(BREAK_S - 101)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(1.5)
    assert life.toy.rest() is None


def test_a_conversation_goes_on_across_a_reboot() -> None:
    life = Life()
    long_talk(life, 400)
    life.reboot(off_s=20)
    life.welcome(max_conversation_s=600.0)
    life.talk(150)
    assert life.toy.rest() is None
    life.talk(60)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT


def test_a_toy_that_was_off_all_night_has_had_its_break() -> None:
    life = Life()
    long_talk(life)
    life.reboot(off_s=12 * HOUR_S)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT  # for all that it knows
    life.synchronised = True
    assert life.toy.rest() is None


def test_a_toy_that_thought_it_was_later_has_no_longer_break() -> None:
    life = Life()
    life.welcome(server_s=life.real_s + 7 * HOUR_S, max_conversation_s=600.0)  # by a relay that is wrong
    life.talk(601)
    life.reboot()
    life.wait(10)
    life.synchronised = True
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(BREAK_S - 9)
    assert life.toy.rest() is None


@pytest.mark.parametrize("jump_s", [-2 * DAY_S, -HOUR_S, -1, 1, HOUR_S, 2 * DAY_S])
def test_a_clock_that_is_set_neither_ends_nor_lengthens_a_break(jump_s: float) -> None:
    life = Life()
    long_talk(life)
    life.welcome(server_s=life.real_s + jump_s, max_conversation_s=600.0)
    life.wait(BREAK_S - 1)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(1)
    assert life.toy.rest() is None


def test_a_conversation_of_the_future_lasts_no_longer_than_a_break() -> None:
    """The board lost time: what was kept is later than now."""
    life = Life()
    long_talk(life)
    kept = life.toy.snapshot()
    kept["talk_ended_s"] += 1e6
    life.reboot(kept=kept)
    assert life.toy.rest() is Rest.CONVERSATION_LIMIT
    life.wait(BREAK_S)
    assert life.toy.rest() is None


# --- volume -----------------------------------------------------------------------------------------------------------


def test_the_toys_own_volume_comes_back_when_the_ceiling_does() -> None:
    life = Life()
    assert life.toy.set_volume(0.9) == 0.9
    life.welcome(volume_ceiling=0.4)
    assert life.toy.volume == 0.4
    life.reboot()
    assert life.toy.volume == 0.4
    life.welcome(volume_ceiling=0.8)
    assert life.toy.volume == 0.8
    life.welcome(volume_ceiling=1.0)
    assert life.toy.volume == 0.9


@given(st.floats(), st.floats(0, 1))
def test_no_volume_passes_the_ceiling(wanted: float, ceiling: float) -> None:
    life = Life()
    life.welcome(volume_ceiling=ceiling)
    assert 0 <= life.toy.set_volume(wanted) <= ceiling
    life.reboot()
    assert 0 <= life.toy.volume <= ceiling


def test_a_volume_that_is_no_number_is_silence_and_not_noise() -> None:
    assert Life().toy.set_volume(math.nan) == 0.0


# --- broken memories --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-10, 2000)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = list(Life().toy.snapshot())
LIMITS = list(LimitsRecord.__dataclass_fields__)


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries({}, optional={name: JSON for name in FIELDS}),
        st.fixed_dictionaries({"limits": st.fixed_dictionaries({}, optional={name: JSON for name in LIMITS})}),
    )
)
def test_no_memory_breaks_the_toy(kept: Any) -> None:
    life = Life()
    toy = ToyAllowance(life.clock, 0.7, kept)
    toy.rest()
    toy.talked(1.0)
    assert 0 <= toy.volume <= 1
    again = json.loads(json.dumps(toy.snapshot(), allow_nan=False))
    toy.told(Welcome(VERSION, "s1", NOON_S, 20.0, limits=LimitsRecord()))
    assert ToyAllowance(life.clock, 0.7, again).snapshot()["limits"] == again["limits"]
    assert toy.rest() in (None, Rest.PAUSED, Rest.DAILY_LIMIT)


@given(st.sampled_from([*FIELDS, *(f"limits.{name}" for name in LIMITS)]), JSON.filter(lambda value: value is not None))
def test_what_cannot_be_read_is_named_and_everything_else_holds(name: str, broken: Any) -> None:
    life = Life()
    life.welcome(paused=True, daily_limit_s=60.0, volume_ceiling=0.4, **NIGHT)
    life.toy.set_volume(0.9)
    kept, kept_before = life.toy.snapshot(), life.toy.snapshot()
    place, _, field = name.rpartition(".")
    (kept[place] if place else kept)[field] = broken
    with LogLines() as lines:
        toy = ToyAllowance(life.clock, 0.3, kept)
    said = [record.getMessage() for record in lines.records]
    assert said == [] or (len(said) == 1 and field in said[0])
    if said and name in ("limits", "limits.volume_ceiling"):
        assert toy.volume <= 0.3
    differing = [each for each in LIMITS if toy.snapshot()["limits"][each] != kept_before["limits"][each]]
    assert set(differing) <= ({field} if place else set(LIMITS) if name == "limits" else set())


class LogLines(logging.Handler):
    """What the allowance logs; Hypothesis cannot use a fixture of each function."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> LogLines:
        logging.getLogger("pommai.device.mind.allowance").addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        logging.getLogger("pommai.device.mind.allowance").removeHandler(self)


@pytest.mark.parametrize("kept", ["{", 7, [1], False])
def test_a_memory_that_is_none_gives_a_careful_volume_and_is_told(kept: Any, caplog: pytest.LogCaptureFixture) -> None:
    toy = ToyAllowance(Life().clock, 0.6, kept)
    assert toy.volume == 0.6
    assert toy.set_volume(1.0) == 0.6
    assert toy.rest() is None
    assert "fields=all" in caplog.text


def test_a_memory_of_an_older_version_has_less_and_that_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    toy = ToyAllowance(Life().clock, 0.6, {"limits": {"paused": True}, "volume": 0.5, "something": "new"})
    assert toy.rest() is Rest.PAUSED
    assert toy.volume == 0.5
    assert caplog.records == []


def test_whole_numbers_are_numbers_and_no_limit_is_lost_for_them() -> None:
    """Another program, or another JSON, may write 60 for 60.0."""
    toy = ToyAllowance(Life().clock, 0.6, {"limits": {"daily_limit_s": 60, "volume_ceiling": 0}, "used_s": 60})
    assert toy.rest() is Rest.DAILY_LIMIT
    assert toy.volume == 0.0


def test_a_board_that_thinks_it_is_1970_keeps_its_day_west_of_london(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    clock = WallClock(None, system_s=lambda: 5.0, monotonic_s=lambda: 5.0, is_set=lambda: False)
    toy = ToyAllowance(clock, 0.7, {"limits": {"utc_offset_min": -480, "daily_limit_s": 50.0}})
    toy.talked(60)
    again = ToyAllowance(clock, 0.7, toy.snapshot())
    assert again.rest() is Rest.DAILY_LIMIT
    assert caplog.records == []
    clock.told(life.real_s)
    assert again.rest() is None


# --- all of it -------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("talk"), st.integers(1, 40)),
            st.tuples(st.just("wait"), st.integers(1, 20_000)),
            st.tuples(st.just("reboot"), st.integers(0, 100_000)),
            st.tuples(st.just("trust"), st.just(0)),
            st.tuples(st.just("welcome"), st.integers(-30, 30)),
        ),
        max_size=25,
    )
)
def test_no_order_of_events_lets_a_child_talk_more_than_a_day_allows(steps: list[tuple[str, int]]) -> None:
    """Counted by the real local day, with a relay whose clock is some seconds off; it is checked before each second."""
    life = Life()
    limit_s = 100.0
    life.welcome(daily_limit_s=limit_s)
    talked: dict[int, float] = {}
    for what, how_much in steps:
        match what:
            case "talk":
                for _ in range(how_much):
                    if life.clock.trusted and life.toy.rest() is None:  # talk needs a welcome
                        life.talk(1)
                        day = int(life.real_s // DAY_S)
                        talked[day] = talked.get(day, 0) + 1
            case "wait":
                life.wait(how_much)
            case "reboot":
                life.reboot(off_s=how_much)
            case "trust":
                life.synchronised = True
            case "welcome":
                used_s = talked.get(int((life.real_s + how_much) // DAY_S), 0.0)
                life.welcome(life.real_s + how_much, daily_limit_s=limit_s, used_today_s=used_s)
    for day, seconds in talked.items():
        before = talked.get(day - 1, 0.0)
        assert seconds <= limit_s + min(before, 60), (day, talked)
