"""The starter pack: what every toy can say with no network, before anything was synced.

All of it is in `data/starter.toml`, for parents to read and review in one place. The relay turns each phrase into sound
in the toy's own voice; until a toy has that sound, it has this text.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any, Final

from pommai.errors import ConfigError

MAX_WORDS: Final = 120
"""The longest phrase but a story: some 45 s of speech."""

STORY_WORDS: Final = (80, 150)
"""The shortest and the longest story, the latter about a minute of speech."""

_WORDS: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


class PhraseKind(StrEnum):
    """The occasions for a phrase; the values are the tables of `starter.toml`."""

    GREETING = "greeting"
    SONG = "song"
    JOKE = "joke"
    STORY = "story"
    GOODNIGHT = "goodnight"
    AFFECTION = "affection"
    UNREACHABLE = "unreachable"
    HELP = "help"
    LOST_THREAD = "lost_thread"
    RESTING = "resting"
    GOODNIGHT_REST = "goodnight_rest"
    NOTHING_TO_REPEAT = "nothing_to_repeat"
    LOW_BATTERY = "low_battery"
    RESTARTING = "restarting"
    ONLINE = "online"
    OFFLINE = "offline"
    BATTERY_FULL = "battery_full"
    BATTERY_GOOD = "battery_good"
    BATTERY_LOW = "battery_low"
    BATTERY_CHARGING = "battery_charging"
    VOLUME_QUIET = "volume_quiet"
    VOLUME_MEDIUM = "volume_medium"
    VOLUME_LOUD = "volume_loud"


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing that the toy can say. `id` is its kind and a number, and means the same words for ever."""

    id: str
    kind: PhraseKind
    text: str


@functools.cache
def load() -> tuple[Phrase, ...]:
    """The pack that ships with pommai, in the order of its file; read once."""
    return read(resources.files("pommai").joinpath("data", "starter.toml").read_text(encoding="utf-8"))


def read(text: str) -> tuple[Phrase, ...]:
    """The phrases of a pack, from the text of its TOML file: a table for each kind, `id = "what is said"` in it.

    Raises ConfigError with everything that is wrong with the pack.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"The starter pack is not TOML: {error}"]) from error
    problems = [*_wrong_tables(tables)]
    if problems:
        raise ConfigError(problems)
    phrases = tuple(Phrase(id, kind, said) for kind in PhraseKind for id, said in tables[kind].items())
    problems = [problem for phrase in phrases for problem in _wrong(phrase)]
    if problems:
        raise ConfigError(problems)
    return phrases


def words(text: str) -> int:
    """How many words are spoken for `text`."""
    return len(_WORDS.findall(text))


def _wrong_tables(tables: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the pack as a whole: kinds that are missing, unknown, or no table of texts."""
    for name in tables:
        if name not in list(PhraseKind):
            yield f"The starter pack has an unknown kind of phrase: {name}."
    for kind in PhraseKind:
        table = tables.get(kind)
        if not table or not isinstance(table, dict):
            yield f"The starter pack has no phrase for {kind.value}."
            continue
        for id, said in table.items():
            if not isinstance(said, str):
                yield f"The phrase {id} is not a text."


def _wrong(phrase: Phrase) -> Iterator[str]:
    """What is wrong with one phrase. The ids of a table differ by themselves, and so those of two kinds do too."""
    if not re.fullmatch(rf"{phrase.kind.value}-[1-9][0-9]{{0,2}}", phrase.id):
        yield f"The id of a phrase for {phrase.kind.value} is its kind and a number, not {phrase.id}."
    least, most = STORY_WORDS if phrase.kind is PhraseKind.STORY else (1, MAX_WORDS)
    count = words(phrase.text)
    if not least <= count <= most:
        yield f"The phrase {phrase.id} has {count} words; it must have {least} to {most}."
    if phrase.text != " ".join(phrase.text.split()):
        yield f"The phrase {phrase.id} has white space that nobody hears."
