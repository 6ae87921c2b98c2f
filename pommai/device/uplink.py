"""The toy's connection to the relay over a WebSocket: drives a `Link`, and reconnects for ever."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any, Final, NoReturn

from pommai import __version__
from pommai.device.address import check_address, tls_context
from pommai.device.backoff import delay_s
from pommai.device.meter import Meter
from pommai.device.ports import FromRelay, UplinkListener
from pommai.device.settings import RelayLink
from pommai.device.websocket import WebSocket, open_websocket
from pommai.errors import ConnectError, RemoteProtocolError
from pommai.link import Link, Phase, Side
from pommai.protocol import (
    FRAME_MS,
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Message,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
    decode,
    encode,
)

_log = logging.getLogger(__name__)
WELCOME_S: Final = 10.0
"""For the relay's answer to our hello."""

STABLE_S: Final = 10.0
"""A connection that lasted this long was a good one: backoff begins anew after it."""

OUTBOX_MESSAGES: Final = 20_000 // FRAME_MS
"""20 s of sound. A network that is so far behind the child is no network."""

MAX_RETRY_AFTER_S: Final = 3600.0
"""The longest that a Goodbye may send a toy away."""


class WebSocketUplink:
    """See `ports.Uplink`. `captions`: ask for transcripts and sentences as text. `meter` counts the bytes."""

    def __init__(self, relay: RelayLink, *, captions: bool = False, meter: Meter | None = None) -> None:
        """Raises ConfigError for an address or a CA file that cannot be used."""
        check_address(relay)
        self._relay = relay
        self._tls = tls_context(relay)
        self._captions = captions
        self._meter = meter if meter is not None else Meter()
        self._session: _Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_sequence = 0
        self._welcomed_s = float("inf")

    def start(self, listener: UplinkListener) -> None:
        """See `ports.Uplink`."""
        assert self._task is None, "an uplink is started once"
        self._task = asyncio.create_task(self._stay_connected(listener), name="uplink")

    async def aclose(self) -> None:
        """Close the connection and stop trying. The listener is not called any more. Raises what broke the uplink."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def send(self, message: UtteranceStart | UtteranceEnd | Cancel) -> None:
        """See `ports.Uplink`."""
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
        failures = 0
        while True:
            self._welcomed_s = float("inf")
            try:
                await self._connect_once(listener)
            except ConnectError as caught:
                error = caught
            failures = 1 if loop.time() - self._welcomed_s > STABLE_S else failures + 1
            chance = random.random()
            wait_s = error.wait_s(chance) if isinstance(error, _SentAwayError) else delay_s(failures, chance)
            _log.warning("uplink: no connection, next attempt in wait_s=%.1f: %s", wait_s, error)
            listener.lost(error)
            await asyncio.sleep(wait_s)

    async def _connect_once(self, listener: UplinkListener) -> NoReturn:
        """One connection from its beginning to its end, which is always a ConnectError that says why."""
        websocket = await open_websocket(self._relay, self._tls)
        session = _Session(websocket, self._meter)
        try:
            welcome = await session.greet(Hello(VERSION, __version__, self._captions))
            _log.info("uplink: welcomed by the relay")
            self._session, self._welcomed_s = session, asyncio.get_running_loop().time()
            listener.welcomed(welcome)
            await session.run(listener)
        except RemoteProtocolError as error:
            _log.warning("uplink: the relay broke the protocol, code=%s", error.code)
            raise ConnectError(f"the relay broke the protocol ({error.code})") from error
        finally:
            self._session = None
            await websocket.hang_up()


class _SentAwayError(ConnectError):
    """The relay said goodbye.

    It named a time to come back, and the toy will.
    """

    def __init__(self, goodbye: Goodbye) -> None:
        self._retry_after_s = min(goodbye.retry_after_s, MAX_RETRY_AFTER_S)
        super().__init__(f"the relay said goodbye ({goodbye.code})")

    def wait_s(self, chance: float) -> float:
        """The time to stay away: at least what was named, and up to a quarter more, lest all toys return at once."""
        return self._retry_after_s * (1 + chance / 4)


class _Session:
    """One connection: a Link, what waits to be sent, and the two loops that write and read."""

    def __init__(self, websocket: WebSocket, meter: Meter) -> None:
        self._websocket = websocket
        self._meter = meter
        self._link = Link(Side.TOY)
        self._outbox: asyncio.Queue[tuple[Message, str | bytes]] = asyncio.Queue(OUTBOX_MESSAGES)
        self._is_too_slow = asyncio.Event()

    async def greet(self, hello: Hello) -> Welcome:
        """Say hello and wait for the welcome."""
        self._link.sending(hello)
        try:
            async with asyncio.timeout(WELCOME_S):
                await self._websocket.send(encode(hello))
                while not isinstance(message := await self._receive(), Welcome):
                    if isinstance(message, Error):
                        _log.warning("uplink: the relay failed to welcome us, code=%s", message.code)
        except TimeoutError:
            raise ConnectError(f"the relay did not answer our hello within {WELCOME_S:.0f} s") from None
        if message.version != VERSION:
            raise ConnectError(f"the relay speaks version {message.version} of the protocol, this toy {VERSION}")
        return message

    def queue(self, message: UtteranceStart | UtteranceEnd | Cancel | AudioFrame) -> None:
        """Send `message` in its turn, unless the turn was begun on another connection or is over by now."""
        is_ours = isinstance(message, UtteranceStart) or message.turn == self._link.turn
        if self._link.phase is Phase.CLOSED or not is_ours or not self._link.sending(message):
            return
        try:
            self._outbox.put_nowait((message, encode(message)))
        except asyncio.QueueFull:
            self._is_too_slow.set()

    async def run(self, listener: UplinkListener) -> NoReturn:
        """Carry messages until the connection ends.

        Raises ConnectError for its end, for a goodbye and for a network that is too slow, and RemoteProtocolError.
        """
        reader = asyncio.create_task(self._read(listener), name="uplink reader")
        others: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._write(), name="uplink writer"),
            asyncio.create_task(self._is_too_slow.wait(), name="uplink guard"),
        ]
        try:
            done, _ = await asyncio.wait([reader, *others], return_when=asyncio.FIRST_COMPLETED)
            if self._is_too_slow.is_set():
                raise ConnectError("the network is too slow for speech")
            for task in done:
                task.result()  # raises what ended it
            await reader
            raise ConnectError("the connection broke off while we were sending")
        finally:
            for task in (reader, *others):
                task.cancel()
            await asyncio.wait([reader, *others])

    async def _write(self) -> None:
        while True:
            message, frame = await self._outbox.get()
            try:
                await self._websocket.send(frame)
            except ConnectError:
                return  # the reader meets it too, and tells why
            self._meter.sent(message, len(frame if isinstance(frame, bytes) else frame.encode()))

    async def _read(self, listener: UplinkListener) -> None:
        while True:
            message = await self._receive()
            if isinstance(message, FromRelay):
                listener.received(message)

    async def _receive(self) -> Message | None:
        """The next message; None for one that this version does not know, or an echo of a turn that is over."""
        frame = await self._websocket.receive()
        try:
            message = decode(frame)
        except RemoteProtocolError as error:
            if error.code != ErrorCode.UNKNOWN_TYPE:
                raise
            _log.info("uplink: a message of an unknown kind was ignored")
            return None
        self._meter.received(message, len(frame if isinstance(frame, bytes) else frame.encode()))
        if isinstance(message, Goodbye):
            raise _SentAwayError(message)
        return self._link.received(message)
