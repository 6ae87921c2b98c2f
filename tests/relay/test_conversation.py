"""One toy's connection: greeting, turns, barge-in, limits, bad input, and the end."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pommai.errors import RemoteProtocolError, StoreError
from pommai.limits import Rest
from pommai.protocol import (
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.relay.conversation import MAX_UNSTORED, Conversation
from pommai.relay.hearing import OVERLONG
from pommai.relay.parking import Parking
from pommai.relay.phrases import PhraseKey
from pommai.relay.ports import Category, Finding, Outcome, TurnRecord
from pommai.relay.prompt import PREFIX
from pommai.relay.providers.scripted import Failure, Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from pommai.relay.terms import Terms, never_rests
from pommai.relay.visit import Visit
from tests.relay.toybox import PHRASES, SPEECH_PACKETS, TOKEN, Engines, Toy, speech, talk_to, tell
from tests.relay.virtual_time import run, until

STORY = "Once there was a bear who sang. He sang in the rain. He sang in the sun. Everybody liked it."


def in_it(visit: Visit) -> Conversation:
    """The conversation of a visit that has one."""
    assert visit.conversation is not None
    return visit.conversation


@dataclass
class Scene:
    """A greeted conversation between a test toy and scripted engines."""

    visit: Visit
    toy: Toy
    engines: Engines
    records: list[TurnRecord] = field(default_factory=list)

    async def turn_over(self, n: int = 1) -> TurnRecord:
        """Wait for the `n`th record."""
        await until(lambda: len(self.records) >= n)
        return self.records[n - 1]

    async def first_frame(self, turn: int) -> None:
        """Wait for the first audio of a turn."""
        await until(lambda: any(frame.turn == turn for frame in self.toy.frames))


@asynccontextmanager
async def scene(
    engines: Engines | None = None,
    *,
    rest: Callable[[], Rest | None] = never_rests,
    store_s: float = 0.0,
    store_error: StoreError | None = None,
    max_utterance_s: float = 20.0,
    greet: bool = True,
) -> AsyncIterator[Scene]:
    engines, toy = engines or Engines(), Toy()
    records: list[TurnRecord] = []

    async def record(turn: TurnRecord) -> None:
        await asyncio.sleep(store_s)
        records.append(turn)
        if store_error:
            raise store_error

    parking = Parking()
    terms = Terms(rest=rest, max_utterance_s=max_utterance_s, unix_time=lambda: 1234.0)
    async with Visit(
        TOKEN, toy.take, parking, lambda: Conversation("teddy", engines.pipeline(), record), terms
    ) as visit:
        if greet:
            await tell(visit, toy, Hello(VERSION, "test", captions=True))
        yield Scene(visit, toy, engines, records)
    assert engines.at_work() == 0, "no engine works for a conversation that is over"


def slow() -> Engines:
    """Engines that take about as long as real ones."""
    return Engines(
        stt=ScriptedSTT(["tell me a story"], Pace(0.2)),
        moderator=ScriptedModerator(pace=Pace(0.05)),
        llm=ScriptedLLM([STORY], Pace(0.1, 0.02)),
        tts=ScriptedTTS(Pace(0.1, 0.01)),
    )


def test_a_toy_is_welcomed() -> None:
    async def main() -> None:
        async with scene() as it:
            welcome = it.toy.messages[0]
            assert welcome == Welcome(VERSION, in_it(it.visit).session, 1234.0, 20.0, None)
            assert not it.visit.closed

    run(main())


def test_a_resting_toy_is_told_why_when_it_is_welcomed_and_when_it_listens() -> None:
    async def main() -> None:
        async with scene(rest=lambda: Rest.QUIET_HOURS) as it:
            welcome = it.toy.messages[0]
            assert isinstance(welcome, Welcome)
            assert welcome.paused is ErrorCode.QUIET_HOURS
            await talk_to(it.visit, it.toy, 1)
            assert it.toy.messages[1:] == [Error(ErrorCode.QUIET_HOURS, turn=1)]
            assert it.engines.stt.calls == 0

    run(main())


@pytest.mark.parametrize("rest", list(Rest))
def test_limits_are_asked_at_every_utterance(rest: Rest) -> None:
    async def main() -> None:
        answers = iter([None, rest, None])
        async with scene(rest=lambda: next(answers)) as it:
            await tell(it.visit, it.toy, UtteranceStart(1))
            assert it.toy.messages[-1] == Error(ErrorCode(rest), turn=1)
            await talk_to(it.visit, it.toy, 2)
            assert (await it.turn_over()).turn == 2

    run(main())


def test_a_toy_of_another_version_is_told_and_the_conversation_is_over() -> None:
    async def main() -> None:
        async with scene(greet=False) as it:
            await it.visit.receive(Hello(VERSION + 1, "future"))
            error, goodbye = it.toy.messages
            assert error == Error(ErrorCode.UNSUPPORTED_VERSION)
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code is ErrorCode.UNSUPPORTED_VERSION
            assert it.visit.closed

    run(main())


def test_two_turns_with_what_was_said_before() -> None:
    async def main() -> None:
        async with scene() as it:
            await talk_to(it.visit, it.toy, 1)
            assert in_it(it.visit).in_turn
            first = await it.turn_over(1)
            await talk_to(it.visit, it.toy, 2)
            second = await it.turn_over(2)
            assert (first.turn, second.turn) == (1, 2)
            assert (first.toy, first.started_at_s, first.outcome) == ("teddy", 1234.0, Outcome.ANSWERED)
            assert first.uplink_packets == len(SPEECH_PACKETS)
            assert first.downlink_packets == sum(frame.turn == 1 for frame in it.toy.frames)
            assert list(first.marks_s) == [
                "ended",
                "stt",
                "judge_in",
                "llm_first_token",
                "first_sentence",
                "first_audio",
            ]
            said = " ".join(first.said)
            assert [m.content for m in it.engines.llm.prompts[1][len(PREFIX) :]] == ["hello bear", said, "hello bear"]

    run(main())


def test_what_did_not_pass_is_remembered_for_the_judge_only() -> None:
    async def main() -> None:
        engines = Engines(
            stt=ScriptedSTT(["psst a secret", "hello"]),
            moderator=ScriptedModerator({"psst": Finding(Category.SECRECY, 4, 1.0, "test")}),
        )
        async with scene(engines) as it:
            await talk_to(it.visit, it.toy, 1)
            await it.turn_over(1)
            await talk_to(it.visit, it.toy, 2)
            await it.turn_over(2)
            (prompt,) = engines.llm.prompts
            assert [m.content for m in prompt[len(PREFIX) :]] == ["hello"]
            assert engines.moderator.judged[1][2][0] == "psst a secret"

    run(main())


def test_what_was_not_judged_in_time_is_not_shown_to_the_model_later() -> None:
    async def main() -> None:
        engines = Engines(
            stt=ScriptedSTT(["never judged", "hello"]),
            moderator=ScriptedModerator(failure=Failure(hangs=True, calls=1)),
            judge_timeout_s=60.0,
        )
        async with scene(engines) as it:
            await talk_to(it.visit, it.toy, 1)
            assert (await it.turn_over(1)).error is ErrorCode.TIMEOUT
            await talk_to(it.visit, it.toy, 2)
            await it.turn_over(2)
            (prompt,) = engines.llm.prompts
            assert [m.content for m in prompt[len(PREFIX) :]] == ["hello"]

    run(main())


@pytest.mark.parametrize("at_s", [0.0, 0.1, 0.23, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0, 2.0, 3.3])
def test_barge_in_leaves_no_task_and_no_further_frame(at_s: float) -> None:
    async def main() -> None:
        async with scene(slow()) as it:
            await talk_to(it.visit, it.toy, 1)
            await asyncio.sleep(at_s)
            assert in_it(it.visit).in_turn
            before = len(it.toy.got)
            await tell(it.visit, it.toy, Cancel(1))
            assert not in_it(it.visit).in_turn
            assert it.engines.at_work() == 0
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert {task.get_name() for task in left} <= {"store"}, "no part of the turn is left"
            await asyncio.sleep(10)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert len(it.toy.got) == before, "nothing more was sent once the Cancel had come"
            await talk_to(it.visit, it.toy, 2)
            await until(lambda: SpeakingEnd(2) in it.toy.messages)
            assert {frame.turn for frame in it.toy.frames[: it.toy.frames.index(it.toy.frames[-1])]} <= {1, 2}
            assert [frame.sequence for frame in it.toy.frames if frame.turn == 2][:2] == [0, 1]
            outcomes = {record.turn: record.outcome for record in it.records}
            assert outcomes.get(1, Outcome.CANCELLED) is Outcome.CANCELLED
            assert outcomes[2] is Outcome.ANSWERED

    run(main())


def test_a_cancelled_turn_is_recorded_with_what_was_heard_of_it() -> None:
    async def main() -> None:
        async with scene(slow()) as it:
            await talk_to(it.visit, it.toy, 1)
            await until(lambda: len(it.toy.frames) > 3)
            await tell(it.visit, it.toy, Cancel(1))
            record = await it.turn_over()
            assert (record.outcome, record.heard) == (Outcome.CANCELLED, "tell me a story")
            assert record.said == it.toy.captions()
            assert record.downlink_packets == len(it.toy.frames)

    run(main())


def test_the_next_turn_does_not_wait_for_the_store_and_every_turn_is_stored_in_order() -> None:
    async def main() -> None:
        async with scene(store_s=5.0) as it:
            await talk_to(it.visit, it.toy, 1)
            await until(lambda: SpeakingEnd(1) in it.toy.messages)
            asked_s = asyncio.get_running_loop().time()
            await talk_to(it.visit, it.toy, 2)
            await it.first_frame(2)
            assert asyncio.get_running_loop().time() - asked_s < 0.5
            assert it.engines.llm.prompts[1][len(PREFIX)].content == "hello bear", "what was said is remembered"
            await tell(it.visit, it.toy, Cancel(2))
            assert asyncio.get_running_loop().time() - asked_s < 0.5
            assert it.records == []
        assert [(record.turn, record.outcome) for record in it.records] == [
            (1, Outcome.ANSWERED),
            (2, Outcome.CANCELLED),
        ], "leaving waits for the store"

    run(main())


def test_a_conversation_that_is_cancelled_stores_its_turns_all_the_same() -> None:
    async def main() -> None:
        scenes: list[Scene] = []

        async def talk() -> None:
            async with scene(slow(), store_s=1.0) as it:
                scenes.append(it)
                await talk_to(it.visit, it.toy, 1)
                await asyncio.sleep(60)

        talking = asyncio.create_task(talk())
        await until(lambda: bool(scenes) and len(scenes[0].toy.frames) > 3)
        talking.cancel()
        await asyncio.wait({talking})
        assert talking.cancelled()
        assert [record.outcome for record in scenes[0].records] == [Outcome.CANCELLED]

    run(main())


def test_a_store_that_hangs_does_not_fill_the_memory() -> None:
    async def main() -> None:
        async with scene(store_s=100.0) as it:
            began_s = asyncio.get_running_loop().time()
            for turn in range(1, MAX_UNSTORED + 1):
                await talk_to(it.visit, it.toy, turn, ())
                await tell(it.visit, it.toy, Cancel(turn))
            assert asyncio.get_running_loop().time() - began_s < 1
            await talk_to(it.visit, it.toy, MAX_UNSTORED + 1, ())
            assert asyncio.get_running_loop().time() - began_s >= 100

    run(main())


def test_a_greeting_that_goodbye_overtakes_is_dropped() -> None:
    async def main() -> None:
        async with scene(greet=False) as it:
            greeting = asyncio.create_task(it.visit.receive(Hello(VERSION + 1, "future")))
            await until(lambda: len(it.toy.messages) == 1, step_s=0)
            await it.visit.close(ErrorCode.SHUTTING_DOWN, grace_s=0.0, retry_after_s=5.0)
            with pytest.raises(ConnectionAbortedError):
                await greeting
            with pytest.raises(ConnectionAbortedError):
                await it.visit.refuse(ErrorCode.BAD_MESSAGE)
            assert it.toy.kinds() == ["Error", "Goodbye"]

    run(main())


def test_a_store_that_fails_does_not_end_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with scene(store_error=StoreError("the disk is full")) as it:
            for turn in (1, 2):
                await talk_to(it.visit, it.toy, turn)
                await it.turn_over(turn)
                await until(lambda: not in_it(it.visit).in_turn)
            assert SpeakingEnd(2) in it.toy.messages

    run(main())
    assert caplog.text.count("turn not stored toy=teddy") == 2


def test_a_tap_is_forgotten() -> None:
    async def main() -> None:
        async with scene() as it:
            await tell(it.visit, it.toy, UtteranceStart(1))
            await tell(it.visit, it.toy, AudioFrame(1, 0, SPEECH_PACKETS[0]))
            await tell(it.visit, it.toy, Cancel(1))
            await talk_to(it.visit, it.toy, 2)
            assert (await it.turn_over()).uplink_packets == len(SPEECH_PACKETS)
            assert it.engines.stt.calls == 1

    run(main())


def test_a_long_utterance_is_cut_and_answered() -> None:
    async def main() -> None:
        async with scene(max_utterance_s=1.0) as it:
            await talk_to(it.visit, it.toy, 1, speech(2.0))
            record = await it.turn_over()
            assert record.uplink_packets == 16, "16 frames of 60 ms are what fits in a second"
            assert record.outcome is Outcome.ANSWERED

    run(main())


def test_an_utterance_of_huge_packets_is_cut_by_its_bytes() -> None:
    async def main() -> None:
        async with scene(max_utterance_s=1.0) as it:
            await talk_to(it.visit, it.toy, 1, [b"\x58" + bytes(1200)] * 12)
            assert (await it.turn_over()).uplink_packets == 6

    run(main())


def test_an_utterance_without_end_is_refused() -> None:
    async def main() -> None:
        async with scene(max_utterance_s=1.0) as it:
            await talk_to(it.visit, it.toy, 1, speech(1.0 * OVERLONG + 0.5))
            assert it.toy.messages[1:] == [Error(ErrorCode.UTTERANCE_TOO_LONG, turn=1)]
            await talk_to(it.visit, it.toy, 2)
            assert (await it.turn_over()).turn == 2

    run(main())


@pytest.mark.parametrize("packet", [b"\x03", b"\xff\xff", b"\x03\x3f", SPEECH_PACKETS[0][:1] + b"\x00"])
def test_bytes_that_are_not_opus_end_the_turn_and_not_the_connection(packet: bytes) -> None:
    async def main() -> None:
        async with scene() as it:
            await tell(it.visit, it.toy, UtteranceStart(1))
            await tell(it.visit, it.toy, AudioFrame(1, 0, packet))
            await tell(it.visit, it.toy, UtteranceEnd(1))
            await until(lambda: not in_it(it.visit).in_turn)
            answer = it.toy.messages[1]
            assert isinstance(answer, Error | SpeakingStart)
            await talk_to(it.visit, it.toy, 2)
            await until(lambda: SpeakingEnd(2) in it.toy.messages)

    run(main())


def test_a_packet_that_cannot_be_opus_is_answered_at_once() -> None:
    async def main() -> None:
        async with scene() as it:
            await tell(it.visit, it.toy, UtteranceStart(1))
            await it.visit.receive(AudioFrame(1, 0, b"\x03"))
            assert it.toy.messages[1:] == [Error(ErrorCode.BAD_AUDIO, turn=1)]
            await it.visit.receive(AudioFrame(1, 1, b"\x03"))
            await it.visit.receive(UtteranceEnd(1))
            assert len(it.toy.messages) == 2, "what was under way is dropped without a word"

    run(main())


def test_a_message_out_of_order_is_refused_and_the_conversation_goes_on() -> None:
    async def main() -> None:
        async with scene() as it:
            with pytest.raises(RemoteProtocolError) as caught:
                await it.visit.receive(Hello(VERSION, "again"))
            await it.visit.refuse(ErrorCode(caught.value.code))
            assert it.toy.messages[-1] == Error(ErrorCode.OUT_OF_ORDER)
            await talk_to(it.visit, it.toy, 1)
            assert (await it.turn_over()).outcome is Outcome.ANSWERED

    run(main())


def test_closing_lets_the_turn_end_within_its_grace() -> None:
    async def main() -> None:
        async with scene() as it:
            await talk_to(it.visit, it.toy, 1)
            await it.visit.close(ErrorCode.SHUTTING_DOWN, grace_s=30.0, retry_after_s=5.0)
            assert it.toy.messages[-2:] == [SpeakingEnd(1), Goodbye(ErrorCode.SHUTTING_DOWN, 5.0)]
            assert it.records[0].outcome is Outcome.ANSWERED
            assert it.visit.closed
            await it.visit.close(ErrorCode.SHUTTING_DOWN, grace_s=30.0, retry_after_s=5.0)
            assert it.toy.kinds().count("Goodbye") == 1

    run(main())


def test_closing_cancels_a_turn_that_takes_longer() -> None:
    async def main() -> None:
        engines = Engines(llm=ScriptedLLM(["x"], failure=Failure(hangs=True)))
        async with scene(engines) as it:
            await talk_to(it.visit, it.toy, 1)
            await it.visit.close(ErrorCode.SHUTTING_DOWN, grace_s=2.0, retry_after_s=5.0)
            at_s, last = it.toy.got[-1]
            assert last == Goodbye(ErrorCode.SHUTTING_DOWN, 5.0)
            assert at_s == pytest.approx(2.0)
            assert it.records[0].outcome is Outcome.CANCELLED

    run(main())


@pytest.mark.parametrize("ends", ["cancelled", "spoken"])
def test_no_turn_begins_after_the_one_that_closing_waits_for(ends: str) -> None:
    async def main() -> None:
        async with scene(slow(), store_s=1.0) as it:
            await talk_to(it.visit, it.toy, 1)
            closing = asyncio.create_task(it.visit.close(ErrorCode.SHUTTING_DOWN, grace_s=30.0, retry_after_s=5.0))
            await until(lambda: len(it.toy.frames) > 3)
            if ends == "cancelled":
                await tell(it.visit, it.toy, Cancel(1))
            else:
                await until(lambda: SpeakingEnd(1) in it.toy.messages)
            await talk_to(it.visit, it.toy, 2)
            await closing
            assert it.toy.messages[-1] == Goodbye(ErrorCode.SHUTTING_DOWN, 5.0)
            assert it.engines.stt.calls == 1
            assert [record.turn for record in it.records] == [1]

    run(main())


def test_leaving_in_mid_turn_leaves_nothing() -> None:
    async def main() -> None:
        async with scene(slow()) as it:
            await talk_to(it.visit, it.toy, 1)
            await until(lambda: len(it.toy.frames) > 3)
        assert it.records[0].outcome is Outcome.CANCELLED
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_an_error_of_the_caller_leaves_the_block_as_it_came() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionResetError):
            async with scene(slow()) as it:
                await talk_to(it.visit, it.toy, 1)
                await asyncio.sleep(0.1)
                raise ConnectionResetError

    run(main())


class BuggyLLM(ScriptedLLM):
    """Breaks the contract of its port."""

    def reply(self, messages: object) -> object:  # type: ignore[override]
        raise KeyError("a bug")


def test_a_bug_in_a_turn_ends_the_conversation_at_once() -> None:
    async def main() -> None:
        engines = Engines(llm=BuggyLLM([""]))
        with pytest.raises(BaseExceptionGroup) as caught:
            async with scene(engines) as it:
                await talk_to(it.visit, it.toy, 1)
                await asyncio.get_running_loop().create_future()  # as a server waits for the next message
        assert caught.group_contains(KeyError)
        (record,) = it.records
        assert (record.outcome, record.error) == (Outcome.FAILED, ErrorCode.INTERNAL)
        assert (record.heard, record.said, record.downlink_packets) == ("hello bear", [], 0)

    run(main())


CANARY = "Xylophonist"


@pytest.mark.parametrize("stage", ["none", "stt", "moderator", "llm", "tts", "llm-late", "tts-late", "store", "cancel"])
def test_no_word_of_a_child_reaches_a_log_or_a_traceback(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    late = Failure(after=3)
    seen: list[BaseException] = []
    words = f"my name is {CANARY} and I live in {CANARY} street"
    engines = Engines(
        stt=ScriptedSTT([words], failure=Failure() if stage == "stt" else None),
        moderator=ScriptedModerator(failure=Failure() if stage == "moderator" else None),
        llm=ScriptedLLM(
            [f"Hello {CANARY}, how nice. I like {CANARY} street. Do you?"],
            failure={"llm": Failure(), "llm-late": late}.get(stage),
        ),
        tts=ScriptedTTS(failure={"tts": Failure(), "tts-late": late}.get(stage)),
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: seen.append(context.get("exception") or RuntimeError(str(context)))
        )
        error = StoreError("the disk is full") if stage == "store" else None
        async with scene(engines, store_error=error) as it:
            for turn in (1, 2):
                await talk_to(it.visit, it.toy, turn)
                if stage == "cancel":
                    await it.first_frame(turn)
                    await tell(it.visit, it.toy, Cancel(turn))
                await it.turn_over(turn)
                await until(lambda: not in_it(it.visit).in_turn)
            if stage not in ("stt", "moderator"):
                assert any(isinstance(m, Transcript) and CANARY in m.text for m in it.toy.messages), (
                    "the bait was there"
                )

    with caplog.at_level(logging.DEBUG):
        run(main())
    formatter = logging.Formatter("%(message)s %(args)s")
    written = [formatter.format(record) + repr(record.__dict__) for record in caplog.records]
    written += ["".join(traceback.format_exception(error)) for error in seen]
    assert any("turn over" in line for line in written)
    assert not [line for line in written if CANARY.lower() in line.lower()]


def test_twenty_toys_at_once_are_each_answered_in_their_own_words() -> None:
    async def one(number: int) -> None:
        engines = slow()
        engines.llm = ScriptedLLM([f"Hello toy number {number}. I am glad to see you."], Pace(0.1, 0.02, 0.5, number))
        async with scene(engines) as it:
            for turn in (1, 2, 3):
                await talk_to(it.visit, it.toy, turn)
                record = await it.turn_over(turn)
                assert record.said == [f"Hello toy number {number}.", "I am glad to see you."]
            assert [record.outcome for record in it.records] == [Outcome.ANSWERED] * 3

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(one(number))

    run(main())


def test_a_silent_toy_is_answered_gently() -> None:
    async def main() -> None:
        async with scene() as it:
            await talk_to(it.visit, it.toy, 1, ())
            record = await it.turn_over()
            assert record.outcome is Outcome.UNHEARD
            assert record.said[0] in PHRASES.variants(PhraseKey.DIDNT_HEAR)

    run(main())
