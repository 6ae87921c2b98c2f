"""What the toy says by itself: phrases from its cache, in its own voice; else by espeak-ng; else only a sound.

A child who calls for help hears an answer even where all of that fails, and the call is on disk before it is answered:
a disk that fails, or hangs for longer than a child waits, gets it later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeVar

from pommai.codec import OpusDecoder
from pommai.device.diary import Diary
from pommai.device.mind.events import Occasion
from pommai.device.mind.jukebox import Jukebox, Status
from pommai.device.speech import espeak
from pommai.errors import AudioError, HardwareError, MissingExtra, PommaiError, StoreError
from pommai.protocol import PhraseEntry, Value
from pommai.starter import Phrase, PhraseKind

POSITION: Final = "jukebox"
"""Where the cache remembers what was said last."""

DISK_S: Final = 2.0
HUNG_S: Final = 0.2
"""How long a child waits for the disk; an SD card that tidies itself up takes up to a second. And how long for one that
let the child wait in vain, until it answers again."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PhraseCache(Protocol):
    """Phrases with audio, and a memory. Raises StoreError."""

    async def phrases(self) -> tuple[PhraseEntry, ...]:
        """Those that can be played now."""

    async def phrase_packets(self, phrase: str) -> tuple[bytes, ...] | None:
        """The Opus packets of one; None if it is not there."""

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        """Keep a small value."""


