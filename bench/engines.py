"""How fast the embedded engines are: `python bench/engines.py [--rounds 3]`.

Prints when each engine was ready (all loading side by side in this process, imports included) and the peak memory,
then for each stage of a turn the median and the slowest over ten sentences, and the whole chain: from the end of speech
to the first sound, without the relay, the guardian and the reply bank.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

from pommai.codec import FOR_A_RECOGNISER, Framer, OpusEncoder
from pommai.protocol import FRAME_MS
from pommai.relay.ports import ChatMessage, Role, Utterance
from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_model import LocalModel
from pommai.relay.providers.local_stt import LocalSTT
from pommai.relay.providers.local_tts import LocalTTS
from pommai.relay.sentences import SentenceSplitter

T = TypeVar("T")
Engines = tuple[LocalEmbedder, LocalModel, LocalSTT, LocalTTS]

QUESTIONS = (
    "Why is the sky blue?",
    "What do penguins eat?",
    "How many legs does a spider have?",
    "Do you like chocolate ice cream or vanilla?",
    "I am building a robot.",
    "How do airplanes stay up in the air?",
    "Where does the sun go at night?",
    "I can jump really high.",
    "How do bees make honey?",
    "What is in the middle of the earth?",
)


def tell(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(line + "\n")


def load() -> Engines:
    """All engines, side by side."""
    began = time.perf_counter()

    def timed(load: Callable[[], T]) -> tuple[T, float]:
        return load(), time.perf_counter() - began

    with ThreadPoolExecutor() as pool:
        embedder = pool.submit(timed, LocalEmbedder.load)
        model = pool.submit(timed, LocalModel.load)
        stt = pool.submit(timed, LocalSTT.load)
        tts = pool.submit(timed, LocalTTS.load)
    loading: dict[str, Future[Any]] = {"embedder": embedder, "model": model, "stt": stt, "tts": tts}
    for name, future in loading.items():
        tell(f"{name:<16} ready after {future.result()[1]:5.2f} s")
    return embedder.result()[0], model.result()[0], stt.result()[0], tts.result()[0]


async def first_sentence(model: LocalModel, heard: str, marks: dict[str, float]) -> str:
    """The first sentence of the reply, as the relay would cut it."""
    splitter = SentenceSplitter()
    async with aclosing(model.reply([ChatMessage(Role.USER, heard)])) as tokens:
        async for token in tokens:
            marks.setdefault("first token", time.perf_counter())
            if sentences := splitter.push(token.text):
                return sentences[0]
    return "".join(splitter.flush())


async def turn(engines: Engines, utterance: Utterance) -> dict[str, float]:
    """One turn's times in ms: of each stage alone, and of all."""
    embedder, model, stt, tts = engines
    marks = {"end of speech": time.perf_counter()}
    heard = await stt.transcribe(utterance)
    marks["stt"] = time.perf_counter()
    await embedder.embed([heard.text])
    marks["embedding"] = time.perf_counter()
    sentence = await first_sentence(model, heard.text, marks)
    marks["first sentence"] = time.perf_counter()
    async with aclosing(tts.speak(sentence)) as pieces:
        await anext(pieces)
    marks["first sound"] = time.perf_counter()
    times = list(marks.values())
    steps = {name: (b - a) * 1000 for name, a, b in zip(list(marks)[1:], times, times[1:], strict=False)}
    return {**steps, "all": (times[-1] - times[0]) * 1000}


async def measure(engines: Engines, rounds: int) -> None:
    """Print the table."""
    tts = engines[-1]
    utterances = []
    for question in QUESTIONS:
        async with aclosing(tts.speak(question)) as pieces:
            pcm = b"".join([piece async for piece in pieces])
        framer = Framer(OpusEncoder(FOR_A_RECOGNISER), FRAME_MS)
        utterances.append(Utterance((*framer.push(pcm), *framer.flush())))
    table: dict[str, list[float]] = defaultdict(list)
    for utterance in utterances * rounds:
        for step, ms in (await turn(engines, utterance)).items():
            table[step].append(ms)
    tell(f"\n{'ms':<16} {'median':>7} {'slowest':>8}   ({len(QUESTIONS)} questions, {rounds} rounds)")
    for step, values in table.items():
        tell(f"{step:<16} {statistics.median(values):7.0f} {max(values):8.0f}")


def main() -> None:
    """Load, measure, close."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    engines = load()
    asyncio.run(measure(engines, rounds))
    tell(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    for engine in engines:
        engine.close()


if __name__ == "__main__":
    main()
