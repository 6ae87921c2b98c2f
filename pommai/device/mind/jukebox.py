"""Which phrase the toy says next when nobody thinks for it: choice alone, no sound and no clock.

Activities go round in a cycle: greeting, song, joke, story, goodnight. A greeting is followed by a kind word. Of each
kind, what was never said comes first, in the order of the pack; then what was not said for longest. So every phrase of
a kind is heard before one is heard again.

Phrases that have audio, in the toy's own voice, go before those that are text only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pommai.device.mind.events import Occasion
from pommai.starter import Phrase, PhraseKind

FULL_PERCENT: Final = 90
"""From here on the battery is called full."""

LOW_PERCENT: Final = 25
"""Below this the battery is called low when the child asks; the toy's own warning comes later and is set elsewhere."""

QUIET: Final = 0.34
MEDIUM: Final = 0.67
"""Volumes below these are called quiet and medium; above, loud."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the toy knows of itself. `battery_percent`: None without a battery; `volume`: 0.0 to 1.0."""

    online: bool
    battery_percent: int | None
    charging: bool
    volume: float


CYCLE: Final = (PhraseKind.GREETING, PhraseKind.SONG, PhraseKind.JOKE, PhraseKind.STORY, PhraseKind.GOODNIGHT)
"""The activities, in the order in which they are played."""

_KINDS: Final[Mapping[Occasion, PhraseKind]] = MappingProxyType(
    {
        Occasion.REPEAT: PhraseKind.NOTHING_TO_REPEAT,
        Occasion.UNREACHABLE: PhraseKind.UNREACHABLE,
        Occasion.HELP: PhraseKind.HELP,
        Occasion.LOST_THREAD: PhraseKind.LOST_THREAD,
        Occasion.RESTING: PhraseKind.RESTING,
        Occasion.BEDTIME: PhraseKind.GOODNIGHT_REST,
        Occasion.NOTHING_TO_REPEAT: PhraseKind.NOTHING_TO_REPEAT,
        Occasion.LOW_BATTERY: PhraseKind.LOW_BATTERY,
        Occasion.RESTARTING: PhraseKind.RESTARTING,
    }
)
"""The words of each occasion but three. The speaker repeats what it can by itself; who still asks to has nothing."""


class Jukebox:
    """Chooses phrases, and remembers what was chosen."""

    def __init__(self, phrases: Sequence[Phrase], position: Mapping[str, object] | None = None) -> None:
        """`position`: what `position` gave before a restart; whatever of it makes no sense now is dropped."""
        self._all = tuple(phrases)
        self._phrases = {kind: tuple(phrase for phrase in phrases if phrase.kind is kind) for kind in PhraseKind}
        remembered = position or {}
        self._next = _index(remembered.get("next"))
        known = {phrase.id for phrase in phrases}
        said = remembered.get("said")
        ids = [id for id in said if isinstance(id, str) and id in known] if isinstance(said, list) else []
        self._said = dict.fromkeys(ids)

    @property
    def position(self) -> dict[str, object]:
        """Where the choice stands, for JSON: the `next` activity, and the ids that were `said`, the latest last."""
        return {"next": CYCLE[self._next].value, "said": list(self._said)}

    def choose(
        self, occasion: Occasion, status: Status | None = None, *, phrase: str = "", available: Collection[str] = ()
    ) -> tuple[Phrase, ...]:
        """The phrases to say one after the other; none if the pack has none for it.

        `status` goes with `Occasion.STATUS`: raises ValueError without it. `phrase`, the id of one that is wanted, goes
        with `Occasion.PHRASE`. `available`: the ids that have audio.
        """
        match occasion:
            case Occasion.ACTIVITY:
                return self._activity(available)
            case Occasion.STATUS:
                if status is None:
                    raise ValueError("to tell the status, give it")
                return self._each(_kinds_of(status), available)
            case Occasion.PHRASE:
                return self._saying(*(known for known in self._all if known.id == phrase))
            case _:
                return self._each((_KINDS[occasion],), available)

    def _each(self, kinds: Iterable[PhraseKind], available: Collection[str]) -> tuple[Phrase, ...]:
        found = (self._of(kind, available) for kind in kinds)
        return self._saying(*(phrase for phrase in found if phrase is not None))

    def _activity(self, available: Collection[str]) -> tuple[Phrase, ...]:
        """The next of the cycle; kinds that the pack does not have are passed over."""
        for step in range(len(CYCLE)):
            index = (self._next + step) % len(CYCLE)
            phrase = self._of(CYCLE[index], available)
            if phrase is not None:
                self._next = (index + 1) % len(CYCLE)
                return self._saying(phrase, *self._kind_word(phrase, available))
        return ()

    def _kind_word(self, phrase: Phrase, available: Collection[str]) -> tuple[Phrase, ...]:
        """What follows a greeting, if both have audio or neither has: no sentence is said in two voices."""
        word = self._of(PhraseKind.AFFECTION, available) if phrase.kind is PhraseKind.GREETING else None
        if word is None or (word.id in available) != (phrase.id in available):
            return ()
        return (word,)

    def _of(self, kind: PhraseKind, available: Collection[str]) -> Phrase | None:
        """The phrase of `kind` whose turn it is."""
        phrases = self._phrases[kind]
        ready = [phrase for phrase in phrases if phrase.id in available] or phrases
        order = {id: place for place, id in enumerate(self._said)}
        return min(ready, key=lambda phrase: order.get(phrase.id, -1), default=None)

    def _saying(self, *phrases: Phrase) -> tuple[Phrase, ...]:
        for phrase in phrases:
            self._said.pop(phrase.id, None)
            self._said[phrase.id] = None
        return phrases


def _index(kind: object) -> int:
    """Where a remembered activity stands in the cycle; the beginning, for one that is none."""
    return next((index for index, activity in enumerate(CYCLE) if activity.value == kind), 0)


def _kinds_of(status: Status) -> tuple[PhraseKind, ...]:
    """What there is to tell: connection, battery if there is one, volume."""
    connection = PhraseKind.ONLINE if status.online else PhraseKind.OFFLINE
    battery = _battery(status.battery_percent, charging=status.charging)
    return (connection, *battery, _volume(status.volume))


def _battery(percent: int | None, *, charging: bool) -> tuple[PhraseKind, ...]:
    if charging:
        return (PhraseKind.BATTERY_CHARGING,)
    if percent is None:
        return ()
    if percent >= FULL_PERCENT:
        return (PhraseKind.BATTERY_FULL,)
    return (PhraseKind.BATTERY_LOW if percent < LOW_PERCENT else PhraseKind.BATTERY_GOOD,)


def _volume(volume: float) -> PhraseKind:
    if volume < QUIET:
        return PhraseKind.VOLUME_QUIET
    return PhraseKind.VOLUME_MEDIUM if volume < MEDIUM else PhraseKind.VOLUME_LOUD
