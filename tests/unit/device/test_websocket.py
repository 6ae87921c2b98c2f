"""What counts as a sign of life on a WebSocket, whichever version of the library brings it."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosedError

from pommai.device.network.websocket import WebSocket
from pommai.errors import ConnectError

from .virtual_time import in_virtual_time


class Connection:
    """The library's connection, as far as signs of life go. `pong_s`: how long a pong takes."""

    def __init__(self, pong_s: float | None) -> None:
        self.pong_s = pong_s
        self.pongs: list[asyncio.Future[float]] = []
        self.frames: asyncio.Queue[str] = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()

    async def ping(self) -> asyncio.Future[float]:
        await self.room.wait()
        loop = asyncio.get_running_loop()
        pong: asyncio.Future[float] = loop.create_future()
        self.pongs.append(pong)
        if self.pong_s is not None:
            loop.call_later(self.pong_s, pong.set_result, self.pong_s)
        return pong

    async def recv(self) -> str:
        return await self.frames.get()


@pytest.mark.parametrize(("pong_s", "alive", "took_s"), [(0.2, True, 0.2), (5.0, False, 3.0), (None, False, 3.0)])
@in_virtual_time
async def test_a_pong_in_time_is_a_sign_of_life(pong_s: float | None, alive: bool, took_s: float) -> None:
    connection = Connection(pong_s)
    websocket = WebSocket(connection)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await websocket.answers(3.0) is alive
    assert loop.time() - began_s == pytest.approx(took_s)
    assert websocket.heard_s == (loop.time() if alive else began_s)
    assert not connection.pongs[0].cancelled()  # 10.4 trips over one that is
    await asyncio.sleep(10)


@in_virtual_time
async def test_a_frame_is_one_too_and_a_frame_of_before_is_none() -> None:
    connection = Connection(None)
    websocket = WebSocket(connection)
    connection.frames.put_nowait("before")
    await websocket.receive()
    await asyncio.sleep(1)
    assert not await websocket.answers(3.0)
    asking = asyncio.create_task(websocket.answers(3.0))
    await asyncio.sleep(1)
    connection.frames.put_nowait("now")
    await websocket.receive()
    assert await asking


@in_virtual_time
async def test_a_ping_that_finds_no_room_on_the_wire_is_waited_for_no_longer() -> None:
    connection = Connection(0.1)
    connection.room.clear()
    assert not await WebSocket(connection).answers(3.0)


@in_virtual_time
async def test_a_connection_that_goes_meanwhile_is_told_as_such() -> None:
    connection = Connection(None)
    asking = asyncio.create_task(WebSocket(connection).answers(3.0))
    await asyncio.sleep(1)
    connection.pongs[0].set_exception(ConnectionClosedError(None, None))
    with pytest.raises(ConnectError, match="broke off"):
        await asking
