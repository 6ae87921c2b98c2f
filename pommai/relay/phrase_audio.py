"""The phrases that toys keep for times without a network, spoken by the relay in the toy's own voice.

Each sentence is judged at every start of the relay, and only what the guardian clears reaches the voice. What was
spoken once is kept in the store, by its text and its voice, so that a restart speaks nothing again. A phrase of which
any sentence does not pass is left out whole, and what was spoken of it is removed.

All of it happens in the background, a sentence at a time and never while a turn is answered. What fails is tried again
for as long as the relay lives. A toy deletes what is not in the list, so nothing that was spoken before may be missing
there because an engine is out of order. A phrase that cannot be judged or spoken now is listed as the relay spoke it
before, in another version or another voice: it was cleared then, and toys may have it. One that was never spoken is
not listed yet, and the others do not wait for it.

What is ready later makes a new revision. A toy that is connected by then is told so (`pommai.relay.upkeep`), and
fetches what it lacks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

import pommai
from pommai.codec import BITRATE_BPS, OpusEncoder
from pommai.errors import ProviderError, StoreError
from pommai.packets import pack
from pommai.protocol import FRAME_MS, MAX_ITEMS, MAX_MESSAGE_BYTES, ErrorCode, PhraseEntry, PhraseManifest
from pommai.relay.guardian import Cleared, Guardian
from pommai.relay.ports import TTS, Category
from pommai.relay.sentences import SentenceSplitter
from pommai.relay.voice import Route, speech
from pommai.starter import Phrase
from pommai.wire import encoded_size

WAIT_S: Final = 0.5
"""Between two looks whether the turns in flight are over."""

RETRY_S: Final = 30.0
MAX_RETRY_S: Final = 1800.0
"""How long after a judge or a voice has failed its phrases are tried again; each time twice as long, up to the most."""

SENTENCE_S: Final = 60.0
"""How long the voice may take for one sentence; a service that never answers must not hold up the others."""

_log = logging.getLogger(__name__)


class PhraseStore(Protocol):
    """Keeps what was spoken. Every method that fails raises StoreError and nothing else."""

    async def find_sound(self, text_sha: str, voice: str) -> tuple[str, str, int] | None:
        """The voice, the SHA-256 (hex) and the size of what was spoken of this text; in this voice, if it was."""

    async def keep_sound(self, text_sha: str, voice: str, sha256: str, sound: bytes) -> None:
        """Keep what was spoken, in place of what was kept for this text in this voice."""

    async def sound(self, text_sha: str, voice: str, offset: int, n_bytes: int) -> bytes:
        """At most `n_bytes` of what was spoken, from byte `offset` on; nothing if it is not kept."""

    async def keep_only(self, sounds: Collection[tuple[str, str]]) -> None:
        """Remove every sound but these; each is a text's SHA-256 (hex) and a voice."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A phrase that toys may have."""

    entry: PhraseEntry
    text_sha: str
    voice: str


