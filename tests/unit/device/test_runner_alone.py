"""The toy without a relay, and with its parents: gestures, help, limits, an interrupted reply, and the last second."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from pommai.audio import SPEECH, quieter
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Mood
from pommai.device.mind.states import (
    LIMIT_S,
    SIGNS,
    Connecting,
    Error,
    Fault,
    Holding,
    Idle,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    State,
    Stopping,
    Thinking,
)
from pommai.device.ports import ResumePoint
from pommai.device.runner import Ending
from pommai.device.speech import recorder
from pommai.device.speech.mouth import ECHO_S
from pommai.device.speech.recorder import SILENT_S
from pommai.errors import ConnectError, MissingExtra
from pommai.limits import Rest
from pommai.protocol import RESUME_S, AudioFrame, Cancel, ErrorCode, SpeakingEnd, SpeakingStart
from pommai.protocol import Error as ErrorMessage

from .monitor import decoded
from .rig import BEEPS, PACKET, TALK, WORDS, FakeAllowance, Toy, now_s, reply, running, welcome
from .virtual_time import in_virtual_time

GONE = ConnectError("gone")


async def offline(toy: Toy) -> None:
    """Lose the relay for good."""
    toy.relay.lost(GONE)
    await asyncio.sleep(LIMIT_S[Connecting] + 0.1)
    assert isinstance(toy.state, Offline)
    toy.diary.take()
    toy.speaker.take_heard()


async def asked(toy: Toy) -> int:
    """A whole utterance, sent; the turn."""
    await toy.hold(0.5)
    assert isinstance(toy.state, Thinking)
    return toy.state.turn


# --- gestures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taps", "says"), [(1, []), (2, ["says repeat"]), (3, ["says repeat", "says status"])])
@pytest.mark.parametrize("connected", [True, False])
@in_virtual_time
async def test_taps_repeat_and_tell_the_status_with_and_without_a_network(
    taps: int, says: list[str], connected: bool
) -> None:
    async with running(Toy(voice=True)) as toy:
        if not connected:
            await offline(toy)
        await toy.tap(taps)
        await asyncio.sleep(2)
        assert toy.said == says
        assert isinstance(toy.state, Idle if connected else Offline)
        assert not [line for line in toy.diary.lines if isinstance(line, tuple)], "nothing was sent"


@in_virtual_time
async def test_a_double_tap_repeats_the_last_reply_also_when_the_relay_has_gone() -> None:
    async with running(Toy(voice=True)) as toy:
        await reply(toy, await asked(toy), 10)
        await asyncio.sleep(2)
        assert toy.speaker.take_heard() == decoded([PACKET] * 10)
        await offline(toy)
        await toy.tap(2)
        await asyncio.sleep(2)
        assert toy.speaker.take_heard() == decoded([PACKET] * 10)
        assert toy.said == []


@in_virtual_time
async def test_a_hold_without_a_relay_is_an_activity_and_nothing_is_recorded() -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.mic.speak(TALK)
        await toy.hold(0.9)
        await asyncio.sleep(1)
        assert toy.diary.take() == [
            Holding(1, Offline(0)),
            "mic open",
            "wake",
            Playing(1, Offline(0)),
            "mic closed",
            "says activity",
            "speaker began",
            Offline(1),
        ]
        assert toy.speaker.take_heard() == WORDS


@pytest.mark.parametrize("pause_s", [0.5, 6.0])
@in_virtual_time
async def test_a_child_who_presses_again_and_again_gets_activities_soon(pause_s: float) -> None:
    async with running(Toy(voice=True)) as toy:
        toy.relay.lost(GONE)
        for _ in range(3):
            await asyncio.sleep(pause_s)
            await toy.hold(0.5)
            await asyncio.sleep(0.5)
        assert toy.said == ["says unreachable", "says activity", "says activity"]


@pytest.mark.parametrize("lost_s", [0.0, 0.2])
@in_virtual_time
async def test_where_there_is_nobody_to_talk_to_nothing_is_kept_of_what_is_said(lost_s: float) -> None:
    async with running(Toy(voice=True)) as toy:
        if not lost_s:
            await offline(toy)
        toy.mic.speak(TALK * 3)
        toy.button.press()
        await asyncio.sleep(lost_s)
        toy.relay.lost(GONE)
        await asyncio.sleep(2)
        assert isinstance(toy.state, Holding)
        assert toy.runner._recorder._framer is None
        assert toy.runner._recorder._kept_back == []
        toy.button.release()


@in_virtual_time
async def test_a_call_for_help_is_answered_after_four_seconds_while_the_button_is_down() -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.mic.speak(TALK * 4)
        toy.button.press()
        await asyncio.sleep(3.9)
        assert toy.said == []
        await asyncio.sleep(0.2)
        assert toy.said == ["says help"]
        assert not toy.mic.is_open
        await asyncio.sleep(2)
        toy.button.release()
        await asyncio.sleep(0.5)
        assert isinstance(toy.state, Offline)
        assert toy.said == ["says help"]


@pytest.mark.parametrize("taps", [1, 2, 5])
@in_virtual_time
async def test_help_is_heard_to_its_end_whatever_else_happens(taps: int) -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.voice.times = 20  # 10 s
        await offline(toy)
        await toy.hold(4.5)
        await toy.tap(taps)
        assert not toy.runner.say(Occasion.LOW_BATTERY)
        assert not toy.runner.say(Occasion.PHRASE, "song-1")
        toy.relay.welcomed(welcome())
        await asyncio.sleep(1)
        allowance.why = Rest.QUIET_HOURS
        toy.runner.limits_changed()
        await toy.tap(taps)
        await asyncio.sleep(10)
        assert toy.said == ["says help"]
        assert toy.speaker.take_heard() == WORDS * 20
        assert isinstance(toy.state, Paused)


@in_virtual_time
async def test_a_child_who_holds_during_help_can_talk() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.voice.times = 20
        await offline(toy)
        await toy.hold(4.5)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(1)
        toy.mic.speak(TALK)
        await toy.hold(1.0)
        assert isinstance(toy.state, Thinking)
        sent = sum(line[1] for line in toy.diary.lines if isinstance(line, tuple))
        assert sent in range(10, 13), "all from 0.3 s on, where the press became a hold"


@in_virtual_time
async def test_a_hold_during_help_opens_no_microphone_if_a_rest_has_begun_meanwhile() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.voice.times = 20
        await offline(toy)
        await toy.hold(4.5)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.1)
        toy.diary.take()
        toy.runner._second_s = now_s() + 1  # the next look is far away
        toy.button.press()
        await asyncio.sleep(0.1)
        allowance.why = Rest.PAUSED
        await asyncio.sleep(0.4)
        toy.button.release()
        await asyncio.sleep(0.1)
        assert not toy.knows("mic open")
        assert toy.said == []
        assert toy.state == Playing(1, Paused(0, ErrorCode.PAUSED, Idle(0)), is_help=True)


@pytest.mark.parametrize("volume", [0.0, 0.1, 0.8])
@in_virtual_time
async def test_help_is_heard_however_low_the_volume_is(volume: float) -> None:
    allowance = FakeAllowance()
    allowance.volume = volume
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        await offline(toy)
        await toy.hold(4.5)
        await asyncio.sleep(1)
        assert toy.speaker.take_heard() == quieter(WORDS, max(volume, 0.3))
        await toy.hold(0.5)
        await asyncio.sleep(1)
        assert toy.speaker.take_heard() == quieter(WORDS, volume), "nothing else is"


@pytest.mark.parametrize("why", [Rest.PAUSED, Rest.QUIET_HOURS])
@in_virtual_time
async def test_a_resting_toy_answers_a_call_for_help_and_opens_no_microphone(why: Rest) -> None:
    allowance = FakeAllowance()
    allowance.why = why
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        await toy.hold(12.0)
        await asyncio.sleep(2)
        assert toy.said == ["says help"]
        assert isinstance(toy.state, Paused)
        assert not toy.knows("mic open")


@pytest.mark.parametrize("speaks", [False, True])
@pytest.mark.parametrize("connected", [True, False])
@in_virtual_time
async def test_ten_silent_seconds_restart_the_toy_and_ten_seconds_of_talk_do_not(speaks: bool, connected: bool) -> None:
    async with running(Toy(voice=True)) as toy:
        if not connected:
            await offline(toy)
        if speaks:
            toy.mic.speak(TALK * 12)
        toy.button.press()
        await asyncio.sleep(11)
        assert ("says restarting" in toy.said) == (not speaks)
        assert ("says help" in toy.said) == (not connected)
        await asyncio.sleep(1)
        toy.button.release()
        await asyncio.sleep(1)
        assert toy.task is not None
        assert toy.task.done() == (not speaks)
        if not speaks:
            assert await toy.ended() is Ending.RESTART
            assert isinstance(toy.state, Stopping)


@in_virtual_time
async def test_the_silence_that_a_restart_needs_goes_on_when_the_help_has_been_heard() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.voice.times = 20  # 10 s
        await offline(toy)
        toy.button.press()
        await asyncio.sleep(13.9)
        assert toy.state == Playing(1, Offline(0), is_help=True)
        assert not toy.mic.is_open
        await asyncio.sleep(0.2)
        assert toy.state == Holding(2, Offline(0))
        assert toy.mic.is_open
        await asyncio.sleep(5.8)
        assert toy.said == ["says help"]
        await asyncio.sleep(0.2)
        assert toy.said == ["says help", "says restarting"]
        assert toy.state == Playing(2, Stopping(2, restart=True))
        toy.button.release()
        assert await toy.ended() is Ending.RESTART
        assert toy.speaker.take_heard() == WORDS * 40


@in_virtual_time
async def test_the_end_of_its_own_help_is_no_child_who_speaks() -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.button.press()
        await asyncio.sleep(4.2)
        toy.mic.speak(TALK[: SPEECH.bytes(150)])  # what the card and the room still give when it has been said
        await asyncio.sleep(10)
        assert toy.said == ["says help", "says restarting"]


@in_virtual_time
async def test_a_microphone_that_dies_can_tell_of_no_silence() -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.button.press()
        await asyncio.sleep(5.5)
        assert toy.mic.is_open and toy.runner._recorder.silent
        toy.mic.die()
        await asyncio.sleep(9)
        assert not toy.mic.is_open
        assert toy.said == ["says help"]


@pytest.mark.parametrize("before_s", [0.0, 4.2])
@in_virtual_time
async def test_a_child_who_cries_before_or_after_a_call_for_help_restarts_nothing(before_s: float) -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.button.press()
        await asyncio.sleep(before_s)
        toy.mic.speak(TALK * 3)
        await asyncio.sleep(15 - before_s)
        toy.button.release()
        await asyncio.sleep(2)
        assert toy.said == ["says help"]
        assert isinstance(toy.state, Offline)
        assert not toy.mic.is_open


@in_virtual_time
async def test_a_child_who_lets_go_during_the_help_restarts_nothing() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.voice.times = 20  # 10 s
        await offline(toy)
        toy.diary.take()
        await toy.hold(12.0)
        await asyncio.sleep(10)
        assert toy.said == ["says help"]
        assert toy.state == Offline(1)
        assert toy.diary.lines.count("mic open") == 1


@in_virtual_time
async def test_a_rest_that_begins_during_the_help_opens_no_microphone_after_it() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.voice.times = 5  # 2.5 s
        await offline(toy)
        toy.diary.take()
        toy.button.press()
        await asyncio.sleep(6.4)
        toy.runner._second_s = now_s() + 1  # the next look is far away
        allowance.why = Rest.QUIET_HOURS
        await asyncio.sleep(8)
        toy.button.release()
        await asyncio.sleep(1)
        assert isinstance(toy.state, Paused)
        assert toy.said == ["says help"]
        assert toy.diary.lines.count("mic open") == 1


@pytest.mark.parametrize("code", [ErrorCode.DAILY_LIMIT, ErrorCode.QUIET_HOURS, ErrorCode.UNAVAILABLE])
@in_virtual_time
async def test_a_child_whose_turn_is_refused_and_who_holds_on_wanted_to_talk_and_calls_for_no_help(
    code: ErrorCode,
) -> None:
    async with running(Toy(voice=True)) as toy:
        toy.button.press()
        await asyncio.sleep(0.35)
        toy.relay.received(ErrorMessage(code, turn=1))
        await asyncio.sleep(6)
        toy.button.release()
        await asyncio.sleep(2)
        assert "says help" not in toy.said
        toy.relay.lost(GONE)
        await toy.hold(4.5)
        assert toy.said[-1] == "says help", "the next press can be one"


@in_virtual_time
async def test_a_resting_toy_is_not_restarted_by_a_silence_of_before() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.voice.times = 20
        await toy.tap(1)  # in a silent room
        allowance.why = Rest.PAUSED
        await asyncio.sleep(2)
        await toy.hold(12.0)
        await asyncio.sleep(10)
        assert isinstance(toy.state, Paused)


@in_virtual_time
async def test_a_restart_in_mid_turn_tells_the_relay_to_forget_it() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.button.press()
        await asyncio.sleep(10.1)
        assert toy.state == Playing(1, Stopping(1, restart=True))
        assert toy.knows(Cancel(1))
        assert not toy.mic.is_open


@in_virtual_time
async def test_a_child_who_talks_on_when_the_relay_goes_has_not_called_for_help() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.mic.speak(TALK * 8)
        toy.button.press()
        await asyncio.sleep(1)
        toy.relay.lost(GONE)
        await asyncio.sleep(5)
        assert toy.said == ["says unreachable"]
        toy.button.release()
        await toy.hold(4.5)
        assert toy.said == ["says unreachable", "says help"], "the next press can be one"


@pytest.mark.parametrize(
    ("lost_s", "says"),
    [(1.0, ["says unreachable", "says help"]), (3.8, ["says unreachable", "says help"]), (6.0, ["says help"])],
)
@in_virtual_time
async def test_a_silent_child_who_holds_on_when_the_relay_goes_calls_for_help(lost_s: float, says: list[str]) -> None:
    async with running(Toy(voice=True)) as toy:
        toy.button.press()
        await asyncio.sleep(lost_s)
        toy.relay.lost(GONE)
        await asyncio.sleep(8 - lost_s)
        toy.button.release()
        await asyncio.sleep(1)
        assert toy.said == says
        assert isinstance(toy.state, Offline), "with this press it has given up looking"


@in_virtual_time
async def test_a_child_who_talked_for_long_when_the_relay_goes_has_not_called_for_help() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.mic.speak(TALK)
        toy.button.press()
        await asyncio.sleep(6)
        toy.relay.lost(GONE)
        await asyncio.sleep(3)
        assert toy.said == ["says unreachable"]


@in_virtual_time
async def test_a_long_silence_of_the_last_press_makes_no_call_for_help_of_the_next() -> None:
    async with running(Toy(voice=True)) as toy:
        await toy.hold(5.0)
        await reply(toy, 1, 2)
        await asyncio.sleep(1)
        toy.button.press()
        await asyncio.sleep(1)
        toy.relay.lost(GONE)
        await asyncio.sleep(0.1)
        assert toy.said == ["says unreachable"]


@in_virtual_time
async def test_without_a_microphone_gestures_are_answered_all_the_same() -> None:
    async with running(Toy(voice=True)) as toy:
        await offline(toy)
        toy.mic.is_broken = True
        await toy.hold(1.0)
        await asyncio.sleep(2)
        await toy.tap(2)
        await asyncio.sleep(2)
        assert toy.said == ["says activity", "says repeat"]
        assert isinstance(toy.state, Offline)


@in_virtual_time
async def test_a_toy_without_libopus_shows_it_at_the_press_and_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingExtra("no libopus")

    monkeypatch.setattr(recorder, "OpusEncoder", missing)
    async with running(Toy(voice=True)) as toy:
        for turn in (1, 2):
            await toy.hold(1.0)
            assert toy.state == Error(turn, Fault.SOUND, Idle(turn))
            assert not toy.knows("mic open")


@in_virtual_time
async def test_a_microphone_that_gives_nothing_is_no_silence() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.mic.is_mute = True
        await toy.hold(12.0)
        await asyncio.sleep(2)
        assert toy.said == ["says help"]
        assert toy.knows(Error(1, Fault.SOUND, Idle(1)))
        assert isinstance(toy.state, Idle)


# --- sounds -----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_toy_never_hears_its_own_earcons() -> None:
    async with running(Toy(earcons=BEEPS)) as toy:
        toy.button.press()
        toy.mic.speak(TALK)  # in place of the echo of the beep, and longer than it
        deaf_s = SPEECH.ms(len(BEEPS[Earcon.START])) / 1000 + ECHO_S
        await asyncio.sleep(deaf_s)
        toy.mic.speak(b"")
        await asyncio.sleep(1.005 - deaf_s)
        assert toy.runner._recorder.silent
        toy.button.release()
        await asyncio.sleep(1)
        assert toy.speaker.take_heard() == BEEPS[Earcon.START] + BEEPS[Earcon.END]
        packets = sum(line[1] for line in toy.diary.take() if isinstance(line, tuple))
        assert packets in range(13, 16)  # 860 ms


async def _waits(toy: Toy) -> None:
    pass


async def _speaks(toy: Toy) -> None:
    await reply(toy, await asked(toy), 100)
    await asyncio.sleep(1)
    assert isinstance(toy.state, Speaking)


async def _says(toy: Toy) -> None:
    await offline(toy)
    toy.runner.say(Occasion.PHRASE, "story-1")
    await asyncio.sleep(0.1)


async def _helps(toy: Toy) -> None:
    toy.voice.times = 20
    await offline(toy)
    await toy.hold(4.5)


@pytest.mark.parametrize("lead", [_waits, offline, _speaks, _says, _helps], ids=lambda lead: lead.__name__.strip("_"))
@pytest.mark.parametrize("shows", [True, False], ids=["seen", "unseen"])
@in_virtual_time
async def test_a_microphone_that_cannot_be_seen_is_heard_whenever_it_opens(
    lead: Callable[[Toy], Awaitable[None]], shows: bool
) -> None:
    async with running(Toy(voice=True, earcons=BEEPS, shows_open_mic=shows)) as toy:
        await lead(toy)
        await asyncio.sleep(0.1)
        toy.speaker.take_heard()
        toy.mic.speak(TALK[: SPEECH.bytes(100)])  # the echo of its beep
        toy.button.press()
        await asyncio.sleep(1)
        assert toy.mic.is_open
        beeps = toy.speaker.take_heard().count(BEEPS[Earcon.START])
        assert beeps == (1 if lead is _waits or not shows else 0)
        assert toy.runner._recorder.silent or beeps == 0, "it has heard itself"
        toy.button.release()


@in_virtual_time
async def test_a_microphone_that_does_not_open_is_not_announced() -> None:
    async with running(Toy(voice=True, earcons=BEEPS, shows_open_mic=False)) as toy:
        toy.mic.is_broken = True
        toy.button.press()
        await asyncio.sleep(0.2)
        assert BEEPS[Earcon.START] not in toy.speaker.take_heard()
        toy.button.release()


@in_virtual_time
async def test_a_barge_in_is_silent_within_50_ms_and_does_not_hear_the_toy() -> None:
    async with running(Toy(voice=True, earcons=BEEPS)) as toy:
        await reply(toy, await asked(toy), 100)
        await asyncio.sleep(1)
        assert isinstance(toy.state, Speaking)
        toy.mic.speak(TALK[: SPEECH.bytes(1000 * ECHO_S)])
        toy.speaker.take_heard()
        pressed_s = now_s()
        toy.button.press()
        await asyncio.sleep(2)
        assert toy.speaker.sounds[-1][1] <= pressed_s + 0.05
        assert toy.speaker.take_heard() == b""
        assert toy.runner._recorder.silent, "the end of its own words was heard as the child's"
        assert toy.state == Listening(2, started=True)
        toy.button.release()


@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL])
@in_virtual_time
async def test_a_reply_that_fails_half_way_ends_with_the_earcon_of_an_error(code: ErrorCode) -> None:
    async with running(Toy(earcons=BEEPS)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 50, end=False)
        await asyncio.sleep(0.5)
        toy.speaker.take_heard()
        toy.relay.received(ErrorMessage(code, turn=turn))
        await asyncio.sleep(0.05)
        assert toy.state == Error(turn, code, Idle(turn))
        await asyncio.sleep(1)
        heard = toy.speaker.take_heard()
        assert heard.endswith(BEEPS[Earcon.ERROR])
        await asyncio.sleep(LIMIT_S[Error])
        assert toy.state == Idle(turn)


@in_virtual_time
async def test_a_phrase_that_somebody_asks_for_is_said_only_while_nobody_else_has_the_word() -> None:
    async with running(Toy(voice=True)) as toy:
        assert toy.runner.say(Occasion.PHRASE, "song-1")
        await asyncio.sleep(1)
        assert toy.said == ["says phrase song-1"]
        turn = await asked(toy)
        assert not toy.runner.say(Occasion.PHRASE, "song-1")
        await reply(toy, turn, 20)
        assert isinstance(toy.state, Speaking)
        assert not toy.runner.say(Occasion.LOW_BATTERY)
        await asyncio.sleep(3)
        assert toy.said == ["says phrase song-1"]


@in_virtual_time
async def test_what_nobody_asked_for_waits_until_all_is_quiet_and_wakes_no_child_at_night() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        assert toy.runner.say(Occasion.PHRASE, "story-1")
        await asyncio.sleep(0.1)
        assert not toy.runner.say(Occasion.LOW_BATTERY)
        assert toy.runner.say(Occasion.PHRASE, "story-2")
        await asyncio.sleep(1)
        assert toy.runner.say(Occasion.LOW_BATTERY)
        await asyncio.sleep(1)
        allowance.why = Rest.QUIET_HOURS
        await asyncio.sleep(1.1)
        assert not toy.runner.say(Occasion.LOW_BATTERY)
        assert toy.runner.say(Occasion.PHRASE, "song-1")
        await asyncio.sleep(1)
        assert toy.said == ["says phrase story-1", "says phrase story-2", "says low_battery", "says phrase song-1"]


@in_virtual_time
async def test_a_small_sound_that_somebody_asks_for_is_made_only_while_all_is_quiet() -> None:
    allowance = FakeAllowance()
    allowance.volume = 0.0
    async with running(Toy(voice=True, allowance=allowance, earcons=BEEPS)) as toy:
        toy.voice.times = 10
        assert toy.runner.make(Earcon.END)
        toy.mic.speak(TALK[: SPEECH.bytes(100)])
        toy.button.press()
        await asyncio.sleep(0.2)
        assert not toy.runner.make(Earcon.END), "the child has the word"
        assert toy.runner._recorder.silent, "it has heard itself"
        toy.button.release()
        await offline(toy)
        await toy.hold(4.5)
        assert not toy.runner.make(Earcon.END)
        await asyncio.sleep(6)
        assert toy.speaker.take_heard().endswith(quieter(WORDS * 10, 0.3)), "help is as loud as before"


@pytest.mark.parametrize("told", [True, False])
@in_virtual_time
async def test_a_new_volume_is_heard_in_what_is_being_said(told: bool) -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.voice.times = 10
        assert toy.runner.say(Occasion.PHRASE, "story-1")
        await asyncio.sleep(1)
        toy.runner._second_s = now_s() + 1
        allowance.volume = 0.5
        if told:
            toy.runner.limits_changed()
        await asyncio.sleep(5)
        heard, loud = toy.speaker.take_heard(), WORDS * 10
        softer_ms = next(n for n in range(0, 5000, 20) if heard[SPEECH.bytes(n) + 1] != loud[SPEECH.bytes(n) + 1])
        assert softer_ms <= (1100 if told else 2100)
        assert heard == loud[: SPEECH.bytes(softer_ms)] + quieter(loud[SPEECH.bytes(softer_ms) :], 0.5)


@in_virtual_time
async def test_a_speaker_that_fails_is_seen_and_the_toy_lives_on() -> None:
    async with running(Toy(voice=True, earcons=BEEPS)) as toy:
        toy.speaker.is_broken = True
        await offline(toy)
        await toy.hold(0.5)
        await asyncio.sleep(0.1)
        assert toy.state == Error(1, Fault.SOUND, Offline(0))
        await asyncio.sleep(LIMIT_S[Error])
        assert toy.state == Offline(1)
        toy.speaker.is_broken = False
        await toy.hold(0.5)
        await asyncio.sleep(1)
        assert toy.speaker.take_heard() == WORDS


# --- parents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "says"),
    [(Rest.QUIET_HOURS, "says bedtime"), (Rest.PAUSED, "says resting"), (Rest.DAILY_LIMIT, "says resting")],
)
@in_virtual_time
async def test_a_resting_toy_excuses_itself_and_wakes_up_again(why: Rest, says: str) -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        allowance.why = why
        await asyncio.sleep(1.1)
        assert toy.state == Paused(0, ErrorCode(why), Idle(0))
        await toy.hold(1.0)
        await asyncio.sleep(1)
        assert toy.said == [says]
        assert not toy.knows("mic open")
        allowance.why = None
        await asyncio.sleep(1.1)
        assert toy.state == Idle(1)


@in_virtual_time
async def test_a_limit_that_is_reached_in_mid_turn_waits_for_the_end_of_the_reply() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        allowance.why = Rest.DAILY_LIMIT
        await asyncio.sleep(2)
        assert toy.state == Listening(1, started=True)
        toy.button.release()
        await asyncio.sleep(2)
        assert toy.state == Thinking(1)
        await reply(toy, 1, 50)
        await asyncio.sleep(2.9)
        assert toy.state == Speaking(1)
        await asyncio.sleep(0.15)
        assert toy.state == Paused(1, ErrorCode.DAILY_LIMIT, Idle(1)), "before a child can press again"
        assert toy.speaker.take_heard() == decoded([PACKET] * 50)


@in_virtual_time
async def test_a_turn_that_the_relay_does_not_allow_is_excused_and_holds_until_the_relay_says_otherwise() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        toy.relay.received(ErrorMessage(ErrorCode.CONVERSATION_LIMIT, turn=1))
        await asyncio.sleep(3)
        toy.button.release()
        assert toy.said == ["says resting"]
        assert isinstance(toy.state, Paused)
        await asyncio.sleep(60)
        assert isinstance(toy.state, Paused)
        toy.relay.lost(GONE)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(0.1)
        assert isinstance(toy.state, Idle)


@pytest.mark.parametrize("connected", [True, False])
@in_virtual_time
async def test_a_pause_and_its_end_take_effect_at_once(connected: bool) -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        if not connected:
            await offline(toy)
        await asyncio.sleep(0.1)  # the limits have just been looked at
        allowance.why = Rest.PAUSED
        toy.runner.limits_changed()
        await asyncio.sleep(0.01)
        assert isinstance(toy.state, Paused)
        allowance.why = None
        toy.runner.limits_changed()
        await asyncio.sleep(0.01)
        assert isinstance(toy.state, Idle if connected else Offline)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("speaks", [False, True], ids=["silent", "during a phrase"])
@in_virtual_time
async def test_in_the_first_second_of_a_rest_a_press_opens_no_microphone(connected: bool, speaks: bool) -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance, earcons=BEEPS)) as toy:
        if not connected:
            await offline(toy)
        if speaks:
            toy.runner.say(Occasion.PHRASE, "song-1")
        await asyncio.sleep(0.1)
        toy.diary.take()
        allowance.why = Rest.QUIET_HOURS  # and nobody says so
        await toy.hold(0.5)
        assert toy.said == ["says bedtime"]
        assert not toy.knows("mic open")
        assert isinstance(toy.state, Playing)


@in_virtual_time
async def test_a_barge_in_after_the_days_limit_was_reached_opens_no_microphone() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 50)
        await asyncio.sleep(0.1)
        toy.diary.take()
        allowance.why = Rest.DAILY_LIMIT
        await toy.hold(0.5)
        assert toy.knows(Cancel(turn))
        assert toy.said == ["says resting"]
        assert not toy.knows("mic open")


@in_virtual_time
async def test_a_press_right_after_a_rest_is_a_turn() -> None:
    allowance = FakeAllowance()
    allowance.why = Rest.PAUSED
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        await asyncio.sleep(0.1)
        assert isinstance(toy.state, Paused)
        allowance.why = None  # and nobody says so
        toy.button.press()
        await asyncio.sleep(0.5)
        assert toy.state == Listening(1, started=True)
        toy.button.release()


@in_virtual_time
async def test_a_hold_that_began_in_a_rest_is_answered_though_the_rest_ends_meanwhile() -> None:
    allowance = FakeAllowance()
    allowance.why = Rest.PAUSED
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.button.press()
        await asyncio.sleep(0.5)
        allowance.why = None
        toy.runner.limits_changed()
        await asyncio.sleep(2)
        assert isinstance(toy.state, Paused)
        toy.button.release()
        await asyncio.sleep(2)
        assert toy.said == ["says resting"]
        assert toy.state == Idle(1)


@in_virtual_time
async def test_a_button_that_is_stuck_does_not_make_a_rest_last() -> None:
    allowance = FakeAllowance()
    allowance.why = Rest.PAUSED
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.button.press()
        await asyncio.sleep(1)
        allowance.why = None
        await asyncio.sleep(12)
        assert isinstance(toy.state, Idle)
        toy.button.release()


@in_virtual_time
async def test_a_row_of_taps_in_a_rest_leaves_a_whole_excuse() -> None:
    allowance = FakeAllowance()
    allowance.why = Rest.QUIET_HOURS
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        await toy.tap(2)
        await asyncio.sleep(1)
        assert toy.said == ["says bedtime", "says bedtime"]
        assert toy.speaker.take_heard().endswith(WORDS)


@in_virtual_time
async def test_what_parents_allow_holds_without_a_relay() -> None:
    allowance = FakeAllowance()
    allowance.why = Rest.QUIET_HOURS
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        toy.relay.lost(GONE)
        await asyncio.sleep(30)
        assert toy.state == Paused(0, ErrorCode.QUIET_HOURS, Connecting(0))
        await toy.hold(0.5)
        assert toy.said == ["says bedtime"]


@in_virtual_time
async def test_the_talk_of_child_and_toy_is_counted_and_nothing_else() -> None:
    allowance = FakeAllowance()
    async with running(Toy(voice=True, allowance=allowance)) as toy:
        await asyncio.sleep(10)
        assert allowance.talked_s == 0
        await toy.hold(2.0)  # of these 0.3 s might still have been a tap
        await asyncio.sleep(1.5)
        assert allowance.talked_s == pytest.approx(1.7, abs=0.02)
        await reply(toy, 1, 50)
        await asyncio.sleep(1.5)
        assert allowance.talked_s == pytest.approx(1.7 + 1.5, abs=1.0), "also while it goes on"
        await asyncio.sleep(5)
        assert allowance.talked_s == pytest.approx(1.7 + 3.0, abs=0.03)
        await toy.tap(3)
        await asyncio.sleep(5)
        await offline(toy)
        await toy.hold(2.0)
        await asyncio.sleep(5)
        assert allowance.talked_s == pytest.approx(1.7 + 3.0, abs=0.03)


# --- a reply that breaks off ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_reply_that_is_resumed_goes_on_without_a_gap() -> None:
    async with running(Toy(voice=True)) as toy:
        turn = await asked(toy)
        assert toy.relay.resume_point() is None
        await reply(toy, turn, 40, end=False)  # 2.4 s
        await asyncio.sleep(0.5)
        assert toy.relay.resume_point() is None, "there is a connection"
        toy.relay.lost(GONE)
        await asyncio.sleep(0.5)
        assert toy.state == Interrupted(turn, began=True)
        assert toy.relay.resume_point() == ResumePoint(turn, 40)
        toy.relay.welcomed(welcome(resumed=turn))
        toy.relay.received(SpeakingStart(turn))
        for sequence in range(38, 80):
            toy.relay.received(AudioFrame(turn, sequence, PACKET))
        toy.relay.received(SpeakingEnd(turn))
        await asyncio.sleep(5)
        assert toy.speaker.take_heard() == decoded([PACKET] * 80)
        assert toy.speaker.silences == []
        assert toy.state == Idle(turn)
        assert toy.said == []


@pytest.mark.parametrize("limits", [False, True], ids=["no limits", "limits"])
@in_virtual_time
async def test_a_reply_that_is_resumed_into_a_rest_ends_with_the_rest(limits: bool) -> None:
    async with running(Toy(voice=True, allowance=FakeAllowance() if limits else None)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 20, end=False)
        toy.relay.lost(GONE)
        await asyncio.sleep(0.1)
        toy.relay.welcomed(welcome(ErrorCode.QUIET_HOURS, resumed=turn))
        toy.relay.received(SpeakingStart(turn))
        for sequence in range(20, 40):
            toy.relay.received(AudioFrame(turn, sequence, PACKET))
        toy.relay.received(SpeakingEnd(turn))
        await asyncio.sleep(1)
        assert toy.state == Speaking(turn)
        await asyncio.sleep(3)
        assert toy.speaker.take_heard() == decoded([PACKET] * 40)
        assert toy.state == Paused(turn, ErrorCode.QUIET_HOURS, Idle(turn))
        toy.relay.lost(GONE)
        toy.relay.welcomed(welcome())
        await asyncio.sleep(1.1)
        assert toy.state == Idle(turn)


@in_virtual_time
async def test_a_reply_that_had_not_begun_is_resumed_from_its_first_packet() -> None:
    async with running(Toy(voice=True)) as toy:
        turn = await asked(toy)
        toy.relay.lost(GONE)
        await asyncio.sleep(0.1)
        assert toy.relay.resume_point() == ResumePoint(turn, 0)
        toy.relay.welcomed(welcome(resumed=turn))
        await asyncio.sleep(0.1)
        assert toy.state == Thinking(turn)
        await reply(toy, turn, 10)
        await asyncio.sleep(2)
        assert toy.speaker.take_heard() == decoded([PACKET] * 10)


@in_virtual_time
async def test_a_reply_that_is_wholly_here_needs_no_connection() -> None:
    async with running(Toy(voice=True)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 40)
        toy.relay.lost(GONE)
        await asyncio.sleep(0.1)
        assert toy.state == Playing(turn, Connecting(turn))
        assert toy.relay.resume_point() is None
        toy.relay.lost(GONE)
        await asyncio.sleep(5)
        assert toy.speaker.take_heard() == decoded([PACKET] * 40)
        assert toy.said == []


@pytest.mark.parametrize("began", [False, True], ids=["thinking", "speaking"])
@in_virtual_time
async def test_a_child_who_waits_for_a_reply_is_never_left_in_silence_and_it_can_be_resumed_for_30_s(
    began: bool,
) -> None:
    async with running(Toy(voice=True, earcons=BEEPS)) as toy:
        turn = await asked(toy)
        if began:
            await reply(toy, turn, 10, end=False)
        await asyncio.sleep(1)
        toy.speaker.take_heard()
        began_s = now_s()
        toy.relay.lost(GONE)
        await asyncio.sleep(RESUME_S - 1)
        assert toy.state == Interrupted(turn, began, signs=SIGNS)
        assert toy.speaker.take_heard() == BEEPS[Earcon.END] * SIGNS
        sounds = [began_s, *(start_s for start_s, _ in toy.speaker.sounds if start_s > began_s), now_s()]
        assert max(later - sound for sound, later in itertools.pairwise(sounds)) < 6.5
        toy.relay.welcomed(welcome(resumed=turn))
        await reply(toy, turn, 20, first=10 if began else 0)
        await asyncio.sleep(3)
        assert toy.said == []
        assert toy.state == Idle(turn)
        assert len(toy.speaker.take_heard()) == len(decoded([PACKET] * (10 if began else 20)))


@in_virtual_time
async def test_a_sign_is_never_mixed_into_what_can_still_be_heard_or_comes_now() -> None:
    async with running(Toy(earcons=BEEPS)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 110, end=False)  # 6.6 s
        await asyncio.sleep(0.2)
        toy.relay.lost(GONE)
        await asyncio.sleep(8)
        heard = toy.speaker.take_heard()
        assert BEEPS[Earcon.END] not in heard[len(BEEPS[Earcon.END]) + len(BEEPS[Earcon.START]) :]
        await asyncio.sleep(LIMIT_S[Interrupted] * 2 - 8 - 0.2 + 0.23)  # in the middle of the second sign
        toy.relay.welcomed(welcome(resumed=turn))
        await reply(toy, turn, 120, first=110)
        await asyncio.sleep(3)
        assert toy.speaker.take_heard().startswith(BEEPS[Earcon.END])
        assert toy.state == Idle(turn)


@pytest.mark.parametrize("returns", [True, False])
@in_virtual_time
async def test_a_reply_that_is_not_resumed_ends_with_one_friendly_sentence(returns: bool) -> None:
    async with running(Toy(voice=True)) as toy:
        await reply(toy, await asked(toy), 20, end=False)
        toy.relay.lost(GONE)
        await asyncio.sleep(5)
        if returns:
            toy.relay.welcomed(welcome())
        await asyncio.sleep(RESUME_S)
        assert toy.said == ["says lost_thread" if returns else "says unreachable"]
        assert isinstance(toy.state, Idle if returns else Offline)


@in_virtual_time
async def test_a_child_who_presses_instead_gives_the_reply_up() -> None:
    async with running(Toy(voice=True)) as toy:
        turn = await asked(toy)
        await reply(toy, turn, 20, end=False)
        toy.relay.lost(GONE)
        await asyncio.sleep(0.1)
        toy.button.press()
        await asyncio.sleep(0.1)
        assert toy.state == Holding(turn + 1, Connecting(turn))
        assert toy.relay.resume_point() is None
        toy.relay.welcomed(welcome(resumed=turn))  # it was asked before
        await asyncio.sleep(0.1)
        assert toy.knows(Cancel(turn))
        toy.button.release()


# --- moods ------------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_mood_of_a_reply_is_shown_while_it_begins_and_never_over_an_open_microphone() -> None:
    async with running() as toy:
        turn = await asked(toy)
        toy.shown.clear()
        await reply(toy, turn, 100, mood="alert")
        await asyncio.sleep(1)
        assert {(c.red, c.green, c.blue) for _, c in toy.shown} == {(1.0, 0.5, 0.0), (0.0, 0.0, 0.0)}
        toy.shown.clear()
        toy.button.press()
        await asyncio.sleep(1)
        assert all(c.red == c.green == 0 and c.blue >= 0.6 for _, c in toy.shown)
        assert toy.shown
        toy.button.release()


@in_virtual_time
async def test_the_next_reply_without_a_mood_shows_none() -> None:
    async with running() as toy:
        await reply(toy, await asked(toy), 1, mood="celebrate")
        await asyncio.sleep(4)
        await reply(toy, await asked(toy), 50)
        toy.shown.clear()
        await asyncio.sleep(1)
        assert toy.shown == []
        assert (toy.lights.color.red, toy.lights.color.green) == (0.0, 1.0)


@in_virtual_time
async def test_a_mood_that_somebody_asks_for_is_shown() -> None:
    async with running() as toy:
        toy.runner.show(Mood.CELEBRATE, 1.0)
        await asyncio.sleep(0.5)
        assert len({round(c.red + 2 * c.green + 4 * c.blue) for _, c in toy.shown}) > 3


# --- the last second --------------------------------------------------------------------------------------------------


async def _nothing(toy: Toy) -> None:
    pass


async def _listening(toy: Toy) -> None:
    toy.button.press()
    await asyncio.sleep(0.5)


async def _pressed(toy: Toy) -> None:
    toy.button.press()
    await asyncio.sleep(0.2)


async def _thinking(toy: Toy) -> None:
    await asked(toy)


async def _speaking(toy: Toy) -> None:
    await reply(toy, await asked(toy), 100, end=False)
    await asyncio.sleep(0.5)


async def _interrupted(toy: Toy) -> None:
    await _speaking(toy)
    toy.relay.lost(GONE)
    await asyncio.sleep(0.1)


async def _holding(toy: Toy) -> None:
    await offline(toy)
    await _listening(toy)


async def _playing(toy: Toy) -> None:
    toy.runner.say(Occasion.PHRASE, "song-1")
    await asyncio.sleep(0.2)


async def _failed(toy: Toy) -> None:
    turn = await asked(toy)
    toy.relay.received(ErrorMessage(ErrorCode.INTERNAL, turn=turn))
    await asyncio.sleep(0.5)


ENDS: list[tuple[Callable[[Toy], Awaitable[None]], type[State], Earcon | None]] = [
    (_nothing, Idle, None),
    (offline, Offline, None),
    (_failed, Error, None),
    (_pressed, Listening, Earcon.END),
    (_holding, Holding, Earcon.END),
    (_listening, Listening, Earcon.ERROR),
    (_thinking, Thinking, Earcon.ERROR),
    (_speaking, Speaking, Earcon.ERROR),
    (_interrupted, Interrupted, Earcon.ERROR),
    (_playing, Playing, Earcon.ERROR),
]


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "no speaker"])
@pytest.mark.parametrize(("lead", "state", "earcon"), ENDS, ids=[lead.__name__.strip("_") for lead, _, _ in ENDS])
@in_virtual_time
async def test_the_end_comes_within_a_second_and_a_turn_that_it_cuts_off_ends_with_an_earcon(
    lead: Callable[[Toy], Awaitable[None]], state: type[State], earcon: Earcon | None, broken: bool
) -> None:
    async with running(Toy(voice=True, earcons=BEEPS)) as toy:
        await lead(toy)
        assert isinstance(toy.state, state)
        toy.speaker.take_heard()
        toy.speaker.is_broken = broken
        began_s = now_s()
        toy.runner.stop()
        assert await toy.ended() is Ending.STOPPED
        assert now_s() - began_s < 1.0
        heard = toy.speaker.take_heard()
        if not broken:
            assert heard.endswith(BEEPS[earcon]) if earcon else heard == b""
        assert not toy.mic.is_open


@in_virtual_time
async def test_a_restart_that_is_commanded_says_so() -> None:
    async with running() as toy:
        toy.runner.stop(restart=True)
        assert await toy.ended() is Ending.RESTART


@in_virtual_time
async def test_a_restart_that_is_commanded_lets_help_be_heard() -> None:
    async with running(Toy(voice=True)) as toy:
        toy.voice.times = 4  # 2 s
        await offline(toy)
        toy.button.press()
        await asyncio.sleep(4.5)
        toy.runner.stop(restart=True)
        assert await toy.ended() is Ending.RESTART
        assert toy.speaker.take_heard() == WORDS * 4


# --- alive ------------------------------------------------------------------------------------------------------------


async def _no_network(toy: Toy) -> None:
    await asyncio.sleep(180)


async def _no_sound(toy: Toy) -> None:
    toy.speaker.is_broken = toy.mic.is_broken = True
    for _ in range(20):
        await toy.hold(0.5)
        await asyncio.sleep(5)


async def _a_deaf_card(toy: Toy) -> None:
    toy.mic.is_mute = True
    for _ in range(5):
        await toy.hold(SILENT_S + 2)
        await asyncio.sleep(5)


async def _a_story(toy: Toy) -> None:
    toy.relay.welcomed(welcome())
    await asyncio.sleep(0.1)
    turn = await asked(toy)
    for sequence in range(600):
        if sequence == 0:
            toy.relay.received(SpeakingStart(turn))
        toy.relay.received(AudioFrame(turn, sequence, PACKET))
        await asyncio.sleep(0.06)


@pytest.mark.parametrize("life", [_no_network, _no_sound, _a_deaf_card, _a_story], ids=lambda f: f.__name__.strip("_"))
@in_virtual_time
async def test_whoever_watches_is_told_every_second_whatever_happens(
    life: Callable[[Toy], Awaitable[None]],
) -> None:
    signs: list[float] = []
    toy = Toy(voice=True, allowance=FakeAllowance(), earcons=BEEPS, on_alive=lambda: signs.append(now_s()))
    async with running(toy, connected=False):
        await life(toy)
        signs.append(now_s())
        assert max(later - sign for sign, later in itertools.pairwise(signs)) <= 1.01
        assert toy.task is not None and not toy.task.done()


# --- the sound card ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lead", "effect"), [(_thinking, Cancel(1)), (_speaking, Cancel(1)), (_holding, "mic closed")])
@in_virtual_time
async def test_a_sound_card_that_goes_ends_what_it_was_used_for(
    lead: Callable[[Toy], Awaitable[None]], effect: object
) -> None:
    async with running(Toy(voice=True)) as toy:
        await lead(toy)
        toy.runner.sound_lost()
        await asyncio.sleep(0.1)
        assert isinstance(toy.state, Error)
        assert toy.state.why is Fault.SOUND
        assert toy.knows(effect)
