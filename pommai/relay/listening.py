"""Where the relay listens: addresses, TLS, and what is refused before anything is loaded."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path
from typing import Final

from pommai.errors import AddressError, ConfigError
from pommai.protocol import PATH
from pommai.relay.auth import is_loopback
from pommai.relay.settings import ServerSettings
from pommai.schema import Problem

BACKLOG: Final = 128

SEND_BUFFER_BYTES: Final = 65_536
"""What the kernel keeps for a toy that reads slowly (Linux doubles it): half a minute of speech, not megabytes."""


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context for TLS, or None for plain `ws`. Raises ConfigError with every problem."""
    if problems := tls_problems(settings):
        raise ConfigError([str(problem) for problem in problems])
    return _context(settings) if settings.tls_cert else None


def tls_problems(settings: ServerSettings) -> list[Problem]:
    """What keeps the relay from being safe where it listens.

    Plain `ws` is refused on any address that other machines can reach, unless the owner insists: whoever listens on
    the way would hear the child.
    """
    if not settings.tls_cert and not settings.tls_key:
        if settings.insecure or settings.host == "localhost" or is_loopback(settings.host):
            return []
        what = (
            f"is {settings.host!r}, which other machines can reach, and there is no TLS: set server.tls_cert and "
            "server.tls_key, or server.insecure = true on a network you trust"
        )
        return [Problem(("server.host", "server.tls_cert", "server.tls_key", "server.insecure"), what)]
    problems = [
        problem
        for name, path, other in (
            ("server.tls_cert", settings.tls_cert, "server.tls_key"),
            ("server.tls_key", settings.tls_key, "server.tls_cert"),
        )
        if (problem := _file_problem(name, path, other)) is not None
    ]
    if problems:
        return problems
    try:
        _context(settings)
    except ssl.SSLError as error:
        return [_pair_problem(settings, error)]
    return []


def _file_problem(name: str, path: str, other: str) -> Problem | None:
    """Why a PEM file cannot be used; None if it can be read. `other`: the setting that needs this one."""
    if not path:
        return Problem((name, other), "must be set too: certificate and key belong together")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Problem((name,), f"{path} cannot be read: {error.strerror}")
    except ValueError:
        return Problem((name,), "holds a character that no path has")
    return None if b"-----BEGIN " in content else Problem((name,), f"{path} is not a PEM file")


def _pair_problem(settings: ServerSettings, error: ssl.SSLError) -> Problem:
    """Why two PEM files cannot be used together."""
    if error.reason == "KEY_VALUES_MISMATCH":
        what = f"{settings.tls_key} does not belong to the certificate in {settings.tls_cert}"
        return Problem(("server.tls_key", "server.tls_cert"), what)
    what = (
        f"{settings.tls_cert} and server.tls_key {settings.tls_key} cannot be used "
        f"({error.reason or 'not a certificate and its key'}); the key must have no passphrase"
    )
    return Problem(("server.tls_cert", "server.tls_key"), what)


def _context(settings: ServerSettings) -> ssl.SSLContext:
    """Raises ssl.SSLError for files that are no certificate and its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without a password here, OpenSSL would ask for one on the terminal.
    context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    return context


def bind(settings: ServerSettings) -> list[socket.socket]:
    """Listening sockets on every address of the host, all on one port; close them, or give them to a server.

    Raises AddressError that names address and port.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        infos = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(f"{where}: {settings.host!r} is not a name or address that this machine knows") from error
    port, sockets = settings.port, list[socket.socket]()
    try:
        for family, address in sorted({(info[0], info[4][0]) for info in infos}):
            sockets.append(socket.create_server((str(address), port), family=family, backlog=BACKLOG))
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise AddressError(f"{where} {_reason(error)}") from error
    return sockets


def _reason(error: OSError) -> str:
    return {
        errno.EADDRINUSE: "is taken by another program",
        errno.EADDRNOTAVAIL: "is not an address of this machine",
        errno.EACCES: "may not be used: ports below 1024 are for the system",
    }.get(error.errno or 0, f"cannot be listened on: {error.strerror}")


def url(settings: ServerSettings, port: int) -> str:
    """The address that a toy on this machine connects to."""
    scheme = "wss" if settings.tls_cert else "ws"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"{scheme}://{host}:{port}{PATH}"
