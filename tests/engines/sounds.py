"""Sounds to listen to: speech made by the voice under test, and what must not be taken for speech."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from pommai.audio import SPEECH
from pommai.codec import Framer, OpusEncoder
from pommai.protocol import FRAME_MS
from pommai.relay.ports import TTS, Utterance

Wave = NDArray[np.float64]

_T = np.arange(SPEECH.samples(3000)) / SPEECH.rate_hz


def utterance(pcm: bytes) -> Utterance:
    """`pcm` as a toy would send it."""
    framer = Framer(OpusEncoder(), FRAME_MS)
    return Utterance((*framer.push(pcm), *framer.flush()))


async def spoken(tts: TTS, text: str) -> bytes:
    """Everything the voice says for `text`."""
    async with aclosing(tts.speak(text)) as pieces:
        return b"".join([piece async for piece in pieces])


def words(text: str) -> list[str]:
    """The words alone, in small letters."""
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def samples(pcm: bytes) -> NDArray[np.int32]:
    """PCM as numbers that can be added up without overflow."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.int32)


def pcm(wave: Wave) -> bytes:
    """Samples between -1 and 1 as 16 bit PCM."""
    return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()


def _noise(level: float) -> Wave:
    return level * np.random.default_rng(7).standard_normal(len(_T))


def _sine(hz: float) -> Wave:
    return np.sin(2 * np.pi * hz * _T)


def _taps() -> Wave:
    """A finger on the case, five times."""
    fading = np.exp(-np.arange(len(_T)) % (len(_T) // 5) / 100)
    return 0.8 * np.sign(_noise(1)) * fading


def _clicks() -> Wave:
    wave = np.zeros_like(_T)
    wave[::6000] = 0.9
    return wave


def _chord() -> Wave:
    """Three notes with overtones, as of a toy piano."""
    return sum((0.1 * _sine(n * hz) / n for hz in (220, 277, 330) for n in (1, 2, 3)), start=np.zeros_like(_T))


def _melody() -> Wave:
    notes = (262, 294, 330, 349, 392, 440, 494, 523)
    length = len(_T) // len(notes)
    return np.concatenate([0.4 * _sine(hz)[:length] * np.hanning(length) for hz in notes])


NOT_SPEECH: dict[str, Callable[[], Wave]] = {
    "silence": lambda: np.zeros_like(_T),
    "hum": lambda: 0.1 * _sine(50) + 0.05 * _sine(150),
    "hiss": lambda: _noise(0.01),
    "loud noise": lambda: _noise(0.3),
    "rubbing cloth": lambda: _noise(0.2) * np.abs(np.sin(2 * np.pi * 1.7 * _T)),
    "clicks": _clicks,
    "taps": _taps,
    "a tone": lambda: 0.5 * _sine(440),
    "a chord": _chord,
    "a melody": _melody,
}
