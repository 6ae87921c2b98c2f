"""The phrases that toys keep for times without a network, spoken by the relay in the toy's own voice.

Each sentence is judged at every start of the relay, and only what the guardian clears reaches the voice. What was
spoken once is kept in the store, by its text and its voice, so that a restart speaks nothing again. A phrase of which
any sentence does not pass is left out whole.

All of it happens in the background, a sentence at a time and never while a turn is answered. There is no `revision`
until everything that can be spoken is ready: a toy syncs once, and then has all of it. What came too late for a toy's
welcome, it learns at its next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

import pommai
from pommai.audio import SPEECH
from pommai.codec import BITRATE_BPS, Framer, OpusEncoder
from pommai.errors import LocalProtocolError, ProviderError, StoreError
from pommai.packets import pack
from pommai.protocol import FRAME_MS, MAX_ITEMS, MAX_MESSAGE_BYTES, ErrorCode, PhraseEntry, PhraseManifest
from pommai.relay.guardian import Cleared, Guardian
from pommai.relay.ports import TTS, Category
from pommai.relay.sentences import SentenceSplitter
from pommai.relay.voice import MAX_SENTENCE_S, Route
from pommai.starter import Phrase
from pommai.wire import encoded_size

WAIT_S: Final = 0.5
"""Between two looks whether the turns in flight are over."""

TRIES: Final = 3
RETRY_S: Final = 30.0
"""How often, and how long after, a phrase is tried again whose judge or voice has failed."""

SENTENCE_S: Final = 60.0
"""How long the voice may take for one sentence; a service that never answers must not hold up the others."""

_FRAME_BYTES: Final = SPEECH.bytes(FRAME_MS)

_log = logging.getLogger(__name__)


class PhraseStore(Protocol):
    """Keeps what was spoken. Every method that fails raises StoreError and nothing else."""

    async def find_sound(self, text_sha: str, voice: str) -> tuple[str, int] | None:
        """The SHA-256 (hex) and the size of this text in this voice, if it was spoken before."""

    async def keep_sound(self, text_sha: str, voice: str, sha256: str, sound: bytes) -> None:
        """Keep what was spoken, in place of what was kept for this text in this voice."""

    async def sound(self, text_sha: str, voice: str, offset: int, n_bytes: int) -> bytes:
        """At most `n_bytes` of what was spoken, from byte `offset` on; nothing if it is not kept."""

    async def keep_only(self, voice: str, text_shas: Sequence[str]) -> None:
        """Remove every sound but those of these texts in this voice."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A phrase that toys may have."""

    entry: PhraseEntry
    text_sha: str


