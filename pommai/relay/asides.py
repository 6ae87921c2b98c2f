"""What is not about a turn, taken one after the other beside the turns, so that no turn waits for the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pommai.errors import StoreError
from pommai.protocol import CommandDone
from pommai.relay.upkeep import Answerable, Upkeep

MAX_WAITING: Final = 16
"""Messages that may wait; beyond that the toy's next message waits too, so that no toy fills the memory."""

LAST_S: Final = 1.0
"""For what a toy that has left still told us about its commands."""

_log = logging.getLogger(__name__)


class Asides:
    """One task that feeds an `Upkeep`, for as long as the block lasts."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._waiting: asyncio.Queue[Answerable | None] = asyncio.Queue(MAX_WAITING)
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._work(), name="asides")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._finish()
        finally:
            if self._task is not None:
                self._task.cancel()
            await self._group.__aexit__(kind, error, trace)

    async def put(self, message: Answerable) -> None:
        """Have a message answered in its turn; waits only if very many are waiting already."""
        await self._waiting.put(message)

    def look_again(self) -> None:
        """Have the toy's commands looked for; of a queue that is full, at the next time."""
        if not self._waiting.full():
            self._waiting.put_nowait(None)

    async def _finish(self) -> None:
        """Take in the last answers to commands: a toy that restarts answers first, and leaves at once.

        All the rest the toy asks for again, or sends again.
        """
        answers = [each for each in self._drained() if isinstance(each, CommandDone)]
        for answer in answers:
            self._waiting.put_nowait(answer)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._waiting.join()

    def _drained(self) -> Iterator[Answerable | None]:
        while not self._waiting.empty():
            yield self._waiting.get_nowait()
            self._waiting.task_done()

    async def _work(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                if message is None:
                    await self._upkeep.look_again()
                else:
                    await self._upkeep.receive(message)
            except StoreError as error:
                _log.error("commands not read: %s", error)
            except ConnectionError:
                _log.debug("toy gone")  # whoever reads from it meets that too
            finally:
                self._waiting.task_done()
