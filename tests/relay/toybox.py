"""A relay's turn, taken apart for tests: scripted engines, and a toy that writes down what reaches it and when."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pommai.audio import SPEECH
from pommai.codec import Framer, OpusDecoder, OpusEncoder
from pommai.link import Link, Side
from pommai.protocol import (
    FRAME_MS,
    VERSION,
    AudioFrame,
    Hello,
    Message,
    Sentence,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.relay.guardian import Guardian
from pommai.relay.phrases import PhraseBook
from pommai.relay.ports import ToyToken, TurnRecord, Utterance
from pommai.relay.providers.scripted import ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS, pitch_hz, tone
from pommai.relay.turn import Pipeline
from pommai.relay.visit import Visit

PHRASES = PhraseBook.load()
TOKEN = ToyToken("token", "teddy", 0.0, None, None)


def speech(seconds: float = 0.6) -> tuple[bytes, ...]:
    """Opus packets of a sound that is loud enough to be speech."""
    framer = Framer(OpusEncoder(), FRAME_MS)
    return (*framer.push(tone(440, seconds * 1000)), *framer.flush())


def silence(seconds: float = 0.6) -> tuple[bytes, ...]:
    """Opus packets of nothing."""
    framer = Framer(OpusEncoder(), FRAME_MS)
    return (*framer.push(bytes(SPEECH.bytes(seconds * 1000))), *framer.flush())


SPEECH_PACKETS = speech()
UTTERANCE = Utterance(SPEECH_PACKETS)


@dataclass
class Engines:
    """One set of scripted engines; replace any of them before `pipeline()`."""

    stt: ScriptedSTT = field(default_factory=lambda: ScriptedSTT(["hello bear"]))
    moderator: ScriptedModerator = field(default_factory=ScriptedModerator)
    llm: ScriptedLLM = field(default_factory=lambda: ScriptedLLM(["Hello, friend. How are you today?"]))
    tts: ScriptedTTS = field(default_factory=ScriptedTTS)
    judge_timeout_s: float = 2.0

    def pipeline(self, max_sentences: int = 12, max_reply_s: float = 60.0) -> Pipeline:
        guardian = Guardian(self.moderator, PHRASES, judge_timeout_s=self.judge_timeout_s)
        return Pipeline(self.stt, guardian, self.llm, self.tts, max_sentences, max_reply_s)

    def at_work(self) -> int:
        """How many calls of any engine are in progress."""
        return self.stt.at_work + self.moderator.at_work + self.llm.at_work + self.tts.at_work


@dataclass
class Toy:
    """The toy's end: every message with its time, checked against the toy's own Link."""

    got: list[tuple[float, Message]] = field(default_factory=list)
    gone: bool = False
    link: Link = field(default_factory=lambda: Link(Side.TOY))

    async def take(self, message: Message) -> None:
        """What the relay calls to send."""
        if self.gone:
            raise ConnectionResetError
        self.link.received(message)
        self.got.append((asyncio.get_running_loop().time(), message))
        await asyncio.sleep(0)

    def greeted(self, turn: int = 1) -> Toy:
        """This toy with its link where `run_turn` begins: in the thinking phase of `turn`."""
        self.link.sending(Hello(VERSION, "test", captions=True))
        self.link.received(Welcome(VERSION, "s", 0.0, 20.0))
        self.link.sending(UtteranceStart(turn))
        self.link.sending(UtteranceEnd(turn))
        return self

    @property
    def messages(self) -> list[Message]:
        """Everything but audio."""
        return [message for _, message in self.got if not isinstance(message, AudioFrame)]

    @property
    def frames(self) -> list[AudioFrame]:
        return [message for _, message in self.got if isinstance(message, AudioFrame)]

    @property
    def frame_times_s(self) -> list[float]:
        return [at_s for at_s, message in self.got if isinstance(message, AudioFrame)]

    def kinds(self) -> list[str]:
        """The order of what came: names of message types, audio once in a row."""
        names: list[str] = []
        for _, message in self.got:
            name = type(message).__name__
            if not (names and names[-1] == name == "AudioFrame"):
                names.append(name)
        return names

    def captions(self) -> list[str]:
        return [message.text for message in self.messages if isinstance(message, Sentence)]


async def talk_to(visit: Visit, toy: Toy, turn: int, packets: Sequence[bytes] = SPEECH_PACKETS) -> None:
    """Send one whole utterance."""
    await tell(visit, toy, UtteranceStart(turn))
    for sequence, packet in enumerate(packets):
        await tell(visit, toy, AudioFrame(turn, sequence, packet))
    await tell(visit, toy, UtteranceEnd(turn))


async def tell(visit: Visit, toy: Toy, message: Message) -> None:
    """Send one message, as the toy's own link allows."""
    if toy.link.sending(message):
        await visit.receive(message)


def new_record(turn: int = 1) -> TurnRecord:
    return TurnRecord("teddy", turn, 0.0)


def heard_pitches(frames: Sequence[AudioFrame]) -> list[int]:
    """The pitches in the audio of a reply, in order, each once in a row: which sentences the child really heard."""
    decoder = OpusDecoder()
    pitches: list[int] = []
    before = None
    for frame in frames:
        pitch = _pitch_of(decoder.decode(frame.packet))
        if pitch is not None and pitch == before and pitches[-1:] != [pitch]:
            pitches.append(pitch)
        before = pitch or before
    return pitches


def pitches_of(texts: Sequence[str]) -> list[int]:
    return [pitch_hz(text) for text in texts]


def _pitch_of(pcm: bytes) -> int | None:
    """The scripted pitch of one frame by its rising zero crossings; None for one that is short, quiet or mixed."""
    samples = array("h", pcm)
    rising = [i for i in range(1, len(samples)) if samples[i - 1] < 0 <= samples[i]]
    if len(rising) < 8 or max(samples) < 1000:
        return None
    gaps = [later - earlier for earlier, later in pairwise(rising)]
    if max(gaps) - min(gaps) > 2:  # the seam of two tones
        return None
    hz = SPEECH.rate_hz * (len(rising) - 1) / (rising[-1] - rising[0])
    nearest = 300 + 20 * round((hz - 300) / 20)
    return nearest if abs(hz - nearest) < 5 else None
