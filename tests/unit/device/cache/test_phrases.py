"""Phrases: fetched piece by piece, checked as a whole, and never silent while a new voice is on its way."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pommai.device.cache import phrases
from pommai.packets import SHELF_BYTES, unpack
from pommai.protocol import PhraseEntry

from .opened import fetch, opened, phrase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.db"


@pytest.fixture
def blobs() -> Iterator[dict[str, bytes]]:
    yield {name: phrase(name)[1] for name in ("hello", "joke", "song")}


def entries(*names: str) -> list[PhraseEntry]:
    return [phrase(name)[0] for name in names]


async def test_what_the_manifest_names_is_fetched_in_its_order(path: Path, blobs: dict[str, bytes]) -> None:
    async with opened(path) as cache:
        assert await cache.wanted() is None and await cache.revision() is None and await cache.phrases() == ()
        await cache.manifest("r1", entries("joke", "hello"))
        assert await cache.revision() is None and await cache.phrases() == ()
        assert await fetch(cache, blobs) == ["joke", "hello"]
        assert await cache.revision() == "r1"
    async with opened(path) as cache:
        assert await cache.phrases() == tuple(entries("joke", "hello"))
        assert await cache.phrase_packets("joke") == unpack(blobs["joke"])
        assert await cache.phrase_packets("song") is None
        assert await cache.revision() == "r1" and await cache.wanted() is None


async def test_the_pieces_survive_a_restart(path: Path, blobs: dict[str, bytes]) -> None:
    (hello,) = entries("hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [hello])
        assert not await cache.add_chunk("hello", hello.sha256, 0, blobs["hello"][:1000])
        assert not await cache.add_chunk("hello", hello.sha256, 1000, blobs["hello"][1000:1500])
    async with opened(path) as cache:
        assert await cache.wanted() == (hello, 1500)
        assert await cache.add_chunk("hello", hello.sha256, 1500, blobs["hello"][1500:])
        assert await cache.phrase_packets("hello") == unpack(blobs["hello"])


async def test_phrases_that_are_gone_from_the_manifest_are_removed(path: Path, blobs: dict[str, bytes]) -> None:
    async with opened(path) as cache:
        await cache.manifest("r1", entries("hello", "joke", "song"))
        await fetch(cache, blobs)
        await cache.manifest("r2", entries("song", "hello"))
        assert await cache.phrases() == tuple(entries("song", "hello"))
        assert await cache.phrase_packets("joke") is None
        assert await cache.revision() == "r2"
        await cache.manifest("r3", [])
        assert await cache.phrases() == () and await cache.revision() == "r3"


async def test_the_old_voice_speaks_until_the_new_one_is_whole(path: Path, blobs: dict[str, bytes]) -> None:
    (old,) = entries("hello")
    new, new_blob = phrase("hello in another voice", 50)
    new = replace(new, id="hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [old])
        await fetch(cache, blobs)
        await cache.manifest("r2", [new])
        assert await cache.wanted() == (new, 0) and await cache.revision() is None
        await cache.add_chunk("hello", new.sha256, 0, new_blob[:2000])
        assert await cache.phrases() == (old,)
        assert await cache.phrase_packets("hello") == unpack(blobs["hello"])
        assert await cache.add_chunk("hello", new.sha256, 2000, new_blob[2000:])
        assert await cache.phrases() == (new,)
        assert await cache.phrase_packets("hello") == unpack(new_blob)
        assert await cache.revision() == "r2"


async def test_a_manifest_that_changes_in_mid_download_starts_that_phrase_anew(
    path: Path, blobs: dict[str, bytes]
) -> None:
    (old,) = entries("hello")
    new = replace(phrase("other")[0], id="hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [old])
        await cache.add_chunk("hello", old.sha256, 0, blobs["hello"][:1000])
        await cache.manifest("r1b", [old])
        assert await cache.wanted() == (old, 1000)  # the same phrase: nothing is fetched twice
        await cache.manifest("r2", [new])
        assert await cache.wanted() == (new, 0)
        assert not await cache.add_chunk("hello", old.sha256, 1000, blobs["hello"][1000:])  # a late piece of the old
        assert await cache.wanted() == (new, 0)


@pytest.mark.parametrize("fault", ["gap", "again", "too much", "wrong bytes", "no packets"])
async def test_a_phrase_that_arrives_damaged_is_fetched_again_three_times(
    path: Path, fault: str, blobs: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    blob = b"\x00\x00" * 100 if fault == "no packets" else blobs["hello"]
    hello = PhraseEntry("hello", "greeting", hashlib.sha256(blob).hexdigest(), len(blob))
    (song,) = entries("song")
    async with opened(path) as cache:
        await cache.manifest("r1", [hello, song])
        for failure in range(1, 4):
            assert await cache.wanted() == (hello, 0)
            await cache.add_chunk("hello", hello.sha256, 0, blob[:100])
            rest = {
                "gap": (101, blob[101:]),
                "again": (0, blob[:100]),
                "too much": (100, blob[100:] + b"x"),
                "wrong bytes": (100, blob[100:-1] + b"?"),
                "no packets": (100, blob[100:]),
            }[fault]
            assert not await cache.add_chunk("hello", hello.sha256, *rest)
            assert f"phrase arrived damaged count={failure}" in caplog.text
        assert await cache.wanted() == (song, 0), "it is left alone"
        assert await cache.revision() is None
        await cache.manifest("r2", [hello, song])
        assert await cache.wanted() == (hello, 0), "until the next manifest"


async def test_an_answer_of_eight_pieces_with_a_bad_one_is_one_failure(
    path: Path, blobs: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    (hello,) = entries("hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [hello])
        await cache.add_chunk("hello", hello.sha256, 0, blobs["hello"][:100])
        for start in range(200, 900, 100):
            await cache.add_chunk("hello", hello.sha256, start, blobs["hello"][start : start + 100])
        assert await cache.wanted() == (hello, 0)
    assert caplog.text.count("arrived damaged") == 1


async def test_one_success_forgives_the_failures_before(path: Path, blobs: dict[str, bytes]) -> None:
    (hello,) = entries("hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [hello])
        for _ in range(2):
            await cache.add_chunk("hello", hello.sha256, 0, b"x")
            await cache.add_chunk("hello", hello.sha256, 7, b"x")
        assert await fetch(cache, blobs) == ["hello"]
        assert await cache.add_chunk("hello", hello.sha256, 0, b"late"), "it is complete already"
        assert await cache.phrase_packets("hello") == unpack(blobs["hello"])


async def test_pieces_of_what_nobody_wants_are_ignored(path: Path) -> None:
    async with opened(path) as cache:
        assert not await cache.add_chunk("nobody", "00", 0, b"abc")
        await cache.manifest("r1", [PhraseEntry("empty", "joke", hashlib.sha256(b"").hexdigest(), 0)])
        assert await cache.wanted() is None and await cache.revision() is None


async def test_audio_that_went_bad_on_the_disk_is_fetched_again(path: Path, blobs: dict[str, bytes]) -> None:
    (hello,) = entries("hello")
    async with opened(path) as cache:
        await cache.manifest("r1", [hello])
        await fetch(cache, blobs)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE phrases SET audio = substr(audio, 2)")
    connection.commit()
    connection.close()
    async with opened(path) as cache:
        assert await cache.phrase_packets("hello") is None
        assert await cache.phrases() == () and await cache.revision() is None
        assert await fetch(cache, blobs) == ["hello"]
        assert await cache.phrase_packets("hello") == unpack(blobs["hello"])


async def test_what_does_not_fit_is_not_wanted(monkeypatch: pytest.MonkeyPatch, blobs: dict[str, bytes]) -> None:
    import pommai.device.cache.tables as tables

    monkeypatch.setattr(tables, "MAX_BYTES_IN_MEMORY", len(blobs["hello"]) + 10)
    assert phrases.MAX_BYTES_IN_MEMORY < SHELF_BYTES
    async with opened(":memory:") as cache:
        await cache.manifest("r1", entries("hello", "joke"))
        assert await fetch(cache, blobs) == ["hello"]
        assert await cache.wanted() is None and await cache.revision() is None
