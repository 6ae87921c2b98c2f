"""`pommai sim` as its user meets it: on a terminal, with the space bar as the button."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 40.0


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self._fd, theirs = pty.openpty()
        command = [sys.executable, "-m", "pommai", *args]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
        os.close(theirs)
        self.shown = ""

    def key(self, key: str) -> None:
        os.write(self._fd, key.encode())

    def until(self, pattern: str) -> None:
        """Read on until the screen shows `pattern`; what came before is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while (match := re.search(pattern, self.shown)) is None:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} never came; the screen showed: {self.shown[-500:]}"
            self.shown += os.read(self._fd, 4096).decode(errors="replace")
        self.shown = self.shown[match.end() :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal("sim", "--embedded")
    yield opened
    opened.close()


@pytest.mark.engines
def test_a_press_a_release_and_the_toy_answers(terminal: Terminal) -> None:
    terminal.until("idle")
    terminal.key(" ")
    terminal.until("listening")
    terminal.until("child.*Hello")  # it has said all
    terminal.key(" ")
    terminal.until("heard.*ello")
    terminal.until("speaking")
    terminal.until("idle")
    terminal.key("q")
    assert terminal.process.wait(10) == 0


def run_sim(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POMMAI_")}
    return subprocess.run(
        [sys.executable, "-m", "pommai", "sim", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=clean | env,
    )


def test_without_a_token_the_way_to_one_is_told() -> None:
    result = run_sim()
    assert result.returncode == 78
    assert "pommai relay token add" in result.stderr


def test_without_a_terminal_it_says_so() -> None:
    result = run_sim(POMMAI_RELAY_TOKEN="x")
    assert result.returncode == 71
    assert "needs a terminal" in result.stderr


def test_a_wrong_settings_file_names_every_problem(tmp_path: Path) -> None:
    config = tmp_path / "toy.toml"
    config.write_text('[relay]\nurll = "x"\n[timming]\n', encoding="utf-8")
    result = run_sim("--config", str(config))
    assert result.returncode == 78
    assert "did you mean 'url'" in result.stderr
    assert "did you mean 'timing'" in result.stderr
