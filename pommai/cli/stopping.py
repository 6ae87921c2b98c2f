"""Ctrl-C, `kill` and a closed terminal end a command in good order: what it holds is given back first."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from pommai.errors import PommaiError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


async def until_told(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. The first of `SIGNALS` cancels it, and leads to an exit with 128 + the signal's number.

    The next one ends the process at once. To be awaited in the main thread.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    before = signal.getsignal(signal.SIGINT)
    told: list[int] = []

    def release() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, before)

    def tell(number: int) -> None:
        told.append(number)
        release()
        if task is not None:
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, tell, number)
    try:
        return await work
    except (asyncio.CancelledError, PommaiError):
        if told:
            sys.exit(128 + told[0])
        raise
    finally:
        release()
