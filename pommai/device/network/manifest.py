"""Which phrases of a relay a toy takes: the manifest as it comes in, part by part, and its limits. Pure."""

from __future__ import annotations

import re
from typing import Final

from pommai.packets import SHELF_BYTES
from pommai.protocol import PhraseEntry, PhraseManifest
from pommai.wire import TOKEN

MAX_PHRASES: Final = 2_000
MAX_PHRASE_BYTES: Final = 1_000_000

INCOMPLETE: Final = ""
"""The revision of a manifest of which something had to be left out: never that of a relay."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class NonsenseError(Exception):
    """The relay's manifest cannot be used; the text says why, in words of our own."""


class Manifest:
    """What has come so far; `entries` is all of it once `is_whole`. One that changes on the way begins anew."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.revision = INCOMPLETE
        self.entries: list[PhraseEntry] = []
        self.is_whole = False

    def add(self, part: PhraseManifest) -> bool:
        """Take the next part; False if the manifest has changed, so that its parts are needed from the first on.

        Raises NonsenseError for what does not follow on the last part, or must not be taken.
        """
        if self.entries and part.revision != self.revision:
            self.entries = []
            return False
        self.revision = part.revision
        if self.revision == INCOMPLETE:
            raise NonsenseError("a manifest without a revision")
        if part.first != len(self.entries) or not (part.phrases or part.total == len(self.entries)):
            raise NonsenseError("a part that does not follow on the last one")
        for entry in part.phrases:
            _check(entry)
        self.entries += part.phrases
        if not len(self.entries) <= part.total <= MAX_PHRASES:
            raise NonsenseError("more phrases than a toy takes, or than were announced")
        if len({entry.id for entry in self.entries}) != len(self.entries):
            raise NonsenseError("a phrase that is named twice")
        if sum(entry.size for entry in self.entries) > SHELF_BYTES:
            raise NonsenseError("more bytes of phrases than a toy takes")
        self.is_whole = len(self.entries) == part.total
        return True


def _check(entry: PhraseEntry) -> None:
    if not (TOKEN.fullmatch(entry.id) and TOKEN.fullmatch(entry.kind) and _SHA256.fullmatch(entry.sha256)):
        raise NonsenseError("a phrase whose id, kind or hash is none")
    if not 0 < entry.size <= MAX_PHRASE_BYTES:
        raise NonsenseError(f"a phrase of {entry.size} bytes")
