"""The virtual body: button, microphone, speaker and lights of a toy without hardware.

It behaves like the real thing: sound takes as long as it lasts, a flushed speaker forgets, and what hardware cannot do
(press a button that is down, open a microphone twice, play half a sample) raises HardwareError. No threads, no tasks:
everything is a timer of the running loop, so a test may bring a loop with a clock of its own.
"""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pommai.audio import SPEECH, AudioFormat
from pommai.device.mind.lights import Color
from pommai.errors import HardwareError

PIECE_MS: Final = 20
"""How much sound a microphone hands over at a time."""

AHEAD_MS: Final = 60
"""How far a speaker lets its writer run ahead of the ear."""

BOUNCE_MS: Final = 2
"""Time between the edges of a bouncing contact."""


class VirtualButton:
    """A button that a program presses; `bounces` makes its contact chatter as real ones do."""

    def __init__(self) -> None:
        self.down = False
        self._on_edge: Callable[[bool, float], None] | None = None

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """See `ports.Button`."""
        if self._on_edge is not None:
            raise HardwareError("the button is watched already")
        self._on_edge = on_edge

    def press(self, *, bounces: int = 0) -> None:
        """Push it down; the contact opens and closes again `bounces` times within the next milliseconds."""
        if self.down:
            raise HardwareError("the button is down already")
        self._move(True, bounces)

    def release(self, *, bounces: int = 0) -> None:
        """Let it up again."""
        if not self.down:
            raise HardwareError("the button is up already")
        self._move(False, bounces)

    def _move(self, down: bool, bounces: int) -> None:
        if self._on_edge is None:
            raise HardwareError("nobody watches the button")
        self.down = down
        now_ms = asyncio.get_running_loop().time() * 1000
        for bounce in range(bounces):
            self._on_edge(down, now_ms + 2 * bounce * BOUNCE_MS)
            self._on_edge(not down, now_ms + (2 * bounce + 1) * BOUNCE_MS)
        self._on_edge(down, now_ms + 2 * bounces * BOUNCE_MS)


class KeyboardButton(VirtualButton):
    """The space bar as the button, in a terminal, which reports no key-up.

    The first stroke pushes the button down. Any stroke while it is down lets it up `REPEAT_MS` later, unless another
    one comes first. So both ways work: tap the bar to talk and tap it again, or hold it (its repeats keep the button
    down) and let go. `q`, Ctrl-D and a closed terminal call `on_quit`.
    """

    REPEAT_MS: Final = 150

    def __init__(self, file_descriptor: int, on_quit: Callable[[], None]) -> None:
        super().__init__()
        self._fd = file_descriptor
        self._on_quit = on_quit
        self._release: asyncio.TimerHandle | None = None
        self._saved: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> KeyboardButton:
        """Read the terminal key by key, without echo, until the block is left."""
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._release is not None:
            self._release.cancel()
        if self._saved is not None:
            with suppress(termios.error):  # the window is closed: nobody is left to need the echo
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def _read(self) -> None:
        try:
            keys = os.read(self._fd, 64)
        except OSError:  # EIO: so does a closed window look from here
            keys = b""
        if not keys or b"q" in keys or b"\x04" in keys:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._on_quit()
        elif b" " in keys and not self.down:
            self.press()
        elif b" " in keys:
            if self._release is not None:
                self._release.cancel()
            self._release = asyncio.get_running_loop().call_later(self.REPEAT_MS / 1000, self.release)


