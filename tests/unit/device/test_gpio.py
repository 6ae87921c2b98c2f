"""The button and the LED on the fake pins of `tests/shims`: edges come from a thread, illegal use raises."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pommai.device.body.button import BACKSTOP_S, MAX_EDGES, POLL_S, RECHECK_S, GpioButton
from pommai.device.body.led import GpioLights
from pommai.device.body.pins import pin_problems
from pommai.device.mind.events import Pressed, Tapped
from pommai.device.mind.gestures import Gestures
from pommai.device.mind.lights import BLUE, OFF, OPEN_MIC_BLUE, RED, WHITE, Color, idle
from pommai.device.settings import ButtonSettings, LightSettings
from pommai.errors import HardwareError, MissingExtra, PommaiError

from .fake_gpio import SHIMS, RemotePins, pins
from .virtual_time import in_virtual_time

PATIENCE_S = 10.0
PROJECT = Path(__file__).parents[3]


@pytest.fixture
def gpio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library, on a board without faults."""
    with pins(monkeypatch) as module:
        yield module


@pytest.fixture
def lgpio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library as rpi-lgpio is: what lgpio raises is no RuntimeError."""
    with pins(monkeypatch, "rpi-lgpio") as module:
        yield module


class Ear:
    """Listens to a button."""

    def __init__(self) -> None:
        self.edges: list[tuple[bool, float]] = []
        self.threads: set[int] = set()
        self._heard = asyncio.Event()

    def __call__(self, down: bool, at_ms: float) -> None:
        self.edges.append((down, at_ms))
        self.threads.add(threading.get_ident())
        self._heard.set()

    @property
    def levels(self) -> list[bool]:
        return [down for down, _ in self.edges]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._heard.clear()
                await self._heard.wait()


# --- the button -------------------------------------------------------------------------------------------------------


async def test_every_edge_of_a_bouncing_button_comes_in_the_loops_thread_and_on_its_clock(gpio: Any) -> None:
    ear, loop = Ear(), asyncio.get_running_loop()
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        before_ms = loop.time() * 1000
        gpio.fake.press(17, 3)
        gpio.fake.release(17, 2)
        after_ms = loop.time() * 1000
        await ear.until(lambda: len(ear.edges) == 12)
    times = [at_ms for _, at_ms in ear.edges]
    assert ear.levels == [True, False] * 3 + [True] + [False, True] * 2 + [False]
    assert times == sorted(times)
    assert before_ms <= times[0] <= times[-1] <= after_ms
    assert ear.threads == {threading.get_ident()}


async def test_gestures_makes_one_tap_of_a_bouncing_one(gpio: Any) -> None:
    ear, gestures = Ear(), Gestures()
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        gpio.fake.press(17, bounces=4)
        gpio.fake.release(17, bounces=4)
        await ear.until(lambda: len(ear.edges) == 18)
    heard = [gesture for down, at_ms in ear.edges for gesture in gestures.edge(down, at_ms)]
    assert [*heard, *gestures.passed(ear.edges[-1][1] + 100)] == [Pressed(), Tapped(1)]


@pytest.mark.parametrize(
    ("settings", "resistor"),
    [
        (ButtonSettings(pin=5), "PUD_UP"),
        (ButtonSettings(pin=5, pull="down", active_low=False), "PUD_DOWN"),
        (ButtonSettings(pin=5, pull="off", active_low=True), "PUD_OFF"),
    ],
)
async def test_pin_resistor_and_polarity_are_as_set(gpio: Any, settings: ButtonSettings, resistor: str) -> None:
    ear = Ear()
    with GpioButton(settings) as button:
        button.watch(ear)
        gpio.fake.press(5)
        gpio.fake.release(5)
        await ear.until(lambda: len(ear.edges) == 2)
        assert gpio.fake.asked("setup") == [("setup", 5, gpio.IN, getattr(gpio, resistor))]
        assert gpio.fake.asked("add_event_detect") == [("add_event_detect", 5, gpio.BOTH, -666)]  # gestures debounces
    assert ear.levels == [True, False]


async def test_a_button_that_was_down_from_the_beginning_is_up_until_it_came_up(gpio: Any) -> None:
    ear = Ear()
    gpio.fake.press(17)
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        await asyncio.sleep(1.2 * BACKSTOP_S)  # it is read again, and is still down
        gpio.fake.release(17, bounces=3)  # it touches again while it comes up: that is no press either
        await asyncio.sleep(2 * RECHECK_S)
        assert ear.edges == []
        gpio.fake.press(17)
        await ear.until(lambda: ear.levels == [True])


async def test_an_edge_that_is_read_too_late_is_made_good(gpio: Any) -> None:
    """The contact bounced shut and open before the thread came to read it: it reads the last level, again and again."""
    ear = Ear()
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        gpio.fake.late = True
        gpio.fake.press(17, bounces=3)
        await ear.until(lambda: ear.levels == [True])
        gpio.fake.lossy = True
        gpio.fake.release(17)
        await ear.until(lambda: ear.levels == [True, False])


@in_virtual_time
async def test_a_lost_release_is_seen_soon_after_the_last_edge_or_by_the_backstop() -> None:
    loop, ear = asyncio.get_running_loop(), Ear()
    with pytest.MonkeyPatch.context() as patch, pins(patch) as gpio, GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        gpio.fake.press(17)  # returns when the library's thread has handed the edge over
        await asyncio.sleep(0)
        gpio.fake.lossy = True
        pressed_s = loop.time()
        gpio.fake.release(17)
        await asyncio.sleep(RECHECK_S * 1.1)
        assert ear.levels == [True, False]
        gpio.fake.press(17)
        await asyncio.sleep(BACKSTOP_S * 1.1)
        assert ear.levels == [True, False, True]
        assert loop.time() - pressed_s < 0.5
        times = [at_ms for _, at_ms in ear.edges]
        assert times == sorted(times)  # though the thread's clock is far ahead of this loop's


async def test_a_noisy_line_fills_neither_memory_nor_the_loop(gpio: Any) -> None:
    ear, gathered = Ear(), []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: gathered.append(context))
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        gpio.fake.noise(17, 1000)  # the loop does not run meanwhile
        gpio.fake.press(17)
        await ear.until(lambda: ear.levels[-1:] == [True])
        assert len(ear.edges) <= MAX_EDGES
        gpio.fake.release(17)
        await ear.until(lambda: not ear.levels[-1])
    assert gathered == []


@pytest.mark.parametrize("fails", ["no-edges", "no-edges,rpi-lgpio"])
def test_without_edges_the_button_is_polled_and_the_log_says_so_once(
    fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @in_virtual_time
    async def polled() -> None:
        ear = Ear()
        with pins(monkeypatch, fails) as gpio, GpioButton(ButtonSettings()) as button:
            button.watch(ear)
            for _ in range(20):
                gpio.fake.press(17)
                await asyncio.sleep(POLL_S * 1.1)
                gpio.fake.release(17)
                await asyncio.sleep(POLL_S * 1.1)
            times = [at_ms for _, at_ms in ear.edges]
            assert ear.levels == [True, False] * 20
            assert times == sorted(times)
            assert gpio.fake.asked("remove_event_detect", "add_event_detect") == []
        assert ear.levels == [True, False] * 20

    assert 0.01 <= POLL_S <= 0.02
    polled()
    assert [record.getMessage() for record in caplog.records] == [
        "button: edges cannot be detected (rpi-lgpio can), so it is polled, ms=15 code=Failed to add edge detection"
    ]


async def test_a_pin_that_cannot_be_read_counts_as_up_and_the_log_says_so_once(
    lgpio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        lgpio.fake.press(17)
        await ear.until(lambda: ear.levels == [True])
        lgpio.fake.unreadable = True
        await ear.until(lambda: ear.levels == [True, False])  # a microphone does not stay open
        await asyncio.sleep(2 * BACKSTOP_S)
        assert [record.getMessage() for record in caplog.records] == [
            "button: it cannot be read and counts as up, code=bad GPIO handle"
        ]
        lgpio.fake.unreadable = False
        await ear.until(lambda: ear.levels == [True, False, True])


async def test_a_button_left_is_silent_and_its_pin_is_given_back(gpio: Any) -> None:
    ear = Ear()
    gpio.setmode(gpio.BCM)
    gpio.setup(6, gpio.OUT)  # somebody else's
    with GpioButton(ButtonSettings()) as button:
        button.watch(ear)
        gpio.fake.press(17)
    await asyncio.sleep(2 * RECHECK_S)
    assert ear.edges == []  # it was on its way
    assert gpio.fake.asked("remove_event_detect", "cleanup") == [("remove_event_detect", 17), ("cleanup", [17])]
    assert gpio.fake.read() == {"duty": {"6": 0.0}, "level": {}}
    gpio.cleanup(6)


def test_an_edge_after_the_loop_has_gone_is_dropped(gpio: Any) -> None:
    with GpioButton(ButtonSettings()) as button:

        async def watch() -> None:
            button.watch(lambda down, at_ms: None)

        gpio.fake.press(17)  # before anybody watches
        gpio.fake.release(17)
        asyncio.run(watch())
        gpio.fake.press(17)
        gpio.fake.release(17)
    assert gpio.fake.callback_errors == []


async def test_a_button_is_watched_once_and_only_when_open(gpio: Any) -> None:
    button = GpioButton(ButtonSettings())
    with pytest.raises(HardwareError, match="not open"):
        button.watch(Ear())
    with button:
        button.watch(Ear())
        with pytest.raises(HardwareError, match="watched already"):
            button.watch(Ear())


# --- the lights -------------------------------------------------------------------------------------------------------


def duties(gpio: Any) -> list[float]:
    return [gpio.fake.duty(pin) for pin in (27, 22, 23)]


def test_a_channel_is_its_share_of_the_time(gpio: Any) -> None:
    with GpioLights(LightSettings()) as lights:
        assert lights.can_dim
        assert duties(gpio) == [0.0, 0.0, 0.0]
        lights.show(Color(1.0, 0.5, 0.25))
        assert duties(gpio) == [100.0, 50.0, 25.0]
        lights.show(Color(2.0, -1.0, 0.0))  # no colour, but no reason to fail either
        assert duties(gpio) == [100.0, 0.0, 0.0]
        assert gpio.fake.asked("PWM") == [("PWM", 27, 200), ("PWM", 22, 200), ("PWM", 23, 200)]


def test_with_a_common_anode_low_is_lit_from_the_first_moment(gpio: Any) -> None:
    with GpioLights(LightSettings(common="anode", red_pin=5, pwm_hz=100)) as lights:
        assert [call[-1] for call in gpio.fake.asked("setup", "start")] == [gpio.HIGH, 100.0] * 3
        lights.show(Color(1.0, 0.25, 0.0))
        assert [gpio.fake.duty(pin) for pin in (5, 22, 23)] == [0.0, 75.0, 100.0]
    assert gpio.fake.asked("ChangeDutyCycle")[-2:] == [("ChangeDutyCycle", 5, 100.0), ("ChangeDutyCycle", 22, 100.0)]


@pytest.mark.parametrize(("common", "on", "off"), [("cathode", 100.0, 0.0), ("anode", 0.0, 100.0)])
def test_without_pulses_channels_are_on_or_off_and_an_open_microphone_is_seen(
    gpio: Any, common: str, on: float, off: float
) -> None:
    with GpioLights(LightSettings(common=common, pwm_hz=0)) as lights:
        assert not lights.can_dim
        assert duties(gpio) == [off, off, off]
        lights.show(Color(0.0, 0.0, OPEN_MIC_BLUE))
        assert duties(gpio) == [off, off, on]
        lights.show(idle(2.0))  # the brightest moment of its breath must not be taken for an open microphone
        assert duties(gpio) == [off, off, off]
        lights.show(WHITE)
        assert duties(gpio) == [on, on, on]
        assert gpio.fake.asked("PWM", "start") == []
    assert [call[2] for call in gpio.fake.asked("output")[-3:]] == [int(off > 0)] * 3


@pytest.mark.parametrize("pwm_hz", [0, 200])
def test_only_channels_that_changed_are_written(gpio: Any, pwm_hz: int) -> None:
    with GpioLights(LightSettings(pwm_hz=pwm_hz)) as lights:
        for color in (OFF, RED, RED, Color(1.0, 0.0, 1.0), BLUE, BLUE):
            lights.show(color)
        changed = [call[1] for call in gpio.fake.asked("ChangeDutyCycle", "output")]
        assert changed == [27, 23, 27]


@pytest.mark.parametrize("fails", ["", "rpi-lgpio"])
def test_lights_left_are_dark_then_stopped_then_given_back(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """rpi-lgpio's PWM objects raise when they are collected after their pins have gone; pytest would report that."""
    with pins(monkeypatch, fails) as gpio:
        gpio.setmode(gpio.BCM)
        gpio.setup(6, gpio.OUT)  # somebody else's
        with GpioLights(LightSettings()) as lights:
            lights.show(WHITE)
            asked = len(gpio.fake.calls)
        gc.collect()
        after = list(gpio.fake.calls)[asked:]
        assert after[:3] == [("ChangeDutyCycle", pin, 0.0) for pin in (27, 22, 23)]
        assert {call[0] for call in after[3:-1]} == {"stop"}
        assert {call[1] for call in after[3:-1]} == {27, 22, 23}
        assert after[-1] == ("cleanup", [27, 22, 23])
        lights.show(WHITE)  # stays dark and raises nothing
        assert gpio.fake.read() == {"duty": {"6": 0.0}, "level": {}}
        gpio.cleanup()


