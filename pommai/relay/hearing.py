"""An utterance while it comes in: its packets, capped by time and by bytes."""

from __future__ import annotations

from typing import Final

from pommai.codec import packet_ms

MAX_UPLINK_BYTES_S: Final = 8_000
"""Bytes of Opus kept for each second of an utterance: 64 kbit/s, far above the 24 kbit/s that a toy sends."""

OVERLONG: Final = 3
"""An utterance that goes on for this many times the longest allowed one is a fault of the toy, and refused."""


class Hearing:
    """The packets of one utterance, capped by time and by bytes."""

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._seconds = 0.0
        self._room_bytes = int(max_s * MAX_UPLINK_BYTES_S)
        self.packets: list[bytes] = []

    @property
    def overlong(self) -> bool:
        """Whether the toy has long missed the end."""
        return self._seconds > OVERLONG * self._max_s

    def add(self, packet: bytes) -> None:
        """Keep a packet, or drop it beyond the cap. Raises AudioError for bytes that are not an Opus packet."""
        self._seconds += packet_ms(packet) / 1000
        self._room_bytes -= len(packet)
        if self._seconds <= self._max_s and self._room_bytes >= 0:
            self.packets.append(packet)