class VirtualMic:
    """A microphone in a quiet room, where now and then somebody speaks."""

    def __init__(self) -> None:
        self.is_open = False
        self.on_spoken: Callable[[], None] = _nothing
        self._speech = bytearray()
        self._on_pcm: Callable[[bytes], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def speak(self, pcm: bytes) -> None:
        """Say `pcm` from now on, in place of what was not said yet; a closed microphone misses nothing of it.

        `on_spoken` is called when the last piece has been heard.
        """
        if len(pcm) % AudioFormat.SAMPLE_BYTES:
            raise HardwareError("half a sample cannot be said")
        self._speech = bytearray(pcm)

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        """See `ports.Mic`."""
        if self.is_open:
            raise HardwareError("the microphone is open already")
        self.is_open = True
        self._on_pcm = on_pcm
        self._wait(asyncio.get_running_loop().time())

    def close(self) -> None:
        """See `ports.Mic`."""
        self.is_open = False
        self._on_pcm = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def unsaid_ms(self) -> float:
        """Milliseconds of speech that nobody has heard yet."""
        return SPEECH.ms(len(self._speech))

    def _wait(self, since_s: float) -> None:
        due_s = since_s + PIECE_MS / 1000
        self._timer = asyncio.get_running_loop().call_at(due_s, self._hear, due_s)

    def _hear(self, due_s: float) -> None:
        n_bytes = SPEECH.bytes(PIECE_MS)
        piece = bytes(self._speech[:n_bytes])
        del self._speech[:n_bytes]
        self._wait(due_s)
        if self._on_pcm is not None:
            self._on_pcm(piece.ljust(n_bytes, b"\0"))
        if piece and not self._speech:
            self.on_spoken()


class VirtualSpeaker:
    """A speaker in real time that remembers what was heard of it: a flushed sound stops at the sample it had reached.

    What was heard of it is kept without its pauses; `gaps_ms` tells how long the unwanted ones were: those inside a
    flow of sound, between one drain or flush and the next.
    """

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []
        self._queued: deque[tuple[float, bytes]] = deque()
        self._heard = bytearray()
        self._until_s = 0.0
        self._is_flowing = False
        self._is_writing = False

    async def write(self, pcm: bytes) -> None:
        """See `ports.Speaker`."""
        if len(pcm) % AudioFormat.SAMPLE_BYTES:
            raise HardwareError("half a sample cannot be played")
        if self._is_writing:
            raise HardwareError("two sounds are written at once")
        now_s = self._settle()
        if self._is_flowing and self._until_s < now_s:
            self.gaps_ms.append((now_s - self._until_s) * 1000)
        self._is_flowing = True
        start_s = max(now_s, self._until_s)
        self._queued.append((start_s, pcm))
        self._until_s = start_s + SPEECH.ms(len(pcm)) / 1000
        self._is_writing = True
        try:
            await asyncio.sleep(max(0.0, self._until_s - AHEAD_MS / 1000 - now_s))
        finally:
            self._is_writing = False

    async def drain(self) -> None:
        """See `ports.Speaker`."""
        await asyncio.sleep(max(0.0, self._until_s - asyncio.get_running_loop().time()))
        self._is_flowing = False
        self._settle()

    def flush(self) -> None:
        """See `ports.Speaker`."""
        now_s = self._settle()
        self._queued.clear()
        self._until_s = min(self._until_s, now_s)
        self._is_flowing = False

    def take_heard(self) -> bytes:
        """What was really played since the last call, without the pauses in between; forgets it."""
        self._settle()
        heard = bytes(self._heard)
        self._heard.clear()
        return heard

    def _settle(self) -> float:
        """Move what has been played by now from the queue to the memory; returns now."""
        now_s = asyncio.get_running_loop().time()
        while self._queued and (sound := self._queued[0])[0] < now_s:
            start_s, pcm = sound
            n_bytes = SPEECH.bytes((now_s - start_s) * 1000 + 1e-6)
            self._heard += pcm[:n_bytes]
            if n_bytes < len(pcm):
                self._queued[0] = (start_s + SPEECH.ms(n_bytes) / 1000, pcm[n_bytes:])
                break
            self._queued.popleft()
        return now_s


class TerminalLights:
    """Lights that somebody else draws: `color` is what the LED shows, `on_change` is called when it changes."""

    can_dim: Final = True

    def __init__(self, on_change: Callable[[Color], None] | None = None) -> None:
        self.color = Color(0.0, 0.0, 0.0)
        self._on_change = on_change

    def show(self, color: Color) -> None:
        """See `ports.Lights`."""
        if not all(0.0 <= channel <= 1.0 for channel in (color.red, color.green, color.blue)):
            raise HardwareError(f"an LED cannot shine like {color}")
        if color != self.color:
            self.color = color
            if self._on_change is not None:
                self._on_change(color)


def _nothing() -> None:
    """What happens at the end of speech when nobody waits for it."""
