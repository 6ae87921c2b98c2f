"""What the daemon remembers and writes down while the toy lives: turns, connections, troubles; never a word.

`Diary` looks on: it keeps what `pommai device status` shows, and writes the ring of the last log entries.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pommai.device.battery import Battery
from pommai.device.cache.cache import Cache
from pommai.device.events import Occasion
from pommai.device.lights import Mood
from pommai.device.ports import Failed, FirstAudio, Note, Played, RelayLost, RelayReached, StateChanged, UtteranceEnded
from pommai.device.runner import Runner
from pommai.device.states import Booting, Listening, Speaking, State, Stopping, Thinking
from pommai.errors import StoreError
from pommai.protocol import EventRecord, Value, Welcome

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 256
"""Entries that wait to be written; while the disk is slower than that, the newest are lost."""

SWEEP_S: Final = 3600.0
RETRY_S: Final = 60.0
BATTERY_S: Final = 60.0
"""Between two looks for events that are too old, two tries of a disk that failed, and two looks at the battery."""


@dataclass(slots=True)
class TurnTimes:
    """One turn as the toy saw it; times in ms from the end of speech, -1 for what has not come."""

    turn: int
    outcome: str = ""
    first_audio_ms: int = -1
    played_ms: int = -1
    ended_at_s: float = 0.0

    def data(self) -> dict[str, Value]:
        """For programs: what is known."""
        data: dict[str, Value] = {"turn": self.turn, "outcome": self.outcome or "open"}
        times = {"first_audio_ms": self.first_audio_ms, "played_ms": self.played_ms}
        return data | {name: ms for name, ms in times.items() if ms >= 0}


class Diary:
    """See `ports.Observer`."""

    def __init__(self, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds, as well as the toy knows them."""
        self._cache = cache
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[float, str, dict[str, Value]]] = asyncio.Queue(MAX_WAITING)
        self.state: State = Booting()
        self.since_s = time.monotonic()
        self.welcome: Welcome | None = None
        self.not_reached = "it was not tried yet"
        self.last_turn: TurnTimes | None = None
        self.on_news: Callable[[], None] = _nothing
        """Called when the state or the connection has changed."""
        self._cut_off: int | None = None

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
            case UtteranceEnded(turn, at_s):
                self.last_turn = TurnTimes(turn, ended_at_s=at_s)
            case FirstAudio(turn, at_s) if (times := self._open(turn)) is not None:
                times.first_audio_ms = round(1000 * (at_s - times.ended_at_s))
            case Played(turn, at_s) if (times := self._open(turn)) is not None:
                times.played_ms = round(1000 * (at_s - times.ended_at_s))
                self._over("answered")
            case Failed(turn, code):
                if turn is not None and self._open(turn) is not None:
                    self._over(f"failed:{code}")
                else:
                    self.write("trouble", {"code": str(code)})

    def write(self, kind: str, data: Mapping[str, Value]) -> None:
        """Add an entry to the ring, soon."""
        if not self._waiting.full():
            self._waiting.put_nowait((self._clock(), kind, dict(data)))

    def summary(self) -> str:
        """The toy in one line."""
        return f"{type(self.state).__name__.lower()}; relay: {self.not_reached or 'reached'}"

    async def run(self) -> None:
        """Write what comes, and look after the cache, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_down(), name="diary")
            group.create_task(_every(SWEEP_S, self._sweep), name="sweep")
            group.create_task(_every(RETRY_S, self._retry), name="retry")

    async def end(self) -> None:
        """The last page: what still waits, and the turn that was cut off, which the relay is to know of."""
        if self._cut_off is not None:
            data: dict[str, Value] = {"turn": self._cut_off, "outcome": "interrupted"}
            event = EventRecord(uuid.uuid4().hex, "turn", self._clock(), data=data)
            await self._cache.append(event, durable=True)
        self.write("ended", {"turn": self.state.turn})
        while not self._waiting.empty():
            await self._cache.log(*self._waiting.get_nowait())

    def _changed(self, state: State) -> None:
        before, self.state = self.state, state
        if type(state) is type(before):
            return
        self.since_s = time.monotonic()
        in_flight = isinstance(before, Thinking | Speaking) or (isinstance(before, Listening) and before.started)
        if in_flight and isinstance(state, Stopping):
            self._cut_off = before.turn
            self.last_turn = self.last_turn if self._open(before.turn) is not None else TurnTimes(before.turn)
            self._over("interrupted")
        elif in_flight and isinstance(state, Listening) and self._open(before.turn) is not None:
            self._over("barged_in")
        self.on_news()

    def _open(self, turn: int) -> TurnTimes | None:
        """The last turn, if it is this one and not over."""
        times = self.last_turn
        return times if times is not None and times.turn == turn and not times.outcome else None

    def _over(self, outcome: str) -> None:
        if self.last_turn is not None:
            self.last_turn.outcome = outcome
            self.write("turn", self.last_turn.data())

    async def _write_down(self) -> None:
        while True:
            entry = await self._waiting.get()
            try:
                await self._cache.log(*entry)
            except StoreError as error:
                _log.warning("diary: an entry was lost: %s", error)

    async def _sweep(self) -> None:
        await self._cache.sweep(self._clock())

    async def _retry(self) -> None:
        if self._cache.problem and await self._cache.retry():
            _log.info("diary: the cache is on the disk again")


class Hunger:
    """Looks at the battery, and shows and says when it is low."""

    def __init__(self, battery: Battery, runner: Runner, low_percent: Callable[[], int]) -> None:
        """`low_percent`: the setting as it is now."""
        self._battery = battery
        self._runner = runner
        self._low_percent = low_percent
        self._is_said = False

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(BATTERY_S)

    def _look(self) -> None:
        charge = self._battery.read()
        is_low = charge is not None and not charge.charging and charge.percent < self._low_percent()
        self._runner.picture.keep(Mood.LOW_BATTERY if is_low else None)
        self._is_said = is_low and (self._is_said or self._runner.say(Occasion.LOW_BATTERY))


async def _every(interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again; a failure is for the log, and for the next time."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await work()
        except StoreError as error:
            _log.warning("diary: the cache failed: %s", error)


def _nothing() -> None:
    """Nobody waits for news yet."""
