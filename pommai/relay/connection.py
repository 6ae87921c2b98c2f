"""One toy's WebSocket: frames in, messages out, and every way in which that can go wrong.

What cannot be read is answered with an error code and the connection lives; ten such messages in a minute close it
with 1008. Two sizes are too large: up to four times `MAX_MESSAGE_BYTES` a message is read and answered `too_large`;
beyond that it is not even read, because nobody should be able to fill the memory, and the connection ends with 1009.

Memory is bounded for a toy that reads slowly, too: aiohttp waits once some 64 KiB are unsent, a send that waits longer
than `SEND_S` drops the connection, and so does the kernel (`TCP_USER_TIMEOUT`) if the toy takes nothing at all.
"""

from __future__ import annotations

import asyncio
import logging
import socket as tcp
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from pommai.errors import RemoteProtocolError
from pommai.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL, Binary, ErrorCode, Hello, ToToy
from pommai.relay.asides import Asides
from pommai.relay.auth import SlidingWindow
from pommai.relay.conversation import Conversation
from pommai.relay.metrics import Metrics
from pommai.relay.ports import ToyToken
from pommai.relay.upkeep import Answerable, Upkeep
from pommai.relay.visit import Send, Visit
from pommai.wire import decode, encode

HELLO_S: Final = 10.0
SEND_S: Final = 10.0
CLOSE_S: Final = 2.0
HEARTBEAT_S: Final = 15.0
"""A ping after so much silence; a toy that sends nothing for half as long again is cut off, within 25 s in all."""
UNREAD_MS: Final = 30_000

LEAVING: Final = frozenset({WSCloseCode.OK, WSCloseCode.GOING_AWAY})
"""The close codes of a toy that leaves of its own will; with any other, and with none, it was cut off."""

MAX_BAD_MESSAGES: Final = 10
BAD_WINDOW_S: Final = 60.0
READ_LIMIT_BYTES: Final = 4 * MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)


def new_socket() -> web.WebSocketResponse:
    """A WebSocket as every toy gets it: uncompressed, watched, and capped."""
    return web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        heartbeat=HEARTBEAT_S,
        compress=False,  # Opus does not shrink any further
        max_msg_size=READ_LIMIT_BYTES,
        timeout=CLOSE_S,
    )


