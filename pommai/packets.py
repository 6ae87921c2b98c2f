"""Opus packets in one blob: how a phrase is stored and synced.

Before each packet stands its length, as 16 bits, big-endian. The blob of no packets is empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from pommai.errors import AudioError
from pommai.protocol import MAX_PACKET_BYTES

SHELF_BYTES: Final = 64_000_000
"""Room on a toy for all its phrases: some six hours at 24 kbit/s."""

_LENGTH: Final = struct.Struct(">H")


def pack(packets: Iterable[bytes]) -> bytes:
    """The blob of these packets, 1 to `MAX_PACKET_BYTES` bytes each. Raises AudioError for any other length."""
    parts: list[bytes] = []
    for packet in packets:
        _check(len(packet))
        parts += (_LENGTH.pack(len(packet)), packet)
    return b"".join(parts)


def unpack(blob: bytes) -> tuple[bytes, ...]:
    """The packets of a blob, in order. Raises AudioError if it is not whole."""
    packets = []
    at = 0
    while at < len(blob):
        start = at + _LENGTH.size
        if start > len(blob):
            raise AudioError("the blob of packets ends in the middle of a length")
        (length,) = _LENGTH.unpack_from(blob, at)
        _check(length)
        at = start + length
        if at > len(blob):
            raise AudioError("the blob of packets ends in the middle of a packet")
        packets.append(blob[start:at])
    return tuple(packets)


def _check(length: int) -> None:
    if not 1 <= length <= MAX_PACKET_BYTES:
        raise AudioError(f"an Opus packet of {length} bytes: one frame has 1 to {MAX_PACKET_BYTES}")
