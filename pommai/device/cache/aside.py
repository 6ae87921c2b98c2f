"""Database files that are set aside intact: damaged ones, and those that a newer pommai wrote.

A file is renamed while its connection is open, and the connection closed afterwards: SQLite then sees that the file has
moved and writes no more to it, so that the log beside it stays as it was.

What could be read of a damaged file is on the disk, in a new file beside it, before the damaged one is moved. That goes
first and its log after it: so a file that is missing beside a new one says that the new one is whole, and whatever
power cut comes in between, the next start goes on from there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pommai import sqlite

KEEP_DAMAGED: Final = 2
"""A card that goes bad must not be filled with its own ruins."""


def new_beside(path: Path) -> Path:
    """Where the new file is written that takes the place of a damaged one at `path`."""
    return path.with_name(f"{path.name}.new")


def in_place(path: Path) -> Path:
    """The file that holds what can be read: the new one, if the damaged one has gone but its place is still empty."""
    return path if path.exists() else new_beside(path)


def swap(path: Path, now_s: float) -> Path:
    """Rename the damaged file at `path` to `<name>.damaged-<unix time>`, and put the new one there; its new path.

    Raises OSError; the next start then finishes what was begun.
    """
    _sync(path.parent)
    target = path.rename(_damaged_name(path, now_s))
    log, _ = sqlite.beside(path)
    if log.exists() and log.stat().st_size:
        log.rename(sqlite.beside(target)[0])
    finish_swap(path)
    _remove_older(path, target)
    return target


def finish_swap(path: Path) -> None:
    """Finish a swap that was cut short; a new file of a rescue that was cut short is removed. Raises OSError."""
    new = new_beside(path)
    if not new.exists():
        return
    if path.exists():
        remove(new)
        return
    for each in sqlite.beside(path):
        each.unlink(missing_ok=True)  # of the damaged file: what could be read of its log is in the new one
    for each in sqlite.beside(new):
        each.unlink(missing_ok=True)  # it is whole without them; whoever looked into it left them
    new.rename(path)
    _sync(path.parent)


def set_damaged_aside(path: Path, damaged: Path, now_s: float) -> None:
    """Rename a damaged file that is not `path` itself to `<name of path>.damaged-<unix time>`."""
    target = _damaged_name(path, now_s)
    _rename(damaged, target)
    _remove_older(path, target)


def set_newer_aside(path: Path, version: int) -> Path:
    """Rename a file of a newer schema to `<name>.v<version>`, or `<name>.v<version>.1` and so on; its new path."""
    target = path.with_name(f"{path.name}.v{version}")
    count = 0
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.v{version}.{count}")
    _rename(path, target)
    return target


def newer_files(path: Path, version: int) -> list[Path]:
    """The files that were set aside because they were newer, and are not newer than `version`; oldest schema first."""
    return _numbered(path, r"\.v(\d+)(?:\.\d+)?", up_to=version)


def remove(path: Path) -> None:
    """Remove a database file with all that is beside it, the file last."""
    for each in (*sqlite.beside(path), path):
        each.unlink(missing_ok=True)


def _rename(path: Path, target: Path) -> None:
    """Rename a database file, its log first: cut short in between, the next start finds the rest and goes on."""
    log, index = sqlite.beside(path)
    if log.exists() and log.stat().st_size:
        log.rename(sqlite.beside(target)[0])
    log.unlink(missing_ok=True)
    index.unlink(missing_ok=True)  # made anew from the log
    path.rename(target)


def _damaged_name(path: Path, now_s: float) -> Path:
    at_s = int(now_s)
    while (target := path.with_name(f"{path.name}.damaged-{at_s}")).exists():
        at_s += 1
    return target


def _remove_older(path: Path, newest: Path) -> None:
    """Keep `newest`, whatever the clock said when it got its name, and of the others the last."""
    others = [each for each in _numbered(path, r"\.damaged-(\d+)") if each != newest]
    for old in others[: 1 - KEEP_DAMAGED]:
        remove(old)


def _sync(folder: Path) -> None:
    """What the files in `folder` are called is on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbered(path: Path, pattern: str, up_to: int | None = None) -> list[Path]:
    """The files beside `path` whose names go on like `pattern`, sorted by its number."""
    found = []
    for each in path.parent.iterdir():
        match = re.fullmatch(re.escape(path.name) + pattern, each.name)
        if match and (up_to is None or int(match[1]) <= up_to):
            found.append((int(match[1]), each))
    return [each for _, each in sorted(found)]
