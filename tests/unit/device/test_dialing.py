"""How long a name may take to be looked up, and what a look-up that takes longer is told as."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from pommai.device.network.dialing import Address, Resolver
from pommai.device.network.websocket import OPEN_TIMEOUT_S, open_websocket
from pommai.device.settings import RelayLink
from pommai.errors import ConnectError

from .virtual_time import in_virtual_time


async def test_a_look_up_that_hangs_is_waited_for_again_and_no_answer_of_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked = threading.Event(), list[str]()
    look_up = socket.getaddrinfo

    def slow(host: str, port: int, **options: object) -> list[object]:
        asked.append(host)
        assert answers.wait(10)
        return [*look_up("127.0.0.1", port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver()
    for _ in range(2):
        with pytest.raises(socket.gaierror) as raised:
            await resolver.addresses("toys.example", 80, 0.02)
        assert raised.value.errno == socket.EAI_AGAIN
    asyncio.get_running_loop().call_later(0.02, answers.set)
    assert [each[4] for each in await resolver.addresses("toys.example", 80, 10.0)] == [("127.0.0.1", 80)]
    assert asked == ["toys.example"]


class Slow(Resolver):
    """Takes 6 s to find that any host is this machine."""

    async def addresses(self, host: str, port: int, limit_s: float) -> list[Address]:
        assert limit_s > 6
        await asyncio.sleep(6)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]


@in_virtual_time
async def test_a_name_that_took_long_leaves_the_rest_of_the_time_to_the_relay() -> None:
    """The limit is for both together; and a relay that is found, and says nothing, is told as what it is."""
    loop = asyncio.get_running_loop()
    with socket.socket() as mute:  # it takes connections and never says a word
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        link = RelayLink(f"ws://toys.example:{mute.getsockname()[1]}/v1/toy", insecure=True)
        began_s = loop.time()
        with pytest.raises(ConnectError, match="did not answer in time"):
            await open_websocket(link, None, Slow(), lambda: True)
        assert loop.time() - began_s == pytest.approx(OPEN_TIMEOUT_S)
