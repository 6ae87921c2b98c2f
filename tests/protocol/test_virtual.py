"""A whole virtual toy against a tiny relay, over real sockets and in real time."""

from __future__ import annotations

import asyncio
import math
import struct

import pytest

from pommai.device.body.sim import VirtualSpeaker
from pommai.device.mind.states import Idle, Paused, Speaking, Thinking
from pommai.device.network import uplink as uplink_module
from pommai.device.ports import Note, StateChanged
from pommai.device.settings import DeviceSettings, RelayLink
from pommai.device.speech.mouth import ECHO_S
from pommai.device.virtual import VirtualToy
from pommai.errors import ConfigError, ConnectError, HardwareError
from pommai.protocol import Cancel, Error, ErrorCode
from pommai.schema import Secret

from .tiny_relay import TOKEN, Peer, TinyRelay, parrot, tiny_relay


def tone(seconds: float) -> bytes:
    """A steady tone at about -12 dBFS."""
    n = int(24_000 * seconds)
    return struct.pack(f"<{n}h", *(int(8000 * math.sin(k / 20)) for k in range(n)))


class Watcher:
    """Lets a test wait for a state."""

    def __init__(self) -> None:
        self.states: list[object] = []
        self._changed = asyncio.Event()

    def noticed(self, note: Note) -> None:
        if isinstance(note, StateChanged):
            self.states.append(note.state)
            self._changed.set()

    async def until(self, state: object) -> None:
        async with asyncio.timeout(20):
            while state not in self.states:
                self._changed.clear()
                await self._changed.wait()


def settings(relay: TinyRelay | str, token: str = TOKEN) -> DeviceSettings:
    url = relay if isinstance(relay, str) else relay.url
    return DeviceSettings(relay=RelayLink(url, Secret(token)))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "delay_s", lambda failures, chance: 0.01)


async def test_a_spoken_turn_tells_everything_about_itself() -> None:
    async with tiny_relay(parrot) as relay, VirtualToy(settings(relay)) as toy:
        turn = await toy.say(tone(0.6))
        assert (turn.turn, turn.heard, turn.said, turn.error) == (1, "hello toy", ("Hello child.",), None)
        assert not turn.cut
        assert not turn.interrupted
        assert len(turn.reply_pcm) == len(tone(0.6))
        assert turn.released_at_s is not None
        assert turn.first_audio_at_s is not None
        assert 0 <= turn.first_audio_at_s - turn.released_at_s < 0.5
        assert 20 < turn.uplink_kbps < 60
        assert turn.compression == pytest.approx(384 / max(turn.uplink_kbps, turn.downlink_kbps))
        assert toy.state == Idle(1)
        assert (await toy.say(tone(0.4))).turn == 2


async def test_a_wrong_token_is_a_clear_error_at_once() -> None:
    async with tiny_relay(parrot) as relay:
        with pytest.raises(ConnectError, match="refuses the device token"):
            async with VirtualToy(settings(relay, "wrong")):
                pass


async def test_an_address_that_must_not_be_used() -> None:
    with pytest.raises(ConfigError, match="plain ws://"):
        VirtualToy(settings("ws://relay.example/v1/toy"))


async def test_barge_in_stops_the_reply_where_it_is() -> None:
    watcher = Watcher()
    async with tiny_relay(parrot) as relay, VirtualToy(settings(relay), observer=watcher) as toy:
        first = asyncio.create_task(toy.say(tone(1.5)))
        await watcher.until(Speaking(1))
        second = await toy.say(tone(0.4))
        interrupted = await first
        assert interrupted.interrupted
        assert len(interrupted.reply_pcm) < len(tone(0.5))
        assert second.error is None
        assert not second.interrupted
        assert len(second.reply_pcm) >= len(tone(0.4 - ECHO_S))  # the end of its own voice is not what it listens to