def test_lights_that_fail_are_told_once_and_come_back(lgpio: Any, caplog: pytest.LogCaptureFixture) -> None:
    with GpioLights(LightSettings()) as lights:
        lights.show(RED)
        lgpio.fake.unreadable = True
        lights.show(BLUE)
        lights.show(WHITE)
        assert [record.getMessage() for record in caplog.records] == [
            "led: it cannot be switched, code=bad GPIO handle"
        ]
        lgpio.fake.unreadable = False
        lights.show(BLUE)
        assert duties(lgpio) == [0.0, 0.0, 100.0]


# --- what can be wrong ------------------------------------------------------------------------------------------------


def refusal(device: GpioButton | GpioLights) -> PommaiError:
    with pytest.raises(PommaiError) as caught, device:
        pass
    return caught.value


def missing(settings: LightSettings) -> str:
    """What the lights say of a colour that is missing, while the others are there."""
    with GpioLights(settings) as lights:
        return lights.problem


def test_busy_pins_are_named_with_their_settings_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with pins(monkeypatch, "rpi-lgpio,busy=17,busy=27,busy=22,busy=23") as gpio:
        error = refusal(GpioButton(ButtonSettings()))
        assert isinstance(error, HardwareError)
        assert str(error) == "button.pin 17 cannot be used: GPIO busy"
        assert "gpioinfo" in error.remedy
        assert "button.pin." in error.remedy
        error = refusal(GpioLights(LightSettings()))
        assert str(error) == "lights.red_pin 27 cannot be used: GPIO busy"
        assert "lights.red_pin" in error.remedy
        assert gpio.fake.read() == {"duty": {}, "level": {}}


