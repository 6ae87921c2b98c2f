"""Nothing is downloaded at run time: the whole demo with no network but loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUT = 'ip link set lo up && test -z "$(ip route)" && exec "$@"'
"""In a network namespace of its own: loopback is there, and no route leads anywhere."""


@pytest.mark.engines
def test_the_demo_needs_no_network(tmp_path: Path) -> None:
    demo = [sys.executable, "-m", "pommai", "demo", "--json", "--say", "What is a lighthouse?", "--out", str(tmp_path)]
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]  # a chroot allows no new user namespace
    result = subprocess.run(
        ["unshare", "--net", *as_root, "sh", "-c", CUT, "sh", *demo],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"HOME": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    turn = json.loads(result.stdout.splitlines()[0])
    assert "lighthouse" in turn["heard"].lower()
    assert turn["source"] == "model"
    assert turn["reply_s"] > 0.5
