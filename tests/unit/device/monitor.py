"""What a child hears of a virtual speaker: when each piece sounds, and how long the silences between them are."""

from __future__ import annotations

import asyncio
import math
import struct
from dataclasses import dataclass

from pommai.audio import SPEECH
from pommai.codec import OpusDecoder, OpusEncoder
from pommai.device.body.sim import VirtualSpeaker

FRAME_BYTES = 2880  # 60 ms
ROUNDING_S = 1e-6


def packets(n: int) -> list[bytes]:
    """`n` packets of 60 ms of a tone that rises, so that no two sound alike."""
    encoder = OpusEncoder()
    samples = [int(9000 * math.sin(k * k / 90_000)) for k in range(1440 * n)]
    pcm = struct.pack(f"<{len(samples)}h", *samples)
    return [encoder.encode(pcm[i * FRAME_BYTES : (i + 1) * FRAME_BYTES]) for i in range(n)]


def decoded(them: list[bytes]) -> bytes:
    decoder = OpusDecoder()
    return b"".join(decoder.decode(packet) for packet in them)


@dataclass(frozen=True, slots=True)
class Silence:
    """Between two pieces nothing at all was played, from `began_s` (the loop's clock) on."""

    began_s: float
    ms: float


class MonitoredSpeaker(VirtualSpeaker):
    """Notes when each piece begins and ends to sound; a flush ends what sounds."""

    def __init__(self) -> None:
        super().__init__()
        self.sounds: list[tuple[float, float]] = []

    async def write(self, pcm: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        began_s = max(now_s, self.sounds[-1][1]) if self.sounds else now_s
        self.sounds.append((began_s, began_s + SPEECH.ms(len(pcm)) / 1000))
        await super().write(pcm)

    def flush(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self.sounds = [(began_s, min(ended_s, now_s)) for began_s, ended_s in self.sounds if began_s < now_s]
        super().flush()

    @property
    def silences(self) -> list[Silence]:
        """The silences between the first sound and the last."""
        ends = zip(self.sounds, self.sounds[1:], strict=False)
        return [
            Silence(ended_s, 1000 * (began_s - ended_s))
            for (_, ended_s), (began_s, _) in ends
            if began_s - ended_s > ROUNDING_S
        ]
