"""What is not about a turn, taken one after the other beside the turns, so that no turn waits for the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pommai.errors import RemoteProtocolError, StoreError
from pommai.relay.upkeep import Answerable, Upkeep

MAX_WAITING: Final = 16
"""Messages that may wait; beyond that the toy's next message waits too, so that no toy fills the memory."""

_log = logging.getLogger(__name__)


class Asides:
    """One task that feeds an `Upkeep`, for as long as the block lasts."""

    def __init__(self, upkeep: Upkeep, refused: Callable[[RemoteProtocolError], Awaitable[None]]) -> None:
        """`refused`: answers what the upkeep cannot take."""
        self._upkeep = upkeep
        self._refused = refused
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

    async def _work(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                if message is None:
                    await self._upkeep.look_again()
                else:
                    await self._upkeep.receive(message)
            except RemoteProtocolError as error:
                await self._refused(error)
            except StoreError:
                _log.exception("commands not read")
            except ConnectionError:
                _log.debug("toy gone")  # whoever reads from it meets that too