@pytest.mark.parametrize(("common", "on", "off"), [("cathode", 100.0, 0.0), ("anode", 0.0, 100.0)])
@pytest.mark.parametrize("pwm_hz", [0, 100])
def test_a_busy_pin_costs_its_own_colour_and_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pwm_hz: int, common: str, on: float, off: float
) -> None:
    with pins(monkeypatch, "rpi-lgpio,busy=22") as gpio:
        with GpioLights(LightSettings(pwm_hz=pwm_hz, common=common)) as lights:
            assert lights.problem == "lights.green_pin 22 cannot be used: GPIO busy"
            assert lights.shows_open_mic
            lights.show(WHITE)
            assert [gpio.fake.duty(pin) for pin in (27, 23)] == [on, on]
            lights.show(BLUE)
            assert [gpio.fake.duty(pin) for pin in (27, 23)] == [off, on]
        assert gpio.fake.asked("cleanup") == [("cleanup", [27, 23])]
    (record,) = caplog.records
    assert "lights.green_pin 22" in record.getMessage() and "gpioinfo" in record.getMessage()


def test_without_blue_an_open_microphone_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pins(monkeypatch, "busy=23"), GpioLights(LightSettings()) as lights:
        assert not lights.shows_open_mic and "lights.blue_pin 23" in lights.problem


