"""What a toy does on a disk that is full or read-only: run inside a mount namespace of its own, prints what happened.

`python -m tests.unit.device.cache.poor_disk SCENARIO FOLDER`; the folder is an empty tmpfs of 2 MB.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pommai import sqlite
from pommai.device.mind.clock import WallClock
from pommai.device.service import keeping
from pommai.device.service.keeping import ALLOWANCE, Keeper

from .opened import event, fetch, names, opened, phrase, unsent_ids

PAGE = 4096


def fill(folder: Path) -> None:
    """Leave not a byte of the disk."""
    with (folder / "filler").open("ab", buffering=0) as filler:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC


def empty(folder: Path) -> None:
    (folder / "filler").unlink()


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


async def full_in_use(folder: Path) -> dict[str, Any]:
    """The disk runs full under an open cache, and has room again later."""
    hello, blob = phrase("hello")
    said: dict[str, Any] = {}
    async with opened(folder / "toy.db") as cache:
        await cache.manifest("r1", [hello])
        await fetch(cache, {"hello": blob})
        await cache.append(event(0), durable=True)
        await cache.append(event(1), durable=True)
        await cache.acknowledge(["e0"])
        fill(folder)
        for number in range(2, 300):
            await cache.append(event(number, urgent=number == 250), durable=number % 2 == 0)
        await cache.remember("volume", 0.5, durable=True)
        said["problem"] = cache.problem
        said["unsent"] = await unsent_ids(cache)
        said["packets"] = len(await cache.phrase_packets("hello") or ())
        said["volume"] = await cache.recall("volume")
        said["retried"] = await cache.retry()
        await cache.acknowledge(["e1"])
        empty(folder)
        said["retried_with_room"] = await cache.retry()
        said["problem_after"] = cache.problem
        await cache.append(event(300), durable=True)
    async with opened(folder / "toy.db") as cache:
        said["after"] = await unsent_ids(cache)
        said["rows_after"] = (await cache.spool_size()).rows
        said["volume_after"] = await cache.recall("volume")
        said["revision_after"] = await cache.revision()
    return said


async def full_at_start(folder: Path) -> dict[str, Any]:
    """There is no room for a new file."""
    fill(folder)
    said: dict[str, Any] = {}
    async with opened(folder / "toy.db") as cache:
        said["problem"] = cache.problem
        await cache.append(event(1), durable=True)
        empty(folder)
        said["retried"] = await cache.retry()
    async with opened(folder / "toy.db") as cache:
        said["after"] = await unsent_ids(cache)
    return said


async def full_until_the_end(folder: Path) -> dict[str, Any]:
    """The disk has room again, but nobody tries before the toy is switched off."""
    async with opened(folder / "toy.db") as cache:
        fill(folder)
        await cache.append(event(1), durable=True)
        said: dict[str, Any] = {"problem": cache.problem}
        empty(folder)
    async with opened(folder / "toy.db") as cache:
        said["after"] = await unsent_ids(cache)
    return said


async def full_while_it_runs(folder: Path) -> dict[str, Any]:
    """The disk runs full under a daemon's cache and has room again: nobody but its keeper tries the file."""
    keeping.RETRY_S = 0.05  # this process ends with the scenario
    async with opened(folder / "toy.db") as cache:
        await cache.append(event(0, at_s=time.time()), durable=True)
        keeper = Keeper(cache, clock(), {ALLOWANCE: lambda: {"volume": 0.5}}, dict, _nothing)
        running = asyncio.create_task(keeper.run())
        fill(folder)
        for number in range(1, 100):
            await cache.append(event(number, at_s=time.time()), durable=True)
        said: dict[str, Any] = {"kept_when_full": await keeper.save(durable=True), "problem": cache.problem}
        empty(folder)
        async with asyncio.timeout(20):
            while cache.problem:
                await cache.spool_size()
        said["kept_after"] = await keeper.save(durable=True)
        await cache.append(event(100, at_s=time.time()), durable=True)
        connection = sqlite3.connect(f"file:{folder}/toy.db?mode=ro", uri=True)
        said["in_the_file"] = [row[0] for row in connection.execute("SELECT id FROM events ORDER BY seq")]
        said["wishes"] = [
            json.loads(*row) for row in connection.execute("SELECT value FROM memory WHERE key='allowance'")
        ]
        connection.close()
        running.cancel()
        await asyncio.wait({running})
    return said


