"""One connection of the toy, from hello to its end: a `Link`, what waits to be sent, and the signs of life.

What belongs to a turn goes before what is about the toy, and only speech that waits too long ends a connection. The
heartbeat is ours and not the library's: that one would end a connection whose pong has to wait behind the sound of a
reply, and here a child may want to know sooner.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from pommai.device.network.backoff import SentAwayError
from pommai.device.network.meter import Meter
from pommai.device.network.websocket import DeadPeerError, WebSocket
from pommai.device.ports import FromRelay, ToSend, UplinkListener
from pommai.errors import ConnectError, RemoteProtocolError
from pommai.link import IN_TURN, Link, Phase, Side
from pommai.protocol import (
    FRAME_MS,
    VERSION,
    AudioFrame,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    Goodbye,
    Hello,
    Message,
    PhrasesWanted,
    PhraseWanted,
    UtteranceStart,
    Welcome,
)
from pommai.wire import decode, encode

_log = logging.getLogger(__name__)
WELCOME_S: Final = 10.0
"""For the relay's answer to our hello."""

HEARTBEAT_S: Final = 10.0
PONG_S: Final = 10.0
"""A ping after so long a silence, and so long for a sign of life: a dead network is noticed within 20 s."""

WAKE_S: Final = 3.0
"""For a sign of life after a press. Four losses in a row of the ping or its pong fit (TCP sends again after 0.2, 0.4,
0.8 and 1.6 s). Once more if we have something to say, and the relay's machine took some of it: slow is not dead."""

OUTBOX_MESSAGES: Final = 20_000 // FRAME_MS
"""20 s of sound. A network that is so far behind the child is no network."""

ASIDE_MESSAGES: Final = 64
"""What is about the toy and does not fit any more is dropped: whoever sent it will send it again."""


class Session:
    """What is sent goes out in order; `greet` once, then `run`."""

    def __init__(self, websocket: WebSocket, meter: Meter) -> None:
        self._websocket = websocket
        self._meter = meter
        self._now = asyncio.get_running_loop().time
        self._link = Link(Side.TOY)
        self._outbox: deque[tuple[Message, str | bytes]] = deque()
        self._aside: deque[tuple[Message, str | bytes]] = deque()
        self._queued_s = float("-inf")
        self._has_work = asyncio.Event()
        self._end = asyncio.Event()
        self._why = ConnectError("the toy hung up")
        self._woken = asyncio.Event()
        self._is_sent = asyncio.Event()
        self._is_sent.set()

    @property
    def is_in_turn(self) -> bool:
        """Whether a turn is open: child, relay or toy is about to go on with it."""
        return self._link.phase in IN_TURN

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
        if message.resumed is not None and message.resumed != hello.turn:
            raise RemoteProtocolError(ErrorCode.OUT_OF_ORDER, "a turn was resumed that we did not ask for")
        return message

    def queue(self, message: ToSend | AudioFrame) -> None:
        """Send `message` in its turn, unless that was begun on another connection or is over by now."""
        if isinstance(message, EventBatch | CommandDone | PhrasesWanted | PhraseWanted):
            waiting, is_ours = self._aside, True
        else:
            waiting = self._outbox
            is_ours = isinstance(message, UtteranceStart) or message.turn == self._link.turn
        if self._link.phase is Phase.CLOSED or not is_ours or not self._link.sending(message):
            return
        if waiting is self._outbox and len(waiting) >= OUTBOX_MESSAGES:
            self._leave(DeadPeerError("the network is too slow for speech"))
        elif waiting is self._aside and len(waiting) >= ASIDE_MESSAGES:
            _log.warning("uplink: a message about the toy was dropped, the network is slow")
        else:
            waiting.append((message, encode(message)))
            self._queued_s = self._now()
            self._is_sent.clear()
            self._has_work.set()

    def wake(self) -> None:
        """Find out soon whether the peer is alive; if not, `run` ends."""
        self._woken.set()

    def leave(self, why: str) -> None:
        """Let `run` end, for a reason of our own."""
        self._leave(ConnectError(why))

    async def flush(self, limit_s: float) -> None:
        """Wait until all that was queued is on the wire, or until `limit_s` have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._is_sent.wait()

    async def run(self, listener: UplinkListener) -> NoReturn:
        """Carry messages until the connection ends.

        Raises ConnectError for its end, SentAwayError for a goodbye, DeadPeerError, and RemoteProtocolError.
        """
        reader = asyncio.create_task(self._read(listener), name="uplink reader")
        others: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._write(), name="uplink writer"),
            asyncio.create_task(self._end.wait(), name="uplink guard"),
            asyncio.create_task(_unless_gone(self._keep_heartbeat()), name="uplink heartbeat"),
            asyncio.create_task(_unless_gone(self._answer_wakes()), name="uplink wake"),
        ]
        try:
            done, _ = await asyncio.wait([reader, *others], return_when=asyncio.FIRST_COMPLETED)
            if self._end.is_set():
                raise self._why
            for task in done - {reader}:
                task.result()  # raises what ended it
            await reader
            raise ConnectError("the connection broke off while we were sending")
        finally:
            await _finish([reader, *others])

    def _leave(self, why: ConnectError) -> None:
        self._why = why
        self._end.set()

    async def _write(self) -> None:
        while True:
            while not (waiting := self._outbox or self._aside):
                self._has_work.clear()
                self._is_sent.set()
                await self._has_work.wait()
            message, frame = waiting.popleft()
            try:
                await self._websocket.send(frame)
            except ConnectError:
                return  # the reader meets it too, and tells why
            self._meter.sent(message, len(frame if isinstance(frame, bytes) else frame.encode()))

    async def _keep_heartbeat(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._websocket.heard_s + HEARTBEAT_S - self._now()))
            if self._now() - self._websocket.heard_s >= HEARTBEAT_S and not await self._websocket.answers(PONG_S):
                raise DeadPeerError(f"the relay has not been heard for {self._now() - self._websocket.heard_s:.0f} s")

    async def _answer_wakes(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            asked_s = self._now()
            if await self._websocket.answers(WAKE_S):
                continue
            is_busy = self._queued_s > asked_s - WAKE_S or self._outbox or self._aside
            silent_s = self._websocket.silent_s()
            is_slow = is_busy and (silent_s is None or silent_s < self._now() - asked_s)
            if not is_slow or not await self._websocket.answers(WAKE_S):
                raise DeadPeerError("the relay did not answer when the button was pressed")

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
            raise SentAwayError(message)
        return self._link.received(message)


async def _unless_gone(watching: Awaitable[None]) -> None:
    """Watch for a dead peer. A connection that is simply gone is the reader's to tell: perhaps a goodbye was read."""
    try:
        await watching
    except DeadPeerError:
        raise
    except ConnectError:
        return


async def _finish(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs and wait for it; what has failed is known already."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else the loop would report it as never retrieved
