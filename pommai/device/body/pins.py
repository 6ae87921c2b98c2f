"""What cannot work in the wiring of a toy as its settings describe it. Pure."""

from __future__ import annotations

from typing import Final

from pommai.device.settings import ButtonSettings, LightSettings
from pommai.schema import Problem

FIXED_PULL_UPS: Final = (2, 3)
"""Pins with a pull-up resistor of 1.8 kilohms on the board (they are I2C)."""

STEADY_HZ: Final = 50
"""Slower pulses are seen one by one."""


def pin_problems(button: ButtonSettings, lights: LightSettings) -> list[Problem]:
    """What cannot work in these settings together; parts that use no GPIO are not looked at."""
    problems = []
    users: dict[int, str] = {}
    if button.kind == "gpio":
        users[button.pin] = "button.pin"
        if button.pull == ("down" if button.active_low else "up"):
            wanted = "up" if button.active_low else "down"
            low = "true" if button.active_low else "false"
            problems.append(
                Problem(
                    ("button.pull", "button.active_low", "button.kind"),
                    f"= {button.pull!r} holds the pin where button.active_low = {low} expects a pressed button; set"
                    f" button.pull to {wanted!r}, or to 'off' with a resistor of your own",
                )
            )
        if button.pin in FIXED_PULL_UPS and not button.active_low:
            problems.append(
                Problem(
                    ("button.pin", "button.active_low", "button.kind"),
                    f"{button.pin} has a pull-up resistor on the board; use button.active_low = true with it, or"
                    " another pin",
                )
            )
    if lights.kind == "gpio":
        if 0 < lights.pwm_hz < STEADY_HZ:
            what = f"must be 0, or from {STEADY_HZ} up, not {lights.pwm_hz}: a slower light flickers"
            problems.append(Problem(("lights.pwm_hz", "lights.kind"), what))
        for name, pin in light_pins(lights):
            if pin in users:
                other = users[pin]
                kinds = ("lights.kind", "button.kind") if other == "button.pin" else ("lights.kind",)
                what = f"{pin} is in use for {other} already; give each its own pin"
                problems.append(Problem((name, other, *kinds), what))
            users.setdefault(pin, name)
        if lights.pwm_hz == 0 and lights.brightness < 1.0:
            problems.append(
                Problem(
                    ("lights.brightness", "lights.pwm_hz", "lights.kind"),
                    "needs pulse width: set lights.pwm_hz above 0, or lights.brightness to 1.0",
                )
            )
    return problems


def light_pins(lights: LightSettings) -> list[tuple[str, int]]:
    """The settings of the LED's pins and their BCM numbers: red, green, blue."""
    return [
        ("lights.red_pin", lights.red_pin),
        ("lights.green_pin", lights.green_pin),
        ("lights.blue_pin", lights.blue_pin),
    ]
