"""Kills a toy at every step of mending its damaged database, or fails its disk, and tells what the next start finds.

`python -m tests.unit.device.cache.dying FOLDER`; a step is a call that the rescue makes. Prints JSON.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pommai.device.cache import aside, files
from pommai.device.cache.storage import Storage
from pommai.device.settings import CacheSettings
from pommai.protocol import EventRecord

from .opened import NOW_S, event, names

PAGE = 4096
STEPS = (aside.__file__, files.__file__)


def start(path: Path) -> Storage:
    return Storage(CacheSettings(str(path)), NOW_S)


def make(folder: Path) -> None:
    """A toy that was switched off with 400 events in its file and 5 calls for help in its log, then one bad page."""
    path = folder / "toy.db"
    storage = start(path)
    for number in range(400):
        append(storage, event(number))
    storage.perform(lambda tables: tables.memory.remember("allowance", '{"paused": true}'))
    storage.close()
    if os.fork() == 0:
        storage = start(path)
        for number in range(5):
            append(storage, event(9000 + number, urgent=True))
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    (folder / "toy.db.lock").unlink()
    pages = [path.read_bytes()[at : at + PAGE] for at in range(0, path.stat().st_size, PAGE)]
    bad = next(n for n, page in enumerate(pages) if page[0] == 0x0D and b"e200" in page)
    with path.open("r+b") as file:
        file.seek(bad * PAGE)
        file.write(bytes(PAGE))


def append(storage: Storage, happened: EventRecord) -> None:
    storage.perform(lambda tables: tables.spool.append(happened), durable=happened.urgent)


def killed(path: Path, step: int) -> bool:
    """Start a toy that dies before that step; whether it came so far."""
    if child := os.fork():
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    steps = count()

    def look(frame: FrameType, what: str, _: Any) -> None:
        caller = frame.f_back if what == "call" else frame if what == "c_call" else None
        if caller is not None and caller.f_code.co_filename in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(look)
    start(path).close()
    sys.setprofile(None)
    os._exit(0)


def found(folder: Path) -> dict[str, Any]:
    """What an undisturbed start makes of it."""
    storage = start(folder / "toy.db")
    unsent = storage.read(lambda tables: [each.id for each in tables.spool.unsent(10_000, 10**9)])
    said = {
        "problem": storage.problem,
        "unsent": len(unsent),
        "urgent": unsent[:5],
        "allowance": storage.read(lambda tables: tables.memory.recall("allowance")),
    }
    storage.close()
    left = {name for name in names(folder) if not name.startswith("toy.db.damaged")}
    return said | {"left": sorted(left), "damaged": len(names(folder)) - len(left)}


def failing(off: Path) -> list[tuple[int, dict[str, Any]]]:
    """For a disk that fails once, at each step of the swap: what the toy still knows, and what the next start finds."""
    results = []
    for step in count():
        folder, steps = copy(off, "failing"), count()

        def fails(call: Callable[..., Any], step: int = step, steps: Iterator[int] = steps) -> Callable[..., Any]:
            def perhaps(*args: Any, **more: Any) -> Any:
                if next(steps) == step:
                    raise OSError(errno.EIO, "Input/output error")
                return call(*args, **more)

            return perhaps

        with pytest.MonkeyPatch.context() as disk:
            for holder, name in ((Path, "rename"), (Path, "unlink"), (os, "fsync")):
                disk.setattr(holder, name, fails(getattr(holder, name)))
            storage = start(folder / "toy.db")
        kept = storage.read(lambda tables: len(tables.spool.unsent(10_000, 10**9)))
        storage.close()
        if next(steps) <= step:
            break
        results.append((kept, found(folder)))
    return results


def copy(folder: Path, name: str) -> Path:
    target = folder.with_name(name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return target


def main(folder: Path) -> dict[str, Any]:
    off = folder / "off"
    off.mkdir()
    make(off)
    undisturbed, again = found(copy(off, "once")), []
    cut_short = 0
    for step in count():
        dead = copy(off, "dead")
        if not killed(dead / "toy.db", step):
            break
        again.append(found(copy(dead, "later")))
        if not (dead / "toy.db").exists():  # the swap was begun: it may be cut short again
            cut_short += 1
            for second in count():
                twice = copy(dead, "twice")
                killed(twice / "toy.db", second)
                if (twice / "toy.db").exists():
                    break
                again.append(found(twice))
    return {"undisturbed": undisturbed, "again": again, "steps": step, "cut_short": cut_short, "failing": failing(off)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
