"""Whether the kernel's clock was set by the network (adjtimex(2)); any NTP client tells the kernel so."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Final

_TIMEX_BYTES: Final = 256
"""More than struct timex has on any architecture (208 on 64 bits); all zero, it asks and changes nothing."""

_TIME_ERROR: Final = 5
"""The clock is not synchronised (TIME_ERROR in sys/timex.h)."""


def is_synchronised() -> bool:
    """Whether the system's clock can be trusted; False also where nobody can say."""
    adjtimex = _adjtimex()
    if adjtimex is None:
        return False
    state = adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= state < _TIME_ERROR


@functools.cache
def _adjtimex() -> Callable[[object], int] | None:
    """The function of the C library, if there is one."""
    function: Callable[[object], int] | None = getattr(ctypes.CDLL(None), "adjtimex", None)
    return function
