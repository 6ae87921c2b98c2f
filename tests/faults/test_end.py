"""Told to end in whatever it does: in time, with a sound that says so, and what was cut off is written down."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pommai.audio import level_dbfs
from pommai.device.mind.effects import Earcon
from pommai.relay.providers.scripted import tone
from tests.faults.bodies import BLUE, GREEN, hands_on, real_body
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.sounds import earcons
from tests.pulse import Pulse

END_S = 2.0


def turn_events(database: Path) -> list[dict[str, object]]:
    """What the toy has written down about turns, on its disk."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [json.loads(data) for (data,) in connection.execute("SELECT data FROM events WHERE kind = 'turn'")]


@pytest.mark.parametrize("moment", ["idle", "listening", "thinking", "speaking"])
async def test_told_to_end(moment: str, relay: MakeRelay, toy: MakeToy, pulse: Pulse, tmp_path: Path) -> None:
    lighthouse = relay()
    body = real_body(pulse, tmp_path)
    async with lighthouse, toy(lighthouse.url, await lighthouse.token(), **body) as bear:
        with ExitStack() as stack:
            pins = await hands_on(bear, tmp_path, stack)
            await bear.until("idle")
            async with pulse.record() as ear:
                if moment != "idle":
                    pins.press()
                    await pulse.say(tone(440, 600))
                    await bear.until("listening")
                    assert pins.duties()[BLUE] > 50
                if moment == "thinking":
                    lighthouse.freeze()
                if moment in ("thinking", "speaking"):
                    pins.release()
                    await bear.until(moment)
                if moment == "speaking":
                    assert pins.duties()[GREEN] > 99
                    await ear.until(lambda pcm: level_dbfs(pcm[-9600:]) > -30)
                code, seconds = await bear.end()
                assert (code, seconds < END_S) == (0, True)
                await ear.until(lambda pcm: not any(pcm[-4800:]))  # what was still on its way
                heard = earcons(bytes(ear.pcm))
        assert bear.supervisor.times("STOPPING=1")
        assert "Traceback" not in bear.log
    if moment == "idle":
        assert heard == []
        assert turn_events(bear.folder / "toy.db") == []
    else:
        assert heard[-1:] == [Earcon.ERROR], f"no whim, but cut off: {heard}"
        assert turn_events(bear.folder / "toy.db") == [{"turn": 1, "outcome": "interrupted"}]
