"""Meaning as vectors, by the real model."""

from __future__ import annotations

import pytest

from pommai.errors import ProviderError
from pommai.relay.providers.local_embedder import LocalEmbedder

pytestmark = pytest.mark.engines

TEXTS = [
    "Why is the sky blue?",
    "Hello!",
    "",
    "My dog died and I feel sad, because he was my very best friend.",
    "🐻 \ud800",
]


def likeness(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_vectors_have_one_dimension_and_length_one(embedder: LocalEmbedder) -> None:
    vectors = await embedder.embed(TEXTS)
    assert [len(vector) for vector in vectors] == [384] * len(TEXTS)
    assert [likeness(vector, vector) for vector in vectors] == pytest.approx([1.0] * len(TEXTS), abs=1e-5)


async def test_a_vector_does_not_depend_on_its_batch(embedder: LocalEmbedder) -> None:
    many = embedder.embed_now(TEXTS * 5)
    for text, vector in zip(TEXTS * 5, many, strict=True):
        [alone] = await embedder.embed([text])
        assert likeness(alone, vector) > 0.99999


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("my dog died", "I am sad because I lost my pet", "tell me a joke"),
        ("how are you today", "are you feeling well", "why is the sky blue"),
        ("sing me a song", "I want to hear some music", "what do lions eat"),
    ],
)
async def test_like_meanings_are_near(embedder: LocalEmbedder, text: str, near: str, far: str) -> None:
    a, b, c = await embedder.embed([text, near, far])
    assert likeness(a, b) > likeness(a, c) + 0.1


async def test_a_long_text_is_read_to_the_models_limit(embedder: LocalEmbedder) -> None:
    long = "the bear likes honey " * 200
    a, b = await embedder.embed([long, long + "but the fox likes trains"])
    assert likeness(a, b) > 0.99999


async def test_nothing_gives_nothing(embedder: LocalEmbedder) -> None:
    assert await embedder.embed([]) == []


async def test_closed_it_refuses() -> None:
    embedder = LocalEmbedder.load()
    embedder.close()
    with pytest.raises(ProviderError, match="embedder: shutting_down"):
        await embedder.embed(["hello"])
