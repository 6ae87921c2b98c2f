"""One turn, streamed: hear, judge, think, judge again, speak.

Rule one: while sentence n is spoken, sentence n+1 is thought and judged. Two tasks in one group do it, with a queue of
two cleared sentences between them.
Rule two: every way out of a turn is an answer. Where the model may not or cannot answer, a fixed phrase does; where
even the voice fails, the toy gets an error code. Only a turn that was cancelled ends in silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pommai.errors import ProviderError
from pommai.protocol import Error, ErrorCode, Transcript
from pommai.relay import prompt
from pommai.relay.guardian import Cleared, Guardian
from pommai.relay.phrases import PhraseKey
from pommai.relay.ports import LLM, STT, TTS, Action, Layer, Outcome, Source, TurnRecord, Utterance, Verdict
from pommai.relay.prompt import Exchange
from pommai.relay.sentences import SentenceSplitter, encodable
from pommai.relay.voice import Route, Send, Voice

MAX_HEARD_CHARS: Final = 1_000
"""What is longer is cut before it is judged, so that what is judged is what the model reads."""

APOLOGY_BUDGET_S: Final = 5.0
"""How long the voice may take to begin to say that something went wrong, before the toy gets an error code instead."""

_log = logging.getLogger(__name__)

_Lines = asyncio.Queue[tuple[Cleared, Route] | None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The engines of a turn, shared by every toy, and how long a reply may become.

    A reply ends with its sentence number `max_sentences`, or with the one that is ready when `max_reply_s` seconds
    have been spoken.
    """

    stt: STT
    guardian: Guardian
    llm: LLM
    tts: TTS
    max_sentences: int = 12
    max_reply_s: float = 60.0


async def run_turn(
    pipeline: Pipeline,
    utterance: Utterance,
    record: TurnRecord,
    history: Sequence[Exchange],
    send: Send,
    *,
    budget_s: float = 20.0,
) -> None:
    """Answer one utterance, and fill in `record` on the way; it counts as cancelled until it is over.

    `history`: what was said before, oldest first. `budget_s`: the time until the first audio, and again between any two
    frames of it. Raises nothing for an engine that fails or is late, nor for a toy that is gone. Cancel it and await
    it: every engine has stopped then, and nothing more is sent.
    """
    record.outcome = Outcome.CANCELLED
    voice = Voice(pipeline.tts, send, record)
    turn = _Turn(pipeline, voice, record, history)
    failure: ProviderError | None = None
    try:
        async with _budget(voice, budget_s):
            heard = await turn.hear(utterance)
            if heard:
                await send(Transcript(record.turn, heard))
            record.outcome = await turn.answer(heard)
            await voice.finish()
    except* ProviderError as errors:
        failure = _first(errors)
    except* TimeoutError:
        failure = ProviderError("turn", ErrorCode.TIMEOUT, retryable=True)
    except* ConnectionError:
        record.outcome = Outcome.CANCELLED
        _log.info("toy gone in mid-turn toy=%s turn=%d", record.toy, record.turn)
    if failure is not None:
        await _apologise(turn, failure, send)


async def _apologise(turn: _Turn, failure: ProviderError, send: Send) -> None:
    """Say that something went wrong, in the toy's own voice if that works, by an error code if not."""
    record = turn.record
    record.outcome, record.error = Outcome.FAILED, failure.code
    _log.warning("turn failed toy=%s turn=%d stage=%s code=%s", record.toy, record.turn, failure.stage, failure.code)
    with suppress(ConnectionError):
        if failure.code != ErrorCode.BAD_AUDIO:  # the toy's own fault is for the toy to know
            with suppress(ProviderError, TimeoutError):
                async with _budget(turn.voice, APOLOGY_BUDGET_S):
                    await turn.say_fixed(turn.pipeline.guardian.phrase(PhraseKey.TROUBLE))
                    await turn.voice.finish()
                return
        await send(Error(ErrorCode(failure.code), failure.retryable, record.turn))


