"""The toy's connection against relays that refuse, misbehave, stall and die."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trustme
from aiohttp import web

from pommai.device.network import dialing as dialing_module
from pommai.device.network import session as session_module
from pommai.device.network import uplink as uplink_module
from pommai.device.network import websocket as websocket_module
from pommai.device.network.address import refusal
from pommai.device.network.dialing import Resolver
from pommai.device.network.meter import Meter
from pommai.device.network.session import OUTBOX_MESSAGES
from pommai.device.network.uplink import WebSocketUplink
from pommai.device.network.websocket import WebSocket, open_websocket
from pommai.device.ports import FromRelay, ResumePoint
from pommai.device.settings import RelayLink
from pommai.errors import ConfigError, ConnectError, LocalProtocolError
from pommai.protocol import (
    PATH,
    AudioFrame,
    Cancel,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    Goodbye,
    Hello,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.schema import Secret

from .tiny_relay import TOKEN, Peer, parrot, tiny_relay

PACKET = b"\x58" + bytes(60)
PATIENCE_S = 10.0


class Listener:
    """Writes down what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Welcome | FromRelay | ConnectError] = []
        self.times_s: list[float] = []
        self.point: ResumePoint | None = None
        self._changed = asyncio.Event()

    def resume_point(self) -> ResumePoint | None:
        return self.point

    def _write(self, event: Welcome | FromRelay | ConnectError) -> None:
        self.events.append(event)
        self.times_s.append(asyncio.get_running_loop().time())
        self._changed.set()

    def welcomed(self, welcome: Welcome) -> None:
        self._write(welcome)

    def received(self, message: FromRelay) -> None:
        self._write(message)

    def lost(self, error: ConnectError) -> None:
        self._write(error)

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_told(self, kind: type, times: int = 1) -> None:
        await self.until(lambda: self.count(kind) >= times)

    @property
    def losses(self) -> list[str]:
        return [str(event) for event in self.events if isinstance(event, ConnectError)]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt follows after a moment, as when chance is kind."""
    monkeypatch.setattr(uplink_module, "delay_s", lambda failures, chance: 0.01)


@asynccontextmanager
async def connecting(
    url: str, token: str = TOKEN, ca_file: str = "", meter: Meter | None = None
) -> AsyncIterator[tuple[WebSocketUplink, Listener]]:
    uplink = WebSocketUplink(RelayLink(url, Secret(token), ca_file=ca_file), captions=True, meter=meter)
    listener = Listener()
    uplink.start(listener)
    try:
        yield uplink, listener
    finally:
        await uplink.aclose()


def say(uplink: WebSocketUplink, turn: int, n_packets: int) -> None:
    uplink.send(UtteranceStart(turn))
    for _ in range(n_packets):
        uplink.send_audio(turn, PACKET)
    uplink.send(UtteranceEnd(turn))


async def test_a_turn_there_and_back() -> None:
    meter = Meter()
    async with tiny_relay(parrot) as relay, connecting(relay.url, meter=meter) as (uplink, listener):
        await listener.until_told(Welcome)
        say(uplink, 1, 3)
        await listener.until_told(SpeakingEnd)
        assert listener.events[1:] == [
            Transcript(1, "hello toy"),
            SpeakingStart(1),
            Sentence(1, "Hello child."),
            *(AudioFrame(1, sequence, PACKET) for sequence in range(3)),
            SpeakingEnd(1),
        ]
        hello = relay.peers[0].messages[0]
        assert isinstance(hello, Hello)
        assert hello.captions
        assert "Sec-WebSocket-Extensions" not in relay.peers[0].request.headers  # compression is off
        assert meter.turn(1).uplink.frames == 5
        assert meter.turn(1).downlink.frames == 7
        assert meter.turn(1).uplink.audio_ms == meter.turn(1).downlink.audio_ms == 180


async def test_sequences_begin_anew_in_each_turn() -> None:
    async with tiny_relay(parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        for turn in (1, 2):
            say(uplink, turn, 2)  # the relay's script checks the sequence
            await listener.until_told(SpeakingEnd, turn)


async def test_what_is_sent_without_a_connection_is_dropped() -> None:
    async with tiny_relay(parrot) as relay, connecting(relay.url) as (uplink, listener):
        say(uplink, 1, 2)
        await listener.until_told(Welcome)
        uplink.send_audio(1, PACKET)  # the rest of a turn that was begun before
        uplink.send(UtteranceEnd(1))
        uplink.send(Cancel(1))
        say(uplink, 2, 1)
        await listener.until_told(SpeakingEnd)
        assert [getattr(message, "turn", None) for message in relay.peers[0].messages] == [None, 2, 2, 2]


async def test_our_own_mistakes_are_told_to_us() -> None:
    async with tiny_relay(parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        uplink.send(UtteranceStart(1))
        with pytest.raises(LocalProtocolError):
            uplink.send(UtteranceStart(2))


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_token_is_named_and_not_shown() -> None:
    async with tiny_relay(parrot) as relay, connecting(relay.url, "another-secret") as (_, listener):
        await listener.until_told(ConnectError)
        assert "refuses the device token (HTTP 401)" in listener.losses[0]
        assert "another-secret" not in listener.losses[0]


@pytest.mark.parametrize(("status", "words"), [(429, "wait a minute"), (404, "no relay for toys"), (503, "HTTP 503")])
async def test_a_refused_upgrade_says_what_to_do(status: int, words: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get(PATH, refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with connecting(f"ws://127.0.0.1:{runner.addresses[0][1]}{PATH}") as (_, listener):
        await listener.until_told(ConnectError)
    await runner.cleanup()
    assert words in listener.losses[0]


async def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else() -> None:
    visits: list[str] = []

    async def move(request: web.Request) -> web.Response:
        visits.append(request.path)
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_get("/{path:.*}", move)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with connecting(f"ws://127.0.0.1:{runner.addresses[0][1]}{PATH}") as (_, listener):
        await listener.until_told(ConnectError, 2)
    await runner.cleanup()
    assert "sends us to another address (HTTP 302); set relay.url to that one" in listener.losses[0]
    assert set(visits) == {PATH}


async def test_a_port_where_nothing_listens() -> None:
    with socket.socket() as reserved:  # bound, and not listening
        reserved.bind(("127.0.0.1", 0))
        async with connecting(f"ws://127.0.0.1:{reserved.getsockname()[1]}{PATH}") as (_, listener):
            await listener.until_told(ConnectError, 2)  # and it goes on trying
            assert "nothing listens at" in listener.losses[0]


async def test_a_port_that_speaks_something_else() -> None:
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(banner, "127.0.0.1", 0)
    async with server, connecting(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}") as (_, listener):
        await listener.until_told(ConnectError)
        assert "does not speak WebSocket" in listener.losses[0]


async def test_a_server_of_another_protocol() -> None:
    async with tiny_relay(parrot, subprotocol="chat") as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(ConnectError)
        assert "does not speak pommai.v1" in listener.losses[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    """A certificate authority of our own, and its certificate as a file that a toy can be told to trust."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


