"""What the toy tells of its own health: figures and codes, and only with leave."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pommai.device import telemetry as telemetry_module
from pommai.device.mind.states import (
    Connecting,
    Error,
    Fault,
    Holding,
    Idle,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    State,
    Stopping,
    Thinking,
)
from pommai.device.network.meter import Meter
from pommai.device.ports import (
    Failed,
    FirstAudio,
    Heard,
    Note,
    Played,
    RelayLost,
    RelayReached,
    Said,
    StateChanged,
    UtteranceEnded,
)
from pommai.device.settings import DeviceSettings
from pommai.device.telemetry import FIRST_S, HEALTH_S, KIND, MAX_WAITING, Telemetry, memory
from pommai.errors import ConnectError, LocalProtocolError, StoreError
from pommai.protocol import AudioFrame, ErrorCode, EventBatch, EventRecord, UtteranceStart, Value, Welcome
from pommai.wire import MAX_DATA, decode, encode

from .virtual_time import in_virtual_time

NONE = {"up_bytes": 0, "down_bytes": 0}


class Page:
    """A diary in a list; it fails with what it is told to."""

    def __init__(self) -> None:
        self.written: list[dict[str, Value]] = []
        self.failure: Exception | None = None
        self._turned = asyncio.Event()

    async def write(self, kind: str, *, urgent: bool = False, durable: bool = False, **data: Value) -> None:
        assert not urgent and not durable, "figures are worth no disk access of their own"
        assert kind == KIND
        if self.failure is not None:
            raise self.failure
        self.written.append(data)
        self._turned.set()

    async def has(self, count: int) -> None:
        """Return when so many events are written."""
        while len(self.written) < count:
            self._turned.clear()
            await self._turned.wait()


class Toy:
    """A toy that lives through notes; `battery` is what others know of its health."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.page = Page()
        self.meter = Meter()
        self.enabled = enabled
        self.others: Mapping[str, Value] = {"battery": 80}
        self.telemetry = Telemetry(self.page, self.meter, lambda: self.others, lambda: self.enabled)

    def live(self, *notes: Note) -> None:
        for note in notes:
            self.telemetry.noticed(note)

    async def write(self) -> list[dict[str, Value]]:
        """Let it write what waits; what was written."""
        running = asyncio.create_task(self.telemetry.run())
        for _ in range(20):
            await asyncio.sleep(0)
        await ended(running)
        return self.page.written


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def state(to: State, at_s: float = 0.0) -> StateChanged:
    return StateChanged(to, at_s)


def asked(turn: int, at_s: float = 100.0) -> tuple[Note, ...]:
    """A child presses, holds after 300 ms, talks for 2 s, and lets go."""
    return (
        state(Listening(turn, started=False), at_s),
        state(Listening(turn, started=True), at_s + 0.3),
        state(Thinking(turn), at_s + 2.3),
        UtteranceEnded(turn, at_s + 2.3),
    )


def answered(turn: int, at_s: float = 103.0) -> tuple[Note, ...]:
    return (state(Speaking(turn), at_s), FirstAudio(turn, at_s + 0.1))


ASKED = {"hold_ms": 300, "speech_ms": 2000}


# --- turns ------------------------------------------------------------------------------------------------------------


async def test_a_turn_is_told_by_its_stages_and_what_it_cost() -> None:
    toy = Toy()
    toy.meter.sent(UtteranceStart(1), 40)
    toy.meter.received(AudioFrame(1, 0, b"x" * 100), 107)
    toy.live(*asked(1), *answered(1), Played(1, 107.1), state(Idle(1), 107.1))
    (event,) = await toy.write()
    assert event == {
        **{"about": "turn", "turn": 1, "outcome": "played", "hold_ms": 300, "speech_ms": 2000},
        **{"first_audio_ms": 800, "play_ms": 4000},
        **{"up_bytes": toy.meter.turn(1).uplink.wire_bytes, "down_bytes": toy.meter.turn(1).downlink.wire_bytes},
    }
    assert event["up_bytes"] > 40
    assert event["down_bytes"] > 107