def test_a_pin_whose_pulses_fail_is_given_back(gpio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = gpio.PWM

    def pulses(pin: int, hz: int) -> Any:
        if pin == 22:
            raise RuntimeError("no more pulses")
        return make(pin, hz)

    monkeypatch.setattr(gpio, "PWM", pulses)
    with GpioLights(LightSettings()) as lights:
        assert lights.problem == "lights.green_pin 22 cannot be used: no more pulses"
        assert gpio.fake.asked("cleanup") == [("cleanup", [22])]


def test_a_pin_with_another_function_is_not_taken_away_from_it(gpio: Any) -> None:
    gpio.fake.functions = {17: gpio.I2C, 22: gpio.UNKNOWN}
    assert "button.pin 17 cannot be used: it is busy" in str(refusal(GpioButton(ButtonSettings())))
    assert "lights.green_pin 22 cannot be used: it is busy" in missing(LightSettings())


def test_a_toy_that_was_killed_with_its_light_on_starts_without_a_warning(gpio: Any) -> None:
    gpio.fake.functions = {17: gpio.OUT, 27: gpio.OUT}
    with GpioButton(ButtonSettings()), GpioLights(LightSettings()) as lights:
        lights.show(RED)
        assert duties(gpio) == [100.0, 0.0, 0.0]


def test_an_unknown_pin_is_named_with_its_setting(gpio: Any) -> None:
    error = refusal(GpioButton(ButtonSettings(pin=99)))
    assert isinstance(error, HardwareError)
    assert str(error) == "button.pin 99 cannot be used: The channel sent is invalid on a Raspberry Pi"
    assert "Set button.pin to a BCM number" in error.remedy
    assert "lights.red_pin -1" in missing(LightSettings(red_pin=-1))


@pytest.mark.parametrize("pwm_hz", [0, 100])
def test_one_pin_for_two_colours_is_the_firsts_where_the_settings_were_not_checked(gpio: Any, pwm_hz: int) -> None:
    assert missing(LightSettings(green_pin=27, pwm_hz=pwm_hz)) == (
        "lights.green_pin 27 cannot be used: another colour has it"
    )
    assert gpio.fake.asked("cleanup") == [("cleanup", [27, 23])]


@pytest.mark.parametrize("fails", ["no-access", "no-access,rpi-lgpio"])
def test_a_user_without_access_is_sent_to_the_group(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pins(monkeypatch, fails):
        error = refusal(GpioButton(ButtonSettings()))
    assert isinstance(error, HardwareError)
    assert "usermod -aG gpio" in error.remedy


def test_pins_counted_in_another_way_by_this_process_are_an_error(gpio: Any) -> None:
    gpio.setmode(gpio.BOARD)
    error = refusal(GpioLights(LightSettings()))
    assert "A different mode has already been set" in str(error)
    assert "gpioinfo" in error.remedy and "virtual" not in error.remedy  # it may well be a Raspberry Pi


def test_off_a_raspberry_pi_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pins(monkeypatch, "not-a-pi"):
        error = refusal(GpioButton(ButtonSettings()))
    assert isinstance(error, HardwareError)
    assert str(error) == "no GPIO here: This module can only be run on a Raspberry Pi"
    assert "button.kind = 'virtual'" in error.remedy and "sound.kind = 'virtual'" in error.remedy


def test_the_real_package_is_met_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "RPi.GPIO", raising=False)
    try:
        importlib.import_module("RPi.GPIO")
    except RuntimeError:
        assert "Raspberry Pi" in str(refusal(GpioLights(LightSettings())))
    except ImportError:
        assert "not installed" in str(refusal(GpioLights(LightSettings())))
    else:
        pytest.skip("this is a Raspberry Pi: its pins are not ours to try")


def test_a_working_directory_without_room_for_the_fifo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pins(monkeypatch, "no-fifo"):
        error = refusal(GpioButton(ButtonSettings()))
    assert isinstance(error, HardwareError)
    assert "FIFO in the working directory: No such file or directory" in str(error)
    assert "WorkingDirectory" in error.remedy


def test_without_the_package_the_remedy_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "RPi", None)
    error = refusal(GpioButton(ButtonSettings()))
    assert isinstance(error, MissingExtra)
    assert "python3-rpi-lgpio" in error.remedy


