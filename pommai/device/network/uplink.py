"""The toy's connection to the relay, kept up for ever: it connects, and reconnects, until it is closed."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, NoReturn

from pommai import __version__
from pommai.device.network.address import check_address, tls_context
from pommai.device.network.backoff import SentAwayError, delay_s
from pommai.device.network.dialing import Resolver
from pommai.device.network.meter import Meter
from pommai.device.network.session import Session
from pommai.device.network.websocket import DeadPeerError, open_websocket
from pommai.device.ports import ResumePoint, ToSend, UplinkListener
from pommai.device.settings import RelayLink
from pommai.errors import ConnectError, RemoteProtocolError
from pommai.protocol import RESUME_S, VERSION, AudioFrame, Hello, UtteranceStart

_log = logging.getLogger(__name__)

STABLE_S: Final = 10.0
"""A connection that lasted this long was a good one: backoff begins anew after it."""

WAKE_EVERY_S: Final = 1.0
"""A child who presses again and again makes no more attempts than this."""

RESUMING_S: Final = 1.0
"""While a reply waits to be resumed, attempts begin so far apart, by up to half of it more or less: a child waits."""

RESUMING_OPEN_S: Final = 4.0
"""For such an attempt to open its connection: one that hangs must not use up the time in which a reply is kept."""

FLUSH_S: Final = 0.3
"""For what we said last, when we close: a toy that was told to restart answers first."""

NO_TOKEN: Final = "this toy has no token; make one with `pommai relay token add` and set it as relay.token"
CHANGED: Final = "the relay's settings have changed"


class WebSocketUplink:
    """See `ports.Uplink`. `captions`: ask for transcripts and sentences as text. `meter` counts the bytes.

    `clock_trusted`: asked after a certificate was refused for its dates.
    """

    def __init__(
        self,
        relay: RelayLink,
        *,
        captions: bool = False,
        meter: Meter | None = None,
        clock_trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Raises ConfigError for an address or a CA file that cannot be used."""
        check_address(relay)
        self._relay = relay
        self._tls = tls_context(relay)
        self._captions = captions
        self._meter = meter if meter is not None else Meter()
        self._clock_trusted = clock_trusted
        self._resolver = Resolver()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._woken = asyncio.Event()
        self._is_changed = False
        self._next_sequence = 0
        self._welcomed_s = float("inf")
        self._lost_s = float("-inf")
        self._broke_turn = False
        self._session_id: str | None = None

    def start(self, listener: UplinkListener) -> None:
        """See `ports.Uplink`."""
        assert self._task is None, "an uplink is started once"
        self._task = asyncio.create_task(self._stay_connected(listener), name="uplink")
        self._started.set()

    async def run(self) -> None:
        """For a task group: returns once the uplink is closed, and raises what broke it. Cancelled, it closes it."""
        await self._started.wait()
        assert self._task is not None
        try:
            await asyncio.wait([self._task])
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection and stop trying. The listener is not called any more. Raises what broke the uplink."""
        if self._task is not None:
            try:
                if self._session is not None:
                    await self._session.flush(FLUSH_S)
            finally:
                self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def use(self, relay: RelayLink) -> None:
        """Use other settings from now on: a connection by the old ones is closed. Raises ConfigError, as at first."""
        check_address(relay)
        tls = tls_context(relay)
        if relay == self._relay:
            return
        self._relay, self._tls, self._is_changed = relay, tls, True
        self._session_id = None
        self._woken.set()
        if self._session is not None:
            self._session.leave(CHANGED)

    def wake(self) -> None:
        """See `ports.Uplink`."""
        if self._session is not None:
            self._session.wake()
        else:
            self._woken.set()

    def send(self, message: ToSend) -> None:
        """See `ports.Uplink`. Raises LocalProtocolError for a message that is not allowed now, or too large."""
        if isinstance(message, UtteranceStart):
            self._next_sequence = 0
        if self._session is not None:
            self._session.queue(message)

    def send_audio(self, turn: int, packet: bytes) -> None:
        """See `ports.Uplink`."""
        if self._session is not None:
            self._session.queue(AudioFrame(turn, self._next_sequence, packet))
            self._next_sequence += 1

    async def _stay_connected(self, listener: UplinkListener) -> None:
        loop = asyncio.get_running_loop()
        failures, reason = 0, ""
        while True:
            if not self._relay.token:
                listener.lost(ConnectError(NO_TOKEN))
                await self._settings()
            self._is_changed = False
            self._woken.clear()
            self._welcomed_s, self._broke_turn = float("inf"), False
            began_s = loop.time()
            try:
                await self._connect_once(listener)
            except ConnectError as caught:
                error = caught
            is_fresh = self._is_changed or self._broke_turn or loop.time() - self._welcomed_s > STABLE_S
            failures = 1 if is_fresh else failures + 1
            chance = random.random()
            away_s = error.retry_after_s if isinstance(error, SentAwayError) else 0.0
            wait_s = away_s * (1 + chance / 4) if away_s else delay_s(failures, chance)
            level = logging.DEBUG if str(error) == reason else logging.WARNING  # once a reason: nights are long
            _log.log(level, "uplink: no connection, next attempt in wait_s=%.1f: %s", wait_s, error)
            reason = str(error)
            listener.lost(error)
            now_s = loop.time()
            since_s = now_s if self._welcomed_s < math.inf else began_s  # one that hung has waited already
            resume_s = math.inf if away_s else since_s + RESUMING_S * (0.5 + chance)
            await self._wait(wait_s, max(began_s + WAKE_EVERY_S, now_s + away_s), resume_s, listener)

    async def _settings(self) -> None:
        """Wait for other settings: without a token no relay lets us in."""
        _log.error("uplink: %s", NO_TOKEN)
        while not self._relay.token:
            self._woken.clear()
            await self._woken.wait()

    async def _wait(self, wait_s: float, earliest_s: float, resume_s: float, listener: UplinkListener) -> None:
        """Wait for `wait_s`, or until `resume_s` if a reply is to be resumed then.

        A wake ends the wait sooner, but not before `earliest_s`, and other settings end it at once.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while not self._is_changed:
            until_s = min(deadline_s, resume_s)
            try:
                async with asyncio.timeout_at(until_s):
                    await self._woken.wait()
            except TimeoutError:
                if until_s == deadline_s or self._broken_reply(listener) is not None:
                    return
                resume_s = math.inf
            else:
                self._woken.clear()
                deadline_s = min(deadline_s, max(earliest_s, loop.time()))

    async def _connect_once(self, listener: UplinkListener) -> NoReturn:
        """One connection from its beginning to its end, which is always a ConnectError that says why."""
        limit_s = math.inf if self._broken_reply(listener) is None else RESUMING_OPEN_S
        websocket = await open_websocket(self._relay, self._tls, self._resolver, self._clock_trusted, limit_s=limit_s)
        session = Session(websocket, self._meter)
        try:
            welcome = await session.greet(self._hello(listener))
            if self._is_changed:
                raise ConnectError(CHANGED)
            _log.info("uplink: welcomed by the relay")
            self._session, self._session_id = session, welcome.session
            self._welcomed_s = asyncio.get_running_loop().time()
            listener.welcomed(welcome)
            await session.run(listener)
        except RemoteProtocolError as error:
            _log.warning("uplink: the relay broke the protocol, code=%s", error.code)
            raise ConnectError(f"the relay broke the protocol ({error.code})") from error
        except DeadPeerError:
            websocket.abort()
            raise
        finally:
            if self._session is not None:
                self._session, self._lost_s = None, asyncio.get_running_loop().time()
                self._broke_turn = session.is_in_turn
            await websocket.hang_up()

    def _hello(self, listener: UplinkListener) -> Hello:
        """The session keeps the thread of the conversation; a reply is resumed only if it broke off just now."""
        hello = Hello(VERSION, __version__, self._captions, self._session_id)
        point = self._broken_reply(listener)
        if point is None:
            return hello
        return replace(hello, turn=point.turn, next_sequence=point.next_sequence)

    def _broken_reply(self, listener: UplinkListener) -> ResumePoint | None:
        """Where a reply broke off, while the relay keeps it."""
        is_kept = asyncio.get_running_loop().time() - self._lost_s <= RESUME_S
        return listener.resume_point() if is_kept else None
