"""The scripted engines keep the contracts of their ports, and fail as their script says."""

from __future__ import annotations

import asyncio

import pytest

from pommai.errors import ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.ports import LLM, TTS, Layer, Moderator, Utterance
from pommai.relay.providers.scripted import Failure, Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from tests.contract.providers import (
    HARMLESS,
    LLM_CHECKS,
    MODERATOR_CHECKS,
    PROMPT,
    STT_CHECKS,
    TTS_CHECKS,
    Check,
    SttCheck,
    cancelled_at_once,
    everything,
)
from tests.relay.toybox import UTTERANCE
from tests.relay.virtual_time import run

PACE = Pace(0.2, 0.05, 0.5, seed=1)


@pytest.mark.parametrize("check", STT_CHECKS)
def test_stt(check: SttCheck) -> None:
    run(check(ScriptedSTT(["hello bear"], PACE), UTTERANCE))


@pytest.mark.parametrize("check", MODERATOR_CHECKS)
def test_moderator(check: Check[Moderator]) -> None:
    run(check(ScriptedModerator(pace=PACE)))


@pytest.mark.parametrize("check", LLM_CHECKS)
def test_llm(check: Check[LLM]) -> None:
    run(check(ScriptedLLM(["Bears like honey best."], PACE)))


@pytest.mark.parametrize("check", TTS_CHECKS)
def test_tts(check: Check[TTS]) -> None:
    run(check(ScriptedTTS(PACE)))


async def call(stage: str, failure: Failure) -> None:
    """One call of a scripted engine that fails."""
    match stage:
        case "stt":
            await ScriptedSTT(["hello"], PACE, failure).transcribe(UTTERANCE)
        case "moderator":
            await ScriptedModerator(None, PACE, failure).judge(HARMLESS, Layer.INPUT, [])
        case "llm":
            await everything(ScriptedLLM(["Bears like honey best."], PACE, failure).reply(PROMPT))
        case _:
            await everything(ScriptedTTS(PACE, failure).speak(HARMLESS))


STAGES = ["stt", "moderator", "llm", "tts"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT])
def test_a_scripted_failure_has_its_stage_and_code(stage: str, code: ErrorCode) -> None:
    with pytest.raises(ProviderError) as caught:
        run(call(stage, Failure(code)))
    assert (caught.value.stage, caught.value.code, caught.value.retryable) == (stage, code, True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_hanging_engine_can_be_cancelled(stage: str) -> None:
    run(cancelled_at_once(call(stage, Failure(hangs=True))))


@pytest.mark.parametrize("stage", ["llm", "tts"])
def test_a_stream_breaks_off_where_its_script_says(stage: str) -> None:
    async def main() -> list[object]:
        got: list[object] = []
        stream = (
            ScriptedLLM(["one two three four"], PACE, Failure(after=2)).reply(PROMPT)
            if stage == "llm"
            else ScriptedTTS(PACE, Failure(after=2)).speak(HARMLESS)
        )
        with pytest.raises(ProviderError):
            async for piece in stream:
                got.append(piece)  # what came before the failure counts
        return got

    assert len(run(main())) == 2


def test_an_engine_is_well_again_after_its_failing_calls() -> None:
    async def main() -> str:
        stt = ScriptedSTT(["hello"], failure=Failure(calls=2))
        for _ in range(2):
            with pytest.raises(ProviderError):
                await stt.transcribe(UTTERANCE)
        return (await stt.transcribe(UTTERANCE)).text

    assert run(main()) == "hello"


def test_delays_are_as_scripted_and_the_same_for_a_seed() -> None:
    async def took(seed: int) -> float:
        begin = asyncio.get_running_loop().time()
        await everything(ScriptedLLM(["one two three"], Pace(0.5, 0.1, 0.2, seed)).reply(PROMPT))
        return asyncio.get_running_loop().time() - begin

    first, again, other = run(took(1)), run(took(1)), run(took(2))
    assert first == again != other
    assert 0.7 * 0.8 <= first <= 0.7 * 1.2


def test_scripted_engines_say_what_they_are() -> None:
    engines = (ScriptedSTT([""]), ScriptedModerator(), ScriptedLLM([""]), ScriptedTTS())
    assert {engine.name for engine in engines} == {"scripted"}


def test_texts_come_in_order_over_and_over() -> None:
    async def main() -> list[str]:
        stt = ScriptedSTT(["one", "two"])
        return [(await stt.transcribe(Utterance(UTTERANCE.packets))).text for _ in range(3)]

    assert run(main()) == ["one", "two", "one"]
