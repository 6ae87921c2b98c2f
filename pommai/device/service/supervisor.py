"""systemd as the daemon's supervisor: what it is told, what it orders, and its journal; the only importer of `systemd`.

Where nobody supervises (a terminal, a test), nothing is told and the library is not needed. See sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from pommai.errors import MissingExtra

_log = logging.getLogger(__name__)

FEEDS: Final = 3
"""The watchdog is fed so many times in the time after which it bites."""

MAX_STATUS_CHARS: Final = 200
"""What `systemctl status` shows well."""

Notify = Callable[[str], object]
"""Hands one message of sd_notify(3) over. Raises OSError if nobody takes it."""


class Supervisor:
    """Tells systemd how the daemon is. Nothing here fails: a supervisor that does not listen is for the log, once."""

    def __init__(
        self, notify: Notify | None, watchdog_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`notify`: None where nobody supervises. `watchdog_s`: systemd restarts what it has not heard of for so long.

        `clock`: seconds of CLOCK_MONOTONIC.
        """
        self._notify = notify
        self._clock = clock
        self._feed_every_s = watchdog_s / FEEDS
        self._fed_s = float("-inf")
        self._status = ""
        self._is_heard = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The supervisor that started this process. Raises MissingExtra if there is one and its library is not."""
        if not environ.get("NOTIFY_SOCKET"):
            return cls(None)
        try:
            from systemd.daemon import notify
        except ImportError as error:
            raise MissingExtra(
                "the package systemd is not installed, and systemd waits to be told (Debian: python3-systemd)",
                remedy="Install python3-systemd, or run pommaid outside systemd.",
            ) from error
        return cls(notify, _watchdog_s(environ))

    def ready(self) -> None:
        """The toy is up; or, after `reloading`, goes on with its new settings."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """One line for people, in `systemctl status`; told only when it changes."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={' '.join(text.split())[:MAX_STATUS_CHARS]}")

    def alive(self) -> None:
        """Feed the watchdog if it is time; to be called by the toy's own loop, and by nobody else."""
        if not self._feed_every_s:
            return
        now_s = self._clock()
        if now_s - self._fed_s >= self._feed_every_s:
            self._fed_s = now_s
            self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """The settings are being read again; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock() * 1_000_000)}")

    def stopping(self) -> None:
        """The daemon ends."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if self._notify is None:
            return
        try:
            self._notify(message)
        except OSError as error:
            if self._is_heard:
                _log.warning("supervisor: systemd cannot be told anything: %s", error.strerror)
            self._is_heard = False
        else:
            self._is_heard = True


def journal(environ: Mapping[str, str], stderr: int) -> logging.Handler | None:
    """A handler that writes to systemd's journal, if `stderr` (a file descriptor) leads there; else None.

    A journal that is not stderr's is not ours: `$JOURNAL_STREAM` is inherited by all that a service starts.
    """
    device, colon, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not colon:
        return None
    try:
        file = os.fstat(stderr)
        from systemd.journal import JournalHandler
    except (OSError, ImportError):  # closed; or no library: systemd carries stderr to the journal line by line
        return None
    if (str(file.st_dev), str(file.st_ino)) != (device, inode):
        return None
    fields: dict[str, Any] = {"SYSLOG_IDENTIFIER": "pommaid"}
    handler: logging.Handler = JournalHandler(**fields)
    return handler


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """`$WATCHDOG_USEC` in seconds, if it is meant for this process; 0.0 for no watchdog. See sd_watchdog_enabled(3)."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0, int(environ.get("WATCHDOG_USEC", "0"))) / 1_000_000
    except ValueError:
        return 0.0


def heed(numbers: Sequence[signal.Signals], told: Callable[[signal.Signals], object]) -> None:
    """Have `told` called with each signal of `numbers`, in a thread of its own: also while the main thread hangs.

    Python's own handlers wait for the main thread; what it writes to its wakeup descriptor does not (see
    `signal.set_wakeup_fd`). To be called in the main thread, once in the life of a process.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, _nothing_more)

    def listen() -> None:
        with reading:
            while byte := reading.recv(1):
                if byte[0] in numbers:
                    told(signal.Signals(byte[0]))

    threading.Thread(target=listen, name="pommai-signals", daemon=True).start()


def _nothing_more(number: int, frame: object) -> None:
    """The thread has been told already."""
