"""The daemon's settings: read, checked against one another, and compared with those of before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from pommai.config import if_there, load
from pommai.device.body.pins import pin_problems
from pommai.device.network.address import address_problems, trust_problems
from pommai.device.settings import DeviceSettings, timing_problems
from pommai.schema import Problem

DEFAULT_FILE: Final = Path("/etc/pommai/device.toml")

LIVE: Final = frozenset({"relay", "lights.brightness", "sound.earcons", "battery.low_percent", "telemetry"})
"""The sections and settings that take effect without a restart."""


def load_settings(files: Sequence[Path], environ: Mapping[str, str]) -> DeviceSettings:
    """The settings of `files`, or else of `DEFAULT_FILE` if there is one, and of the environment.

    Raises ConfigError with every problem: of each setting by itself, and of all together.
    """
    chosen = list(files) or if_there(DEFAULT_FILE)
    return load(DeviceSettings, chosen, environ, check=problems)


def problems(settings: DeviceSettings) -> list[Problem]:
    """What a toy's settings say wrong together."""
    return [
        *address_problems(settings.relay),
        *trust_problems(settings.relay),
        *timing_problems(settings.timing),
        *pin_problems(settings.button, settings.lights),
        *_mixed_worlds(settings),
    ]


def changes(before: DeviceSettings, after: DeviceSettings) -> tuple[list[str], list[str]]:
    """The names of the settings that differ: those that take effect at once, and those that need a restart."""
    live: list[str] = []
    later: list[str] = []
    for section in fields(DeviceSettings):
        old, new = getattr(before, section.name), getattr(after, section.name)
        for field in fields(old):
            if getattr(old, field.name) != getattr(new, field.name):
                name = f"{section.name}.{field.name}"
                (live if {section.name, name} & LIVE else later).append(name)
    return live, later


def masked(settings: DeviceSettings) -> dict[str, dict[str, object]]:
    """All settings for a technician's eyes, as JSON can hold them; of a secret only whether it is set."""
    shown: dict[str, dict[str, object]] = {}
    for section in fields(DeviceSettings):
        values = getattr(settings, section.name)
        named = {field.name: getattr(values, field.name) for field in fields(values)}
        shown[section.name] = {
            name: value if isinstance(value, str | int | float) else repr(value) for name, value in named.items()
        }
    return shown


def _mixed_worlds(settings: DeviceSettings) -> list[Problem]:
    """A program may press a virtual button; so nothing but a virtual microphone may listen to it."""
    if settings.button.kind != "virtual" or settings.sound.kind == "virtual":
        return []
    what = (
        "= 'virtual' needs sound.kind = 'virtual': only a real button may open a real microphone; set sound.kind to"
        " 'virtual', or button.kind to 'gpio'"
    )
    return [Problem(("button.kind", "sound.kind"), what)]
