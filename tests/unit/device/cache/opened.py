"""A cache on a file, for as long as a test wants it, and what it is filled with."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pommai.device.cache.cache import Cache
from pommai.device.settings import CacheSettings
from pommai.packets import pack
from pommai.protocol import EventRecord, PhraseEntry

NOW_S = 1_700_000_000.0
DAY_S = 86_400.0


@asynccontextmanager
async def opened(path: Path | str, **settings: Any) -> AsyncIterator[Cache]:
    cache = await Cache.open(CacheSettings(str(path), **settings), now_s=NOW_S)
    try:
        yield cache
    finally:
        await cache.close()


def event(number: int, kind: str = "activity", *, urgent: bool = False, at_s: float | None = None) -> EventRecord:
    return EventRecord(f"e{number}", kind, NOW_S + number if at_s is None else at_s, urgent, {"n": number})


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def unsent_ids(cache: Cache) -> list[str]:
    return [each.id for each in await cache.unsent(1_000_000, 10**9)]


def phrase(name: str, packets: int = 40) -> tuple[PhraseEntry, bytes]:
    """A phrase of that many packets, always the same for a name."""
    blob = pack(hashlib.sha256(f"{name} {n}".encode()).digest() * 5 for n in range(packets))
    return PhraseEntry(name, "greeting", hashlib.sha256(blob).hexdigest(), len(blob)), blob


async def fetch(cache: Cache, blobs: dict[str, bytes], chunk: int = 1275) -> list[str]:
    """Fetch all that is wanted, as the uplink does; the ids in the order in which they were complete."""
    done = []
    while (wanted := await cache.wanted()) is not None:
        entry, offset = wanted
        piece = blobs[entry.id][offset : offset + chunk]
        if await cache.add_chunk(entry.id, entry.sha256, offset, piece):
            done.append(entry.id)
    return done
