"""Sentences out of tokens: as soon as they are sure, and the same however the text was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.relay.sentences import MAX_CHARS, SentenceSplitter, encodable


def split(*tokens: str, max_chars: int = MAX_CHARS) -> list[str]:
    splitter = SentenceSplitter(max_chars)
    return [sentence for token in tokens for sentence in splitter.push(token)] + splitter.flush()


def squeeze(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("   \n ", []),
        ("Hello", ["Hello"]),
        ("Hi! How are you?", ["Hi!", "How are you?"]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("It is 3.5 metres. Wow.", ["It is 3.5 metres.", "Wow."]),
        ("Mr. Bear met Dr. Owl. They sang.", ["Mr. Bear met Dr. Owl.", "They sang."]),
        ("Fruit, e.g. Apples, is nice. Yes.", ["Fruit, e.g. Apples, is nice.", "Yes."]),
        ("We wake at 7 a.m. and sing. Then we eat.", ["We wake at 7 a.m. and sing.", "Then we eat."]),
        ("We wake at 7 a.m. Then we eat.", ["We wake at 7 a.m.", "Then we eat."]),
        ("A. A. Milne wrote it. So do I. Good.", ["A. A. Milne wrote it.", "So do I.", "Good."]),
        ("Hmm... let me think. Well... Yes!", ["Hmm... let me think.", "Well...", "Yes!"]),
        ("Hmm\u2026 let me think.", ["Hmm\u2026 let me think."]),
        ('"Stop!" said the bear. "Go!" The bear ran.', ['"Stop!" said the bear.', '"Go!"', "The bear ran."]),
        ("(What fun!) Again.", ["(What fun!)", "Again."]),
        ("No space.At all.", ["No space.At all."]),
        ("One line\nAnother line", ["One line", "Another line"]),
        ("1. Wash your hands. 2. Eat.", ["1. Wash your hands.", "2. Eat."]),
        ("That is 5. Good job!", ["That is 5.", "Good job!"]),
        ("... hello. Bye.", ["... hello.", "Bye."]),
        ("Well...\nyes", ["Well...", "yes"]),
        ("Dr.\nOwl", ["Dr.", "Owl"]),
        ("Listen, Dr. \n Owl", ["Listen, Dr.", "Owl"]),
        ("\u304a\u306f\u3088\u3046\u3002\u5143\u6c17\uff1f", ["\u304a\u306f\u3088\u3046\u3002", "\u5143\u6c17\uff1f"]),
        ("Yay! \U0001f600", ["Yay!", "\U0001f600"]),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences
    assert split(*text) == sentences, "one character a token gives the same"


def test_a_plain_sentence_comes_out_at_the_space_after_it() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("Bears like honey.") == []
    assert splitter.push(" ") == ["Bears like honey."]


def test_a_stop_that_may_go_on_waits_for_the_character_that_decides() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("Well... ") == []
    assert splitter.push("No") == ["Well..."]
    assert splitter.push(' way!" ') == []
    assert splitter.push("he") == []
    assert splitter.push(" said. ") == ['No way!" he said.']


def test_flush_empties_the_splitter() -> None:
    splitter = SentenceSplitter()
    splitter.push("Half a sen")
    assert splitter.flush() == ["Half a sen"]
    assert splitter.flush() == []


def test_a_long_sentence_is_cut_after_its_last_clause() -> None:
    head = "I went to the woods, and there I met a fox, "
    text = head + "and " * 60
    first, *rest = split(text)
    assert first == head.strip()
    assert all(len(sentence) <= MAX_CHARS for sentence in rest)


def test_a_long_sentence_without_clauses_is_cut_at_a_space() -> None:
    assert split("bear " * 10, max_chars=22) == ["bear bear bear bear", "bear bear bear bear", "bear bear"]


def test_a_word_without_end_is_cut_where_the_cap_is() -> None:
    assert split("x" * 45, max_chars=20) == ["x" * 20, "x" * 20, "x" * 5]


texts = st.text(alphabet=st.sampled_from("abI3MDr. .!?\u2026\"') ,\n\t\u3002\u3001\U0001f600"), max_size=120)


@given(texts, st.lists(st.integers(0, 120), max_size=12), st.integers(5, 60))
def test_nothing_is_lost_and_tokens_do_not_matter(text: str, cuts: list[int], max_chars: int) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    tokens = [text[start:end] for start, end in pairwise(edges)]
    sentences = split(*tokens, max_chars=max_chars)
    assert squeeze("".join(sentences)) == squeeze(text)
    assert sentences == split(text, max_chars=max_chars)
    assert all(sentence == sentence.strip() != "" for sentence in sentences)
    assert all(len(sentence) <= max_chars for sentence in sentences)


@given(st.text(max_size=300))
def test_any_unicode_survives(text: str) -> None:
    assert squeeze("".join(split(*text))) == squeeze(text)


def test_a_huge_token_costs_no_more_than_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pending is copied for each sentence, so it must stay short."""
    splitter = SentenceSplitter()
    pending: list[int] = []
    sure_end = SentenceSplitter._sure_end

    def watched(self: SentenceSplitter) -> int | None:
        pending.append(len(self._text))
        return sure_end(self)

    monkeypatch.setattr(SentenceSplitter, "_sure_end", watched)
    assert len(splitter.push("Bears sing. " * 2000)) == 2000
    assert max(pending) <= 2 * MAX_CHARS


def test_lone_surrogates_become_question_marks() -> None:
    assert encodable("be\ud800ar \U0001f43b") == "be?ar \U0001f43b"
