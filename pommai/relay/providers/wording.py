"""A spoken sentence as plain words, for comparing what a child said with what the toy knows. Pure.

Vectors of meaning are nearly blind to the small words that turn a question into another one: "not", "I" or "you",
"two" or "three". Those are made visible here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SHORT_FORMS: Final = (
    ("won't", "will not"),
    ("can't", "can not"),
    ("cannot", "can not"),
    ("n't", " not"),
    ("'m", " am"),
    ("'re", " are"),
    ("'ve", " have"),
    ("'ll", " will"),
    ("let's", "let us"),
    ("'s", " is"),
    ("+", " plus "),
)
_SAME: Final = {
    "wanna": "want to",
    "gonna": "going to",
    "goodnight": "good night",
    "favorite": "favourite",
    "color": "colour",
    "colors": "colours",
    "mommy": "mummy",
    "mom": "mummy",
    "mum": "mummy",
    "mama": "mummy",
    "dad": "daddy",
    "papa": "daddy",
}
_IN_FIGURES: Final = {
    str(number): word
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
            *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
            *("nineteen", "twenty"),
        )
    )
}
_NUMBERS: Final = frozenset(_IN_FIGURES.values()) | {"thirty", "forty", "fifty", "hundred", "thousand", "million"}
_EMPTY: Final = _set("pommai pomai pommy pommie really just so very actually")
"""Names for the toy, and words that add force but no meaning."""

_COURTESY: Final = re.compile(r"^\W*please\b|,\s*please\b(?=\W*$)|,\s*(?:little |dear )?bear\b(?=\W*$)")
_REQUEST: Final = re.compile(
    r"^(?:(?:can|could|will|would) you(?: please)?|do you want to|i want you to) "
    r"(?=(?:tell|give|say|sing|count|make|read|play|help|show|teach)\b)"
)
_I: Final = _set("i my mine myself")
_YOU: Final = _set("you your yours yourself")
_NO: Final = _set("not no never nobody nothing")
_ASKING: Final = _set(
    "what which who whom whose when where why how is are am was were do does did can could will would shall should may "
    "have has tell say sing read give"
)
_SMALL: Final = _set(
    "a an the this that these those it its he she they them his her their we us our one some any there here "
    "am is are was were be been being do does did doing done have has had having get gets got getting "
    "can could will would shall should may might must let to of in on at by for from with without into up out off "
    "and or but if than then as about over under again also too now all more most much many lot bit "
    "what which who whom whose when where why how not no yes me i my mine myself you your yours yourself "
    "want like need go going come thing things something someone know tell say give make made ever always right "
    "today tomorrow yesterday tonight soon later day little feel feeling feels felt please"
)
"""Words that leave the subject of a sentence open."""


@dataclass(frozen=True)
class Wording:
    """A sentence as plain words. `plain`: small letters, single spaces, nothing else; empty where no word was left."""

    plain: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words, in order."""
        return tuple(self.plain.split())

    @cached_property
    def stems(self) -> frozenset[str]:
        """Its words without their endings."""
        return frozenset(map(stem, self.words))

    @cached_property
    def subjects(self) -> frozenset[str]:
        """The stems of the words that say what it is about."""
        return frozenset(stem(word) for word in self.words if word not in _SMALL)

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The numbers in it, sorted. "One" alone is none: "another one", "one more"."""
        found = tuple(sorted(word for word in self.words if word in _NUMBERS or word.isdecimal()))
        return () if found == ("one",) else found

    @cached_property
    def negated(self) -> bool:
        """Whether it says "not", "no" or "never", and does not take that back."""
        return sum(word in _NO for word in self.words) % 2 == 1

    @cached_property
    def asks(self) -> bool:
        """Whether it asks to be told something, rather than tells it."""
        return bool(self.words) and self.words[0] in _ASKING

    @cached_property
    def persons(self) -> tuple[bool, bool]:
        """Whether it speaks of the child, and of the toy."""
        return not _I.isdisjoint(self.words), not _YOU.isdisjoint(self.words)


def wording(text: str) -> Wording:
    """What was said, without case, punctuation, short forms, politeness and the toy's name."""
    spoken = _COURTESY.sub("", text.casefold().replace("\u2019", "'"))
    for short, full in _SHORT_FORMS:
        spoken = spoken.replace(short, full)
    words = (word for raw in re.findall(r"[^\W_]+", spoken) for word in _same(raw).split())
    return Wording(_REQUEST.sub("", " ".join(word for word in words if word not in _EMPTY)))


def stem(word: str) -> str:
    """`word` without the commonest endings: the same for "spider" and "spiders", for "hurts" and "hurting"."""
    if word.endswith("s") and not word.endswith("ss") and len(word) >= 4:
        word = word[:-1]
    for ending, least in (("ing", 6), ("ed", 5), ("ie", 5), ("e", 4), ("y", 4)):
        if word.endswith(ending) and len(word) >= least:
            return word[: -len(ending)]
    return word


def _same(word: str) -> str:
    """Another spelling or word for the same."""
    return _SAME.get(word) or _IN_FIGURES.get(word, word)
