"""Phrases in the toy's own voice: judged, spoken once, listed in parts, and never in the way of a turn."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from pommai import starter
from pommai.audio import SPEECH
from pommai.codec import OpusDecoder
from pommai.errors import ProviderError, StoreError
from pommai.packets import unpack
from pommai.protocol import MAX_MESSAGE_BYTES, AudioFrame, ErrorCode, PhraseManifest
from pommai.relay import voice
from pommai.relay.guardian import Guardian
from pommai.relay.phrase_audio import MAX_RETRY_S, RETRY_S, SpokenPhrases, voice_key
from pommai.relay.ports import Category, Finding, Layer
from pommai.relay.providers.scripted import CHAR_MS, Failure, Pace, ScriptedModerator, ScriptedTTS, pitch_hz, tone
from pommai.starter import Phrase, PhraseKind
from pommai.wire import decode, encode
from tests.relay.test_store import bytes_on_disk, opened
from tests.relay.toybox import PHRASES, heard_pitches, pitches_of
from tests.relay.virtual_time import run, until

JOKE = Phrase("joke-1", PhraseKind.JOKE, "What is brown and sticky? A stick!")
SONG = Phrase("song-1", PhraseKind.SONG, "La, la, la.")
PSST = Phrase("song-2", PhraseKind.SONG, "Clap your hands. Then psst, tell nobody.")
SHOUT = {"psst": Finding(Category.SECRECY, 3, 1.0, "test-secret")}


class MemoryStore:
    """A PhraseStore without a disk; `broken` makes it fail."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.broken = False

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the disk is full")

    async def find_sound(self, text_sha: str, voice: str) -> tuple[str, str, int] | None:
        self._check()
        voices = sorted((key[1] for key in self.kept if key[0] == text_sha), key=voice.__ne__)
        if not voices:
            return None
        sha256, sound = self.kept[text_sha, voices[0]]
        return voices[0], sha256, len(sound)

    async def keep_sound(self, text_sha: str, voice: str, sha256: str, sound: bytes) -> None:
        self._check()
        self.kept[text_sha, voice] = sha256, sound

    async def sound(self, text_sha: str, voice: str, offset: int, n_bytes: int) -> bytes:
        self._check()
        return self.kept.get((text_sha, voice), ("", b""))[1][offset : offset + n_bytes]

    async def keep_only(self, sounds: Collection[tuple[str, str]]) -> None:
        self._check()
        self.kept = {key: kept for key, kept in self.kept.items() if key in sounds}


def spoken(
    store: Any,
    pack: Sequence[Phrase] = (JOKE, SONG),
    moderator: ScriptedModerator | None = None,
    tts: ScriptedTTS | None = None,
) -> SpokenPhrases:
    return SpokenPhrases(pack, Guardian(moderator or ScriptedModerator(), PHRASES), tts or ScriptedTTS(), store)


def never() -> bool:
    return False


async def whole(phrases: SpokenPhrases, id: str) -> bytes:
    manifest = phrases.manifest(0)
    assert manifest is not None
    entry = next(entry for entry in manifest.phrases if entry.id == id)
    sound = await phrases.sound(entry.id, entry.sha256, 0, 1_000_000)
    assert sound is not None and len(sound) == entry.size and hashlib.sha256(sound).hexdigest() == entry.sha256
    return sound


def ids(phrases: SpokenPhrases) -> list[str]:
    manifest = phrases.manifest(0)
    return [] if manifest is None else [entry.id for entry in manifest.phrases]


async def test_a_phrase_is_heard_sentence_by_sentence_in_the_voice_of_replies() -> None:
    phrases = spoken(MemoryStore())
    await phrases.prepare(never)
    packets = unpack(await whole(phrases, "joke-1"))
    frames = [AudioFrame(1, n, packet) for n, packet in enumerate(packets)]
    assert heard_pitches(frames) == pitches_of(["What is brown and sticky?", "A stick!"])
    decoder = OpusDecoder()
    played_ms = sum(SPEECH.ms(len(decoder.decode(packet))) for packet in packets)
    assert 0 <= played_ms - CHAR_MS * len("What is brown and sticky?A stick!") <= 2 * 60


