"""The relay's HTTP side: who may open a WebSocket, who is connected, and who has to go."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable
from functools import partial
from typing import Final, Protocol

from aiohttp import hdrs, web

from pommai.bugs import places
from pommai.errors import StoreError
from pommai.protocol import PATH, SUBPROTOCOL, ErrorCode
from pommai.relay.allowance import Allowances
from pommai.relay.auth import TokenStore
from pommai.relay.connection import CLOSE_S, ToyConnection, new_socket
from pommai.relay.conversation import Conversation
from pommai.relay.door import RETRY_S, Door, later
from pommai.relay.metrics import Metrics
from pommai.relay.pages import Pages, engine_names
from pommai.relay.parking import Parking
from pommai.relay.phrase_audio import SpokenPhrases
from pommai.relay.ports import Store, ToyToken, TurnRecord
from pommai.relay.settings import RelaySettings
from pommai.relay.terms import Terms
from pommai.relay.turn import Pipeline
from pommai.relay.upkeep import Upkeep, UpkeepStore
from pommai.relay.visit import Send, Visit

DISMISSED_RETRY_S: Final = 60.0
"""The same after its token was revoked, or shown by another connection: two toys must not chase each other."""

_log = logging.getLogger(__name__)


class RelayStore(Store, TokenStore, UpkeepStore, Protocol):
    """All that the server needs of a store."""


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
        phrases: SpokenPhrases | None = None,
    ) -> None:
        """`allowances`: what each toy's parents allow; told of every turn that is over, before it is stored.

        `phrases`: what toys may keep for times without a network.
        """
        self._settings = settings
        self._pipeline = pipeline
        self._store = store
        self._metrics = metrics
        self._allowances = allowances
        self._phrases = phrases
        self._parking = Parking()
        self._door = Door(store, metrics)
        self._now = asyncio.get_running_loop().time
        self._connections: dict[str, ToyConnection] = {}
        self._arriving = 0
        self._visitors: set[asyncio.Future[None]] = set()
        self._dismissed: set[asyncio.Task[None]] = set()
        self._stopping = False
        engines = engine_names(pipeline, settings.pipeline.moderator)
        pages = Pages(engines, metrics, n_toys=lambda: len(self._connections), stopping=lambda: self._stopping)
        application = web.Application()
        application.add_routes([web.get(PATH, self._toy), *pages.routes()])
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
        await asyncio.gather(self._parking.close(), *leaving)
        if self._visitors:  # those who were at the door: told to leave by `_serve` if they got in
            await asyncio.wait(self._visitors)
        await asyncio.gather(*self._dismissed)
        await self._parking.close()
        await self._runner.cleanup()

    @property
    def in_turn(self) -> bool:
        """Whether any toy is being answered now."""
        attended = (connection.conversation for connection in self._connections.values())
        parked = (parked.conversation for parked in self._parking.parked.values())
        return any(conversation is not None and conversation.in_turn for conversation in (*attended, *parked))

    async def look_after(self) -> None:
        """Find commands for connected toys, and end what must not go on. Raises StoreError.

        That is the connections and the parked conversations of toys whose token was revoked, or that were forgotten,
        and the connections of those that need a new welcome (`Visit.outdated`). A forgotten toy comes back to a
        conversation that remembers nothing; the others at once, to a welcome that holds.
        """
        connections, parked = dict(self._connections), self._parking.parked
        if not connections and not parked:
            return
        valid = {token.token_id for token in await self._store.list_tokens() if token.revoked_at_s is None}
        talks = {toy: connection.conversation for toy, connection in connections.items()}
        talks |= {toy: kept.conversation for toy, kept in parked.items()}
        since_s = {toy: talk.since_s for toy, talk in talks.items() if talk is not None}
        forgotten = await self._store.forgotten(since_s)
        for toy, kept in parked.items():
            if toy in forgotten or kept.token.token_id not in valid:
                self._parking.give_up(kept.conversation)
        for toy, connection in connections.items():
            if connection.token.token_id not in valid:
                _log.info("token revoked toy=%s", toy)
                self._dismiss(connection, ErrorCode.REVOKED)
            elif toy in forgotten and connection.conversation is talks[toy]:
                _log.info("forgotten toy=%s", toy)
                self._dismiss(connection, ErrorCode.SHUTTING_DOWN, retry_after_s=RETRY_S)
            elif connection.outdated:
                _log.info("welcome outdated toy=%s", toy)
                self._dismiss(connection, ErrorCode.REST_OVER, retry_after_s=0.0)
            else:
                connection.look_again()

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
        others = (self._connections.keys() | self._parking.parked.keys()) - {token.toy}
        if len(others) + self._arriving >= self._settings.server.max_toys:
            raise later("the relay is full")
        self._arriving += 1
        try:
            await socket.prepare(request)
        finally:
            self._arriving -= 1
        if request.transport is None:
            return socket, None
        return socket, ToyConnection(token, socket, request.transport, partial(self._begin, token), self._metrics)

    async def _serve(self, connection: ToyConnection) -> None:
        """Serve a toy; an older connection of the same toy has to go, and leaves it the conversation."""
        toy = connection.token.toy
        older = self._connections.get(toy)
        if older is not None:
            _log.info("connection replaced toy=%s", toy)
            older.let_go()
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
            _log.error("connection broken toy=%s: %s", toy, places(error))
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

    def _begin(self, token: ToyToken, send: Send) -> tuple[Visit, Upkeep]:
        """What takes a toy's messages, around a way to answer it."""
        toy, turns, phrases = token.toy, self._settings.pipeline, self._phrases
        terms = Terms(
            rest=lambda: self._allowances.rest(toy),
            limits=lambda: self._allowances.record(toy),
            phrases=lambda: None if phrases is None else phrases.revision,
            max_utterance_s=turns.max_utterance_s,
            volume_ceiling=self._allowances.limits(toy).volume_ceiling,
        )

        def new() -> Conversation:
            return Conversation(toy, self._pipeline, self._keep, turn_budget_s=turns.turn_budget_s)

        visit = Visit(token, send, self._parking, new, terms)
        return visit, Upkeep(toy, self._store, phrases, visit.send)

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


def _stopping() -> web.HTTPServiceUnavailable:
    return later("the relay is shutting down")


async def _unbranded(request: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody which versions of which libraries answer."""
    response.headers[hdrs.SERVER] = "pommai"
