"""All engines in one fresh process, as `pommai demo` has them: silent, complete, and gone when they are closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.engines

PROGRAM = """
import asyncio, os, threading
from concurrent.futures import ThreadPoolExecutor

from pommai.codec import Framer, OpusEncoder
from pommai.relay.ports import ChatMessage, Role, Utterance
from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_model import LocalModel
from pommai.relay.providers.local_stt import LocalSTT
from pommai.relay.providers.local_tts import LocalTTS

with ThreadPoolExecutor() as pool:
    loading = [pool.submit(engine.load) for engine in (LocalEmbedder, LocalModel, LocalSTT, LocalTTS)]
    embedder, model, stt, tts = [engine.result() for engine in loading]


async def turn():
    pcm = b"".join([piece async for piece in tts.speak("Why is the sky blue?")])
    framer = Framer(OpusEncoder(), 60)
    heard = await stt.transcribe(Utterance((*framer.push(pcm), *framer.flush())))
    assert heard.text == "Why is the sky blue?", heard
    assert await embedder.embed([heard.text])
    assert [token async for token in model.reply([ChatMessage(Role.USER, heard.text)])]


asyncio.run(turn())
for engine in (embedder, model, stt, tts):
    engine.close()
assert threading.enumerate() == [threading.main_thread()]
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""


def test_they_load_side_by_side_and_print_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
