"""The starter pack: complete, safe to say to a child, and refused with a reason when it is not."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pommai import starter
from pommai.errors import ConfigError
from pommai.starter import STORY_WORDS, Phrase, PhraseKind

PACK = starter.load()
AT_LEAST = {
    PhraseKind.GREETING: 6,
    PhraseKind.SONG: 6,
    PhraseKind.JOKE: 8,
    PhraseKind.STORY: 5,
    PhraseKind.GOODNIGHT: 5,
    PhraseKind.AFFECTION: 6,
    PhraseKind.UNREACHABLE: 4,
    PhraseKind.HELP: 2,
    PhraseKind.LOST_THREAD: 3,
    PhraseKind.RESTING: 3,
    PhraseKind.GOODNIGHT_REST: 2,
}
LAST = [PhraseKind.GOODNIGHT, PhraseKind.GOODNIGHT_REST, PhraseKind.RESTING]
"""After these the toy is quiet, so they ask for nothing."""


def of(kind: PhraseKind) -> list[Phrase]:
    return [phrase for phrase in PACK if phrase.kind is kind]


def pack(**tables: str) -> str:
    """A pack with one phrase for each kind, but for what is given instead: the lines of a kind's table."""
    story = " ".join(["word"] * STORY_WORDS[0])
    lines = {kind.value: f'{kind.value}-1 = "{story if kind is PhraseKind.STORY else "Hello."}"' for kind in PhraseKind}
    return "\n".join(f"[{name}]\n{text}" for name, text in (lines | tables).items())


def test_there_are_at_least_sixty_phrases_and_enough_of_each_kind() -> None:
    assert len(PACK) >= 60
    counts = Counter(phrase.kind for phrase in PACK)
    for kind in PhraseKind:
        assert counts[kind] >= AT_LEAST.get(kind, 1), kind


def test_ids_and_texts_are_different() -> None:
    assert len({phrase.id for phrase in PACK}) == len({phrase.text for phrase in PACK}) == len(PACK)


def test_the_pack_is_read_once() -> None:
    assert starter.load() is starter.load()


@pytest.mark.parametrize("phrase", PACK, ids=lambda phrase: phrase.id)
def test_a_phrase_can_be_read_aloud_by_any_voice(phrase: Phrase) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z ,.!?'-]*[.!?]", phrase.text)


@pytest.mark.parametrize("phrase", PACK, ids=lambda phrase: phrase.id)
def test_a_phrase_keeps_the_rules_of_its_file(phrase: Phrase) -> None:
    said = phrase.text.lower()
    begs = r"don't (go|leave)|stay with me|please stay|come back (to me|soon)|miss(ed)? you|without you|forget me"
    hides = r"secret|promise|between us|won't tell|don't tell|only you and"
    human = r"\bi am (a |your )?(real|human|person|boy|girl|child|mum|mom|dad)\b|\bi'm (real|human|alive)\b"
    personal = r"your (full )?name|where you live|your (address|school|birthday|phone)|how old"
    medical = r"medicine|\bpills?\b|tablet|bandage|doctor"
    sells = r"\bbuy\b|\bshop now\b|upgrade|subscri|money|price"
    for rule in (begs, hides, human, personal, medical, sells):
        assert not re.search(rule, said), (phrase.id, rule)


@pytest.mark.parametrize("phrase", of(PhraseKind.HELP), ids=lambda phrase: phrase.id)
def test_help_leads_to_a_grown_up_and_only_trust_decides_to_whom(phrase: Phrase) -> None:
    assert re.search(r"grown-up (you trust|who makes you feel safe)", phrase.text)
    assert not re.search(r"\b(mum|mom|dad|parent|family|home|teacher|neighbour)", phrase.text, re.IGNORECASE)
    assert not re.search(r"\bI (will|have|can) (tell|told|call)|I'll (tell|call)|I've (told|called)", phrase.text)


@pytest.mark.parametrize("phrase", [p for kind in LAST for p in of(kind)], ids=lambda phrase: phrase.id)
def test_what_is_said_last_asks_nothing(phrase: Phrase) -> None:
    assert "?" not in phrase.text


def test_quiet_hours_are_answered_in_a_few_words() -> None:
    assert all(starter.words(phrase.text) <= 8 for phrase in of(PhraseKind.GOODNIGHT_REST))


def test_phrases_that_other_tests_listen_for_begin_alike() -> None:
    assert of(PhraseKind.UNREACHABLE)[0].text.startswith("I can't reach my thinking cap")


@pytest.mark.parametrize(("text", "count"), [("", 0), ("No-one's a-peeling, is it?", 4), ("... !", 0), ("One  two", 2)])
def test_words_are_counted_as_they_are_spoken(text: str, count: int) -> None:
    assert starter.words(text) == count


def test_a_pack_in_any_order_is_read_in_the_order_of_the_kinds() -> None:
    text = pack(joke='joke-2 = "Second."\njoke-1 = "First."')
    backwards = "\n".join(f"[{table}" for table in reversed(text.split("[")[1:]))
    phrases = starter.read(backwards)
    assert [phrase.kind for phrase in phrases if phrase.text != "Second."] == list(PhraseKind)
    assert [phrase.id for phrase in phrases if phrase.kind is PhraseKind.JOKE] == ["joke-2", "joke-1"]


@pytest.mark.parametrize(
    ("tables", "problems"),
    [
        ({"tale": 'tale-1 = "Once."'}, ["The starter pack has an unknown kind of phrase: tale."]),
        ({"joke": "", "song": ""}, ["The starter pack has no phrase for song.", "... no phrase for joke."]),
        ({"joke": "joke-1 = 3"}, ["The phrase joke-1 is not a text."]),
        ({"joke": 'song-1 = "Ha."'}, ["The id of a phrase for joke is its kind and a number, not song-1."]),
        ({"joke": 'joke-0 = "Ha."'}, ["The id of a phrase for joke is its kind and a number, not joke-0."]),
        ({"joke": 'joke-1 = ""'}, ["The phrase joke-1 has 0 words; it must have 1 to 120."]),
        ({"joke": f'joke-1 = "Ha{" ha" * 120}"'}, ["The phrase joke-1 has 121 words; it must have 1 to 120."]),
        ({"story": 'story-1 = "Once."'}, ["The phrase story-1 has 1 words; it must have 80 to 150."]),
        ({"joke": 'joke-1 = "Ha.\\n"'}, ["The phrase joke-1 has white space that nobody hears."]),
    ],
)
def test_a_pack_that_is_wrong_is_refused_with_every_reason(tables: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        starter.read(pack(**tables))
    told = [problem.removeprefix("...") for problem in problems]
    assert len(raised.value.problems) == len(told)
    assert all(problem.endswith(end) for problem, end in zip(raised.value.problems, told, strict=True))


@pytest.mark.parametrize("text", ["joke = [", 'joke = "Ha."', ""])
def test_what_is_no_pack_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="starter pack"):
        starter.read(text)


def test_a_phrase_that_stands_twice_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"not TOML.*line"):
        starter.read(pack(joke='joke-1 = "Ha."\njoke-1 = "Ho."'))