def serving(authority: trustme.CA, not_after: datetime | None = None) -> ssl.SSLContext:
    """What a relay on 127.0.0.1 serves with, signed by `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=not_after).configure_cert(context)
    return context


async def test_a_relay_with_a_certificate_that_we_trust(authority: tuple[trustme.CA, str]) -> None:
    signer, ca_file = authority
    async with (
        tiny_relay(parrot, tls=serving(signer)) as relay,
        connecting(relay.url, ca_file=ca_file) as (_, listener),
    ):
        await listener.until_told(Welcome)


async def test_a_certificate_that_has_expired_asks_for_the_clock(authority: tuple[trustme.CA, str]) -> None:
    signer, ca_file = authority
    async with (
        tiny_relay(parrot, tls=serving(signer, datetime(2020, 1, 1, tzinfo=UTC))) as relay,
        connecting(relay.url, ca_file=ca_file) as (_, listener),
    ):
        await listener.until_told(ConnectError)
        assert "has expired; renew it on the relay, or is the clock of this toy wrong?" in listener.losses[0]


async def test_a_toy_that_does_not_know_the_time_says_so(authority: tuple[trustme.CA, str]) -> None:
    signer, ca_file = authority
    async with tiny_relay(parrot, tls=serving(signer, datetime(2020, 1, 1, tzinfo=UTC))) as relay:
        link = RelayLink(relay.url, Secret(TOKEN), ca_file=ca_file)
        uplink, listener = WebSocketUplink(link, clock_trusted=lambda: False), Listener()
        uplink.start(listener)
        await listener.until_told(ConnectError)
        await uplink.aclose()
    assert "this toy does not know the time yet; let it reach a time server" in listener.losses[0]


def test_a_certificate_of_the_future_asks_for_the_clock() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 9, "certificate is not yet valid"
    url = "wss://relay.example/v1/toy"
    assert "is not valid yet (certificate is not yet valid); is the clock" in refusal(error, None, url)
    assert "does not know the time yet" in refusal(error, None, url, clock_trusted=False)
    error.verify_code = 18
    assert "is not trusted" in refusal(error, None, url, clock_trusted=False)


async def test_a_certificate_of_an_authority_that_we_do_not_know(authority: tuple[trustme.CA, str]) -> None:
    signer, _ = authority
    async with tiny_relay(parrot, tls=serving(signer)) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(ConnectError)
        assert "is relay.ca_file right?" in listener.losses[0]


async def test_a_relay_without_tls_where_tls_was_expected() -> None:
    async with tiny_relay(parrot) as relay, connecting(relay.url.replace("ws:", "wss:")) as (_, listener):
        await listener.until_told(ConnectError)
        assert "does the relay speak TLS there?" in listener.losses[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "did not answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "is the name right?"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "does its DNS answer?"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("Multiple exceptions"), "no address of it answers"),
        (EOFError(), "does not speak WebSocket"),
    ],
)
def test_every_refusal_is_one_sentence_with_the_address(error: Exception, words: str) -> None:
    text = refusal(error, None, "wss://relay.example/v1/toy")
    assert words in text
    assert "wss://relay.example/v1/toy" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("relay", "words"),
    [
        (RelayLink("ws://relay.example/v1/toy"), "plain ws://"),
        (RelayLink("ws://192.168.1.5:8787/v1/toy"), "plain ws://"),
        (RelayLink("http://127.0.0.1/v1/toy"), "must look like"),
        (RelayLink("wss://"), "must look like"),
        (RelayLink("wss://relay.example:port/"), "must look like"),
        (RelayLink("wss://[::1/"), "must look like"),
        (RelayLink("wss://me:word@relay.example/v1/toy"), "no user name"),
        (RelayLink("wss://relay.example/", Secret("two words")), "characters that no token has"),
        (RelayLink("wss://relay.example/", Secret("line\nbreak")), "characters that no token has"),
        (RelayLink("wss://relay.example/", ca_file="/nowhere/ca.pem"), "relay.ca_file /nowhere/ca.pem"),
        (RelayLink("wss://relay.example/", ca_file=__file__), "holds no certificates"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_sent(relay: RelayLink, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        WebSocketUplink(relay)
    assert "word@" not in str(caught.value)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    "relay",
    [
        RelayLink("ws://127.0.0.1:8787/v1/toy"),
        RelayLink("ws://localhost/v1/toy"),
        RelayLink("ws://[::1]:8787/v1/toy"),
        RelayLink("ws://192.168.1.5/v1/toy", insecure=True),
        RelayLink("wss://relay.example/v1/toy"),
    ],
)
def test_settings_that_can_be_used(relay: RelayLink) -> None:
    WebSocketUplink(relay)


async def test_the_token_is_in_no_log_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with tiny_relay(parrot) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(Welcome)
    assert "welcomed by the relay" in caplog.text
    assert TOKEN not in caplog.text


# --- relays that misbehave --------------------------------------------------------------------------------------------


async def test_a_relay_that_never_answers_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WELCOME_S", 0.2)

    async def sulk(peer: Peer) -> None:
        while await peer.receive() is not None:
            pass

    async with tiny_relay(sulk, parrot) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(Welcome)
        assert "did not answer our hello" in listener.losses[0]


@pytest.mark.parametrize(
    ("garbage", "words"),
    [
        ("not json", "bad_message"),
        ('{"type":"speaking_start"}', "bad_message"),
        (b"\x01", "bad_message"),
        ('{"type":"speaking_start","turn":9}', "out_of_order"),
        ('{"type":"sentence","turn":1,"text":"' + "x" * 5000 + '"}', "bad_message"),
        (b"\x01" + bytes(3000), "too_large"),
        (b"\x01" + bytes(20_000), "broke off"),
        ("x" * 2_000_000, "broke off"),
    ],
    ids=["no json", "no turn", "no packet", "no such turn", "long text", "large packet", "large frame", "huge frame"],
)
async def test_a_relay_that_sends_garbage_is_left_and_tried_again(garbage: str | bytes, words: str) -> None:
    async def rave(peer: Peer) -> None:
        await peer.welcome()
        await peer.send_raw(garbage)
        await peer.receive()

    async with tiny_relay(rave, parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome, 2)
        assert words in listener.losses[0]
        say(uplink, 1, 1)
        await listener.until_told(SpeakingEnd)


async def test_messages_of_a_newer_relay_are_ignored() -> None:
    async def newer(peer: Peer) -> None:
        await peer.welcome()
        await peer.send_raw('{"type":"play_a_jingle","volume":11}')
        await peer.send_raw(b"\x09" + bytes(40))
        await peer.send(Error(ErrorCode.INTERNAL))
        await peer.receive()

    async with tiny_relay(newer) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(Error)
        assert [type(event) for event in listener.events] == [Welcome, Error]


async def test_a_relay_of_another_version() -> None:
    async def older(peer: Peer) -> None:
        await peer.welcome(version=7)
        await peer.receive()

    async with tiny_relay(older) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(ConnectError)
        assert "version 7" in listener.losses[0]


async def test_a_goodbye_is_honoured() -> None:
    async def leave(peer: Peer) -> None:
        await peer.welcome()
        await peer.send(Goodbye(ErrorCode.SHUTTING_DOWN, 0.3))
        await peer.receive()

    async with tiny_relay(leave, parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(ConnectError)
        say(uplink, 1, 1)  # into the void
        await listener.until_told(Welcome, 2)
        assert listener.losses == ["the relay said goodbye (shutting_down)"]
        assert listener.times_s[2] - listener.times_s[1] >= 0.3


async def test_a_goodbye_instead_of_a_welcome_is_honoured() -> None:
    async def turn_away(peer: Peer) -> None:
        await peer.receive()
        await peer.send(Error(ErrorCode.UNSUPPORTED_VERSION), Goodbye(ErrorCode.UNSUPPORTED_VERSION, 0.3))
        await peer.receive()

    async with tiny_relay(turn_away, parrot) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(Welcome)
        assert [loss.partition(":")[0] for loss in listener.losses] == ["the relay said goodbye (unsupported_version)"]
        assert "update the older one" in listener.losses[0]
        assert listener.times_s[1] - listener.times_s[0] >= 0.3


async def test_a_relay_that_dies_in_the_middle_of_a_turn() -> None:
    async def die(peer: Peer) -> None:
        await peer.welcome()
        await peer.utterance()
        assert peer.request.transport is not None
        peer.request.transport.abort()

    async with tiny_relay(die, parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        say(uplink, 1, 2)
        await listener.until_told(Welcome, 2)
        assert "broke off" in listener.losses[0]
        uplink.send(Cancel(1))  # of the old connection
        say(uplink, 2, 1)
        await listener.until_told(SpeakingEnd)


async def test_a_relay_slower_than_the_child_never_blocks_and_is_left() -> None:
    async def doze(peer: Peer) -> None:
        await peer.welcome()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with tiny_relay(doze, parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        uplink.send(UtteranceStart(1))
        sent, longest_s = 0, 0.0
        async with asyncio.timeout(PATIENCE_S):
            while not listener.losses:
                began_s = loop.time()
                for _ in range(10):
                    uplink.send_audio(1, bytes(1275))
                sent += 10
                longest_s = max(longest_s, loop.time() - began_s)
                await asyncio.sleep(0)
        assert listener.losses == ["the network is too slow for speech"]
        assert sent > OUTBOX_MESSAGES
        assert longest_s < 0.1
        await listener.until_told(Welcome, 2)


async def test_an_echo_of_a_cancelled_turn_is_not_handed_on() -> None:
    async def late(peer: Peer) -> None:
        await peer.welcome()
        turn, _ = await peer.utterance()
        await peer.send(Transcript(turn, "hello"), SpeakingStart(turn))
        while not isinstance(await peer.receive(), Cancel):
            pass
        peer.link = type(peer.link)(peer.link.side)  # forget the cancel, as if it were still on its way
        await peer.send_raw('{"type":"sentence","turn":1,"text":"late"}')
        await peer.send_raw('{"type":"error","code":"internal"}')
        await asyncio.Event().wait()

    async with tiny_relay(late) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        say(uplink, 1, 1)
        await listener.until_told(SpeakingStart)
        uplink.send(Cancel(1))
        await listener.until_told(Error)
        assert [type(event) for event in listener.events] == [Welcome, Transcript, SpeakingStart, Error]


# --- networks that fail -----------------------------------------------------------------------------------------------


async def test_a_connection_that_goes_dead_is_noticed_without_any_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(session_module, "PONG_S", 0.3)

    async def freeze(peer: Peer) -> None:
        await peer.welcome()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()  # takes nothing and gives nothing, and does not close
        await asyncio.Event().wait()

    async with tiny_relay(freeze, parrot) as relay, connecting(relay.url) as (_, listener):
        await listener.until_told(Welcome, 2)
        assert "the relay has not been heard for" in listener.losses[0]
        assert 0.5 <= listener.times_s[1] - listener.times_s[0] < 0.9


@pytest.fixture
def signs_of_life(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[bool]:
    """Whether the relay answered, each time that it was asked."""
    answers, given = WebSocket.answers, asyncio.Queue[bool]()

    async def noted(websocket: WebSocket, limit_s: float) -> bool:
        is_alive = await answers(websocket, limit_s)
        given.put_nowait(is_alive)
        return is_alive

    monkeypatch.setattr(WebSocket, "answers", noted)
    return given


async def test_a_quiet_connection_lives(monkeypatch: pytest.MonkeyPatch, signs_of_life: asyncio.Queue[bool]) -> None:
    monkeypatch.setattr(session_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(session_module, "PONG_S", 2.0)
    async with tiny_relay(parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        for _ in range(12):
            assert await asyncio.wait_for(signs_of_life.get(), PATIENCE_S)
        say(uplink, 1, 1)
        await listener.until_told(SpeakingEnd)
        assert listener.losses == []


async def test_a_press_finds_out_that_the_connection_is_dead(
    monkeypatch: pytest.MonkeyPatch, signs_of_life: asyncio.Queue[bool]
) -> None:
    monkeypatch.setattr(session_module, "WAKE_S", 0.3)

    async def freeze(peer: Peer) -> None:
        await peer.welcome()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await asyncio.Event().wait()

    async with tiny_relay(freeze, parrot) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        uplink.wake()
        await listener.until_told(Welcome, 2)
        assert listener.losses == ["the relay did not answer when the button was pressed"]
        assert not await signs_of_life.get()
        uplink.wake()
        assert await asyncio.wait_for(signs_of_life.get(), PATIENCE_S)
        assert len(listener.losses) == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells")
async def test_the_machine_of_a_relay_that_froze_still_gives_signs_of_life() -> None:
    async def freeze(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await asyncio.Event().wait()

    async with tiny_relay(freeze) as relay, asyncio.timeout(PATIENCE_S):
        link = RelayLink(relay.url, Secret(TOKEN))
        websocket = await open_websocket(link, None, Resolver(), lambda: True)
        while (websocket.silent_s() or 0.0) < 0.3:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
        await websocket.send("hello")
        while (websocket.silent_s() or 0.0) >= 0.3:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        websocket.abort()
        await websocket.hang_up()
        assert websocket.silent_s() is None, "nobody can say any more"


async def test_a_relay_that_froze_does_not_hold_up_the_end() -> None:
    async def freeze(peer: Peer) -> None:
        await peer.welcome()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with tiny_relay(freeze) as relay:
        async with connecting(relay.url) as (uplink, listener):
            await listener.until_told(Welcome)
            uplink.wake()
            began_s = loop.time()
        assert loop.time() - began_s < 1.9  # the daemon has two seconds in all
        assert listener.losses == []


async def test_a_reply_that_broke_off_goes_on() -> None:
    heard = asyncio.Event()

    async def break_off(peer: Peer) -> None:
        await peer.welcome(session="first")
        turn, packets = await peer.utterance()
        await peer.send(SpeakingStart(turn), AudioFrame(turn, 0, packets[0]))
        assert peer.request.transport is not None
        await heard.wait()
        peer.request.transport.abort()

    async def go_on(peer: Peer) -> None:
        hello = await peer.receive()
        assert isinstance(hello, Hello)
        assert (hello.session, hello.turn, hello.next_sequence) == ("first", 1, 1)
        await peer.send(Welcome(1, "second", 1.7e9, 30.0, resumed=1))
        await peer.send(SpeakingStart(1), AudioFrame(1, 1, PACKET), SpeakingEnd(1))
        await peer.receive()

    async with tiny_relay(break_off, go_on) as relay, connecting(relay.url) as (uplink, listener):
        await listener.until_told(Welcome)
        listener.point = ResumePoint(1, 1)
        say(uplink, 1, 2)
        await listener.until_told(AudioFrame)
        heard.set()
        await listener.until_told(SpeakingEnd)
        assert [event for event in listener.events if isinstance(event, AudioFrame)] == [
            AudioFrame(1, 0, PACKET),
            AudioFrame(1, 1, PACKET),
        ]


async def test_what_is_about_the_toy_goes_through_beside_the_turns() -> None:
    batch = EventBatch((EventRecord("e1", "tap", 1.7e9, True, {"count": 3}),))

    async def store(peer: Peer) -> None:
        await peer.welcome()
        await peer.send(Command("c1", "volume", 0.5))
        while (message := await peer.receive()) is not None:
            if isinstance(message, EventBatch):
                await peer.send(EventsStored(tuple(event.id for event in message.events)))

    async with tiny_relay(store) as relay, connecting(relay.url) as (uplink, listener):
        uplink.send(batch)  # into the void
        await listener.until_told(Command)
        uplink.send(UtteranceStart(1))
        uplink.send(batch)
        uplink.send(CommandDone("c1"))
        await listener.until_told(EventsStored)
        assert batch in relay.peers[0].messages
        assert relay.peers[0].messages.count(batch) == 1


async def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with connecting("wss://toys.example/v1/toy") as (_, listener):
        await listener.until_told(ConnectError, 2)
        assert "the host of wss://toys.example/v1/toy is not known" in listener.losses[0]


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
async def test_a_name_that_cannot_be_one(host: str) -> None:
    async with connecting(f"wss://{host}/v1/toy") as (_, listener):
        await listener.until_told(ConnectError)
        assert "is not known" in listener.losses[0]


def test_a_resolver_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "OPEN_TIMEOUT_S", 0.2)
    released, asked = threading.Event(), list[object]()

    def hang(*args: object, **options: object) -> list[object]:
        asked.append(args)
        released.wait(30)
        return []

    async def live() -> list[str]:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        async with connecting("wss://toys.example/v1/toy") as (_, listener):
            await listener.until_told(ConnectError, 3)
        return listener.losses

    began_s = time.monotonic()
    losses = asyncio.run(live())
    ended_s = time.monotonic()
    released.set()
    assert "the host of wss://toys.example/v1/toy cannot be looked up" in losses[0]  # which is no fault of the relay
    assert len(asked) == 1  # one thread, however often it is tried
    assert ended_s - began_s < 2.0


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_relay_that_says_nothing_does_not_hold_up_an_attempt(
    scheme: str, mute: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_module, "OPEN_TIMEOUT_S", 0.3)
    async with connecting(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}{PATH}") as (_, listener):
        await listener.until_told(ConnectError)
        assert "did not answer in time" in listener.losses[0]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_relay_that_says_nothing_does_not_hold_up_the_end(scheme: str, mute: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with connecting(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}{PATH}"):
        connection, _ = await loop.sock_accept(mute)
        assert await loop.sock_recv(connection, 1)  # in the middle of TLS, or of the upgrade
        began_s = loop.time()
    assert loop.time() - began_s < 1.9  # the daemon has two seconds in all
    connection.close()


async def test_an_address_that_takes_nothing_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing_module, "ADDRESS_S", 0.2)
    look_up = socket.getaddrinfo
    with socket.socket() as full:  # a listener whose queue is full takes no further connection, and refuses none
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        first = socket.create_connection(("127.0.0.1", port))
        async with tiny_relay(parrot) as relay:
            relay_port = int(relay.url.rsplit(":", 1)[1].split("/")[0])

            def two(host: str, port_: int, **options: object) -> list[object]:
                dead, gone, good = (
                    look_up("127.0.0.1", each, type=socket.SOCK_STREAM) for each in (port, 1, relay_port)
                )
                return [*dead, *gone, *good]

            monkeypatch.setattr(socket, "getaddrinfo", two)
            async with connecting(f"ws://localhost:{relay_port}{PATH}") as (_, listener):
                await listener.until_told(Welcome)
                assert listener.losses == []
        first.close()
