"""One turn: every way through it, with engines that take time and fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise

import pytest

from pommai.protocol import Error, ErrorCode, Sentence, SpeakingEnd, SpeakingStart, Transcript
from pommai.relay.phrases import PhraseKey
from pommai.relay.policy import decide
from pommai.relay.ports import Category, Finding, Layer, Outcome, Role, Source, TurnRecord, Utterance
from pommai.relay.prompt import PREFIX, Exchange
from pommai.relay.providers.scripted import (
    CHAR_MS,
    Failure,
    Pace,
    ScriptedLLM,
    ScriptedModerator,
    ScriptedSTT,
    ScriptedTTS,
)
from pommai.relay.turn import APOLOGY_BUDGET_S, MAX_HEARD_CHARS, Pipeline, run_turn
from pommai.relay.voice import ALERT_MOOD
from pommai.wire import encode
from tests.relay.toybox import PHRASES, SPEECH_PACKETS, UTTERANCE, Engines, Toy, heard_pitches, new_record, pitches_of
from tests.relay.toybox import silence as silent_packets
from tests.relay.virtual_time import run, until

GRAVE = Finding(Category.SEXUAL, 7, 1.0, "test-grave")
LIGHT = Finding(Category.VIOLENCE, 3, 1.0, "test-light")
SAD = Finding(Category.DISTRESS, 3, 1.0, "test-distress")


async def take_turn(
    engines: Engines,
    toy: Toy,
    utterance: Utterance = UTTERANCE,
    history: tuple[Exchange, ...] = (),
    budget_s: float = 20.0,
    pipeline: Pipeline | None = None,
) -> TurnRecord:
    record = new_record()
    pipeline = pipeline or engines.pipeline()
    await run_turn(pipeline, utterance, record, history, toy.greeted().take, budget_s=budget_s)
    assert engines.at_work() == 0, "every engine has stopped when the turn is over"
    return record


def is_phrase(text: str, key: PhraseKey) -> bool:
    return text in PHRASES.variants(key)


def test_a_turn_from_speech_to_speech() -> None:
    async def main() -> None:
        engines = Engines(
            stt=ScriptedSTT(["do bears sing"], Pace(0.2)),
            moderator=ScriptedModerator(pace=Pace(0.05)),
            llm=ScriptedLLM(["Yes, we do! We sing all night."], Pace(0.1, 0.02)),
            tts=ScriptedTTS(Pace(0.1)),
        )
        toy = Toy()
        record = await take_turn(engines, toy)
        assert toy.messages[:2] == [Transcript(1, "do bears sing"), SpeakingStart(1)]
        assert toy.captions() == ["Yes, we do!", "We sing all night."]
        assert toy.messages[-1] == SpeakingEnd(1)
        assert heard_pitches(toy.frames) == pitches_of(toy.captions())
        assert (record.outcome, record.source, record.heard) == (Outcome.ANSWERED, Source.MODEL, "do bears sing")
        assert record.said == toy.captions()
        assert record.tokens == 7
        assert [layer for layer, _ in record.verdicts] == [Layer.INPUT, Layer.OUTPUT, Layer.OUTPUT]
        assert record.error is None
        expected = {"stt": 0.2, "judge_in": 0.25, "llm_first_token": 0.35, "first_sentence": 0.46, "first_audio": 0.56}
        assert record.marks_s == pytest.approx(expected)

    run(main())


class TimedModerator(ScriptedModerator):
    """Remembers when it was done with each text."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace=pace)
        self.done_at_s: dict[str, float] = {}

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        finding = await super().judge(text, layer, recent)
        self.done_at_s[text] = asyncio.get_running_loop().time()
        return finding


def test_the_next_sentence_is_judged_while_one_is_spoken() -> None:
    async def main() -> None:
        sentences = [f"This is sentence number {word} of a long story." for word in ("one", "two", "three")]
        moderator = TimedModerator(Pace(0.3))
        engines = Engines(moderator=moderator, llm=ScriptedLLM([" ".join(sentences)], Pace(0.1, 0.05)))
        toy = Toy()
        await take_turn(engines, toy)
        spoken_at_s = {message.text: at_s for at_s, message in toy.got if isinstance(message, Sentence)}
        for earlier, later in pairwise(sentences):
            assert spoken_at_s[earlier] < moderator.done_at_s[later] < spoken_at_s[later]
        first_to_last_s = toy.frame_times_s[-1] - toy.frame_times_s[0]
        assert first_to_last_s < sum(map(len, sentences)) * CHAR_MS / 1000, "no gap between sentences was heard"

    run(main())


