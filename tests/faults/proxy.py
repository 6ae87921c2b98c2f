"""A network between toy and relay that breaks in every way a network does: a TCP proxy with switches.

All is switched while it runs, and holds for connections that are open as well as for those to come.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

PIECE_BYTES: Final = 1024
"""How much goes on at a time: a slow line is smooth, and a switch takes effect at once."""


BUFFER_BYTES: Final = 4096
"""What waits inside the proxy itself, for each direction."""

TEXT: Final = 0x81
SOUND: Final = 0x82
"""The first byte of a frame that the relay sends (RFC 6455, 5.2): none of them is in parts."""


def reserved() -> socket.socket:
    """A port of loopback that nobody else gets before this is closed; whoever listens there needs SO_REUSEADDR."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Proxy:
    """Between `port` and `target`, the relay's port. `up`: from the toy to the relay; `down`: the other way.

    `connections` counts those that came, `open` those that still are.
    """

    def __init__(self, target: int) -> None:
        self._holder = reserved()
        self.port: int = self._holder.getsockname()[1]
        self.target = target
        self.connections = 0
        self.bytes_per_s = 0.0
        """How fast bytes go on, for each direction; 0 for as fast as they come."""
        self.connect_delay_s = 0.0
        self.swallows_up = False
        self.swallows_down = False
        """Half open: what comes is taken and goes nowhere; neither side is told."""
        self.mutes_after_welcome = False
        """Of a WebSocket that is opened from now on, the relay's first message goes through and nothing after it."""
        self._packets = 0
        self._stalls_ms: dict[int, float] = {}
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where toys find the relay."""
        return f"ws://127.0.0.1:{self.port}/v1/toy"

    @property
    def open(self) -> int:
        """How many toys are connected now."""
        return len(self._pairs)

    async def accept(self) -> None:
        """Listen, for the first time or again."""
        if self._server is None:
            self._server = await asyncio.start_server(self._come, "127.0.0.1", self.port, limit=BUFFER_BYTES)

    def refuse(self) -> None:
        """Listen no more: who comes is refused. Open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """End every connection as a router does that has forgotten it: with a reset, for both sides."""
        for writer in self._writers:
            peer: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # it is closed already
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing through for now; nothing is lost."""
        self._flows.clear()

    def let_go(self) -> None:
        """Let through what was held, all at once."""
        self._flows.set()

    async def stall(self, ms: float) -> None:
        """Hold everything for so long."""
        self.hold()
        await asyncio.sleep(ms / 1000)
        self.let_go()

    def stall_before(self, stalls_ms: Mapping[int, float]) -> None:
        """Hold everything for so long before these packets of sound, counted from 0, which is the next to come down."""
        self._packets, self._stalls_ms = 0, dict(stalls_ms)

    def half_open(self, *, up: bool = True, down: bool = True) -> None:
        """Swallow what comes from now on, without a word to anyone. `heal` ends it, for new connections as well."""
        self.swallows_up, self.swallows_down = up, down

    def heal(self) -> None:
        """Be a good network again; what was swallowed stays lost, so connections of before are broken."""
        self.swallows_up = self.swallows_down = self.mutes_after_welcome = False
        self.bytes_per_s = self.connect_delay_s = 0.0
        self.let_go()

    async def aclose(self) -> None:
        """End everything."""
        self.refuse()
        self.let_go()
        for pair in self._pairs:
            pair.cancel()
        if self._pairs:
            await asyncio.wait(self._pairs)
        self._holder.close()

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        self._writers.add(writer)
        try:
            await asyncio.sleep(self.connect_delay_s)
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):  # the relay is not there; or the test is over
            pass
        finally:
            self._pairs.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=BUFFER_BYTES)
        self._writers.add(far_writer)
        try:
            await _first(self._pump(reader, far_writer, up=True), self._pump(far_reader, writer, up=False))
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        """Carry bytes until the end of the stream or of the connection."""
        with suppress(OSError):
            async with aclosing(_pieces(reader) if up else _frames(reader)) as pieces:
                async for piece in pieces:
                    await self._carry(piece, writer, up=up)
            while self.swallows_up or self.swallows_down:  # noqa: ASYNC110 - nobody learns that the peer has gone
                await asyncio.sleep(0.05)

    async def _carry(self, piece: bytes, writer: asyncio.StreamWriter, *, up: bool) -> None:
        if self.bytes_per_s:
            await asyncio.sleep(len(piece) / self.bytes_per_s)
        if not up and piece[0] == SOUND:
            if ms := self._stalls_ms.pop(self._packets, 0.0):
                await self.stall(ms)
            self._packets += 1
        await self._flows.wait()
        if not (self.swallows_up if up else self.swallows_down):
            writer.write(piece)
            await writer.drain()
        if not up and piece[0] == TEXT and self.mutes_after_welcome:
            self.swallows_down = True


async def _pieces(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """What comes, as it comes."""
    while piece := await reader.read(PIECE_BYTES):
        yield piece


async def _frames(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """What a WebSocket server sends: the answer to the upgrade, then frame by frame (RFC 6455, 5.2)."""
    try:
        yield (answer := await reader.readuntil(b"\r\n\r\n"))
        while answer.startswith(b"HTTP/1.1 101 "):
            head = await reader.readexactly(2)
            size = head[1] & 0x7F
            longer = await reader.readexactly({126: 2, 127: 8}.get(size, 0))
            yield head + longer + await reader.readexactly(int.from_bytes(longer, "big") if longer else size)
    except asyncio.IncompleteReadError as end:
        if end.partial:
            yield end.partial
    async for piece in _pieces(reader):
        yield piece


async def _first(*ways: object) -> None:
    """Carry in both directions until one of them ends."""
    tasks = [asyncio.ensure_future(way) for way in ways]  # type: ignore[call-overload]  # coroutines of `_pump`
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def between(target: int) -> AsyncIterator[Proxy]:
    """A proxy to the relay's port, listening for the block."""
    proxy = Proxy(target)
    await proxy.accept()
    try:
        yield proxy
    finally:
        await proxy.aclose()
