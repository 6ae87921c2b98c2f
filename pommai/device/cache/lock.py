"""One daemon for one database: a second would say everything twice, and fight for the relay's token.

The lock is the kernel's (flock(2)) on an empty file beside the database, so it ends with the process, however that
ends. It is no lock on the database itself: that one is set aside when it is damaged, and `sqlite3 toy.db` may look into
it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from functools import cached_property
from pathlib import Path

from pommai.errors import StoreError

_log = logging.getLogger(__name__)

_MODE = 0o600


class InUseError(StoreError):
    """Another daemon of pommai uses the toy's database.

    Stop it (`systemctl stop pommai`), or give this one a cache.path and a control.socket of its own.
    """

    exit_code = 69  # EX_UNAVAILABLE


class Lock:
    """Taken with `take`, given back with `release`."""

    def __init__(self, database: Path) -> None:
        """Nothing is locked yet. Two paths to one file share a lock."""
        self._database = database
        self._descriptor: int | None = None
        self._is_possible = True

    @cached_property
    def _path(self) -> Path:
        """Looked for when it is needed: that asks the disk, which may hang."""
        real = Path(os.path.realpath(self._database))
        return real.with_name(f"{real.name}.lock")

    def take(self) -> None:
        """Have the lock from now on; a second time changes nothing. Raises InUseError.

        Where no lock can be made, as on a disk that is read-only, the toy lives without one: the log says so, once.
        """
        while self._descriptor is None:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
            except OSError as error:
                self._go_without(error)
                return
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise InUseError(f"another daemon uses {self._database}") from error
            except OSError as error:  # a file system that knows no locks
                os.close(descriptor)
                self._go_without(error)
                return
            if self._is_there(descriptor):
                self._descriptor = descriptor
            else:  # whoever had it has just removed it
                os.close(descriptor)

    def release(self) -> None:
        """Leave nothing behind. What is not locked stays as it is."""
        if self._descriptor is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:  # harmless: the next daemon takes it as it is
            _log.debug("the lock stays: %s", error.strerror)
        os.close(self._descriptor)
        self._descriptor = None

    def _is_there(self, descriptor: int) -> bool:
        """Whether the file behind `descriptor` is still the one that others would open."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _go_without(self, error: OSError) -> None:
        if self._is_possible:
            _log.warning("the cache has no lock, so that a second daemon would not be noticed: %s", error.strerror)
        self._is_possible = False
