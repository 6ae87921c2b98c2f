"""The daemon's settings: read, checked against one another, and compared with those of before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from pommai.config import load
from pommai.device.body.pins import pin_problems
from pommai.device.network.address import check_address, tls_context
from pommai.device.settings import DeviceSettings
from pommai.errors import ConfigError

DEFAULT_FILE: Final = Path("/etc/pommai/device.toml")

LIVE: Final = frozenset({"relay", "lights.brightness", "sound.earcons", "battery.low_percent", "telemetry"})
"""The sections and settings that take effect without a restart."""


def load_settings(files: Sequence[Path], environ: Mapping[str, str]) -> DeviceSettings:
    """The settings of `files`, or else of `DEFAULT_FILE` if there is one, and of the environment.

    Raises ConfigError with every problem: of each setting by itself, or, where there are none, of all together.
    """
    chosen = list(files) or [file for file in (DEFAULT_FILE,) if file.exists()]
    settings = load(DeviceSettings, chosen, environ)
    problems = [*pin_problems(settings.button, settings.lights), *_mixed_worlds(settings)]
    for check in (check_address, tls_context):
        try:
            check(settings.relay)
        except ConfigError as error:
            problems += error.problems
            break
    if problems:
        raise ConfigError(problems)
    return settings


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


def _mixed_worlds(settings: DeviceSettings) -> list[str]:
    """A program may press a virtual button; so nothing but a virtual microphone may listen to it."""
    if settings.button.kind == "virtual" and settings.sound.kind != "virtual":
        return [
            "button.kind = 'virtual' needs sound.kind = 'virtual': only a real button may open a real microphone; set"
            " sound.kind to 'virtual', or button.kind to 'gpio'"
        ]
    return []
