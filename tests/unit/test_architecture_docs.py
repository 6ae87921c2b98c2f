"""docs/architecture.md names every module of the package, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("relay/providers/", "relay/stores/", "cli/")
"""Folders that the page describes as a whole; the settings have a page of their own."""


def test_every_module_has_a_room_on_the_page() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Rooms")[1].split("##")[0]
    named = set()
    for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([\w/.]+)`", row):
            folder = name.rpartition("/")[0] + "/" if "/" in name else folder
            named.add(folder + name.rpartition("/")[2])
    package = ROOT / "pommai"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if not path.name.startswith("__")}
    of_their_own = {m for m in modules if not m.startswith(ROOMS) and not m.endswith("settings.py")}
    assert of_their_own - named == set()
    assert {name for name in named if name.endswith(".py")} - modules == set()
