"""How the toy is doing, in figures, for parents who allow it (`telemetry.enabled`, off by default); never words.

Of each turn one event, and every hour one about the toy's health, both of the kind that the spool gives up first when
it has no room. Without leave nothing is written at all; the last turn's figures are known all the same, for whoever
asks the toy itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from pommai.device.mind.states import (
    Booting,
    Error,
    Holding,
    Interrupted,
    Listening,
    Playing,
    Speaking,
    State,
    Stopping,
    Thinking,
)
from pommai.device.network.meter import TurnTraffic
from pommai.device.ports import Failed, FirstAudio, Note, Played, RelayLost, RelayReached, StateChanged, UtteranceEnded
from pommai.errors import LocalProtocolError, StoreError
from pommai.protocol import ErrorCode, Value

_log = logging.getLogger(__name__)

KIND: Final = "telemetry"
"""Of every event here; `about` in its data says what of: `turn` or `health`."""

FIRST_S: Final = 300.0
HEALTH_S: Final = 3600.0
"""From the start to the first report of health, for a toy that is never on for an hour, and between two of them."""

MAX_WAITING: Final = 64
"""Events that wait for the disk; while it is slower than that, the newest are lost."""

MAX_CODES: Final = 8
"""So many kinds of errors are told apart in a report; an event has room for 32 figures."""

SMAPS: Final = Path("/proc/self/smaps_rollup")
_KB: Final = re.compile(r"^(Rss|Pss): +([0-9]+) kB$", re.MULTILINE)


class Diary(Protocol):
    """Where events are written. Raises StoreError."""

    async def write(self, kind: str, *, urgent: bool = False, durable: bool = False, **data: Value) -> None:
        """Write down that this has just happened."""


class Traffics(Protocol):
    """What turns cost on the wire."""

    def turn(self, turn: int) -> TurnTraffic:
        """The traffic of `turn` so far."""


def _nothing(data: Mapping[str, Value]) -> None:
    """What becomes of a turn's figures where nobody asked for them."""


