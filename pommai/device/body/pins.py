"""What cannot work in the wiring of a toy as its settings describe it. Pure."""

from __future__ import annotations

from typing import Final

from pommai.device.settings import ButtonSettings, LightSettings

FIXED_PULL_UPS: Final = (2, 3)
"""Pins with a pull-up resistor of 1.8 kilohms on the board (they are I2C)."""


def pin_problems(button: ButtonSettings, lights: LightSettings) -> list[str]:
    """What cannot work in these settings together, one sentence each; parts that use no GPIO are not looked at."""
    problems = []
    users: dict[int, str] = {}
    if button.kind == "gpio":
        users[button.pin] = "button.pin"
        if button.pull == ("down" if button.active_low else "up"):
            wanted = "up" if button.active_low else "down"
            low = "true" if button.active_low else "false"
            problems.append(
                f"button.pull = {button.pull!r} holds the pin where button.active_low = {low} expects a pressed"
                f" button; set button.pull to {wanted!r}, or to 'off' with a resistor of your own"
            )
        if button.pin in FIXED_PULL_UPS and not button.active_low:
            problems.append(
                f"button.pin {button.pin} has a pull-up resistor on the board; use button.active_low = true with it, or"
                " another pin"
            )
    if lights.kind == "gpio":
        for name, pin in light_pins(lights):
            if pin in users:
                problems.append(f"{name} {pin} is in use for {users[pin]} already; give each its own pin")
            users.setdefault(pin, name)
        if lights.pwm_hz == 0 and lights.brightness < 1.0:
            problems.append(
                "lights.brightness needs pulse width: set lights.pwm_hz above 0, or lights.brightness to 1.0"
            )
    return problems


def light_pins(lights: LightSettings) -> list[tuple[str, int]]:
    """The settings of the LED's pins and their BCM numbers: red, green, blue."""
    return [
        ("lights.red_pin", lights.red_pin),
        ("lights.green_pin", lights.green_pin),
        ("lights.blue_pin", lights.blue_pin),
    ]
