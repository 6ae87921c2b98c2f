"""A Raspberry Pi of a program's own: behaves as RPi.GPIO 0.7.1 does, and raises what that raises when misused.

`fake` is the world around the pins: it presses buttons, reads LEDs and makes things fail. A test in the same process
calls it. For another process, POMMAI_FAKE_GPIO names a Unix socket to listen at for JSON lines, each answered by one:

    {"do": "press", "pin": 17, "bounces": 3}    {"do": "release", "pin": 17}      -> {}
    {"do": "read"}    -> {"duty": {"27": 100.0, ...}, "level": {"17": 1, ...}}
    {"do": "set", "lossy": true}    any of the switches of `Fake`                 -> {}
    anything wrong    -> {"error": "..."}

POMMAI_FAKE_GPIO_FAILS holds what is wrong from the beginning, comma separated: `not-a-pi` and `no-fifo` fail the
import, `no-access` fails setup(), `no-edges` fails add_event_detect(), `busy=27` takes a pin away, and `rpi-lgpio`
makes the module fail as that package does, with errors of lgpio's own.
"""

from __future__ import annotations

import json
import os
import queue
import socketserver
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VERSION = "0.7.1"
RPI_INFO = {
    "P1_REVISION": 3,
    "REVISION": "902120",
    "TYPE": "Zero 2 W",
    "MANUFACTURER": "Sony UK",
    "PROCESSOR": "BCM2837",
    "RAM": "512M",
}
RPI_REVISION = 3

LOW, HIGH = 0, 1
OUT, IN = 0, 1
BOARD, BCM, UNKNOWN = 10, 11, -1
PUD_OFF, PUD_DOWN, PUD_UP = 20, 21, 22
RISING, FALLING, BOTH = 31, 32, 33
SERIAL, SPI, I2C, HARD_PWM = 40, 41, 42, 43

LAST_PIN = 53
CALLS_KEPT = 2000

_BOARD_TO_BCM = {
    **{3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23, 18: 24, 19: 10, 21: 9, 22: 25},
    **{23: 11, 24: 8, 26: 7, 29: 5, 31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21},
}


class LgpioError(Exception):
    """As lgpio's: no RuntimeError, and its text is the repr of what it holds."""

    def __str__(self) -> str:
        return repr(self.args[0])


# --- the world around the pins ----------------------------------------------------------------------------------------


class Fake:
    """What is wired to the pins. Buttons pull their pin away from where its resistor holds it."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Any, ...]] = deque(maxlen=CALLS_KEPT)
        """What the program asked of the library, in order: the function's name and its most telling arguments."""
        self.callback_errors: list[BaseException] = []
        """What callbacks raised. The library prints that to stderr and goes on."""
        self.edges_fail = False
        """add_event_detect raises, as RPi.GPIO does on Linux 6.6 and later."""
        self.lossy = False
        """Levels change and no edge is told."""
        self.late = False
        """Edges of one press are told when all its bounces are over, so that each reads the last level."""
        self.unreadable = False
        """input() and output() and ChangeDutyCycle() raise."""
        self.no_access = False
        """setup() raises, as for a user who is not in the group gpio."""
        self.busy: set[int] = set()
        """Pins of another program, as rpi-lgpio sees them: setup() raises."""
        self.functions: dict[int, int] = {}
        """What pins were used for before (SPI, I2C … or OUT, by a program that was killed), as RPi.GPIO sees it."""
        self.resting: dict[int, int] = {}
        """Levels of outer resistors, for pins whose own is off."""
        self._closed: set[int] = set()

    def press(self, pin: int, bounces: int = 0) -> None:
        """Close the contact; it opens and closes again `bounces` times. Returns when all callbacks have run."""
        self._move(pin, True, bounces)

    def release(self, pin: int, bounces: int = 0) -> None:
        """Open the contact again, likewise."""
        self._move(pin, False, bounces)

    def noise(self, pin: int, edges: int) -> None:
        """Move the contact to and fro; with an even number it ends where it was."""
        for _ in range(edges):
            self._move(pin, pin not in self._closed, 0)

    def level(self, pin: int) -> int:
        """What a voltmeter at the pin says; a pulsing pin counts as high."""
        state = _pins.get(pin)
        if state is not None and state.direction == OUT:
            return int(self.duty(pin) > 0)
        pull = PUD_OFF if state is None else state.pull
        rest = {PUD_UP: HIGH, PUD_DOWN: LOW}.get(pull, self.resting.get(pin, HIGH))
        return 1 - rest if pin in self._closed else rest

    def duty(self, pin: int) -> float:
        """Percent of the time that an output is high."""
        state = _pins[pin]
        if state.direction != OUT:
            raise RuntimeError(f"pin {pin} is no output")
        pulse = _pulses.get(pin)
        return pulse.duty if pulse is not None and pulse.running else 100.0 * state.latch

    def read(self) -> dict[str, dict[str, float]]:
        """All pins that are set up: the duty of outputs, the level of inputs."""
        states = dict(_pins)
        return {
            "duty": {str(pin): self.duty(pin) for pin, state in states.items() if state.direction == OUT},
            "level": {str(pin): self.level(pin) for pin, state in states.items() if state.direction == IN},
        }

    def asked(self, *names: str) -> list[tuple[Any, ...]]:
        """The calls of these functions so far."""
        return [call for call in self.calls if call[0] in names]

    def _move(self, pin: int, closed: bool, bounces: int) -> None:
        if (pin in self._closed) == closed:
            raise RuntimeError(f"the button at pin {pin} is {'down' if closed else 'up'} already")
        levels = []
        for moved_to in [closed, *(not closed if bounce % 2 == 0 else closed for bounce in range(2 * bounces))]:
            (self._closed.add if moved_to else self._closed.discard)(pin)
            levels.append(self.level(pin))
            if not self.late:
                _edges.tell(pin, levels.pop())
        for level in levels:
            _edges.tell(pin, level)


