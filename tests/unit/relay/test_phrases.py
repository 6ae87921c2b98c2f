"""The fixed phrases: complete, taking turns, short and fit to be spoken to a child."""

from __future__ import annotations

import re

import pytest

from pommai.errors import ConfigError
from pommai.relay.phrases import PhraseBook, PhraseKey

BOOK = PhraseBook.load()
EVERY = [(key, text) for key in PhraseKey for text in BOOK.variants(key)]
COMFORTS = [key for key in PhraseKey if key.value.startswith("comfort")]
OUTSIDE_HOME = [
    PhraseKey.COMFORT_HOUSEHOLD,
    PhraseKey.COMFORT_HIT_HOUSEHOLD,
    PhraseKey.COMFORT_TOUCHED_HOUSEHOLD,
    PhraseKey.COMFORT_NEGLECTED,
    PhraseKey.COMFORT_EMERGENCY_HOUSEHOLD,
]
ANYBODY = [PhraseKey.COMFORT, PhraseKey.COMFORT_HIT, PhraseKey.COMFORT_TOUCHED, PhraseKey.COMFORT_EMERGENCY]


@pytest.mark.parametrize("key", PhraseKey)
def test_each_key_has_different_variants(key: PhraseKey) -> None:
    variants = BOOK.variants(key)
    assert len(set(variants)) == len(variants) >= 2


def test_variants_take_turns_and_begin_again() -> None:
    book = PhraseBook({key: ["one", "two"] for key in PhraseKey})
    assert [book.next(PhraseKey.STOPPED) for _ in range(3)] == ["one", "two", "one"]


def test_keys_take_their_turns_apart() -> None:
    book = PhraseBook({key: ["one", "two"] for key in PhraseKey})
    book.next(PhraseKey.STOPPED)
    assert book.next(PhraseKey.TROUBLE) == "one"


def test_a_book_with_gaps_names_them_all() -> None:
    with pytest.raises(ConfigError) as caught:
        PhraseBook({key: ["one"] for key in PhraseKey if key not in {PhraseKey.STOPPED, PhraseKey.TROUBLE}})
    assert "stopped" in str(caught.value)
    assert "trouble" in str(caught.value)


@pytest.mark.parametrize(("key", "text"), EVERY)
def test_a_phrase_is_at_most_two_sentences_that_can_be_read_aloud(key: PhraseKey, text: str) -> None:
    assert 1 <= len(re.findall(r"[.!?]+", text)) <= 2
    assert re.fullmatch(r"[A-Z][A-Za-z ,.!?'-]*[.!?]", text)
    assert len(text) <= 130


@pytest.mark.parametrize("key", COMFORTS)
def test_comfort_points_to_a_grown_up(key: PhraseKey) -> None:
    for text in BOOK.variants(key):
        assert re.search(r"grown-up|teacher|doctor|neighbour", text)


@pytest.mark.parametrize("key", OUTSIDE_HOME)
def test_where_home_may_be_the_trouble_the_script_leads_outside_it(key: PhraseKey) -> None:
    for text in BOOK.variants(key):
        assert re.search(r"teacher|doctor|helpline|neighbour", text)
        assert not re.search(r"mom|mum|dad|parent|family|home|(any|nearest) grown-up", text, re.IGNORECASE)


@pytest.mark.parametrize("key", ANYBODY)
def test_where_anybody_may_be_the_trouble_only_trust_decides_whom_to_tell(key: PhraseKey) -> None:
    for text in BOOK.variants(key):
        assert re.search(r"grown-up.* (trust|feel safe)|another grown-up", text)
        assert not re.search(r"teacher|doctor|neighbour|parent|(any|nearest) grown-up", text, re.IGNORECASE)


@pytest.mark.parametrize(("key", "text"), EVERY)
def test_no_phrase_promises_secrecy(key: PhraseKey, text: str) -> None:
    assert not re.search(r"secret|promise|between us|won't tell|only you and", text, re.IGNORECASE)


def test_not_hearing_is_said_in_words_a_test_can_know() -> None:
    assert all(text.startswith("I didn't hear you") for text in BOOK.variants(PhraseKey.DIDNT_HEAR))