@pytest.mark.parametrize("utterance", [Utterance(()), Utterance(silent_packets())])
def test_silence_is_answered_gently_and_nobody_thinks(utterance: Utterance) -> None:
    async def main() -> None:
        engines, toy = Engines(), Toy()
        record = await take_turn(engines, toy, utterance)
        assert (record.outcome, record.source, record.heard) == (Outcome.UNHEARD, Source.FIXED, "")
        assert is_phrase(record.said[0], PhraseKey.DIDNT_HEAR)
        assert toy.kinds() == ["SpeakingStart", "Sentence", "AudioFrame", "SpeakingEnd"]
        assert (engines.moderator.calls, engines.llm.calls) == (0, 0)

    run(main())


@pytest.mark.parametrize(
    ("finding", "key"),
    [
        (GRAVE, PhraseKey.REDIRECT_BODY),
        (LIGHT, PhraseKey.REDIRECT_VIOLENCE),
        (SAD, PhraseKey.COMFORT),
    ],
)
def test_what_does_not_pass_never_reaches_the_model(finding: Finding, key: PhraseKey) -> None:
    async def main() -> None:
        engines, toy = Engines(moderator=ScriptedModerator({"hello": finding})), Toy()
        record = await take_turn(engines, toy)
        assert engines.llm.calls == 0
        assert (record.outcome, record.source) == (Outcome.ANSWERED, Source.FIXED)
        assert [is_phrase(text, key) for text in record.said] == [True]
        assert heard_pitches(toy.frames) == pitches_of(record.said)
        assert "first_sentence" not in record.marks_s

    run(main())


@pytest.mark.parametrize("failure", [Failure(), Failure(hangs=True), Failure(ErrorCode.TIMEOUT)])
def test_a_judge_that_fails_lets_nothing_pass(failure: Failure) -> None:
    async def main() -> None:
        engines, toy = Engines(moderator=ScriptedModerator(failure=failure)), Toy()
        record = await take_turn(engines, toy)
        assert engines.llm.calls == 0
        assert is_phrase(record.said[0], PhraseKey.UNJUDGED)
        assert record.verdicts[0][1].category is Category.UNJUDGED

    run(main())


@pytest.mark.parametrize(
    ("finding", "n_before", "then"),
    [
        (LIGHT, 0, PhraseKey.REDIRECT_VIOLENCE),
        (LIGHT, 1, None),
        (GRAVE, 0, PhraseKey.STOPPED),
        (GRAVE, 1, PhraseKey.STOPPED),
        (SAD, 1, PhraseKey.COMFORT),
    ],
)
def test_a_sentence_that_does_not_pass_is_not_spoken(finding: Finding, n_before: int, then: PhraseKey | None) -> None:
    async def main() -> None:
        reply = "All is well. " * n_before + "Now comes psst. And then zigzag."
        engines = Engines(moderator=ScriptedModerator({"psst": finding}), llm=ScriptedLLM([reply], Pace(0, 0.01)))
        toy = Toy()
        record = await take_turn(engines, toy)
        fixed = record.said[n_before:]
        assert record.said[:n_before] == ["All is well."] * n_before
        assert [is_phrase(text, then) for text in fixed if then] == [True] * (then is not None)
        assert len(fixed) == (then is not None)
        assert not any("psst" in text or "zigzag" in text for text in engines.tts.spoken)
        assert record.source is (Source.MODEL if n_before else Source.FIXED)
        assert record.outcome is Outcome.ANSWERED
        assert toy.messages[-1] == SpeakingEnd(1)

    run(main())


def broken(stage: str, failure: Failure) -> Engines:
    """A set of engines of which one fails."""
    make: dict[str, Callable[[], Engines]] = {
        "stt": lambda: Engines(stt=ScriptedSTT(["hello"], failure=failure)),
        "llm": lambda: Engines(llm=ScriptedLLM(["One two. Three four five."], failure=failure)),
        "tts": lambda: Engines(tts=ScriptedTTS(failure=failure)),
    }
    return make[stage]()


@pytest.mark.parametrize("stage", ["stt", "llm"])
@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.INTERNAL])
def test_a_failing_engine_is_told_in_the_toys_own_voice(stage: str, code: ErrorCode) -> None:
    async def main() -> None:
        toy = Toy()
        record = await take_turn(broken(stage, Failure(code)), toy)
        assert (record.outcome, record.error, record.source) == (Outcome.FAILED, code, Source.FIXED)
        assert is_phrase(record.said[0], PhraseKey.TROUBLE)
        assert toy.kinds()[-3:] == ["Sentence", "AudioFrame", "SpeakingEnd"]

    run(main())


