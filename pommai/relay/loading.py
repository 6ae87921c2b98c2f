"""The engines of a pipeline: which class serves which port, loaded together, and warm before the first turn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from pommai.codec import Framer, OpusEncoder
from pommai.protocol import FRAME_MS, AudioFrame, ToToy
from pommai.relay.guardian import Guardian
from pommai.relay.phrases import PhraseBook
from pommai.relay.ports import LLM, STT, TTS, Moderator, TurnRecord, Utterance
from pommai.relay.providers.scripted import ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from pommai.relay.settings import PipelineSettings, RelaySettings
from pommai.relay.turn import Pipeline, run_turn

WARM_UP_S: Final = 20.0
_WARM_UP_TEXT: Final = "Hello, how are you today?"

Progress = Callable[[str], None]
"""Told what is still being loaded, for people."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Closable(Protocol):
    def close(self) -> None:
        """Let the engine's thread end."""


@dataclass(frozen=True, slots=True)
class LoadedPipeline(Pipeline):
    """A pipeline with the engines that it is made of."""

    engines: tuple[_Closable, ...] = ()

    def close(self) -> None:
        """End every engine's thread and free its weights; blocks until a call in progress ends."""
        for engine in self.engines:
            engine.close()


def quiet(part: str) -> None:
    """Progress that nobody looks at."""


async def load_pipeline(settings: RelaySettings, *, progress: Progress = quiet) -> LoadedPipeline:
    """The engines of the settings, loaded beside each other and warm: the first turn is as fast as the tenth.

    Raises MissingExtra where a package is missing, ProviderError where an engine does not start.
    """
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="pommai-load") as threads:  # more only slow each other
        load = _Load(settings.pipeline, progress, threads)
        stt, moderator, llm, tts = await load.together(
            ("hearing", load.stt()), ("judging", load.moderator()), ("thinking", load.llm()), ("speaking", load.tts())
        )
    pipeline = LoadedPipeline(stt, Guardian(moderator, PhraseBook.load()), llm, tts, engines=tuple(load.engines))
    progress("a first turn")
    await warm_up(pipeline)
    return pipeline


class _Load:
    """One loading of the engines: what is ready, and what is still to come."""

    def __init__(self, settings: PipelineSettings, progress: Progress, threads: ThreadPoolExecutor) -> None:
        self.engines: list[_Closable] = []
        self._threads = threads
        self._settings = settings
        self._progress = progress
        self._embedder: asyncio.Future[Any] | None = None

    async def together(self, *parts: tuple[str, Awaitable[Any]]) -> list[Any]:
        """What the parts give; if one fails, the others are closed again."""
        left = [name for name, _ in parts]

        async def one(name: str, part: Awaitable[Any]) -> Any:
            try:
                return await part
            finally:
                left.remove(name)
                self._progress(", ".join(left) or "nothing more")

        self._progress(", ".join(left))
        loaded = await asyncio.gather(*(one(name, part) for name, part in parts), return_exceptions=True)
        failures = [result for result in loaded if isinstance(result, BaseException)]
        if failures:
            for engine in self.engines:
                engine.close()
            raise failures[0]
        return loaded

    async def stt(self) -> STT:
        if self._settings.stt == "scripted":
            return ScriptedSTT(["Hello, who are you?"])
        from pommai.relay.providers.local_stt import LocalSTT

        return await self._in_thread(LocalSTT.load)

    async def moderator(self) -> Moderator:
        if self._settings.moderator == "scripted":
            return ScriptedModerator()
        from pommai.relay.providers.local_moderator import LocalModerator

        return await LocalModerator.load(await self._shared_embedder())

    async def llm(self) -> LLM:
        if self._settings.llm == "scripted":
            return ScriptedLLM(["I am a toy that follows a script. I say the same to everyone."])
        from pommai.relay.providers.local_llm import LocalLLM
        from pommai.relay.providers.local_model import LocalModel
        from pommai.relay.providers.reply_bank import ReplyBank

        model, embedder = await asyncio.gather(self._in_thread(LocalModel.load), self._shared_embedder())
        return LocalLLM(ReplyBank.load(embedder), model)

    async def tts(self) -> TTS:
        if self._settings.tts == "scripted":
            return ScriptedTTS()
        from pommai.relay.providers.local_tts import LocalTTS

        return await self._in_thread(LocalTTS.load)

    async def _shared_embedder(self) -> Any:
        """The one embedder that judge and reply bank share."""
        if self._embedder is None:
            from pommai.relay.providers.local_embedder import LocalEmbedder

            self._embedder = asyncio.ensure_future(self._in_thread(LocalEmbedder.load))
        return await self._embedder

    async def _in_thread(self, load: Callable[[], T]) -> T:
        """What the blocking `load` gives, which is to be closed at the end."""
        engine: Any = await asyncio.get_running_loop().run_in_executor(self._threads, load)
        self.engines.append(engine)
        loaded: T = engine
        return loaded


async def warm_up(pipeline: Pipeline) -> None:
    """Hold one turn that nobody hears, until its first audio: every engine and codec has then worked once."""
    framer = Framer(OpusEncoder(), FRAME_MS)
    packets: list[bytes] = []
    async with aclosing(pipeline.tts.speak(_WARM_UP_TEXT)) as pieces:
        async for piece in pieces:
            packets += framer.push(piece)
    packets += framer.flush()
    answering = asyncio.Event()

    async def send(message: ToToy | AudioFrame) -> None:
        if isinstance(message, AudioFrame):
            answering.set()

    record = TurnRecord("warm-up", 1, time.time())
    turn = asyncio.create_task(run_turn(pipeline, Utterance(tuple(packets)), record, (), send, budget_s=WARM_UP_S))
    heard = asyncio.create_task(answering.wait())
    await asyncio.wait({turn, heard}, return_when=asyncio.FIRST_COMPLETED)
    for task in (turn, heard):
        task.cancel()
    await asyncio.wait({turn, heard})
    if record.error is not None or not record.downlink_packets:
        _log.warning("the first turn failed code=%s", record.error)
