"""The real microphone and speaker, through PyAudio (PortAudio); the only importer of `pyaudio`.

Both streams stay open from the beginning, because the first callback of a sound card comes 1.4 to 1.6 s after it was
opened. While nobody listens, what the microphone gives is dropped in the callback itself and reaches no other code.
PortAudio calls from a thread of its own: it hands over through the loop, and takes from a buffer under a lock.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Self

from pommai.audio import SPEECH, AudioFormat
from pommai.errors import HardwareError, MissingExtra

PIECE_MS: Final = 20
"""How much sound one callback carries."""

AHEAD_MS: Final = 40
"""How far a writer may run ahead of the callbacks; the card adds some 20 ms of its own."""

FIRST_SOUND_S: Final = 5.0
"""How long a sound card may take to begin."""

STALLED_S: Final = 2.0
"""A speaker that takes nothing for this long has gone."""


class SoundCard:
    """`mic` and `speaker` of one sound card; use it as `async with SoundCard() as card`.

    `name`: a part of the name of the card, if it is not the default one (indices change from boot to boot). Entering
    blocks for some 100 ms, and raises HardwareError if there is no card that hears and plays 24 kHz mono, and
    MissingExtra without PyAudio.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._stack = ExitStack()
        self.mic = SoundCardMic()
        self.speaker = SoundCardSpeaker()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        began = [self.mic.attach(loop), self.speaker.attach(loop)]
        with ExitStack() as stack:
            self._open(stack)
            try:
                async with asyncio.timeout(FIRST_SOUND_S):
                    for first_sound in began:
                        await first_sound.wait()
            except TimeoutError:
                raise HardwareError(f"the sound card gave no sound within {FIRST_SOUND_S:.0f} s") from None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.mic.close()
        self.speaker.flush()
        self._stack.close()

    def _open(self, stack: ExitStack) -> None:
        try:
            import pyaudio
        except ImportError as error:
            raise MissingExtra("the package pyaudio is not installed (Debian: python3-pyaudio)") from error
        with _quiet_libraries():
            try:
                audio = pyaudio.PyAudio()
                stack.callback(_quietly, audio.terminate)
                common = {
                    "rate": SPEECH.rate_hz,
                    "channels": 1,
                    "format": pyaudio.paInt16,
                    "frames_per_buffer": SPEECH.samples(PIECE_MS),
                }
                microphone = audio.open(
                    **common, input=True, input_device_index=self._index(audio, "Input"), stream_callback=self.mic.take
                )
                stack.callback(_quietly, microphone.close)
                speaker = audio.open(
                    **common,
                    output=True,
                    output_device_index=self._index(audio, "Output"),
                    stream_callback=self.speaker.give,
                )
                stack.callback(_quietly, speaker.close)
            except OSError as error:  # PortAudio's own text and number
                raise HardwareError(f"the sound card cannot be opened: {_reason(error)}") from error
        self.speaker.latency_s = speaker.get_output_latency()

    def _index(self, audio: Any, direction: str) -> int | None:
        """PortAudio's index of the wanted card; None for the default one."""
        devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
        able = [device for device in devices if device[f"max{direction}Channels"] > 0]
        if not able:
            raise HardwareError(f"there is no {'microphone' if direction == 'Input' else 'speaker'}")
        if not self._name:
            return None
        for device in able:
            if self._name.lower() in str(device["name"]).lower():
                return int(device["index"])
        known = ", ".join(sorted({str(device["name"]) for device in able}))
        raise HardwareError(f"no {direction.lower()} of a sound card is called {self._name!r}; there are: {known}")


class SoundCardMic:
    """See `ports.Mic`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = asyncio.Event()
        self._on_pcm: Callable[[bytes], None] | None = None
        self._opened = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """Hand over to `loop` from now on; the event is set when the card has begun."""
        self._loop = loop
        return self._began

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        """See `ports.Mic`. Raises HardwareError if it is open, or the card is not."""
        if self._loop is None or self._on_pcm is not None:
            raise HardwareError("the microphone is open already, or its sound card is not")
        self._opened += 1
        self._on_pcm = on_pcm

    def close(self) -> None:
        """See `ports.Mic`."""
        self._on_pcm = None

    def take(self, pcm: bytes, _n_samples: int, _times: object, _status: int) -> tuple[None, int]:
        """PortAudio's callback, in its thread."""
        if self._loop is not None and not self._began.is_set():
            self._loop.call_soon_threadsafe(self._began.set)
        if self._loop is not None and self._on_pcm is not None:
            self._loop.call_soon_threadsafe(self._arrived, self._opened, pcm)
        return None, _CONTINUE

    def _arrived(self, opened: int, pcm: bytes) -> None:
        if self._on_pcm is not None and opened == self._opened:
            self._on_pcm(pcm)


class SoundCardSpeaker:
    """See `ports.Speaker`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = asyncio.Event()
        self._taken = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self.latency_s = 0.0
        """From the callback to the ear, as the sound card says."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """Hand over to `loop` from now on; the event is set when the card has begun."""
        self._loop = loop
        return self._began

    async def write(self, pcm: bytes) -> None:
        """See `ports.Speaker`. Raises HardwareError if the card takes nothing any more."""
        with self._lock:
            self._waiting += pcm
        await self._until_waiting(SPEECH.bytes(AHEAD_MS))

    async def drain(self) -> None:
        """See `ports.Speaker`. Raises HardwareError if the card takes nothing any more."""
        await self._until_waiting(0)
        await asyncio.sleep(self.latency_s)

    def flush(self) -> None:
        """See `ports.Speaker`."""
        with self._lock:
            self._waiting.clear()

    def give(self, _pcm: None, n_samples: int, _times: object, _status: int) -> tuple[bytes, int]:
        """PortAudio's callback, in its thread: the next sound, filled up with silence."""
        n_bytes = n_samples * AudioFormat.SAMPLE_BYTES
        with self._lock:
            pcm = bytes(self._waiting[:n_bytes])
            del self._waiting[:n_bytes]
        if self._loop is not None and not self._began.is_set():
            self._loop.call_soon_threadsafe(self._began.set)
        if self._loop is not None and pcm:
            self._loop.call_soon_threadsafe(self._taken.set)
        return pcm.ljust(n_bytes, b"\0"), _CONTINUE

    async def _until_waiting(self, n_bytes: int) -> None:
        """Return when at most `n_bytes` wait for the card."""
        while True:
            self._taken.clear()
            with self._lock:
                if len(self._waiting) <= n_bytes:
                    return
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._taken.wait()
            except TimeoutError:
                raise HardwareError(f"the speaker took no sound for {STALLED_S:.0f} s") from None


_CONTINUE: Final = 0
"""PortAudio's paContinue."""


def _reason(error: OSError) -> str:
    """PortAudio's text for what went wrong; PyAudio puts it in the second place, or in the errno."""
    return str(error.args[1] if len(error.args) > 1 else error)


def _quietly(close: Callable[[], None]) -> None:
    with _quiet_libraries():
        close()


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """ALSA and JACK write pages about every device that is not there to stderr; say nothing of it."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
