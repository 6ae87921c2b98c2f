"""A disk that is full, read-only or not there: the toy lives from memory, says so, and moves back later."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pommai.device.cache import aside
from pommai.device.cache import cache as cache_module
from pommai.device.cache.storage import Storage
from pommai.device.cache.tables import Tables

from .opened import event, names, opened, unsent_ids

ROOT = Path(__file__).parents[4]
SMALL_DISK = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" -m tests.unit.device.cache.poor_disk "$3" "$1"'


def on_a_small_disk(scenario: str, folder: Path) -> dict[str, Any]:
    """What the scenario says, run on a tmpfs of 2 MB that nobody else sees."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    result = subprocess.run(
        ["unshare", "--mount", *as_root, "sh", "-c", SMALL_DISK, "sh", str(folder), sys.executable, scenario],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def test_the_disk_runs_full_and_has_room_again(tmp_path: Path) -> None:
    said = on_a_small_disk("full_in_use", tmp_path)
    assert "disk is full" in said["problem"]
    everything = ["e250", *(f"e{number}" for number in range(1, 300) if number != 250)]
    assert said["unsent"] == everything, "nothing is lost, whatever was written before"
    assert said["packets"] == 40 and said["volume"] == 0.5
    assert not said["retried"] and said["retried_with_room"] and said["problem_after"] == ""
    assert said["after"] == [*(each for each in everything if each != "e1"), "e300"]
    assert said["rows_after"] == 301
    assert said["volume_after"] == 0.5 and said["revision_after"] == "r1"


def test_while_it_runs_it_moves_back_into_its_file_by_itself(tmp_path: Path) -> None:
    said = on_a_small_disk("full_while_it_runs", tmp_path)
    assert "disk is full" in said["problem"] and not said["kept_when_full"] and said["kept_after"]
    assert said["in_the_file"] == [f"e{number}" for number in range(101)], "nothing is lost, and nothing is twice"
    assert said["wishes"] == [{"volume": 0.5}]


def test_no_room_for_a_new_file(tmp_path: Path) -> None:
    said = on_a_small_disk("full_at_start", tmp_path)
    assert "disk is full" in said["problem"]
    assert said["retried"] and said["after"] == ["e1"]


def test_closing_tries_the_file_once_more(tmp_path: Path) -> None:
    said = on_a_small_disk("full_until_the_end", tmp_path)
    assert "disk is full" in said["problem"] and said["after"] == ["e1"]


def test_a_damaged_file_and_no_room_for_another(tmp_path: Path) -> None:
    said = on_a_small_disk("damaged_and_full", tmp_path)
    assert said["problem"] and 0 < said["unsent"] <= said["after"]
    assert said["retried"]
    assert said["names"][0] == "toy.db" and "damaged" in said["names"][1] and len(said["names"]) == 2


def test_a_damaged_file_stays_where_it_is_until_there_is_room_for_another(tmp_path: Path) -> None:
    said = on_a_small_disk("damaged_and_nearly_full", tmp_path)
    whole = [300, 30, {"paused": True}]
    assert len(said["starts"]) > 10
    for has_problem, unsent, urgent, allowance, left in said["starts"]:
        assert [unsent, urgent, allowance] == whole, "rescued again at each start"
        assert has_problem is not any("damaged" in name for name in left)
        assert not any(".new" in name for name in left)
    assert not said["starts"][-1][0], "as soon as there is room"
    assert "is damaged, and cannot be made anew" in said["problem"]


@pytest.mark.parametrize("scenario", ["read_only", "read_only_after_a_power_cut"])
def test_a_disk_that_is_read_only_and_then_is_not(tmp_path: Path, scenario: str) -> None:
    said = on_a_small_disk(scenario, tmp_path)
    assert "Read-only" in said["problem"]
    assert said["packets"] == 40 and said["revision"] == "r1" and said["volume"] == 0.5
    assert said["unsent"] == ["e0", "e1", "e2", "e10"]
    assert not said["retried"] and said["retried_rw"]
    assert said["after"] == ["e1", "e2"] and said["rows_after"] == 4
    assert said["volume_after"] == 0.2 and said["packets_after"] == 40 and said["log_after"] == 1


@pytest.mark.parametrize("place", ["/sys/toy.db", "/nonexistent/pommai/toy.db", "/dev/null", "/tmp"])
async def test_a_place_where_no_file_can_be(place: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(place) as cache:
        assert place.removesuffix("/toy.db") in cache.problem
        await cache.append(event(1), durable=True)
        await cache.remember("volume", 0.5)
        await cache.log(1.0, "press")
        assert await unsent_ids(cache) == ["e1"] and len(await cache.recent_log(9)) == 1
        for _ in range(3):
            assert not await cache.retry()
        assert await unsent_ids(cache) == ["e1"]
    assert caplog.text.count("lives in memory") == 1


async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with opened(folder / "toy.db") as cache:
        await cache.append(event(1))
        assert not await cache.retry()
        make(folder)
        assert await cache.retry() and cache.problem == ""
        await cache.append(event(2))
    async with opened(folder / "toy.db") as cache:
        assert await unsent_ids(cache) == ["e1", "e2"]
    assert names(folder) == ["toy.db"]


def make(folder: Path) -> None:
    folder.mkdir()


async def test_the_memory_is_bounded_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "missing" / "toy.db", max_events=100) as cache:
        for number in range(250):
            await cache.append(event(number, urgent=number < 10))
        assert await unsent_ids(cache) == [f"e{number}" for number in (*range(10), *range(160, 250))]


async def test_a_disk_that_hangs_at_the_start_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    open_file = Storage._open_file

    def slowly(self: Storage, now_s: float) -> Tables:
        answers.wait()
        return open_file(self, now_s)

    monkeypatch.setattr(cache_module, "OPEN_S", 0.05)
    monkeypatch.setattr(Storage, "_open_file", slowly)
    path = tmp_path / "toy.db"
    try:
        async with asyncio.timeout(20), opened(path) as cache:
            assert "does not answer" in cache.problem and not cache.lasts
            await cache.append(event(1))
            assert not await cache.retry(), "it hangs still"
            answers.set()
            assert cache._hanging is not None
            await asyncio.wrap_future(cache._hanging)
            assert await cache.retry() and cache.lasts and not cache.problem
    finally:
        answers.set()
    async with opened(path) as cache:
        assert await unsent_ids(cache) == ["e1"]


async def test_a_folder_that_cannot_be_looked_through_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(path: Path, version: int) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(aside, "newer_files", unreadable)
    async with opened(tmp_path / "toy.db") as cache:
        assert cache.lasts and not cache.problem
    assert "cannot be looked through: Permission denied" in caplog.text


async def test_an_error_of_the_system_while_opening_is_lived_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Storage, now_s: float) -> Tables:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Storage, "_open_file", broken)
    async with opened(tmp_path / "toy.db") as cache:
        assert "Input/output error" in cache.problem
        assert not await cache.retry()
        await cache.append(event(1))
        assert await unsent_ids(cache) == ["e1"]
