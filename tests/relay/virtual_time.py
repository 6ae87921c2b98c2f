"""An event loop whose clock jumps: a test of seconds takes milliseconds, and always takes the same course.

Time passes only when every task waits. A loop that waits for something that can never happen fails the test at once.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NothingWillHappenError(AssertionError):
    """Every task waits, and no timer will ever wake one."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the clock to where the wait would end."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise NothingWillHappenError("every task waits for ever")
        self.now_s += max(0.0, timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time, and fail if it leaves a task behind."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
        return runner.run(_nothing_left(main))


async def _nothing_left(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    return result


async def until(condition: Callable[[], bool], step_s: float = 0.01, at_most_s: float = 60.0) -> None:
    """Let virtual time pass until `condition()` holds."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + at_most_s
    while not condition():
        assert loop.time() < deadline_s, "it did not happen"
        await asyncio.sleep(step_s)
