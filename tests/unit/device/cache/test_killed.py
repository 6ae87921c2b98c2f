"""Killed in mid-append: what was said to be durable is there, and nothing is there twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from .opened import names, opened, unsent_ids

ROOT = Path(__file__).parents[4]
KILLS = 12


async def killed(path: Path, first: int, lines: int, bytes_more: int) -> int:
    """Run the appender until it has said so many lines and a bit, kill it, and return the last number it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.device.cache.appender", path, str(first), cwd=ROOT, stdout=-1
    )
    assert process.stdout
    said = first
    for _ in range(lines):
        said = int(await asyncio.wait_for(process.stdout.readline(), 30))
    await process.stdout.read(bytes_more)  # anywhere between two lines
    process.kill()
    rest = await process.stdout.read()
    await process.wait()
    whole_lines = rest[: rest.rfind(b"\n") + 1].split()
    return max(said, *(int(line) for line in whole_lines[1:])) if len(whole_lines) > 1 else said


async def test_twelve_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(6)
    path = tmp_path / "toy.db"
    first = 1
    for _ in range(KILLS):
        last = await killed(path, first, rng.randrange(1, 60), rng.randrange(0, 9))
        async with opened(path, max_events=1_000_000) as cache:
            assert cache.problem == ""
            kept = [int(each[1:]) for each in await unsent_ids(cache)]
            assert len(kept) == len(set(kept))
            assert set(range(1, last + 1)) <= set(kept), "an event of before is there before a later one"
            assert max(kept) <= last + 12, "nothing is invented"
            first = max(kept) + 1
    assert names(tmp_path) == ["toy.db"]
