"""Speech to text, by the real engine: its own voice's words come back, and nothing comes of what is not speech."""

from __future__ import annotations

import asyncio

import pytest

from pommai.audio import SPEECH
from pommai.errors import ProviderError
from pommai.relay.ports import Transcript, Utterance
from pommai.relay.providers.local_stt import Hearing, LocalSTT
from pommai.relay.providers.local_tts import LocalTTS
from tests.engines.sounds import NOT_SPEECH, pcm, samples, spoken, utterance, words

pytestmark = pytest.mark.engines

UNHEARD = Transcript("", 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "Why is the sky blue?",
        "Can you tell me a story about a dragon and a princess?",
        "There is a monster under my bed and I am scared.",
        "How many legs does a spider have?",
        "Hello!",
        "Yes.",
        "Hi!",
    ],
)
async def test_what_is_said_is_heard(stt: LocalSTT, tts: LocalTTS, text: str) -> None:
    transcript = await stt.transcribe(utterance(await spoken(tts, text)))
    assert words(transcript.text) == words(text)
    assert 0.3 < transcript.confidence <= 1.0
    assert transcript.language == "en"


@pytest.mark.parametrize("gain", [0.02, 0.2, 3.0])
async def test_the_distance_of_the_child_does_not_matter(stt: LocalSTT, tts: LocalTTS, gain: float) -> None:
    said = samples(await spoken(tts, "What is your favorite dinosaur?")) / 32768
    transcript = await stt.transcribe(utterance(pcm(said * gain)))
    assert words(transcript.text) == words("What is your favorite dinosaur?")


async def test_silence_around_the_words_does_not_matter(stt: LocalSTT, tts: LocalTTS) -> None:
    pause = bytes(SPEECH.bytes(2500))
    transcript = await stt.transcribe(utterance(pause + await spoken(tts, "I want to play a game.") + pause))
    assert words(transcript.text) == words("I want to play a game.")


@pytest.mark.parametrize("sound", NOT_SPEECH)
async def test_what_is_not_speech_gives_no_words(stt: LocalSTT, sound: str) -> None:
    assert await stt.transcribe(utterance(pcm(NOT_SPEECH[sound]()))) == UNHEARD


async def test_nothing_gives_no_words(stt: LocalSTT) -> None:
    assert await stt.transcribe(Utterance(())) == UNHEARD


async def test_a_long_utterance_is_heard_to_its_end(stt: LocalSTT, tts: LocalTTS) -> None:
    story = [
        "I like red trains and big trucks.",
        "My grandma makes the best pancakes on Sunday morning.",
        "Then we went to the zoo, and a lion was sleeping on a rock.",
        "My brother cried because he dropped his ice cream in the sand.",
        "After lunch my father read us a book about a snail.",
        "They flew over the hills and the rivers until the water was everywhere.",
        "It was raining when we came home, so we built a castle out of cushions.",
        "Now I would like to know where the sun goes at night.",
    ]
    said = b"".join([await spoken(tts, sentence) for sentence in story])
    assert SPEECH.ms(len(said)) > 24_000
    heard = words((await stt.transcribe(utterance(said))).text)
    assert heard[:4] == ["i", "like", "red", "trains"]
    assert heard[-4:] == ["sun", "goes", "at", "night"]
    assert len(heard) == pytest.approx(sum(len(words(sentence)) for sentence in story), abs=4)


@pytest.mark.parametrize("packets", [(b"",), (b"\xff\xff\xff",), (b"\x03",)])
async def test_what_is_not_opus_is_refused(stt: LocalSTT, packets: tuple[bytes, ...]) -> None:
    with pytest.raises(ProviderError, match=r"^stt: bad_audio$"):
        await stt.transcribe(Utterance(packets))


async def test_a_cancelled_one_leaves_the_engine_free(stt: LocalSTT, tts: LocalTTS) -> None:
    said = utterance(await spoken(tts, "Let us pretend we are pirates on a big ship."))
    queued = [asyncio.create_task(stt.transcribe(said)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in queued:
        task.cancel()
    await asyncio.wait(queued)
    assert all(task.cancelled() for task in queued)
    async with asyncio.timeout(3):  # fifty would take at least five seconds
        assert (await stt.transcribe(said)).text


async def test_closed_it_refuses() -> None:
    stt = LocalSTT.load()
    stt.close()
    stt.close()
    with pytest.raises(ProviderError, match="shutting_down"):
        await stt.transcribe(Utterance(()))


@pytest.mark.parametrize(
    ("hearing", "text"),
    [
        (Hearing("Thank you for watching.", logprob=-1.1, no_speech=0.7), ""),
        (Hearing("Hi", logprob=-1.1, no_speech=0.2), "Hi"),
        (Hearing("Hi", logprob=-0.8, no_speech=0.9), "Hi"),
        (Hearing("Mm-hmm blue then", logprob=-1.6, no_speech=0.0), ""),
        (Hearing("Yes, yes, " * 20, logprob=-0.1, no_speech=0.0), ""),
        (Hearing("No, no, no, no!", logprob=-0.1, no_speech=0.0), "No, no, no, no!"),
        (Hearing("...", logprob=-0.1, no_speech=0.0), ""),
        (Hearing("", logprob=-0.1, no_speech=0.0), ""),
    ],
)
def test_invented_words_do_not_pass(hearing: Hearing, text: str) -> None:
    transcript = hearing.transcript()
    assert transcript.text == text
    assert (transcript.confidence == 0.0) == (text == "")


@pytest.mark.parametrize(
    ("hearing", "dubious"),
    [
        (Hearing("Why is the sky blue?", logprob=-0.1, no_speech=0.0), False),
        (Hearing("Why is the sky", logprob=-0.1, no_speech=0.0, cut=True), True),
        (Hearing("Hello? " * 20, logprob=-0.1, no_speech=0.0), True),
        (Hearing("Wise the sky", logprob=-1.2, no_speech=0.0), True),
    ],
)
def test_what_is_dubious_is_listened_to_again(hearing: Hearing, dubious: bool) -> None:
    assert hearing.dubious is dubious
