"""Earcons: the toy's own small sounds, gentle and short. Pure: computed from a few notes, each once.

PCM is 24 kHz mono 16 bit with a peak of -14 dBFS before the volume; every note fades in and out, so nothing clicks.
"""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import Final

from pommai.audio import FULL_SCALE, SPEECH
from pommai.device.mind.effects import Earcon

PEAK_DBFS: Final = -14.0
FADE_IN_MS: Final = 6.0
"""Long enough not to click, short enough to be a beginning."""

OVERTONE: Final = 0.2
"""How much of the octave above is mixed in: a pure tone sounds like a machine."""


NOTES: Final[dict[Earcon, tuple[tuple[float, float], ...]]] = {
    Earcon.START: ((659.3, 35), (880.0, 45)),
    Earcon.END: ((880.0, 40), (659.3, 60)),
    Earcon.ERROR: ((293.7, 90), (246.9, 110)),
}
"""Frequency in Hz and length in ms of each note.

The start rises, and is as short as can be, for the child talks at once; the end falls by the same notes; an error is
two low ones, the second lower.
"""


@cache
def sound(earcon: Earcon) -> bytes:
    """The PCM of `earcon`.

    Its first call takes 1 to 2 ms on a server and some 25 ms on the toy: ask for all of them before a child waits.
    """
    samples = array.array("h", (sample for hz, ms in NOTES[earcon] for sample in _note(hz, ms)))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _note(hz: float, ms: float) -> Sequence[int]:
    """One note: in over `FADE_IN_MS`, then out like a struck bell, both along a cosine."""
    n_samples, n_in = SPEECH.samples(ms), SPEECH.samples(FADE_IN_MS)
    peak = FULL_SCALE * 10 ** (PEAK_DBFS / 20) / (1 + OVERTONE)
    note = []
    for n in range(n_samples):
        place = n / n_in if n < n_in else (n_samples - 1 - n) / (n_samples - 1 - n_in)
        angle = 2 * math.pi * hz * n / SPEECH.rate_hz
        wave = math.sin(angle) + OVERTONE * math.sin(2 * angle)
        note.append(round(peak * (0.5 - 0.5 * math.cos(math.pi * place)) * wave))
    return note
