"""The two lines from one opening of a sound card to its ends: what PortAudio calls.

It calls from threads of its own, every 12 to 30 ms, for as long as the card is open.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Final

from pommai.audio import SPEECH
from pommai.device.body.ends import SoundCardMic, SoundCardSpeaker, tell
from pommai.device.body.halfband import Decimator, Interpolator
from pommai.device.body.portaudio import ABORT, CONTINUE, INPUT_OVERFLOW, OUTPUT_UNDERFLOW, Callback

SETTLED: Final = 1000
"""After so many callbacks (12 s of the speaker, 30 s of the microphone) a line keeps its thread: see `Lines._beat`."""


class Lines:
    """Both lines; see `portaudio.Ends`.

    `beats` counts callbacks of the microphone and of the speaker: a line that no longer beats is dead. Once cut, the
    callbacks touch nothing any more, also those of a card that hung and comes back to life in a forgotten thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, mic: SoundCardMic, speaker: SoundCardSpeaker) -> None:
        self._loop = loop
        self._mic = mic
        self._speaker = speaker
        self._cut = False
        self.beats = [0, 0]
        self.began = (asyncio.Event(), asyncio.Event())
        self.rates_hz = [0, 0]

    def cut(self) -> None:
        """End both lines for ever."""
        self._cut = True

    def taker(self, rate_hz: int, channels: int) -> Callback:
        """See `portaudio.Ends`."""
        decimator = None if rate_hz == SPEECH.rate_hz else Decimator(channels)
        self.rates_hz[0] = rate_hz

        def take(pcm: bytes | None, _n_samples: int, _times: object, status: int) -> tuple[None, int]:
            if self._cut:
                return None, ABORT
            self._beat(0)
            if self._mic.listening and pcm:
                heard = pcm if decimator is None else decimator.push(pcm)
                self._mic.take(heard, overflow=bool(status & INPUT_OVERFLOW))
            elif decimator is not None:
                decimator.forget()
            return None, CONTINUE

        return take

    def giver(self, rate_hz: int, channels: int) -> Callback:
        """See `portaudio.Ends`."""
        interpolator = None if rate_hz == SPEECH.rate_hz else Interpolator(channels)
        self.rates_hz[1] = rate_hz

        def give(_pcm: bytes | None, n_samples: int, _times: object, status: int) -> tuple[bytes, int]:
            if self._cut:
                return b"", ABORT
            self._beat(1)
            n_bytes = SPEECH.SAMPLE_BYTES * n_samples * SPEECH.rate_hz // rate_hz
            pcm = self._speaker.give(n_bytes, underflow=bool(status & OUTPUT_UNDERFLOW))
            if interpolator is None:
                return pcm.ljust(n_bytes, b"\0"), CONTINUE
            if not pcm and interpolator.at_rest:
                return bytes(SPEECH.SAMPLE_BYTES * n_samples * channels), CONTINUE
            return interpolator.push(pcm.ljust(n_bytes, b"\0")), CONTINUE

        return give

    def _beat(self, line: int) -> None:
        """Count a callback.

        PyAudio takes a Python thread state at each callback and gives it back after it; CPython then throws it away,
        with the 16 kB of memory that it has mapped for it: a third of what a callback costs. Taken once more and kept,
        it is there for the next one. It is never given back, since a card that goes does not tell its thread; so a card
        must have proved to stay, or one with a loose contact would cost memory each time.
        """
        self.beats[line] += 1
        if self.beats[line] == 1:
            tell(self._loop, self.began[line].set)
        elif self.beats[line] == SETTLED:
            ctypes.pythonapi.PyGILState_Ensure()
