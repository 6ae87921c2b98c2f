"""What the toy needs from its body and from the network, by role.

Nothing here blocks: the runner's loop calls these methods from one asyncio thread, and drivers with threads of their
own (PyAudio callbacks, GPIO edges) hand over through the loop. A driver that fails raises HardwareError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pommai.protocol import Control


@dataclass(frozen=True, slots=True)
class Color:
    """Light of one RGB LED; each channel 0.0 (off) to 1.0 (full)."""

    red: float
    green: float
    blue: float


class Mic(Protocol):
    """Hears. PCM is 24 kHz mono 16 bit."""

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        """From now on call `on_pcm` in the loop's thread with each piece of sound (10 to 60 ms), in order."""

    def close(self) -> None:
        """Stop calling at once; no piece of sound arrives after this returns. Closing twice is allowed."""


class Speaker(Protocol):
    """Plays. PCM is 24 kHz mono 16 bit."""

    async def write(self, pcm: bytes) -> None:
        """Take `pcm` to be played next; return when the speaker wants more (at most 60 ms ahead of the ear)."""

    async def drain(self) -> None:
        """Return when the last sample that was written has been played."""

    def flush(self) -> None:
        """Be silent at once: forget what was written and not yet played."""


class Lights(Protocol):
    """One RGB LED."""

    def show(self, color: Color) -> None:
        """Light up in this colour until the next call."""


class Button(Protocol):
    """The one thing the child touches."""

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """Call `on_edge(down, at_ms)` in the loop's thread at every edge, bounces included; `at_ms` is monotonic."""


class Uplink(Protocol):
    """The connection to the relay, kept up for ever: it reconnects by itself."""

    def send(self, message: Control) -> None:
        """Queue a control message. Without a connection it is dropped: the turn it belongs to is lost anyway."""

    def send_audio(self, turn: int, packet: bytes) -> None:
        """Queue one Opus packet of a turn; sequence numbers are counted here."""