@pytest.mark.parametrize(
    ("notes", "outcome"),
    [
        ([Failed(1, ErrorCode.TIMEOUT), state(Error(1, ErrorCode.TIMEOUT, Idle(1)))], ("failed", "timeout")),
        ([state(Error(1, Fault.SOUND, Idle(1)))], ("failed", "sound")),
        ([state(Error(1, ErrorCode.TIMEOUT, Idle(1)))], ("failed", "timeout")),
        (
            [Failed(1, ErrorCode.QUIET_HOURS), state(Playing(1, Paused(1, ErrorCode.QUIET_HOURS, Idle(1))))],
            ("failed", "quiet_hours"),
        ),
        ([state(Listening(2, started=False))], ("interrupted", None)),
        ([state(Stopping(1, restart=False))], ("interrupted", None)),
        ([state(Playing(1, Stopping(1, restart=True)))], ("interrupted", None)),
        ([state(Interrupted(1, began=False)), state(Playing(2, Idle(1)))], ("failed", "unavailable")),
        ([state(Interrupted(1, began=False)), state(Playing(2, Offline(1)))], ("failed", "unavailable")),
        ([state(Interrupted(1, began=False)), state(Holding(2, Connecting(1)))], ("failed", "unavailable")),
        ([state(Interrupted(1, began=False)), state(Stopping(1, restart=False))], ("interrupted", None)),
        (
            [state(Interrupted(1, began=False)), state(Paused(1, ErrorCode.PAUSED, Idle(1)))],
            ("failed", "unavailable"),
        ),
    ],
)
async def test_a_turn_without_a_reply_says_how_it_ended(notes: list[Note], outcome: tuple[str, str | None]) -> None:
    toy = Toy()
    toy.live(*asked(1), *notes, FirstAudio(1, 200.0), Played(1, 201.0), state(Idle(1), 202.0))
    (event,) = await toy.write()
    assert (event["outcome"], event.get("code")) == outcome
    assert event == {"about": "turn", "turn": 1, **ASKED, **NONE} | {
        name: event[name] for name in ("outcome", "code") if name in event
    }


@pytest.mark.parametrize(
    "then",
    [
        [Played(1, 107.1)],
        [state(Interrupted(1, began=True)), state(Speaking(1)), Played(1, 107.1)],
        [state(Playing(1, Connecting(1))), state(Playing(1, Idle(1))), Played(1, 107.1)],
    ],
    ids=["at once", "resumed", "the connection went, but the reply was whole"],
)
async def test_a_reply_that_was_heard_to_its_end_was_played(then: list[Note]) -> None:
    toy = Toy()
    toy.live(*asked(1), *answered(1), *then, state(Idle(1), 107.1))
    (event,) = await toy.write()
    assert (event["outcome"], event["play_ms"]) == ("played", 4000)


@pytest.mark.parametrize(
    "press", [state(Listening(2, started=False)), state(Holding(2, Connecting(1))), state(Playing(2, Idle(1)))]
)
async def test_a_reply_that_was_cut_short_was_interrupted(press: Note) -> None:
    toy = Toy()
    toy.live(*asked(1), *answered(1), state(Playing(1, Connecting(1))), press)
    (event,) = await toy.write()
    assert event["outcome"] == "interrupted"
    assert event["first_audio_ms"] == 800
    assert "play_ms" not in event


async def test_a_connection_that_goes_while_the_child_talks_is_no_reply_though_the_toy_speaks() -> None:
    toy = Toy()
    toy.live(
        *asked(1)[:2], state(Playing(1, Connecting(1)), 101.0), FirstAudio(1, 101.1), Played(1, 102.0), state(Idle(1))
    )
    (event,) = await toy.write()
    assert event == {
        **{"about": "turn", "turn": 1, "hold_ms": 300},
        **{"outcome": "failed", "code": "unavailable"},
        **NONE,
    }


