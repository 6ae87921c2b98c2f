"""The pins of a Raspberry Pi's 40-pin header; the only importer of `RPi.GPIO`, which rpi-lgpio offers alike.

Pins are BCM numbers. lgpio, below rpi-lgpio, makes a FIFO in the working directory at import and fails where it may not
write: a service needs `WorkingDirectory` to be a folder of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pommai.errors import HardwareError, MissingExtra

_log = logging.getLogger(__name__)

_REMEDIES: Final = (
    ("busy", "Stop the program that uses the pin (`gpioinfo` names it), or choose another one with {setting}."),
    ("invalid on a raspberry pi", "Set {setting} to a BCM number of the 40-pin header, 0 to 27."),
    ("peripheral base", "Install rpi-lgpio in place of RPi.GPIO (Debian: python3-rpi-lgpio)."),
    ("access", "Add the user to the group gpio: `sudo usermod -aG gpio USER`, then log in again."),
    ("open gpiochip", "Add the user to the group gpio: `sudo usermod -aG gpio USER`, then log in again."),
)
"""What a library's text contains, to what the owner can do."""

_NOT_HERE: Final = (
    "Run it on a Raspberry Pi, or as a virtual toy: set button.kind = 'virtual' and sound.kind = 'virtual', both."
)
_UNKNOWN: Final = "See with `gpioinfo` whether another program uses the pins and stop it, or restart the Raspberry Pi."
"""For a failure that no library has told of yet, off a Raspberry Pi and on one."""


def open_gpio() -> Any:
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
        raise HardwareError(f"no GPIO here: {reason(error)}", remedy=_remedy(error, "", _NOT_HERE)) from error
    # A toy that was killed leaves its LED pins as outputs, and RPi.GPIO would warn on stderr at every start after that.
    # What the same warning says of pins with another function, `refuse_busy` says better.
    GPIO.setwarnings(False)
    with explained(GPIO, "", "the GPIO chip"):
        GPIO.setmode(GPIO.BCM)
    return GPIO


def failures(gpio: Any) -> tuple[type[Exception], ...]:
    """What the libraries raise. lgpio's own error comes through rpi-lgpio as it is, and is no RuntimeError."""
    lgpio = getattr(gpio, "lgpio", None)
    return (RuntimeError, ValueError, OSError) if lgpio is None else (RuntimeError, ValueError, OSError, lgpio.error)


def reason(error: Exception) -> str:
    """The library's own words, without lgpio's quotes."""
    return str(error).strip("'!. ")


def _remedy(error: Exception, setting: str, otherwise: str = _UNKNOWN) -> str:
    text = str(error).lower()
    return next((remedy.format(setting=setting) for part, remedy in _REMEDIES if part in text), otherwise)


@contextmanager
def explained(gpio: Any, setting: str, what: str) -> Iterator[None]:
    """Tell of failures with the name of what was wanted."""
    try:
        yield
    except failures(gpio) as error:
        raise HardwareError(f"{what} cannot be used: {reason(error)}", remedy=_remedy(error, setting)) from error


@contextmanager
def tolerating(gpio: Any) -> Iterator[None]:
    """Pins are being given back: what fails now is worth a line in the log, and not the end of the program."""
    try:
        yield
    except failures(gpio) as error:
        _log.warning("gpio: a pin was not given back, code=%s", reason(error))


def refuse_busy(gpio: Any, pin: int) -> None:
    """RPi.GPIO takes any pin away from whom it belongs to; rpi-lgpio says 'GPIO busy' by itself."""
    if gpio.gpio_function(pin) not in (gpio.IN, gpio.OUT):
        raise RuntimeError("it is busy as a part of I2C, SPI, a serial line, sound or a PWM")
