"""Twenty toys talk at once, each hears its own answer, and nothing is left when they go."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from pommai.protocol import SpeakingEnd, Transcript
from pommai.relay.ports import Outcome, Source, TurnRecord
from pommai.relay.providers.scripted import Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from tests.relay.served import ServedRelay, ToyWire, served, until
from tests.relay.toybox import Engines, Toy, heard_pitches, pitches_of

TOYS = 20
TURNS = 3

STT_S, JUDGE_S, LLM_S, TTS_S = 0.2, 0.05, 0.1, 0.1


def engines() -> Engines:
    """Engines as slow as real ones, with a different answer for each turn."""
    return Engines(
        stt=ScriptedSTT([f"question {n}" for n in range(TOYS * TURNS)], Pace(STT_S, jitter=0.5, seed=1)),
        moderator=ScriptedModerator(pace=Pace(JUDGE_S, jitter=0.5, seed=2)),
        llm=ScriptedLLM(
            [f"Answer {n}, yes. Bye {n}." for n in range(TOYS * TURNS)], Pace(LLM_S, 0.01, jitter=0.5, seed=3)
        ),
        tts=ScriptedTTS(Pace(TTS_S, 0.01, jitter=0.5, seed=4)),
    )


async def talk(relay: ServedRelay, name: str, token: str) -> list[str]:
    """One toy's visit: what it was told."""
    told: list[str] = []
    async with relay.knocking(token) as wire:
        await wire.greet()
        for turn in range(1, TURNS + 1):
            wire.got.clear()
            await wire.say(turn)
            await wire.until(SpeakingEnd)
            told += check(wire, turn, name)
    return told


def check(wire: ToyWire, turn: int, name: str) -> list[str]:
    """Every message is of this turn, in order, and the audio says what the captions say."""
    toy = Toy(got=[(0.0, message) for message in wire.got])
    assert [type(message) for message in wire.got].count(Transcript) == 1
    assert {message.turn for message in wire.got if hasattr(message, "turn")} == {turn}, name
    assert [frame.sequence for frame in toy.frames] == list(range(len(toy.frames)))
    pitches = [pitch for pitch, _ in itertools.groupby(pitches_of(toy.captions()))]  # two texts may share a pitch
    assert heard_pitches(toy.frames) == pitches
    return toy.captions()


async def test_twenty_toys_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, engines()) as relay:
        tokens = {f"toy-{n}": await relay.token(f"toy-{n}") for n in range(TOYS)}
        visits = await asyncio.gather(*(talk(relay, name, token) for name, token in tokens.items()))
        turns = [relay.store.turns.get_nowait() for _ in range(TOYS * TURNS)]
        await until(lambda: not relay.engines.at_work())
        assert await relay.metric("pommai_active_toys") == 0
        assert await relay.metric('pommai_turns_total{outcome="answered",source="model"}') == TOYS * TURNS
    told = [sentence for captions in visits for sentence in captions]
    assert sorted(told) == sorted(f"{word}." for n in range(TOYS * TURNS) for word in (f"Answer {n}, yes", f"Bye {n}"))
    assert {(turn.outcome, turn.source) for turn in turns} == {(Outcome.ANSWERED, Source.MODEL)}
    assert sorted({turn.toy for turn in turns}) == sorted(tokens)
    assert at_once(turns) >= TOYS // 2, "they are answered side by side and not one after another"


def at_once(turns: list[TurnRecord]) -> int:
    """The most turns that waited for their first audio at the same moment."""
    waits = [(turn.marks_s["ended"], turn.marks_s["first_audio"]) for turn in turns]
    return max(sum(begin <= moment < end for begin, end in waits) for moment, _ in waits)