@pytest.mark.parametrize("stage", ["stt", "llm"])
def test_a_hanging_engine_is_left_when_the_budget_is_spent(stage: str) -> None:
    async def main() -> None:
        toy = Toy()
        record = await take_turn(broken(stage, Failure(hangs=True)), toy, budget_s=3.0)
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.TIMEOUT)
        assert is_phrase(record.said[0], PhraseKey.TROUBLE)
        assert toy.frame_times_s[0] == pytest.approx(3.0)

    run(main())


def test_what_was_cleared_is_heard_to_its_end_before_a_failure_is_told() -> None:
    async def main() -> None:
        reply = "This sentence is whole and it is long. This one"
        engines = Engines(llm=ScriptedLLM([reply], Pace(0, 0.01), Failure(after=9)))
        toy = Toy()
        record = await take_turn(engines, toy)
        assert record.said[0] == "This sentence is whole and it is long."
        assert is_phrase(record.said[1], PhraseKey.TROUBLE)
        assert heard_pitches(toy.frames) == pitches_of(record.said)
        assert toy.kinds().count("SpeakingStart") == toy.kinds().count("SpeakingEnd") == 1
        assert (record.outcome, record.source) == (Outcome.FAILED, Source.MODEL)

    run(main())


@pytest.mark.parametrize("after", [0, 2])
def test_a_voice_that_fails_once_still_says_so(after: int) -> None:
    async def main() -> None:
        toy = Toy()
        engines = broken("tts", Failure(after=after, calls=1))
        engines.llm = ScriptedLLM(["This is a sentence that takes a while."])
        record = await take_turn(engines, toy)
        assert is_phrase(record.said[-1], PhraseKey.TROUBLE)
        assert len(record.said) == 1 + (after > 0)
        assert toy.messages[-1] == SpeakingEnd(1)
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.UNAVAILABLE)

    run(main())


@pytest.mark.parametrize("after", [0, 2])
def test_a_voice_that_stays_broken_becomes_an_error_code(after: int) -> None:
    async def main() -> None:
        toy = Toy()
        record = await take_turn(broken("tts", Failure(ErrorCode.TIMEOUT, after=after)), toy)
        assert toy.messages[-1] == Error(ErrorCode.TIMEOUT, retryable=True, turn=1)
        assert SpeakingEnd(1) not in toy.messages
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.TIMEOUT)

    run(main())


@pytest.mark.parametrize("after", [0, 2])
def test_a_voice_that_hangs_is_waited_for_twice_and_no_longer(after: int) -> None:
    async def main() -> None:
        toy = Toy()
        engines = broken("tts", Failure(hangs=True, after=after))
        engines.llm = ScriptedLLM(["This is a sentence that takes a while."])
        await take_turn(engines, toy, budget_s=3.0)
        at_s, last = toy.got[-1]
        assert last == Error(ErrorCode.TIMEOUT, retryable=True, turn=1)
        assert at_s == pytest.approx(3.0 + APOLOGY_BUDGET_S, abs=0.5)

    run(main())


def test_a_long_reply_outlives_the_budget_as_long_as_audio_flows() -> None:
    async def main() -> None:
        toy = Toy()
        engines = Engines(llm=ScriptedLLM(["This is one more sentence. " * 8]))
        record = await take_turn(engines, toy, budget_s=2.0)
        assert record.outcome is Outcome.ANSWERED
        assert toy.got[-1][0] > 3 * 2.0

    run(main())


@pytest.mark.parametrize("reply", ["", "  \n ", "\U0001f600 ..."])
def test_a_reply_without_words_is_a_failure(reply: str) -> None:
    async def main() -> None:
        toy = Toy()
        record = await take_turn(Engines(llm=ScriptedLLM([reply])), toy)
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.UNAVAILABLE)
        assert is_phrase(record.said[0], PhraseKey.TROUBLE)

    run(main())


class MuteTTS(ScriptedTTS):
    """Cannot pronounce what is not ASCII, as real voices cannot."""

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        if text.isascii():
            async with aclosing(super().speak(text)) as pieces:
                async for piece in pieces:
                    yield piece


