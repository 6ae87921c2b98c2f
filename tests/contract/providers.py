"""What every provider promises, as checks that take an adapter: run on the scripted ones and on the real ones alike.

    @pytest.mark.parametrize("check", TTS_CHECKS)
    async def test_contract(check: Check[TTS], tts: TTS) -> None:
        await check(tts)

Nothing here knows how fast an adapter is, or what it says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import pytest

from pommai.audio import SPEECH, level_dbfs
from pommai.codec import Framer, OpusEncoder
from pommai.errors import ProviderError
from pommai.protocol import FRAME_MS, ErrorCode
from pommai.relay.ports import (
    LLM,
    STT,
    TTS,
    Category,
    ChatMessage,
    Embedder,
    Finding,
    Layer,
    Moderator,
    Role,
    Source,
    Token,
    Transcript,
    Utterance,
)

Engine = TypeVar("Engine")
T = TypeVar("T")

Check = Callable[[Engine], Coroutine[Any, Any, None]]
SttCheck = Callable[[STT, Utterance], Coroutine[Any, Any, None]]

HARMLESS = "Bears like to eat honey."
PROMPT = (ChatMessage(Role.USER, "What do bears like to eat?"),)


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """Fail if the block leaves a task running."""
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # a task that has just been told to end needs a turn of the loop
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before
    assert not left, f"tasks left behind: {left}"


async def cancelled_at_once(work: Awaitable[T]) -> None:
    """Begin `work`, cancel it, and see it end by that."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    assert not task.done(), "real work does not end within one turn of the loop"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def everything(stream: AsyncGenerator[T, None]) -> list[T]:
    async with aclosing(stream):
        return [piece async for piece in stream]


# --- STT --------------------------------------------------------------------------------------------------------------


def _check_transcript(transcript: Transcript) -> None:
    assert transcript.text == transcript.text.strip()
    assert 0 <= transcript.confidence <= 1
    assert transcript.language.isalpha()


async def speech_has_words(stt: STT, speech: Utterance) -> None:
    transcript = await stt.transcribe(speech)
    _check_transcript(transcript)
    assert transcript.text


async def silence_has_none(stt: STT, speech: Utterance) -> None:
    framer = Framer(OpusEncoder(), FRAME_MS)
    silence = Utterance((*framer.push(bytes(SPEECH.bytes(1500))), *framer.flush()))
    transcript = await stt.transcribe(silence)
    _check_transcript(transcript)
    assert transcript.text == ""


async def nothing_at_all_has_none(stt: STT, speech: Utterance) -> None:
    assert (await stt.transcribe(Utterance(()))).text == ""


async def what_is_not_opus_is_bad_audio(stt: STT, speech: Utterance) -> None:
    for packet in (b"\x03", b"\xff\xff\xff", b""):
        with pytest.raises(ProviderError) as caught:
            await stt.transcribe(Utterance((*speech.packets, packet)))
        assert (caught.value.stage, caught.value.code, caught.value.retryable) == ("stt", ErrorCode.BAD_AUDIO, False)


async def hearing_can_be_cancelled(stt: STT, speech: Utterance) -> None:
    async with nothing_left_behind():
        await cancelled_at_once(stt.transcribe(speech))
    await speech_has_words(stt, speech)


STT_CHECKS: tuple[SttCheck, ...] = (
    speech_has_words,
    silence_has_none,
    nothing_at_all_has_none,
    what_is_not_opus_is_bad_audio,
    hearing_can_be_cancelled,
)

# --- Moderator --------------------------------------------------------------------------------------------------------


def _check_finding(finding: Finding, text: str) -> None:
    assert 0 <= finding.severity <= 7
    assert 0 <= finding.score <= 1
    assert finding.rule
    assert text not in finding.rule
    assert (finding.need is not None) == (finding.category is Category.DISTRESS)


async def harmless_words_are_benign(moderator: Moderator) -> None:
    for layer in Layer:
        finding = await moderator.judge(HARMLESS, layer, [])
        _check_finding(finding, HARMLESS)
        assert finding.category is Category.BENIGN


async def any_text_can_be_judged(moderator: Moderator) -> None:
    for text in ("", " ", "?!", "\U0001f600", "\u304a\u306f\u3088\u3046", "x" * 4000, "a\x00b"):
        for layer in Layer:
            _check_finding(await moderator.judge(text, layer, [HARMLESS] * 20), text or "nothing")


