"""What a turn costs on the wire, counted by the byte.

Every WebSocket frame that belongs to a turn is counted, control messages too, with the headers that carry it:
WebSocket (RFC 6455, 5.2), one TLS record (5 header, 8 nonce, 16 tag: TLS 1.2 with AES-GCM; 1.3 takes 7 less), and
TCP/IP with timestamps (20 + 32). Rates are against the length of the Opus audio that the frames hold.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from pommai.audio import SPEECH, AudioFormat
from pommai.codec import packet_ms
from pommai.errors import AudioError
from pommai.protocol import AudioFrame, Message

TLS_BYTES: Final = 29
TCP_IP_BYTES: Final = 52
MASK_BYTES: Final = 4
"""Only a client masks its frames (RFC 6455, 5.3)."""

PCM_KBPS: Final = SPEECH.rate_hz * AudioFormat.SAMPLE_BYTES * 8 / 1000
"""The same speech as plain PCM: 384 kbit/s, against which compression is counted."""

KEPT_TURNS: Final = 4
"""Turns that are remembered: the one in progress, and those whose figures may still be asked for."""


def wire_bytes(payload_bytes: int, *, masked: bool) -> int:
    """Bytes on the wire of one WebSocket frame with `payload_bytes`, all headers included."""
    extended_length = 0 if payload_bytes < 126 else 2 if payload_bytes < 65_536 else 8
    return 2 + extended_length + (MASK_BYTES if masked else 0) + payload_bytes + TLS_BYTES + TCP_IP_BYTES


@dataclass(slots=True)
class Traffic:
    """One direction of one turn."""

    wire_bytes: int = 0
    audio_ms: float = 0.0
    frames: int = 0

    def count(self, message: Message, payload_bytes: int, *, masked: bool) -> None:
        """Add the frame that carried `message`."""
        self.wire_bytes += wire_bytes(payload_bytes, masked=masked)
        self.frames += 1
        if isinstance(message, AudioFrame):
            with suppress(AudioError):  # it costs its bytes and holds no sound
                self.audio_ms += packet_ms(message.packet)

    @property
    def kbps(self) -> float:
        """kbit/s on the wire while sound flows; 0 if there was no sound."""
        return self.wire_bytes * 8 / self.audio_ms if self.audio_ms else 0.0

    @property
    def compression(self) -> float:
        """How many times smaller than plain PCM, all headers included; 0 if there was no sound."""
        return PCM_KBPS / self.kbps if self.audio_ms else 0.0


@dataclass(slots=True)
class TurnTraffic:
    """Both directions of one turn, as the toy sees them."""

    uplink: Traffic = field(default_factory=Traffic)
    downlink: Traffic = field(default_factory=Traffic)


class Meter:
    """The traffic of the latest turns of one toy. Messages that belong to no turn are not counted."""

    def __init__(self) -> None:
        self._turns: dict[int, TurnTraffic] = {}

    def sent(self, message: Message, payload_bytes: int) -> None:
        """The toy sent `message` in a frame with `payload_bytes`."""
        if (turn := _turn_of(message)) is not None:
            self.turn(turn).uplink.count(message, payload_bytes, masked=True)

    def received(self, message: Message, payload_bytes: int) -> None:
        """The toy received `message` in a frame with `payload_bytes`."""
        if (turn := _turn_of(message)) is not None:
            self.turn(turn).downlink.count(message, payload_bytes, masked=False)

    def turn(self, turn: int) -> TurnTraffic:
        """The traffic of `turn` so far; empty for a turn that is not known or too old."""
        if turn not in self._turns:
            self._turns[turn] = TurnTraffic()
            while len(self._turns) > KEPT_TURNS:
                del self._turns[min(self._turns)]
        return self._turns.get(turn, TurnTraffic())


def _turn_of(message: Message) -> int | None:
    turn: int | None = getattr(message, "turn", None)
    return turn
