"""docs/architecture.md names every module of the package, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("relay/providers/", "relay/stores/", "cli/")
"""Folders that the page describes as a whole."""


def named_on_the_page() -> set[str]:
    """Every module in the tables of rooms: under a heading with a folder they are in that, and so is a row's rest."""
    rooms = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## Rooms\n")[1].split("\n## ")[0]
    named, house = set(), ""
    for line in rooms.splitlines():
        if line.startswith("### "):
            house = re.findall(r"`([\w/]+/)`", line)[0]
        elif line.startswith("| "):
            folder = ""
            for name in re.findall(r"`([\w/.]+)`", line.split("|")[1]):
                folder = name.rpartition("/")[0] + "/" if "/" in name else folder
                named.add(house + folder + name.rpartition("/")[2])
    return named


def test_every_module_has_a_room_on_the_page() -> None:
    package = ROOT / "pommai"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if not path.name.startswith("__")}
    named = named_on_the_page()
    assert {module for module in modules if not module.startswith(ROOMS)} - named == set()
    assert {name for name in named if name.endswith(".py")} - modules == set()
