"""The toy's fixed phrases: what it says when it may not, or cannot, say what the model wrote.

All of them are in `data/phrases.toml`, for people to read and review in one place. Each key has several variants that
take turns, so that a toy does not repeat itself like a machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import resources
from itertools import cycle

from pommai.errors import ConfigError


class PhraseKey(StrEnum):
    """The occasions for a fixed phrase; the values are the tables of `phrases.toml`."""

    DIDNT_HEAR = "didnt_hear"
    TROUBLE = "trouble"
    UNJUDGED = "unjudged"
    STOPPED = "stopped"
    REDIRECT = "redirect"
    REDIRECT_DANGER = "redirect_danger"
    REDIRECT_VIOLENCE = "redirect_violence"
    REDIRECT_WORDS = "redirect_words"
    REDIRECT_BODY = "redirect_body"
    REDIRECT_CONTACT = "redirect_contact"
    REDIRECT_SECRECY = "redirect_secrecy"
    REDIRECT_PERSONAL = "redirect_personal"
    COMFORT = "comfort"
    COMFORT_HOUSEHOLD = "comfort_household"
    COMFORT_HURT = "comfort_hurt"
    COMFORT_AFRAID = "comfort_afraid"
    COMFORT_SAD = "comfort_sad"
    COMFORT_BULLIED = "comfort_bullied"
    COMFORT_NEGLECTED = "comfort_neglected"
    COMFORT_HIT = "comfort_hit"
    COMFORT_HIT_HOUSEHOLD = "comfort_hit_household"
    COMFORT_TOUCHED = "comfort_touched"
    COMFORT_TOUCHED_HOUSEHOLD = "comfort_touched_household"
    COMFORT_SELF_HARM = "comfort_self_harm"
    COMFORT_EMERGENCY = "comfort_emergency"
    COMFORT_EMERGENCY_HOUSEHOLD = "comfort_emergency_household"


class PhraseBook:
    """The phrases by key; `next` deals the variants of a key in turn."""

    def __init__(self, phrases: Mapping[PhraseKey, Sequence[str]]) -> None:
        """`phrases`: at least one variant for every key. Raises ConfigError that names every key without one."""
        missing = [key for key in PhraseKey if not phrases.get(key)]
        if missing:
            raise ConfigError([f"The phrase book has no phrase for {key.value}." for key in missing])
        self._phrases = {key: tuple(phrases[key]) for key in PhraseKey}
        self._turns = {key: cycle(variants) for key, variants in self._phrases.items()}

    @classmethod
    def load(cls) -> PhraseBook:
        """The book that ships with pommai."""
        text = resources.files("pommai.relay").joinpath("data", "phrases.toml").read_text(encoding="utf-8")
        tables = tomllib.loads(text)
        return cls({PhraseKey(key): variants for key, variants in tables["phrases"].items()})

    def next(self, key: PhraseKey) -> str:
        """The next variant for `key`; after the last comes the first again."""
        return next(self._turns[key])

    def variants(self, key: PhraseKey) -> tuple[str, ...]:
        """Every variant for `key`, as the engines need them to prepare."""
        return self._phrases[key]