# --- settings that do not fit each other ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "lights", "said"),
    [
        (ButtonSettings(), LightSettings(), []),
        (ButtonSettings(pin=27), LightSettings(), ["lights.red_pin 27 is in use for button.pin"]),
        (
            ButtonSettings(),
            LightSettings(red_pin=17, green_pin=5, blue_pin=5),
            ["lights.red_pin 17 is in use for button.pin", "lights.blue_pin 5 is in use for lights.green_pin"],
        ),
        (
            ButtonSettings(pin=5),
            LightSettings(red_pin=5, green_pin=5),
            ["lights.red_pin 5 is in use for button.pin", "lights.green_pin 5 is in use for button.pin"],
        ),
        (ButtonSettings(pin=27, kind="virtual"), LightSettings(), []),
        (ButtonSettings(pin=27), LightSettings(kind="none", green_pin=22, blue_pin=22), []),
        (ButtonSettings(pull="down"), LightSettings(), ["button.pull = 'down' holds the pin"]),
        (ButtonSettings(pull="up", active_low=False), LightSettings(), ["set button.pull to 'down'"]),
        (ButtonSettings(pull="off"), LightSettings(), []),
        (ButtonSettings(pin=3), LightSettings(), []),
        (ButtonSettings(pin=3, pull="off", active_low=False), LightSettings(), ["button.pin 3 has a pull-up"]),
        (ButtonSettings(), LightSettings(pwm_hz=0), []),
        (ButtonSettings(), LightSettings(pwm_hz=0, brightness=0.5), ["lights.brightness needs pulse width"]),
        (ButtonSettings(), LightSettings(pwm_hz=49), ["lights.pwm_hz must be 0, or from 50 up, not 49"]),
        (ButtonSettings(), LightSettings(pwm_hz=1, kind="none"), []),
        (ButtonSettings(), LightSettings(pwm_hz=50), []),
    ],
)
def test_what_cannot_work_together_is_said_all_at_once(
    button: ButtonSettings, lights: LightSettings, said: list[str]
) -> None:
    problems = [str(problem) for problem in pin_problems(button, lights)]
    assert len(problems) == len(said)
    for problem, expected in zip(problems, said, strict=True):
        assert expected in problem


