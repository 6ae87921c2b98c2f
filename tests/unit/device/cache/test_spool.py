"""The spool: once each, urgent first, until it is acknowledged, and never more than there is room for."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pommai.device.cache.cache import Cache
from pommai.device.cache.spool import SpoolSize
from pommai.device.settings import CacheSettings
from pommai.errors import LocalProtocolError, StoreError
from pommai.protocol import EventRecord
from pommai.wire import encoded_size

from .opened import DAY_S, NOW_S, event, names, opened, unsent_ids


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.db"


async def test_an_event_comes_back_as_it_was(path: Path) -> None:
    records = [
        EventRecord("a", "gesture", NOW_S, False, {"phrase": "joke.3", "ms": 12, "level": -1.5, "loud": True}),
        EventRecord("b", "help", NOW_S + 1, True),
    ]
    async with opened(path) as cache:
        for record in records:
            await cache.append(record)
    async with opened(path) as cache:
        assert await cache.unsent(10, 10_000) == (records[1], records[0])


async def test_nobody_else_may_read_the_file(path: Path) -> None:
    async with opened(path) as cache:
        await cache.append(event(1))
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


async def test_the_same_id_is_kept_once_even_when_it_was_sent(path: Path) -> None:
    async with opened(path) as cache:
        await asyncio.gather(*(cache.append(event(1), durable=n % 2 == 0) for n in range(5)))
        assert await unsent_ids(cache) == ["e1"]
        await cache.acknowledge(["e1"])
        await cache.append(event(1))
        assert await unsent_ids(cache) == []
        assert (await cache.spool_size()).rows == 1


async def test_urgent_first_then_the_oldest_and_always_in_the_same_order(path: Path) -> None:
    async with opened(path) as cache:
        for number in (5, 3, 9):
            await cache.append(event(number))
        for number in (7, 4):
            await cache.append(event(number, "help", urgent=True))
        await cache.append(event(1, "telemetry"))
        await cache.append(EventRecord("twin", "turn", NOW_S + 9))
        order = ["e4", "e7", "e1", "e3", "e5", "e9", "twin"]
        for _ in range(2):
            assert await unsent_ids(cache) == order
        for count in range(1, 8):
            assert [each.id for each in await cache.unsent(count, 10**6)] == order[:count]
        await cache.acknowledge(["e4", "e3", "nobody", "e3"])
        await cache.acknowledge([])
        assert await unsent_ids(cache) == ["e7", "e1", "e5", "e9", "twin"]


async def test_a_batch_is_no_larger_than_it_may_be_but_never_empty(path: Path) -> None:
    async with opened(path) as cache:
        for number in range(10):
            await cache.append(event(number))
        size = encoded_size(event(1))
        assert len(await cache.unsent(100, size * 3)) == 3
        assert len(await cache.unsent(100, size * 3 - 1)) == 2
        assert [each.id for each in await cache.unsent(100, 1)] == ["e0"]


@pytest.mark.parametrize(
    "bad",
    [
        EventRecord("x", "log", NOW_S, False, {"said": "several words of a child"}),
        EventRecord("x", "log", float("nan")),
        EventRecord("x", "log", NOW_S, False, {f"k{n}": n for n in range(100)}),
        EventRecord("x" * 20_000, "log", NOW_S),
    ],
)
async def test_an_event_that_no_relay_would_take_is_refused_at_the_door(path: Path, bad: EventRecord) -> None:
    async with opened(path) as cache:
        with pytest.raises(LocalProtocolError) as caught:
            await cache.append(bad)
        assert "several" not in str(caught.value)
        await cache.append(event(1))
        assert await unsent_ids(cache) == ["e1"]


async def test_without_room_the_oldest_of_the_least_important_go_first(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path, max_events=100) as cache:
        for number in range(20):
            await cache.append(event(number, "telemetry"))
        for number in range(20, 40):
            await cache.append(event(number, "help", urgent=True))
        for number in range(40, 90):
            await cache.append(event(number))
        await cache.acknowledge(f"e{number}" for number in (20, 50, 60))
        for number in range(100, 110):
            await cache.append(event(number))
        assert (await cache.spool_size()) == SpoolSize(97, 19, 100, (await cache.spool_size()).size_bytes)
        for number in range(110, 113):  # what the relay has goes first
            await cache.append(event(number))
        left = set(await unsent_ids(cache))
        assert len(left) == 100 and "e0" in left
        await cache.append(event(113))  # then the oldest telemetry
        assert set(await unsent_ids(cache)) == left - {"e0"} | {"e113"}
        for number in range(200, 300):  # then the oldest of the others, and what is urgent stays
            await cache.append(event(number))
        left = set(await unsent_ids(cache))
        assert {f"e{number}" for number in range(21, 40)} <= left
        assert left - {f"e{number}" for number in range(21, 40)} == {f"e{number}" for number in range(219, 300)}
        for number in range(300, 420):  # until there is nothing but urgent ones
            await cache.append(event(number, "help", urgent=True))
        assert await unsent_ids(cache) == [f"e{number}" for number in range(320, 420)]
    assert [record.message.rpartition("=")[2] for record in caplog.records] == ["1", "101", "201"], "and not 221 lines"


async def test_there_is_a_bound_on_bytes_too(path: Path) -> None:
    async with opened(path, max_event_kb=64) as cache:
        long = {f"key{n}": "v" * 60 for n in range(32)}
        for number in range(60):
            await cache.append(EventRecord(f"e{number}", "turn", NOW_S + number, False, long))
        size = await cache.spool_size()
        assert 60_000 < size.size_bytes <= 64_000 and size.rows < 60
        assert (await unsent_ids(cache))[-1] == "e59"
    async with opened(path, max_event_kb=64) as cache:
        assert await cache.spool_size() == size


async def test_the_sweep_keeps_what_may_still_be_wanted(path: Path) -> None:
    async with opened(path, keep_sent_days=30, keep_unsent_days=7) as cache:
        ages = {"sent": (29, 31), "unsent": (6, 8), "urgent": (1, 9000)}
        for kind, days in ages.items():
            for age in days:
                at_s = NOW_S - age * DAY_S
                await cache.append(EventRecord(f"{kind}{age}", "turn", at_s, kind == "urgent"))
        await cache.acknowledge(["sent29", "sent31"])
        await cache.append(EventRecord("odd", "turn", 0.0, data={"clock": "unsure"}))
        assert await cache.sweep(NOW_S) == 2
        assert await unsent_ids(cache) == ["urgent9000", "urgent1", "odd", "unsent6"]
        assert await cache.spool_size() == SpoolSize(4, 2, 5, (await cache.spool_size()).size_bytes)
        assert await cache.sweep(NOW_S) == 0


async def test_smaller_bounds_are_kept_by_the_sweep(path: Path) -> None:
    async with opened(path) as cache:
        for number in range(150):
            await cache.append(event(number))
    async with opened(path, max_events=100) as cache:
        assert await cache.sweep(NOW_S) == 50
        assert (await unsent_ids(cache))[0] == "e50"


async def test_a_row_that_cannot_be_read_never_blocks_the_others(path: Path) -> None:
    async with opened(path) as cache:
        for number in range(6):
            await cache.append(event(number))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE events SET data = '{\"words\": \"not a token\"}' WHERE id = 'e0'")
    connection.execute("UPDATE events SET data = '[oops' WHERE id = 'e1'")
    connection.execute("UPDATE events SET id = CAST(x'fffe' AS TEXT), kind = x'00' WHERE id = 'e2'")
    connection.execute("UPDATE events SET at_s = 'noon' WHERE id = 'e3'")
    connection.commit()
    connection.close()
    async with opened(path) as cache:
        assert [each.id for each in await cache.unsent(2, 10_000)] == ["e4"], "never an empty batch"
        assert await unsent_ids(cache) == ["e4", "e5"]
        assert (await cache.spool_size()).rows < 6
        assert cache.problem == ""


async def test_a_closed_cache_says_so_and_may_be_closed_again(path: Path) -> None:
    async with opened(path) as cache:
        await cache.close()
        with pytest.raises(StoreError, match="closed"):
            await cache.append(event(1))


async def test_the_cache_of_a_virtual_toy_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = await Cache.open(CacheSettings(path=":memory:"))
    await cache.append(event(1), durable=True)
    assert await unsent_ids(cache) == ["e1"] and cache.problem == "" and await cache.retry()
    await cache.close()
    assert names(tmp_path) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("acknowledge"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("restart"), st.just(0), st.just(False)),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(steps=STEPS)
def test_whatever_happens_each_event_is_pending_until_it_is_acknowledged(
    steps: list[tuple[str, int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("spool") / "toy.db"
    kept: dict[int, bool] = {}
    sent: set[int] = set()

    async def run() -> None:
        cache = await Cache.open(CacheSettings(str(path)))
        for step, number, urgent in steps:
            if step == "append":
                kept.setdefault(number, urgent)
                await cache.append(event(number, urgent=urgent))
            elif step == "acknowledge":
                sent.update({number} & set(kept))
                await cache.acknowledge([f"e{number}"])
            else:
                await cache.close()
                cache = await Cache.open(CacheSettings(str(path)))
        expected = sorted(set(kept) - sent, key=lambda number: (not kept[number], number))
        assert await unsent_ids(cache) == [f"e{number}" for number in expected]
        await cache.close()

    asyncio.run(run())
