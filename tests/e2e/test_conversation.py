"""The main job, for real: speech goes in, the words come out in the transcript, and speech comes back."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from pommai.audio import SPEECH, level_dbfs, read_recording, write_wav
from pommai.codec import Framer, OpusEncoder
from pommai.device.mind.states import Speaking
from pommai.device.ports import FirstAudio, Note, StateChanged
from pommai.device.virtual import VirtualToy
from pommai.protocol import FRAME_MS
from pommai.relay.ports import Layer, Outcome, Source, Utterance
from pommai.relay.turn import Pipeline
from tests.e2e.conftest import Running, child_says

pytestmark = pytest.mark.engines


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


async def transcribed(pipeline: Pipeline, pcm: bytes) -> str:
    """What our own speech-to-text hears in `pcm`."""
    framer = Framer(OpusEncoder(), FRAME_MS)
    packets = [*framer.push(pcm), *framer.flush()]
    return (await pipeline.stt.transcribe(Utterance(tuple(packets)))).text


async def test_a_spoken_question_is_heard_judged_and_answered_in_speech(
    pipeline: Pipeline, relay: Running, tmp_path: Path
) -> None:
    question = tmp_path / "question.wav"
    write_wav(question, await child_says(pipeline.tts, "How many legs does a spider have?"))
    async with VirtualToy(relay.device) as toy:
        turn = await toy.say(read_recording(question).pcm)
    record = await relay.store.finished(turn.turn)

    assert {"many", "legs", "spider"} <= set(words(turn.heard or ""))
    assert record.outcome is Outcome.ANSWERED
    assert record.heard == turn.heard
    assert all(verdict.passed for _, verdict in record.verdicts)
    assert [layer for layer, _ in record.verdicts] == [Layer.INPUT, *[Layer.OUTPUT] * len(turn.said)]

    said = words(" ".join(turn.said))
    heard_back = set(words(await transcribed(pipeline, turn.reply_pcm)))
    recalled = sum(word in heard_back for word in said) / len(said)
    assert recalled >= 0.7, "most of the reply's words are in the speech that came back"
    assert turn.uplink_kbps <= 38.4
    assert turn.downlink_kbps < 50
    assert turn.compression >= 10


async def test_silence_is_answered_kindly_and_never_by_invented_words(pipeline: Pipeline, relay: Running) -> None:
    async with VirtualToy(relay.device) as toy:
        turn = await toy.say(bytes(SPEECH.bytes(1500)))
    record = await relay.store.finished(turn.turn)
    assert record.outcome is Outcome.UNHEARD
    assert record.heard == ""
    assert record.source is Source.FIXED
    assert "hear" in words(await transcribed(pipeline, turn.reply_pcm))


async def test_distress_is_answered_by_a_grown_up_script_and_not_by_the_model(
    pipeline: Pipeline, relay: Running
) -> None:
    async with VirtualToy(relay.device) as toy:
        turn = await toy.say(await child_says(pipeline.tts, "I am hurt, please help me."))
    record = await relay.store.finished(turn.turn)
    assert record.source is Source.FIXED
    assert record.tokens == 0
    assert record.verdicts[0][1].category == "distress"
    assert "grown" in words(" ".join(record.said)) or "adult" in words(" ".join(record.said))


async def test_barge_in_mid_sentence_leaves_no_task_and_no_audio_behind(pipeline: Pipeline, relay: Running) -> None:
    speaking = asyncio.Event()

    class Onlooker:
        def noticed(self, note: Note) -> None:
            if isinstance(note, FirstAudio) and note.turn == 1:
                speaking.set()

    async with VirtualToy(relay.device, observer=Onlooker()) as toy:
        story = await child_says(pipeline.tts, "Can you tell me a story?")
        question = await child_says(pipeline.tts, "What sound does a cow make?")
        first = asyncio.create_task(toy.say(story))
        await speaking.wait()
        second = await toy.say(question)
        interrupted = await first
        cut_off = await relay.store.finished(1)
        received_ms = toy.meter.turn(1).downlink.audio_ms
    assert interrupted.interrupted
    assert second.error is None
    assert "cow" in words(second.heard or "")
    assert level_dbfs(second.reply_pcm) > -50
    assert cut_off.outcome is Outcome.CANCELLED
    sent_ms = cut_off.downlink_packets * FRAME_MS
    assert 0 < received_ms < 5_000, "the story was cut off long before its end"
    assert sent_ms - received_ms <= FRAME_MS, "what the relay sent had come by then: it sent nothing afterwards"
    assert SPEECH.ms(len(interrupted.reply_pcm)) < received_ms, "and what had come was not played to its end"
    assert not [task for task in asyncio.all_tasks() if "turn" in task.get_name()]


async def test_turn_after_turn_on_one_connection(pipeline: Pipeline, relay: Running) -> None:
    states: list[str] = []

    class Onlooker:
        def noticed(self, note: Note) -> None:
            if isinstance(note, StateChanged):
                states.append(type(note.state).__name__)

    async with VirtualToy(relay.device, observer=Onlooker()) as toy:
        hello = await child_says(pipeline.tts, "Hello teddy!")
        turns = [await toy.say(hello) for _ in range(4)]
    assert [turn.turn for turn in turns] == [1, 2, 3, 4]
    assert all(turn.reply_pcm and turn.error is None for turn in turns)
    assert states.count(Speaking.__name__) == 4
