"""Power cuts at random moments: nothing that was acknowledged is lost, and nothing is delivered twice.

Each life of the toy is fed with things to remember, on a network that comes and goes, and ends with SIGKILL. After
each, its own database is read: what is on the disk then has to reach the relay, once, whatever happens later.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing, suppress
from typing import Final

import pytest

from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.lengths import KILLS
from tests.faults.pommaid import Pommaid
from tests.faults.proxy import Proxy, between
from tests.faults.relays import RelayProcess

TOYS: Final = 2
"""They live side by side, with one relay, and are killed independently."""

SEED: Final = 20_250
MAX_LIFE_S: Final = 1.5

Event = tuple[str, str, bool]


def on_disk(toy: Pommaid) -> dict[str, tuple[str, bool]]:
    """Each event in the toy's database: its kind, and whether it still waits for the relay."""
    with closing(sqlite3.connect(toy.folder / "toy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT id, kind, pending FROM events").fetchall()
    return {id: (kind, bool(pending)) for id, kind, pending in rows}


class Witness:
    """What was on the toy's disk after any of its lives, and what it promised a child."""

    def __init__(self) -> None:
        self.events: dict[str, str] = {}
        self.promised = 0
        """Phrases that began to be heard: by then they were written down."""

    def look(self, toy: Pommaid, relay: RelayProcess, name: str) -> None:
        """Take note of the disk. What is not pending there, the relay has."""
        now = on_disk(toy)
        missing = self.events.keys() - now.keys()
        assert not missing, f"events vanished from the toy: {missing}"
        self.events |= {id: kind for id, (kind, _) in now.items()}
        stored = {id for id, _, _ in relay.events(name)}
        let_go = {id for id, (_, pending) in now.items() if not pending}
        assert let_go <= stored, f"acknowledged and not stored: {let_go - stored}"
        assert len(self.events) >= self.promised, "something was heard and is not written down"


async def live(toy: Pommaid, witness: Witness, proxy: Proxy, chance: random.Random) -> None:
    """One life: phrases are asked for, mostly without a network, until the power is cut."""
    life_s = chance.uniform(0.0, MAX_LIFE_S)
    if chance.random() < 0.6:
        await proxy.accept()
    else:
        proxy.refuse()
    await toy.launch()
    with suppress(TimeoutError):
        async with asyncio.timeout(life_s + 0.3):
            await events_happen(toy, witness, proxy, chance)
    await toy.kill()


async def events_happen(toy: Pommaid, witness: Witness, proxy: Proxy, chance: random.Random) -> None:
    """Things to remember, as fast as the toy can; now and then the network changes."""
    while True:
        with suppress(OSError):  # it is not up yet
            answer = await toy.ask("play", phrase=f"joke-{chance.randint(1, 10)}")
            status = await toy.status()
            if answer["ok"] and status["state"] == "playing":
                await toy.until_heard(20)
                witness.promised += not status["relay"]["reached"]
        if chance.random() < 0.1:
            proxy.reset()
            proxy.refuse()
        elif chance.random() < 0.2:
            await proxy.accept()
        await asyncio.sleep(chance.uniform(0.0, 0.05))


@pytest.mark.timeout(60 + 2 * KILLS)
async def test_nothing_acknowledged_is_lost_and_nothing_comes_twice(relay: MakeRelay, toy: MakeToy) -> None:
    async with relay() as lighthouse:
        await asyncio.gather(*(_suffers(number, lighthouse, toy) for number in range(TOYS)))
        assert len(lighthouse.rows("SELECT id FROM events")) == len(lighthouse.rows("SELECT DISTINCT id FROM events"))


async def _suffers(number: int, lighthouse: RelayProcess, toy: MakeToy) -> None:
    """One toy's share of the kills, and the reckoning."""
    chance, witness, name = random.Random(SEED + number), Witness(), f"bear-{number}"
    async with between(lighthouse.port) as proxy:
        bear = toy(proxy.url, await lighthouse.token(name), name)
        async with bear:
            await bear.kill()
            for _ in range(KILLS // TOYS):
                await live(bear, witness, proxy, chance)
                witness.look(bear, lighthouse, name)
            await proxy.accept()
            await bear.start()
            await bear.until(lambda status: status["relay"]["reached"] and not status["cache"]["unsent"], 60)
            await bear.kill()
            witness.look(bear, lighthouse, name)
        stored = [(id, kind) for id, kind, _ in lighthouse.events(name)]
        assert sorted(stored) == sorted(witness.events.items()), "all of it, each once"
        assert len(stored) >= KILLS // TOYS, "there was something to lose"
        assert proxy.connections > KILLS // (4 * TOYS), "and somebody to tell"


async def test_a_relay_killed_between_storing_and_acknowledging_doubles_nothing(relay: MakeRelay, toy: MakeToy) -> None:
    """The relay's answers go nowhere, so it stores what it never acknowledges; then it dies."""
    lighthouse = relay()
    async with lighthouse, between(lighthouse.port) as proxy, toy(proxy.url, await lighthouse.token()) as bear:
        await bear.until("idle")
        proxy.reset()
        proxy.refuse()
        await bear.until("connecting")
        for joke in range(1, 4):
            assert (await bear.ask("play", phrase=f"joke-{joke}"))["ok"]
            await bear.until("playing")
            await bear.until_heard(20)
        mine = on_disk(bear)
        assert len(mine) == 3 and all(pending for _, pending in mine.values())
        proxy.mutes_after_welcome = True
        await proxy.accept()
        await bear.until(lambda status: len(lighthouse.events()) == 3)
        assert (await bear.status())["cache"]["unsent"] == 3, "nobody has told the toy"
        await lighthouse.kill()
        proxy.heal()
        proxy.reset()
        await lighthouse.start()
        await bear.until(lambda status: not status["cache"]["unsent"], 40)
        assert sorted(id for id, _, _ in lighthouse.events()) == sorted(mine)
        assert len(lighthouse.rows("SELECT id FROM events")) == 3
