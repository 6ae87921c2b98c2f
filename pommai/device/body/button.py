"""The real button, at a pin of its own.

Enter it before the loop runs, or in a thread: RPi.GPIO 0.7.1 on Linux 6.6 and later looks for one second before it says
that it cannot detect edges. Edges come from a thread of the library and are handed over through the loop. Bounces are
none of our business: `gestures` debounces.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from pommai.device.body.gpio import explained, failures, open_gpio, reason, refuse_busy, tolerating
from pommai.device.settings import ButtonSettings
from pommai.errors import HardwareError

_log = logging.getLogger(__name__)

POLL_S: Final = 0.015
"""How often the button is read where its edges cannot be detected."""

RECHECK_S: Final = 0.02
"""The button is read again this long after the last edge: the contact may have moved before its edge was read."""

BACKSTOP_S: Final = 0.25
"""The button is read this often anyway: no lost edge can leave it down for longer."""

MAX_EDGES: Final = 64
"""Edges that may wait for the loop; of a noisier line the oldest are forgotten."""


class GpioButton:
    """See `ports.Button`; use it as `with GpioButton(settings) as button`, once.

    A button that is down when watching begins counts as up until it has come up once: something lies on the toy, or a
    wire is broken. A pin that cannot be read counts as up, and the log says so.
    """

    def __init__(self, settings: ButtonSettings) -> None:
        self._settings = settings
        self._gpio: Any = None
        self._detects_edges = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_edge: Callable[[bool, float], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()  # keeps the library's thread out of a pin that is being given back
        self._edges: deque[tuple[bool, float]] = deque(maxlen=MAX_EDGES)
        self._collecting = False
        self._readable = True
        self._was_up = False
        self._down = False  # as told last
        self._told_ms = float("-inf")

    def __enter__(self) -> Self:
        gpio, pin = open_gpio(), self._settings.pin
        pull = {"up": gpio.PUD_UP, "down": gpio.PUD_DOWN, "off": gpio.PUD_OFF}[self._settings.pull]
        with explained(gpio, "button.pin", f"button.pin {pin}"):
            refuse_busy(gpio, pin)
            gpio.setup(pin, gpio.IN, pull_up_down=pull)
        self._gpio = gpio
        try:
            gpio.add_event_detect(pin, gpio.BOTH, callback=self._moved)
        except failures(gpio) as error:
            _log.warning(
                "button: edges cannot be detected (rpi-lgpio can), so it is polled, ms=%d code=%s",
                POLL_S * 1000,
                reason(error),
            )
        else:
            self._detects_edges = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._loop = self._on_edge = None
        if self._timer is not None:
            self._timer.cancel()
        with tolerating(self._gpio):
            if self._detects_edges:
                self._gpio.remove_event_detect(self._settings.pin)
            self._gpio.cleanup(self._settings.pin)

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """See `ports.Button`. Times are those of the loop's clock. Raises HardwareError if it is watched already."""
        if self._gpio is None or self._on_edge is not None:
            raise HardwareError("the button is watched already, or its pin is not open")
        self._on_edge = on_edge
        self._was_up = not self._is_down()
        self._loop = asyncio.get_running_loop()
        self._look_again(self._loop)

    def _moved(self, _pin: int) -> None:
        """The library's callback, in its thread."""
        at_ms = time.monotonic() * 1000
        with self._lock:
            if self._loop is None:
                return
            self._edges.append((self._is_down(), at_ms))
            if not self._collecting:
                self._collecting = True
                with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        """Tell of the edges that wait; after the last one the button is read again."""
        self._collecting = False
        if self._loop is None:
            return
        self._look_again(self._loop, RECHECK_S)
        while self._edges:
            self._tell(*self._edges.popleft())

    def _look(self) -> None:
        """Read the button without an edge, when it has come to rest."""
        if self._loop is None or self._collecting:  # what waits is older, and looks again by itself
            return
        down, at_ms = self._is_down(), self._loop.time() * 1000
        self._look_again(self._loop)
        self._was_up = self._was_up or not down
        self._tell(down, at_ms)

    def _look_again(self, loop: asyncio.AbstractEventLoop, soon_s: float = BACKSTOP_S) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(soon_s if self._detects_edges else POLL_S, self._look)

    def _tell(self, down: bool, at_ms: float) -> None:
        if self._on_edge is None or not self._was_up or down == self._down:
            return
        self._down = down
        self._told_ms = max(self._told_ms, at_ms)  # its edge may come after a reading that saw it
        self._on_edge(down, self._told_ms)

    def _is_down(self) -> bool:
        try:
            level = bool(self._gpio.input(self._settings.pin))
        except failures(self._gpio) as error:
            if self._readable:
                _log.warning("button: it cannot be read and counts as up, code=%s", reason(error))
            self._readable = False
            return False
        self._readable = True
        return level != self._settings.active_low
