"""What the light shows, when it is drawn, and what a light that fails costs."""

from __future__ import annotations

import pytest

from pommai.device.mind.lights import BLUE, GREEN, OFF, RED, Color, Mood, dimmed, interval_s
from pommai.device.mind.lights import idle as breathing
from pommai.device.mind.states import (
    Booting,
    Connecting,
    Error,
    Idle,
    Listening,
    Offline,
    Paused,
    Speaking,
    State,
    Thinking,
)
from pommai.device.picture import Picture
from pommai.errors import HardwareError
from pommai.protocol import ErrorCode


class Led:
    """Remembers what it was told to show, and fails on demand."""

    def __init__(self, *, can_dim: bool = True) -> None:
        self.can_dim = can_dim
        self.shown: list[Color] = []
        self.is_broken = False
        self.tried = 0

    def show(self, color: Color) -> None:
        self.tried += 1
        if self.is_broken:
            raise HardwareError("no light")
        self.shown.append(color)


def drawn(picture: Picture, led: Led, since_s: float, until_s: float) -> list[Color]:
    """What is shown from `since_s` to `until_s` by a loop that draws whenever it is due."""
    before = len(led.shown)
    picture.draw(since_s)
    while picture.due_s <= until_s:
        picture.draw(picture.due_s)
    return led.shown[before:]


def test_nothing_is_drawn_before_its_time_nor_twice() -> None:
    led = Led()
    picture = Picture(led, Speaking(1))
    assert drawn(picture, led, 100.0, 130.0) == [GREEN]
    assert led.tried == 1
    picture.draw(130.01)
    assert led.tried == 1


def test_a_new_kind_of_state_begins_its_pattern_at_once_and_only_a_new_kind() -> None:
    led = Led()
    picture = Picture(led, Idle(0))
    drawn(picture, led, 100.0, 101.03)
    picture.begin(Listening(1, started=False), 101.04)
    assert picture.due_s == 101.04
    assert drawn(picture, led, 101.04, 101.5) == [BLUE, BLUE.scaled(0.6), BLUE, BLUE.scaled(0.6), BLUE]
    picture.begin(Listening(1, started=True), 101.51)
    assert drawn(picture, led, 101.6, 101.9) == []


def test_pictures_come_as_often_as_their_pattern_needs() -> None:
    led = Led()
    picture = Picture(led, Idle(0))
    assert len(drawn(picture, led, 100.0, 104.0)) in range(35, 42)
    picture.begin(Connecting(0), 104.0)
    assert len(drawn(picture, led, 104.0, 108.0)) in range(90, 102)
    assert interval_s(breathing, 0.0) == pytest.approx(0.1)


def test_brightness_dims_whatever_is_shown_and_can_be_changed() -> None:
    led = Led()
    picture = Picture(led, Speaking(1), brightness=0.5)
    picture.draw(100.0)
    picture.brightness = 0.2
    picture.draw(picture.due_s)
    assert led.shown == [dimmed(GREEN, 0.5), dimmed(GREEN, 0.2)]


def test_a_light_that_is_only_on_or_off_is_never_dimmed() -> None:
    led = Led(can_dim=False)
    Picture(led, Listening(1, started=False), brightness=0.1).draw(100.0)
    assert led.shown == [BLUE]


def test_a_mood_is_shown_for_so_long_and_then_the_state_again() -> None:
    led = Led()
    picture = Picture(led, Speaking(1))
    picture.draw(100.0)
    picture.show(Mood.CELEBRATE, 100.5, 3.0)
    assert picture.due_s == 100.5
    wheel = drawn(picture, led, 100.5, 103.49)
    assert wheel[0] == RED
    assert len({(round(c.red), round(c.green), round(c.blue)) for c in wheel}) >= 6, "all colours go round"
    assert drawn(picture, led, 103.5, 110.0) == [GREEN]


def test_a_mood_ends_in_time_also_where_pictures_are_rare() -> None:
    led = Led()
    picture = Picture(led, Speaking(1))
    picture.show(Mood.TEST, 100.0, 0.55)
    assert drawn(picture, led, 100.0, 100.54) == [RED]
    assert picture.due_s == pytest.approx(100.55)
    assert drawn(picture, led, picture.due_s, 100.56) == [GREEN]


@pytest.mark.parametrize("mood", Mood)
@pytest.mark.parametrize("state", [Listening(1, started=True), Error(1, ErrorCode.INTERNAL, Idle(1))])
def test_a_mood_waits_where_the_state_must_be_seen(state: State, mood: Mood) -> None:
    led, plain = Led(), Led()
    picture, other = Picture(led, state), Picture(plain, state)
    picture.show(mood, 100.0, 60.0)
    other.begin(Thinking(1), 100.0)
    other.begin(state, 100.0)
    assert drawn(picture, led, 100.0, 103.0) == drawn(other, plain, 100.0, 103.0)


def test_a_lasting_mood_is_seen_wherever_nothing_passing_is_and_ends_when_it_is_over() -> None:
    led = Led()
    picture = Picture(led, Paused(1, ErrorCode.PAUSED, Idle(1)))
    purple = drawn(picture, led, 100.0, 101.0)
    picture.keep(Mood.LOW_BATTERY)
    assert {*purple, RED} == set(drawn(picture, led, picture.due_s, 106.0))
    picture.show(Mood.CELEBRATE, 106.0, 1.0)
    assert len(drawn(picture, led, 106.0, 106.9)) > 20
    picture.keep()
    drawn(picture, led, 107.0, 110.0)
    assert led.shown[-1] == purple[0]


def test_of_several_lasting_moods_the_first_that_may_be_shown_is() -> None:
    led, alone = Led(), Led()
    picture, other = Picture(led, Offline(1)), Picture(alone, Offline(1))
    picture.keep(Mood.UPDATING, Mood.LOW_BATTERY)
    other.keep(Mood.LOW_BATTERY)
    assert drawn(picture, led, 100.0, 104.0) == drawn(other, alone, 100.0, 104.0), "no update is shown offline"


def test_a_light_that_fails_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    led = Led()
    picture = Picture(led, Booting())
    led.is_broken = True
    drawn(picture, led, 100.0, 102.0)
    assert caplog.text.count("the light failed") == 1
    assert led.tried > 40
    led.is_broken = False
    assert drawn(picture, led, 102.5, 103.0) != []
    led.is_broken = True
    drawn(picture, led, 103.5, 104.0)
    assert caplog.text.count("the light failed") == 2


def test_at_the_end_it_is_dark() -> None:
    led = Led()
    picture = Picture(led, Speaking(1))
    picture.draw(100.0)
    picture.off()
    assert led.shown == [GREEN, OFF]
