"""A TCP connection to the relay's host, without the loop's own look-up of names.

The loop looks names up in its default executor, and `asyncio.run` waits at the end for every thread of that: a resolver
that hangs would hold up the end of the process. Here the look-up has a thread that nobody waits for.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As `socket.getaddrinfo` gives it."""

ADDRESS_S: Final = 2.5
"""For each address of a host but the last: one that takes no packets (often the IPv6 one) leaves time for the next."""


class Resolver:
    """Looks up names, one at a time: a look-up that hangs costs one thread, and is waited for again by the next one."""

    def __init__(self) -> None:
        self._running: tuple[tuple[str, int], asyncio.Future[list[Address]]] | None = None

    async def addresses(self, host: str, port: int, limit_s: float) -> list[Address]:
        """Where `host` can be reached, best first.

        Raises socket.gaierror: EAI_AGAIN if nobody can say within `limit_s`, and others for a name that is not known.
        """
        if self._running is None or self._running[0] != (host, port) or self._running[1].done():
            found: asyncio.Future[list[Address]] = asyncio.get_running_loop().create_future()
            found.add_done_callback(lambda each: each.exception())  # read, even if whoever asked has given up
            self._running = ((host, port), found)
            threading.Thread(target=_look_up, args=(host, port, found), name="pommai resolver", daemon=True).start()
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(self._running[1])
        except TimeoutError:  # of the look-up, and none of the relay's
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None


async def dial(addresses: Sequence[Address]) -> socket.socket:
    """A socket that is connected to one of a host's `addresses`. Raises OSError; the caller keeps the time."""
    for address in addresses[:-1]:
        with suppress(OSError):  # TimeoutError is one; the last address says what is wrong
            async with asyncio.timeout(ADDRESS_S):
                return await _connect(address)
    return await _connect(addresses[-1])


async def _connect(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, where)
    except (OSError, asyncio.CancelledError):
        connection.close()
        raise
    return connection


def _look_up(host: str, port: int, found: asyncio.Future[list[Address]]) -> None:
    """Fill `found` from a thread."""
    addresses: list[Address] = []
    error: OSError | None = None
    try:
        addresses += socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as caught:
        error = caught
    except UnicodeError:  # a name that cannot be one: an empty label, or one that is too long
        error = socket.gaierror(socket.EAI_NONAME, "not a host name")

    def tell() -> None:
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
        found.get_loop().call_soon_threadsafe(tell)
