"""The loop performs what the machine decides: collaborators write into one list, and the whole list is compared."""

from __future__ import annotations

import asyncio

import pytest

from pommai.device import ports
from pommai.device.mind.lights import Color
from pommai.device.mind.states import (
    LIMIT_S,
    Connecting,
    Error,
    Fault,
    Idle,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    Thinking,
)
from pommai.device.ports import Failed, FirstAudio, Heard, Played, RelayLost, Said
from pommai.device.speech.recorder import SILENT_S
from pommai.errors import ConnectError
from pommai.protocol import AudioFrame, Cancel, ErrorCode, SpeakingStart, UtteranceEnd, UtteranceStart
from pommai.protocol import Error as ErrorMessage

from .rig import PACKET, TALK, now_s, reply, running, welcome
from .virtual_time import VirtualTimeLoop, in_virtual_time


@in_virtual_time
async def test_it_starts_by_connecting_and_rests_when_told_so() -> None:
    async with running(connected=False) as toy:
        toy.relay.welcomed(welcome(ErrorCode.QUIET_HOURS))
        await asyncio.sleep(0.01)
        assert toy.diary.take() == [
            Connecting(0),
            "uplink started",
            Paused(0, ErrorCode.QUIET_HOURS, Idle(0)),
        ]


@in_virtual_time
async def test_a_relay_that_pauses_for_a_reason_that_is_none_ends_no_toy() -> None:
    async with running(connected=False) as toy:
        toy.relay.welcomed(welcome(ErrorCode.INTERNAL))
        await asyncio.sleep(3)
        assert toy.state == Paused(0, ErrorCode.INTERNAL, Idle(0))


@in_virtual_time
async def test_a_whole_turn() -> None:
    async with running() as toy:
        toy.mic.speak(TALK)
        toy.button.press(bounces=3)
        await asyncio.sleep(0.965)
        toy.button.release(bounces=3)
        await asyncio.sleep(0.5)
        await reply(toy, 1, 5)
        await asyncio.sleep(1)
        assert toy.diary.take() == [
            Listening(1, started=False),
            "mic open",
            "wake",
            Listening(1, started=True),
            UtteranceStart(1),
            ("audio of 1", 16),  # 960 ms were heard, in 16 packets of 60 ms
            Thinking(1),
            "mic closed",
            UtteranceEnd(1),
            Speaking(1),
            "speaker began",
            Idle(1),
        ]
        names = [type(note) for note in toy.notes]
        assert names == [ports.RelayReached, ports.UtteranceEnded, Heard, Said, FirstAudio, Played]
        first, played = toy.notes[-2:]
        assert isinstance(first, FirstAudio)
        assert isinstance(played, Played)
        assert played.at_s - first.at_s == pytest.approx(0.3)


@in_virtual_time
async def test_the_last_packet_of_an_utterance_is_short_and_not_lost() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.505)  # 500 ms heard: 8 packets of 60 ms, and one of 20
        toy.button.release()
        await asyncio.sleep(0.01)
        assert toy.diary.take()[-5:] == [
            ("audio of 1", 8),
            Thinking(1),
            "mic closed",
            ("audio of 1", 1),
            UtteranceEnd(1),
        ]


@in_virtual_time
async def test_a_tap_sends_nothing_at_all() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.2)
        toy.button.release()
        await asyncio.sleep(1)
        assert toy.diary.take() == [Listening(1, started=False), "mic open", "wake", Idle(1), "mic closed"]


@in_virtual_time
async def test_barge_in_silences_before_it_listens() -> None:
    async with running() as toy:
        await asyncio.sleep(0.1)
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.button.release()
        await asyncio.sleep(0.1)
        await reply(toy, 1, 50)
        await asyncio.sleep(0.5)
        toy.diary.take()
        toy.speaker.take_heard()
        toy.button.press()
        await asyncio.sleep(0.1)
        toy.relay.received(AudioFrame(1, 50, PACKET))  # an echo of the old turn
        await asyncio.sleep(1)
        assert toy.diary.take()[:7] == [
            Listening(2, started=False),
            "speaker flushed",
            Cancel(1),
            "mic open",
            "wake",
            Listening(2, started=True),
            UtteranceStart(2),
        ]
        assert toy.speaker.take_heard() == b""
        assert Played not in [type(note) for note in toy.notes]


@in_virtual_time
async def test_the_relays_longest_utterance_ends_the_childs() -> None:
    async with running(connected=False) as toy:
        toy.relay.welcomed(welcome(max_utterance_s=2.0))
        await asyncio.sleep(0.01)
        toy.button.press()
        await asyncio.sleep(1.9)
        assert toy.runner.state == Listening(1, started=True)
        await asyncio.sleep(0.2)
        assert toy.runner.state == Thinking(1)
        assert ("audio of 1", 33) in toy.diary.take()
        assert not toy.mic.is_open


