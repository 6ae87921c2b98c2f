"""A loop whose clock jumps to the next timer whenever nothing else is to be done: real timers, no waiting."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing will ever happen: everybody waits for somebody else"
            self.now_s += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Not for real sockets that answer later, nor for threads: it would jump while they work."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def hold_up(self, seconds: float) -> None:
        """Something blocks the loop for so long."""
        self._jumping.now_s += seconds


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a `VirtualTimeLoop`, and fail it if it leaves a task behind."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def checked() -> None:
            await test(*args, **kwargs)
            await asyncio.sleep(0)
            leaked = asyncio.all_tasks() - {asyncio.current_task()}
            assert not leaked, f"tasks left behind: {leaked}"

        with asyncio.Runner(debug=True, loop_factory=VirtualTimeLoop) as runner:
            runner.run(checked())

    return run
