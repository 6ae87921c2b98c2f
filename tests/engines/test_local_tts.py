"""Text to speech, by the real voice."""

from __future__ import annotations

from contextlib import aclosing

import numpy as np
import pytest

from pommai.audio import SPEECH, level_dbfs
from pommai.errors import ProviderError
from pommai.relay.providers.local_tts import LocalTTS
from tests.engines.sounds import samples, spoken

pytestmark = pytest.mark.engines

SENTENCES = [
    "Hello, my friend! I am so happy to talk with you.",
    "WOW!!! That is GREAT!",
    "I have 12 red balls, and 3.5 blue ones.",
    "Oh no, I am sorry that hurts. Show your knee to a grown-up, and they will help you feel better.",
]


@pytest.mark.parametrize("text", SENTENCES)
async def test_a_sentence_is_loud_and_does_not_clip(tts: LocalTTS, text: str) -> None:
    pcm = await spoken(tts, text)
    loudest = int(np.abs(samples(pcm)).max())
    assert 20_000 < loudest < 32_767
    assert -24 < level_dbfs(pcm) < -12


@pytest.mark.parametrize("text", [*SENTENCES, "Yes."])
async def test_it_begins_at_once_and_ends_with_a_breath(tts: LocalTTS, text: str) -> None:
    pcm = await spoken(tts, text)
    heard = np.flatnonzero(np.abs(samples(pcm)) > 500)
    assert SPEECH.ms(2 * int(heard[0])) < 80
    assert 150 < SPEECH.ms(len(pcm) - 2 * int(heard[-1])) < 400


async def test_longer_texts_take_longer_to_say(tts: LocalTTS) -> None:
    short, long = await spoken(tts, "Yes."), await spoken(tts, SENTENCES[0])
    assert 300 < SPEECH.ms(len(short)) < 1_000
    assert 2_000 < SPEECH.ms(len(long)) < 5_000


async def test_the_pieces_are_small_and_whole(tts: LocalTTS) -> None:
    async with aclosing(tts.speak(SENTENCES[0])) as pieces:
        lengths = [len(piece) async for piece in pieces]
    assert len(lengths) > 8
    assert all(0 < length <= SPEECH.bytes(240) and length % 2 == 0 for length in lengths)


async def test_the_same_sentence_sounds_the_same(tts: LocalTTS) -> None:
    assert await spoken(tts, SENTENCES[0]) == await spoken(tts, SENTENCES[0])


@pytest.mark.parametrize(
    "text", ["", "   ", "...", "!?", "🐻🎉", "\x00\x07", "\u3053\u3093\u306b\u3061\u306f", "\ud800"]
)
async def test_what_cannot_be_said_is_left_out(tts: LocalTTS, text: str) -> None:
    assert await spoken(tts, text) == b""


@pytest.mark.parametrize(
    "text", ["I love you 🐻", "Two m\u00b2", "Caf\u00e9 \u2460!", "<b>bear</b>", "\ud800 hi", "a" * 300]
)
async def test_odd_texts_are_said_as_well_as_may_be(tts: LocalTTS, text: str) -> None:
    assert SPEECH.ms(len(await spoken(tts, text))) > 200


async def test_closing_early_leaves_the_voice_free(tts: LocalTTS) -> None:
    async with aclosing(tts.speak(" ".join(SENTENCES * 20))) as pieces:
        assert await anext(pieces)
    assert await spoken(tts, "Yes.")


async def test_closed_it_refuses() -> None:
    tts = LocalTTS.load()
    tts.close()
    with pytest.raises(ProviderError, match="tts: shutting_down"):
        await spoken(tts, "Hello.")