async def test_taps_and_the_toys_own_phrases_are_no_turns() -> None:
    toy = Toy()
    toy.live(state(Listening(1, started=False)), state(Playing(1, Idle(1))), FirstAudio(1, 1.0), Played(1, 2.0))
    toy.live(state(Idle(1)), state(Holding(2, Offline(1))), state(Playing(2, Offline(1))), FirstAudio(2, 3.0))
    assert await toy.write() == []
    assert toy.telemetry.last_turn == {}


async def test_the_last_turn_is_known_from_its_first_moment() -> None:
    toy = Toy()
    toy.live(*asked(1)[:2])
    assert toy.telemetry.last_turn == {"turn": 1, "outcome": "open", "hold_ms": 300, **NONE}
    toy.live(*asked(1)[2:], *answered(1), state(Listening(2, started=False), 104.0))
    assert toy.telemetry.last_turn["outcome"] == "interrupted"
    toy.live(*asked(2, 104.0))
    assert toy.telemetry.last_turn == {"turn": 2, "outcome": "open", **ASKED, **NONE}


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time would jump while a thread works."""

    async def here(function: Any) -> Any:
        return function()

    monkeypatch.setattr(asyncio, "to_thread", here)


# --- leave ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_thread")
@in_virtual_time
async def test_without_leave_nothing_is_written_and_the_last_turn_is_known_all_the_same() -> None:
    toy = Toy(enabled=False)
    running = asyncio.create_task(toy.telemetry.run())
    toy.live(RelayReached(Welcome(1, "s", 1.8e9, 20.0)), *asked(1), *answered(1), Played(1, 107.1))
    await asyncio.sleep(48 * HEALTH_S)
    assert toy.page.written == []
    assert toy.telemetry.last_turn["first_audio_ms"] == 800
    toy.enabled = True  # a reload of the settings
    await asyncio.sleep(HEALTH_S)
    assert [event["about"] for event in toy.page.written] == ["health"]
    await ended(running)


async def test_leave_that_is_taken_back_is_taken_back_at_once() -> None:
    toy = Toy()
    toy.live(*asked(1))
    toy.enabled = False
    toy.live(Failed(1, ErrorCode.TIMEOUT))
    assert await toy.write() == []


def test_leave_is_not_given_unless_somebody_gives_it() -> None:
    assert DeviceSettings().telemetry.enabled is False


# --- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_thread")
@in_virtual_time
async def test_health_is_told_soon_after_the_start_and_every_hour() -> None:
    loop = asyncio.get_running_loop()
    toy = Toy()
    began_s = loop.time()
    running = asyncio.create_task(toy.telemetry.run())
    await asyncio.sleep(FIRST_S - 1)
    assert toy.page.written == []
    await asyncio.sleep(2)
    assert len(toy.page.written) == 1
    await asyncio.sleep(began_s + FIRST_S + 5 * HEALTH_S + 1 - loop.time())
    assert len(toy.page.written) == 6
    await ended(running)


@pytest.mark.usefixtures("no_thread")
@in_virtual_time
async def test_health_counts_since_the_last_report() -> None:
    toy = Toy()
    running = asyncio.create_task(toy.telemetry.run())
    lost = RelayLost(ConnectError("gone"))
    toy.live(RelayReached(Welcome(1, "s", 1.8e9, 20.0)), lost, lost, Failed(None, ErrorCode.INTERNAL))
    toy.live(*asked(1), Failed(1, ErrorCode.TIMEOUT), state(Error(1, ErrorCode.TIMEOUT, Idle(1))))
    toy.live(*asked(2), state(Error(2, Fault.SOUND, Idle(2))), *asked(3), Played(3, 1.0), Failed(3, ErrorCode.TIMEOUT))
    await asyncio.sleep(FIRST_S + 1)
    report = next(event for event in toy.page.written if event["about"] == "health")
    counted = {"turns": 3, "connects": 1, "connection_failures": 2, "errors": 4, "battery": 80}
    codes = {"error.timeout": 2, "error.internal": 1, "error.sound": 1}
    assert {name: report[name] for name in {**counted, **codes}} == {**counted, **codes}
    assert 0 < report["pss_kb"] <= report["rss_kb"]
    assert report["cpu_s"] >= 0
    await asyncio.sleep(HEALTH_S)
    assert toy.page.written[-1]["errors"] == 0
    assert not {*counted, *codes} & {*toy.page.written[-1]} - {"errors", "battery"}
    await ended(running)


@pytest.mark.usefixtures("no_thread")
@in_virtual_time
async def test_a_report_always_fits_and_holds_tokens_and_numbers_only() -> None:
    toy = Toy()
    toy.others = {f"figure_{number}": 0.5 for number in range(10)}
    running = asyncio.create_task(toy.telemetry.run())
    for code in ErrorCode:
        toy.live(Failed(None, code), RelayLost(ConnectError("gone")), RelayReached(Welcome(1, "s", 1.8e9, 20.0)))
    toy.live(*asked(1), Heard(1, "canary"), Said(1, "canary"), *answered(1), Failed(1, ErrorCode.BAD_AUDIO))
    await asyncio.sleep(FIRST_S + 1)
    await ended(running)
    assert [event["about"] for event in toy.page.written] == ["turn", "health"]
    for data in toy.page.written:
        assert len(data) <= MAX_DATA
        batch = EventBatch((EventRecord("e1", KIND, 1.8e9, data=data),))
        assert decode(encode(batch)) == batch
        assert "canary" not in repr(data)


async def test_memory_is_read_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.Thread] = []

    def memory_of() -> dict[str, int]:
        seen.append(threading.current_thread())
        return {"pss_kb": 1}

    monkeypatch.setattr(telemetry_module, "memory", memory_of)
    monkeypatch.setattr(telemetry_module, "FIRST_S", 0.0)
    toy = Toy()
    running = asyncio.create_task(toy.telemetry.run())
    await toy.page.has(1)
    await ended(running)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert toy.page.written[0]["pss_kb"] == 1
    assert seen != [threading.main_thread()]


def test_memory_is_that_of_the_kernel() -> None:
    told = memory()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    rss_kb = int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))  # type: ignore[union-attr]  # it is there on Linux
    assert told["rss_kb"] == pytest.approx(rss_kb, rel=0.1)
    assert 0 < told["pss_kb"] <= told["rss_kb"]


@pytest.mark.parametrize("content", [None, "", "something else\n", "Pss:\nRss: many kB\n"])
def test_a_kernel_that_does_not_tell_costs_nothing(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "smaps_rollup").write_text(content, encoding="ascii")
    monkeypatch.setattr(telemetry_module, "SMAPS", tmp_path / "smaps_rollup")
    assert memory() == {}


# --- a poor disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [StoreError("no disk"), LocalProtocolError("cannot be sent")])
async def test_a_figure_that_cannot_be_written_is_lost_and_told(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    toy = Toy()
    toy.page.failure = failure
    toy.live(*asked(1), Failed(1, ErrorCode.TIMEOUT))
    assert await toy.write() == []
    assert f"telemetry: an event is lost: {failure}" in caplog.text
    toy.page.failure = None
    toy.live(*asked(2), Failed(2, ErrorCode.TIMEOUT))
    assert [event["turn"] for event in await toy.write()] == [2]


async def test_what_waits_for_a_slow_disk_is_bounded() -> None:
    toy = Toy()
    for turn in range(1, MAX_WAITING + 50):
        toy.live(*asked(turn), Failed(turn, ErrorCode.TIMEOUT))
    running = asyncio.create_task(toy.telemetry.run())
    await toy.page.has(MAX_WAITING)
    await ended(running)
    assert [event["turn"] for event in toy.page.written] == list(range(1, MAX_WAITING + 1))