def test_a_reply_that_cannot_be_pronounced_is_a_failure() -> None:
    async def main() -> None:
        toy = Toy()
        engines = Engines(llm=ScriptedLLM(["\u304a\u306f\u3088\u3046\u3002"]), tts=MuteTTS())
        record = await take_turn(engines, toy)
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.UNAVAILABLE)
        assert [is_phrase(text, PhraseKey.TROUBLE) for text in record.said] == [True]
        assert toy.messages[-1] == SpeakingEnd(1)

    run(main())


def test_audio_that_is_not_opus_is_an_error_code() -> None:
    async def main() -> None:
        engines, toy = Engines(), Toy()
        record = await take_turn(engines, toy, Utterance((*SPEECH_PACKETS, b"\x03")))
        assert toy.messages == [Error(ErrorCode.BAD_AUDIO, retryable=False, turn=1)]
        assert (record.outcome, engines.tts.calls) == (Outcome.FAILED, 0)

    run(main())


def test_a_reply_ends_after_its_last_allowed_sentence() -> None:
    async def main() -> None:
        engines, toy = Engines(llm=ScriptedLLM(["Number one is here. " * 50])), Toy()
        record = await take_turn(engines, toy, pipeline=engines.pipeline(max_sentences=3))
        assert len(record.said) == 3
        assert (record.outcome, engines.llm.at_work) == (Outcome.ANSWERED, 0)

    run(main())


def test_a_reply_ends_when_it_has_been_long_enough() -> None:
    async def main() -> None:
        engines, toy = Engines(llm=ScriptedLLM(["Number one is here. " * 50])), Toy()
        record = await take_turn(engines, toy, pipeline=engines.pipeline(max_sentences=40, max_reply_s=5.0))
        sentence_s = len(record.said[0]) * 0.06
        assert 5.0 <= len(record.said) * sentence_s <= 5.0 + sentence_s

    run(main())


def test_the_judge_sees_the_recent_turns_and_the_model_only_what_passed() -> None:
    async def main() -> None:
        engines, toy = Engines(), Toy()
        history = (Exchange("bad one", "let us sing", passed=False), Exchange("good one", "lovely"))
        await take_turn(engines, toy, history=history)
        before = ("bad one", "let us sing", "good one", "lovely")
        assert [recent for _, _, recent in engines.moderator.judged] == [
            before,
            (*before, "hello bear"),
            (*before, "hello bear", "Hello, friend."),
        ]
        told = engines.llm.prompts[0][len(PREFIX) :]
        assert [(m.role, m.content) for m in told] == [
            (Role.USER, "good one"),
            (Role.ASSISTANT, "lovely"),
            (Role.USER, "hello bear"),
        ]

    run(main())


def test_what_is_heard_is_cut_before_it_is_judged() -> None:
    async def main() -> None:
        engines, toy = Engines(stt=ScriptedSTT(["x" * 5000])), Toy()
        record = await take_turn(engines, toy)
        assert record.heard == engines.moderator.judged[0][1] == engines.llm.prompts[0][-1].content
        assert len(record.heard) == MAX_HEARD_CHARS

    run(main())


def test_an_answer_to_what_did_not_pass_is_spoken_however_long_the_reply_was() -> None:
    async def main() -> None:
        engines = Engines(
            llm=ScriptedLLM(["Number one is here. Now psst."]),
            moderator=ScriptedModerator({"psst": GRAVE}),
        )
        record = await take_turn(engines, Toy(), pipeline=engines.pipeline(max_reply_s=1.0))
        assert is_phrase(record.said[-1], PhraseKey.STOPPED)

    run(main())


def test_text_that_cannot_be_encoded_is_mended_once_for_all_who_read_it() -> None:
    async def main() -> None:
        engines, toy = Engines(stt=ScriptedSTT(["hel\ud800lo"]), llm=ScriptedLLM(["A be\udfffar. Ye\ud83ds!"])), Toy()
        record = await take_turn(engines, toy)
        assert (record.outcome, record.heard, record.said) == (Outcome.ANSWERED, "hel?lo", ["A be?ar.", "Ye?s!"])
        assert [text for _, text, _ in engines.moderator.judged] == ["hel?lo", *record.said]
        assert engines.llm.prompts[0][-1].content == "hel?lo"
        for message in toy.messages:
            encode(message)

    run(main())