def clock() -> WallClock:
    """The machine's own, never told."""
    return WallClock(None, system_s=time.time, monotonic_s=time.monotonic, is_set=lambda: True)


async def _nothing() -> None:
    """The diary has nothing to write again."""


async def damaged_and_full(folder: Path) -> dict[str, Any]:
    """The file is damaged, and there is no room for another: what could be read lives on."""
    async with opened(folder / "toy.db") as cache:
        for number in range(100):
            await cache.append(event(number))
    content = (folder / "toy.db").read_bytes()
    (folder / "toy.db").write_bytes(content[: len(content) * 3 // 4])
    fill(folder)
    said: dict[str, Any] = {}
    async with opened(folder / "toy.db") as cache:
        said["problem"] = cache.problem
        said["unsent"] = len(await unsent_ids(cache))
        empty(folder)
        said["retried"] = await cache.retry()
        said["names"] = [name for name in names(folder) if not name.endswith(("-wal", "-shm", ".lock"))]
    async with opened(folder / "toy.db") as cache:
        said["after"] = len(await unsent_ids(cache))
    return said


async def damaged_and_nearly_full(folder: Path) -> dict[str, Any]:
    """The file is damaged, and for another there is more and more room, but too little until the last start."""
    path = folder / "toy.db"
    async with opened(path) as cache:
        events = [event(number, urgent=number % 10 == 0) for number in range(300)]
        await cache._write(lambda tables: [tables.spool.append(each) for each in events])
        await cache.remember("allowance", {"paused": True}, durable=True)
    content = path.read_bytes()
    path.write_bytes(content[:-PAGE] + bytes(PAGE))  # of the log
    said: dict[str, Any] = {"starts": []}
    for room in range(40_000, 500_000, 8_000):
        fill(folder)
        os.truncate(folder / "filler", (folder / "filler").stat().st_size - room)
        async with opened(path) as cache:
            size, allowance = await cache.spool_size(), await cache.recall("allowance")
            said["starts"].append([bool(cache.problem), size.unsent, size.urgent, allowance, names(folder)])
            said["problem"] = cache.problem or said["problem"]
        empty(folder)
        if not said["starts"][-1][0]:
            break
    return said


async def read_only(folder: Path) -> dict[str, Any]:
    """The disk is mounted read-only, as a card's file system is after an error; later it can be written again."""
    hello, blob = phrase("hello")
    async with opened(folder / "toy.db") as cache:
        await cache.manifest("r1", [hello])
        await fetch(cache, {"hello": blob})
        await cache.remember("volume", 0.5)
        for number in range(3):
            await cache.append(event(number), durable=True)
    return await _read_only(folder, "toy.db")


async def read_only_after_a_power_cut(folder: Path) -> dict[str, Any]:
    """The same, with a log that was not written back; its index is gone, as it is after a restart of some systems."""
    hello, blob = phrase("hello")
    (folder / "on").mkdir()
    async with opened(folder / "on" / "toy.db") as cache:
        await cache.manifest("r1", [hello])
        await fetch(cache, {"hello": blob})
        await cache.remember("volume", 0.5)
        for number in range(3):
            await cache.append(event(number), durable=True)
        for each in (folder / "on" / "toy.db", *sqlite.beside(folder / "on" / "toy.db")):
            shutil.copy(each, folder / each.name)
    shutil.rmtree(folder / "on")
    return await _read_only(folder, "toy.db")


async def _read_only(folder: Path, name: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    remount(folder, "ro")
    async with opened(folder / name) as cache:
        said["problem"] = cache.problem
        said["packets"] = len(await cache.phrase_packets("hello") or ())
        said["revision"] = await cache.revision()
        said["volume"] = await cache.recall("volume")
        await cache.append(event(10), durable=True)
        said["unsent"] = await unsent_ids(cache)
        await cache.acknowledge(["e0", "e10"])
        await cache.remember("volume", 0.2)
        await cache.log(1.0, "press")
        said["retried"] = await cache.retry()
        remount(folder, "rw")
        said["retried_rw"] = await cache.retry()
    async with opened(folder / name) as cache:
        said["after"] = await unsent_ids(cache)
        said["rows_after"] = (await cache.spool_size()).rows
        said["volume_after"] = await cache.recall("volume")
        said["packets_after"] = len(await cache.phrase_packets("hello") or ())
        said["log_after"] = len(await cache.recent_log(10))
    return said


if __name__ == "__main__":
    os.umask(0o022)
    sys.stdout.write(json.dumps(asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))))
