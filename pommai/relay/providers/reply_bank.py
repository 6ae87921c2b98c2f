"""What the demo brain knows by heart: replies written by hand, found by exact words or by meaning.

Cosine similarity alone is unsafe: "favourite colour red" and "favourite colour blue" have 0.84, true paraphrases 0.59
and more. So the words decide first which examples may be meant at all, and meaning decides among those. No answer is
better than a wrong one: then the model answers. Only what the guardian has passed comes here.

Examples are embedded when first they may be meant, and remembered: to load the bank costs no start-up time.
Weights and threshold were tuned on tests/data/reply_bank/development.toml alone; held_out.toml gave precision 0.99 and
recall 0.93.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import cycle
from operator import mul
from typing import Final

from pommai.relay.ports import Embedder
from pommai.relay.providers.wording import Wording, stem, wording

THRESHOLD: Final = 0.68
"""Least score of an answer: cosine similarity minus what the words count against it."""

_FOREIGN_SUBJECT: Final = 0.10
"""For each word of substance that the reply knows nothing of."""

_ASKS_OR_TELLS: Final = 0.10
_OTHER_PERSON: Final = 0.05
"""For each of "I" and "you" that one of the two speaks of, and the other does not."""

_MOST_CANDIDATES: Final = 24
"""Examples compared by meaning for one question: at 2.5 ms each, at most 60 ms, and only the first time."""


@dataclass(frozen=True)
class Reply:
    """One entry of `data/replies.toml`. `needs`: of each group of stems, one must be said."""

    id: str
    hears: tuple[str, ...]
    says: tuple[str, ...]
    needs: tuple[frozenset[str], ...] = ()

    @cached_property
    def knows(self) -> frozenset[str]:
        """The stems that this reply is about."""
        return frozenset().union(*(wording(example).subjects for example in self.hears), *self.needs)


def read_replies() -> list[Reply]:
    """The replies that ship with pommai, in the order of the file."""
    text = resources.files("pommai.relay").joinpath("data", "replies.toml").read_text(encoding="utf-8")
    return [
        Reply(
            id=table["id"],
            hears=tuple(table["hears"]),
            says=tuple(table["says"]),
            needs=tuple(frozenset(map(stem, group.split("|"))) for group in table.get("needs", ())),
        )
        for table in tomllib.loads(text)["reply"]
    ]


class ReplyBank:
    """Hand-written replies; `answer` deals the variants of a reply in turn."""

    def __init__(self, replies: Sequence[Reply], embedder: Embedder) -> None:
        """`replies`: no example may stand for two of them."""
        self._embedder = embedder
        self._examples = [(wording(example), reply) for reply in replies for example in reply.hears]
        self._exact = {example.plain: reply for example, reply in self._examples}
        self._vectors: dict[str, list[float]] = {}
        self._variants = {reply.id: cycle(reply.says) for reply in replies}

    @classmethod
    def load(cls, embedder: Embedder) -> ReplyBank:
        """The bank that ships with pommai: about 20 ms, blocking; nothing is embedded yet."""
        return cls(read_replies(), embedder)

    async def answer(self, text: str) -> str | None:
        """The next variant of the reply to `text`, or None if the bank has no sure answer. Raises ProviderError."""
        reply = await self.match(text)
        return None if reply is None else next(self._variants[reply.id])

    async def match(self, text: str) -> Reply | None:
        """The reply that `text` asks for: by the same words, or else by meaning. Raises ProviderError."""
        heard = wording(text)
        if heard.plain in self._exact:
            return self._exact[heard.plain]
        candidates = sorted(self._candidates(heard))[:_MOST_CANDIDATES]
        if not candidates:
            return None
        unknown = {self._examples[index][0].plain for *_, index in candidates} - self._vectors.keys()
        vector, *vectors = await self._embedder.embed([heard.plain, *unknown])
        self._vectors.update(zip(unknown, vectors, strict=True))
        score, best = max(
            (sum(map(mul, vector, self._vectors[self._examples[index][0].plain])) - penalty, index)
            for _, penalty, index in candidates
        )
        return self._examples[best][1] if score >= THRESHOLD else None

    def _candidates(self, heard: Wording) -> Iterator[tuple[float, float, int]]:
        """The examples that may be meant: (words apart, penalty, index), to be sorted with the likeliest first."""
        for index, (example, reply) in enumerate(self._examples):
            penalty = _penalty(heard, example, reply)
            if penalty is not None and penalty <= 1.0 - THRESHOLD:
                apart = len(heard.stems ^ example.stems) / len(heard.stems | example.stems)
                yield apart, penalty, index


def _penalty(heard: Wording, example: Wording, reply: Reply) -> float | None:
    """What the words say against `example` being meant; None if they rule it out."""
    if (heard.negated, heard.numbers) != (example.negated, example.numbers):
        return None
    if any(group.isdisjoint(heard.stems) for group in reply.needs):
        return None
    foreign = len(heard.subjects - reply.knows)
    others = sum(a != b for a, b in zip(heard.persons, example.persons, strict=True))
    return _FOREIGN_SUBJECT * foreign + _OTHER_PERSON * others + _ASKS_OR_TELLS * (heard.asks != example.asks)