@pytest.mark.parametrize("layer", list(Layer))
def test_an_alert_is_one_warning_that_names_toy_and_turn_and_holds_no_words(
    layer: Layer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        heard, reply = ("psst", "Hello.") if layer is Layer.INPUT else ("hello", "Well, psst.")
        engines = Engines(ScriptedSTT([heard]), ScriptedModerator({"psst": GRAVE}), ScriptedLLM([reply]))
        await take_turn(engines, Toy())

    with caplog.at_level(logging.WARNING):
        run(main())
    (alert,) = [record for record in caplog.records if record.name.startswith("pommai")]
    assert alert.levelno == logging.WARNING
    told = f"guardian alert toy=teddy turn=1 layer={layer} category=sexual severity=7 rule=test-grave action="
    assert alert.getMessage().startswith(told)
    assert "psst" not in caplog.text


@pytest.mark.parametrize(
    ("heard", "reply", "mood"),
    [
        ("grave", "Hello.", ALERT_MOOD),
        ("hello", "Oh, grave.", ALERT_MOOD),
        ("hello", "Hello. Oh, grave.", None),
        ("light", "Hello.", None),
        ("sad", "Hello.", None),
        ("hello", "Hello.", None),
    ],
)
def test_the_lights_show_an_alert_and_never_distress(heard: str, reply: str, mood: str | None) -> None:
    """The mood goes with the beginning of the reply: what is found later does not change it."""

    async def main() -> None:
        findings = {"grave": GRAVE, "light": LIGHT, "sad": SAD}
        engines = Engines(ScriptedSTT([heard]), ScriptedModerator(findings), ScriptedLLM([reply], Pace(0.5, 0.5)))
        toy = Toy()
        record = await take_turn(engines, toy)
        assert SpeakingStart(1, mood) in toy.messages
        alerts = [verdict.category for _, verdict in record.verdicts if verdict.alert]
        assert bool(alerts) is (mood is not None or heard == "sad" or "grave" in reply)

    run(main())


def test_distress_changes_no_light_whatever_else_is_found() -> None:
    async def main() -> None:
        engines = Engines(moderator=ScriptedModerator({"hello": GRAVE}))
        toy, record = Toy(), new_record()
        record.verdicts.append((Layer.INPUT, decide(SAD, Layer.INPUT)))
        await run_turn(engines.pipeline(), UTTERANCE, record, (), toy.greeted().take)
        assert SpeakingStart(1, None) in toy.messages

    run(main())


def test_what_is_not_grave_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        await take_turn(Engines(ScriptedSTT(["psst"]), ScriptedModerator({"psst": LIGHT})), Toy())

    with caplog.at_level(logging.INFO):
        run(main())
    assert not [record for record in caplog.records if record.name.startswith("pommai")]


def test_the_source_of_a_reply_is_told() -> None:
    async def main() -> None:
        record = await take_turn(Engines(llm=ScriptedLLM(["From the book."], source=Source.BANK)), Toy())
        assert record.source is Source.BANK

    run(main())


@pytest.mark.parametrize("at_s", [0.1, 0.23, 0.3, 0.4, 0.5, 0.7, 1.5, 2.9])
def test_a_cancelled_turn_stops_every_engine_and_is_silent_from_then_on(at_s: float) -> None:
    async def main() -> None:
        engines = Engines(
            stt=ScriptedSTT(["hello"], Pace(0.2)),
            moderator=ScriptedModerator(pace=Pace(0.05)),
            llm=ScriptedLLM(["This is a long story about bears. " * 5], Pace(0.1, 0.02)),
            tts=ScriptedTTS(Pace(0.1, 0.01)),
        )
        toy, record = Toy(), new_record()
        task = asyncio.create_task(run_turn(engines.pipeline(), UTTERANCE, record, (), toy.greeted().take))
        await asyncio.sleep(at_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        n_messages = len(toy.got)
        assert engines.at_work() == 0
        await asyncio.sleep(10)
        assert len(toy.got) == n_messages
        assert record.outcome is Outcome.CANCELLED

    run(main())


@pytest.mark.parametrize("breaks", ["none", "llm", "tts"])
def test_a_toy_that_goes_away_in_mid_turn_ends_it_quietly(breaks: str) -> None:
    async def main() -> None:
        engines = Engines() if breaks == "none" else broken(breaks, Failure(after=1))
        engines.stt = ScriptedSTT(["hello"], Pace(0.2))
        toy, record = Toy(), new_record()
        task = asyncio.create_task(run_turn(engines.pipeline(), UTTERANCE, record, (), toy.greeted().take))
        await until(lambda: engines.stt.calls == 1)
        toy.gone = True
        await task
        assert toy.got == []
        assert engines.at_work() == 0
        assert record.outcome in (Outcome.CANCELLED, Outcome.FAILED)

    run(main())
