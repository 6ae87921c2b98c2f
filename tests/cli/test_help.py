"""`--help`: it comes at once, fits narrow terminals, and says what options are for instead of their Python types."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

COMMANDS = [
    (),
    ("demo",),
    ("sim",),
    ("relay",),
    ("relay", "run"),
    ("relay", "forget"),
    ("relay", "token"),
    ("relay", "token", "add"),
    ("relay", "token", "list"),
    ("relay", "token", "revoke"),
    ("device",),
    *(("device", name) for name in ("status", "volume", "pause", "resume", "play", "phrases", "test", "press")),
    *(("device", name) for name in ("heard", "dump", "set-token")),
]
GROUPS = [(), ("relay",), ("relay", "token"), ("device",)]
HEAVY = {"aiohttp", "websockets", "numpy", "onnxruntime", "opuslib", "sqlite3", "sqlite_utils", "prometheus_client"}


def run_help(*command: str, columns: int = 80, importtime: bool = False) -> subprocess.CompletedProcess[str]:
    options = ["-X", "importtime"] if importtime else []
    return subprocess.run(
        [sys.executable, *options, "-m", "pommai", *command, "-h"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_and_shows_no_python(command: tuple[str, ...]) -> None:
    for columns in (60, 80):
        shown = run_help(*command, columns=columns).stdout
        assert max(map(len, shown.splitlines())) <= columns
        assert not re.search(r"<(bool|str|path|int)|<=x<=|\[OPTIONS\] --|[^\s.]…", shown)
    assert command in GROUPS or re.search(r"Examples? +\n +\$ .*pommai " + " ".join(command), shown)


def test_help_shows_what_happens_without_an_option() -> None:
    shown = " ".join(run_help("demo", columns=120).stdout.split())
    assert "2, or 3 with --mic" in shown and "demo-out" in shown
    assert "/etc/pommai/relay.toml" in run_help("relay", "run", columns=120).stdout


@pytest.mark.parametrize("command", [("demo",), ("sim",), ("relay", "run"), ("device", "status")], ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    imported = {line.rpartition("|")[2].strip() for line in run_help(*command, importtime=True).stderr.splitlines()}
    assert "pommai.cli.main" in imported
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    assert not [name for name in imported if name.startswith(("pommai.relay", "pommai.device"))]
