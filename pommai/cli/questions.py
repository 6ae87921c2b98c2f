"""What the child says in a demo: recordings, texts spoken by a synthetic child, or the default questions."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pommai.audio import SPEECH, read_wav
from pommai.relay.ports import TTS

PAUSE_MS = 150
"""Between pressing and speaking, and between speaking and letting go: a child is no machine."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to say: its text, or a recording (24 kHz mono PCM) with the name of its file."""

    text: str
    pcm: bytes | None = None


def default_questions() -> list[Question]:
    """The questions that come with pommai; bank and model take turns in answering them."""
    data = tomllib.loads(files("pommai.relay").joinpath("data/questions.toml").read_text(encoding="utf-8"))
    return [Question(entry["text"]) for entry in data["question"]]


def chosen_questions(say: Sequence[str], wav: Sequence[Path], turns: int | None) -> list[Question]:
    """What was asked for on the command line, recordings first; the default questions if nothing was.

    `turns`: how many in all, beginning anew when they run out. Raises AudioError for a recording that cannot be used.
    """
    questions = [Question(path.name, read_wav(path)) for path in wav] + [Question(text) for text in say]
    if not questions:
        questions = default_questions()
        turns = turns if turns is not None else DEFAULT_TURNS
    n = turns if turns is not None else len(questions)
    return [questions[i % len(questions)] for i in range(n)]


DEFAULT_TURNS = 2


async def spoken(question: Question, tts: TTS) -> bytes:
    """The question as sound: its recording as it is, or its text in a synthetic voice between two short pauses."""
    if question.pcm is not None:
        return question.pcm
    pcm = bytearray()
    async with aclosing(tts.speak(question.text)) as pieces:
        async for piece in pieces:
            pcm += piece
    pause = bytes(SPEECH.bytes(PAUSE_MS))
    return pause + bytes(pcm) + pause
