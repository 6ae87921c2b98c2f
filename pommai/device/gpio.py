"""The real button and LED, on the 40-pin header; the only importer of `RPi.GPIO`, which rpi-lgpio offers alike.

Pins are BCM numbers. Both classes are entered with `with`, which does all that can block: RPi.GPIO 0.7.1 on Linux 6.6
and later looks for one second before it says that it cannot detect edges. So enter them before the loop runs, or in a
thread. `watch` and `show` never block.

Entering raises MissingExtra without either package, and HardwareError if this is no Raspberry Pi, may not be used, or
a pin is unknown or busy. lgpio, below rpi-lgpio, makes a FIFO in the working directory at import and fails where it may
not write: a service needs `WorkingDirectory` to be a folder of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from pommai.device.lights import OFF, Color
from pommai.device.pins import light_pins
from pommai.device.settings import ButtonSettings, LightSettings
from pommai.errors import HardwareError, MissingExtra

_log = logging.getLogger(__name__)

POLL_S: Final = 0.015
"""How often the button is read where its edges cannot be detected."""

RECHECK_S: Final = 0.02
"""The button is read again this long after the last edge: the contact may have moved before its edge was read."""

BACKSTOP_S: Final = 0.25
"""The button is read this often anyway: no lost edge can leave it down for longer."""

MAX_EDGES: Final = 64
"""Edges that may wait for the loop; of a noisier line the oldest are forgotten."""

SWITCH_AT: Final = 0.5
"""Without pulse width (`pwm_hz = 0`) a channel is on from here: below `lights.OPEN_MIC_BLUE`, above idle's breath."""

_CHANNELS: Final = ("red", "green", "blue")


# --- the library ------------------------------------------------------------------------------------------------------

_REMEDIES: Final = (
    ("busy", "Stop the program that uses the pin (`gpioinfo` names it), or choose another one with {setting}."),
    ("invalid on a raspberry pi", "Set {setting} to a BCM number of the 40-pin header, 0 to 27."),
    ("peripheral base", "Install rpi-lgpio in place of RPi.GPIO (Debian: python3-rpi-lgpio)."),
    ("access", "Add the user to the group gpio: `sudo usermod -aG gpio USER`, then log in again."),
    ("open gpiochip", "Add the user to the group gpio: `sudo usermod -aG gpio USER`, then log in again."),
)
"""What a library's text contains, to what the owner can do."""

_NOT_HERE: Final = "Run it on a Raspberry Pi, or without GPIO: set button.kind = 'virtual' and lights.kind = 'none'."


def _import_gpio() -> Any:
    """The library, counting in BCM numbers."""
    try:
        from RPi import GPIO
    except ImportError as error:
        raise MissingExtra(
            "the package RPi.GPIO is not installed",
            remedy="Install it: `sudo apt install python3-rpi-lgpio`, or `pip install rpi-lgpio`.",
        ) from error
    except OSError as error:
        raise HardwareError(
            f"the GPIO library cannot make its FIFO in the working directory: {error.strerror}",
            remedy="Start in a folder that may be written to; in a service set WorkingDirectory.",
        ) from error
    except RuntimeError as error:
        raise HardwareError(f"no GPIO here: {_text(error)}", remedy=_remedy(error, "")) from error
    # A toy that was killed leaves its LED pins as outputs, and RPi.GPIO would warn on stderr at every start after that.
    # What the same warning says of pins with another function, `_refuse_busy` says better.
    GPIO.setwarnings(False)
    with _explained(GPIO, "", "the GPIO chip"):
        GPIO.setmode(GPIO.BCM)
    return GPIO


def _failures(gpio: Any) -> tuple[type[Exception], ...]:
    """What the libraries raise. lgpio's own error comes through rpi-lgpio as it is, and is no RuntimeError."""
    lgpio = getattr(gpio, "lgpio", None)
    return (RuntimeError, ValueError, OSError) if lgpio is None else (RuntimeError, ValueError, OSError, lgpio.error)