@in_virtual_time
async def test_a_state_lasts_as_long_as_its_limit_and_no_longer() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.button.release()
        await asyncio.sleep(LIMIT_S[Thinking] - 0.1)
        assert toy.runner.state == Thinking(1)
        await asyncio.sleep(0.2)
        assert toy.runner.state == Error(1, ErrorCode.TIMEOUT, Idle(1))
        await asyncio.sleep(LIMIT_S[Error])
        assert toy.runner.state == Idle(1)


@in_virtual_time
async def test_a_turn_that_failed_is_told_and_the_toy_goes_on() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.relay.received(ErrorMessage(ErrorCode.UTTERANCE_TOO_LONG, turn=1))
        await asyncio.sleep(0.1)
        assert toy.runner.state == Error(1, ErrorCode.UTTERANCE_TOO_LONG, Idle(1))
        assert toy.notes[-1] == Failed(1, ErrorCode.UTTERANCE_TOO_LONG)
        assert not toy.mic.is_open
        toy.relay.received(ErrorMessage(ErrorCode.INTERNAL))
        await asyncio.sleep(0.1)
        assert toy.notes[-1] == Failed(None, ErrorCode.INTERNAL)
        assert toy.runner.state == Error(1, ErrorCode.UTTERANCE_TOO_LONG, Idle(1))


@in_virtual_time
async def test_a_lost_connection_closes_the_microphone_and_silences_the_speaker() -> None:
    async with running() as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.diary.take()
        toy.relay.lost(ConnectError("gone"))
        await asyncio.sleep(0.01)
        assert toy.diary.take() == [Playing(1, Connecting(1)), "mic closed", Connecting(1)]
        assert isinstance(toy.notes[-1], RelayLost)
        toy.button.release()
        await asyncio.sleep(LIMIT_S[Connecting])
        assert toy.runner.state == Offline(1)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.01)
        assert toy.runner.state == Idle(1)


@pytest.mark.parametrize(("broken", "wait_s"), [(True, 0.1), (False, SILENT_S + 0.1)])
@in_virtual_time
async def test_a_microphone_that_does_not_open_or_gives_nothing_is_an_error(broken: bool, wait_s: float) -> None:
    async with running() as toy:
        toy.mic.is_broken, toy.mic.is_mute = broken, not broken
        toy.button.press()
        await asyncio.sleep(wait_s)
        assert toy.runner.state == Error(1, Fault.SOUND, Idle(1))
        assert not toy.mic.is_open


@in_virtual_time
async def test_lights_move_as_often_as_the_eye_can_see_and_only_when_they_change() -> None:
    async with running() as toy:
        toy.shown.clear()
        await asyncio.sleep(2)  # idle breathes, slowly
        assert 15 <= len(toy.shown) <= 21
        toy.relay.lost(ConnectError("gone"))
        await asyncio.sleep(0.01)
        toy.shown.clear()
        await asyncio.sleep(2)  # a lost connection pulses
        assert 45 <= len(toy.shown) <= 51
        toy.relay.welcomed(welcome())
        await toy.hold(0.5)
        await reply(toy, 1, 50)
        toy.shown.clear()
        await asyncio.sleep(2)  # speaking is solid
        assert toy.shown == []


@in_virtual_time
async def test_an_open_microphone_is_seen_at_once() -> None:
    async with running() as toy:
        await asyncio.sleep(0.1)
        toy.shown.clear()
        pressed_s = now_s()
        toy.button.press()
        await asyncio.sleep(0.2)
        at_s, color = toy.shown[0]
        assert at_s == pressed_s
        assert color == Color(0.0, 0.0, 1.0)


@in_virtual_time
async def test_a_hold_is_met_at_whatever_fraction_of_a_second_it_begins() -> None:
    """In one press of two hundred, seconds and milliseconds round apart: a wake-up that is too early must not spin."""
    async with running() as toy:
        for n in range(250):
            await asyncio.sleep(0.6 + n / 977)
            toy.button.press()
            await asyncio.sleep(0.31)
            assert toy.runner.state == Listening(n + 1, started=True)
            toy.button.release()
            await asyncio.sleep(0.1)
            toy.relay.received(ErrorMessage(ErrorCode.TIMEOUT, turn=n + 1))


@in_virtual_time
async def test_what_has_come_while_the_toy_was_held_up_is_not_too_late() -> None:
    async with running() as toy:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        await toy.hold(0.5)
        limit_s = toy.runner._deadline_s
        loop.call_at(limit_s - 0.05, loop.hold_up, 0.1)
        loop.call_at(limit_s + 0.02, toy.relay.received, SpeakingStart(1))
        await asyncio.sleep(limit_s - now_s() + 1)
        assert toy.state == Speaking(1)


@in_virtual_time
async def test_after_a_stall_what_has_happened_comes_before_what_is_due() -> None:
    async with running() as toy:
        loop = asyncio.get_running_loop()
        pressed_ms = loop.time() * 1000 - 400  # told late, together with the timer of the lights
        loop.call_at(toy.runner.picture.due_s, toy.runner._edge, True, pressed_ms)
        await asyncio.sleep(0.2)
        assert toy.diary.take()[:4] == [Listening(1, started=False), "mic open", "wake", Listening(1, started=True)]
