"""One WebSocket to the relay, opened, used and closed: the only importer of `websockets`.

Works with Debian bookworm's 10.4 (the older client) and everything since 13 (the asyncio client). The library's own log
is kept above DEBUG: there it would write the token of the handshake. Whatever fails is a ConnectError that says why.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import math
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, WebSocketException

from pommai.device.network.address import refusal
from pommai.device.network.dialing import Resolver, dial
from pommai.device.settings import RelayLink
from pommai.errors import ConnectError
from pommai.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL

_log = logging.getLogger(__name__)
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.INFO)

OPEN_TIMEOUT_S: Final = 10.0
"""For DNS, TCP, TLS and the upgrade together."""

CLOSE_TIMEOUT_S: Final = 1.0

LIBRARY_CLOSE_S: Final = 0.4
"""For one step of the library's own closing; version 10.4 takes up to three, also when we are told to stop."""


_RECEIVED_MS: Final = struct.Struct("=52x2I")
"""In Linux' `struct tcp_info`: milliseconds since the peer last sent data, and since its last acknowledgement."""


class DeadPeerError(ConnectError):
    """The relay takes or gives nothing any more.

    Nothing needs to be done: the toy tries again. If it stays, look at the network between the two.
    """


class _RedirectedError(WebSocketException):
    """The relay sent us elsewhere. A toy does not go there: its token is for the address that it was given."""

    status_code: Final = 302


def _refuse_redirect(connecting: object, uri: str) -> None:
    """In place of 10.4's way to follow a redirect."""
    raise _RedirectedError


def _keep_status(connecting: object, error: Exception) -> Exception:
    """In place of the newer way to follow a redirect: the refusal stays what it is."""
    return error


def _client() -> tuple[type[Any], str]:
    """The class that opens a connection, and its name for the headers that are added to the request."""
    try:
        connect, headers = importlib.import_module("websockets.asyncio.client").connect, "additional_headers"
    except ImportError:
        connect, headers = importlib.import_module("websockets.client").connect, "extra_headers"
    return type(
        "_Connect", (connect,), {"handle_redirect": _refuse_redirect, "process_redirect": _keep_status}
    ), headers


_Connect, _HEADERS = _client()


class WebSocket:
    """An open connection. Use `open_websocket` to get one, and `hang_up` when done.

    `heard_s`: when something last came from the peer, by the loop's clock.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._now = asyncio.get_running_loop().time
        self.heard_s = self._now()

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
        self.heard_s = self._now()
        return frame

    async def answers(self, limit_s: float) -> bool:
        """Ask the peer for a sign of life: whether anything at all came within `limit_s`.

        A frame counts as much as the pong: on a slow network that one has to wait behind the sound of a reply. Raises
        ConnectError when the connection is gone.
        """
        asked_s = self._now()
        try:
            async with asyncio.timeout(limit_s):
                pong = await self._connection.ping()
                await asyncio.shield(pong)  # it is the library's: 10.4 trips over one that was cancelled
        except TimeoutError:
            return self.heard_s > asked_s
        except ConnectionClosed as error:
            raise ConnectError(f"the connection broke off ({_close_code(error)})") from error
        self.heard_s = self._now()
        return True

    def silent_s(self) -> float | None:
        """Seconds since the peer's machine last sent anything, acknowledgements counted; None if nobody can say.

        It says so long before the peer's program does, on a network that is slow or loses packets.
        """
        connection = self._connection.transport.get_extra_info("socket")
        if connection is None or not hasattr(socket, "TCP_INFO"):  # not on Linux
            return None
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_MS.size)
        except OSError:  # closed meanwhile
            return None
        return float(min(_RECEIVED_MS.unpack(info))) / 1000

    def abort(self) -> None:
        """Cut the connection to a peer that takes nothing any more; `hang_up` is still to be called."""
        self._connection.transport.abort()

    async def hang_up(self) -> None:
        """Close politely, unless the peer takes nothing any more: the library itself would wait for it much longer."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close()
        except TimeoutError:
            _log.info("uplink: the relay did not close in time")
        finally:
            self.abort()  # does nothing to one that is closed


async def open_websocket(
    relay: RelayLink,
    tls: ssl.SSLContext | None,
    resolver: Resolver,
    clock_trusted: Callable[[], bool],
    *,
    limit_s: float = math.inf,
) -> WebSocket:
    """A new WebSocket, upgraded and of our subprotocol. Raises ConnectError with what is wrong and where to look.

    `clock_trusted`: whether the toy knows the time, by which it judges certificates; asked when one was refused.
    `limit_s`: for an attempt that is to give up sooner than after `OPEN_TIMEOUT_S`.
    """
    began_s, limit_s = asyncio.get_running_loop().time(), min(limit_s, OPEN_TIMEOUT_S)
    url = urlsplit(relay.url)
    host, port = url.hostname or "", url.port or (443 if tls else 80)
    options: dict[str, Any] = {
        _HEADERS: {"Authorization": f"Bearer {relay.token.reveal()}"},
        "subprotocols": [SUBPROTOCOL],
        "compression": None,
        "max_size": MAX_MESSAGE_BYTES,
        "open_timeout": limit_s,
        "ping_interval": None,  # the heartbeat is ours, see `session`
        "close_timeout": LIBRARY_CLOSE_S,
        "logger": _library_log,
    }
    if tls is not None:
        options |= {"ssl": tls, "server_hostname": host}
    if "proxy" in inspect.signature(_Connect).parameters:
        options["proxy"] = None  # since 15 a proxy of the environment would be used; a toy goes straight
    try:
        addresses = await resolver.addresses(host, port, limit_s)
        async with asyncio.timeout_at(began_s + limit_s):
            connection = await _Connect(relay.url, sock=await dial(addresses), **options)
    except (OSError, WebSocketException, EOFError) as error:
        why = refusal(error, _status(error), relay.url, clock_trusted=clock_trusted())
        raise ConnectError(why) from error
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