# --- the fake itself --------------------------------------------------------------------------------------------------

MISUSE: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda gpio: gpio.setmode(gpio.BOARD), ValueError, "A different mode"),
    (lambda gpio: gpio.setup(54, gpio.IN), ValueError, "The channel sent is invalid"),
    (lambda gpio: gpio.setup("5", gpio.IN), ValueError, "Channel must be an integer"),
    (lambda gpio: gpio.setup(5, 7), ValueError, "An invalid direction"),
    (lambda gpio: gpio.setup(5, gpio.OUT, gpio.PUD_UP), ValueError, "not valid for outputs"),
    (lambda gpio: gpio.setup(5, gpio.IN, initial=1), ValueError, "not valid for inputs"),
    (lambda gpio: gpio.setup(5, gpio.IN, 3), ValueError, "Invalid value for pull_up_down"),
    (lambda gpio: gpio.input(5), RuntimeError, r"You must setup\(\) the GPIO channel first"),
    (lambda gpio: gpio.output(17, 1), RuntimeError, "not been set up as an OUTPUT"),
    (lambda gpio: gpio.output([27], [1, 0]), RuntimeError, "Number of channels"),
    (lambda gpio: gpio.add_event_detect(27, gpio.BOTH), RuntimeError, "as an input first"),
    (lambda gpio: gpio.add_event_detect(17, 3), ValueError, "The edge must be set"),
    (lambda gpio: gpio.add_event_detect(17, gpio.BOTH, bouncetime=0), ValueError, "Bouncetime"),
    (lambda gpio: gpio.add_event_detect(17, gpio.BOTH, callback=3), TypeError, "callable"),
    (lambda gpio: [gpio.add_event_detect(17, gpio.BOTH) for _ in range(2)], RuntimeError, "Conflicting edge detection"),
    (lambda gpio: gpio.PWM(17, 100), RuntimeError, "as an output first"),
    (lambda gpio: gpio.PWM(27, 0), ValueError, "frequency must be greater"),
    (lambda gpio: [gpio.PWM(27, 100), gpio.PWM(27, 100)], RuntimeError, "A PWM object already exists"),
    (lambda gpio: gpio.PWM(27, 100).start(101), ValueError, "dutycycle must have"),
    (lambda gpio: gpio.PWM(27, 100).ChangeFrequency(0), ValueError, "frequency must be greater"),
]


