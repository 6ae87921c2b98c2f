"""Signs of life, what goes first on the wire, and when the uplink tries again: in virtual time, on a scripted wire."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from pommai.device.network import uplink as uplink_module
from pommai.device.network.dialing import Resolver
from pommai.device.network.session import ASIDE_MESSAGES, HEARTBEAT_S, OUTBOX_MESSAGES, PONG_S, WAKE_S
from pommai.device.network.uplink import FLUSH_S, NO_TOKEN, WAKE_EVERY_S, WebSocketUplink
from pommai.device.network.websocket import OPEN_TIMEOUT_S
from pommai.device.ports import FromRelay, ResumePoint
from pommai.device.settings import RelayLink
from pommai.errors import ConnectError
from pommai.protocol import (
    RESUME_S,
    VERSION,
    AudioFrame,
    Cancel,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    Goodbye,
    Hello,
    Message,
    PhrasesWanted,
    SpeakingEnd,
    SpeakingStart,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.schema import Secret
from pommai.wire import decode, encode

from .virtual_time import in_virtual_time

TOKEN = Secret("a-token-for-tests")
PACKET = b"\x58" + bytes(60)
BATCH = EventBatch((EventRecord("e1", "tap", 1.0),))


class Wire:
    """A WebSocket whose peer is a script. `silent`: nothing comes through any more, as with a half-open connection."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._now = asyncio.get_running_loop().time
        self._inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.sent: list[Message] = []
        self.heard_s = self._now()
        self.asked: list[float] = []
        self.silent = False
        self.acknowledged_s: float | None = None
        self.rtt_s = 0.1
        self.gone_s: float | None = None
        self.room = asyncio.Event()
        self.room.set()
        self.aborted = False

    async def send(self, frame: str | bytes) -> None:
        await self.room.wait()
        message = decode(frame)
        self.sent.append(message)
        if isinstance(message, Hello):
            self._network.greet(self, message)

    async def receive(self) -> str | bytes:
        while (frame := await self._inbox.get()) is None or self.silent:
            if frame is None:
                raise ConnectError("the connection broke off (no close code)")
        self.heard_s = self._now()
        return frame

    async def answers(self, limit_s: float) -> bool:
        asked_s = self._now()
        self.asked.append(limit_s)
        if self.gone_s is not None:
            await asyncio.sleep(self.gone_s - asked_s)
            raise ConnectError("the connection broke off (code 1001)")
        await asyncio.sleep(limit_s if self.silent else min(limit_s, self.rtt_s))
        if not self.silent and self.rtt_s <= limit_s:
            self.heard_s = self._now()
        return self.heard_s > asked_s

    def silent_s(self) -> float | None:
        return None if self.acknowledged_s is None else self._now() - self.acknowledged_s

    def say(self, message: Message) -> None:
        self._inbox.put_nowait(encode(message))

    def hear(self) -> None:
        """Any message that means nothing to anybody here."""
        self.say(Error(ErrorCode.INTERNAL))

    def break_off(self) -> None:
        self._inbox.put_nowait(None)

    def abort(self) -> None:
        self.aborted = True

    async def hang_up(self) -> None:
        await asyncio.sleep(0)


class Network:
    """What `open_websocket` meets: relays that greet, or `refuses`."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.attempts_s: list[float] = []
        self.refuses = False
        self.is_deaf = False
        """Whether an attempt that began while it refused comes to nothing, also if it would not refuse any more."""
        self.hangs_s = 0.0
        self.welcome: Callable[[Hello], Message] = lambda hello: Welcome(VERSION, f"s{len(self.wires)}", 1.7e9, 30.0)

    def greet(self, wire: Wire, hello: Hello) -> None:
        wire.say(self.welcome(hello))

    async def open(
        self,
        relay: RelayLink,
        tls: ssl.SSLContext | None,
        resolver: Resolver,
        clock_trusted: Callable[[], bool],
        *,
        limit_s: float,
    ) -> Wire:
        self.attempts_s.append(asyncio.get_running_loop().time())
        refused = self.refuses
        await asyncio.sleep(min(self.hangs_s, limit_s))
        if refused if self.is_deaf else self.refuses:
            raise ConnectError("nothing listens")
        self.wires.append(Wire(self))
        return self.wires[-1]


class Listener:
    """Writes down what it is told, and when."""

    def __init__(self) -> None:
        self.welcomes: list[Welcome] = []
        self.messages: list[FromRelay] = []
        self.losses: list[str] = []
        self.lost_s: list[float] = []
        self.point: ResumePoint | None = None
        self.greeted = asyncio.Event()

    def resume_point(self) -> ResumePoint | None:
        return self.point

    def welcomed(self, welcome: Welcome) -> None:
        self.welcomes.append(welcome)
        self.greeted.set()

    def received(self, message: FromRelay) -> None:
        self.messages.append(message)

    def lost(self, error: ConnectError) -> None:
        self.losses.append(str(error))
        self.lost_s.append(asyncio.get_running_loop().time())


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(uplink_module, "open_websocket", network.open)
    return network


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Backoff without chance, always 20 s: the numbers of failures that it was asked for."""
    asked: list[float] = []

    def delay_s(failures: int, chance: float) -> float:
        asked.append(failures)
        return 20.0

    monkeypatch.setattr(uplink_module, "delay_s", delay_s)
    return asked


