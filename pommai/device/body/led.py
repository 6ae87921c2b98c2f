"""The real RGB LED, at three pins of its own, with pulses that the library makes in software."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final, Self

from pommai.device.body.gpio import explained, failures, open_gpio, reason, refuse_busy, tolerating
from pommai.device.body.pins import light_pins
from pommai.device.mind.lights import OFF, Color
from pommai.device.settings import LightSettings
from pommai.errors import HardwareError

_log = logging.getLogger(__name__)

SWITCH_AT: Final = 0.5
"""Without pulse width (`pwm_hz = 0`) a channel is on from here: below `lights.OPEN_MIC_BLUE`, above idle's breath."""

_NAMES: Final = ("red", "green", "blue")
_OPEN_MIC: Final = "blue"
"""The channel without which an open microphone cannot be seen: see `lights.listening`."""


@dataclass(slots=True)
class _Channel:
    """A pin that works. `pulse`: the library's, None without pulse width. `share`: of the time that the pin is high."""

    pin: int
    pulse: Any
    share: float


class GpioLights:
    """See `ports.Lights`; use it as `with GpioLights(settings) as lights`, once. Dark when left.

    A pin that cannot be used costs its own colour and no other: see `problem`. Where none can, entering raises
    HardwareError.

    The share of time that a channel is lit is the channel itself, without any correction for the eye; with a common
    anode, low is lit. The library's pulses cost a wake-up each: 100 Hz does not flicker yet and costs half of 200 Hz.
    """

    def __init__(self, settings: LightSettings) -> None:
        self.problem = ""
        """Which colours are missing and why, in one line; empty while all work."""
        self._settings = settings
        self._gpio: Any = None
        self._channels: dict[str, _Channel] = {}
        self._works = True

    @property
    def can_dim(self) -> bool:
        """False: channels are fully on or off, so show undimmed colours, or an open microphone could not be seen."""
        return self._settings.pwm_hz > 0

    @property
    def shows_open_mic(self) -> bool:
        """Whether the colour of an open microphone is there."""
        return _OPEN_MIC in self._channels

    def __enter__(self) -> Self:
        self._gpio = open_gpio()
        problems: list[HardwareError] = []
        for name, (setting, pin) in zip(_NAMES, light_pins(self._settings), strict=True):
            try:
                self._channels[name] = self._open(setting, pin)
            except HardwareError as error:
                problems.append(error)
        if not self._channels:
            raise problems[0]
        for problem in problems:
            _log.warning("led: a colour is missing: %s (what to do: %s)", problem, problem.remedy)
        self.problem = "; ".join(map(str, problems))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.show(OFF)
        with tolerating(self._gpio):
            # Stopped and forgotten before the pins go: rpi-lgpio's would raise when they are collected.
            pins = [channel.pin for channel in self._channels.values()]
            while self._channels:
                _, channel = self._channels.popitem()
                if channel.pulse is not None:
                    channel.pulse.stop()
                del channel  # or its pulse would be collected after its pin
            self._gpio.cleanup(pins)
        self._channels.clear()

    def _open(self, setting: str, pin: int) -> _Channel:
        """Take one pin, dark. Raises HardwareError; the pin is given back then."""
        if any(channel.pin == pin for channel in self._channels.values()):
            raise HardwareError(
                f"{setting} {pin} cannot be used: another colour has it", remedy=f"Choose another pin with {setting}."
            )
        gpio, dark = self._gpio, self._share(0.0)
        with explained(gpio, setting, f"{setting} {pin}"):
            refuse_busy(gpio, pin)
            gpio.setup(pin, gpio.OUT, initial=gpio.HIGH if dark else gpio.LOW)
            try:
                pulse = gpio.PWM(pin, self._settings.pwm_hz) if self.can_dim else None
                if pulse is not None:
                    pulse.start(dark)
            except failures(gpio):
                with tolerating(gpio):
                    gpio.cleanup([pin])
                raise
        return _Channel(pin, pulse, dark)

    def show(self, color: Color) -> None:
        """See `ports.Lights`. A pin that fails is told to the log once, and the toy lives on. Left, it stays dark."""
        try:
            for name, channel in self._channels.items():
                share = self._share(getattr(color, name))
                if share == channel.share:
                    continue
                if channel.pulse is not None:
                    channel.pulse.ChangeDutyCycle(share)
                else:
                    self._gpio.output(channel.pin, self._gpio.HIGH if share else self._gpio.LOW)
                channel.share = share
        except failures(self._gpio) as error:
            if self._works:  # no traceback: whoever kept it would keep a PWM object beyond its pin
                _log.warning("led: it cannot be switched, code=%s", reason(error))
            self._works = False
        else:
            self._works = True

    def _share(self, channel: float) -> float:
        """How much of the time the pin is high, in percent."""
        share = 100.0 * max(0.0, min(1.0, channel)) if self.can_dim else 100.0 * (channel >= SWITCH_AT)
        return 100.0 - share if self._settings.common == "anode" else share
