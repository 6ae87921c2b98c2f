"""Plays one reply at a time: packets as they come, through the jitter buffer and the decoder, to the speaker.

Packets are decoded just before their sound is needed, so that a minute of speech waits as 180 kB and not as 3 MB, and a
reply that is stopped costs nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

from pommai.audio import SPEECH, quieter
from pommai.codec import OpusDecoder, packet_ms
from pommai.device.jitter import Conceal, Finished, JitterBuffer, Play, Pushed, Wait
from pommai.device.ports import Speaker
from pommai.errors import AudioError, HardwareError
from pommai.protocol import FRAME_MS, AudioFrame

_log = logging.getLogger(__name__)

PIECE_MS: Final = 20
"""How much PCM the speaker gets at a time: what may still be heard after a stop is a few of these."""


class PlayerListener(Protocol):
    """Who is told how the reply gets on. Never called for a reply that was stopped."""

    def playback_began(self, turn: int, at_s: float) -> None:
        """The first sample was handed to the speaker at `at_s` (the loop's clock)."""

    def playback_finished(self, turn: int) -> None:
        """The last sample has been heard."""

    def playback_failed(self, turn: int) -> None:
        """The speaker stopped working; nothing more of this reply will be played."""


class Player:
    """One speaker's player. `prebuffer_ms`: sound to gather before the first is played. `volume`: 0.0 to 1.0."""

    def __init__(self, speaker: Speaker, prebuffer_ms: float = 120.0) -> None:
        self._speaker = speaker
        self._prebuffer_ms = prebuffer_ms
        self.volume = 1.0
        self._reply: _Reply | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, turn: int, listener: PlayerListener) -> None:
        """Expect the reply of `turn` and play it as it comes; one that still plays is stopped."""
        self.stop()
        self._reply = _Reply(turn, self._prebuffer_ms)
        self._task = asyncio.create_task(self._play(self._reply, listener), name="player")

    def push(self, frame: AudioFrame) -> None:
        """Take a packet of the reply; one of another turn is dropped."""
        if self._reply is not None and self._reply.turn == frame.turn:
            self._reply.push(frame)

    def end(self, turn: int) -> None:
        """Every packet of the reply of `turn` has been pushed."""
        if self._reply is not None and self._reply.turn == turn:
            self._reply.end()

    def stop(self) -> None:
        """Be silent at once, and forget the rest of the reply."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._speaker.flush()
        self._reply = None

    async def aclose(self) -> None:
        """Stop, and leave no task behind."""
        self.stop()
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    async def _play(self, reply: _Reply, listener: PlayerListener) -> None:
        began = False
        try:
            while (pcm := await reply.next_pcm()) is not None:
                pcm = quieter(pcm, self.volume)
                for start in range(0, len(pcm), SPEECH.bytes(PIECE_MS)):
                    if not began:
                        listener.playback_began(reply.turn, asyncio.get_running_loop().time())
                        began = True
                    await self._speaker.write(pcm[start : start + SPEECH.bytes(PIECE_MS)])
            await self._speaker.drain()
        except HardwareError as error:
            _log.warning("player: the speaker failed, turn=%d: %s", reply.turn, error)
            listener.playback_failed(reply.turn)
        else:
            listener.playback_finished(reply.turn)


class _Reply:
    """The sound of one reply: its jitter buffer, its decoder, and the waiting for more."""

    def __init__(self, turn: int, prebuffer_ms: float) -> None:
        self.turn = turn
        self._buffer = JitterBuffer(prebuffer_ms)
        self._decoder = OpusDecoder()
        self._has_more = asyncio.Event()

    def push(self, frame: AudioFrame) -> None:
        try:
            ms = packet_ms(frame.packet)
        except AudioError:
            ms = FRAME_MS  # keeps its place, to be concealed when its time comes
        pushed = self._buffer.push(frame.sequence, frame.packet, ms)
        if pushed is not Pushed.TAKEN:
            _log.info("player: a packet was dropped, turn=%d code=%s", self.turn, pushed)
        self._has_more.set()

    def end(self) -> None:
        self._buffer.end()
        self._has_more.set()

    async def next_pcm(self) -> bytes | None:
        """The next sound, decoded; waits until there is some. None at the end."""
        while True:
            match self._buffer.pull():
                case Play(packet, ms):
                    return self._decode(packet, ms)
                case Conceal(ms):
                    return self._decoder.conceal(ms)
                case Finished():
                    return None
                case Wait():
                    self._has_more.clear()
                    await self._has_more.wait()

    def _decode(self, packet: bytes, ms: float) -> bytes:
        try:
            return self._decoder.decode(packet)
        except AudioError as error:
            _log.info("player: a packet was concealed, turn=%d: %s", self.turn, error)
            return self._decoder.conceal(ms)
