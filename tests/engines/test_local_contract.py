"""The embedded engines keep the contracts of their ports."""

from __future__ import annotations

import pytest

from pommai.relay.ports import LLM, TTS, Embedder, Utterance
from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_llm import LocalLLM
from pommai.relay.providers.local_model import LocalModel
from pommai.relay.providers.local_stt import LocalSTT
from pommai.relay.providers.local_tts import LocalTTS
from tests.contract.providers import (
    EMBEDDER_CHECKS,
    HARMLESS,
    LLM_CHECKS,
    STT_CHECKS,
    TTS_CHECKS,
    Check,
    SttCheck,
    everything,
)
from tests.engines.sounds import utterance

pytestmark = pytest.mark.engines


@pytest.fixture
async def speech(tts: LocalTTS) -> Utterance:
    return utterance(b"".join(await everything(tts.speak(HARMLESS))))


class EmptyBank:
    """A reply bank without replies."""

    async def answer(self, text: str) -> str | None:
        return None


@pytest.mark.parametrize("check", STT_CHECKS)
async def test_stt(check: SttCheck, stt: LocalSTT, speech: Utterance) -> None:
    await check(stt, speech)


@pytest.mark.parametrize("check", TTS_CHECKS)
async def test_tts(check: Check[TTS], tts: LocalTTS) -> None:
    await check(tts)


@pytest.mark.parametrize("check", LLM_CHECKS)
async def test_small_model(check: Check[LLM], model: LocalModel) -> None:
    await check(model)


@pytest.mark.parametrize("check", LLM_CHECKS)
async def test_demo_brain(check: Check[LLM], model: LocalModel) -> None:
    await check(LocalLLM(EmptyBank(), model))


@pytest.mark.parametrize("check", EMBEDDER_CHECKS)
async def test_embedder(check: Check[Embedder], embedder: LocalEmbedder) -> None:
    await check(embedder)
