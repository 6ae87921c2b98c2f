"""Appends events for ever and prints the id of each that is durable, until it is killed.

`python -m tests.unit.device.cache.appender FILE FIRST`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .opened import event, opened


async def append(path: Path, number: int) -> None:
    async with opened(path, max_events=1_000_000) as cache:
        while True:
            durable = number % 3 != 0
            await cache.append(event(number, "help" if number % 7 == 0 else "turn", urgent=number % 7 == 0), durable)
            if number % 5 == 0:
                await cache.remember("used_s", number)
                await cache.log(1.0, "turn", {"n": number})
            if durable or number % 7 == 0:
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()
            number += 1


if __name__ == "__main__":
    asyncio.run(append(Path(sys.argv[1]), int(sys.argv[2])))
