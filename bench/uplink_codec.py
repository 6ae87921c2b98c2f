"""What the toy's encoder costs, and what the recogniser makes of it: `python -m bench.uplink_codec [--seeds 5]`.

Ten questions in the embedded voice, under white noise at three ratios, each with so many seeds, are encoded with each
tuning of `pommai.codec` and transcribed by the embedded recogniser. Prints for each tuning the CPU of the encoder per
second of speech, the bit rate of the payload, and the word error rate at each signal-to-noise ratio. A synthetic voice
and white noise are not a child in a kitchen: compare the tunings with each other.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import random
import re
import sys
import time
from contextlib import aclosing

from bench.engines import QUESTIONS
from pommai.audio import SPEECH
from pommai.codec import FOR_A_RECOGNISER, FOR_EARS, Framer, OpusEncoder, Tuning
from pommai.protocol import FRAME_MS
from pommai.relay.ports import Utterance
from pommai.relay.providers.local_stt import LocalSTT
from pommai.relay.providers.local_tts import LocalTTS

TUNINGS = {"for_ears": FOR_EARS, "for_a_recogniser": FOR_A_RECOGNISER}
RATIOS_DB = (20, 12, 6)


def under_noise(pcm: bytes, ratio_db: float, seed: int) -> bytes:
    """`pcm` with white noise, so far below its own level."""
    samples, chance = array.array("h", pcm), random.Random(seed)
    rms = (sum(sample * sample for sample in samples) / len(samples)) ** 0.5
    noise = rms * 10 ** (-ratio_db / 20)
    return array.array("h", (max(-32_768, min(32_767, int(s + chance.gauss(0, noise)))) for s in samples)).tobytes()


def words(text: str) -> list[str]:
    """What counts as a word."""
    return re.findall(r"[a-z']+", text.lower())


def errors(said: list[str], heard: list[str]) -> int:
    """Words that are wrong, missing or too many (Levenshtein's distance)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def encoded(pcm: bytes, tuning: Tuning) -> tuple[tuple[bytes, ...], float]:
    """The packets, and the CPU seconds that they took."""
    began_s = time.thread_time()
    framer = Framer(OpusEncoder(tuning), FRAME_MS)
    packets = (*framer.push(pcm), *framer.flush())
    return packets, time.thread_time() - began_s


async def measure(seeds: int) -> None:
    """Print one line for each tuning."""
    tts, stt = LocalTTS.load(), LocalSTT.load()
    said = {}
    for question in QUESTIONS:
        async with aclosing(tts.speak(question)) as pieces:
            said[question] = b"".join([piece async for piece in pieces])
    sounds = {
        ratio_db: [(q, under_noise(pcm, ratio_db, seed)) for q, pcm in said.items() for seed in range(seeds)]
        for ratio_db in RATIOS_DB
    }
    n_words = seeds * sum(len(words(question)) for question in QUESTIONS)
    sys.stdout.write(f"{'tuning':<18} ms/s  kbit/s  " + "  ".join(f"WER at {r} dB" for r in RATIOS_DB) + "\n")
    for name, tuning in TUNINGS.items():
        cpu_s = seconds = n_bytes = 0.0
        wrong = dict.fromkeys(RATIOS_DB, 0)
        for ratio_db, questions in sounds.items():
            for question, pcm in questions:
                packets, took_s = encoded(pcm, tuning)
                cpu_s += took_s
                seconds += SPEECH.ms(len(pcm)) / 1000
                n_bytes += sum(map(len, packets))
                wrong[ratio_db] += errors(words(question), words((await stt.transcribe(Utterance(packets))).text))
        rates = "  ".join(f"{wrong[r] / n_words:>11.3f}" for r in RATIOS_DB)
        sys.stdout.write(f"{name:<18} {1000 * cpu_s / seconds:4.1f}  {n_bytes * 8 / seconds / 1000:6.1f}  {rates}\n")
    stt.close()
    tts.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="noises for each question")
    asyncio.run(measure(parser.parse_args().seeds))


if __name__ == "__main__":
    main()
