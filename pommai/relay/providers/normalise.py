"""Text as it was meant, not as it was disguised: the readings that a word list must see.

Pure. `fold` undoes what Unicode allows (full width, accents, invisible letters, letters of another alphabet that look
the same). `readings` gives the plain words, then what they become when figures stand for letters, a word is spelled
out ("s e x", "s.e.x") or its letters are repeated. A disguise adds a reading and never replaces the plain one, so
undoing it cannot hide anything. The look-alikes are those of Unicode's confusables.txt that matter for Latin words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator
from typing import Final

_ALIKE: Final = str.maketrans("аеорсухѕіјһԁԛԝкαονρυικχτγıɑɡℓ", "aeopcyxsijhdqwkaovpuikxtyiagl")
_ALIKE_BESIDE_LATIN: Final = _ALIKE | str.maketrans("вёнмтпибβεη", "behmtnu6ben")
"""Those whose capitals look like Latin ones, or that pass for a letter only in Latin company."""

_FIGURES: Final = str.maketrans("0134578@$!+|€", "oieastbasitie")
_FIGURES_L: Final = str.maketrans("0134578@$!+|€", "oleastbasltle")
_APOSTROPHES: Final = re.compile("['\u2018\u2019\u02bc\u00b4`]")
_WORD: Final = re.compile(r"[^\W_]+")
_EDGE: Final = '.,!?;:"()[]{}<>\u2026\u201c\u201d'
_LATIN_MARKS: Final = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_JOINERS: Final = re.compile(r"(?<=\w)[-._*~](?=\w)")
_SPELLED: Final = re.compile(r"(?<!\S)\w(?: \w){2,}(?!\S)")
_LETTER_RUN: Final = re.compile(r"(?<!\w)\w(?:[ ._*~-]+\w){5,}(?!\w)")
_REPEATED: Final = re.compile(r"([^\W\d])\1{2,}")
_PAUSE: Final = re.compile(r"(?<=[.!?;\u2026])\s+|\n+|(?<=[\u3002\uff01\uff1f])")

PIECE_WORDS: Final = 24
"""Longest piece that is judged by its meaning: in a longer one, a few bad words drown."""

LONGEST_WORD: Final = 16
"""Longest word that is looked for in letters that run together."""


def fold(text: str) -> str:
    """`text` in small letters, without accents and invisible characters, look-alikes as Latin letters."""
    compatible = unicodedata.normalize("NFKD", text).casefold()
    visible = "".join(mark for mark in compatible if not _is_invisible(mark))
    composed = unicodedata.normalize("NFC", _LATIN_MARKS.sub("", visible))
    return " ".join(_latin(chunk) for chunk in _APOSTROPHES.sub("'", composed).split(" "))


def readings(folded: str) -> tuple[str, ...]:
    """The ways to read a folded text, each as words between single spaces, the plain one first; none twice."""
    found: dict[str, None] = {}
    chunks = folded.replace("'", "").split()
    for figures in (None, _FIGURES, _FIGURES_L):
        for closed in (False, True):
            words = " ".join(word for chunk in chunks for word in _words(chunk, figures, closed=closed))
            for reading in _undone(words):
                found[reading] = None
    return tuple(found)


def pieces(folded: str) -> list[str]:
    """A folded text cut at its sentences, and these at `PIECE_WORDS`; empty where there are no words."""
    cut: list[str] = []
    for sentence in _PAUSE.split(folded):
        words = sentence.split()
        cut += (" ".join(words[at : at + PIECE_WORDS]) for at in range(0, len(words), PIECE_WORDS))
    return [piece for piece in cut if _WORD.search(piece)]


def words_spelled_out(folded: str, vocabulary: Container[str]) -> str:
    """A folded text with runs of single letters read as words of `vocabulary`: "h o w a r e y o u" as "how are you".

    A run that is not made of such words alone stays as it is. Of several ways to read it, the one with fewest words.
    """
    return _LETTER_RUN.sub(lambda run: _split(_bare(run[0]), vocabulary) or run[0], folded)


def _bare(run: str) -> str:
    return "".join(mark for mark in run if mark.isalnum()).translate(_FIGURES)


def _split(letters: str, vocabulary: Container[str]) -> str:
    """The letters cut into the fewest words of `vocabulary`; empty if they cannot be."""
    best: list[tuple[str, ...] | None] = [()]
    for end in range(1, len(letters) + 1):
        ways = [
            (*before, letters[start:end])
            for start in range(max(0, end - LONGEST_WORD), end)
            if (before := best[start]) is not None and letters[start:end] in vocabulary
        ]
        best.append(min(ways, key=len, default=None))
    return " ".join(best[-1] or ())


def _is_invisible(mark: str) -> bool:
    category = unicodedata.category(mark)
    return category == "Cf" or (category == "Cc" and not mark.isspace())


def _latin(chunk: str) -> str:
    """The chunk with look-alikes replaced, if it holds a Latin letter or all of it looks Latin."""
    if any("a" <= mark <= "z" for mark in chunk):
        return chunk.translate(_ALIKE_BESIDE_LATIN)
    latin = chunk.translate(_ALIKE)
    return latin if latin.isascii() else chunk


def _words(chunk: str, figures: dict[int, int] | None, *, closed: bool) -> Iterator[str]:
    """The words of a chunk. `figures`: read them as letters beside a letter. `closed`: joined over "-", "." and "*"."""
    bare = chunk.strip(_EDGE)
    if closed:
        bare = _JOINERS.sub("", bare)
    for part in re.split(r"[-/]", bare):
        disguised = figures is not None and any(mark.isalpha() for mark in part)
        yield from _WORD.findall(part.translate(figures) if disguised and figures else part)


def _undone(words: str) -> Iterator[str]:
    """The words as they are; spelled-out words joined, also without a first "i" or "a"; repeated letters cut."""
    yield words
    joined = _SPELLED.sub(lambda run: run[0].replace(" ", ""), words)
    for reading in (words, joined, _SPELLED.sub(_without_first, words)):
        yield reading
        yield _REPEATED.sub(r"\1\1", reading)
        yield _REPEATED.sub(r"\1", reading)


def _without_first(run: re.Match[str]) -> str:
    letters = run[0].replace(" ", "")
    return f"{letters[0]} {letters[1:]}" if letters[0] in "ia" else letters
