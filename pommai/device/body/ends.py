"""Microphone and speaker of a sound card, between PortAudio's threads and the loop.

What the microphone gives while nobody listens is dropped in PortAudio's thread and reaches no other code. Both ends
outlive the card: it may go and come back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pommai.audio import SPEECH
from pommai.errors import HardwareError

AHEAD_MS: Final = 24
"""How far a writer may run ahead of the callbacks; with 36 ms in the card that makes the 60 ms of `ports.Speaker`."""

TOGETHER: Final = 2
"""Pieces of the microphone that are handed over at once: a packet needs two, and waking the loop costs most."""

STALLED_S: Final = 2.0
"""A speaker that takes nothing for this long has gone."""


class SoundCardMic:
    """See `ports.Mic`. `xruns`: how often the card lost what was said, because nobody took it in time."""

    def __init__(self) -> None:
        self.xruns = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_pcm: Callable[[bytes], None] | None = None
        self._opened = 0
        self._heard: deque[tuple[int, bytes]] = deque()

    def connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """There is a card now; hand over to `loop`."""
        self._loop = loop

    def lose(self) -> None:
        """The card has gone: whoever listens hears nothing more, and must open the microphone again."""
        self._loop = self._on_pcm = None

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        """See `ports.Mic`. Raises HardwareError if it is open, or there is no card."""
        if self._loop is None:
            raise HardwareError("there is no sound card to listen with")
        if self._on_pcm is not None:
            raise HardwareError("the microphone is open already")
        self._opened += 1
        self._on_pcm = on_pcm

    def close(self) -> None:
        """See `ports.Mic`."""
        self._hand_over()
        self._on_pcm = None

    @property
    def listening(self) -> bool:
        """Whether somebody wants to hear."""
        return self._on_pcm is not None

    def take(self, pcm: bytes, *, overflow: bool = False) -> None:
        """Called in PortAudio's thread with the next sound; `overflow`: some of it was lost before."""
        loop = self._loop
        if loop is None or self._on_pcm is None:
            return
        self.xruns += overflow
        self._heard.append((self._opened, pcm))
        if len(self._heard) >= TOGETHER:
            tell(loop, self._hand_over)

    def _hand_over(self) -> None:
        """Give what has been heard to whoever listens; what is from before this opening, to nobody."""
        pieces = []
        while self._heard:  # PortAudio's thread may add to it meanwhile
            opened, pcm = self._heard.popleft()
            if opened == self._opened:
                pieces.append(pcm)
        if self._on_pcm is not None and pieces:
            self._on_pcm(b"".join(pieces))


class SoundCardSpeaker:
    """See `ports.Speaker`. `xruns`: how often the card had nothing to play in the middle of a sound."""

    def __init__(self) -> None:
        self.xruns = 0
        self.latency_s = 0.0
        """From the callback to the ear, as the sound card says."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._losses = 0
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._playing = False
        self._pieces = 0
        self._wake_at = -1
        self._taken = asyncio.Event()

    def connect(self, loop: asyncio.AbstractEventLoop, latency_s: float = 0.0) -> None:
        """There is a card now; hand over to `loop`."""
        self._loop = loop
        self.latency_s = latency_s

    def lose(self) -> None:
        """The card has gone: whoever writes or waits gets a HardwareError now."""
        self._loop = None
        self._losses += 1
        self.flush()

    async def write(self, pcm: bytes) -> None:
        """See `ports.Speaker`. Raises HardwareError if there is no card, or it takes nothing any more."""
        if self._loop is None:
            raise HardwareError("there is no sound card to play with")
        with self._lock:
            self._waiting += pcm
        await self._until_waiting(SPEECH.bytes(AHEAD_MS))

    async def drain(self) -> None:
        """See `ports.Speaker`. Raises HardwareError if there is no card, or it takes nothing any more."""
        if self._loop is None:
            raise HardwareError("there is no sound card to play with")
        losses = self._losses
        await self._until_waiting(0)
        await asyncio.sleep(self.latency_s)
        self._still_there(losses)

    def flush(self) -> None:
        """See `ports.Speaker`."""
        with self._lock:
            self._waiting.clear()
            self._playing = False
        self._taken.set()

    def give(self, n_bytes: int, *, underflow: bool = False) -> bytes:
        """Called in PortAudio's thread: at most `n_bytes` of the next sound; `underflow`: the card ran dry before."""
        if not self._waiting and not self._playing and self._wake_at < 0:
            return b""  # nearly always so, 83 times a second
        with self._lock:
            self.xruns += underflow and self._playing
            pcm = bytes(self._waiting[:n_bytes])
            del self._waiting[:n_bytes]
            self._playing = bool(pcm)
            self._pieces += self._playing
            wake = len(self._waiting) <= self._wake_at
            if wake:
                self._wake_at = -1
        loop = self._loop  # once: the card may be lost between two looks
        if wake and loop is not None:
            tell(loop, self._taken.set)
        return pcm

    async def _until_waiting(self, n_bytes: int) -> None:
        """Return when at most `n_bytes` wait for the card."""
        losses = self._losses
        while True:
            self._still_there(losses)
            self._taken.clear()
            with self._lock:
                if len(self._waiting) <= n_bytes:
                    return
                self._wake_at = max(self._wake_at, n_bytes)  # of two who wait, both are woken by the earlier mark
                pieces = self._pieces
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._taken.wait()
            except TimeoutError:
                if self._pieces == pieces:
                    raise HardwareError(f"the speaker took no sound for {STALLED_S:.0f} s") from None

    def _still_there(self, losses: int) -> None:
        if self._losses != losses:
            raise HardwareError("the sound card has gone")


def tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Hand over to the loop; one that has been closed needs to know nothing any more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
