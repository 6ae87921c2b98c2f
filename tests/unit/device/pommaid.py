"""The daemon as a process of its own: started with settings, asked at its socket, ended by signals."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pommai.cli.device_session import ask

PATIENCE_S = 30.0

START = "from pommai.device.daemon import main; main()"


def settings(folder: Path, **sections: Mapping[str, object]) -> Path:
    """A settings file for a virtual toy in `folder`, with changes: `settings(folder, sound={"volume": 0.3})`."""
    tables: dict[str, dict[str, object]] = {
        "relay": {"url": "ws://127.0.0.1:9/v1/toy"},
        "button": {"kind": "virtual"},
        "sound": {"kind": "virtual"},
        "cache": {"path": str(folder / "toy.db")},
        "control": {"socket": str(folder / "control.sock")},
    }
    for section, values in sections.items():
        tables.setdefault(section, {}).update(values)
    lines = []
    for section, values in tables.items():
        lines.append(f"[{section}]")
        lines += [
            f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for name, value in values.items()
        ]
    file = folder / "device.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


async def beside(call: Callable[[], None]) -> None:
    """Run `call` in a thread while this loop goes on, and leave no thread behind."""
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, call)


class Pommaid:
    """A daemon; `log` is what it said on stderr so far. Use it as `with Pommaid(folder) as toy`."""

    def __init__(
        self, folder: Path, *, env: Mapping[str, str] | None = None, before: str = "", args: tuple[str, ...] = ()
    ) -> None:
        """`before`: Python that runs before the daemon's own code. Without `settings(folder)`, makes it."""
        self.file = folder / "device.toml"
        if not self.file.exists():
            settings(folder)
        self.socket = folder / "control.sock"
        self.log = ""
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = folder / "notify"
        notify.unlink(missing_ok=True)
        self._notified.bind(str(notify))
        self._notified.settimeout(PATIENCE_S)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POMMAI_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{START}", "--config", str(self.file), *args],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean | {"NOTIFY_SOCKET": str(notify), "POMMAI_RELAY_TOKEN": "a-token-for-tests"} | dict(env or {}),
            cwd=folder,
        )

    def __enter__(self) -> Self:
        self.until(r"ready, ms=")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def until(self, pattern: str) -> None:
        """Read the log on until it holds `pattern`."""
        while not re.search(pattern, self.log):
            assert self._read(), f"{pattern!r} was never logged; the log: {self.log}"

    def told(self) -> str:
        """The next message to the supervisor."""
        return self._notified.recv(4096).decode()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer at the control socket."""
        return ask(self.socket, do, **request)

    def status_when(self, state: str) -> dict[str, Any]:
        """The status, as soon as the toy is in this state."""
        deadline = time.monotonic() + PATIENCE_S
        while (status := self.ask("status"))["state"] != state:
            assert time.monotonic() < deadline, f"never {state}: {status}"
        return status

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Tell it to end; the exit code, and the seconds that it took."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        code = self.wait()
        return code, time.monotonic() - began_s

    def wait(self) -> int:
        """The exit code, once it has ended; the whole log is in `log` then."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End whatever is still there."""
        self.process.kill()
        self.process.wait()
        self._notified.close()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _read(self) -> bool:
        assert self.process.stderr is not None
        ready, _, _ = select.select([self.process.stderr], [], [], PATIENCE_S)
        piece = os.read(self.process.stderr.fileno(), 65_536) if ready else b""
        self.log += piece.decode()
        return bool(piece)
