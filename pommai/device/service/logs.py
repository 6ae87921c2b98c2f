"""The daemon's log: to the journal with fields of its own, or plainly to stderr; what repeats is held back.

Every line is a static text with `turn= ms= code=` and the like, and never a child's words. In the journal these become
fields: `journalctl -u pommai POMMAI_TURN=12`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from pommai.device.service import supervisor
from pommai.protocol import Value

PER_MINUTE: Final = 12
"""How often one and the same INFO may be logged in a minute: an SD card wears out, and nobody reads more."""

LOGBOOK: Final = "pommai.device.service.keeping"
"""The logger of those who keep."""

AGAIN_S: Final = 600.0
"""How often one and the same warning is kept in the toy's own ring."""

_MINUTE_S: Final = 60.0
_FIELD: Final = re.compile(r"\b([a-z][a-z_]{0,30})=([^\s,;]{1,64})")


class HoldBack(logging.Filter):
    """Lets no INFO (or less) through more than `PER_MINUTE` times; the next one says how many it stands for.

    Warnings and errors always pass. Two lines are the same if the same statement logs them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, int], deque[float]] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        if record.levelno > logging.INFO:
            return True
        statement, now_s = (record.pathname, record.lineno), self._clock()
        passed = self._passed.setdefault(statement, deque(maxlen=PER_MINUTE))
        if len(passed) == PER_MINUTE and now_s - passed[0] < _MINUTE_S:
            self._held_back[statement] = self._held_back.get(statement, 0) + 1
            return False
        passed.append(now_s)
        if more := self._held_back.pop(statement, 0):
            record.msg = f"{record.msg} (and {more} more like this)"
        return True


class Fields(logging.Filter):
    """Gives each `name=value` of a line to the journal as a field of its own: `POMMAI_NAME=value`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        for name, value in _FIELD.findall(record.getMessage()):
            record.__dict__.setdefault(f"POMMAI_{name.upper()}", value)
        return True


class Kept(logging.Handler):
    """Hands warnings on to be kept: where each came from and how bad it is, without its text.

    The same statement counts once in `AGAIN_S`: a night without a network would fill the ring with one and the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, write: Callable[[str, Mapping[str, Value]], None]) -> None:
        super().__init__(logging.WARNING)
        self._loop = loop
        self._write = write
        self._kept_s: dict[tuple[str, int], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See logging; any thread may log."""
        if record.name == LOGBOOK:
            return  # what it cannot keep would be one more thing to keep
        statement = (record.pathname, record.lineno)
        if abs(record.created - self._kept_s.get(statement, 0.0)) < AGAIN_S:  # a clock may be set back
            return
        self._kept_s[statement] = record.created
        data = {"from": f"{record.name.removeprefix('pommai.')}:{record.lineno}"[-64:], "level": record.levelname}
        with suppress(RuntimeError):  # the loop is closed: the toy has ended
            self._loop.call_soon_threadsafe(self._write, "log", data)


@contextmanager
def kept_log(loop: asyncio.AbstractEventLoop, write: Callable[[str, Mapping[str, Value]], None]) -> Iterator[None]:
    """Inside the block, `write` is called in the loop for each warning of pommai's."""
    kept = Kept(loop, write)
    ours = logging.getLogger("pommai")
    ours.addHandler(kept)
    try:
        yield
    finally:
        ours.removeHandler(kept)


def start_logging(environ: Mapping[str, str], stderr: int = 2) -> None:
    """Log everything that pommai says, and the warnings of libraries, to where `stderr` (a file descriptor) leads."""
    handler = supervisor.journal(environ, stderr)
    if handler is not None:
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.addFilter(Fields())
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    handler.addFilter(HoldBack())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("pommai").setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk behind stderr must not fill the log with itself