@asynccontextmanager
async def _budget(voice: Voice, budget_s: float) -> AsyncIterator[None]:
    """Raise TimeoutError when `budget_s` pass without a frame of audio."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(budget_s) as limit:

        def again() -> None:
            if not limit.expired():
                limit.reschedule(loop.time() + budget_s)

        voice.on_frame = again
        yield


class _Turn:
    """The steps of one turn and what they share."""

    def __init__(self, pipeline: Pipeline, voice: Voice, record: TurnRecord, history: Sequence[Exchange]) -> None:
        self.pipeline = pipeline
        self.voice = voice
        self.record = record
        self._history = history
        self._now = asyncio.get_running_loop().time

    async def hear(self, utterance: Utterance) -> str:
        """The words of the utterance, empty if there were none."""
        if utterance.packets:
            transcript = await self.pipeline.stt.transcribe(utterance)
            self.record.heard = encodable(transcript.text.strip()[:MAX_HEARD_CHARS])
        self._mark("stt")
        return self.record.heard

    async def answer(self, heard: str) -> Outcome:
        """Judge what was heard, and answer it: by the model if it may, by a fixed phrase if not."""
        guardian = self.pipeline.guardian
        if not heard:
            await self.say_fixed(guardian.phrase(PhraseKey.DIDNT_HEAR))
            return Outcome.UNHEARD
        verdict = await guardian.hear(heard, prompt.recent(self._history))
        self._judged(Layer.INPUT, verdict)
        self._mark("judge_in")
        if verdict.passed:
            await self._reply(heard)
        else:
            await self.say_fixed(guardian.answer_to(verdict))
        return Outcome.ANSWERED

    async def say_fixed(self, phrase: Cleared) -> None:
        """Speak a fixed phrase."""
        if not self.voice.started:
            self.record.source = Source.FIXED
        await self.voice.say(phrase, Route.FIXED)

    async def _reply(self, heard: str) -> None:
        lines: _Lines = asyncio.Queue(maxsize=2)
        async with asyncio.TaskGroup() as group:
            talk = group.create_task(self._talk(lines), name="talk")
            group.create_task(self._think(heard, lines, talk), name="think")

    async def _talk(self, lines: _Lines) -> None:
        """Speak what is cleared, in order, until there is no more; of a reply that is long enough, no more of it."""
        while (line := await lines.get()) is not None:
            words, route = line
            if route is not Route.REPLY or self.voice.spoken_s < self.pipeline.max_reply_s:
                await self.voice.say(words, route)

    async def _think(self, heard: str, lines: _Lines, talk: asyncio.Task[None]) -> None:
        """Compose the reply. If an engine fails, what was cleared is heard to its end before the failure is told."""
        try:
            await self._compose(heard, lines)
        except ProviderError:
            await lines.put(None)
            await talk
            raise
        await lines.put(None)

    async def _compose(self, heard: str, lines: _Lines) -> None:
        """Have the model reply, and pass on each sentence that the guardian clears."""
        recent = [*prompt.recent(self._history), heard]
        n_cleared = 0
        async with aclosing(self._sentences(heard)) as sentences:
            async for sentence in sentences:
                verdict, cleared = await self.pipeline.guardian.clear(sentence, recent)
                self._judged(Layer.OUTPUT, verdict)
                if cleared is None:
                    await self._turn_aside(verdict, lines, first=not n_cleared)
                    return
                self._mark("first_sentence")
                await lines.put((cleared, Route.REPLY))
                recent.append(sentence)
                n_cleared += 1
                if n_cleared >= self.pipeline.max_sentences or self.voice.spoken_s >= self.pipeline.max_reply_s:
                    return
        if not n_cleared:
            raise ProviderError("llm", ErrorCode.UNAVAILABLE, retryable=True)

    async def _turn_aside(self, verdict: Verdict, lines: _Lines, *, first: bool) -> None:
        """End the reply at a sentence that did not pass: a harmless one in silence, if something was said before."""
        if first:
            self.record.source = Source.FIXED
        if first or verdict.action is not Action.REDIRECT:
            await lines.put((self.pipeline.guardian.answer_to(verdict), Route.FIXED))

    async def _sentences(self, heard: str) -> AsyncGenerator[str, None]:
        """The sentences of the reply as soon as each is complete; what has nothing to pronounce is left out."""
        splitter = SentenceSplitter()
        async with aclosing(self.pipeline.llm.reply(prompt.messages(self._history, heard))) as tokens:
            async for token in tokens:
                self._mark("llm_first_token")
                self.record.tokens += token.n
                self.record.source = self.record.source or token.source
                for sentence in filter(_can_be_spoken, splitter.push(encodable(token.text))):
                    yield sentence
        for sentence in filter(_can_be_spoken, splitter.flush()):
            yield sentence

    def _judged(self, layer: Layer, verdict: Verdict) -> None:
        """Write a verdict down; say in the log where a grown-up must be told. A rule is an id and holds no words."""
        self.record.verdicts.append((layer, verdict))
        if verdict.alert:
            _log.warning(
                "guardian alert toy=%s turn=%d layer=%s category=%s severity=%d rule=%s action=%s",
                self.record.toy,
                self.record.turn,
                layer.value,
                verdict.category.value,
                verdict.severity,
                verdict.rule,
                verdict.action.value,
            )

    def _mark(self, stage: str) -> None:
        self.record.marks_s.setdefault(stage, self._now())


def _can_be_spoken(sentence: str) -> bool:
    """Whether there is a letter or a digit in it; a lone smiley is not for a voice."""
    return any(char.isalnum() for char in sentence)


def _first(errors: BaseExceptionGroup[ProviderError]) -> ProviderError:
    """The first of the failures in a group, however deep it lies."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
