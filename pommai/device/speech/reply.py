"""The sound of one reply: its jitter buffer, its decoder, and the waiting for more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Final

from pommai.codec import OpusDecoder, packet_ms
from pommai.device.speech.jitter import Conceal, Finished, JitterBuffer, Play, Pushed, Wait
from pommai.errors import AudioError
from pommai.protocol import FRAME_MS, AudioFrame

STARVING_S: Final = 0.03
"""A speaker asks for more when some 40 to 60 ms are left: when none has come for this long, something has to."""

_log = logging.getLogger(__name__)


class Reply:
    """The reply of `turn`, as packets while it comes and as PCM while it is played."""

    def __init__(self, turn: int, prebuffer_ms: float) -> None:
        self.turn = turn
        self.packets: dict[int, bytes] = {}
        """What has come, by sequence: as much as the jitter buffer took."""
        self._buffer = JitterBuffer(prebuffer_ms)
        self._has_more = asyncio.Event()

    @property
    def missing(self) -> int | None:
        """The first packet that is not here; None when all are."""
        return None if self._buffer.ended else self._buffer.next_sequence

    @property
    def is_dry(self) -> bool:
        """Whether nothing of it can be heard until more has come."""
        return not self._buffer.flowing and not self._buffer.ended

    def push(self, frame: AudioFrame) -> None:
        """Take a packet; one that comes twice or too late is dropped."""
        try:
            ms = packet_ms(frame.packet)
        except AudioError:
            ms = FRAME_MS  # keeps its place, to be concealed when its time comes
        pushed = self._buffer.push(frame.sequence, frame.packet, ms)
        if pushed is Pushed.TAKEN:
            self.packets[frame.sequence] = frame.packet
        else:
            _log.info("reply: a packet was dropped, turn=%d code=%s", self.turn, pushed)
        self._has_more.set()

    def end(self) -> None:
        """Every packet has come."""
        self._buffer.end()
        self._has_more.set()

    async def pcm(self) -> AsyncGenerator[bytes, None]:
        """The sound as it is to be played, concealed where it has to be; ends with the reply. Once only.

        Raises MissingExtra where nothing can be decoded.
        """
        decoder = OpusDecoder()
        starving = False
        while True:
            pulled = self._buffer.pull(starving=starving)
            starving = False
            match pulled:
                case Play(packet, ms):
                    yield self._decode(decoder, packet, ms)
                case Conceal(ms):
                    yield decoder.conceal(ms)
                case Finished():
                    return
                case Wait():
                    starving = not await self._more_in_time()

    async def again(self) -> AsyncGenerator[bytes, None]:
        """What has come of it until now, from its beginning."""
        decoder = OpusDecoder()
        for _, packet in sorted(self.packets.items()):
            try:
                yield decoder.decode(packet)
            except AudioError:
                yield decoder.conceal(FRAME_MS)

    async def _more_in_time(self) -> bool:
        """Wait for a packet or the end; False if the speaker is about to fall silent before."""
        self._has_more.clear()
        try:
            async with asyncio.timeout(STARVING_S if self._buffer.flowing else None):
                await self._has_more.wait()
        except TimeoutError:
            return False
        return True

    def _decode(self, decoder: OpusDecoder, packet: bytes, ms: float) -> bytes:
        try:
            return decoder.decode(packet)
        except AudioError as error:
            _log.info("reply: a packet was concealed, turn=%d: %s", self.turn, error)
            return decoder.conceal(ms)
