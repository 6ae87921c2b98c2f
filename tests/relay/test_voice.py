"""The voice: cleared words only, frames in order, and never far ahead of the ear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import cast

import pytest

from pommai.audio import SPEECH
from pommai.codec import packet_ms
from pommai.errors import LocalProtocolError, ProviderError
from pommai.protocol import FRAME_MS, AudioFrame, Message, Sentence, SpeakingEnd, SpeakingStart
from pommai.relay.guardian import Cleared
from pommai.relay.phrases import PhraseKey
from pommai.relay.ports import Action, Category, TurnRecord, Verdict
from pommai.relay.providers.scripted import CHAR_MS, Failure, Pace, ScriptedTTS
from pommai.relay.voice import LEAD_S, MAX_SENTENCE_S, Route, Voice
from tests.relay.toybox import Engines, Toy, heard_pitches, new_record, pitches_of
from tests.relay.virtual_time import run


def voice_of(toy: Toy, tts: ScriptedTTS, record: TurnRecord | None = None) -> Voice:
    return Voice(tts, toy.greeted().take, record or new_record())


async def cleared(text: str) -> Cleared:
    _, words = await Engines().pipeline().guardian.clear(text, [])
    assert words is not None
    return words


def test_a_sentence_is_spoken_whole_and_written_down() -> None:
    async def main() -> None:
        toy, record, tts = Toy(), new_record(), ScriptedTTS()
        voice = voice_of(toy, tts, record)
        text = "Bears like honey a lot."
        await voice.say(await cleared(text), Route.REPLY)
        await voice.finish()
        assert toy.kinds() == ["SpeakingStart", "Sentence", "AudioFrame", "SpeakingEnd"]
        assert toy.messages == [SpeakingStart(1), Sentence(1, text), SpeakingEnd(1)]
        assert [frame.sequence for frame in toy.frames] == list(range(len(toy.frames)))
        length_ms = CHAR_MS * len(text)
        assert length_ms <= sum(packet_ms(frame.packet) for frame in toy.frames) < length_ms + 10
        assert voice.spoken_s == pytest.approx(length_ms / 1000)
        assert heard_pitches(toy.frames) == pitches_of([text])
        assert record.said == [text]
        assert record.downlink_packets == len(toy.frames)
        assert record.marks_s["first_audio"] == toy.frame_times_s[0]

    run(main())


def test_two_sentences_are_one_stream() -> None:
    async def main() -> None:
        toy = Toy()
        voice = voice_of(toy, ScriptedTTS())
        texts = ["Bears like honey a lot.", "Bees make it for the bears."]
        for text in texts:
            await voice.say(await cleared(text), Route.REPLY)
        assert toy.messages == [SpeakingStart(1), *(Sentence(1, text) for text in texts)]
        assert [frame.sequence for frame in toy.frames] == list(range(len(toy.frames)))
        assert heard_pitches(toy.frames) == pitches_of(texts)

    run(main())


def test_the_first_frame_leaves_as_soon_as_it_is_full() -> None:
    async def main() -> None:
        toy = Toy()
        voice = voice_of(toy, ScriptedTTS(Pace(first_s=0.1, piece_s=0.5)))
        await voice.say(await cleared("Bears like honey."), Route.REPLY)
        first, *_ = toy.frame_times_s
        assert first == pytest.approx(0.1)

    run(main())


def test_audio_is_never_more_than_the_lead_ahead_of_the_ear() -> None:
    async def main() -> None:
        toy = Toy()
        voice = voice_of(toy, ScriptedTTS())
        await voice.say(
            await cleared("Once upon a time there was a bear who liked to sing in the rain. " * 2), Route.REPLY
        )
        start = toy.frame_times_s[0]
        for n_before, at_s in enumerate(toy.frame_times_s):
            ahead_s = n_before * FRAME_MS / 1000 - (at_s - start)
            assert ahead_s <= LEAD_S + 1e-6
        at_once = sum(at_s == start for at_s in toy.frame_times_s)
        assert at_once * FRAME_MS / 1000 == pytest.approx(LEAD_S, abs=FRAME_MS / 1000), "the lead is really used"

    run(main())


def test_after_a_stall_the_lead_begins_anew() -> None:
    async def main() -> None:
        toy = Toy()
        voice = voice_of(toy, ScriptedTTS())
        await voice.say(await cleared("A short one."), Route.REPLY)
        await asyncio.sleep(30)
        n_before, again_s = len(toy.frames), asyncio.get_running_loop().time()
        await voice.say(await cleared("And now a long one about bears. " * 6), Route.REPLY)
        burst = sum(at_s == again_s for at_s in toy.frame_times_s[n_before:])
        assert burst * FRAME_MS / 1000 <= LEAD_S + 2 * FRAME_MS / 1000

    run(main())


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.PASS])
def test_words_without_a_passed_verdict_are_refused(action: Action) -> None:
    async def main() -> None:
        toy, tts = Toy(), ScriptedTTS()
        voice = voice_of(toy, tts)
        forged = SimpleNamespace(text="psst", verdict=Verdict(Category.BENIGN, 0, 1.0, "forged", Action.PASS))
        stained = await cleared("psst")
        object.__setattr__(stained, "verdict", Verdict(Category.SECRECY, 3, 1.0, "stained", action))
        for words in (forged, stained):
            with pytest.raises(LocalProtocolError, match="without a passed verdict"):
                await voice.say(cast("Cleared", words), Route.REPLY)
        assert toy.got == []
        assert tts.spoken == []

    run(main())


def test_a_reply_without_audio_has_neither_start_nor_end() -> None:
    async def main() -> None:
        toy, record = Toy(), new_record()
        voice = voice_of(toy, ScriptedTTS(failure=Failure()), record)
        with pytest.raises(ProviderError, match="tts: unavailable"):
            await voice.say(await cleared("Hello."), Route.REPLY)
        with pytest.raises(ProviderError, match="tts: unavailable"):
            await voice.finish()
        assert toy.got == []
        assert record.said == [], "what was not heard was not said"

    run(main())


def test_the_next_words_do_not_begin_with_the_rest_of_what_failed() -> None:
    async def main() -> None:
        toy = Toy()
        tts = ScriptedTTS(failure=Failure(after=2, calls=1))
        voice = voice_of(toy, tts)
        with pytest.raises(ProviderError):
            await voice.say(await cleared("A sentence that breaks off somewhere."), Route.REPLY)
        n_broken = len(toy.frames)
        assert n_broken == 2 * ScriptedTTS.PIECE_MS // FRAME_MS
        phrase = Engines().pipeline().guardian.phrase(PhraseKey.TROUBLE)
        await voice.say(phrase, Route.FIXED)
        assert sum(packet_ms(frame.packet) for frame in toy.frames[n_broken:]) < CHAR_MS * len(phrase.text) + 10
        assert tts.at_work == 0

    run(main())


def test_a_stream_that_never_ends_is_cut() -> None:
    async def main() -> None:
        toy, tts = Toy(), ScriptedTTS()
        voice = voice_of(toy, tts)
        await voice.say(await cleared("la " * 600), Route.REPLY)
        assert voice.spoken_s == pytest.approx(MAX_SENTENCE_S, abs=ScriptedTTS.PIECE_MS / 1000)
        assert tts.at_work == 0

    run(main())


class BoomTTS:
    """Gives all it has in one piece."""

    name = "boom"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        yield bytes(SPEECH.bytes(self._seconds * 1000))


def test_one_huge_piece_is_cut_too() -> None:
    async def main() -> None:
        toy = Toy()
        voice = Voice(BoomTTS(3 * MAX_SENTENCE_S), toy.greeted().take, new_record())
        await voice.say(await cleared("Boom."), Route.REPLY)
        assert voice.spoken_s == pytest.approx(MAX_SENTENCE_S, abs=FRAME_MS / 1000)

    run(main())


def test_others_have_their_turn_between_any_two_frames() -> None:
    async def main() -> None:
        order: list[str] = []
        speaking = True

        async def take(message: Message) -> None:
            order.append("frame" if isinstance(message, AudioFrame) else "about it")

        async def other() -> None:
            while speaking:
                order.append("other")
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        voice = Voice(BoomTTS(LEAD_S), take, new_record())
        await voice.say(await cleared("Boom."), Route.REPLY)
        speaking = False
        await beside
        assert order.count("frame") > 1
        assert "frame frame" not in " ".join(order)

    run(main())


class HiccupTTS:
    """Gives pieces of every length, empty and odd ones too."""

    name = "hiccup"

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        for n_samples in (0, 1, 700, 0, 5000, 3):
            yield bytes(n_samples * 2)


def test_pieces_of_any_length_become_whole_frames() -> None:
    async def main() -> None:
        toy = Toy()
        voice = Voice(HiccupTTS(), toy.greeted().take, new_record())
        await voice.say(await cleared("Hm."), Route.REPLY)
        lengths = [packet_ms(frame.packet) for frame in toy.frames]
        assert lengths[:-1] == [FRAME_MS] * (len(lengths) - 1)
        assert sum(lengths) >= SPEECH.ms(2 * 5704)
        assert all(isinstance(frame, AudioFrame) for frame in toy.frames)

    run(main())