@asynccontextmanager
async def connecting(relay: RelayLink | None = None) -> AsyncIterator[tuple[WebSocketUplink, Listener]]:
    uplink = WebSocketUplink(relay or RelayLink("ws://127.0.0.1/", TOKEN))
    listener = Listener()
    uplink.start(listener)
    await asyncio.sleep(0.01)
    try:
        yield uplink, listener
    finally:
        await uplink.aclose()


# --- heartbeat --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_half_open_connection_is_noticed_within_25_s(network: Network, waits: list[float]) -> None:
    async with connecting() as (_, listener):
        began_s = asyncio.get_running_loop().time()
        network.wires[0].silent = True
        await asyncio.sleep(25)
        assert listener.losses == ["the relay has not been heard for 20 s"]
        assert listener.lost_s[0] - began_s == pytest.approx(HEARTBEAT_S + PONG_S, abs=0.1)
        assert network.wires[0].aborted  # no polite goodbye to somebody who cannot hear it


@in_virtual_time
async def test_silence_is_no_death_while_pings_are_answered(network: Network) -> None:
    async with connecting() as (_, listener):
        await asyncio.sleep(3600)
        assert listener.losses == []
        assert len(network.wires[0].asked) == pytest.approx(3600 / (HEARTBEAT_S + 0.1), abs=1)


@in_virtual_time
async def test_what_comes_is_as_good_as_a_pong(network: Network) -> None:
    async with connecting() as (_, listener):
        wire = network.wires[0]
        wire.rtt_s = 60.0  # pongs wait behind the sound of a very slow network
        for _ in range(30):
            await asyncio.sleep(9)
            wire.hear()
        assert listener.losses == []
        assert wire.asked == []
        for _ in range(10):
            await asyncio.sleep(15)  # silence long enough to be asked about, and then a frame
            wire.hear()
        assert listener.losses == []
        assert len(wire.asked) == 10


@in_virtual_time
async def test_sound_that_we_send_proves_nothing(network: Network, waits: list[float]) -> None:
    async with connecting() as (uplink, listener):
        network.wires[0].silent = True
        uplink.send(UtteranceStart(1))
        for _ in range(400):
            uplink.send_audio(1, PACKET)
            await asyncio.sleep(0.06)
        assert listener.losses == ["the relay has not been heard for 20 s"]


# --- a press ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_press_finds_a_dead_connection_soon(network: Network, waits: list[float]) -> None:
    async with connecting() as (uplink, listener):
        network.wires[0].silent = True
        pressed_s = asyncio.get_running_loop().time()
        uplink.wake()
        await asyncio.sleep(5)
        assert listener.losses == ["the relay did not answer when the button was pressed"]
        assert listener.lost_s[0] - pressed_s == pytest.approx(WAKE_S, abs=0.1)


@pytest.mark.parametrize(
    ("acknowledged_s", "patience_s"),
    [(None, 2 * WAKE_S), (-5.0, WAKE_S), (-0.1, WAKE_S), (0.5, 2 * WAKE_S), (2.9, 2 * WAKE_S)],
)
@in_virtual_time
async def test_with_something_to_say_a_press_has_more_patience_if_some_of_it_is_taken(
    network: Network, waits: list[float], acknowledged_s: float | None, patience_s: float
) -> None:
    """`acknowledged_s`: the last sign of the relay's machine, counted from the press; None if nobody can say."""
    async with connecting() as (uplink, listener):
        wire = network.wires[0]
        wire.silent = True
        pressed_s = asyncio.get_running_loop().time()
        if acknowledged_s is not None:
            wire.acknowledged_s = pressed_s + acknowledged_s
        uplink.wake()
        await asyncio.sleep(0.3)
        uplink.send(UtteranceStart(1))
        for _ in range(150):
            uplink.send_audio(1, PACKET)
            await asyncio.sleep(0.06)
        assert listener.lost_s[0] - pressed_s == pytest.approx(patience_s, abs=0.1)


