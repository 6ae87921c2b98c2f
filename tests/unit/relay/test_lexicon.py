"""The phrase language of the word lists, and the lists that ship."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from pommai.relay.ports import Category, Layer, Need
from pommai.relay.providers.lexicon import WordList, any_of, compile_phrase, read_lists, words_of

GROUPS = {"pet": ["cats?", "dogs?"], "long_name": ["gold ?fish"]}
DATA = tomllib.loads(resources.files("pommai.relay").joinpath("data", "lexicon.toml").read_text(encoding="utf-8"))
LISTS = read_lists(DATA)


def found(phrase: str, words: str) -> bool:
    return compile_phrase(phrase, GROUPS).search(f" {words} ") is not None


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("hell", "what the hell"),
        ("feed|pat the cat", "pat the cat"),
        ("feed ?the cat", "feed the cat"),
        ("feed ?the cat", "feed cat"),
        ("feed ?big|small cat", "feed small cat"),
        ("jump*", "he jumped"),
        ("feed ... cat", "feed cat"),
        ("feed ... cat", "feed my neighbours old cat"),
        ("feed ~ cat", "feed all of the cat"),
        ("feed <pet>", "feed dogs"),
        ("feed <pet>|bird", "feed bird"),
        ("feed <long_name>", "feed gold fish"),
        ("grown_up", "a grownup"),
        ("grown_up", "a grown up"),
        ("^ feed", "feed me"),
        ("cat $", "my cat"),
    ],
)
def test_a_phrase_is_found(phrase: str, words: str) -> None:
    assert found(phrase, words)


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("hell", "hello teddy"),
        ("hell", "shell"),
        ("feed the cat", "feed the cats"),
        ("feed ... cat", "feed one two three four cat"),
        ("feed ~ cat", "feed purple cat"),
        ("feed <pet>", "feed bird"),
        ("^ feed", "please feed"),
        ("cat $", "cat food"),
    ],
)
def test_a_phrase_is_not_found(phrase: str, words: str) -> None:
    assert not found(phrase, words)


def test_an_unknown_group_is_an_error() -> None:
    with pytest.raises(KeyError, match="bird"):
        compile_phrase("feed <bird>", GROUPS)


def list_of(phrases: list[str], unless: list[str]) -> WordList:
    data = {
        "groups": {},
        "lists": [
            {
                "id": "animals",
                "category": "violence",
                "severity": 5,
                "layers": ["input"],
                "phrases": phrases,
                "unless": unless,
            }
        ],
    }
    return read_lists(data)[0]


def test_a_list_tells_the_number_of_its_phrase() -> None:
    animals = list_of(["lion", "tiger"], [])
    assert animals.search(["a tiger"]) == 2
    assert animals.search(["a mouse"]) is None
    assert (animals.category, animals.severity, animals.layers, animals.need) == (
        Category.VIOLENCE,
        5,
        frozenset({Layer.INPUT}),
        None,
    )


def test_any_reading_counts() -> None:
    assert list_of(["lion"], []).search(["a l1on", "a lion"]) == 1


def test_harmless_talk_silences_only_its_own_reading() -> None:
    animals = list_of(["lion"], ["toy lion"])
    assert animals.search(["a toy lion"]) is None
    assert animals.search(["a toy lion", "a real lion"]) == 1


@pytest.mark.parametrize(
    "broken", [{"groups": [], "lists": []}, {"groups": {}, "lists": {}}, {"groups": {"a": 1}, "lists": []}]
)
def test_data_of_another_shape_is_an_error(broken: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        read_lists(broken)


def test_the_shipped_lists_have_each_a_name_of_their_own() -> None:
    assert len({entry.id for entry in LISTS}) == len(LISTS)


def test_distress_lists_and_no_others_say_what_is_needed_and_hear_only_the_child() -> None:
    for entry in LISTS:
        assert (entry.need is not None) is (entry.category is Category.DISTRESS)
        if entry.category is Category.DISTRESS:
            assert entry.layers == {Layer.INPUT}
    assert {entry.need for entry in LISTS} - {None} == set(Need)


def test_distress_lists_come_first() -> None:
    distress = [entry.category is Category.DISTRESS for entry in LISTS]
    assert distress == sorted(distress, reverse=True)


@pytest.mark.parametrize("words", ["daddy hits me", "at home", "my stepfather", "my house"])
def test_the_household_is_known(words: str) -> None:
    assert any_of("household", DATA).search(f" {words} ")


@pytest.mark.parametrize("words", ["my teacher", "a boy at school", "the momentum"])
def test_who_is_outside_the_household_is_not(words: str) -> None:
    assert not any_of("household", DATA).search(f" {words} ")


def test_the_words_of_the_lists_are_plain_and_in_both_forms() -> None:
    data = {
        "groups": {"pet": ["cats?", "pupp(?:y|ies)", "gold ?fish"]},
        "lists": [{"phrases": ["feed|feeds ?the <pet>", "jump* a b", "grown_up ... i"]}],
    }
    assert words_of(data) == {"cat", "cats", "gold", "fish", "feed", "feeds", "the", "a", "i"}
