"""The real RGB LED, at three pins of its own, with pulses that the library makes in software."""

from __future__ import annotations

import logging
from typing import Any, Final, Self

from pommai.device.body.gpio import explained, failures, open_gpio, reason, refuse_busy, tolerating
from pommai.device.body.pins import light_pins
from pommai.device.mind.lights import OFF, Color
from pommai.device.settings import LightSettings
from pommai.errors import HardwareError

_log = logging.getLogger(__name__)

SWITCH_AT: Final = 0.5
"""Without pulse width (`pwm_hz = 0`) a channel is on from here: below `lights.OPEN_MIC_BLUE`, above idle's breath."""

_CHANNELS: Final = ("red", "green", "blue")


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
        self._gpio = gpio = open_gpio()
        dark = self._share(0.0)
        try:
            for name, pin in light_pins(self._settings):
                with explained(gpio, name, f"{name} {pin}"):
                    refuse_busy(gpio, pin)
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
        with tolerating(self._gpio):
            # Stopped and forgotten before the pins go: rpi-lgpio's would raise when they are collected.
            while self._pulses:
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
