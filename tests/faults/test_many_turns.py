"""Hundreds of turns, by seed, of children who interrupt, tap, hold too briefly, and of networks that break off.

The real runner, uplink and relay in one process, several toys side by side. At the end every turn is accounted for,
nothing is still at work, and no memory has been kept. A turn that the network cut off before the relay had heard it to
its end has none there: then the toy knows that it was not resumed.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import pytest

from pommai.device.body.sim import TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.mind.states import Idle, Interrupted, Listening, Speaking, Thinking
from pommai.device.network.meter import Meter
from pommai.device.network.uplink import WebSocketUplink
from pommai.device.ports import Note, RelayReached, StateChanged
from pommai.device.runner import Body, Runner
from pommai.device.settings import RelayLink
from pommai.relay.ports import Outcome
from pommai.relay.providers.scripted import Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS, tone
from pommai.schema import Secret
from tests.faults.lengths import TURNS
from tests.faults.proxy import Proxy, between
from tests.relay.served import ServedRelay, served, until
from tests.relay.toybox import Engines

TOYS: Final = 20
WARM_UP: Final = 0.6
"""The part of all turns after which memory must not grow any more: of 5,000 the first 3,000, in which the pages that
the relay's SQLite keeps grow to their 2 MB."""

SEED: Final = 7_000
GROWTH_BYTES: Final = 2_000_000
SAYING: Final = tone(440, 420)
PATIENCE_S: Final = 20.0


def engines() -> Engines:
    """Short answers, sometimes late."""
    return Engines(
        stt=ScriptedSTT(["hello"], Pace(0.02, jitter=0.9, seed=1)),
        moderator=ScriptedModerator(pace=Pace(0.002, jitter=0.9, seed=2)),
        llm=ScriptedLLM(["Yes.", "Oh. No.", "I do not know."], Pace(0.03, 0.005, jitter=0.9, seed=3)),
        tts=ScriptedTTS(Pace(0.02, 0.002, jitter=0.9, seed=4)),
    )


class Child:
    """One toy and the child who plays with it."""

    def __init__(self, proxy: Proxy, token: str, chance: random.Random) -> None:
        self.did: Counter[str] = Counter()
        self.asked: set[int] = set()
        """The turns whose utterance the toy began to send."""
        self._interrupted: set[int] = set()
        self._resumed: set[int | None] = set()
        self._proxy = proxy
        self._chance = chance
        self._button, self._mic = VirtualButton(), VirtualMic()
        self.speaker = VirtualSpeaker()
        self._uplink = WebSocketUplink(RelayLink(url=proxy.url, token=Secret(token)), meter=Meter())
        self.runner = Runner(Body(self._button, self._mic, self.speaker, TerminalLights()), self._uplink, observer=self)
        self._changed = asyncio.Event()

    @property
    def cut_off(self) -> set[int]:
        """The turns that broke off, and that the relay did not resume: of these it may have heard too little."""
        return self._interrupted - self._resumed

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        match note:
            case RelayReached(welcome):
                self._resumed.add(welcome.resumed)
            case StateChanged(Listening(turn, started=True)):
                self.asked.add(turn)
            case StateChanged(Interrupted(turn)):
                self._interrupted.add(turn)
            case _:
                pass
        if isinstance(note, StateChanged):
            self._changed.set()

    async def play(self, turns: int) -> None:
        """Whatever children do, until the relay has been asked so often."""
        living = asyncio.create_task(self.runner.run(), name="toy")
        try:
            while len(self.asked) < turns:
                await self._until(lambda: isinstance(self.runner.state, Idle))
                doings = [self._ask, self._barge_in, self._tap, self._let_go_early, self._lose_network]
                doing = self._chance.choices(doings, weights=[60, 20, 5, 10, 5])[0]
                await doing()
                self.did[doing.__name__] += 1
                self.speaker.take_heard()
            await self._until(lambda: isinstance(self.runner.state, Idle))
            self.runner.stop()
            await living
        finally:
            living.cancel()
            await asyncio.wait([living])
            await self._uplink.aclose()

    async def _ask(self) -> None:
        await self._hold(0.42)
        await self._until(lambda: isinstance(self.runner.state, Idle))

    async def _barge_in(self) -> None:
        await self._hold(0.35)
        wanted = self._chance.choice([Thinking, Speaking])
        await self._until(lambda: isinstance(self.runner.state, wanted | Idle))
        await asyncio.sleep(self._chance.uniform(0, 0.1))
        await self._hold(0.35)

    async def _tap(self) -> None:
        for _ in range(self._chance.randint(1, 3)):
            await self._hold(0.08)
            await asyncio.sleep(0.08)

    async def _let_go_early(self) -> None:
        await self._hold(self._chance.uniform(0.25, 0.35))

    async def _lose_network(self) -> None:
        await self._hold(0.35)
        await asyncio.sleep(self._chance.uniform(0, 0.3))
        self._proxy.reset()

    async def _hold(self, seconds: float) -> None:
        self._mic.speak(SAYING)
        self._button.press()
        await asyncio.sleep(seconds)
        self._button.release()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


