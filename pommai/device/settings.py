"""The toy's settings: the sections of the device's TOML files, and `POMMAI_*` in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from pommai.schema import Problem, Secret, setting

MAX_PIN = 27
"""The highest BCM number on the 40-pin header."""


@dataclass(frozen=True, slots=True)
class RelayLink:
    """Where the relay is and how to be let in."""

    url: str = setting("ws://127.0.0.1:8787/v1/toy", help="WebSocket address of the relay")
    token: Secret = setting(Secret(""), help="device token, as shown once by `pommai relay token add`")
    insecure: bool = setting(False, help="allow plain ws:// to another machine (never on an open network)")
    ca_file: str = setting("", help="PEM file of the certificate authority, if it is not a public one")


@dataclass(frozen=True, slots=True)
class Timing:
    """The button's times and the speaker's buffer."""

    debounce_ms: int = setting(50, minimum=0, maximum=200, help="edges this soon after the first are bounces")
    hold_ms: int = setting(300, minimum=100, maximum=1000, help="a press shorter than this is a tap")
    tap_window_ms: int = setting(400, minimum=100, maximum=1000, help="taps closer than this count together")
    help_ms: int = setting(4000, minimum=2000, maximum=18_000, help="offline, a hold this long calls for help")
    restart_ms: int = setting(10_000, minimum=5000, maximum=19_000, help="a silent hold this long restarts the toy")
    prebuffer_ms: int = setting(120, minimum=0, maximum=1000, help="reply audio gathered before it is played")


def timing_problems(timing: Timing) -> list[Problem]:
    """What the button's times say wrong together.

    Each hold is longer than the one before it, and the longest is shorter than the 20 s after which an open microphone
    closes by itself: their bounds see to all but one pair.
    """
    if timing.help_ms < timing.restart_ms:
        return []
    what = (
        f"{timing.help_ms} must be less than timing.restart_ms, which is {timing.restart_ms}: or a silent child gets a"
        " restart, and no help; make timing.help_ms shorter, or timing.restart_ms longer"
    )
    return [Problem(("timing.help_ms", "timing.restart_ms"), what)]


@dataclass(frozen=True, slots=True)
class ButtonSettings:
    """What the child presses."""

    kind: str = setting("gpio", choices=("gpio", "virtual"), help="gpio, or virtual: pressed by `pommai device press`")
    pin: int = setting(17, minimum=0, maximum=MAX_PIN, help="BCM number of the button's pin")
    pull: str = setting("up", choices=("up", "down", "off"), help="resistor of the pin: up, down or off")
    active_low: bool = setting(True, help="whether a pressed button connects the pin to ground")


@dataclass(frozen=True, slots=True)
class LightSettings:
    """The RGB LED."""

    kind: str = setting(
        "gpio", choices=("gpio", "none"), help="gpio, or none: then a sound tells of the open microphone"
    )
    red_pin: int = setting(27, minimum=0, maximum=MAX_PIN, help="BCM number of the red channel")
    green_pin: int = setting(22, minimum=0, maximum=MAX_PIN, help="BCM number of the green channel")
    blue_pin: int = setting(23, minimum=0, maximum=MAX_PIN, help="BCM number of the blue channel")
    common: str = setting("cathode", choices=("cathode", "anode"), help="the leg that the colours share")
    pwm_hz: int = setting(
        200, minimum=0, maximum=2000, help="pulse-width frequency, 50 or more; 0 switches fully on and off"
    )
    brightness: float = setting(1.0, minimum=0.1, maximum=1.0, help="dims every pattern alike")


@dataclass(frozen=True, slots=True)
class SoundSettings:
    """Microphone and speaker."""

    kind: str = setting("card", choices=("card", "virtual"), help="card, or virtual: a silent room without hardware")
    card: str = setting("", help="a part of the sound card's name; empty takes the default one")
    volume: float = setting(0.7, minimum=0.0, maximum=1.0, help="volume of a new toy; later ones are remembered")
    earcons: bool = setting(True, help="short sounds; the start sound is made anyway where there is no light")


@dataclass(frozen=True, slots=True)
class BatterySettings:
    """The battery, if there is one."""

    path: str = setting("", help="its folder, such as /sys/class/power_supply/BAT0; empty for none")
    low_percent: int = setting(15, minimum=1, maximum=90, help="below this the toy says that it is hungry for power")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the toy keeps for itself."""

    path: str = setting("/var/lib/pommai/toy.db", help="SQLite file; made with mode 0600")
    max_events: int = setting(10_000, minimum=100, maximum=1_000_000, help="events kept at most, sent or not")
    max_event_kb: int = setting(4_096, minimum=64, maximum=1_048_576, help="room for events, in kB")
    keep_sent_days: int = setting(30, minimum=1, maximum=365, help="days to keep events that the relay has")
    keep_unsent_days: int = setting(7, minimum=1, maximum=365, help="days to keep events that it does not have")


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """How `pommai device` reaches the daemon."""

    socket: str = setting("/run/pommai/control.sock", help="Unix socket, for root and the group pommai")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Figures about the toy's health; never words or sound."""

    enabled: bool = setting(False, help="send latency, memory, bandwidth, errors and availability to the relay")


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Everything a toy can be told by its owner."""

    relay: RelayLink = field(default_factory=RelayLink)
    timing: Timing = field(default_factory=Timing)
    button: ButtonSettings = field(default_factory=ButtonSettings)
    lights: LightSettings = field(default_factory=LightSettings)
    sound: SoundSettings = field(default_factory=SoundSettings)
    battery: BatterySettings = field(default_factory=BatterySettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