class SpokenPhrases:
    """The phrases of one pack in one voice, for every toy. `prepare` makes them; the rest may be asked at any time."""

    def __init__(self, pack: Sequence[Phrase], guardian: Guardian, tts: TTS, store: PhraseStore) -> None:
        self._pack = tuple(pack)
        self._guardian = guardian
        self._tts = tts
        self._store = store
        self._voice = voice_key(tts)
        self._ready: dict[str, _Ready] = {}
        self._revision: str | None = None

    @property
    def revision(self) -> str | None:
        """Of all that can be had; None until that is ready, and if it is nothing. It never changes after that."""
        return self._revision

    def manifest(self, first: int) -> PhraseManifest | None:
        """The part of the list that begins with entry `first`, as much as a message holds; None without a revision."""
        if self._revision is None:
            return None
        entries = [ready.entry for ready in self._ready.values()]
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
        ready = self._ready.get(id) if self._revision is not None else None
        if ready is None or ready.entry.sha256 != sha256 or offset > ready.entry.size:
            return None
        sound = await self._store.sound(ready.text_sha, self._voice, offset, n_bytes)
        return sound if sound or offset == ready.entry.size else None

    async def prepare(self, busy: Callable[[], bool]) -> None:
        """Judge and speak everything, then publish it. Runs once, in a task of its own; returns when it is done.

        `busy`: whether a turn is in flight anywhere, which then comes first. Raises nothing for a judge, a voice or a
        store that fails: what it cannot make after `TRIES` is left out, and named in the log.
        """
        left = list(self._pack)
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(RETRY_S)
            left = [phrase for phrase in left if not await self._make(phrase, busy)]
            if not left:
                break
        for phrase in left:
            _log.error("phrase not made id=%s", phrase.id)
        await self._publish()

    async def _publish(self) -> None:
        """Give what is ready a revision, in the order of the pack, and let go of what was spoken for other packs."""
        self._ready = {phrase.id: self._ready[phrase.id] for phrase in self._pack if phrase.id in self._ready}
        if not self._ready:
            return
        entries = sorted((ready.entry.id, ready.entry.sha256) for ready in self._ready.values())
        self._revision = hashlib.sha256(repr(entries).encode()).hexdigest()[:_REVISION_DIGITS]
        _log.info("phrases ready n=%d of=%d revision=%s", len(self._ready), len(self._pack), self._revision)
        try:
            await self._store.keep_only(self._voice, [_sha(phrase.text.encode()) for phrase in self._pack])
        except StoreError as error:
            _log.error("old phrases not removed: %s", error)

    async def _make(self, phrase: Phrase, busy: Callable[[], bool]) -> bool:
        """Have one phrase ready, or refused for good; False if it should be tried again."""
        try:
            cleared = await self._judged(phrase, busy)
            if cleared:
                self._ready[phrase.id] = await self._made(phrase, cleared, busy)
        except ProviderError as error:
            _log.warning("phrase failed id=%s stage=%s code=%s", phrase.id, error.stage, error.code)
            return False
        except StoreError as error:
            _log.warning("phrase not kept id=%s: %s", phrase.id, error)
            return False
        return True

    async def _judged(self, phrase: Phrase, busy: Callable[[], bool]) -> list[Cleared]:
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

    async def _made(self, phrase: Phrase, cleared: Sequence[Cleared], busy: Callable[[], bool]) -> _Ready:
        """The sound of a phrase, from the store if it was spoken before."""
        text_sha = _sha(phrase.text.encode())
        known = await self._store.find_sound(text_sha, self._voice)
        if known is None:
            sound = await self._speak(cleared, busy)
            known = _sha(sound), len(sound)
            await self._store.keep_sound(text_sha, self._voice, known[0], sound)
        return _Ready(PhraseEntry(phrase.id, phrase.kind, *known), text_sha)

    async def _speak(self, cleared: Sequence[Cleared], busy: Callable[[], bool]) -> bytes:
        """All sentences of a phrase as one blob. Raises ProviderError if there is no sound in it."""
        encoder = OpusEncoder()
        packets: list[bytes] = []
        for words in cleared:
            await _until_not(busy)
            try:
                async with asyncio.timeout(SENTENCE_S):
                    packets += await _packets(self._tts, words, Route.PHRASE, encoder)
            except TimeoutError:
                raise ProviderError("tts", ErrorCode.TIMEOUT, retryable=True) from None
        if not packets:
            raise ProviderError("tts", ErrorCode.UNAVAILABLE)
        return pack(packets)


async def _packets(tts: TTS, words: Cleared, route: Route, encoder: OpusEncoder) -> list[bytes]:
    """One sentence as Opus. Raises LocalProtocolError for words without a passed verdict: a bug on our side."""
    if not isinstance(words, Cleared) or not words.verdict.passed or route is not Route.PHRASE:
        raise LocalProtocolError("words without a passed verdict were given to the voice")
    framer = Framer(encoder, FRAME_MS)
    packets: list[bytes] = []
    n_bytes, limit = 0, SPEECH.bytes(MAX_SENTENCE_S * 1000)
    async with aclosing(tts.speak(words.text)) as pieces:
        async for piece in pieces:
            sound = piece[: limit - n_bytes]
            for start in range(0, len(sound), _FRAME_BYTES):
                packets += framer.push(sound[start : start + _FRAME_BYTES])
                await asyncio.sleep(0)  # a frame at a time: encoding never holds the loop
            n_bytes += len(sound)
            if n_bytes >= limit:
                break
    return [*packets, *framer.flush()]


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