class Telemetry:
    """See `ports.Observer`; `run` writes."""

    def __init__(
        self,
        diary: Diary,
        meter: Traffics,
        read_health: Callable[[], Mapping[str, Value]],
        is_enabled: Callable[[], bool],
        on_turn: Callable[[Mapping[str, Value]], None] = _nothing,
    ) -> None:
        """`read_health`: figures that others know, ten at most. `is_enabled`: the setting as it is now.

        `on_turn`: told of each turn that is over, enabled or not: the toy's own log shows it.
        """
        self._diary = diary
        self._meter = meter
        self._read_health = read_health
        self._is_enabled = is_enabled
        self._on_turn = on_turn
        self._state: State = Booting()
        self._pressed_s = 0.0
        self._turn: _Turn | None = None
        self._waiting: asyncio.Queue[Mapping[str, Value]] = asyncio.Queue(MAX_WAITING)
        self._errors: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._cpu_s = time.process_time()
        self._reported_s = time.monotonic()

    @property
    def last_turn(self) -> dict[str, Value]:
        """The figures of the last turn, as far as they are known; empty before the first."""
        return {} if self._turn is None else self._turn.data(self._meter)

    # --- turns --------------------------------------------------------------------------------------------------------

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        match note:
            case StateChanged(state, at_s):
                self._changed(state, at_s)
            case UtteranceEnded(turn, at_s) if (open_turn := self._open(turn)) is not None:
                open_turn.times["end"] = at_s
            case FirstAudio(turn, at_s) if (open_turn := self._open(turn)) is not None:
                open_turn.times["audio"] = at_s
            case Played(turn, at_s) if (open_turn := self._open(turn)) is not None:
                open_turn.times["played"] = at_s
                self._over(open_turn, "played")
            case Failed(turn, code):
                self._failed(turn, code)
            case RelayReached():
                self._counts["connects"] += 1
            case RelayLost():
                self._counts["connection_failures"] += 1

    def _changed(self, state: State, at_s: float) -> None:
        before, self._state = self._state, state
        if isinstance(state, Listening) and not isinstance(before, Listening):
            self._pressed_s = at_s
        if (open_turn := self._open(before.turn)) is not None and (end := _end(before, state)) is not None:
            self._over(open_turn, *end)
        if isinstance(state, Listening) and state.started:
            self._turn = _Turn(state.turn, self._pressed_s, at_s)

    def _failed(self, turn: int | None, code: ErrorCode) -> None:
        open_turn = None if turn is None else self._open(turn)
        if open_turn is None:
            self._errors[code.value] += 1
        else:
            self._over(open_turn, "failed", code.value)

    def _open(self, turn: int) -> _Turn | None:
        """The last turn, if it is this one and not over."""
        return self._turn if self._turn is not None and self._turn.number == turn and not self._turn.outcome else None

    def _over(self, turn: _Turn, outcome: str, code: str = "") -> None:
        turn.outcome, turn.code = outcome, code
        self._counts["turns"] += 1
        if code:
            self._errors[code] += 1
        data = turn.data(self._meter)
        self._on_turn(data)
        if self._is_enabled() and not self._waiting.full():
            self._waiting.put_nowait({"about": "turn", **data})

    # --- writing ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what there is, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_turns(), name="telemetry: turns")
            group.create_task(self._write_health(), name="telemetry: health")

    async def _write_turns(self) -> None:
        while True:
            await self._write(await self._waiting.get())

    async def _write_health(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            if self._is_enabled():
                await self._write({"about": "health", **await self._health()})
            await asyncio.sleep(HEALTH_S)

    async def _health(self) -> dict[str, Value]:
        """Memory as it is; CPU time and what was counted since the last report; and what others know."""
        cpu_s, before_s = time.process_time(), self._cpu_s
        now_s, reported_s = time.monotonic(), self._reported_s
        self._cpu_s, self._reported_s = cpu_s, now_s
        told = self._errors.most_common(MAX_CODES)
        errors = {f"error.{code}": count for code, count in told}
        counts, all_errors = dict(self._counts), self._errors.total()
        self._counts.clear()
        self._errors.clear()
        return {
            **await asyncio.to_thread(memory),
            "seconds": round(now_s - reported_s, 1),
            "cpu_s": round(cpu_s - before_s, 2),
            "errors": all_errors,
            **errors,
            **counts,
            **self._read_health(),
        }

    async def _write(self, data: Mapping[str, Value]) -> None:
        try:
            await self._diary.write(KIND, urgent=False, durable=False, **data)
        except (StoreError, LocalProtocolError) as error:  # figures are worth no more than a line
            _log.warning("telemetry: an event is lost: %s", error)


class _Turn:
    """One turn as the toy saw it. `times`: when something happened, on the loop's clock."""

    def __init__(self, number: int, pressed_s: float, held_s: float) -> None:
        self.number = number
        self.outcome = ""
        self.code = ""
        self.times = {"press": pressed_s, "hold": held_s}

    def data(self, meter: Traffics) -> dict[str, Value]:
        """Tokens and numbers; a stage that was not reached is missing."""
        traffic = meter.turn(self.number)
        data: dict[str, Value] = {"turn": self.number, "outcome": self.outcome or "open"}
        if self.code:
            data["code"] = self.code
        for name, began, ended in _STAGES:
            if began in self.times and ended in self.times:
                data[name] = max(0, round(1000 * (self.times[ended] - self.times[began])))
        return data | {"up_bytes": traffic.uplink.wire_bytes, "down_bytes": traffic.downlink.wire_bytes}


_STAGES: Final = (
    ("hold_ms", "press", "hold"),
    ("speech_ms", "hold", "end"),
    ("first_audio_ms", "end", "audio"),
    ("play_ms", "audio", "played"),
)
"""What lies between two moments of a turn."""


def _end(before: State, state: State) -> tuple[str, str] | None:
    """How an open turn in `before` ended, if it did: its outcome and the code of what failed."""
    match state:
        case Stopping() | Playing(then=Stopping()):
            return "interrupted", ""
        case Error(why=why):
            return "failed", str(why)
        case Listening() | Thinking() | Speaking() | Interrupted() if state.turn == before.turn:
            return None
        case Playing() if state.turn == before.turn and isinstance(before, Speaking | Playing):
            return None  # the rest of the reply is here already
        case Listening() | Holding() | Playing() if isinstance(before, Thinking | Speaking | Playing):
            return "interrupted", ""
    return "failed", ErrorCode.UNAVAILABLE.value  # the connection went, and the turn with it


def memory() -> dict[str, Value]:
    """What the process uses, in kB; empty where the kernel does not tell. Reads a file: not for the loop's thread."""
    try:
        text = SMAPS.read_text(encoding="ascii")
    except OSError:
        return {}
    return {f"{name.lower()}_kb": int(kb) for name, kb in _KB.findall(text)}