async def test_it_survives_a_restart_unspoken_but_not_unjudged(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    async with opened(path) as store:
        first = spoken(store)
        await first.prepare(never)
    async with opened(path) as store:
        moderator, tts = ScriptedModerator(), ScriptedTTS()
        again = spoken(store, moderator=moderator, tts=tts)
        await again.prepare(never)
        assert tts.spoken == []
        assert [text for _, text, _ in moderator.judged] == ["What is brown and sticky?", "A stick!", "La, la, la."]
        assert again.revision == first.revision is not None
        assert again.manifest(0) == first.manifest(0)
        assert await whole(again, "joke-1")
        stricter = spoken(store, moderator=ScriptedModerator({"stick": SHOUT["psst"]}))
        await stricter.prepare(never)
        assert ids(stricter) == ["song-1"], "what a stricter judge refuses is not offered any more"
    assert b"sticky" not in bytes_on_disk(path)


async def test_another_text_or_voice_is_spoken_anew_and_the_old_one_let_go() -> None:
    store = MemoryStore()
    await (before := spoken(store)).prepare(never)
    changed, tts = Phrase("joke-1", PhraseKind.JOKE, "Knock, knock!"), ScriptedTTS()
    await (after := spoken(store, (changed, SONG), tts=tts)).prepare(never)
    assert tts.spoken == ["Knock, knock!"]
    assert after.revision != before.revision and len(store.kept) == 2

    class OtherTTS(ScriptedTTS):
        name = "other"

    other = OtherTTS()
    await (third := spoken(store, (changed, SONG), tts=other)).prepare(never)
    assert other.spoken == ["Knock, knock!", "La, la, la."]
    assert third.revision == after.revision, "the same sound is the same to a toy"
    assert {voice for _, voice in store.kept} == {voice_key(other)}


async def test_one_sentence_that_does_not_pass_leaves_its_phrase_out(caplog: pytest.LogCaptureFixture) -> None:
    tts, moderator = ScriptedTTS(), ScriptedModerator(SHOUT)
    phrases = spoken(MemoryStore(), (JOKE, PSST, SONG), moderator, tts)
    await phrases.prepare(never)
    assert ids(phrases) == ["joke-1", "song-1"]
    assert not any("Clap" in text or "psst" in text for text in tts.spoken), "nor is its harmless half spoken"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["phrase refused id=song-2 category=secrecy rule=test-secret"]
    assert ("psst" not in caplog.text) and "Clap" not in caplog.text
    assert (Layer.OUTPUT, "Then psst, tell nobody.", ("Clap your hands.",)) in moderator.judged


async def test_nothing_is_offered_before_everything_is_ready() -> None:
    tts = ScriptedTTS(Pace(first_s=0.05))
    phrases = spoken(MemoryStore(), tts=tts)
    seen: list[object] = []
    preparing = asyncio.create_task(phrases.prepare(never))
    while not preparing.done():
        seen += [phrases.revision, phrases.manifest(0), await phrases.sound("joke-1", "sha", 0, 1)]
        await asyncio.sleep(0.005)
    assert len(seen) > 6 and set(seen) == {None}
    assert phrases.revision is not None and ids(phrases) == ["joke-1", "song-1"]


async def test_if_nothing_can_be_spoken_there_is_no_revision() -> None:
    """A toy keeps the phrases that it has: an empty list would take them away."""
    phrases = spoken(MemoryStore(), (PSST,), ScriptedModerator(SHOUT))
    await phrases.prepare(never)
    assert phrases.revision is None and phrases.manifest(0) is None


@pytest.mark.parametrize("at_fault", ["judge", "voice"])
def test_an_engine_that_fails_for_a_while_costs_no_phrase(at_fault: str) -> None:
    failure = Failure(ErrorCode.UNAVAILABLE, calls=3)
    moderator = ScriptedModerator(failure=failure if at_fault == "judge" else None)
    tts = ScriptedTTS(failure=failure if at_fault == "voice" else None)
    phrases = spoken(MemoryStore(), moderator=moderator, tts=tts)

    async def main() -> float:
        await phrases.prepare(never)
        return asyncio.get_running_loop().time()

    assert RETRY_S <= run(main()) < 4 * RETRY_S
    assert ids(phrases) == ["joke-1", "song-1"]


@pytest.mark.parametrize("failure", [Failure(), Failure(hangs=True)])
def test_a_judge_that_never_answers_lets_nothing_pass(failure: Failure) -> None:
    tts = ScriptedTTS()
    phrases = spoken(MemoryStore(), moderator=ScriptedModerator(failure=failure), tts=tts)
    run(for_a_day(phrases))
    assert phrases.revision is None and tts.spoken == []


def test_a_voice_that_hangs_holds_up_nothing_for_long() -> None:
    tts = ScriptedTTS(failure=Failure(hangs=True, after=1, calls=1))
    phrases = spoken(MemoryStore(), tts=tts)
    run(phrases.prepare(never))
    assert ids(phrases) == ["joke-1", "song-1"] and tts.at_work == 0


def test_a_store_that_fails_for_hours_costs_no_phrase(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.broken = True
    phrases = spoken(store)

    async def main() -> None:
        preparing = asyncio.create_task(phrases.prepare(never))
        await asyncio.sleep(10_000)
        assert phrases.revision is None and "phrase not kept id=joke-1: the disk is full" in caplog.text
        store.broken = False
        await preparing

    run(main())
    assert ids(phrases) == ["joke-1", "song-1"]


def test_a_text_without_any_sound_is_left_out_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """As the embedded voice does with a script that it cannot read."""
    phrases = spoken(MemoryStore(), tts=Mute("La"))
    run(for_a_day(phrases))
    assert ids(phrases) == ["joke-1"]
    tries = [record.getMessage() for record in caplog.records].count(
        "phrase failed id=song-1 stage=tts code=unavailable"
    )
    assert 86_400 / MAX_RETRY_S <= tries < 86_400 / MAX_RETRY_S + 10


class Mute(ScriptedTTS):
    """Makes no sound for texts with a certain word in it, or for all."""

    def __init__(self, word: str = "", name: str = "") -> None:
        super().__init__()
        self._name = name
        self.word: str | None = word

    @property
    def name(self) -> str:
        return self._name or super().name

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        if self.word is None or self.word not in text:
            async for piece in super().speak(text):
                yield piece


async def for_a_day(phrases: SpokenPhrases) -> None:
    preparing = asyncio.create_task(phrases.prepare(never))
    await asyncio.sleep(86_400)
    assert not preparing.done()
    preparing.cancel()
    await asyncio.wait({preparing})


@pytest.mark.parametrize("word", ["La", ""])
def test_what_a_new_voice_cannot_speak_now_stays_as_it_was(word: str) -> None:
    """A toy deletes what the list does not have: a voice that is out of order must not cost it a phrase."""

    async def main() -> None:
        store = MemoryStore()
        await (before := spoken(store)).prepare(never)
        old = await whole(before, "song-1")
        tts = Mute(word, "new")
        after = spoken(store, tts=tts)
        preparing = asyncio.create_task(after.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        assert ids(after) == ["joke-1", "song-1"]
        assert await whole(after, "song-1") == old, "the relay has it still"
        assert after.revision == before.revision, "a toy that has all of it has nothing to fetch"
        tts.word = None
        await preparing
        assert "La, la, la." in tts.spoken, "also if it is the same sound"
        assert await whole(after, "song-1")
        assert {voice for _, voice in store.kept} == {voice_key(tts)}, "and now the old ones are let go"

    run(main())


def test_a_new_revision_follows_when_the_voice_has_come_back() -> None:
    tts = Mute("La")
    phrases = spoken(MemoryStore(), tts=tts)

    async def main() -> None:
        preparing = asyncio.create_task(phrases.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        first = phrases.revision
        assert first is not None and ids(phrases) == ["joke-1"]
        tts.word = None
        await preparing
        assert phrases.revision not in (None, first) and ids(phrases) == ["joke-1", "song-1"]

    run(main())


class Hesitant(ScriptedModerator):
    """Cannot judge texts with "La" in it, until it is `well`."""

    well = False

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        finding = await super().judge(text, layer, recent)
        if "La" in text and not self.well:
            raise ProviderError("moderator", ErrorCode.UNAVAILABLE, retryable=True)
        return finding


class Blind(MemoryStore):
    """Cannot say what it has, until it is `well`."""

    well = False

    async def find_sound(self, text_sha: str, voice: str) -> tuple[str, str, int] | None:
        if text_sha == hashlib.sha256(SONG.text.encode()).hexdigest() and not self.well:
            raise StoreError("cannot be read")
        return await super().find_sound(text_sha, voice)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_nothing_is_listed_while_it_is_not_known_of_one_phrase_what_toys_may_have(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else a toy would lose it, although nobody has refused it."""
    store = Blind()
    phrases = spoken(store)

    async def main() -> None:
        preparing = asyncio.create_task(phrases.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        assert len(store.kept) == 1 and phrases.revision is None
        assert errors(caplog) == ["phrases held back ids=song-1 listed=0 of=2"] * 2
        store.well = True
        await preparing

    run(main())
    assert ids(phrases) == ["joke-1", "song-1"] and len(errors(caplog)) == 2


def test_a_phrase_that_nobody_can_judge_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It was never spoken, so no toy has it to lose; and the operator is told of it with each try."""
    moderator, tts = Hesitant(), ScriptedTTS()
    phrases = spoken(MemoryStore(), moderator=moderator, tts=tts)

    async def main() -> None:
        preparing = asyncio.create_task(phrases.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        assert ids(phrases) == ["joke-1"] and "La, la, la." not in tts.spoken
        assert errors(caplog) == ["phrases held back ids=song-1 listed=1 of=2"] * 2
        first, moderator.well = phrases.revision, True
        await preparing
        assert ids(phrases) == ["joke-1", "song-1"] and phrases.revision not in (None, first)

    run(main())


@pytest.mark.parametrize("name", ["", "new"])
def test_what_cannot_be_judged_now_stays_as_it_was_spoken(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It was cleared then, toys may have it, and nobody has refused it since; also if the voice is another one."""

    async def main() -> None:
        store = MemoryStore()
        await (before := spoken(store)).prepare(never)
        old = await whole(before, "song-1")
        moderator, tts = Hesitant(), Mute("no such word", name)
        after = spoken(store, moderator=moderator, tts=tts)
        preparing = asyncio.create_task(after.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        assert after.revision == before.revision and await whole(after, "song-1") == old
        assert "La, la, la." not in tts.spoken and errors(caplog) == []
        moderator.well = True
        await preparing
        assert ids(after) == ["joke-1", "song-1"]
        assert {voice for _, voice in store.kept} == {voice_key(tts)}

    run(main())


@pytest.mark.parametrize("pack", [(JOKE, SONG), (SONG,)])
def test_what_is_refused_when_the_judge_has_come_back_is_taken_away(pack: Sequence[Phrase]) -> None:
    async def main() -> None:
        store = MemoryStore()
        await spoken(store, pack).prepare(never)
        moderator = Hesitant({"la": SHOUT["psst"]})
        phrases = spoken(store, pack, moderator)
        preparing = asyncio.create_task(phrases.prepare(never))
        await asyncio.sleep(2 * RETRY_S)
        assert "song-1" in ids(phrases)
        moderator.well = True
        await preparing
        assert ids(phrases) == [phrase.id for phrase in pack if phrase is not SONG]
        assert (phrases.revision is None) is (pack == (SONG,))
        unwell = spoken(store, pack, Hesitant())
        await until_listed(unwell)
        assert "song-1" not in ids(unwell), "nor is it offered when nobody can judge it again"

    run(main())


async def until_listed(phrases: SpokenPhrases) -> None:
    """Try everything once or twice, and stop."""
    preparing = asyncio.create_task(phrases.prepare(never))
    await asyncio.sleep(2 * RETRY_S)
    preparing.cancel()
    await asyncio.wait({preparing})


def test_sound_that_no_listed_phrase_uses_is_let_go_although_one_phrase_fails_for_ever() -> None:
    async def main() -> None:
        store = MemoryStore()
        await spoken(store, (JOKE, SONG, PSST)).prepare(never)
        tts = Mute("La", "new")
        await until_listed(spoken(store, tts=tts))
        old, new = voice_key(ScriptedTTS()), voice_key(tts)
        texts = {hashlib.sha256(phrase.text.encode()).hexdigest(): phrase.id for phrase in (JOKE, SONG, PSST)}
        kept = {(texts[text_sha], voice) for text_sha, voice in store.kept}
        assert kept == {("joke-1", new), ("song-1", old)}

    run(main())


def test_old_sound_that_cannot_be_removed_takes_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryStore):
        async def keep_only(self, sounds: Collection[tuple[str, str]]) -> None:
            raise StoreError("the disk is full")

    phrases = spoken(Full())
    run(phrases.prepare(never))
    assert ids(phrases) == ["joke-1", "song-1"] and errors(caplog) == ["old phrases not removed: the disk is full"]


def test_turns_come_first() -> None:
    """Nothing is judged or spoken while a turn is in flight; what has begun is a sentence at the most."""
    moderator, tts = ScriptedModerator(), ScriptedTTS(Pace(first_s=1.0))
    phrases = spoken(MemoryStore(), moderator=moderator, tts=tts)

    async def main() -> None:
        busy = True
        preparing = asyncio.create_task(phrases.prepare(lambda: busy))
        await asyncio.sleep(60)
        assert moderator.calls == tts.calls == 0
        busy = False
        await until(lambda: tts.at_work == 1)
        busy = True
        await asyncio.sleep(60)
        assert (moderator.calls, tts.calls, tts.at_work) == (2, 1, 0)
        busy = False
        await preparing
        assert (moderator.calls, tts.calls) == (3, 3)

    run(main())


async def test_it_can_be_stopped_at_any_time() -> None:
    tts = ScriptedTTS(Pace(first_s=60))
    preparing = asyncio.create_task(spoken(MemoryStore(), tts=tts).prepare(never))
    await until(lambda: tts.at_work == 1)
    preparing.cancel()
    await asyncio.wait({preparing})
    assert preparing.cancelled() and tts.at_work == 0


class Brief(ScriptedTTS):
    """Says everything in one frame, and each text in a pitch of its own."""

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        yield tone(pitch_hz(text), 60)


def many(count: int) -> list[Phrase]:
    return [Phrase(f"joke-{n}", PhraseKind.JOKE, f"Number {n}.") for n in range(1, count + 1)]


async def parts_of(phrases: SpokenPhrases) -> list[PhraseManifest]:
    """The whole list, as a toy asks for it."""
    parts: list[PhraseManifest] = []
    first = 0
    while not parts or first < parts[-1].total:
        part = phrases.manifest(first)
        assert part is not None and part.phrases
        parts.append(part)
        first += len(part.phrases)
    return parts


async def test_a_long_list_comes_in_parts_that_fit_a_message() -> None:
    pack = many(450)
    phrases = spoken(MemoryStore(), pack, tts=Brief())
    await phrases.prepare(never)
    parts = await parts_of(phrases)
    assert [entry.id for part in parts for entry in part.phrases] == [phrase.id for phrase in pack]
    for part in parts:
        frame = encode(part)
        assert len(frame) <= MAX_MESSAGE_BYTES and decode(frame) == part
    assert len(parts) > 2 and len(encode(parts[0])) > MAX_MESSAGE_BYTES * 0.9, "and fill it"
    beyond = phrases.manifest(450)
    assert beyond == PhraseManifest(parts[0].revision, 450, 450, ())


async def test_the_starter_pack_as_it_ships(tmp_path: Path) -> None:
    async with opened(tmp_path / "relay.db") as store:
        phrases = spoken(store, starter.load(), tts=Brief())
        await phrases.prepare(never)
        entries = [entry for part in await parts_of(phrases) for entry in part.phrases]
        assert [(entry.id, entry.kind) for entry in entries] == [(p.id, p.kind) for p in starter.load()]


async def test_a_sentence_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "MAX_SENTENCE_S", 0.6)
    phrases = spoken(MemoryStore(), (SONG, Phrase("song-9", PhraseKind.SONG, "la " * 60)))
    await phrases.prepare(never)
    assert len(unpack(await whole(phrases, "song-9"))) == 10