async def test_barge_in_while_the_relay_thinks_cancels_the_turn() -> None:
    watcher = Watcher()

    async def slow_thinker(peer: Peer) -> None:
        await peer.welcome()
        await peer.utterance()
        turn, packets = await peer.utterance()
        await peer.reply(turn, packets)
        await peer.receive()

    async with tiny_relay(slow_thinker) as relay, VirtualToy(settings(relay), observer=watcher) as toy:
        first = asyncio.create_task(toy.say(tone(0.4)))
        await watcher.until(Thinking(1))
        second = await toy.say(tone(0.4))
        assert (await first).interrupted
        assert second.error is None
        assert Cancel(1) in relay.peers[0].messages


async def test_an_utterance_beyond_the_limit_is_cut_and_answered() -> None:
    async def impatient(peer: Peer) -> None:
        await peer.welcome(max_utterance_s=0.5)
        await peer.reply(*await peer.utterance())
        await peer.receive()

    async with tiny_relay(impatient) as relay, VirtualToy(settings(relay)) as toy:
        turn = await toy.say(tone(2))
        assert turn.cut
        assert turn.error is None
        assert len(tone(0.4)) < len(turn.reply_pcm) <= len(tone(0.5))


async def test_a_turn_that_the_relay_refuses_has_its_code() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.welcome()
        turn, _ = await peer.utterance()
        await peer.send(Error(ErrorCode.UNAVAILABLE, retryable=True, turn=turn))
        await peer.reply(*await peer.utterance())
        await peer.receive()

    async with tiny_relay(refuse) as relay, VirtualToy(settings(relay)) as toy:
        assert (await toy.say(tone(0.4))).error is ErrorCode.UNAVAILABLE
        assert (await toy.say(tone(0.4))).error is None


async def test_a_toy_that_rests_says_why_and_sends_nothing() -> None:
    async def bedtime(peer: Peer) -> None:
        await peer.welcome(paused=ErrorCode.QUIET_HOURS)
        await peer.receive()

    async with tiny_relay(bedtime) as relay, VirtualToy(settings(relay)) as toy:
        assert toy.state == Paused(0, ErrorCode.QUIET_HOURS, Idle(0))
        turn = await toy.say(tone(0.4))
        assert turn.error is ErrorCode.QUIET_HOURS
        assert len(relay.peers[0].messages) == 1


async def test_a_relay_killed_in_mid_turn_ends_the_turn_and_the_toy_comes_back() -> None:
    async def die_thinking(peer: Peer) -> None:
        await peer.welcome()
        await peer.utterance()
        assert peer.request.transport is not None
        peer.request.transport.abort()

    watcher = Watcher()
    async with tiny_relay(die_thinking, parrot) as relay, VirtualToy(settings(relay), observer=watcher) as toy:
        assert (await toy.say(tone(0.4))).error is ErrorCode.UNAVAILABLE
        await watcher.until(Idle(2))  # 2: the sentence with which a toy that has words excuses itself
        assert (await toy.say(tone(0.4))).error is None


async def test_a_relay_killed_while_the_child_speaks_ends_the_turn() -> None:
    async def die_listening(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive()
        assert peer.request.transport is not None
        peer.request.transport.abort()

    async with tiny_relay(die_listening, parrot) as relay, VirtualToy(settings(relay)) as toy:
        turn = await toy.say(tone(5))
        assert turn.error is ErrorCode.UNAVAILABLE
        assert not turn.cut
        assert (await toy.say(tone(0.4))).error is None


async def test_press_and_release_by_hand() -> None:
    async with tiny_relay(parrot) as relay, VirtualToy(settings(relay)) as toy:
        assert toy.press() == 1
        with pytest.raises(HardwareError, match="down already"):
            toy.press()
        toy.release()
        tap = await toy.answer()  # too short: nothing was sent, nothing is wrong
        assert (tap.heard, tap.error, tap.reply_pcm) == (None, None, b"")


async def test_a_real_speaker_is_remembered_as_it_was_written_to() -> None:
    class Loudspeaker:
        """Plays, and cannot tell what it played."""

        def __init__(self) -> None:
            self._inner = VirtualSpeaker()
            self.write, self.drain, self.flush = self._inner.write, self._inner.drain, self._inner.flush

    async with tiny_relay(parrot) as relay, VirtualToy(settings(relay), speaker=Loudspeaker()) as toy:
        assert len((await toy.say(tone(0.6))).reply_pcm) == len(tone(0.6))
