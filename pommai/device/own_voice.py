"""What the toy says by itself: phrases from its cache, in its own voice; else by espeak-ng; else only a sound.

A child who calls for help hears an answer even where all of that fails, and the call is on disk before it is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

from pommai.codec import OpusDecoder
from pommai.device import espeak
from pommai.device.diary import Diary
from pommai.device.events import Occasion
from pommai.device.jukebox import Jukebox, Status
from pommai.errors import AudioError, HardwareError, MissingExtra
from pommai.protocol import PhraseEntry
from pommai.starter import Phrase, PhraseKind

POSITION: Final = "jukebox"
"""Where the cache remembers what was said last."""

_log = logging.getLogger(__name__)


class PhraseCache(Protocol):
    """Phrases with audio, and a memory."""

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

    async def speak(self, occasion: Occasion, phrase: str = "") -> AsyncGenerator[bytes, None]:
        """See `ports.OwnVoice`."""
        if occasion is Occasion.HELP:
            await self._diary.write("help", urgent=True)
        phrases = await self._chosen(occasion, phrase)
        await self._report(occasion, phrases)
        spoken = False
        for chosen in phrases:
            async with aclosing(self._sound(chosen)) as pieces:
                async for pcm in pieces:
                    spoken = True
                    yield pcm
        if not spoken:
            _log.warning("own voice: nothing to say, code=%s", occasion)
            yield self._last_resort

    async def _chosen(self, occasion: Occasion, phrase: str) -> tuple[Phrase, ...]:
        """The phrases for an occasion; what is for the child's ear alone can be repeated."""
        available = {entry.id for entry in await self._cache.phrases()}
        if occasion is Occasion.REPEAT and self._last:
            return self._last
        phrases = self._jukebox.choose(occasion, self._status(), phrase=phrase, available=available)
        if occasion is Occasion.PHRASE and phrase in available and not phrases:
            phrases = (Phrase(phrase, PhraseKind.GREETING, ""),)  # of this toy alone: only its sound is known
        await self._cache.remember(POSITION, self._jukebox.position)
        if occasion in (Occasion.ACTIVITY, Occasion.HELP, Occasion.PHRASE):
            self._last = phrases
        return phrases

    async def _report(self, occasion: Occasion, phrases: tuple[Phrase, ...]) -> None:
        """Tell parents, once there is a network, what the toy did without one."""
        if occasion is Occasion.HELP or self._status().online:
            return
        await self._diary.write(
            "activity", durable=True, occasion=occasion.value, phrase=phrases[0].id if phrases else "none"
        )

    async def _sound(self, phrase: Phrase) -> AsyncGenerator[bytes, None]:
        """One phrase as PCM; nothing where there is no way to say it."""
        packets = await self._cache.phrase_packets(phrase.id)
        if packets is not None:
            decoder = OpusDecoder()
            for packet in packets:
                try:
                    yield decoder.decode(packet)
                except AudioError:
                    _log.warning("own voice: a packet of a phrase is no Opus, phrase=%s", phrase.id)
                await asyncio.sleep(0)
        elif phrase.text and self._program is not None:
            try:
                async with aclosing(espeak.speech(phrase.text, self._program)) as pieces:
                    async for pcm in pieces:
                        yield pcm
            except (HardwareError, MissingExtra) as error:
                _log.warning("own voice: espeak-ng failed, phrase=%s: %s", phrase.id, error)
