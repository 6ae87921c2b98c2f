"""A relay small enough to misbehave on purpose: aiohttp on a free port of loopback, and one script a connection."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from pommai.link import Link, Side
from pommai.protocol import (
    PATH,
    SUBPROTOCOL,
    VERSION,
    AudioFrame,
    Hello,
    Message,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    Welcome,
)
from pommai.wire import decode, encode

TOKEN = "a-token-for-tests"


@dataclass
class Peer:
    """One toy, as a script sees it; everything goes through a relay's Link, so the toy's manners are checked too."""

    socket: web.WebSocketResponse
    request: web.Request
    link: Link = field(default_factory=lambda: Link(Side.RELAY))
    messages: list[Message] = field(default_factory=list)

    async def send(self, *messages: Message) -> None:
        for message in messages:
            if self.link.sending(message):
                await self.send_raw(encode(message))

    async def send_raw(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            await self.socket.send_bytes(frame)
        else:
            await self.socket.send_str(frame)

    async def receive(self) -> Message | None:
        """The next message that is no echo; None when the toy has gone."""
        while (frame := await self.socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            if (message := self.link.received(decode(frame.data))) is not None:
                self.messages.append(message)
                return message
        return None

    async def welcome(self, **changes: object) -> None:
        """Take the hello and answer it."""
        assert isinstance(await self.receive(), Hello)
        values = {"version": VERSION, "session": "s1", "server_time_s": 1.7e9, "max_utterance_s": 30.0} | changes
        await self.send(Welcome(**values))  # type: ignore[arg-type]  # the tests give what fits

    async def utterance(self) -> tuple[int, list[bytes]]:
        """Wait for a whole utterance: its turn and its packets."""
        packets: list[bytes] = []
        while not isinstance(message := await self.receive(), UtteranceEnd):
            assert message is not None, "the toy went away in the middle of an utterance"
            if isinstance(message, AudioFrame):
                assert message.sequence == len(packets)
                packets.append(message.packet)
        return message.turn, packets

    async def reply(self, turn: int, packets: list[bytes]) -> None:
        """Answer with `packets` as fast as the network takes them."""
        await self.send(Transcript(turn, "hello toy"), SpeakingStart(turn), Sentence(turn, "Hello child."))
        await self.send(*(AudioFrame(turn, n, packet) for n, packet in enumerate(packets)), SpeakingEnd(turn))


Script = Callable[[Peer], Awaitable[None]]


async def parrot(peer: Peer) -> None:
    """Welcome the toy and answer each utterance with its own sound."""
    await peer.welcome()
    while not peer.socket.closed:
        try:
            turn, packets = await peer.utterance()
        except AssertionError:
            return
        await peer.reply(turn, packets)


@dataclass
class TinyRelay:
    """Where it listens, and the toys it has met."""

    url: str
    peers: list[Peer]
    stop: Callable[[], Awaitable[None]]


@asynccontextmanager
async def tiny_relay(
    *scripts: Script, port: int = 0, tls: ssl.SSLContext | None = None, subprotocol: str = SUBPROTOCOL
) -> AsyncIterator[TinyRelay]:
    """Serve: the first connection meets the first script, and so on; the last script serves all that follow."""
    peers: list[Peer] = []

    async def toy(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(protocols=(subprotocol,), compress=False)
        await socket.prepare(request)
        peer = Peer(socket, request)
        peers.append(peer)
        await scripts[min(len(peers), len(scripts)) - 1](peer)
        return socket

    app = web.Application()
    app.router.add_get(PATH, toy)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    try:
        yield TinyRelay(url, peers, runner.cleanup)
    finally:
        await runner.cleanup()
