"""Reading a text as it was meant: every disguise adds a reading, nothing is lost, and innocent text stays itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.relay.providers.normalise import PIECE_WORDS, fold, pieces, readings, words_spelled_out


def read(text: str) -> tuple[str, ...]:
    return readings(fold(text))


@pytest.mark.parametrize(
    ("disguised", "meant"),
    [
        ("s e x", "sex"),
        ("s.e.x", "sex"),
        ("S-E-X", "sex"),
        ("s_e_x", "sex"),
        ("s*e*x", "sex"),
        ("I k i l l", "i kill"),
        ("k1ll", "kill"),
        ("ki11", "kill"),
        ("b!tch", "bitch"),
        ("5h1t", "shit"),
        ("a$$", "ass"),
        ("fuuuuck", "fuck"),
        ("boooomb", "bomb"),
        ("heeeell", "hell"),
        ("sui-cide", "suicide"),
        ("\uff46\uff55\uff43\uff4b", "fuck"),  # full width
        ("s\u200be\u200bx", "sex"),  # zero-width spaces
        ("s\u00adex", "sex"),  # soft hyphen
        ("\u202exes\u202c", "xes"),  # right-to-left override
        ("\u0455\u0435\u0445", "sex"),  # all Cyrillic
        ("s\u0435x", "sex"),  # one letter Cyrillic
        ("p\u03bfrn", "porn"),  # one letter Greek
        ("s\u00e9x", "sex"),  # an accent
        ("se\u0308x", "sex"),  # a combining accent
        ("don\u2019t", "dont"),
    ],
)
def test_a_disguise_is_undone(disguised: str, meant: str) -> None:
    assert meant in read(disguised)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, Teddy!", "hello teddy"),
        ("12345", "12345"),
        ("Can I have 3 cookies?", "can i have 3 cookies"),
        ("A-B-C, easy as 1-2-3", "a b c easy as 1 2 3"),
        ("what toys do 4-year-olds like", "what toys do 4 year olds like"),
        ("\u3053\u3093\u306b\u3061\u306f", "\u3053\u3093\u306b\u3061\u306f"),
        ("\u304c\u3093\u3070\u308c", "\u304c\u3093\u3070\u308c"),  # voiced kana keep their marks
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "\u043f\u0440\u0438\u0432\u0435\u0442"),  # not all of it looks Latin
    ],
)
def test_the_first_reading_is_the_plain_one(text: str, words: str) -> None:
    assert read(text)[0] == words


def test_numbers_never_become_words() -> None:
    assert set(read("1337 12345 455")) == {"1337 12345 455"}


def test_pieces_are_sentences_and_long_ones_are_cut() -> None:
    assert pieces(fold("Hello. How are you?\nFine!")) == ["hello.", "how are you?", "fine!"]
    assert [len(piece.split()) for piece in pieces("so " * (PIECE_WORDS + 1))] == [PIECE_WORDS, 1]


@pytest.mark.parametrize("text", ["", " ", "...", "?!", "\U0001f600", "\u200b"])
def test_without_words_there_are_no_pieces(text: str) -> None:
    assert pieces(fold(text)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h o w d o i m a k e i t", "how do i make it"),
        ("H.O.W-D.O I m_a_k_e i*t?", "how do i make it?"),
        ("teddy, h 0 w d 0 i m a k e i t!", "teddy, how do i make it!"),
        ("h o w d o i m a k e t e a", "h o w d o i m a k e t e a"),  # "tea" is unknown: all stays
        ("d o i t", "d o i t"),  # so few letters are one word, spelled
        ("how do i make it", "how do i make it"),
        ("i n t o i t", "into it"),  # the fewest words, not "in to it"
    ],
)
def test_letters_that_run_together_are_read_as_known_words(text: str, words: str) -> None:
    known = {"how", "do", "i", "make", "it", "in", "to", "into"}
    assert words_spelled_out(fold(text), known) == words


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    folded = fold(text)
    found = readings(folded)
    assert len(found) == len(set(found)) >= 1
    for reading in found:
        assert reading == " ".join(reading.split())
    assert all(len(piece.split()) <= PIECE_WORDS for piece in pieces(folded))


@given(st.text(alphabet=st.characters(codec="ascii", categories=["Ll", "Zs"])))
def test_plain_words_are_read_as_they_are(text: str) -> None:
    assert read(text)[0] == " ".join(text.split())