class _Edges:
    """The library's thread that waits for edges: it lives while at least one pin is watched."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, Callable[[int], object] | None]] = {}
        self._queue: queue.Queue[tuple[int, int, threading.Event] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def add(self, pin: int, edge: int, callback: Callable[[int], object] | None) -> None:
        self.watched[pin] = (edge, callback)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="fake GPIO edges", daemon=True)
            self._thread.start()

    def remove(self, pin: int) -> None:
        self.watched.pop(pin, None)
        if not self.watched and self._thread is not None:
            self._queue.put(None)
            self._queue, self._thread = queue.Queue(), None

    def tell(self, pin: int, level: int) -> None:
        """Have the thread tell of an edge to `level`, and wait until it has."""
        if pin in self.watched and not fake.lossy:
            told = threading.Event()
            self._queue.put((pin, level, told))
            told.wait()

    def _run(self, told_of: queue.Queue[tuple[int, int, threading.Event] | None]) -> None:
        while (item := told_of.get()) is not None:
            pin, level, told = item
            edge, callback = self.watched.get(pin, (BOTH, None))
            if callback is not None and edge in (BOTH, RISING if level else FALLING):
                try:
                    callback(pin if _mode == BCM else next(b for b, p in _BOARD_TO_BCM.items() if p == pin))
                except Exception as error:  # the real one prints whatever it is, and goes on
                    fake.callback_errors.append(error)
                    traceback.print_exc()
            told.set()


class _Pin:
    """One pin that setup() was called for."""

    def __init__(self, direction: int, pull: int, latch: int) -> None:
        self.direction, self.pull, self.latch = direction, pull, latch


class _Pulse:
    """The pulses of one pin; they belong to the pin, and end with `stop` or with the object that began them."""

    def __init__(self) -> None:
        self.duty, self.running = 0.0, False


_mode = UNKNOWN
_warnings = True
_pins: dict[int, _Pin] = {}
_pulses: dict[int, _Pulse] = {}
_edges = _Edges()
fake = Fake()


# --- the library's functions ------------------------------------------------------------------------------------------


def _number(channel: int) -> int:
    if _mode == UNKNOWN:
        raise RuntimeError("Please set pin numbering mode using GPIO.setmode(GPIO.BOARD) or GPIO.setmode(GPIO.BCM)")
    pin = channel if _mode == BCM else _BOARD_TO_BCM.get(channel, -1)
    if not 0 <= pin <= LAST_PIN:
        raise ValueError("The channel sent is invalid on a Raspberry Pi")
    return pin


def _numbers(channels: int | Iterable[int]) -> list[int]:
    if isinstance(channels, int):
        return [_number(channels)]
    if not isinstance(channels, list | tuple):
        raise ValueError("Channel must be an integer or list/tuple of integers")  # noqa: TRY004 - as the real one
    return [_number(channel) for channel in channels]


def _readable() -> None:
    if fake.unreadable:
        raise _lgpio_error("bad GPIO handle")


def _lgpio_error(text: str) -> Exception:
    return LgpioError(text) if "lgpio" in globals() else RuntimeError(text)


def setmode(mode: int) -> None:
    """Count in BOARD or BCM numbers."""
    global _mode
    if _mode not in (UNKNOWN, mode):
        raise ValueError("A different mode has already been set!")
    if mode not in (BOARD, BCM):
        raise ValueError("An invalid mode was passed to setmode()")
    if fake.no_access and "lgpio" in globals():
        raise LgpioError("can not open gpiochip")
    _mode = mode


def getmode() -> int | None:
    """BOARD, BCM or None."""
    return None if _mode == UNKNOWN else _mode


def setwarnings(state: bool | int) -> None:
    """Whether to warn of pins in use and of needless cleaning."""
    global _warnings
    _warnings = bool(state)


def _warn(text: str) -> None:
    if _warnings:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def gpio_function(channel: int) -> int:
    """IN, OUT, or what else the pin is used for."""
    return _function(_number(channel))


def _function(pin: int) -> int:
    return fake.functions.get(pin, _pins[pin].direction if pin in _pins else IN)


def setup(channel: int | list[int], direction: int, pull_up_down: int = PUD_OFF, initial: int = -1) -> None:
    """Make pins inputs or outputs."""
    if fake.no_access:
        raise RuntimeError("No access to /dev/mem.  Try running as root!")
    if direction not in (IN, OUT):
        raise ValueError("An invalid direction was passed to setup()")
    if direction == OUT and pull_up_down != PUD_OFF:
        raise ValueError("pull_up_down parameter is not valid for outputs")
    if direction == IN and initial != -1:
        raise ValueError("initial parameter is not valid for inputs")
    if pull_up_down not in (PUD_OFF, PUD_DOWN, PUD_UP):
        raise ValueError("Invalid value for pull_up_down - should be either PUD_OFF, PUD_UP or PUD_DOWN")
    for pin in _numbers(channel):
        if pin in fake.busy:
            raise _lgpio_error("GPIO busy")
        function = _function(pin)
        if function not in (IN, OUT) or (pin not in _pins and function == OUT):
            _warn(
                "This channel is already in use, continuing anyway.  Use GPIO.setwarnings(False) to disable warnings."
            )
        latch = initial if initial in (LOW, HIGH) else LOW
        _pins[pin] = _Pin(direction, pull_up_down, latch)
        fake.calls.append(("setup", pin, direction, initial if direction == OUT else pull_up_down))


def input(channel: int) -> int:
    """HIGH or LOW."""
    pin = _number(channel)
    if pin not in _pins:
        raise RuntimeError("You must setup() the GPIO channel first")
    _readable()
    return fake.level(pin)


def output(channel: int | list[int], value: int | list[int]) -> None:
    """Set outputs HIGH or LOW."""
    pins = _numbers(channel)
    values = list(value) if isinstance(value, list | tuple) else [value] * len(pins)
    if len(values) != len(pins):
        raise RuntimeError("Number of channels != number of values")
    for pin, level in zip(pins, values, strict=True):
        if pin not in _pins or _pins[pin].direction != OUT:
            raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
        _readable()
        _pins[pin].latch = int(bool(level))
        fake.calls.append(("output", pin, int(bool(level))))


def _watchable(channel: int) -> int:
    pin = _number(channel)
    if pin not in _pins or _pins[pin].direction != IN:
        raise RuntimeError("You must setup() the GPIO channel as an input first")
    return pin


def add_event_detect(
    channel: int, edge: int, callback: Callable[[int], object] | None = None, bouncetime: int = -666
) -> None:
    """Call `callback(channel)` in a thread of this module at each edge."""
    if callback is not None and not callable(callback):
        raise TypeError("Parameter must be callable")
    pin = _watchable(channel)
    if edge not in (RISING, FALLING, BOTH):
        raise ValueError("The edge must be set to RISING, FALLING or BOTH")
    if bouncetime <= 0 and bouncetime != -666:
        raise ValueError("Bouncetime must be greater than 0")
    if pin in _edges.watched:
        raise RuntimeError("Conflicting edge detection already enabled for this GPIO channel")
    if fake.edges_fail:
        raise RuntimeError("Failed to add edge detection")
    _edges.add(pin, edge, callback)
    fake.calls.append(("add_event_detect", pin, edge, bouncetime))


def remove_event_detect(channel: int) -> None:
    """Stop that again; harmless for a pin that is not watched."""
    _edges.remove(_number(channel))
    fake.calls.append(("remove_event_detect", channel))


def cleanup(channel: int | list[int] | None = None) -> None:
    """Give pins back, as inputs without resistor; without an argument all of them, and the numbering too."""
    global _mode
    pins = list(_pins) if channel is None else _numbers(channel)
    fake.calls.append(("cleanup", None if channel is None else pins))
    if not any(pin in _pins for pin in pins):
        _warn(
            "No channels have been set up yet - nothing to clean up!  "
            "Try cleaning up at the end of your program instead!"
        )
    for pin in pins:
        _edges.remove(pin)
        _pins.pop(pin, None)
    if channel is None:
        _mode = UNKNOWN


class PWM:
    """Pulses on an output, made by software."""

    def __init__(self, channel: int, frequency: float) -> None:
        self._pin: int | None = None
        pin = _number(channel)
        if pin in _pulses:
            raise RuntimeError("A PWM object already exists for this GPIO channel")
        if pin not in _pins or _pins[pin].direction != OUT:
            raise RuntimeError("You must setup() the GPIO channel as an output first")
        if frequency <= 0.0:
            raise ValueError("frequency must be greater than 0.0")
        self._pin = pin
        _pulses[pin] = _Pulse()
        fake.calls.append(("PWM", pin, frequency))

    def start(self, dutycycle: float) -> None:
        """Begin, with this share of the time high, in percent."""
        self._change(dutycycle).running = True
        fake.calls.append(("start", self._pin, dutycycle))

    def ChangeDutyCycle(self, dutycycle: float) -> None:
        """Be high for another share of the time, in percent."""
        _readable()
        self._change(dutycycle)
        fake.calls.append(("ChangeDutyCycle", self._pin, dutycycle))

    def ChangeFrequency(self, frequency: float) -> None:
        """Pulse at another rate, in Hz."""
        if frequency <= 0.0:
            raise ValueError("frequency must be greater than 0.0")
        fake.calls.append(("ChangeFrequency", self._pin, frequency))

    def stop(self) -> None:
        """End the pulses, low. With rpi-lgpio it raises where the pin has been given back."""
        if self._pin is None:
            return
        _pulses.pop(self._pin, None)
        if self._pin in _pins:
            _pins[self._pin].latch = LOW
        elif "lgpio" in globals():
            raise LgpioError("GPIO not allocated")
        fake.calls.append(("stop", self._pin))

    def __del__(self) -> None:
        self.stop()

    def _change(self, dutycycle: float) -> _Pulse:
        if not 0.0 <= dutycycle <= 100.0:
            raise ValueError("dutycycle must have a value from 0.0 to 100.0")
        assert self._pin is not None
        pulse = _pulses.setdefault(self._pin, _Pulse())
        pulse.duty = dutycycle
        return pulse


# --- what goes wrong, and orders from outside -------------------------------------------------------------------------


def _fail(what: str) -> None:
    """One word of POMMAI_FAKE_GPIO_FAILS."""
    word, _, pin = what.partition("=")
    match word:
        case "not-a-pi":
            raise RuntimeError("This module can only be run on a Raspberry Pi!")
        case "no-fifo":
            raise FileNotFoundError(2, "No such file or directory", ".lgd-nfy-3")
        case "no-access":
            fake.no_access = True
        case "no-edges":
            fake.edges_fail = True
        case "busy":
            fake.busy.add(int(pin))
        case "rpi-lgpio":
            globals()["lgpio"] = SimpleNamespace(error=LgpioError)
        case _:
            raise AssertionError(f"POMMAI_FAKE_GPIO_FAILS: {what!r} is unknown")


class _Orders(socketserver.StreamRequestHandler):
    """One connection of a test in another process."""

    def handle(self) -> None:
        for line in self.rfile:
            try:
                answer: dict[str, Any] = self._obey(json.loads(line))
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    @staticmethod
    def _obey(order: dict[str, Any]) -> dict[str, Any]:
        match order.pop("do"):
            case "press":
                fake.press(**order)
            case "release":
                fake.release(**order)
            case "read":
                return fake.read()
            case "set":
                for name, value in order.items():
                    if not isinstance(getattr(fake, name, None), bool):
                        raise ValueError(f"{name!r} is no switch")  # noqa: TRY004 - the name is wrong, not its type
                    setattr(fake, name, bool(value))
            case other:
                raise ValueError(f"{other!r} is no order")
        return {}


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


for _word in filter(None, os.environ.get("POMMAI_FAKE_GPIO_FAILS", "").split(",")):
    _fail(_word)

listener: _Listener | None = None
if _path := os.environ.get("POMMAI_FAKE_GPIO"):
    Path(_path).unlink(missing_ok=True)
    listener = _Listener(_path, _Orders)
    threading.Thread(target=listener.serve_forever, name="fake GPIO orders", daemon=True).start()
