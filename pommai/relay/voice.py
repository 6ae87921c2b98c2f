"""The one place in the relay where words become audio on its way to a toy.

Nothing but this module makes an `AudioFrame`, and it speaks nothing but `Cleared`. `ROUTES` lists every way that leads
here; a test reads the source of the whole relay and fails for a way that is not listed.

Audio is sent as it is made, but never more than `LEAD_S` ahead of what the toy can have played: enough to bridge a
lost TCP segment and the start of the next sentence, little enough that a barge-in throws away no more than that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pommai.audio import SPEECH
from pommai.codec import Framer, OpusEncoder
from pommai.errors import LocalProtocolError, ProviderError
from pommai.protocol import FRAME_MS, AudioFrame, ErrorCode, Sentence, SpeakingEnd, SpeakingStart, ToToy
from pommai.relay.guardian import Cleared
from pommai.relay.ports import TTS, Category, TurnRecord

LEAD_S: Final = 1.2
"""Audio sent ahead of real time; 0.8 to 1.5 s is what survives a retransmit (docs/protocol.md)."""

MAX_SENTENCE_S: Final = 40.0
"""A text-to-speech stream that goes on longer than this for one sentence has lost its way and is cut."""

ALERT_MOOD: Final = "alert"
"""The mood of a reply for which a grown-up is told; for a child in distress the lights never change."""

_FRAME_BYTES: Final = SPEECH.bytes(FRAME_MS)

Send = Callable[[ToToy | AudioFrame], Awaitable[None]]
"""Takes one message on its way to a toy. Raises ConnectionError if the toy is gone or has ended the turn, no other."""


class Route(StrEnum):
    """The ways by which words reach the voice."""

    REPLY = "reply"
    FIXED = "fixed"
    PHRASE = "phrase"


ROUTES: Final[Mapping[Route, frozenset[str]]] = MappingProxyType(
    {
        Route.REPLY: frozenset({"pommai.relay.turn:_Turn._compose"}),
        Route.FIXED: frozenset({"pommai.relay.turn:_Turn._turn_aside", "pommai.relay.turn:_Turn.say_fixed"}),
        Route.PHRASE: frozenset({"pommai.relay.phrase_audio:SpokenPhrases._speak"}),
    }
)
"""Who puts words on which route, as `module:function`. Audio that leaves on any other is a failing test."""

SPEAKERS: Final = frozenset({"pommai.relay.turn:_Turn._talk", "pommai.relay.turn:_Turn.say_fixed"})
"""Who has the voice say them."""


async def speech(
    tts: TTS, words: Cleared, route: Route, encoder: OpusEncoder
) -> AsyncGenerator[tuple[bytes, float], None]:
    """One text as Opus, packet by packet, each with the seconds of sound that are in it.

    Raises LocalProtocolError for words without a passed verdict: a bug on our side, and nothing is spoken.
    """
    if not isinstance(words, Cleared) or not words.verdict.passed or route not in ROUTES:
        raise LocalProtocolError("words without a passed verdict were given to the voice")
    framer = Framer(encoder, FRAME_MS)
    n_bytes, limit = 0, SPEECH.bytes(MAX_SENTENCE_S * 1000)
    async with aclosing(tts.speak(words.text)) as pieces:
        async for piece in pieces:
            sound = piece[: limit - n_bytes]
            for start in range(0, len(sound), _FRAME_BYTES):
                for packet in framer.push(sound[start : start + _FRAME_BYTES]):
                    yield packet, FRAME_MS / 1000
                    await asyncio.sleep(0)  # a frame at a time: encoding never holds the loop
            n_bytes += len(sound)
            if n_bytes >= limit:
                break
    for packet in framer.flush():
        yield packet, SPEECH.ms(n_bytes % _FRAME_BYTES) / 1000


class Lead:
    """Keeps sound no more than `LEAD_S` ahead of what the ear can have heard of it."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._first_at_s = -math.inf
        self.sent_s = 0.0

    async def wait(self) -> None:
        """Return when the next frame may leave; at once for the first one, and for an ear that has run dry."""
        now = self._now()
        if now - self._first_at_s > self.sent_s:
            self._first_at_s = now - self.sent_s
        ahead_s = self.sent_s - (now - self._first_at_s)
        if ahead_s > LEAD_S:
            await asyncio.sleep(ahead_s - LEAD_S)


class Voice:
    """Speaks one turn: cleared words in, frames out, paced. Its encoder lives as long as the turn."""

    def __init__(self, tts: TTS, send: Send, record: TurnRecord) -> None:
        """`record`: where what was said is written down."""
        self._tts = tts
        self._send = send
        self._record = record
        self._now = asyncio.get_running_loop().time
        self._encoder: OpusEncoder | None = None
        self._sequence = 0
        self._lead = Lead()
        self.on_frame: Callable[[], None] = _nothing

    @property
    def spoken_s(self) -> float:
        """How much of this turn has been said."""
        return self._lead.sent_s

    @property
    def started(self) -> bool:
        """Whether any audio of this turn has left."""
        return self._sequence > 0

    async def say(self, cleared: Cleared, route: Route) -> None:
        """Speak one text; return when its last frame has been sent. Raises LocalProtocolError as `speech` does."""
        self._encoder = self._encoder or OpusEncoder()
        caption = cleared.text
        async with aclosing(speech(self._tts, cleared, route, self._encoder)) as packets:
            async for packet, seconds in packets:
                await self._emit(packet, seconds, caption)
                caption = ""

    async def finish(self) -> None:
        """Tell the toy that the reply is complete.

        Raises ProviderError if there was no sound in it at all, as when the words are in a script that the voice
        cannot read: the toy would wait for ever.
        """
        if not self.started:
            raise ProviderError("tts", ErrorCode.UNAVAILABLE)
        await self._send(SpeakingEnd(self._record.turn))

    async def _emit(self, packet: bytes, seconds: float, caption: str) -> None:
        """Send one packet when its time has come; `caption`: the text that begins with it, or nothing."""
        await self._lead.wait()
        record = self._record
        if not self.started:
            await self._send(SpeakingStart(record.turn, _mood(record)))
        if caption:
            await self._send(Sentence(record.turn, caption))
        await self._send(AudioFrame(record.turn, self._sequence, packet))
        if caption:
            record.said.append(caption)
        self._sequence += 1
        self._lead.sent_s += seconds
        record.downlink_packets += 1
        record.marks_s.setdefault("first_audio", self._now())
        self.on_frame()


def _mood(record: TurnRecord) -> str | None:
    """The mood of a reply, by the verdicts there are when it begins."""
    verdicts = [verdict for _, verdict in record.verdicts]
    if any(verdict.category is Category.DISTRESS for verdict in verdicts):
        return None
    return ALERT_MOOD if any(verdict.alert for verdict in verdicts) else None


def _nothing() -> None:
    """What happens at a frame when nobody asked to be told."""
