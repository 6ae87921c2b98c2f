"""Killed in mid-append, or while a damaged file is mended: what was durable is there, and nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
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


def test_a_toy_that_dies_while_it_mends_its_file_loses_nothing_of_what_could_be_read(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.device.cache.dying", tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=True,
    )
    said = json.loads(ran.stdout)
    undisturbed = said["undisturbed"]
    assert undisturbed["problem"] == "" and undisturbed["left"] == ["toy.db"] and undisturbed["damaged"] == 2
    assert 300 < undisturbed["unsent"] < 405 and undisturbed["allowance"] == {"paused": True}
    assert undisturbed["urgent"] == [f"e{number}" for number in range(9000, 9005)], "they were in its log only"
    assert said["steps"] > 40 and said["cut_short"] > 5, "it was killed in between"
    for found in said["again"]:
        assert found["damaged"] in (1, 2), "the log of the damaged file may have gone: what was in it has not"
        assert found | {"damaged": 2} == undisturbed
    assert len(said["failing"]) > 5
    for kept, found in said["failing"]:
        assert kept == undisturbed["unsent"], "it lives from memory, and has all of it"
        assert found | {"damaged": 2} == undisturbed
