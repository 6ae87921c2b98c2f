"""Database files that are set aside intact: damaged ones, and those that a newer pommai wrote.

A file is renamed while its connection is open, and the connection closed afterwards: SQLite then sees that the file has
moved and writes no more to it, so that the log beside it stays as it was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pommai import sqlite

KEEP_DAMAGED: Final = 2
"""A card that goes bad must not be filled with its own ruins."""


def set_damaged_aside(path: Path, now_s: float, damaged: Path | None = None) -> Path:
    """Rename a damaged file to `<name>.damaged-<unix time>`; its new path. Older ones than the last two are removed.

    `damaged`: the file to rename, if it is not `path` itself.
    """
    at_s = int(now_s)
    while (target := path.with_name(f"{path.name}.damaged-{at_s}")).exists():
        at_s += 1
    _rename(damaged or path, target)
    for old in _numbered(path, r"\.damaged-(\d+)")[:-KEEP_DAMAGED]:
        remove(old)
    return target


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


def _numbered(path: Path, pattern: str, up_to: int | None = None) -> list[Path]:
    """The files beside `path` whose names go on like `pattern`, sorted by its number."""
    found = []
    for each in path.parent.iterdir():
        match = re.fullmatch(re.escape(path.name) + pattern, each.name)
        if match and (up_to is None or int(match[1]) <= up_to):
            found.append((int(match[1]), each))
    return [each for _, each in sorted(found)]