class CachedVoice:
    """See `ports.OwnVoice`."""

    def __init__(
        self,
        cache: PhraseCache,
        jukebox: Jukebox,
        diary: Diary,
        status: Callable[[], Status],
        last_resort: bytes,
        program: str | None,
    ) -> None:
        """`last_resort`: PCM for a toy that has no words. `program`: where espeak-ng is, if it is installed."""
        self._cache = cache
        self._jukebox = jukebox
        self._diary = diary
        self._status = status
        self._last_resort = last_resort
        self._program = program
        self._last: tuple[Phrase, ...] = ()
        self._writing: set[asyncio.Task[None]] = set()
        self._patience_s = DISK_S

    def speak(self, occasion: Occasion, phrase: str = "") -> AsyncGenerator[bytes, None]:
        """See `ports.OwnVoice`. A call for help is written down even if nobody listens to what is returned."""
        written = self._write_down("help", urgent=True) if occasion is Occasion.HELP else None
        return self._heard(occasion, self._speech(occasion, phrase, written))

    async def repeat(self, reply: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """See `ports.OwnVoice`."""
        async with aclosing(reply):
            await self._known(self._activity(Occasion.REPEAT, "reply"), Occasion.REPEAT)
            async for pcm in reply:
                yield pcm

    async def _heard(self, occasion: Occasion, speech: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """`speech`, or the last resort if there is none of it, whatever its reason."""
        spoken = False
        try:
            async with aclosing(speech):
                async for pcm in speech:
                    spoken = True
                    yield pcm
        except (PommaiError, OSError) as error:
            _log.error("own voice: it broke off, code=%s: %s", occasion, type(error).__name__)
        if not spoken:
            _log.warning("own voice: nothing to say, code=%s", occasion)
            yield self._last_resort

    async def _speech(
        self, occasion: Occasion, phrase: str, written: asyncio.Task[None] | None
    ) -> AsyncGenerator[bytes, None]:
        """All that is said on one occasion, when what is to be remembered of it is `written`."""
        phrases = await self._chosen(occasion, phrase)
        await self._known(written or self._activity(occasion, *(chosen.id for chosen in phrases)), occasion)
        for chosen in phrases:
            async with aclosing(self._sound(chosen)) as pieces:
                async for pcm in pieces:
                    yield pcm

    async def _chosen(self, occasion: Occasion, phrase: str) -> tuple[Phrase, ...]:
        """The phrases for an occasion; what is for the child's ear alone can be repeated."""
        if occasion is Occasion.REPEAT and self._last:
            return self._last
        available = {entry.id for entry in await self._asked(self._cache.phrases(), ())}
        phrases = self._jukebox.choose(occasion, self._status(), phrase=phrase, available=available)
        if occasion is Occasion.PHRASE and phrase in available and not phrases:
            phrases = (Phrase(phrase, PhraseKind.GREETING, ""),)  # of this toy alone: only its sound is known
        await self._asked(self._cache.remember(POSITION, self._jukebox.position), None)
        if occasion in (Occasion.ACTIVITY, Occasion.HELP, Occasion.PHRASE):
            self._last = phrases
        return phrases

    async def _sound(self, phrase: Phrase) -> AsyncGenerator[bytes, None]:
        """One phrase as PCM, as it was recorded, else as espeak-ng says it; nothing where neither can be had."""
        spoken = False
        for pieces in (self._recorded(phrase), self._synthetic(phrase)):
            async with aclosing(pieces):
                async for pcm in pieces:
                    spoken = True
                    yield pcm
            if spoken:
                return

    async def _recorded(self, phrase: Phrase) -> AsyncGenerator[bytes, None]:
        packets = await self._asked(self._cache.phrase_packets(phrase.id), None)
        if not packets:
            return
        try:
            decoder = OpusDecoder()
        except MissingExtra as error:
            _log.warning("own voice: what is recorded cannot be played, phrase=%s: %s", phrase.id, error)
            return
        broken = 0
        for packet in packets:
            try:
                yield decoder.decode(packet)
            except AudioError:
                broken += 1
            await asyncio.sleep(0)
        if broken:
            _log.warning("own voice: a recording is damaged, phrase=%s packets=%d", phrase.id, broken)

    async def _synthetic(self, phrase: Phrase) -> AsyncGenerator[bytes, None]:
        if not phrase.text or self._program is None:
            return
        try:
            async with aclosing(espeak.speech(phrase.text, self._program)) as pieces:
                async for pcm in pieces:
                    yield pcm
        except (HardwareError, MissingExtra) as error:
            _log.warning("own voice: espeak-ng failed, phrase=%s: %s", phrase.id, error)

    # --- the disk -----------------------------------------------------------------------------------------------------

    def _write_down(
        self, kind: str, *, urgent: bool = False, durable: bool = False, **data: Value
    ) -> asyncio.Task[None]:
        """Have it written; this goes on when nobody waits for it any more."""
        writing = self._diary.write(kind, urgent=urgent, durable=durable, **data)
        task = asyncio.create_task(_told(writing, kind), name=f"write {kind}")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    def _activity(self, occasion: Occasion, *said: str) -> asyncio.Task[None] | None:
        """Write down what the toy does without a network: parents will want to know. `said`: ids, in their order."""
        if self._status().online:
            return None
        phrases = {f"phrase_{number}" if number > 1 else "phrase": id for number, id in enumerate(said, start=1)}
        data = {"occasion": occasion.value, "phrase": "none", **phrases}
        return self._write_down("activity", urgent=False, durable=True, **data)

    async def _known(self, written: asyncio.Task[None] | None, occasion: Occasion) -> None:
        """Wait until it is on the disk, but no longer than a child waits."""
        if written is not None and not (await asyncio.wait({written}, timeout=self._patience_s))[0]:
            self._patience_s = HUNG_S
            _log.error("own voice: the disk is too slow to wait for, code=%s", occasion)

    async def _asked(self, asking: Coroutine[Any, Any, T], otherwise: T) -> T:
        """What the cache answers; `otherwise` if it fails, or takes longer than a child waits."""
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await asking
        except TimeoutError:
            self._patience_s = HUNG_S
            _log.error("own voice: the disk does not answer")
        except StoreError as error:
            _log.error("own voice: the cache failed: %s", error)
        else:
            self._patience_s = DISK_S
            return answer
        return otherwise


async def _told(writing: Coroutine[Any, Any, None], kind: str) -> None:
    """Wait for it; that it failed is for the log, and the diary goes on trying."""
    try:
        await writing
    except StoreError as error:
        _log.error("own voice: not on the disk yet, kind=%s: %s", kind, error)