def _text(error: Exception) -> str:
    return str(error).strip("'!. ")


def _remedy(error: Exception, setting: str) -> str:
    text = str(error).lower()
    return next((remedy.format(setting=setting) for part, remedy in _REMEDIES if part in text), _NOT_HERE)


@contextmanager
def _explained(gpio: Any, setting: str, what: str) -> Iterator[None]:
    """Tell of failures with the name of what was wanted."""
    try:
        yield
    except _failures(gpio) as error:
        raise HardwareError(f"{what} cannot be used: {_text(error)}", remedy=_remedy(error, setting)) from error


@contextmanager
def _tolerating(gpio: Any) -> Iterator[None]:
    """Pins are being given back: what fails now is worth a line in the log, and not the end of the program."""
    try:
        yield
    except _failures(gpio):
        _log.exception("gpio: a pin was not given back")


def _refuse_busy(gpio: Any, pin: int) -> None:
    """RPi.GPIO takes any pin away from whom it belongs to; rpi-lgpio says 'GPIO busy' by itself."""
    if gpio.gpio_function(pin) not in (gpio.IN, gpio.OUT):
        raise RuntimeError("it is busy as a part of I2C, SPI, a serial line, sound or a PWM")


# --- the button -------------------------------------------------------------------------------------------------------


