"""What the toy tells of itself: which light for what, the gravest first; a low battery is said once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from pommai.device.body.battery import Battery, Charge
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Mood
from pommai.device.service import signs
from pommai.device.service.signs import Signs


class Picture:
    def __init__(self) -> None:
        self.kept: tuple[Mood, ...] = ()

    def keep(self, *moods: Mood) -> None:
        self.kept = moods


class Runner:
    """Says what it is told, unless somebody talks."""

    def __init__(self) -> None:
        self.picture = Picture()
        self.is_free = True
        self.said: list[Occasion] = []

    def say(self, occasion: Occasion) -> bool:
        if self.is_free:
            self.said.append(occasion)
        return self.is_free


class Toy:
    """Signs around a toy whose battery, sound card and phrases a test decides on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.has_sound, self.is_updating, self.low_percent = True, False, 15
        self.runner = Runner()
        self.battery = Battery(str(folder))
        self.has_trouble, self.showed, self.can_show = False, 0, True
        self.complained, self.can_complain = 0, True
        self.signs = Signs(
            self.runner,  # type: ignore[arg-type]  # as much of one as signs need
            self.battery,
            lambda: self.low_percent,
            lambda: self.has_sound,
            lambda: self.is_updating,
            lambda: self.has_trouble,
            self.show_trouble,
            self.complain,
        )
        self.charge(80)

    def show_trouble(self) -> bool:
        self.showed += self.can_show
        return self.can_show

    def complain(self) -> bool:
        self.complained += self.can_complain
        return self.can_complain

    def charge(self, percent: int, status: str = "Discharging") -> None:
        (self._folder / "capacity").write_text(f"{percent}\n", encoding="ascii")
        (self._folder / "status").write_text(f"{status}\n", encoding="ascii")
        if hasattr(self, "signs"):
            self.signs.charge = self.battery.read()

    def shown(self) -> tuple[Mood, ...]:
        self.signs.look()
        return self.runner.picture.kept


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def test_a_toy_that_is_well_shows_nothing(toy: Toy) -> None:
    assert toy.shown() == ()
    assert toy.runner.said == []


def test_the_gravest_comes_first(toy: Toy) -> None:
    toy.charge(14)
    toy.has_sound, toy.is_updating = False, True
    assert toy.shown() == (Mood.NO_SOUND, Mood.LOW_BATTERY, Mood.UPDATING)
    toy.has_sound = True
    assert toy.shown() == (Mood.LOW_BATTERY, Mood.UPDATING)
    toy.is_updating = False
    assert toy.shown() == (Mood.LOW_BATTERY,)


def test_a_low_battery_is_said_once_and_again_after_it_was_charged(toy: Toy) -> None:
    toy.charge(14)
    for _ in range(5):
        toy.shown()
    assert toy.runner.said == [Occasion.LOW_BATTERY]
    toy.charge(13, "Charging")
    assert toy.shown() == ()
    toy.charge(12)
    toy.shown()
    assert toy.runner.said == [Occasion.LOW_BATTERY] * 2


def test_a_low_battery_is_said_when_nobody_talks_any_more(toy: Toy) -> None:
    toy.charge(3)
    toy.runner.is_free = False
    assert toy.shown() == (Mood.LOW_BATTERY,)
    assert toy.runner.said == []
    toy.runner.is_free = True
    toy.shown()
    assert toy.runner.said == [Occasion.LOW_BATTERY]


async def test_a_battery_that_hangs_stops_nothing_else(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, answers, looked = threading.Event(), threading.Event(), asyncio.Event()

    def read() -> Charge:
        reading.set()
        answers.wait()
        return Charge(3, charging=False)

    def keep(*moods: Mood) -> None:
        toy.runner.picture.kept = moods
        if reading.is_set():
            looked.set()

    monkeypatch.setattr(signs, "LOOK_S", 0.001)
    monkeypatch.setattr(toy.battery, "read", read)
    monkeypatch.setattr(toy.runner.picture, "keep", keep)
    task = asyncio.create_task(toy.signs.run())
    try:
        async with asyncio.timeout(20):
            await looked.wait()
            assert toy.signs.charge == Charge(80, charging=False), "the last that is known"
            answers.set()
            while Mood.LOW_BATTERY not in toy.runner.picture.kept:
                looked.clear()
                await looked.wait()
    finally:
        answers.set()
        task.cancel()
        await asyncio.wait({task})
        await asyncio.get_running_loop().shutdown_default_executor()


def test_the_setting_is_read_each_time(toy: Toy) -> None:
    toy.low_percent = 85
    assert toy.shown() == (Mood.LOW_BATTERY,)


def test_each_trouble_is_shown_once_as_soon_as_it_can_be(toy: Toy) -> None:
    toy.shown()
    assert toy.showed == 0
    toy.has_trouble, toy.can_show = True, False
    toy.shown()
    assert toy.showed == 0
    toy.can_show = True
    for _ in range(3):
        toy.shown()
    assert toy.showed == 1
    for toy.has_trouble in (False, True):
        toy.shown()
    assert toy.showed == 2


def test_that_the_lights_are_broken_is_heard_once_as_soon_as_it_can_be(toy: Toy) -> None:
    toy.can_complain = False
    toy.shown()
    toy.shown()
    assert toy.complained == 0
    toy.can_complain = True
    toy.shown()
    toy.shown()
    assert toy.complained == 1
