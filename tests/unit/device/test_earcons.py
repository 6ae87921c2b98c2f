"""The toy's small sounds: short, gentle, without clicks, and told apart by their shape alone."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from pommai.audio import FULL_SCALE, SPEECH
from pommai.device.mind.effects import Earcon
from pommai.device.speech.earcons import NOTES, sound

MS = {Earcon.START: 80, Earcon.END: 100, Earcon.ERROR: 200}


def samples(earcon: Earcon) -> list[int]:
    pcm = sound(earcon)
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def notes_hz(earcon: Earcon) -> list[float]:
    """What is heard as the pitch of each note: how often the sound goes up through zero in its loud part."""
    pitches, start = [], 0
    for _, ms in NOTES[earcon]:
        note = samples(earcon)[start : start + SPEECH.samples(ms)]
        start += SPEECH.samples(ms)
        rising = [n for n, (one, next_) in enumerate(pairwise(note)) if one < 0 <= next_]
        pitches.append((len(rising) - 1) * SPEECH.rate_hz / (rising[-1] - rising[0]))
    return pitches


@pytest.mark.parametrize("earcon", Earcon)
def test_it_is_short_gentle_and_does_not_click(earcon: Earcon) -> None:
    heard = samples(earcon)
    assert SPEECH.ms(len(sound(earcon))) == MS[earcon]
    assert 60 <= MS[earcon] <= 200
    loudest = max(abs(sample) for sample in heard)
    assert FULL_SCALE * 10 ** (-20 / 20) < loudest <= FULL_SCALE * 10 ** (-12 / 20)
    assert max(abs(sample) for sample in (*heard[:10], *heard[-10:])) < FULL_SCALE * 10 ** (-50 / 20)
    assert max(abs(one - next_) for one, next_ in pairwise(heard)) < loudest / 2  # 880 Hz and its octave: no jump


def test_each_has_a_melody_of_its_own() -> None:
    assert MS[Earcon.START] <= 80
    start, end, error = (notes_hz(earcon) for earcon in (Earcon.START, Earcon.END, Earcon.ERROR))
    assert start == sorted(start)
    assert start[1] > 1.2 * start[0]
    assert end == sorted(end, reverse=True)
    assert len(error) == 2
    assert max(error) < 320 < min(*start, *end)
    assert error[1] < error[0]


@pytest.mark.parametrize("earcon", Earcon)
def test_it_is_computed_once(earcon: Earcon) -> None:
    assert sound(earcon) is sound(earcon)
