"""What a sentence becomes before it is compared."""

from __future__ import annotations

import pytest

from pommai.relay.providers.wording import Wording, stem, wording


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello, Pommai!", "hello"),
        ("What's your favorite color?", "what is your favourite colour"),
        ("I can\u2019t sleep.", "i can not sleep"),
        ("I cannot sleep.", "i can not sleep"),
        ("What is 1 + 2?", "what is one plus two"),
        ("Count to 250.", "count to 250"),
        ("Could you please tell me a joke?", "tell me a joke"),
        ("Please tell me a joke.", "tell me a joke"),
        ("Another joke, please!", "another joke"),
        ("Why do we say please?", "why do we say please"),
        ("Can you fly?", "can you fly"),
        ("I love you, little bear!", "i love you"),
        ("Tell me a story about a bear.", "tell me a story about a bear"),
        ("Mom said no.", "mummy said no"),
        ("...", ""),
        ("", ""),
    ],
)
def test_plain_words(text: str, plain: str) -> None:
    assert wording(text).plain == plain


def test_plain_words_stay_as_they_are() -> None:
    once = wording("Don't you wanna hear, how 3 bears went to Mom's house?")
    assert wording(once.plain) == once


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("spider", "spiders"),
        ("hurts", "hurting"),
        ("bake", "baked"),
        ("baby", "babies"),
        ("whale", "whales"),
        ("die", "dies"),
        ("puppy", "puppies"),
        ("dance", "dancing"),
    ],
)
def test_same_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("bee", "bear"), ("glass", "glad"), ("moon", "month"), ("star", "stair")])
def test_different_stem(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("plain", "negated"),
    [("i am sad", False), ("i am not sad", True), ("nobody plays with me", True), ("i have not got no dog", False)],
)
def test_negated(plain: str, negated: bool) -> None:
    assert Wording(plain).negated is negated


@pytest.mark.parametrize(
    ("plain", "persons"),
    [
        ("i love you", (True, True)),
        ("do you love me", (False, True)),
        ("my dog died", (True, False)),
        ("why does it rain", (False, False)),
    ],
)
def test_persons(plain: str, persons: tuple[bool, bool]) -> None:
    assert Wording(plain).persons == persons


@pytest.mark.parametrize(
    ("plain", "asks"), [("do you have a cat", True), ("tell me about cats", True), ("i have a cat", False), ("", False)]
)
def test_asks(plain: str, asks: bool) -> None:
    assert Wording(plain).asks is asks


@pytest.mark.parametrize(
    ("plain", "numbers"),
    [
        ("one more joke", ()),
        ("one plus one", ("one", "one")),
        ("three plus two", ("three", "two")),
        ("count to 250", ("250",)),
        ("count to one hundred", ("hundred", "one")),
    ],
)
def test_numbers(plain: str, numbers: tuple[str, ...]) -> None:
    assert Wording(plain).numbers == numbers


def test_subjects_leave_the_small_words_out() -> None:
    assert Wording("what do the lions eat today").subjects == {stem("lion"), stem("eat")}
