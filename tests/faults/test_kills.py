"""Power cuts at random moments: nothing that was acknowledged is lost, and nothing is delivered twice.

Each life of the toy is fed with things to remember, on a network that comes and goes, and ends with SIGKILL. In many
lives what the toy reports, or what the relay answers, goes nowhere. After each, the toy's own database is read: what
is on the disk then has to reach the relay, once, whatever happens later.
"""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from itertools import cycle
from typing import Final

import pytest

from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.lengths import KILLS
from tests.faults.pommaid import Pommaid, Status
from tests.faults.proxy import Proxy, between
from tests.faults.relays import RelayProcess

TOYS: Final = 2
"""They live side by side, with one relay, and are killed independently."""

SEED: Final = 20_250
MAX_LIFE_S: Final = 1.2

NETWORKS: Final = ("none", "mute", "mute", "deaf", "good")
"""One for each life, in turn: what was written down without one is told again and again to a relay that stores it and
whose answers go nowhere (mute: after the welcome); then, nothing reaches the relay any more (deaf)."""

HELP_MS: Final = 2000
SETTINGS: Final = {"timing": {"help_ms": HELP_MS}, "telemetry": {"enabled": True}, "sound": {"earcons": False}}
"""A call for help is quick enough for a short life, each turn leaves figures, and all that is heard are phrases."""


def on_disk(toy: Pommaid) -> dict[str, tuple[str, bool]]:
    """Each event in the toy's database: its kind, and whether it still waits for the relay."""
    with closing(sqlite3.connect(toy.folder / "toy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT id, kind, pending FROM events").fetchall()
    return {id: (kind, bool(pending)) for id, kind, pending in rows}


class Witness:
    """What was on the toy's disk after any of its lives, what it has let go, and what it promised a child."""

    def __init__(self) -> None:
        self.events: dict[str, str] = {}
        self.let_go: set[str] = set()
        self.promised = 0
        """Phrases that began to be heard: by then they were written down."""
        self.unanswered = 0
        """Lives in which the relay was told something and its answer went nowhere."""

    def look(self, toy: Pommaid, relay: RelayProcess, name: str, *, is_answered: bool = True) -> None:
        """Take note of the disk. What is not pending there, the relay has, and has said so."""
        now = on_disk(toy)
        missing = self.events.keys() - now.keys()
        assert not missing, f"events vanished from the toy: {missing}"
        self.events |= {id: kind for id, (kind, _) in now.items()}
        stored = {id for id, _, _ in relay.events(name)}
        let_go = {id for id, (_, pending) in now.items() if not pending}
        assert let_go <= stored, f"let go and not stored: {let_go - stored}"
        assert self.let_go <= let_go, "what was let go comes back"
        assert is_answered or let_go == self.let_go, f"let go without a word of the relay: {let_go - self.let_go}"
        assert len(self.events) >= self.promised, "something was heard and is not written down"
        self.unanswered += not is_answered and bool(stored - let_go)
        self.let_go = let_go


class Life:
    """One life of a toy: phrases, turns and calls for help on a bad network, until the power is cut."""

    def __init__(self, toy: Pommaid, witness: Witness, proxy: Proxy, chance: random.Random, network: str) -> None:
        """`network`: see `NETWORKS`."""
        self._toy = toy
        self._witness = witness
        self._proxy = proxy
        self._chance = chance
        self.network = network
        self._is_grown = chance.random() < 0.85
        self._calls = self._is_grown and self.network == "none"
        self._life_s = chance.uniform(0.0, MAX_LIFE_S) + self._calls * (HELP_MS / 1000 - 0.1)

    async def live(self) -> None:
        """From the start of the process to SIGKILL: while it starts, or some time after it has."""
        self._proxy.mutes_after_welcome = self.network == "mute"
        await (self._lose() if self.network == "none" else self._proxy.accept())
        await (self._toy.start() if self._is_grown else self._toy.launch())
        if self._is_grown and self.network in ("mute", "deaf"):
            await self._toy.until(lambda status: bool(status["relay"]["reached"]))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._life_s):
                if self._calls:
                    await self._help()
                while True:
                    await self._something_happens()
        await self._toy.kill()
        self._proxy.reset()  # what is on its way is lost with it
        self._proxy.heal()

    async def _something_happens(self) -> None:
        """Something to remember; now and then the network changes."""
        with suppress(OSError):  # it is not up yet
            if (await self._toy.status())["relay"]["reached"]:
                if self.network == "deaf":
                    self._proxy.half_open(up=True, down=False)
                await self._chance.choices([self._turn, self._phrase], weights=[80, 20])[0]()
            else:
                await self._chance.choices([self._help, self._phrase], weights=[20, 80])[0]()
        if self._chance.random() < 0.1:
            await self._lose()
        elif self.network != "none" and self._chance.random() < 0.3:
            await self._proxy.accept()
        await asyncio.sleep(self._chance.uniform(0.0, 0.05))

    async def _turn(self) -> None:
        """It leaves figures when it is over."""
        await self._toy.press(350)

    async def _phrase(self) -> None:
        """A toy without a network writes it down."""
        before = await self._toy.status()
        await self._toy.ask("play", phrase=f"joke-{self._chance.randint(1, 10)}")
        await self._is_promised(before)

    async def _help(self) -> None:
        """The only thing that is urgent; a toy with a network leaves it to the relay."""
        before = await self._toy.status()
        await self._toy.press(HELP_MS + 100)
        await self._is_promised(before)

    async def _is_promised(self, before: Status) -> None:
        """Something new is heard of a toy that has reached nobody: by now it is on its disk."""
        status = await self._toy.status()
        if status["state"] == "playing" and status["turn"] > before["turn"] and not before["relay"]["reached"]:
            await self._toy.hear()  # the end of what it said before
            await self._toy.until_heard(20)
            self._witness.promised += not (await self._toy.status())["relay"]["reached"]

    async def _lose(self) -> None:
        self._proxy.reset()
        self._proxy.refuse()


