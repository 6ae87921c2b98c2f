"""The rules of matching, with meanings that the tests choose."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pommai.errors import ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.providers.reply_bank import Reply, ReplyBank
from pommai.relay.providers.wording import stem

NEAR, FAR = [1.0, 0.0], [0.0, 1.0]


class ChosenMeanings:
    """An embedder for which every text means the same, but for the `strange` ones. `asked`: every text, in order."""

    def __init__(self, *strange: str) -> None:
        self._strange = strange
        self.asked: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        return [FAR if text in self._strange else NEAR for text in texts]


class BrokenEmbedder:
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise ProviderError("embedder", ErrorCode.SHUTTING_DOWN)


def groups(*needs: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(map(stem, group.split("|"))) for group in needs)


SPIDER = Reply("spider", ("How many legs does a spider have?",), ("Eight.",), groups("spider", "leg"))
JOKE = Reply("joke", ("Tell me a joke.",), ("First.", "Second.", "Third."))
SAD = Reply("sad", ("I am sad.",), ("Oh dear.",))
SUM = Reply("sum", ("What is two plus two?",), ("Four.",))
REPLIES = (SPIDER, JOKE, SAD, SUM)


async def test_the_same_words_need_no_meaning() -> None:
    embedder = ChosenMeanings()
    assert await ReplyBank(REPLIES, embedder).match("tell me a JOKE, Pommai!") is JOKE
    assert embedder.asked == []


async def test_other_words_with_the_same_meaning() -> None:
    assert await ReplyBank(REPLIES, ChosenMeanings()).match("How many legs do spiders have?") is SPIDER


async def test_other_words_with_another_meaning() -> None:
    embedder = ChosenMeanings("how many legs do spiders have")
    assert await ReplyBank(REPLIES, embedder).match("How many legs do spiders have?") is None


@pytest.mark.parametrize(
    "text",
    [
        "How many legs does a crab have?",  # a needed word is missing
        "I am not sad.",
        "What is two plus three?",
        "What is two plus two plus two?",
        "My uncle bought a purple tractor yesterday with enormous wheels.",  # nothing it knows
    ],
)
async def test_words_that_rule_a_reply_out_though_the_meaning_is_near(text: str) -> None:
    assert await ReplyBank((SPIDER, SAD, SUM), ChosenMeanings()).match(text) is None


async def test_the_speaker_counts_when_meanings_are_equal() -> None:
    you = Reply("you", ("Are you sad?",), ("No.",))
    assert await ReplyBank((SAD, you), ChosenMeanings()).match("Do you get sad?") is you
    assert await ReplyBank((SAD, you), ChosenMeanings()).match("I get sad.") is SAD


async def test_an_example_is_embedded_once() -> None:
    embedder = ChosenMeanings()
    bank = ReplyBank((SPIDER,), embedder)
    await bank.match("How many legs do spiders have?")
    await bank.match("How many legs has a spider?")
    assert embedder.asked.count("how many legs does a spider have") == 1


async def test_only_the_likeliest_examples_are_embedded() -> None:
    many = [Reply(f"r{n}", (f"Tell me about {'x' * n}.",), ("Yes.",)) for n in range(1, 60)]
    embedder = ChosenMeanings()
    assert await ReplyBank([*many, SPIDER], embedder).match("How many legs do spiders have?") is SPIDER
    assert len(embedder.asked) <= 25


async def test_variants_take_turns() -> None:
    bank = ReplyBank(REPLIES, ChosenMeanings())
    said = [await bank.answer("Tell me a joke.") for _ in range(4)]
    assert said == ["First.", "Second.", "Third.", "First."]


@pytest.mark.parametrize("text", ["", "...", "Pommai!"])
async def test_no_words_have_no_answer(text: str) -> None:
    assert await ReplyBank((SPIDER, SUM), ChosenMeanings("")).answer(text) is None


async def test_a_failing_embedder_is_the_callers_matter() -> None:
    with pytest.raises(ProviderError):
        await ReplyBank(REPLIES, BrokenEmbedder()).answer("Do you know a joke?")
