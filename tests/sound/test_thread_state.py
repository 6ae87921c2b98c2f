"""What Python knows of PortAudio's threads: kept between the callbacks of a card that stays."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pommai.device.body import lines
from pommai.device.body.sound import SoundCard
from tests.pulse import Pulse

SETTLED = 20


async def test_the_threads_of_a_card_that_stays_are_known_from_call_to_call(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, beat, settled, here = asyncio.get_running_loop(), lines.Lines._beat, asyncio.Event(), threading.local()
    rows: tuple[list[int], list[int]] = [], []
    """Of each line, at each callback: how many in a row have found what the one before left in its thread."""

    def count(self: lines.Lines, line: int) -> None:
        beat(self, line)
        here.row = getattr(here, "row", 0) + 1
        rows[line].append(here.row)
        if min(map(len, rows)) > 2 * SETTLED:
            loop.call_soon_threadsafe(settled.set)

    monkeypatch.setattr(lines, "SETTLED", SETTLED)
    monkeypatch.setattr(lines.Lines, "_beat", count)
    async with SoundCard(), asyncio.timeout(10):
        await settled.wait()
    for row in rows:
        assert set(row[: SETTLED - 1]) == {1}, "before it has settled, CPython forgets the thread after each call"
        assert row[SETTLED - 1 :] == list(range(1, len(row) - SETTLED + 2))
