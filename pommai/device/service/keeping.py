"""What the daemon remembers and writes down while the toy lives: turns, connections, troubles, limits; never a word.

`Logbook` looks on: it keeps what `pommai device status` shows, and writes the ring of the last log entries. `Keeper`
writes down what has to survive a power cut, which is how toys are switched off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from pommai.device.cache.cache import Cache
from pommai.device.mind.clock import WallClock
from pommai.device.mind.states import Booting, Interrupted, Listening, Speaking, State, Stopping, Thinking
from pommai.device.ports import Failed, Note, RelayLost, RelayReached, StateChanged
from pommai.errors import StoreError
from pommai.protocol import Value, Welcome

_log = logging.getLogger(__name__)

ALLOWANCE: Final = "allowance"
AVAILABILITY: Final = "availability"
BRIGHTNESS: Final = "brightness"
WALL_CLOCK: Final = "clock"
"""Where the cache remembers what is allowed and used, how often a press was answered, how bright the light shall be,
and what time it was."""

MAX_WAITING: Final = 256
"""Entries that wait to be written; while the disk is slower than that, the newest are lost."""

SAVE_S: Final = 30.0
SWEEP_S: Final = 3600.0
RETRY_S: Final = 60.0
"""Between two times of writing down what is used of today, of looking for events that are too old, and of trying a disk
that failed."""

CLOCK_S: Final = 5.0
"""How soon it is noticed that the clock can be trusted: a toy may be on for less than `SWEEP_S` at a time."""


class Logbook:
    """See `ports.Observer`."""

    def __init__(self, cache: Cache, now_s: Callable[[], float]) -> None:
        """`now_s`: Unix time, as well as the toy knows it."""
        self._cache = cache
        self._now_s = now_s
        self._waiting: asyncio.Queue[tuple[float, str, dict[str, Value]]] = asyncio.Queue(MAX_WAITING)
        self.state: State = Booting()
        self.since_s = time.monotonic()
        self.welcome: Welcome | None = None
        self.not_reached = "it was not tried yet"
        self.cut_off: int | None = None
        """The turn that was in flight when the toy was told to end."""
        self.on_news: Callable[[], None] = _nothing
        """Called when the state or the connection has changed."""

    @property
    def summary(self) -> str:
        """The toy in one line."""
        return f"{type(self.state).__name__.lower()}; relay: {self.not_reached or 'reached'}"

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        match note:
            case StateChanged(state):
                self._changed(state)
            case RelayReached(welcome):
                self.welcome, self.not_reached = welcome, ""
                self.write("relay", {"reached": True})
                self.on_news()
            case RelayLost(error):
                if self.welcome is not None:
                    self.write("relay", {"reached": False})
                self.welcome, self.not_reached = None, str(error)
                self.on_news()
            case Failed(None, code):
                self.write("trouble", {"code": code})

    def write(self, kind: str, data: Mapping[str, Value]) -> None:
        """Add an entry to the ring, soon."""
        if not self._waiting.full():
            self._waiting.put_nowait((self._now_s(), kind, dict(data)))

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            entry = await self._waiting.get()
            try:
                await self._cache.log(*entry)
            except StoreError as error:
                _log.warning("logbook: an entry was lost: %s", error)

    async def finish(self) -> None:
        """The last page: what still waits. Raises StoreError."""
        self.write("ended", {"turn": self.state.turn})
        while not self._waiting.empty():
            await self._cache.log(*self._waiting.get_nowait())

    def _changed(self, state: State) -> None:
        before, self.state = self.state, state
        if type(state) is type(before):
            return
        self.since_s = time.monotonic()
        if _in_flight(before) and isinstance(state, Stopping):
            self.cut_off = before.turn
        self.on_news()


class Keeper:
    """What has to survive a power cut: limits, volume, the talk of today, availability, and what time it is."""

    def __init__(
        self,
        cache: Cache,
        clock: WallClock,
        wishes: Mapping[str, Callable[[], Mapping[str, Any]]],
        availability: Callable[[], Mapping[str, Any]],
        retry: Callable[[], Awaitable[None]],
    ) -> None:
        """`wishes`: snapshots of what somebody wants or allows, by their keys; written when they change.

        `availability`: a snapshot of it. `retry`: writes what the cache had refused.
        """
        self._cache = cache
        self._clock = clock
        self._wishes = wishes
        self._availability = availability
        self._retry_events = retry
        self._kept: dict[str, Mapping[str, Any]] = {}
        self._told = asyncio.Event()

    def told(self) -> None:
        """Somebody has told the toy what it may: that is on the disk soon, if there is one."""
        self._told.set()

    async def save(self, *, durable: bool = False) -> bool:
        """Write it down; whether it outlives the process: False while the cache lives in memory. Raises StoreError."""
        for key, wish in self._wishes.items():
            snapshot = wish()
            if snapshot != self._kept.get(key):
                await self._cache.remember(key, snapshot, durable)
                self._kept[key] = snapshot
        await self._cache.remember(AVAILABILITY, self._availability())
        await self._cache.remember(WALL_CLOCK, round(self._clock.now_s(), 1))
        return self._cache.lasts

    async def run(self) -> None:
        """Write it down again and again, and look after the cache, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._save_again(), name="save")
            group.create_task(self._sweep_again(), name="sweep")
            group.create_task(self._retry_again(), name="retry")

    async def _save_again(self) -> None:
        """At times, and at once and durably when something was told; what failed is tried the next time."""
        durable = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S):
                    await self._told.wait()
            durable = durable or self._told.is_set()
            self._told.clear()
            try:
                await self.save(durable=durable)
            except StoreError as error:
                _log.warning("keeper: the cache failed: %s", error)
            else:
                durable = False

    async def _sweep_again(self) -> None:
        """As soon as the clock can be trusted, and then at times."""
        while not self._clock.trusted:  # noqa: ASYNC110 - the clock tells nobody
            await asyncio.sleep(CLOCK_S)
        while True:
            await _tried(self._sweep)
            await asyncio.sleep(SWEEP_S)

    async def _sweep(self) -> None:
        await self._cache.sweep(self._clock.now_s())

    async def _retry_again(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            await _tried(self._retry)

    async def _retry(self) -> None:
        if self._cache.problem:
            await self._cache.retry()
        await self._retry_events()


def kept_brightness(kept: object, setting: float) -> float:
    """The brightness that somebody wished, for as long as the setting is the one that was there then; else that."""
    if not isinstance(kept, Mapping) or kept.get("setting") != setting:
        return setting
    value = kept.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return setting
    return float(value)


def _in_flight(state: State) -> bool:
    """Whether the child is owed an answer."""
    return isinstance(state, Thinking | Speaking | Interrupted) or (isinstance(state, Listening) and state.started)


async def _tried(work: Callable[[], Awaitable[object]]) -> None:
    """Do `work`; a failure is for the log, and for the next time."""
    try:
        await work()
    except StoreError as error:
        _log.warning("keeper: the cache failed: %s", error)


def _nothing() -> None:
    """Nobody waits for news yet."""
