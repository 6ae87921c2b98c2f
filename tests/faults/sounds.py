"""What a child hears, told apart by ear: the tones of the scripted voice, and the toy's own small sounds.

The toy must play at full volume: then its earcons are found sample by sample.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

from pommai import starter
from pommai.audio import SPEECH, level_dbfs, write_wav
from pommai.device.mind.effects import Earcon
from pommai.device.speech.earcons import sound
from pommai.relay.providers.scripted import pitch_hz, tone
from pommai.relay.sentences import SentenceSplitter
from pommai.starter import Phrase, PhraseKind

WINDOW_MS: Final = 20
QUIET_DBFS: Final = -45.0
"""Less than this is a pause."""

REPLY: Final = ("I am a toy that follows a script.", "I say the same to everyone.")
"""What `pommai relay run --llm scripted` always answers."""


def pitches(pcm: bytes) -> list[int]:
    """The scripted pitches in `pcm`, in order, each once in a row: which sentences were heard. Earcons do not count."""
    return [pitch for pitch, _ in groupby(pitch for _, pitch in _steady(pcm))]


def reply_in(pcm: bytes) -> bytes:
    """`pcm` from the first sound of `REPLY` on; nothing if that is not in it."""
    first = pitch_hz(REPLY[0])
    begins = next((start for start, pitch in _steady(pcm) if pitch == first), len(pcm))
    return pcm[begins:]


def pitches_of(*texts: str) -> list[int]:
    """The pitches in which the scripted voice says `texts`."""
    return [pitch_hz(text) for text in texts]


def sentences_of(phrase: Phrase) -> list[int]:
    """The pitches in which the scripted voice says a phrase, sentence by sentence."""
    splitter = SentenceSplitter()
    sentences = [*splitter.push(phrase.text), *splitter.flush()]
    return [pitch for pitch, _ in groupby(pitches_of(*sentences))]


def said(pcm: bytes, kind: PhraseKind) -> bool:
    """Whether `pcm` ends with some phrase of a kind, said to its end."""
    return before(pcm, kind) is not None


def before(pcm: bytes, kind: PhraseKind) -> list[int] | None:
    """The pitches that were heard before the phrase of a kind with which `pcm` ends; None if it does not."""
    heard = pitches(pcm)
    for phrase in starter.load():
        if phrase.kind is kind and heard[-len(sentences_of(phrase)) :] == sentences_of(phrase):
            return heard[: -len(sentences_of(phrase))]
    return None


def earcons(pcm: bytes) -> list[Earcon]:
    """The toy's small sounds that are wholly in `pcm`, in order."""
    found: list[tuple[int, Earcon]] = []
    for earcon in Earcon:
        start = -1
        while (start := pcm.find(sound(earcon), start + 1)) >= 0:
            found.append((start, earcon))
    return [earcon for _, earcon in sorted(found)]


def loud_ms(pcm: bytes) -> float:
    """How much of `pcm` is no pause."""
    size = SPEECH.bytes(WINDOW_MS)
    windows = (pcm[start : start + size] for start in range(0, len(pcm), size))
    return WINDOW_MS * sum(level_dbfs(window) > QUIET_DBFS for window in windows)


def longest_pause_ms(pcm: bytes) -> float:
    """The longest silence inside `pcm`, between its first and last sound."""
    size = SPEECH.bytes(5)
    loud = [n for n in range(len(pcm) // size) if level_dbfs(pcm[n * size : (n + 1) * size]) > QUIET_DBFS]
    return 5.0 * max((after - before - 1 for before, after in pairwise(loud)), default=0)


def question(folder: Path, seconds: float = 0.5) -> Path:
    """A recording of a child that says something, in `folder`."""
    path = folder / f"question-{seconds}.wav"
    if not path.exists():
        write_wav(path, tone(440, seconds * 1000))
    return path


def _steady(pcm: bytes) -> Iterator[tuple[int, int]]:
    """Each window that goes on in the scripted pitch of the one before: its first byte, and the pitch."""
    for earcon in Earcon:
        pcm = pcm.replace(sound(earcon), bytes(len(sound(earcon))))
    size = SPEECH.bytes(WINDOW_MS)
    before = None
    for start in range(0, len(pcm) - size + 1, size):
        pitch = _pitch_of(pcm[start : start + size])
        if pitch is not None and pitch == before:
            yield start, pitch
        before = pitch


def _pitch_of(pcm: bytes) -> int | None:
    """The scripted pitch of one window by its rising zero crossings; None if it is quiet or mixed."""
    samples = array("h", pcm)
    loudest = max(samples)
    if loudest < 1000:
        return None
    rising, low = [], False
    for n, sample in enumerate(samples):
        if sample < -loudest / 4:  # a tone that meets zero may tremble there
            low = True
        elif sample >= 0 and low:
            rising.append(n)
            low = False
    if len(rising) < 4:
        return None
    gaps = [later - earlier for earlier, later in pairwise(rising)]
    if max(gaps) - min(gaps) > 2:  # the seam of two tones
        return None
    hz = SPEECH.rate_hz * (len(rising) - 1) / (rising[-1] - rising[0])
    nearest = 300 + 20 * round((hz - 300) / 20)
    return nearest if abs(hz - nearest) < 6 else None