class GpioButton:
    """See `ports.Button`; use it as `with GpioButton(settings) as button`, once.

    A button that is down when watching begins counts as up until it has come up once: something lies on the toy, or a
    wire is broken. A pin that cannot be read counts as up, and the log says so.
    """

    def __init__(self, settings: ButtonSettings) -> None:
        self._settings = settings
        self._gpio: Any = None
        self._detects_edges = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_edge: Callable[[bool, float], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()  # keeps the library's thread out of a pin that is being given back
        self._edges: deque[tuple[bool, float]] = deque(maxlen=MAX_EDGES)
        self._collecting = False
        self._readable = True
        self._was_up = False
        self._down = False  # as told last
        self._told_ms = float("-inf")

    def __enter__(self) -> Self:
        gpio, pin = _import_gpio(), self._settings.pin
        pull = {"up": gpio.PUD_UP, "down": gpio.PUD_DOWN, "off": gpio.PUD_OFF}[self._settings.pull]
        with _explained(gpio, "button.pin", f"button.pin {pin}"):
            _refuse_busy(gpio, pin)
            gpio.setup(pin, gpio.IN, pull_up_down=pull)
        self._gpio = gpio
        try:
            gpio.add_event_detect(pin, gpio.BOTH, callback=self._moved)
        except _failures(gpio):
            _log.warning("gpio: no edges from this library (rpi-lgpio has them), polling, ms=%d", POLL_S * 1000)
        else:
            self._detects_edges = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._loop = self._on_edge = None
        if self._timer is not None:
            self._timer.cancel()
        with _tolerating(self._gpio):
            if self._detects_edges:
                self._gpio.remove_event_detect(self._settings.pin)
            self._gpio.cleanup(self._settings.pin)

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """See `ports.Button`. Times are those of the loop's clock. Raises HardwareError if it is watched already."""
        if self._gpio is None or self._on_edge is not None:
            raise HardwareError("the button is watched already, or its pin is not open")
        self._on_edge = on_edge
        self._was_up = not self._is_down()
        self._loop = asyncio.get_running_loop()
        self._look_again(self._loop)

    def _moved(self, _pin: int) -> None:
        """The library's callback, in its thread."""
        at_ms = time.monotonic() * 1000
        with self._lock:
            if self._loop is None:
                return
            self._edges.append((self._is_down(), at_ms))
            if not self._collecting:
                self._collecting = True
                with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._collecting = False
        if self._loop is None:
            return
        self._look_again(self._loop, RECHECK_S)
        while self._edges:
            self._tell(*self._edges.popleft())

    def _look(self) -> None:
        """Read the button without an edge; a moment after the last one, so that it does not bounce."""
        if self._loop is None:
            return
        down, at_ms = self._is_down(), self._loop.time() * 1000
        self._look_again(self._loop)
        self._was_up = self._was_up or not down
        self._tell(down, at_ms)

    def _look_again(self, loop: asyncio.AbstractEventLoop, soon_s: float = BACKSTOP_S) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(soon_s if self._detects_edges else POLL_S, self._look)

    def _tell(self, down: bool, at_ms: float) -> None:
        if self._on_edge is None or not self._was_up or down == self._down:
            return
        self._down = down
        self._told_ms = max(self._told_ms, at_ms)  # an edge may have waited while the button was read without it
        self._on_edge(down, self._told_ms)

    def _is_down(self) -> bool:
        try:
            level = bool(self._gpio.input(self._settings.pin))
        except _failures(self._gpio):
            if self._readable:
                _log.exception("gpio: the button cannot be read and counts as up")
            self._readable = False
            return False
        self._readable = True
        return level != self._settings.active_low


# --- the lights -------------------------------------------------------------------------------------------------------


class GpioLights:
    """See `ports.Lights`; use it as `with GpioLights(settings) as lights`, once. Dark when left.

    The share of time that a channel is lit is the channel itself, without any correction for the eye; with a common
    anode, low is lit. The library's pulses cost a wake-up each: 100 Hz does not flicker yet and costs half of 200 Hz.
    """

    def __init__(self, settings: LightSettings) -> None:
        self._settings = settings
        self._gpio: Any = None
        self._pulses: list[Any] = []
        self._shown: dict[int, float] = {}
        self._works = True

    @property
    def can_dim(self) -> bool:
        """False: channels are fully on or off, so show undimmed colours, or an open microphone could not be seen."""
        return self._settings.pwm_hz > 0

    def __enter__(self) -> Self:
        self._gpio = gpio = _import_gpio()
        dark = self._share(0.0)
        try:
            for name, pin in light_pins(self._settings):
                with _explained(gpio, name, f"{name} {pin}"):
                    _refuse_busy(gpio, pin)
                    gpio.setup(pin, gpio.OUT, initial=gpio.HIGH if dark else gpio.LOW)
                    self._shown[pin] = dark
                    if self.can_dim:
                        self._pulses.append(gpio.PWM(pin, self._settings.pwm_hz))
                        self._pulses[-1].start(dark)
        except HardwareError:
            self._close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.show(OFF)
        self._close()

    def _close(self) -> None:
        with _tolerating(self._gpio):
            while (
                self._pulses
            ):  # stopped and forgotten before the pins go: rpi-lgpio would raise when they are collected
                self._pulses.pop().stop()
            self._gpio.cleanup(list(self._shown))
        self._shown.clear()

    def show(self, color: Color) -> None:
        """See `ports.Lights`. A pin that fails is told to the log once, and the toy lives on. Left, it stays dark."""
        try:
            for index, (pin, shown) in enumerate(self._shown.items()):
                share = self._share(getattr(color, _CHANNELS[index]))
                if share == shown:
                    continue
                if self.can_dim:
                    self._pulses[index].ChangeDutyCycle(share)
                else:
                    self._gpio.output(pin, self._gpio.HIGH if share else self._gpio.LOW)
                self._shown[pin] = share
        except _failures(self._gpio):
            if self._works:
                _log.exception("gpio: the lights cannot be switched")
            self._works = False
        else:
            self._works = True

    def _share(self, channel: float) -> float:
        """How much of the time the pin is high, in percent."""
        share = 100.0 * max(0.0, min(1.0, channel)) if self.can_dim else 100.0 * (channel >= SWITCH_AT)
        return 100.0 - share if self._settings.common == "anode" else share