class SpokenPhrases:
    """The phrases of one pack in one voice, for every toy. `prepare` makes them; the rest may be asked at any time."""

    def __init__(self, pack: Sequence[Phrase], guardian: Guardian, tts: TTS, store: PhraseStore) -> None:
        self._pack = tuple(pack)
        self._guardian = guardian
        self._tts = tts
        self._store = store
        self._voice = voice_key(tts)
        self._looked_up: set[str] = set()
        self._settled: dict[str, list[Cleared]] = {}
        self._ready: dict[str, _Ready] = {}
        self._listed: dict[str, _Ready] = {}
        self._revision: str | None = None

    @property
    def revision(self) -> str | None:
        """Of all that can be had now; None before everything was tried once, and if nothing can be had."""
        return self._revision

    def manifest(self, first: int) -> PhraseManifest | None:
        """The part of the list that begins with entry `first`, as much as a message holds; None without a revision."""
        if self._revision is None:
            return None
        entries = [listed.entry for listed in self._listed.values()]
        part: list[PhraseEntry] = []
        room = MAX_MESSAGE_BYTES - _HEAD_BYTES
        for entry in entries[first : first + MAX_ITEMS]:
            room -= encoded_size(entry)
            if room < 0:
                break
            part.append(entry)
        return PhraseManifest(self._revision, first, len(entries), tuple(part))

    async def sound(self, id: str, sha256: str, offset: int, n_bytes: int) -> bytes | None:
        """At most `n_bytes` of a phrase from byte `offset` on; None if there is no such phrase or byte. StoreError."""
        listed = self._listed.get(id)
        if listed is None or listed.entry.sha256 != sha256 or offset > listed.entry.size:
            return None
        sound = await self._store.sound(listed.text_sha, listed.voice, offset, n_bytes)
        return sound if sound or offset == listed.entry.size else None

    async def prepare(self, busy: Callable[[], bool]) -> None:
        """Judge and speak everything, and publish it. Runs once, in a task of its own; returns when all is done.

        `busy`: whether a turn is in flight anywhere, which then comes first. Raises nothing for a judge, a voice or a
        store that fails: that is logged, and tried again.
        """
        left = self._pack
        pause_s = RETRY_S
        while left := tuple([phrase for phrase in left if not await self._make(phrase, busy)]):
            await self._publish()
            if held_back := [phrase.id for phrase in left if phrase.id not in self._listed]:
                n, of = len(self._listed), len(self._pack)
                _log.error("phrases held back ids=%s listed=%d of=%d", ",".join(held_back), n, of)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)
        await self._publish()

    async def _publish(self) -> None:
        """List what is ready, in the order of the pack, under a revision; and let go of all other sound.

        Not before it is known of every phrase whether it was spoken before: toys may have it.
        """
        if len(self._looked_up) < len(self._pack):
            return
        self._listed = {phrase.id: self._ready[phrase.id] for phrase in self._pack if phrase.id in self._ready}
        entries = sorted((listed.entry.id, listed.entry.sha256) for listed in self._listed.values())
        revision = hashlib.sha256(repr(entries).encode()).hexdigest()[:_REVISION_DIGITS] if entries else None
        if revision != self._revision:
            self._revision = revision
            _log.info("phrases ready n=%d of=%d revision=%s", len(self._listed), len(self._pack), revision)
        try:
            await self._store.keep_only([(listed.text_sha, listed.voice) for listed in self._listed.values()])
        except StoreError as error:
            _log.error("old phrases not removed: %s", error)

    async def _make(self, phrase: Phrase, busy: Callable[[], bool]) -> bool:
        """Have one phrase ready, or refused for good; False if it should be tried again."""
        try:
            if phrase.id not in self._looked_up:
                await self._look_up(phrase)
            if phrase.id not in self._settled:
                self._settled[phrase.id] = await self._judge(phrase, busy)
                if not self._settled[phrase.id]:
                    self._ready.pop(phrase.id, None)
            cleared = self._settled[phrase.id]
            if cleared and not self._is_spoken(phrase):
                sound = await self._speak(cleared, busy)
                sha256, text_sha = _sha(sound), _sha(phrase.text.encode())
                await self._store.keep_sound(text_sha, self._voice, sha256, sound)
                self._have(phrase, self._voice, sha256, len(sound))
        except ProviderError as error:
            _log.warning("phrase failed id=%s stage=%s code=%s", phrase.id, error.stage, error.code)
            return False
        except StoreError as error:
            _log.warning("phrase not kept id=%s: %s", phrase.id, error)
            return False
        return True

    async def _look_up(self, phrase: Phrase) -> None:
        """Have ready what was spoken of a phrase before, until it is refused."""
        kept = await self._store.find_sound(_sha(phrase.text.encode()), self._voice)
        if kept is not None:
            self._have(phrase, *kept)
        self._looked_up.add(phrase.id)

    def _have(self, phrase: Phrase, voice: str, sha256: str, size: int) -> None:
        entry = PhraseEntry(phrase.id, phrase.kind, sha256, size)
        self._ready[phrase.id] = _Ready(entry, _sha(phrase.text.encode()), voice)

    def _is_spoken(self, phrase: Phrase) -> bool:
        """Whether a phrase is ready in the voice of now."""
        ready = self._ready.get(phrase.id)
        return ready is not None and ready.voice == self._voice

    async def _judge(self, phrase: Phrase, busy: Callable[[], bool]) -> list[Cleared]:
        """The phrase's sentences, if they all pass; nothing if one does not. Raises ProviderError without a verdict."""
        splitter = SentenceSplitter()
        allowed: list[Cleared] = []
        for sentence in (*splitter.push(phrase.text), *splitter.flush()):
            await _until_not(busy)
            verdict, cleared = await self._guardian.clear(sentence, [words.text for words in allowed])
            if verdict.category is Category.UNJUDGED:
                raise ProviderError("moderator", ErrorCode.UNAVAILABLE, retryable=True)
            if cleared is None:
                _log.error("phrase refused id=%s category=%s rule=%s", phrase.id, verdict.category, verdict.rule)
                return []
            allowed.append(cleared)
        return allowed

    async def _speak(self, cleared: Sequence[Cleared], busy: Callable[[], bool]) -> bytes:
        """All sentences of a phrase as one blob. Raises ProviderError if there is no sound in it."""
        encoder = OpusEncoder()
        packets: list[bytes] = []
        for words in cleared:
            await _until_not(busy)
            try:
                async with asyncio.timeout(SENTENCE_S):
                    async with aclosing(speech(self._tts, words, Route.PHRASE, encoder)) as spoken:
                        packets += [packet async for packet, _ in spoken]
            except TimeoutError:
                raise ProviderError("tts", ErrorCode.TIMEOUT, retryable=True) from None
        if not packets:
            raise ProviderError("tts", ErrorCode.UNAVAILABLE)
        return pack(packets)


async def _until_not(busy: Callable[[], bool]) -> None:
    while busy():  # noqa: ASYNC110 - turns end in many places, and half a second matters to nobody here
        await asyncio.sleep(WAIT_S)


def voice_key(tts: TTS) -> str:
    """What a voice sounds like: another engine, pommai or coding makes other sound of the same text."""
    return f"{tts.name}/{pommai.__version__}/{BITRATE_BPS}/{FRAME_MS}"


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_REVISION_DIGITS: Final = 32
_HEAD_BYTES: Final = 256
"""Room for what a manifest holds beside its entries."""
