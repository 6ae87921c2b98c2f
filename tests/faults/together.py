"""Several independent scenarios at once, for most of what a fault test does is wait; and what a busy machine blurs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

ONLY: Final = os.environ.get("POMMAI_SCENARIO", "")
"""The one scenario to run, for whoever looks for its fault: `POMMAI_SCENARIO=slow make test ARGS=…`."""

ATTEMPTS: Final = 3


async def together(**scenarios: Coroutine[object, object, None]) -> None:
    """Run them all to their ends; those that failed are named, and raised together."""
    if ONLY:
        for name in scenarios.keys() - {ONLY}:
            scenarios.pop(name).close()
        assert scenarios, f"no scenario of this test is called {ONLY}"
    names = list(scenarios)
    results = await asyncio.gather(*scenarios.values(), return_exceptions=True)
    failed: list[Exception] = []
    for name, result in zip(names, results, strict=True):
        if isinstance(result, Exception):
            result.add_note(f"the scenario was: {name}")
            failed.append(result)
        elif result is not None:
            raise result
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise ExceptionGroup("several scenarios failed", failed)


async def at_best(most_ms: float, attempt: Callable[[], Awaitable[float]]) -> None:
    """`attempt` measures `most_ms` at most, once in three: a busy machine is late at times, a bad toy always is."""
    measured: list[float] = []
    while len(measured) < ATTEMPTS:
        measured.append(await attempt())
        if measured[-1] <= most_ms:
            return
    raise AssertionError(f"never within {most_ms} ms: {measured}")
