"""The toy's settings: `[relay]` and `[toy]` of the device's TOML files, and `POMMAI_*` in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from pommai.config import Secret, setting


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
    prebuffer_ms: int = setting(120, minimum=0, maximum=1000, help="reply audio gathered before it is played")


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Everything a toy can be told by its owner."""

    relay: RelayLink = field(default_factory=RelayLink)
    timing: Timing = field(default_factory=Timing)
