"""The embedded `Moderator`: distress first, then word lists, then meaning.

A text is folded and read in every disguise (`normalise`). The distress lists and the distress anchors are asked before
anything else, because a child in need must be comforted and not corrected, whatever words it uses. Then the other
lists, then the other anchors; the gravest finding counts.

It knows English. In a language it does not know, only what looks like its lists is found: other languages are not
blocked and not understood, and a cloud judge must stand in for them.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, Self

from pommai.relay.ports import Category, Embedder, Finding, Layer
from pommai.relay.providers.anchors import Anchors, Likeness, read_anchors
from pommai.relay.providers.lexicon import WordList, any_of, read_lists, words_of
from pommai.relay.providers.normalise import fold, pieces, readings, words_spelled_out

MAX_CHARS: Final = 4000
"""A longer text is not judged and so does not pass: no child speaks as long, and no sentence of a toy is. It holds
before folding and after it, because one letter can fold into eighteen."""

_NOTHING: Final = Finding(Category.BENIGN, 0, 0.0, "none")
_TOO_LONG: Final = Finding(Category.UNJUDGED, 0, 0.0, "text:too-long")
_NO_WORDS: Final = Finding(Category.UNJUDGED, 0, 0.0, "text:no-words")


class LocalModerator:
    """Judges by the lists and anchors that ship with pommai."""

    name = "local"

    def __init__(
        self,
        embedder: Embedder,
        lists: Sequence[WordList],
        household: re.Pattern[str],
        anchors: Mapping[Layer, Anchors],
        vocabulary: Container[str],
    ) -> None:
        """Made by `load`. `household`: words for the people and the place of a child's home. `vocabulary`: known words,
        to find them in letters that run together."""
        self._embedder = embedder
        self._distress = tuple(entry for entry in lists if entry.category is Category.DISTRESS)
        self._others = tuple(entry for entry in lists if entry.category is not Category.DISTRESS)
        self._household = household
        self._anchors = anchors
        self._vocabulary = vocabulary

    @classmethod
    async def load(cls, embedder: Embedder) -> Self:
        """Read the lists and embed the anchors, about 0.9 s. Raises ProviderError if the embedder fails."""
        lexicon, sentences = _data("lexicon.toml"), _data("anchors.toml")
        meanings, harmless = read_anchors(sentences)
        groups = (*(group.texts for group in meanings), *(group.texts for group in harmless))
        texts = list(dict.fromkeys(text for group in groups for text in group))
        vectors = dict(zip(texts, await embedder.embed([fold(text) for text in texts]), strict=True))
        anchors = {layer: Anchors.of_layer(layer, meanings, harmless, vectors) for layer in Layer}
        vocabulary = words_of(lexicon) | {word for text in texts for word in fold(text).split() if len(word) > 1}
        return cls(embedder, read_lists(lexicon), any_of("household", lexicon), anchors, vocabulary)

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        """The finding that matters most: distress before all else, then the gravest. Raises ProviderError."""
        if len(text) > MAX_CHARS:
            return _TOO_LONG
        folded = fold(text)
        if len(folded) > MAX_CHARS:
            return _TOO_LONG
        spelled_out = words_spelled_out(folded, self._vocabulary)
        wholes = dict.fromkeys((folded, spelled_out))
        meant = list(dict.fromkeys(piece for whole in wholes for piece in pieces(whole)))
        read = tuple(dict.fromkeys(reading for part in (*meant, *wholes) for reading in readings(part)))
        distress = self._by_words(self._distress, layer, read)
        if distress:
            return distress[0]
        if not meant:
            return _no_words(text)
        alike = self._anchors[layer].nearest(await self._embedder.embed(meant))
        by_meaning = [self._finding_of(likeness, read) for likeness in alike]
        by_words = self._by_words(self._others, layer, read)
        return _weightiest((*by_words, *by_meaning))

    def _by_words(self, lists: Iterable[WordList], layer: Layer, read: Sequence[str]) -> list[Finding]:
        found = ((entry, entry.search(read)) for entry in lists if layer in entry.layers)
        return [
            Finding(
                entry.category,
                entry.severity,
                1.0,
                f"lexicon:{entry.id}/{number}",
                entry.need,
                self._names_household(entry.category, read),
            )
            for entry, number in found
            if number is not None
        ]

    def _finding_of(self, likeness: Likeness, read: Sequence[str]) -> Finding:
        meaning = likeness.meaning
        return Finding(
            meaning.category,
            meaning.severity,
            likeness.score,
            f"anchor:{meaning.id}/{likeness.number}",
            meaning.need,
            self._names_household(meaning.category, read),
        )

    def _names_household(self, category: Category, read: Sequence[str]) -> bool:
        return category is Category.DISTRESS and any(self._household.search(f" {reading} ") for reading in read)


def _weightiest(findings: Sequence[Finding]) -> Finding:
    """The nearest distress, whatever else was found and however near that is; else the gravest; else nothing."""
    distress = [finding for finding in findings if finding.category is Category.DISTRESS]
    if distress:
        return max(distress, key=lambda finding: finding.score)
    return max(findings, key=lambda finding: (finding.severity, finding.score), default=_NOTHING)


def _no_words(text: str) -> Finding:
    """Bare punctuation says nothing; pictures and unknown signs may, and nobody has judged them."""
    bare = all(mark.isspace() or unicodedata.category(mark).startswith("P") for mark in text)
    return _NOTHING if bare else _NO_WORDS


def _data(name: str) -> Any:
    text = resources.files("pommai.relay").joinpath("data", name).read_text(encoding="utf-8")
    return tomllib.loads(text)