@pytest.mark.parametrize("sign", ["pong", "frame"])
@in_virtual_time
async def test_a_slow_network_survives_a_press(network: Network, sign: str) -> None:
    async with connecting() as (uplink, listener):
        wire = network.wires[0]
        wire.rtt_s = 5.5 if sign == "frame" else 2.9
        for _ in range(5):
            uplink.wake()
            uplink.send(PhrasesWanted(0))
            await asyncio.sleep(2)
            if sign == "frame":
                wire.hear()
            await asyncio.sleep(7)
        assert listener.losses == []


@in_virtual_time
async def test_many_presses_ask_once_at_a_time(network: Network) -> None:
    async with connecting() as (uplink, listener):
        network.wires[0].rtt_s = 1.0
        for _ in range(50):
            uplink.wake()
            await asyncio.sleep(0.1)
        assert listener.losses == []
        assert len(network.wires[0].asked) <= 6


@in_virtual_time
async def test_without_a_connection_a_press_ends_the_wait_but_not_more_than_once_a_second(
    network: Network, waits: list[float]
) -> None:
    network.refuses = True
    async with connecting() as (uplink, _):
        for _ in range(100):  # ten seconds of pressing
            uplink.wake()
            await asyncio.sleep(0.1)
        assert 8 <= len(network.attempts_s) <= 12
        assert min(later - earlier for earlier, later in pairwise(network.attempts_s)) >= WAKE_EVERY_S - 0.001
        assert waits[-1] == len(waits)  # pressing does not reset the backoff
        count = len(network.attempts_s)
        await asyncio.sleep(1.5)
        assert len(network.attempts_s) <= count + 1
        await asyncio.sleep(15)
        assert len(network.attempts_s) <= count + 1  # nobody presses: the wait is the whole wait


@in_virtual_time
async def test_a_press_after_a_quiet_time_tries_at_once(network: Network, waits: list[float]) -> None:
    network.refuses = True
    async with connecting() as (uplink, listener):
        await asyncio.sleep(5)
        network.refuses = False
        uplink.wake()
        await asyncio.sleep(0.01)
        assert len(listener.welcomes) == 1


@in_virtual_time
async def test_a_press_during_an_attempt_that_fails_is_not_forgotten(network: Network, waits: list[float]) -> None:
    network.refuses, network.hangs_s = True, 4.0
    async with connecting() as (uplink, listener):
        await asyncio.sleep(2)
        uplink.wake()
        await asyncio.sleep(2.1)
        network.refuses = False
        await asyncio.sleep(4)
        assert len(listener.welcomes) == 1


@in_virtual_time
async def test_a_press_does_not_cut_short_a_goodbye(network: Network, waits: list[float]) -> None:
    async with connecting() as (uplink, listener):
        network.wires[0].say(Goodbye(ErrorCode.SHUTTING_DOWN, 30.0))
        await asyncio.sleep(0.1)
        for _ in range(299):
            uplink.wake()
            await asyncio.sleep(0.1)
        assert len(network.attempts_s) == 1
        await asyncio.sleep(0.2)
        assert len(network.attempts_s) == 2
        assert listener.losses == ["the relay said goodbye (shutting_down)"]


@in_virtual_time
async def test_a_goodbye_is_heard_even_if_the_connection_goes_while_a_ping_is_out(
    network: Network, waits: list[float]
) -> None:
    async with connecting() as (uplink, listener):
        wire = network.wires[0]
        wire.gone_s = asyncio.get_running_loop().time() + 1.0
        uplink.wake()
        await asyncio.sleep(1.0)  # the ping has just failed
        wire.say(Goodbye(ErrorCode.SHUTTING_DOWN, 30.0))
        await asyncio.sleep(0.1)
        assert listener.losses == ["the relay said goodbye (shutting_down)"]


