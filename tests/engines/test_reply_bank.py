"""The bank with the real embedder: how often it is right, on sentences that never tuned it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from pommai.relay import policy
from pommai.relay.ports import Layer
from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_moderator import LocalModerator
from pommai.relay.providers.reply_bank import ReplyBank, read_replies

pytestmark = pytest.mark.engines

SENTENCES = Path(__file__).parents[1] / "data" / "reply_bank"


@dataclass(frozen=True)
class Score:
    """`precision`: answers that are right, of all answers. `recall`: right answers, of all that the bank has."""

    precision: float
    recall: float


async def score(bank: ReplyBank, name: str) -> Score:
    sentences = tomllib.loads((SENTENCES / f"{name}.toml").read_text(encoding="utf-8"))
    wanted = {hit["heard"]: hit["replies"] for hit in sentences["hit"]}
    wanted |= {heard: [] for heard in sentences["misses"]["heard"]}
    answers = [(await bank.match(heard), right) for heard, right in wanted.items()]
    given = [(reply.id, right) for reply, right in answers if reply is not None]
    rights = sum(name in right for name, right in given)
    return Score(rights / len(given), rights / len(sentences["hit"]))


@pytest.fixture
def bank(embedder: LocalEmbedder) -> ReplyBank:
    return ReplyBank.load(embedder)


async def test_held_out_sentences(bank: ReplyBank) -> None:
    """Measured: precision 0.99, recall 0.93, of 114 sentences with an answer and 88 without."""
    result = await score(bank, "held_out")
    assert result.precision >= 0.96
    assert result.recall >= 0.88


async def test_development_sentences(bank: ReplyBank) -> None:
    """Measured: precision 1.00, recall 0.95, of 79 sentences with an answer and 76 without."""
    result = await score(bank, "development")
    assert result.precision >= 0.97
    assert result.recall >= 0.90


async def test_the_demo_questions_meet_who_is_expected(bank: ReplyBank) -> None:
    text = resources.files("pommai.relay").joinpath("data", "questions.toml").read_text(encoding="utf-8")
    for question in tomllib.loads(text)["question"]:
        answer = await bank.answer(question["text"])
        assert (answer is not None) == (question["expect"] == "bank"), question["text"]


@pytest.mark.parametrize(
    ("heard", "name"),
    [
        ("What is your favourite colour?", "your-favourite-colour"),
        ("What is my favourite colour?", None),
        ("I am scared of the dark.", "scared-of-dark"),
        ("I am not scared of the dark.", None),
        ("What is two plus two?", "two-plus-two"),
        ("What is two plus one?", None),
        ("How many legs does a lobster have?", None),
    ],
)
async def test_small_words_that_turn_the_question(bank: ReplyBank, heard: str, name: str | None) -> None:
    reply = await bank.match(heard)
    assert (reply and reply.id) == name


async def test_the_guardian_lets_every_reply_through(embedder: LocalEmbedder) -> None:
    moderator = await LocalModerator.load(embedder)
    held_back = []
    for reply in read_replies():
        for said in reply.says:
            for sentence in re.split(r"(?<=[.!?])\s+", said):
                finding = await moderator.judge(sentence, Layer.OUTPUT, ())
                if not policy.decide(finding, Layer.OUTPUT).passed:
                    held_back.append((reply.id, sentence, finding.rule))
    assert held_back == []
