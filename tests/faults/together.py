"""Several independent scenarios at once: most of what a fault test does is wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def together(**scenarios: Coroutine[object, object, None]) -> None:
    """Run them all to their ends; those that failed are named, and raised together."""
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