@in_virtual_time
async def test_a_connection_that_lasted_makes_the_backoff_begin_anew(network: Network, waits: list[float]) -> None:
    network.refuses = True
    async with connecting():
        await asyncio.sleep(70)
        network.refuses = False
        await asyncio.sleep(25)
        network.wires[-1].break_off()
        await asyncio.sleep(0.1)
        assert waits == [1, 2, 3, 4, 1]


@in_virtual_time
async def test_so_does_one_that_broke_in_mid_turn(network: Network, waits: list[float]) -> None:
    network.refuses = True
    async with connecting() as (uplink, _):
        await asyncio.sleep(30)
        network.refuses = False
        await asyncio.sleep(11)
        uplink.send(UtteranceStart(1))
        network.wires[-1].break_off()
        await asyncio.sleep(0.1)
        assert waits == [1, 2, 1]


# --- resuming ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_hello_names_what_broke_off(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "delay_s", lambda failures, chance: 1.0)
    async with connecting() as (uplink, listener):
        uplink.send(UtteranceStart(4))
        uplink.send_audio(4, PACKET)
        uplink.send(UtteranceEnd(4))
        listener.point = ResumePoint(4, 17)
        network.welcome = lambda hello: Welcome(VERSION, "s9", 1.7e9, 30.0, resumed=hello.turn)
        network.wires[0].break_off()
        await asyncio.sleep(1.1)
        first, second = (wire.sent[0] for wire in network.wires)
        assert isinstance(first, Hello)
        assert (first.session, first.turn, first.next_sequence) == (None, None, None)
        assert isinstance(second, Hello)
        assert (second.session, second.turn, second.next_sequence) == ("s1", 4, 17)
        assert listener.welcomes[1].resumed == 4
        for message in (SpeakingStart(4), AudioFrame(4, 17, PACKET), SpeakingEnd(4)):
            network.wires[1].say(message)
        uplink.send(Cancel(3))  # of another time
        await asyncio.sleep(0.1)
        assert listener.messages == [SpeakingStart(4), AudioFrame(4, 17, PACKET), SpeakingEnd(4)]
        listener.point = None
        network.wires[1].break_off()
        await asyncio.sleep(1.1)
        third = network.wires[2].sent[0]
        assert isinstance(third, Hello)
        assert (third.session, third.turn, third.next_sequence) == ("s9", None, None)


@in_virtual_time
async def test_a_resumed_reply_can_be_cancelled(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "delay_s", lambda failures, chance: 1.0)
    async with connecting() as (uplink, listener):
        listener.point = ResumePoint(4, 0)
        network.welcome = lambda hello: Welcome(VERSION, "s9", 1.7e9, 30.0, resumed=hello.turn)
        network.wires[0].break_off()
        await asyncio.sleep(1.1)
        network.wires[1].say(SpeakingStart(4))
        await asyncio.sleep(0.1)
        uplink.send(Cancel(4))
        uplink.send(UtteranceStart(5))
        await asyncio.sleep(0.1)
        assert network.wires[1].sent[1:] == [Cancel(4), UtteranceStart(5)]


@in_virtual_time
async def test_what_broke_off_long_ago_is_not_resumed_but_the_thread_is_kept(network: Network) -> None:
    async with connecting() as (_, listener):
        listener.point = ResumePoint(4, 17)
        network.refuses = True
        network.wires[0].break_off()
        await asyncio.sleep(RESUME_S + 1)
        network.refuses = False
        await asyncio.sleep(31)
        hello = network.wires[1].sent[0]
        assert isinstance(hello, Hello)
        assert (hello.session, hello.turn, hello.next_sequence) == ("s1", None, None)


async def comes_back(network: Network, drop_s: float, hangs_s: float) -> bool:
    """Whether a reply is resumed whose relay cannot be reached for `drop_s`, after a night without a network."""
    network.refuses, network.is_deaf, network.hangs_s = True, True, 0.0
    async with connecting() as (uplink, listener):
        await asyncio.sleep(60)
        network.refuses = False
        uplink.wake()
        await asyncio.sleep(WAKE_EVERY_S)
        uplink.send(UtteranceStart(4))
        uplink.send(UtteranceEnd(4))
        await asyncio.sleep(1)  # less than STABLE_S
        assert len(listener.welcomes) == 1
        listener.greeted.clear()
        network.refuses, network.hangs_s = True, hangs_s
        network.wires[-1].break_off()
        asyncio.get_running_loop().call_later(0.01, setattr, listener, "point", ResumePoint(4, 17))  # by its inbox
        await asyncio.sleep(drop_s)
        network.refuses, network.hangs_s = False, 0.0
        await listener.greeted.wait()
        hello = network.wires[-1].sent[0]
        assert isinstance(hello, Hello)
        return hello.turn == 4


