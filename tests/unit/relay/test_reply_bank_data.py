"""The replies themselves: what no reply may say, and what makes the file whole."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib import resources
from itertools import pairwise

import pytest

from pommai.relay.providers.reply_bank import Reply, read_replies
from pommai.relay.providers.wording import wording

REPLIES = read_replies()
SAID = [(reply, said) for reply in REPLIES for said in reply.says]
LEAVE_TAKING = (
    "goodbye",
    "good-night",
    "going-to-bed",
    "not-tired",
    "cannot-sleep",
    "tired",
    "lullaby",
    "bedtime-story",
)

FORBIDDEN = {
    "link": r"https?:|www\.|\.com\b",
    "personal data": r"\b(what is|what's|tell me) your (full |last |real )?(name|address|school|phone|birthday)|"
    r"\bwhere do you live|\bwhich school|\bhow old are you|\bwhat town",
    "begging": r"\b(do not|don't|please) (go|leave|stay)\b|\bstay with me|\bcome back soon|\bmiss you|\blonely without",
    "guilt": r"\bmakes me (sad|cry)|\byou hurt me|\bif you loved me",
    "secrecy": r"\b(our|a) (little )?secret\b|\bdo not tell\b|\bdon't tell\b|\bi (can |will )?keep (your |a )?secret",
    "claims to live": r"\bi am (a )?(human|person|alive)\b|\bi am a real\b|\bwhen i was (a child|little|young)\b",
    "selling": r"\bbuy\b|\bshop\b|\bpurchase|\bprice\b|\bsubscribe",
    "medicine": r"\bmedicines?\b|\bpills?\b|\bsyrup\b|\btablets?\b|\bdose\b",
    "against parents": r"\byour (parents|mum|dad|grown-ups) (are|is) (wrong|mean|bad|unfair)",
    "danger": r"\bmatches\b|\blighter\b|\bknife\b|\bknives\b|\bbleach\b|\bclimb (on|out)\b",
}
CAUGHT = {
    "link": "Look at www.toys.example.",
    "personal data": "Lovely! What is your name?",
    "begging": "Please stay a little longer!",
    "guilt": "That makes me sad.",
    "secrecy": "It is our little secret.",
    "claims to live": "I am a real bear.",
    "selling": "You can buy one.",
    "medicine": "Take some syrup.",
    "against parents": "Your parents are wrong.",
    "danger": "Take a knife.",
}


def test_there_are_enough() -> None:
    assert len(REPLIES) >= 160
    assert sum(len(reply.hears) for reply in REPLIES) >= 500


def test_ids_are_unique() -> None:
    counts = Counter(reply.id for reply in REPLIES)
    assert [name for name, count in counts.items() if count > 1] == []
    assert [name for name in counts if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


def test_no_example_stands_twice() -> None:
    counts = Counter(wording(example).plain for reply in REPLIES for example in reply.hears)
    assert [example for example, count in counts.items() if count > 1 or not example] == []


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.id)
def test_one_reply(reply: Reply) -> None:
    assert 2 <= len(reply.hears) <= 8
    assert 1 <= len(reply.says) <= 4
    assert len(set(reply.says)) == len(reply.says)
    for example in reply.hears:
        assert all(group & wording(example).stems for group in reply.needs), example


@pytest.mark.parametrize(("reply", "said"), SAID, ids=lambda value: value.id if isinstance(value, Reply) else "")
def test_can_be_said_aloud(reply: Reply, said: str) -> None:
    assert len(said) <= 240
    assert re.fullmatch(r"[A-Z][A-Za-z ,.!?:'-]*[.!?]", said)
    sentences = re.split(r"(?<=[.!?])\s+", said)
    assert len(sentences) <= 9, "a riddle in small pieces at most"
    assert max(len(sentence.split()) for sentence in sentences) <= 27


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_nothing_forbidden_is_said(rule: str) -> None:
    pattern = re.compile(FORBIDDEN[rule], re.IGNORECASE)
    assert pattern.search(CAUGHT[rule]), "the rule itself must work"
    assert [(reply.id, said) for reply, said in SAID if pattern.search(said)] == []


def test_leave_taking_never_asks_a_question() -> None:
    """Bye and bedtime end in one turn: no reply there invites another."""
    found = {reply.id: reply.says for reply in REPLIES if reply.id in LEAVE_TAKING}
    assert sorted(found) == sorted(LEAVE_TAKING)
    assert [said for says in found.values() for said in says if "?" in said] == []


@pytest.mark.parametrize(
    "name", ["fell-down", "tummy-ache", "scared", "friend-was-mean", "stranger", "i-am-lost", "matches"]
)
def test_what_hurts_or_worries_goes_to_a_grown_up(name: str) -> None:
    (reply,) = (reply for reply in REPLIES if reply.id == name)
    assert all("grown-up" in said for said in reply.says)


def test_the_demo_asks_bank_and_model() -> None:
    text = resources.files("pommai.relay").joinpath("data", "questions.toml").read_text(encoding="utf-8")
    questions = tomllib.loads(text)["question"]
    assert all(question.keys() == {"text", "expect"} for question in questions)
    assert {question["expect"] for question in questions} == {"bank", "model"}
    assert len({question["text"] for question in questions}) == len(questions) >= 20
    assert sum(question["expect"] == "model" for question in questions[:10]) >= 5
    changes = sum(one["expect"] != other["expect"] for one, other in pairwise(questions))
    assert changes >= len(questions) // 2
