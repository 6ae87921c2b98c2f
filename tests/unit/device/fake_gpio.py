"""The pins of a Raspberry Pi for tests: `tests/shims/RPi` in this process, or in another one through its socket."""

from __future__ import annotations

import importlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

SHIMS = Path(__file__).parents[2] / "shims"
"""Goes in front on PYTHONPATH of a process that is to have these pins."""

PATIENCE_S = 10.0


@contextmanager
def pins(monkeypatch: pytest.MonkeyPatch, fails: str = "") -> Iterator[Any]:
    """Put a fresh `RPi.GPIO` in place of any real one, and check at the end that nothing is left running in it.

    `fails`: what POMMAI_FAKE_GPIO_FAILS may hold. If that fails the import, nothing is handed over.
    """
    with monkeypatch.context() as patch:
        patch.syspath_prepend(SHIMS)
        patch.setenv("POMMAI_FAKE_GPIO_FAILS", fails)
        patch.delenv("POMMAI_FAKE_GPIO", raising=False)
        for name in [name for name in sys.modules if name.partition(".")[0] == "RPi"]:
            patch.delitem(sys.modules, name)
        try:
            module = importlib.import_module("RPi.GPIO")
        except (RuntimeError, OSError):
            module = None
        yield module
        if module is not None:
            assert module.fake.callback_errors == []
            assert module.fake.read() == {"duty": {}, "level": {}}, "pins were not given back"
        for name in [name for name in sys.modules if name.partition(".")[0] == "RPi"]:
            del sys.modules[name]  # put back are only those that were there before


class RemotePins:
    """The pins of another process, which was started with POMMAI_FAKE_GPIO set to `path`; use it with `with`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Wait until the process has its pins."""
        deadline_s = time.monotonic() + PATIENCE_S
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        while self._socket.connect_ex(str(self._path)):
            assert time.monotonic() < deadline_s, "the process has not imported RPi.GPIO"
            time.sleep(0.01)
        self._lines = self._socket.makefile("rb")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lines.close()
        self._socket.close()

    def press(self, pin: int = 17, *, bounces: int = 0) -> None:
        """Push the button down; returns when the process's library has told of it."""
        self._order(do="press", pin=pin, bounces=bounces)

    def release(self, pin: int = 17, *, bounces: int = 0) -> None:
        """Let it up again."""
        self._order(do="release", pin=pin, bounces=bounces)

    def duties(self) -> dict[int, float]:
        """Percent of the time that each output is high."""
        return {int(pin): duty for pin, duty in self._order(do="read")["duty"].items()}

    def switch(self, **switches: bool) -> None:
        """Turn switches of the fake on and off: lossy, late, unreadable."""
        self._order(do="set", **switches)

    def _order(self, **order: object) -> dict[str, Any]:
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._lines.readline())
        assert "error" not in answer, answer["error"]
        return answer