class ToyConnection:
    """Serves one toy over one prepared socket. `serve` belongs to the request's task; any other may call the rest."""

    def __init__(
        self,
        token: ToyToken,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        begin: Callable[[Send], tuple[Visit, Upkeep]],
        metrics: Metrics,
    ) -> None:
        """`token`: what let the toy in. `begin`: makes the two that take its messages around the given `Send`."""
        self.token = token
        self._toy = token.toy
        self._socket = socket
        self._transport = transport
        self._metrics = metrics
        self._now = asyncio.get_running_loop().time
        self._visit, upkeep = begin(self._send)
        self._asides = Asides(upkeep)
        self._bad = SlidingWindow(MAX_BAD_MESSAGES, BAD_WINDOW_S)
        self._limit: asyncio.Timeout | None = None
        self._end_code: int | None = None
        self._gone = asyncio.Event()
        _drop_if_unread(transport)

    async def serve(self) -> None:
        """Talk with the toy until either side leaves; afterwards the socket is closed and nothing is sent any more.

        A turn in flight ends with it, unless the toy was cut off and may resume it.
        """
        code: int = WSCloseCode.INTERNAL_ERROR
        try:
            async with self._visit, self._asides:
                code = await self._talk()
        finally:
            await self._close(code)
            self._gone.set()

    @property
    def outdated(self) -> bool:
        """See `Visit.outdated`."""
        return self._visit.outdated

    @property
    def conversation(self) -> Conversation | None:
        """See `Visit.conversation`."""
        return self._visit.conversation

    def let_go(self) -> None:
        """The toy was cut off, or has another connection: it may go on there with its conversation.

        Not so if we have told it goodbye, or are about to: then its conversation ends here.
        """
        if self._end_code is None:
            self._visit.let_go()

    def look_again(self) -> None:
        """Have the toy's commands looked for again, for they come from other processes."""
        self._asides.look_again()

    async def leave(self, code: ErrorCode, *, grace_s: float, retry_after_s: float) -> None:
        """Say goodbye and close with 1001; a turn in flight may end within `grace_s` seconds. Raises nothing."""
        if self._end_code is None:
            self._end_code = WSCloseCode.GOING_AWAY
            with suppress(ConnectionError):
                await self._visit.close(code, grace_s=grace_s, retry_after_s=retry_after_s)
            self._stop_talking()
        await self._gone.wait()

    def _stop_talking(self) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._now())

    async def _talk(self) -> int:
        """Take frames until the connection is to be closed; the code to close it with.

        One time limit serves two ends: the toy must greet before it, and whoever else ends the talk moves it to now.
        The socket is closed by the task that reads it: from another one aiohttp would not await the toy's answer.
        """
        try:
            async with asyncio.timeout(HELLO_S) as self._limit:
                return await self._take_frames()
        except TimeoutError:
            if self._end_code is not None:
                return self._end_code
            _log.info("no hello toy=%s", self._toy)
            return WSCloseCode.POLICY_VIOLATION
        finally:
            self._limit = None

    async def _take_frames(self) -> int:
        while True:
            frame = await self._socket.receive()
            if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return self._ended(frame)
            try:
                if await self._take(frame.data) and self._limit is not None and self._end_code is None:
                    self._limit.reschedule(None)
            except RemoteProtocolError as error:
                await self._refused(error)
                if self._end_code == WSCloseCode.POLICY_VIOLATION:
                    return self._end_code
            except ConnectionError:
                self.let_go()
                return WSCloseCode.GOING_AWAY
            if self._visit.closed and self._end_code is None:
                return WSCloseCode.PROTOCOL_ERROR

    async def _take(self, frame: str | bytes) -> bool:
        """Act on one frame; whether it was the toy's hello."""
        self._metrics.received(len(frame))
        message = decode(frame)
        aside = await self._visit.receive(message)
        if isinstance(aside, Answerable):
            await self._asides.put(aside)
        if not isinstance(message, Hello):
            return False
        _log.info("toy says hello toy=%s firmware=%s", self._toy, message.firmware)  # a token, so it may be logged
        if not self._visit.closed:
            self._asides.look_again()
        return True

    async def _refused(self, error: RemoteProtocolError) -> None:
        """Answer a message that could not be read or was not allowed; too many of them end the connection."""
        self._metrics.failed(error.code)
        _log.info("message refused toy=%s code=%s", self._toy, error.code)
        with suppress(ConnectionError):  # whoever reads from the toy meets it too
            await self._visit.refuse(ErrorCode(error.code))
        if self._bad.add(self._now()) and self._end_code is None:
            _log.warning("too many bad messages toy=%s", self._toy)
            self._end_code = WSCloseCode.POLICY_VIOLATION
            self._stop_talking()

    def _ended(self, frame: WSMessage) -> int:
        """The toy has left or was cut off, or broke the rules of WebSocket; aiohttp has answered that already."""
        if isinstance(frame.data, WebSocketError):
            too_large = frame.data.code == WSCloseCode.MESSAGE_TOO_BIG
            code = ErrorCode.TOO_LARGE if too_large else ErrorCode.BAD_MESSAGE
            self._metrics.failed(code)
            _log.info("connection refused by its frames toy=%s code=%s", self._toy, code)
            return frame.data.code
        if frame.type is not WSMsgType.CLOSE or frame.data not in LEAVING:
            self.let_go()
        return WSCloseCode.OK

    async def _send(self, message: ToToy | Binary) -> None:
        """Put one message on the wire. Raises ConnectionError for a toy that is gone, or does not read."""
        frame = encode(message)
        try:
            async with asyncio.timeout(SEND_S):
                if isinstance(frame, bytes):
                    await self._socket.send_bytes(frame)
                else:
                    await self._socket.send_str(frame)
        except TimeoutError:
            _log.warning("toy does not read toy=%s", self._toy)
            self._transport.abort()
            raise ConnectionAbortedError("the toy does not read") from None
        self._metrics.sent(len(frame))

    async def _close(self, code: int) -> None:
        """Close the socket, politely if the toy answers in time."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * CLOSE_S):  # aiohttp's own limit does not cover what is unsent
                    await self._socket.close(code=code)
        finally:
            if not self._transport.is_closing() or self._transport.get_write_buffer_size():
                self._transport.abort()


def _drop_if_unread(transport: asyncio.Transport) -> None:
    """Have the kernel drop the connection if the toy leaves data unacknowledged, or its window closed, for too long."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(tcp, "TCP_USER_TIMEOUT"):  # Linux
        connection.setsockopt(tcp.IPPROTO_TCP, tcp.TCP_USER_TIMEOUT, UNREAD_MS)
