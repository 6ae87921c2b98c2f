"""What the child says in a demo: recordings, texts spoken by a synthetic child, or the default questions."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pommai.audio import SPEECH, Recording, read_recording
from pommai.errors import AudioError
from pommai.relay.ports import TTS

PAUSE_MS = 150
"""Between pressing and speaking, and between speaking and letting go: a child is no machine."""

DEFAULT_TURNS = 2

READ_S = 30.0
"""How much of a recording is read: more than the 20 s that a toy listens at a time, so that it notices the cut."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to say: its text, or the name of a file and what was read of it."""

    text: str
    recording: Recording | None = None


def default_questions() -> list[Question]:
    """The questions that come with pommai; bank and model take turns in answering them."""
    data = tomllib.loads(files("pommai.relay").joinpath("data/questions.toml").read_text(encoding="utf-8"))
    return [Question(entry["text"]) for entry in data["question"]]


def chosen_questions(say: Sequence[str], wav: Sequence[Path], turns: int | None) -> list[Question]:
    """What was asked for on the command line, recordings first; the default questions if nothing was.

    `turns`: how many in all, beginning anew when they run out. Raises AudioError for a recording that cannot be used.
    """
    questions = [Question(path.name, read_recording(path, READ_S)) for path in wav] + [Question(text) for text in say]
    if not questions:
        questions = default_questions()
        turns = turns if turns is not None else DEFAULT_TURNS
    n = turns if turns is not None else len(questions)
    return [questions[i % len(questions)] for i in range(n)]


async def all_spoken(questions: Sequence[Question], tts: TTS) -> list[Recording]:
    """Every question as sound, those that are repeated made only once.

    Raises AudioError for a text without anything that the voice can pronounce: nobody would hear it.
    """
    sounds: dict[Question, Recording] = {}
    for question in questions:
        if question not in sounds:
            sounds[question] = question.recording or await _spoken(question.text, tts)
    return [sounds[question] for question in questions]


async def _spoken(text: str, tts: TTS) -> Recording:
    """The text in a synthetic voice, between two short pauses."""
    pcm = bytearray()
    async with aclosing(tts.speak(text)) as pieces:
        async for piece in pieces:
            pcm += piece
    if not pcm:
        raise AudioError(
            "the demo's voice finds nothing to pronounce in the text of --say",
            remedy="Give it English words, or a recording: --wav FILE.",
        )
    pause = bytes(SPEECH.bytes(PAUSE_MS))
    said = pause + bytes(pcm) + pause
    return Recording(said, SPEECH.ms(len(said)) / 1000)
