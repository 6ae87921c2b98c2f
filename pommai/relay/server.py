"""The relay's HTTP side: who may open a WebSocket, and two pages for machines.

`/v1/toy` is for toys, `/healthz` for whoever watches the service, `/metrics` for a Prometheus on the same machine.
Headers that a proxy adds are never a reason to trust; a request that carries them does not count as local.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from aiohttp import hdrs, web

import pommai
from pommai.errors import StoreError
from pommai.protocol import PATH, SUBPROTOCOL, ErrorCode
from pommai.relay.allowance import Allowances
from pommai.relay.auth import TokenStore, is_loopback
from pommai.relay.connection import CLOSE_S, ToyConnection, new_socket
from pommai.relay.conversation import Conversation
from pommai.relay.door import RETRY_S, Door, later
from pommai.relay.metrics import CONTENT_TYPE, Metrics
from pommai.relay.ports import Store, TurnRecord
from pommai.relay.settings import RelaySettings
from pommai.relay.turn import Pipeline
from pommai.relay.voice import Send

DISMISSED_RETRY_S: Final = 60.0
"""The same after its token was revoked, or shown by another connection: two toys must not chase each other."""

_log = logging.getLogger(__name__)


class RelayStore(Store, TokenStore, Protocol):
    """All that the relay keeps: turns and tokens."""


class RelayServer:
    """Serves toys on sockets that are already bound, from `start` until `stop`."""

    def __init__(
        self,
        settings: RelaySettings,
        pipeline: Pipeline,
        store: RelayStore,
        *,
        metrics: Metrics,
        allowances: Allowances,
    ) -> None:
        """`allowances`: what each toy's parents allow; told of every turn that is over, before it is stored."""
        self._settings = settings
        self._pipeline = pipeline
        self._store = store
        self._metrics = metrics
        self._allowances = allowances
        self._door = Door(store, metrics)
        self._now = asyncio.get_running_loop().time
        self._connections: dict[str, ToyConnection] = {}
        self._arriving = 0
        self._visitors: set[asyncio.Future[None]] = set()
        self._dismissed: set[asyncio.Task[None]] = set()
        self._stopping = False
        application = web.Application()
        application.add_routes(
            [web.get(PATH, self._toy), web.get("/healthz", self._health), web.get("/metrics", self._metrics_page)]
        )
        application.on_response_prepare.append(_unbranded)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=CLOSE_S)

    async def start(self, sockets: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Begin to serve on `sockets`, which belong to the server from now on."""
        await self._runner.setup()
        for bound in sockets:
            await web.SockSite(self._runner, bound, ssl_context=tls).start()

    async def stop(self, grace_s: float) -> None:
        """Let nobody in any more, say goodbye to every toy, and close; turns may end within `grace_s` seconds."""
        self._stopping = True
        for site in tuple(self._runner.sites):
            await site.stop()
        leaving = [
            connection.leave(ErrorCode.SHUTTING_DOWN, grace_s=grace_s, retry_after_s=RETRY_S)
            for connection in self._connections.values()
        ]
        await asyncio.gather(*leaving)
        if self._visitors:  # those who were at the door: told to leave by `_serve` if they got in
            await asyncio.wait(self._visitors)
        await asyncio.gather(*self._dismissed)
        await self._runner.cleanup()

    async def look_after(self) -> None:
        """End the connections of toys whose token was revoked, that were forgotten, or whose rest is over.

        A forgotten toy comes back to a conversation that remembers nothing; a rested one at once, to a welcome that
        lets it talk. Raises StoreError.
        """
        if self._connections:
            valid = {token.token_id for token in await self._store.list_tokens() if token.revoked_at_s is None}
            since_s = {toy: connection.since_s for toy, connection in self._connections.items()}
            forgotten = await self._store.forgotten(since_s)
            for connection in self._connections.values():
                if connection.token.token_id not in valid:
                    _log.info("token revoked toy=%s", connection.token.toy)
                    self._dismiss(connection, ErrorCode.REVOKED)
                elif connection.token.toy in forgotten and since_s[connection.token.toy] == connection.since_s:
                    _log.info("forgotten toy=%s", connection.token.toy)
                    self._dismiss(connection, ErrorCode.SHUTTING_DOWN, retry_after_s=RETRY_S)
                elif connection.rested:
                    _log.info("rest over toy=%s", connection.token.toy)
                    self._dismiss(connection, ErrorCode.REST_OVER, retry_after_s=0.0)

    # --- /v1/toy ------------------------------------------------------------------------------------------------------

    async def _toy(self, request: web.Request) -> web.StreamResponse:
        """One toy's visit, from its token to its goodbye."""
        at_door = asyncio.get_running_loop().create_future()
        self._visitors.add(at_door)
        try:
            socket, connection = await self._let_in(request)
        finally:
            self._visitors.discard(at_door)
            at_door.set_result(None)
        if connection is not None:  # else the toy has left while it was let in
            await self._serve(connection)
        return socket

    async def _let_in(self, request: web.Request) -> tuple[web.WebSocketResponse, ToyConnection | None]:
        """Open a toy's WebSocket, if it may have one; `stop` may be called at any await."""
        if self._stopping:
            raise _stopping()
        token = await self._door.token_of(request)
        if self._stopping:
            raise _stopping()
        socket = new_socket()
        ready = socket.can_prepare(request)
        if not ready.ok:
            raise web.HTTPUpgradeRequired(text="this address speaks WebSocket\n", headers={hdrs.UPGRADE: "websocket"})
        if ready.protocol != SUBPROTOCOL:
            raise web.HTTPBadRequest(text=f"the WebSocket sub-protocol {SUBPROTOCOL} is required\n")
        if len(self._connections.keys() - {token.toy}) + self._arriving >= self._settings.server.max_toys:
            raise later("the relay is full")
        self._arriving += 1
        try:
            await socket.prepare(request)
        finally:
            self._arriving -= 1
        if request.transport is None:
            return socket, None
        return socket, ToyConnection(token, socket, request.transport, self._begin(token.toy), self._metrics)

    async def _serve(self, connection: ToyConnection) -> None:
        """Serve a toy; an older connection of the same toy has to go."""
        toy = connection.token.toy
        older = self._connections.get(toy)
        if older is not None:
            _log.info("connection replaced toy=%s", toy)
            self._dismiss(older, ErrorCode.REPLACED)
        self._connections[toy] = connection
        self._metrics.connected(len(self._connections))
        _log.info("toy connected toy=%s", toy)
        if self._stopping:
            self._dismiss(connection, ErrorCode.SHUTTING_DOWN, retry_after_s=RETRY_S)
        try:
            await connection.serve()
        # A bug of ours, and the socket is closed with 1011. aiohttp would log its text, which may hold a child's words.
        except Exception as error:
            _log.error("connection broken toy=%s: %s", toy, "; ".join(_places(error)))
        finally:
            if self._connections.get(toy) is connection:
                del self._connections[toy]
            self._metrics.connected(len(self._connections))
            _log.info("toy left toy=%s", toy)

    def _dismiss(self, connection: ToyConnection, code: ErrorCode, *, retry_after_s: float = DISMISSED_RETRY_S) -> None:
        """Have a connection end, without waiting for it."""
        leave = connection.leave(code, grace_s=0.0, retry_after_s=retry_after_s)
        leaving = asyncio.create_task(leave, name="dismissed")
        self._dismissed.add(leaving)
        leaving.add_done_callback(self._dismissed.discard)

    def _begin(self, toy: str) -> Callable[[Send], Conversation]:
        """How to make this toy's conversation, once there is a way to send."""

        def begin(send: Send) -> Conversation:
            return Conversation(
                toy,
                self._pipeline,
                send,
                record=self._keep,
                rest=lambda: self._allowances.rest(toy),
                max_utterance_s=self._settings.pipeline.max_utterance_s,
                volume_ceiling=self._allowances.limits(toy).volume_ceiling,
                turn_budget_s=self._settings.pipeline.turn_budget_s,
            )

        return begin

    def _keep(self, turn: TurnRecord) -> Awaitable[None]:
        """Count a turn that is over, now; what is returned stores it."""
        self._metrics.turn_ended(turn)
        self._allowances.used(turn)
        return self._written(turn)

    async def _written(self, turn: TurnRecord) -> None:
        try:
            await self._store.record(turn)
        except StoreError:
            self._metrics.not_stored()
            raise

    # --- pages for machines -------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        """Whether toys are served, by which engines, and how many."""
        engines = {
            "stt": self._pipeline.stt.name,
            "moderator": self._settings.pipeline.moderator,
            "llm": self._pipeline.llm.name,
            "tts": self._pipeline.tts.name,
        }
        health = {
            "status": "stopping" if self._stopping else "ok",
            "version": pommai.__version__,
            "engines": engines,
            "active_toys": len(self._connections),
        }
        return web.json_response(health, status=503 if self._stopping else 200)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        """The counters, for this machine only."""
        proxied = any(header in request.headers for header in (hdrs.X_FORWARDED_FOR, hdrs.FORWARDED, "X-Real-IP"))
        if proxied or not is_loopback(request.remote or ""):
            raise web.HTTPForbidden(text="metrics are for this machine only\n")
        return web.Response(body=self._metrics.page(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _places(error: BaseException) -> Iterator[str]:
    """Where an error comes from, by type and lines of code only; for a group, one for each error in it."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _places(inner)
    else:
        frames = (f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(error.__traceback__))
        yield f"{type(error).__name__} at {' '.join(frames)}"


def _stopping() -> web.HTTPServiceUnavailable:
    return later("the relay is shutting down")


async def _unbranded(request: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody which versions of which libraries answer."""
    response.headers[hdrs.SERVER] = "pommai"