@pytest.mark.parametrize(("hangs_s", "n_least"), [(0.0, 99), (OPEN_TIMEOUT_S, 95)])
@in_virtual_time
async def test_a_reply_is_resumed_after_almost_every_drop_that_it_is_kept_for(
    network: Network, hangs_s: float, n_least: int
) -> None:
    random.seed(20)
    drops_s = [5.0 + 23.0 * n / 99 for n in range(100)]
    n_resumed = sum([await comes_back(network, drop_s, hangs_s) for drop_s in drops_s])
    assert n_resumed * 100 >= n_least * len(drops_s), n_resumed


@in_virtual_time
async def test_only_a_reply_that_is_kept_makes_us_hurry(network: Network) -> None:
    async with connecting() as (_, listener):
        network.refuses = True
        listener.point = ResumePoint(4, 17)
        network.wires[0].break_off()
        await asyncio.sleep(RESUME_S)
        n_hurried = len(network.attempts_s) - 1
        assert RESUME_S / 1.5 - 2 <= n_hurried <= RESUME_S / 0.5 + 2
        await asyncio.sleep(600)
        assert len(network.attempts_s) - 1 - n_hurried <= 600 / 5


@in_virtual_time
async def test_a_goodbye_in_mid_turn_is_honoured_all_the_same(network: Network) -> None:
    async with connecting() as (uplink, listener):
        uplink.send(UtteranceStart(1))
        listener.point = ResumePoint(1, 0)
        network.wires[0].say(Goodbye(ErrorCode.SHUTTING_DOWN, 20.0))
        await asyncio.sleep(19)
        assert len(network.attempts_s) == 1


@in_virtual_time
async def test_a_turn_that_we_did_not_ask_for_is_not_resumed(network: Network, waits: list[float]) -> None:
    network.welcome = lambda hello: Welcome(VERSION, "s1", 1.7e9, 30.0, resumed=3)
    async with connecting() as (_, listener):
        assert listener.losses == ["the relay broke the protocol (out_of_order)"]
        assert listener.welcomes == []


# --- what goes first --------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_speech_goes_before_what_is_about_the_toy(network: Network) -> None:
    async with connecting() as (uplink, _):
        wire = network.wires[0]
        wire.room.clear()
        uplink.send(PhrasesWanted(0))
        await asyncio.sleep(0.1)  # that one waits for the network already
        uplink.send(BATCH)
        uplink.send(CommandDone("c1"))
        uplink.send(UtteranceStart(1))
        uplink.send_audio(1, PACKET)
        wire.room.set()
        await asyncio.sleep(0.1)
        assert wire.sent[1:] == [
            PhrasesWanted(0),
            UtteranceStart(1),
            AudioFrame(1, 0, PACKET),
            BATCH,
            CommandDone("c1"),
        ]


@in_virtual_time
async def test_what_is_about_the_toy_needs_no_turn_and_never_makes_the_network_too_slow(network: Network) -> None:
    async with connecting() as (uplink, listener):
        wire = network.wires[0]
        wire.room.clear()
        for _ in range(OUTBOX_MESSAGES * 2):
            uplink.send(BATCH)
        uplink.send(UtteranceStart(1))
        for _ in range(OUTBOX_MESSAGES - 10):
            uplink.send_audio(1, PACKET)
        await asyncio.sleep(0.1)
        wire.room.set()
        await asyncio.sleep(0.1)
        assert listener.losses == []
        assert wire.sent.count(BATCH) == pytest.approx(ASIDE_MESSAGES, abs=1)
        assert sum(isinstance(message, AudioFrame) for message in wire.sent) == OUTBOX_MESSAGES - 10


@in_virtual_time
async def test_speech_that_waits_too_long_ends_the_connection_at_once(network: Network, waits: list[float]) -> None:
    async with connecting() as (uplink, listener):
        network.wires[0].room.clear()
        uplink.send(UtteranceStart(1))
        for _ in range(OUTBOX_MESSAGES + 2):
            uplink.send_audio(1, PACKET)
        await asyncio.sleep(0.01)
        assert listener.losses == ["the network is too slow for speech"]
        assert network.wires[0].aborted


