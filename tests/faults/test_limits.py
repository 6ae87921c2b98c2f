"""What parents allow, from the relay's settings to what the child sees and hears, and across power cuts."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from pommai.audio import level_dbfs
from pommai.protocol import FRAME_MS
from pommai.relay.ports import TurnRecord
from pommai.starter import PhraseKind
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.pommaid import Pommaid
from tests.faults.proxy import between
from tests.faults.sounds import question, said
from tests.faults.together import together

KEPT_WITHIN_S: Final = 30.0
"""What a power cut may take of the talk that was counted."""

SLOW_S: Final = 8.0
"""What a busy machine may add to that."""

SETTINGS: Final = """
[toys.paused]
paused = true
[toys.sleeps]
quiet_from = "06:00"
quiet_until = "18:00"
[toys.has-talked]
daily_limit_min = 1
[toys.quiet]
volume_ceiling = 0.3
[toys.talks]
daily_limit_min = 30
"""


def where_it_is_noon() -> str:
    """For TZ: a zone where it is about noon of the day that it is here, so that no day ends in a test.

    No zone is a whole day ahead. The day is that of here because the toys were there, and a toy's day never goes back.
    """
    here = datetime.now(UTC).astimezone()
    ahead_h = (here.utcoffset() or timedelta()) // timedelta(hours=1) + 12 - here.hour
    return f"NOON{-min(ahead_h, 23):+d}"  # POSIX counts westwards


def used_on_disk_s(toy: Pommaid) -> float:
    """The talk of today that a power cut would leave."""
    with closing(sqlite3.connect(f"file:{toy.folder / 'toy.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT value FROM memory WHERE key = 'allowance'").fetchall()
    return float(json.loads(rows[0][0])["used_s"]) if rows else 0.0


async def excuses_itself(toy: Pommaid, why: str, excuse: PhraseKind, folder: Path) -> None:
    """The toy rests: that is seen, and a press is answered by an excuse; it listens to nobody."""
    status = await toy.until("paused")
    assert status["why"] == status["rest"] == why
    await toy.until(lambda status: bool(status["since_s"] >= 0.3))
    await toy.hear()
    await toy.press(say=question(folder))
    await toy.until("playing")
    await toy.until("paused", 60)
    assert said(await toy.hear(), excuse)
    assert toy.lights("paused") == {"purple"}
    assert not {"listening", "thinking", "speaking"} & set(toy.states())


async def joke_dbfs(toy: Pommaid) -> float:
    """How loud the first two seconds of a joke are."""
    await toy.hear()
    start = len(toy.heard)
    assert (await toy.ask("play", phrase="joke-1"))["ok"]
    await toy.until_heard(2000)
    return level_dbfs(bytes(toy.heard[start : start + 96_000]))


@pytest.mark.timeout(150)
async def test_what_parents_allow_holds_for_the_child_and_outlives_a_power_cut(
    relay: MakeRelay, toy: MakeToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", where_it_is_noon())
    lighthouse = relay()
    with (tmp_path / "relay" / "relay.toml").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    async with lighthouse.store() as store:
        packets = round(61_000 / FRAME_MS)
        await store.record(TurnRecord("has-talked", 1, time.time(), uplink_packets=packets))

    async def rests(name: str, why: str, excuse: PhraseKind) -> None:
        token, turns_before = await lighthouse.token(name), turns(name)
        async with between(lighthouse.port) as proxy, toy(proxy.url, token, name) as bear:
            await bear.until(lambda status: bool(status["relay"]["reached"]))
            await excuses_itself(bear, why, excuse, tmp_path)
            assert turns(name) == turns_before, "the relay heard nothing of it"
            assert proxy.connections == 1
            await bear.kill()
            proxy.refuse()
            await bear.start()
            await excuses_itself(bear, why, excuse, tmp_path)
            assert not (await bear.status())["relay"]["reached"]

    def turns(name: str) -> int:
        return len(lighthouse.rows("SELECT turn FROM turns WHERE toy = ?", name))

    async def speaks_softly() -> None:
        """A ceiling holds for what the toy says, whatever volume is asked for, and with no relay there."""
        async with (
            between(lighthouse.port) as proxy,
            toy(proxy.url, await lighthouse.token("quiet"), "quiet") as bear,
            toy(lighthouse.url, await lighthouse.token("loud"), "loud") as loud,
        ):
            for each in (bear, loud):
                await each.until("idle")
                assert (await each.ask("volume", value=1.0))["ok"]
            loud_dbfs = await joke_dbfs(loud)
            assert await joke_dbfs(bear) < loud_dbfs - 6
            await bear.kill()
            proxy.refuse()
            await bear.start()
            status = await bear.status()
            assert (status["volume"], status["ceiling"], status["relay"]["reached"]) == (0.3, 0.3, False)
            assert await joke_dbfs(bear) < loud_dbfs - 6

    async def talks() -> None:
        """What was talked is on the disk half a minute later, without anybody telling the toy anything."""
        async with (
            between(lighthouse.port) as proxy,
            toy(proxy.url, await lighthouse.token("talks"), "talks") as bear,
        ):
            await bear.until("idle")
            await bear.press(say=question(tmp_path, 1.5))
            await bear.until("speaking")
            used_s = (await bear.until("idle"))["used_today_s"]
            talked_s = time.monotonic()
            assert used_s > 1.5
            await bear.until(lambda status: used_on_disk_s(bear) >= used_s, KEPT_WITHIN_S + SLOW_S)
            assert time.monotonic() - talked_s < KEPT_WITHIN_S + SLOW_S
            await bear.kill()
            proxy.refuse()
            await bear.start()
            status = await bear.status()
            assert (status["used_today_s"], status["relay"]["reached"]) == (used_s, False)

    async with lighthouse:
        await together(
            paused=rests("paused", "paused", PhraseKind.RESTING),
            sleeps=rests("sleeps", "quiet_hours", PhraseKind.GOODNIGHT_REST),
            has_talked=rests("has-talked", "daily_limit", PhraseKind.RESTING),
            speaks_softly=speaks_softly(),
            talks=talks(),
        )