async def the_same_question_has_the_same_answer(moderator: Moderator) -> None:
    first = await moderator.judge(HARMLESS, Layer.INPUT, ["Hello."])
    assert await moderator.judge(HARMLESS, Layer.INPUT, ["Hello."]) == first


MODERATOR_CHECKS: tuple[Check[Moderator], ...] = (
    harmless_words_are_benign,
    any_text_can_be_judged,
    the_same_question_has_the_same_answer,
)

# --- LLM --------------------------------------------------------------------------------------------------------------


async def a_reply_comes_in_tokens(llm: LLM) -> None:
    tokens = await everything(llm.reply(PROMPT))
    assert "".join(token.text for token in tokens).strip()
    assert len({token.source for token in tokens}) == 1, "one reply has one source"
    assert tokens[0].source in (Source.BANK, Source.MODEL)


async def a_reply_can_be_left_after_its_first_token(llm: LLM) -> None:
    async with nothing_left_behind():
        async with aclosing(llm.reply(PROMPT)) as tokens:
            first: Token = await anext(tokens)
        assert first.text
    await a_reply_comes_in_tokens(llm)


async def a_reply_can_be_left_before_it_begins(llm: LLM) -> None:
    async with nothing_left_behind():
        await llm.reply(PROMPT).aclose()
        await cancelled_at_once(everything(llm.reply(PROMPT)))
    await a_reply_comes_in_tokens(llm)


LLM_CHECKS: tuple[Check[LLM], ...] = (
    a_reply_comes_in_tokens,
    a_reply_can_be_left_after_its_first_token,
    a_reply_can_be_left_before_it_begins,
)

# --- TTS --------------------------------------------------------------------------------------------------------------


async def a_sentence_is_audible(tts: TTS) -> None:
    pieces = await everything(tts.speak(HARMLESS))
    assert all(len(piece) % SPEECH.SAMPLE_BYTES == 0 for piece in pieces), "whole samples only"
    pcm = b"".join(pieces)
    assert 500 <= SPEECH.ms(len(pcm)) <= 5000
    assert -40 <= level_dbfs(pcm) <= -3


async def a_longer_sentence_takes_longer(tts: TTS) -> None:
    short, long = [await everything(tts.speak(text)) for text in ("Hello.", f"{HARMLESS} {HARMLESS}")]
    assert len(b"".join(short)) < len(b"".join(long))


async def a_sentence_can_be_left_after_its_first_piece(tts: TTS) -> None:
    async with nothing_left_behind(), aclosing(tts.speak(HARMLESS)) as pieces:
        await anext(pieces)
    await a_sentence_is_audible(tts)


async def a_sentence_can_be_left_before_it_begins(tts: TTS) -> None:
    async with nothing_left_behind():
        await tts.speak(HARMLESS).aclose()
        await cancelled_at_once(everything(tts.speak(HARMLESS)))
    await a_sentence_is_audible(tts)


TTS_CHECKS: tuple[Check[TTS], ...] = (
    a_sentence_is_audible,
    a_longer_sentence_takes_longer,
    a_sentence_can_be_left_after_its_first_piece,
    a_sentence_can_be_left_before_it_begins,
)

# --- Embedder ---------------------------------------------------------------------------------------------------------


async def vectors_have_unit_length_and_one_dimension(embedder: Embedder) -> None:
    vectors = await embedder.embed([HARMLESS, "", "Where is the moon?"])
    assert len(vectors) == 3
    assert len({len(vector) for vector in vectors}) == 1
    for vector in vectors:
        assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-3)


async def vectors_are_in_order_and_repeatable(embedder: Embedder) -> None:
    bears, moon = await embedder.embed([HARMLESS, "Where is the moon?"])
    (again,) = await embedder.embed([HARMLESS])
    assert math.dist(bears, again) < 0.05 < math.dist(bears, moon)


async def no_texts_have_no_vectors(embedder: Embedder) -> None:
    assert await embedder.embed([]) == []


EMBEDDER_CHECKS: tuple[Check[Embedder], ...] = (
    vectors_have_unit_length_and_one_dimension,
    vectors_are_in_order_and_repeatable,
    no_texts_have_no_vectors,
)
