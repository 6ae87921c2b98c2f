"""Hundreds of turns, by seed, of children who interrupt, tap, hold too briefly, and of networks that break off.

The real runner, uplink and relay in one process, several toys side by side. At the end every turn is accounted for,
nothing is still at work, and no memory has been kept.
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
from typing import Final

import pytest

from pommai.device.body.sim import TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.mind.states import Idle, Listening, Speaking, Thinking
from pommai.device.network.meter import Meter
from pommai.device.network.uplink import WebSocketUplink
from pommai.device.ports import Note, StateChanged
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
        self.asked = 0
        """Utterances that the toy began to send."""
        self._proxy = proxy
        self._chance = chance
        self._button, self._mic = VirtualButton(), VirtualMic()
        self.speaker = VirtualSpeaker()
        self._uplink = WebSocketUplink(RelayLink(url=proxy.url, token=Secret(token)), meter=Meter())
        self.runner = Runner(Body(self._button, self._mic, self.speaker, TerminalLights()), self._uplink, observer=self)
        self._changed = asyncio.Event()

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        if isinstance(note, StateChanged):
            self.asked += isinstance(note.state, Listening) and note.state.started
            self._changed.set()

    async def play(self, turns: int) -> None:
        """Whatever children do, until the relay has been asked so often."""
        living = asyncio.create_task(self.runner.run(), name="toy")
        try:
            while self.asked < turns:
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


async def played(relay: ServedRelay, number: int, turns: int) -> tuple[int, Counter[str]]:
    """One child's part of the turns: how often the relay was asked, and what the child did."""
    async with between(relay.port) as proxy:
        child = Child(proxy, await relay.token(f"toy-{number}"), random.Random(SEED + number))
        await child.play(turns)
        return child.asked, child.did


async def tally(relay: ServedRelay, outcomes: Counter[Outcome]) -> None:
    """Count the turns that are stored, and let what these engines remember go: real ones do not."""
    while True:
        outcomes[(await relay.store.turns.get()).outcome] += 1
        for script in (relay.engines.llm.prompts, relay.engines.moderator.judged, relay.engines.tts.spoken):
            script.clear()


async def all_play(relay: ServedRelay, first: int, turns: int) -> tuple[int, Counter[str], Counter[Outcome]]:
    """So many turns, by new toys whose numbers begin with `first`; all of them were stored."""
    outcomes = Counter[Outcome]()
    counting = asyncio.create_task(tally(relay, outcomes))
    shares = await asyncio.gather(*(played(relay, first + n, math.ceil(turns / TOYS)) for n in range(TOYS)))
    asked, did = sum(asked for asked, _ in shares), sum((did for _, did in shares), Counter[str]())
    await until(lambda: not relay.engines.at_work())
    await until(lambda: outcomes.total() >= asked)
    counting.cancel()
    await asyncio.wait([counting])
    return asked, did, outcomes


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
    assert sum(outcomes.values()) == asked, "each turn that was begun has ended, once"
    assert outcomes[Outcome.FAILED] == 0
    assert outcomes[Outcome.ANSWERED] > asked / 2 and outcomes[Outcome.CANCELLED] > 0
    assert len(did) == 5, f"children did everything: {did}"
    assert not caplog.records
    assert growth < GROWTH_BYTES
