"""Commands as processes of their own, which is how they are interrupted, redirected and robbed of their packages."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 40.0


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without any setting of pommai, and with `changes`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("POMMAI_")} | changes


def command(*args: str) -> list[str]:
    """`pommai` with these arguments."""
    return [sys.executable, "-m", "pommai", *args]


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command with no standard input, run to its end."""
    return subprocess.run(
        command(*args),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env=environment(**(env or {})),
    )


def shadow(folder: Path, module: str, code: str) -> dict[str, str]:
    """An environment in which `import module` runs `code`, and nothing else."""
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *args: str, env: dict[str, str] | None = None) -> None:
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command(*args),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            close_fds=True,
            start_new_session=True,
            env=environment(**(env or {})),
        )
        os.close(theirs)
        self.shown = ""
        self._is_open = True

    def key(self, key: str) -> None:
        """Press a key."""
        os.write(self._fd, key.encode())

    def until(self, pattern: str) -> None:
        """Read on until the screen shows `pattern`; what came before is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while (match := re.search(pattern, self.shown)) is None:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} never came; the screen showed: {self.shown[-500:]}"
            self.shown += os.read(self._fd, 4096).decode(errors="replace")
        self.shown = self.shown[match.end() :]

    def rest(self) -> str:
        """What is still shown until the command ends and lets the terminal go."""
        while True:
            try:
                piece = os.read(self._fd, 4096)
            except OSError:  # EIO: nobody has the other side open any more
                return self.shown
            self.shown += piece.decode(errors="replace")

    def shut(self) -> None:
        """Close the window."""
        if self._is_open:
            os.close(self._fd)
        self._is_open = False

    def close(self) -> None:
        """End whatever is still there."""
        self.process.kill()
        self.process.wait()
        self.shut()
