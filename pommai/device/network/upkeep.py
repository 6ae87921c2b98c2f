"""What toy and relay settle besides talking: events, commands and phrases, for as long as there is a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pommai.device.network.commands import Commands, Notebook, Obey
from pommai.device.network.delivery import Delivery, Spool
from pommai.device.network.phrase_sync import PhraseSync, Shelf
from pommai.device.ports import AboutToy, Uplink
from pommai.protocol import Command, Error, EventsStored, PhraseManifest, Welcome


class Cache(Spool, Notebook, Shelf, Protocol):
    """What the toy keeps for itself."""


class ToyUpkeep:
    """See `ports.Upkeep`. It works while `run` runs; a call before that, or without a connection, is allowed."""

    def __init__(self, cache: Cache, uplink: Uplink, obey: Obey, *, is_idle: Callable[[], bool]) -> None:
        """`obey`: does what a command of the relay says. `is_idle`: whether nobody talks now."""
        self._commands = Commands(cache, uplink.send, obey)
        self._delivery = Delivery(cache, uplink.send, is_idle)
        self._phrases = PhraseSync(cache, uplink.send, is_idle)
        self._welcome: Welcome | None = None
        self._changed = asyncio.Event()

    @property
    def syncing(self) -> bool:
        """Whether phrases are on their way right now."""
        return self._phrases.is_waiting

    def poke(self) -> None:
        """An event was appended to the cache: it goes to the relay as soon as it can."""
        self._delivery.poke()

    def welcomed(self, welcome: Welcome) -> None:
        """See `ports.Upkeep`."""
        self._welcome = welcome
        self._changed.set()

    def lost(self) -> None:
        """See `ports.Upkeep`."""
        self._welcome = None
        self._changed.set()

    def received(self, message: AboutToy | Error) -> None:
        """See `ports.Upkeep`. An `Error` without a turn is about what the toy asked for last; others are ignored."""
        match message:
            case EventsStored():
                self._delivery.stored(message)
            case Command():
                self._commands.received(message)
            case Error(code, _, turn):
                if turn is None and self._delivery.is_waiting:
                    self._delivery.refused(code)
                elif turn is None:
                    self._phrases.received(message)
            case PhraseManifest(revision) if (welcome := self._not_known_to(revision)) is not None:
                self.welcomed(replace(welcome, phrases=revision))
            case _:
                self._phrases.received(message)

    def _not_known_to(self, revision: str) -> Welcome | None:
        """The welcome, if it told of other phrases or of none, and nothing is being fetched."""
        welcome = self._welcome
        return None if welcome is None or self.syncing or revision == welcome.phrases else welcome

    async def run(self) -> None:
        """Work until cancelled. Raises, as a group, what broke one of its parts: a bug."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commands.run(), name="commands")
            while True:
                self._changed.clear()
                if (welcome := self._welcome) is not None:
                    await self._serve(welcome)
                else:
                    await self._changed.wait()

    async def _serve(self, welcome: Welcome) -> None:
        """Work for one connection, until it is gone."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._delivery.run(), name="delivery"),
                group.create_task(self._phrases.run(welcome.phrases), name="phrases"),
            ]
            await self._changed.wait()
            for task in tasks:
                task.cancel()
