"""The control socket: one JSON object a line in, one a line out, for root and the group `pommai`.

A request is `{"do": "status"}`, with what else it needs beside it; the answer is `{"ok": true, ...}`, or
`{"ok": false, "error": "...", "remedy": "..."}`. A connection may carry several requests. Whatever comes in, the daemon
goes on: garbage is answered, who is slow or silent is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pommai.errors import AddressError, PommaiError

_log = logging.getLogger(__name__)

MODE: Final = 0o660
GROUP: Final = "pommai"
"""Who may connect, beside root and the daemon's own user."""

MAX_LINE_BYTES: Final = 65_536
MAX_CLIENTS: Final = 8
PATIENCE_S: Final = 10.0
"""For a client to send its next line, or to take its answer."""

_BACKLOG: Final = 16

Request = Mapping[str, Any]
Answer = Callable[[Request], Awaitable[Mapping[str, Any]]]
"""What a request leads to. Raises PommaiError for one that is refused: the client gets its text and its remedy."""


class Control:
    """The server: `listen`, then `serve` for as long as the toy lives, and `close`."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._listening: socket.socket | None = None
        self._inode = 0
        self._n_clients = 0

    def listen(self) -> None:
        """Clients may come from now on; they wait until they are served. Raises AddressError, and LiveError."""
        self._listening = _listen(self._path)
        self._inode = self._path.stat().st_ino

    async def serve(self, answer: Answer) -> None:
        """Answer until cancelled. What breaks an answer ends this: it is a bug."""
        assert self._listening is not None, "listen first"
        try:
            async with asyncio.TaskGroup() as clients:

                def come_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    clients.create_task(self._serve(reader, writer, answer), name="control client")

                server = await asyncio.start_unix_server(come_in, sock=self._listening, limit=MAX_LINE_BYTES)
                try:
                    await asyncio.Event().wait()
                finally:
                    server.close()
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more, and leave nothing behind."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        with suppress(OSError):  # somebody may have removed it
            if self._path.stat().st_ino == self._inode:  # a new daemon may have its own there
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that an answer is told when it has all been taken
        self._n_clients += 1
        try:
            if self._n_clients > MAX_CLIENTS:
                await self._tell(writer, refusal(f"more than {MAX_CLIENTS} clients are connected", "Try again later."))
                return
            while (line := await self._next_line(reader, writer)) is not None:
                await self._tell(writer, await _reply(line, answer))
        except (OSError, TimeoutError):
            _log.debug("control: a client went away, or was too slow")
        finally:
            self._n_clients -= 1
            writer.transport.abort()

    async def _next_line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """The next line; None at the end. Raises TimeoutError."""
        try:
            async with asyncio.timeout(self._patience_s):
                line = await reader.readline()
        except ValueError:
            await self._tell(writer, refusal(f"a line of more than {MAX_LINE_BYTES} bytes", "Send shorter lines."))
            return None
        return line or None

    async def _tell(self, writer: asyncio.StreamWriter, reply: Mapping[str, Any]) -> None:
        async with asyncio.timeout(self._patience_s):
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()


async def _reply(line: bytes, answer: Answer) -> Mapping[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested beyond all measure
        return refusal("that is no JSON", 'Send one JSON object a line, such as {"do": "status"}.')
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        return refusal('a request is a JSON object with "do"', 'Send for example {"do": "status"}.')
    try:
        return {"ok": True, **await answer(request)}
    except PommaiError as error:
        return refusal(str(error), error.remedy)


def refusal(error: str, remedy: str) -> Mapping[str, Any]:
    """The answer to what cannot be done."""
    return {"ok": False, "error": error, "remedy": remedy}


def _listen(path: Path) -> socket.socket:
    """A socket that listens at `path`. What a dead daemon has left there is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        before = os.umask(0o777 & ~MODE)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(MODE)
        with suppress(LookupError, PermissionError):  # no such group here, or we are not in it: then it is ours alone
            shutil.chown(path, group=GROUP)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.strerror is None:  # Python's own "AF_UNIX path too long", which has no number
            raise AddressError(f"{path} cannot be listened on: {error}", remedy=_SHORTEN_IT) from error
        raise AddressError(f"{path} cannot be listened on: {error.strerror}", remedy=_MAKE_FOLDER) from error
    except AddressError:
        listening.close()
        raise
    return listening


_SHORTEN_IT: Final = "Set control.socket to a path of at most 107 bytes."
_MAKE_FOLDER: Final = "Make its folder for the user of the daemon, or set control.socket to another path."
_REMOVE_IT: Final = "Remove it if nobody needs it, or set control.socket to another path."


def _make_room(path: Path) -> None:
    """Remove the socket of a daemon that is gone. Raises AddressError if it is not, or it is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise AddressError(f"{path} is there and is no socket", remedy=_REMOVE_IT)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise LiveError(f"another daemon listens at {path}")


class LiveError(AddressError):
    """Another daemon of pommai runs.

    Stop it (`systemctl stop pommai`), or give this one a control.socket of its own.
    """
