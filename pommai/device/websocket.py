"""One WebSocket to the relay, opened, used and closed: the only importer of `websockets`.

Works with Debian bookworm's 10.4 (the older client) and everything since 13 (the asyncio client). The library's own log
is kept above DEBUG: there it would write the token of the handshake. Whatever fails is a ConnectError that says why.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, WebSocketException

from pommai.device.address import refusal
from pommai.device.settings import RelayLink
from pommai.errors import ConnectError
from pommai.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL


def _client() -> tuple[Callable[..., Any], str]:
    """The function that opens a connection, and its name for the headers that are added to the request."""
    try:
        return importlib.import_module("websockets.asyncio.client").connect, "additional_headers"
    except ImportError:
        return importlib.import_module("websockets.client").connect, "extra_headers"


_connect, _HEADERS = _client()

_log = logging.getLogger(__name__)
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.INFO)

OPEN_TIMEOUT_S: Final = 10.0
"""For DNS, TCP, TLS and the upgrade together."""

HEARTBEAT_S: Final = 15.0
"""A ping this often, and the same time for its pong: a dead network is noticed within 30 s."""

CLOSE_TIMEOUT_S: Final = 1.0


class WebSocket:
    """An open connection. Use `open_websocket` to get one, and `hang_up` when done."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, frame: str | bytes) -> None:
        """Send one frame; returns when the network has room for more. Raises ConnectError when it is gone."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed as error:
            raise ConnectError(f"the connection broke off ({_close_code(error)})") from error

    async def receive(self) -> str | bytes:
        """The next frame. Raises ConnectError when the connection is gone."""
        try:
            frame: str | bytes = await self._connection.recv()
        except ConnectionClosed as error:
            raise ConnectError(f"the connection broke off ({_close_code(error)})") from error
        return frame

    async def hang_up(self) -> None:
        """Close politely, unless the peer takes nothing any more: the library itself would wait for it much longer."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close()
        except TimeoutError:
            _log.info("uplink: the relay did not close in time")
        finally:
            self._connection.transport.abort()  # does nothing to one that is closed


async def open_websocket(relay: RelayLink, tls: ssl.SSLContext | None) -> WebSocket:
    """A new WebSocket, upgraded and of our subprotocol. Raises ConnectError with what is wrong and where to look."""
    options = {
        _HEADERS: {"Authorization": f"Bearer {relay.token.reveal()}"},
        "subprotocols": [SUBPROTOCOL],
        "compression": None,
        "max_size": MAX_MESSAGE_BYTES,
        "open_timeout": OPEN_TIMEOUT_S,
        "ping_interval": HEARTBEAT_S,
        "ping_timeout": HEARTBEAT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
        "logger": _library_log,
        "ssl": tls,
    }
    if "proxy" in inspect.signature(_connect).parameters:
        options["proxy"] = None  # since 15 a proxy of the environment would be used; a toy goes straight
    try:
        connection = await _connect(relay.url, **options)
    except (OSError, WebSocketException, EOFError) as error:
        raise ConnectError(refusal(error, _status(error), relay.url)) from error
    websocket = WebSocket(connection)
    if connection.subprotocol != SUBPROTOCOL:
        await websocket.hang_up()
        raise ConnectError(f"{relay.url} is no relay for toys: it does not speak {SUBPROTOCOL}")
    return websocket


def _status(error: Exception) -> int | None:
    """The HTTP status of a refused upgrade; 10.4 puts it on the error itself."""
    status: int | None = getattr(getattr(error, "response", error), "status_code", None)
    return status


def _close_code(error: ConnectionClosed) -> str:
    """The close code of the WebSocket, as far as the peer sent one."""
    received = getattr(error, "rcvd", None)
    return f"code {received.code}" if received is not None else "no close code"