@pytest.mark.parametrize(("misuse", "error", "text"), MISUSE)
def test_the_fake_refuses_what_the_library_refuses(
    gpio: Any, misuse: Callable[[Any], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(RuntimeError, match="Please set pin numbering mode"):
        gpio.setup(17, gpio.IN)
    gpio.setmode(gpio.BCM)
    gpio.setup(17, gpio.IN)
    gpio.setup(27, gpio.OUT)
    with pytest.raises(error, match=text):
        misuse(gpio)
    gpio.cleanup()


# --- pins of another process ------------------------------------------------------------------------------------------

ECHO = """
import asyncio, sys
from pommai.device.body.button import GpioButton
from pommai.device.body.led import GpioLights
from pommai.device.mind.lights import OFF, GREEN
from pommai.device.settings import ButtonSettings, LightSettings

async def main():
    with GpioButton(ButtonSettings()) as button, GpioLights(LightSettings()) as lights:
        def edge(down, at_ms):
            lights.show(GREEN if down else OFF)
            print(down, flush=True)
        button.watch(edge)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def test_a_button_of_another_process_is_pressed_and_its_light_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "pins"
    environment = {**os.environ, "PYTHONPATH": f"{SHIMS}{os.pathsep}{PROJECT}", "POMMAI_FAKE_GPIO": str(path)}
    command = [sys.executable, "-c", ECHO]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as toy:
        assert toy.stdin is not None
        assert toy.stdout is not None
        with RemotePins(path) as remote:
            assert toy.stdout.readline() == "ready\n"
            remote.press(17)
            assert toy.stdout.readline() == "True\n"
            assert remote.duties() == {27: 0.0, 22: 100.0, 23: 0.0}
            with pytest.raises(AssertionError, match="down already"):
                remote.press(17)
            with pytest.raises(AssertionError, match="is no switch"):
                remote.switch(nonsense=True)
            remote.switch(lossy=True)
            remote.release(17)
            assert toy.stdout.readline() == "False\n"  # by the backstop
            assert remote.duties() == {27: 0.0, 22: 0.0, 23: 0.0}
        toy.stdin.close()
        assert toy.wait(PATIENCE_S) == 0
