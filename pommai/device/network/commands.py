"""What the relay tells the toy to do: obeyed once, answered always.

A command comes again at each welcome until the relay has its answer. So the ids of those that were obeyed are kept on
the disk; one that comes again is answered and not obeyed. They are obeyed in the order in which they come: what there
is no room for is refused for good, for obeyed later it would undo a newer one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from pommai.device.ports import ToSend
from pommai.errors import StoreError
from pommai.protocol import Command, CommandDone, ErrorCode
from pommai.wire import TOKEN

_log = logging.getLogger(__name__)

LEVELS: Final = ("volume", "brightness")
ACTIONS: Final = (*LEVELS, "pause", "resume", "play", "celebrate", "restart")

ONCE: Final = ("play", "celebrate", "restart")
"""Kept as obeyed before they are: should the power go in between, they are not obeyed a second time."""

KEPT_IDS: Final = 200
"""Commands that are remembered as obeyed, and as many as refused."""

MAX_WAITING: Final = 50
"""What comes while so many wait is refused."""

OBEY_S: Final = 30.0
"""For one command."""

KEY: Final = "commands.done"
"""Where the cache keeps the ids with their answers."""

Obey = Callable[[Command], Awaitable[ErrorCode | None]]
"""Does what a well-formed command says; why not, if it cannot be done."""


class Notebook(Protocol):
    """Small things to remember, as JSON. Raises StoreError."""

    @property
    def lasts(self) -> bool:
        """Whether what is remembered outlives the process."""

    async def recall(self, key: str) -> Any:
        """What was remembered under `key`; None if nothing was."""

    async def remember(self, key: str, value: Any, durable: bool = False) -> None:
        """Keep `value`; `durable`: on the disk before this returns."""


class Commands:
    """`run` works for as long as the toy lives: a command goes on being obeyed while the connection is gone."""

    def __init__(self, notebook: Notebook, send: Callable[[ToSend], None], obey: Obey) -> None:
        """`send`: onto the wire, or nowhere without a connection."""
        self._notebook = notebook
        self._send = send
        self._obey = obey
        self._waiting: dict[str, Command] = {}
        self._came = asyncio.Event()
        self._done: dict[str, ErrorCode | None] = {}
        self._refused: deque[str] = deque(maxlen=KEPT_IDS)

    def received(self, command: Command) -> None:
        """Have a command obeyed in its turn. One that waits already goes on waiting."""
        if not TOKEN.fullmatch(command.id):
            _log.warning("commands: one whose id is no token was ignored")
        elif command.id in self._refused or (len(self._waiting) == MAX_WAITING and command.id not in self._waiting):
            _log.warning("commands: too many at once, refused id=%s", command.id)
            self._refused.append(command.id)
            self._send(CommandDone(command.id, self._done.get(command.id, ErrorCode.UNAVAILABLE)))
        else:
            self._waiting.setdefault(command.id, command)
            self._came.set()

    async def run(self) -> None:
        """Obey until cancelled."""
        try:
            self._done = _read(await self._notebook.recall(KEY))
        except StoreError as error:
            _log.warning("commands: %s", error)
        while True:
            self._came.clear()
            while self._waiting:
                await self._take(self._waiting.pop(next(iter(self._waiting))))
            await self._came.wait()

    async def _take(self, command: Command) -> None:
        if command.id in self._done:
            self._answer(command.id)
            return
        code = problem_of(command)
        is_kept = code is None and command.action in ONCE and await self._keep(command.id, None)
        if code is None and command.action == "restart":
            await self._restart(command, is_kept)
            return
        if code is None:
            code = await self._obeyed(command)
        if code is not None or not is_kept:
            await self._keep(command.id, code)
        self._answer(command.id)

    async def _restart(self, command: Command, is_kept: bool) -> None:
        """Answered before it is obeyed, and only if that is kept: else it would come again afterwards, for ever."""
        if not is_kept:
            self._done[command.id] = ErrorCode.UNAVAILABLE
        self._answer(command.id)
        if is_kept:
            await self._obeyed(command)

    async def _obeyed(self, command: Command) -> ErrorCode | None:
        try:
            async with asyncio.timeout(OBEY_S):
                code = await self._obey(command)
        except TimeoutError:
            code = ErrorCode.TIMEOUT
        _log.info("commands: action=%s id=%s code=%s", command.action, command.id, code or "none")
        return code

    async def _keep(self, command_id: str, code: ErrorCode | None) -> bool:
        """Remember that a command is done; whether that outlives the process."""
        self._done[command_id] = code
        while len(self._done) > KEPT_IDS:
            del self._done[next(iter(self._done))]
        try:
            await self._notebook.remember(KEY, [list(item) for item in self._done.items()], durable=True)
        except StoreError as error:
            _log.warning("commands: %s", error)
            return False
        return self._notebook.lasts

    def _answer(self, command_id: str) -> None:
        self._send(CommandDone(command_id, self._done[command_id]))


def problem_of(command: Command) -> ErrorCode | None:
    """Why a command can be obeyed by no toy, if so."""
    if command.action not in ACTIONS:
        return ErrorCode.UNKNOWN_TYPE
    if command.action in LEVELS and (command.value is None or not 0.0 <= command.value <= 1.0):
        return ErrorCode.BAD_MESSAGE
    if command.action == "play" and not command.phrase:
        return ErrorCode.BAD_MESSAGE
    return None


def _read(kept: Any) -> dict[str, ErrorCode | None]:
    """Ids and answers as they were kept, oldest first; what is damaged is left out."""
    done: dict[str, ErrorCode | None] = {}
    for item in kept if isinstance(kept, list) else ():
        match item:
            case [str(command_id), None]:
                done[command_id] = None
            case [str(command_id), str(code)] if code in list(ErrorCode):
                done[command_id] = ErrorCode(code)
    return done
