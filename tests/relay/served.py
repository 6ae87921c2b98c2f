"""A real relay on loopback with scripted engines, and a toy's end of the wire that shows everything it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from pommai.protocol import SUBPROTOCOL, VERSION, AudioFrame, Hello, Message, UtteranceEnd, UtteranceStart, Welcome
from pommai.relay import app, auth
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import RelaySettings, ServerSettings, StoreSettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.wire import decode, encode
from tests.relay.toybox import SPEECH_PACKETS, Engines

PATIENCE_S = 10.0
"""How long anything here may take before a test gives up."""


class WatchedStore(SqliteStore):
    """The real store, which also lets a test wait for the turns that reach it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.turns: asyncio.Queue[TurnRecord] = asyncio.Queue()

    async def record(self, turn: TurnRecord) -> None:
        self.turns.put_nowait(turn)
        await super().record(turn)


@dataclass
class ToyWire:
    """One WebSocket of a toy, as raw as a test needs it."""

    socket: aiohttp.ClientWebSocketResponse
    got: list[Message] = field(default_factory=list)

    async def send(self, *messages: Message) -> None:
        for message in messages:
            frame = encode(message)
            await (self.socket.send_bytes(frame) if isinstance(frame, bytes) else self.socket.send_str(frame))

    async def next(self) -> Message:
        """The next message of the relay; a closed connection is an error."""
        frame = await self.socket.receive(PATIENCE_S)
        assert frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), f"{frame.type}: {frame.data}"
        message = decode(frame.data)
        self.got.append(message)
        return message

    async def until(self, kind: type[Message]) -> Any:
        """The next message of this kind; those before it are in `got`."""
        while not isinstance(message := await self.next(), kind):
            pass
        return message

    async def closed(self) -> int | None:
        """Read to the end of the connection; the relay's close code."""
        async with asyncio.timeout(PATIENCE_S):
            async for frame in self.socket:
                self.got.append(decode(frame.data))
        return self.socket.close_code

    async def greet(self, session: str | None = None, turn: int | None = None, next_sequence: int = 0) -> Welcome:
        await self.send(Hello(VERSION, "test", True, session, turn, None if turn is None else next_sequence))
        welcome = await self.next()
        assert isinstance(welcome, Welcome)
        return welcome

    async def say(self, turn: int, packets: Sequence[bytes] = SPEECH_PACKETS) -> None:
        await self.send(
            UtteranceStart(turn), *(AudioFrame(turn, n, packet) for n, packet in enumerate(packets)), UtteranceEnd(turn)
        )

    def abort(self) -> None:
        """Reset the connection, as a network does."""
        connection = self.socket._response.connection
        assert connection is not None and connection.transport is not None
        connection.transport.abort()

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.got]


@dataclass
class ServedRelay:
    """A running relay and the ways into it."""

    url: str
    port: int
    store: WatchedStore
    stop: Any
    client: aiohttp.ClientSession
    engines: Engines

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def token(self, toy: str = "teddy") -> str:
        return (await auth.add_token(self.store, toy, 1.0))[0].reveal()

    @asynccontextmanager
    async def knocking(self, token: str | None, **options: Any) -> AsyncIterator[ToyWire]:
        """A connection before its hello. aiohttp raises WSServerHandshakeError where the relay refuses."""
        headers = options.pop("headers", {}) | ({} if token is None else {"Authorization": f"Bearer {token}"})
        options = {"protocols": [SUBPROTOCOL], "max_msg_size": 0} | options
        async with self.client.ws_connect(self.url, headers=headers, **options) as socket:
            yield ToyWire(socket)

    @asynccontextmanager
    async def toy(self, toy: str = "teddy", token: str | None = None) -> AsyncIterator[ToyWire]:
        """A connection that was welcomed."""
        async with self.knocking(token or await self.token(toy)) as wire:
            await wire.greet()
            yield wire

    async def refusal(self, token: str | None, **options: Any) -> aiohttp.WSServerHandshakeError:
        """How the relay refuses a connection before the upgrade."""
        try:
            async with self.knocking(token, **options):
                pass
        except aiohttp.WSServerHandshakeError as error:
            return error
        raise AssertionError("the relay let it in")

    async def page(self, path: str, **options: Any) -> tuple[int, str]:
        async with self.client.get(self.http + path, **options) as response:
            return response.status, await response.text()

    async def metric(self, line: str) -> float:
        """The value of one line of /metrics; 0 if it is not there."""
        _, text = await self.page("/metrics")
        values = [float(row.removeprefix(line)) for row in text.splitlines() if row.startswith(line + " ")]
        return values[0] if values else 0.0


@asynccontextmanager
async def served(
    folder: Path, engines: Engines | None = None, *, grace_s: float = 1.0, **sections: Any
) -> AsyncIterator[ServedRelay]:
    """A relay on a free port. `sections`: of the settings, beside a store in `folder`; `server` gets port 0."""
    engines = engines or Engines()
    settings = RelaySettings(
        **{"store": StoreSettings(str(folder / "relay.db")), **sections}
        | {"server": replace(sections.get("server", ServerSettings()), port=0)}
    )
    store = await WatchedStore.open(settings.store)
    assert isinstance(store, WatchedStore)
    try:
        async with (
            app.running(settings, pipeline=engines.pipeline(), store=store, grace_s=grace_s) as relay,
            aiohttp.ClientSession() as client,
        ):
            yield ServedRelay(relay.url, relay.port, store, relay.stop, client, engines)
    finally:
        await store.close()


async def until(condition: Any) -> None:
    """Wait until `condition()` holds, for what no message tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
