"""Engines that follow a script: for tests, load and demonstrations, shipped in the open.

They behave like the real ones. They take time, can be cancelled at any point, close their streams, and fail in every
way a service fails: at once, in mid-stream, or by never answering. A seed makes every delay repeatable.
"""

from __future__ import annotations

import asyncio
import math
import random
import zlib
from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from pommai.audio import SPEECH
from pommai.codec import packet_ms
from pommai.errors import AudioError, ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.ports import Category, ChatMessage, Finding, Layer, Source, Token, Transcript, Utterance

SILENT_BYTES_MS: Final = 1.5
"""Opus with fewer bytes a millisecond holds no speech: digital silence takes about 1.1, a voice 3 (measured here)."""

CHAR_MS: Final = 60
"""How long the scripted voice takes for a character."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an engine is: to its first result, and between the pieces after it.

    `jitter`: each delay varies by up to this part of itself, as `seed` decides.
    """

    first_s: float = 0.0
    piece_s: float = 0.0
    jitter: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How an engine fails: `code` as ProviderError, or by hanging for ever.

    `after`: pieces that still come. `calls`: how many calls fail before the engine is well again.
    """

    code: ErrorCode = ErrorCode.UNAVAILABLE
    hangs: bool = False
    after: int = 0
    calls: int = 1_000_000


class _Scripted:
    """What the four have in common: pace, failure, and a count of the work in progress."""

    def __init__(self, stage: str, pace: Pace, failure: Failure | None) -> None:
        self._stage = stage
        self._pace = pace
        self._random = random.Random(pace.seed)
        self._failure = failure
        self.calls = 0
        self.at_work = 0

    @property
    def name(self) -> str:
        """`scripted`."""
        return "scripted"

    @contextmanager
    def _call(self) -> Iterator[int]:
        """Count a call while it lasts; its number, from 0."""
        self.calls += 1
        self.at_work += 1
        try:
            yield self.calls - 1
        finally:
            self.at_work -= 1

    async def _piece(self, call: int, piece: int) -> None:
        """Let the time pass that `piece`, from 0, takes, and fail if the script says so."""
        failure = self._failure
        if failure is not None and call < failure.calls and piece >= failure.after:
            if failure.hangs:
                await asyncio.get_running_loop().create_future()
            raise ProviderError(self._stage, failure.code, retryable=failure.code is not ErrorCode.BAD_AUDIO)
        delay_s = self._pace.first_s if piece == 0 else self._pace.piece_s
        await asyncio.sleep(delay_s * (1 + self._pace.jitter * self._random.uniform(-1, 1)))


class ScriptedSTT(_Scripted):
    """Hears the texts of its script, one an utterance, over and over; silence stays silence."""

    def __init__(self, texts: Sequence[str], pace: Pace = Pace(), failure: Failure | None = None) -> None:
        super().__init__("stt", pace, failure)
        self._texts = cycle(texts)

    async def transcribe(self, utterance: Utterance) -> Transcript:
        """The next text; empty if the packets are too small to hold speech."""
        with self._call() as call:
            await self._piece(call, 0)
            try:
                length_ms = sum(map(packet_ms, utterance.packets))
            except AudioError:
                raise ProviderError("stt", ErrorCode.BAD_AUDIO) from None
            if sum(map(len, utterance.packets)) <= SILENT_BYTES_MS * length_ms:
                return Transcript("", 0.0)
            return Transcript(next(self._texts), 1.0)


class ScriptedModerator(_Scripted):
    """Finds what its script says: the finding of the first key that occurs in the text; otherwise nothing."""

    def __init__(
        self, findings: Mapping[str, Finding] | None = None, pace: Pace = Pace(), failure: Failure | None = None
    ) -> None:
        super().__init__("moderator", pace, failure)
        self._findings = findings or {}
        self.judged: list[tuple[Layer, str, tuple[str, ...]]] = []

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        """The scripted finding; what was judged is kept in `judged`."""
        with self._call() as call:
            await self._piece(call, 0)
            self.judged.append((layer, text, tuple(recent)))
            found = (finding for key, finding in self._findings.items() if key in text)
            return next(found, Finding(Category.BENIGN, 0, 0.0, "scripted"))


class ScriptedLLM(_Scripted):
    """Replies with the texts of its script, one a call, over and over, a word a token."""

    def __init__(
        self,
        replies: Sequence[str],
        pace: Pace = Pace(),
        failure: Failure | None = None,
        source: Source = Source.MODEL,
    ) -> None:
        super().__init__("llm", pace, failure)
        self._replies = cycle(replies)
        self._source = source
        self.prompts: list[tuple[ChatMessage, ...]] = []

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Token, None]:
        """The next reply; the prompt is kept in `prompts`."""
        with self._call() as call:
            self.prompts.append(tuple(messages))
            words = next(self._replies).split(" ")
            for piece, word in enumerate(words):
                await self._piece(call, piece)
                yield Token(word if piece == 0 else f" {word}", self._source)


class ScriptedTTS(_Scripted):
    """Speaks in tones: one pitch a text (`pitch_hz`), as long as the text is long (`CHAR_MS`)."""

    PIECE_MS: Final = 200

    def __init__(self, pace: Pace = Pace(), failure: Failure | None = None) -> None:
        super().__init__("tts", pace, failure)
        self.spoken: list[str] = []

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """The tone of the text, in pieces of `PIECE_MS`; the text is kept in `spoken`."""
        with self._call() as call:
            self.spoken.append(text)
            pcm = tone(pitch_hz(text), CHAR_MS * len(text))
            size = SPEECH.bytes(self.PIECE_MS)
            for piece, start in enumerate(range(0, len(pcm), size)):
                await self._piece(call, piece)
                yield pcm[start : start + size]


def pitch_hz(text: str) -> int:
    """The pitch in which the scripted voice says `text`: one of 60, from 300 Hz to 1480 Hz in steps of 20."""
    return 300 + 20 * (zlib.crc32(text.encode()) % 60)


def tone(hz: float, ms: float, amplitude: float = 0.25) -> bytes:
    """A sine as PCM in the `SPEECH` format."""
    step = 2 * math.pi * hz / SPEECH.rate_hz
    samples = array("h", (int(amplitude * 32767 * math.sin(step * i)) for i in range(SPEECH.samples(ms))))
    return samples.tobytes()