@in_virtual_time
async def test_the_relay_may_speak_about_the_toy_at_any_time(network: Network) -> None:
    async with connecting() as (uplink, listener):
        uplink.send(UtteranceStart(1))
        network.wires[0].say(EventsStored(("e1",)))
        await asyncio.sleep(0.1)
        assert listener.messages == [EventsStored(("e1",))]


@pytest.mark.parametrize(("room_s", "arrives"), [(None, True), (0.2, True), (5.0, False)])
@in_virtual_time
async def test_what_was_said_last_is_sent_before_the_end(network: Network, room_s: float | None, arrives: bool) -> None:
    """A toy that is told to restart answers first. `room_s`: when the network takes something again."""
    loop = asyncio.get_running_loop()
    async with connecting() as (uplink, _):
        wire = network.wires[0]
        if room_s is not None:
            wire.room.clear()
            loop.call_later(room_s, wire.room.set)
        uplink.send(BATCH)
        uplink.send(CommandDone("c1"))
        closed_s = loop.time()
    assert (wire.sent[1:] == [BATCH, CommandDone("c1")]) is arrives
    assert loop.time() - closed_s <= FLUSH_S + 0.01
    if room_s is None:
        assert loop.time() == closed_s, "nobody waits for nothing"


# --- settings and the end ---------------------------------------------------------------------------------------------


@in_virtual_time
async def test_without_a_token_no_attempt_is_made_until_there_is_one(network: Network) -> None:
    async with connecting(RelayLink("ws://127.0.0.1/")) as (uplink, listener):
        uplink.wake()
        await asyncio.sleep(1000)
        uplink.wake()
        await asyncio.sleep(1000)
        assert network.attempts_s == []
        assert listener.losses == [NO_TOKEN]
        uplink.use(RelayLink("ws://127.0.0.1/", TOKEN))
        await asyncio.sleep(0.1)
        assert len(listener.welcomes) == 1


@in_virtual_time
async def test_other_settings_end_a_connection_and_every_wait(network: Network, waits: list[float]) -> None:
    async with connecting() as (uplink, listener):
        uplink.use(RelayLink("ws://127.0.0.1/", TOKEN))  # the same
        await asyncio.sleep(0.1)
        assert listener.losses == []
        uplink.use(RelayLink("ws://127.0.0.1:1/", TOKEN))
        await asyncio.sleep(0.1)
        assert listener.losses == ["the relay's settings have changed"]
        assert len(listener.welcomes) == 2
        hello = network.wires[1].sent[0]
        assert isinstance(hello, Hello)
        assert hello.session is None  # that relay does not know our session
        network.wires[1].say(Goodbye(ErrorCode.REVOKED, 600.0))
        await asyncio.sleep(1)
        network.hangs_s = 2.0
        uplink.use(RelayLink("ws://127.0.0.1:2/", TOKEN))
        await asyncio.sleep(0.1)
        uplink.use(RelayLink("ws://127.0.0.1:3/", TOKEN))  # in the middle of the attempt
        await asyncio.sleep(5)
        assert len(network.attempts_s) == 4
        assert len(listener.welcomes) == 3


@in_virtual_time
async def test_a_bug_in_the_uplink_is_noticed_by_whoever_runs_it(network: Network) -> None:
    class Stumbling(Listener):
        def welcomed(self, welcome: Welcome) -> None:
            raise ZeroDivisionError

    uplink = WebSocketUplink(RelayLink("ws://127.0.0.1/", TOKEN))
    running = asyncio.create_task(uplink.run())
    await asyncio.sleep(1)
    assert not running.done()
    uplink.start(Stumbling())
    with pytest.raises(ZeroDivisionError):
        await running


@in_virtual_time
async def test_who_runs_it_can_end_it(network: Network) -> None:
    uplink, listener = WebSocketUplink(RelayLink("ws://127.0.0.1/", TOKEN)), Listener()
    running = asyncio.create_task(uplink.run())
    uplink.start(listener)
    await asyncio.sleep(1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len(asyncio.all_tasks()) == 1
    await uplink.aclose()  # twice is allowed
    assert listener.losses == []


@in_virtual_time
async def test_closing_ends_what_runs_it(network: Network) -> None:
    uplink = WebSocketUplink(RelayLink("ws://127.0.0.1/", TOKEN))
    running = asyncio.create_task(uplink.run())
    uplink.start(Listener())
    await asyncio.sleep(1)
    await uplink.aclose()
    await running
