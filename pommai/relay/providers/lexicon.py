"""Lists of phrases to look for, on word boundaries, with room between the words.

Pure. A phrase is words between spaces, over text from `normalise.readings`:

    bomb|bombs      one of these words         ?my uncle      a word that may be missing
    stab*           a word that begins so      hit ... me     up to three words between
    <family>        one of a named group       light ~ match  up to three small words ("the", "my", "to") between
    grown_up        with or without the space  ^  $           the text begins or ends here

What fired is named by list and number ("weapons/3"), so that a log tells the rule and never the child's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pommai.relay.ports import Category, Layer, Need

_GAP: Final = r"(?: \S+){0,3}"
_SMALL: Final = (
    r"(?: (?:an?|the|my|your|his|her|our|their|some|any|this|that|these|so|such|very|really|too|just|to|all|ever|is|are"
    r"|only|it|in|on|by|with|of|i|we|us|me|them|even|also|still|at|not|little|be|feel|do|you|and|being|always|am|both"
    r"|home|full|last)){0,3}"
)
_PLAIN: Final = re.compile(r"\??[a-z]+\??")
_MARK: Final = re.compile(r"\*|<(?P<group>\w+)>|_")


@dataclass(frozen=True, slots=True)
class WordList:
    """One list: what its phrases mean, in which layers they count, and the phrases of harmless talk that silence it."""

    id: str
    category: Category
    severity: int
    layers: frozenset[Layer]
    phrases: tuple[re.Pattern[str], ...]
    unless: tuple[re.Pattern[str], ...] = ()
    need: Need | None = None

    def search(self, readings: Iterable[str]) -> int | None:
        """The number of the first phrase in any of the readings, from 1; None if there is none."""
        for reading in readings:
            words = f" {reading} "
            for number, phrase in enumerate(self.phrases, start=1):
                if phrase.search(words) and not any(harmless.search(words) for harmless in self.unless):
                    return number
        return None


def compile_phrase(phrase: str, groups: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
    """The pattern of a phrase over words that are padded with one space at both ends. Raises KeyError for a group."""
    return re.compile("".join(_piece(token, groups) for token in phrase.split()) + "(?= )")


def read_lists(data: Mapping[str, object]) -> tuple[WordList, ...]:
    """The word lists of a parsed `lexicon.toml`, in its order."""
    groups = _table(data["groups"])
    return tuple(_word_list(entry, groups) for entry in _entries(data["lists"]))


def any_of(group: str, data: Mapping[str, object]) -> re.Pattern[str]:
    """The pattern of one group of a parsed `lexicon.toml`."""
    return compile_phrase(f"<{group}>", _table(data["groups"]))


def words_of(data: Mapping[str, object]) -> frozenset[str]:
    """The plain words in the groups and phrases of a parsed `lexicon.toml`; of "bombs?" both forms. Other patterns are
    left out, and so is every single letter that is not a word."""
    groups = _table(data["groups"])
    texts = [text for group in groups.values() for text in group]
    texts += [text for entry in _entries(data["lists"]) for text in _texts(entry["phrases"])]
    found: set[str] = set()
    for alternative in re.split(r"[ |]", " ".join(texts)):
        if _PLAIN.fullmatch(alternative):
            word = alternative.lstrip("?")
            found |= {word.replace("?", ""), re.sub(r".\?", "", word)}
    return frozenset(word for word in found if len(word) > 1 or word in {"a", "i"})


def _piece(token: str, groups: Mapping[str, Sequence[str]]) -> str:
    match token:
        case "...":
            return _GAP
        case "~":
            return _SMALL
        case "^":
            return r"\A"
        case "$":
            return r"(?= \Z)"
        case _ if token.startswith("?"):
            return f"(?:{_piece(token[1:], groups)})?"
        case _:
            return " (?:" + _MARK.sub(lambda mark: _marked(mark, groups), token) + ")"


def _marked(mark: re.Match[str], groups: Mapping[str, Sequence[str]]) -> str:
    match mark[0]:
        case "*":
            return r"\S*"
        case "_":
            return " ?"
        case _:
            return "|".join(groups[mark["group"]])


def _word_list(entry: Mapping[str, object], groups: Mapping[str, Sequence[str]]) -> WordList:
    need = entry.get("need")
    return WordList(
        id=str(entry["id"]),
        category=Category(str(entry["category"])),
        severity=int(str(entry["severity"])),
        layers=frozenset(Layer(layer) for layer in _texts(entry["layers"])),
        phrases=tuple(compile_phrase(phrase, groups) for phrase in _texts(entry["phrases"])),
        unless=tuple(compile_phrase(phrase, groups) for phrase in _texts(entry.get("unless", []))),
        need=None if need is None else Need(str(need)),
    )


def _table(value: object) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise TypeError("the groups must be a table")
    return {str(key): _texts(texts) for key, texts in value.items()}


def _entries(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise TypeError("the lists must be an array of tables")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("expected a list of texts")
    return [str(text) for text in value]