def memory_bytes() -> int:
    """What this process really uses of its memory, shared libraries included (RSS).

    That is after a collection, and without what the allocator only keeps.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def played(relay: ServedRelay, toy: str, seed: int, turns: int) -> Child:
    """The child, after its part of the turns."""
    async with between(relay.port) as proxy:
        child = Child(proxy, await relay.token(toy), random.Random(seed))
        await child.play(turns)
        return child


class Tally:
    """The turns that are stored. As a context manager it counts them."""

    def __init__(self, relay: ServedRelay) -> None:
        self.outcomes = Counter[Outcome]()
        self.turns = Counter[tuple[str, int]]()
        self._relay = relay

    async def __aenter__(self) -> Self:
        self._counting = asyncio.create_task(self._count(), name="tally")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._counting.cancel()
        await asyncio.wait([self._counting])

    async def _count(self) -> None:
        """Count, and let what these engines remember go: real ones do not."""
        engines = self._relay.engines
        while True:
            turn = await self._relay.store.turns.get()
            self.outcomes[turn.outcome] += 1
            self.turns[turn.toy, turn.turn] += 1
            for script in (engines.llm.prompts, engines.moderator.judged, engines.tts.spoken):
                script.clear()


async def all_play(relay: ServedRelay, first: int, turns: int) -> tuple[int, Counter[str], Counter[Outcome]]:
    """So many turns, by new toys whose numbers begin with `first`; each was stored once, or was cut off."""
    toys = [f"toy-{first + n}" for n in range(TOYS)]
    share = math.ceil(turns / TOYS)
    async with Tally(relay) as tally:
        children = await asyncio.gather(*(played(relay, toy, SEED + first + n, share) for n, toy in enumerate(toys)))
        asked = {(toy, turn) for toy, child in zip(toys, children, strict=True) for turn in child.asked}
        cut_off = {(toy, turn) for toy, child in zip(toys, children, strict=True) for turn in child.cut_off}
        await until(lambda: not relay.engines.at_work())
        await until(lambda: tally.turns.keys() >= asked - cut_off)
    did = sum((child.did for child in children), Counter[str]())
    assert tally.turns.keys() <= asked and set(tally.turns.values()) == {1}, "no turn is stored twice, or made up"
    assert len(asked - tally.turns.keys()) <= did["_lose_network"]
    return len(asked), did, tally.outcomes


@pytest.mark.timeout(120 + TURNS)
async def test_every_turn_is_accounted_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    caplog.set_level(logging.ERROR)  # the log is kept, and is no leak
    asyncio.get_running_loop().set_debug(False)  # it remembers where each task was made
    async with served(tmp_path, engines()) as relay:
        warming, _, _ = await all_play(relay, 0, round(TURNS * WARM_UP))
        warm = memory_bytes()
        asked, did, outcomes = await all_play(relay, TOYS, TURNS - warming)
        growth = memory_bytes() - warm
        assert await relay.metric("pommai_active_toys") == 0
    figures = {"turns": warming + asked, "growth_mb": round(growth / 1e6, 2), **outcomes, **did}
    print(figures)  # noqa: T201 - for `make soak`
    record_property("figures", figures)
    assert warming + asked >= TURNS
    assert outcomes[Outcome.FAILED] == 0
    assert outcomes[Outcome.ANSWERED] > asked / 2 and outcomes[Outcome.CANCELLED] > 0
    assert len(did) == 5, f"children did everything: {did}"
    assert not caplog.records
    assert growth < GROWTH_BYTES
