"""Text to speech by hibari, inside this process: a warm female voice, 15 to 45 ms a sentence on one core."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

from pommai.audio import SPEECH
from pommai.relay.providers.local_engine import EngineThread, importing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_GAIN: Final = 2.5
"""hibari peaks at 0.37; this brings it to full voice."""

_KNEE: Final = 0.8
"""Above it samples are bent towards 1.0, which none reaches: loud vowels do not clip."""

_QUIET: Final = 0.004
"""Below it, before the gain, is the silence that hibari puts around a sentence: 290 ms before, 450 ms after."""

_LEAD_MS: Final = 30
_PAUSE_MS: Final = 220
"""What is left of that silence: the answer begins at once, and there is a breath between two sentences."""

_FADE_MS: Final = 5
_PIECE_MS: Final = 240
_SEED: Final = 1
"""Of the voice's noise: the same sentence always sounds the same."""


class LocalTTS:
    """The embedded `TTS`."""

    name = "local"

    def __init__(self, voice: Any) -> None:
        """Made by `load`: a hibari voice."""
        self._voice = voice
        self._thread = EngineThread("tts")

    @classmethod
    def load(cls) -> LocalTTS:
        """Read the weights and warm up: about 0.8 s, blocking. Raises MissingExtra."""
        with importing("voice"):
            from hibari import Hibari
        tts = cls(Hibari(threads=1))
        for phonemes in tts._phonemes("Hello, I am warming up my voice."):
            tts._spoken(phonemes)
        return tts

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """One sentence as PCM in the `SPEECH` format, in pieces of at most 240 ms.

        A text without anything to pronounce (symbols, emoji, other scripts) gives no sound at all.
        """
        for phonemes in await self._thread.run(self._phonemes, text):
            pcm = await self._thread.run(self._spoken, phonemes)
            step = SPEECH.bytes(_PIECE_MS)
            for start in range(0, len(pcm), step):
                yield pcm[start : start + step]

    def close(self) -> None:
        """End the engine's thread; `speak` raises ProviderError from now on."""
        self._thread.close()

    def _phonemes(self, text: str) -> list[str]:
        """The text in the voice's alphabet, in parts it can say at once; most sentences are one."""
        plain = "".join(
            character
            for character in unicodedata.normalize("NFKC", text)
            if character.isdecimal() or not character.isdigit()  # of "\u2460" and its like hibari knows no number
        )
        if not any(character.isalnum() for character in plain):
            return []  # hibari breathes at "..."
        phonemes: list[str] = self._voice.phonemize(plain)
        return phonemes

    def _spoken(self, phonemes: str) -> bytes:
        """The sound of one part: trimmed, at full voice, 16 bit."""
        import numpy as np

        samples = _trimmed(self._voice.from_phonemes(phonemes, seed=_SEED)) * np.float32(_GAIN)
        room = np.float32(1 - _KNEE)
        over = np.maximum(np.abs(samples) - np.float32(_KNEE), 0)
        bent = np.sign(samples) * (_KNEE + room * np.tanh(over / room))
        limited = np.where(over > 0, bent, samples)
        return bytes((limited * 32767).astype("<i2").tobytes())


def _trimmed(samples: Samples) -> Samples:
    """`samples` with little silence around, faded in and out; empty where there is nothing but silence."""
    import numpy as np

    loud = np.flatnonzero(np.abs(samples) > _QUIET)
    if not len(loud):
        return samples[:0]
    start = max(0, int(loud[0]) - SPEECH.samples(_LEAD_MS))
    trimmed = samples[start : int(loud[-1]) + SPEECH.samples(_PAUSE_MS)].copy()
    fade = np.linspace(0, 1, min(SPEECH.samples(_FADE_MS), len(trimmed)), dtype=np.float32)
    trimmed[: len(fade)] *= fade
    trimmed[-len(fade) :] *= fade[::-1]
    return trimmed