@pytest.mark.timeout(60 + 2 * KILLS)
async def test_nothing_acknowledged_is_lost_and_nothing_comes_twice(relay: MakeRelay, toy: MakeToy) -> None:
    async with relay() as lighthouse:
        witnesses = await asyncio.gather(*(_suffers(number, lighthouse, toy) for number in range(TOYS)))
        kinds = Counter(kind for witness in witnesses for kind in witness.events.values())
        urgent = [id for number in range(TOYS) for id, _, is_urgent in lighthouse.events(_name(number)) if is_urgent]
        told = re.findall(r"urgent event toy=\S+ kind=help id=(\w+)", lighthouse.log)
        assert sorted(told) == sorted(urgent), "each call for help is told once, however often it came"
    assert kinds.keys() <= {"activity", "help", "telemetry"} and kinds["help"] == len(urgent) > 0
    assert kinds.total() >= KILLS // 3, "there was something to lose"
    assert sum(witness.unanswered for witness in witnesses) >= KILLS // 20, "and something to be told twice"


async def _suffers(number: int, lighthouse: RelayProcess, toy: MakeToy) -> Witness:
    """One toy's share of the kills, and the reckoning."""
    chance, witness, name = random.Random(SEED + number), Witness(), _name(number)
    async with between(lighthouse.port) as proxy:
        bear = toy(proxy.url, await lighthouse.token(name), name, sections=SETTINGS)
        async with bear:
            await bear.kill()
            for _, network in zip(range(KILLS // TOYS), cycle(NETWORKS), strict=False):
                life = Life(bear, witness, proxy, chance, network)
                await life.live()
                witness.look(bear, lighthouse, name, is_answered=life.network != "mute")
            await proxy.accept()
            await bear.start()
            await bear.until(lambda status: status["relay"]["reached"] and not status["cache"]["unsent"], 60)
            await bear.kill()
            witness.look(bear, lighthouse, name)
        stored = [(id, kind) for id, kind, _ in lighthouse.events(name)]
        assert sorted(stored) == sorted(witness.events.items()), "all of it, each once"
        assert proxy.connections > KILLS // (4 * TOYS), "there was somebody to tell"
    return witness


def _name(number: int) -> str:
    return f"bear-{number}"


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
