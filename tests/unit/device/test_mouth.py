"""What comes out of the speaker and why, at a volume that parents allow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from pommai.audio import SPEECH, quieter
from pommai.device.body.sim import VirtualSpeaker
from pommai.device.inbox import Inbox
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import Occasion, PlaybackFinished
from pommai.device.ports import OwnVoice
from pommai.device.speech.mouth import ECHO_S, FAREWELL_S, HELP_VOLUME, Mouth
from pommai.protocol import AudioFrame

from .monitor import decoded, packets
from .rig import BEEPS, WORDS, FakeAllowance, FakeVoice, now_s, welcome
from .rig import Diary as Notes
from .virtual_time import in_virtual_time


class Head:
    """A mouth, and what it can say."""

    def __init__(
        self,
        *,
        voice: bool = True,
        allowance: FakeAllowance | None = None,
        earcons: Mapping[Earcon, bytes] = BEEPS,
        speaker: VirtualSpeaker | None = None,
    ) -> None:
        self.diary = Notes()
        self.speaker = VirtualSpeaker() if speaker is None else speaker
        self.inbox = Inbox(lambda note: None, lambda: None, allowance, None)
        own: OwnVoice | None = FakeVoice(self.diary) if voice else None
        self.mouth = Mouth(self.speaker, self.inbox, prebuffer_ms=120, voice=own, allowance=allowance, earcons=earcons)

    async def reply(self, turn: int, sound: list[bytes]) -> None:
        """A reply, heard to its end."""
        self.mouth.expect(turn)
        for sequence, packet in enumerate(sound):
            self.mouth.take(AudioFrame(turn, sequence, packet))
        self.mouth.complete(turn)
        await asyncio.sleep(5)

    def finished(self) -> list[object]:
        return [self.inbox.queue.get_nowait() for _ in range(self.inbox.queue.qsize())]


@in_virtual_time
async def test_a_reply_is_heard_and_its_end_told() -> None:
    head, sound = Head(), packets(4)
    assert head.mouth.missing(1) == 0
    await head.reply(1, sound)
    assert head.mouth.missing(1) is None
    assert head.speaker.take_heard() == decoded(sound)
    assert head.finished() == [PlaybackFinished(1)]
    await head.mouth.aclose()


@in_virtual_time
async def test_the_last_reply_is_repeated_from_memory_without_a_network() -> None:
    head, sound = Head(), packets(4)
    await head.reply(1, sound)
    head.speaker.take_heard()
    head.mouth.say(2, Occasion.STATUS, "")
    await asyncio.sleep(2)
    head.speaker.take_heard()
    head.mouth.say(3, Occasion.REPEAT, "")
    await asyncio.sleep(2)
    assert head.speaker.take_heard() == decoded(sound), "what the toy says of itself is not what a child wants again"
    assert head.diary.take() == ["says status", "repeats"], "whoever writes it down knows of it"
    assert head.finished() == [PlaybackFinished(1), PlaybackFinished(2), PlaybackFinished(3)]
    await head.mouth.aclose()


@in_virtual_time
async def test_a_toy_without_words_repeats_the_last_reply_too() -> None:
    head, sound = Head(voice=False), packets(4)
    await head.reply(1, sound)
    head.mouth.say(2, Occasion.REPEAT, "")
    await asyncio.sleep(2)
    assert head.speaker.take_heard() == decoded(sound) * 2
    assert head.finished() == [PlaybackFinished(1), PlaybackFinished(2)]
    await head.mouth.aclose()


@pytest.mark.parametrize("occasion", [Occasion.ACTIVITY, Occasion.HELP, Occasion.PHRASE])
@in_virtual_time
async def test_what_was_heard_last_is_repeated_be_it_the_toys_own(occasion: Occasion) -> None:
    head = Head()
    await head.reply(1, packets(4))
    head.mouth.say(2, occasion, "song-1")
    await asyncio.sleep(2)
    head.mouth.say(3, Occasion.REPEAT, "")
    await asyncio.sleep(2)
    assert head.diary.take() == [f"says {occasion} song-1", "says repeat"]
    await head.mouth.aclose()


@in_virtual_time
async def test_with_nothing_to_repeat_the_toys_own_voice_says_so() -> None:
    head = Head()
    head.mouth.say(1, Occasion.REPEAT, "")
    await asyncio.sleep(2)
    assert head.diary.take() == ["says repeat"]
    assert head.speaker.take_heard() == WORDS
    await head.mouth.aclose()


@in_virtual_time
async def test_a_toy_without_words_goes_on_at_once() -> None:
    head = Head(voice=False)
    head.mouth.say(4, Occasion.HELP, "")
    assert head.finished() == [PlaybackFinished(4)]
    assert head.speaker.take_heard() == b""
    await head.mouth.aclose()


@in_virtual_time
async def test_everything_is_as_loud_as_the_toy_may_be_when_it_begins() -> None:
    allowance = FakeAllowance()
    head = Head(allowance=allowance)
    heard = []
    for volume in (1.0, 0.5, 0.0):
        allowance.volume = volume
        head.mouth.make(Earcon.END)
        await asyncio.sleep(1)
        head.mouth.say(1, Occasion.STATUS, "")
        await asyncio.sleep(1)
        heard.append(head.speaker.take_heard())
    loud = BEEPS[Earcon.END] + WORDS
    assert heard == [loud, quieter(loud, 0.5), bytes(len(loud))]
    await head.mouth.aclose()


@pytest.mark.parametrize("volume", [0.0, 0.1, HELP_VOLUME, 0.8])
@in_virtual_time
async def test_help_is_never_too_soft_to_be_heard(volume: float) -> None:
    allowance = FakeAllowance()
    allowance.volume = volume
    head = Head(allowance=allowance)
    head.mouth.say(1, Occasion.HELP, "")
    await asyncio.sleep(1)
    head.mouth.say(2, Occasion.ACTIVITY, "")
    await asyncio.sleep(1)
    assert head.speaker.take_heard() == quieter(WORDS, max(volume, 0.3)) + quieter(WORDS, volume)
    await head.mouth.aclose()


@pytest.mark.parametrize(
    ("occasion", "volume", "heard"),
    [(Occasion.ACTIVITY, 0.1, 0.1), (Occasion.HELP, 0.0, HELP_VOLUME), (Occasion.HELP, 0.5, 0.5)],
)
@in_virtual_time
async def test_what_is_being_said_follows_the_volume_and_help_stays_loud_enough(
    occasion: Occasion, volume: float, heard: float
) -> None:
    allowance = FakeAllowance()
    head = Head(allowance=allowance)
    head.mouth.say(1, occasion, "")
    await asyncio.sleep(0.15)
    allowance.volume = volume
    head.mouth.follow_volume()
    await asyncio.sleep(1)
    assert head.speaker.take_heard().endswith(quieter(WORDS[: len(WORDS) // 2], heard))
    await head.reply(2, packets(4))
    assert head.speaker.take_heard() == quieter(decoded(packets(4)), volume)
    await head.mouth.aclose()


@in_virtual_time
async def test_an_earcon_that_is_not_made_takes_no_time_and_leaves_the_volume_of_help() -> None:
    allowance = FakeAllowance()
    allowance.volume = 0.0
    head = Head(allowance=allowance)
    head.mouth.say(1, Occasion.HELP, "")
    await asyncio.sleep(0.15)
    assert head.mouth.make(Earcon.END) == 0.0
    head.mouth.follow_volume()
    await asyncio.sleep(1)
    assert head.speaker.take_heard() == quieter(WORDS, HELP_VOLUME)
    await head.mouth.aclose()


@in_virtual_time
async def test_without_a_memory_the_relays_ceiling_holds() -> None:
    head, sound = Head(), packets(3)
    head.inbox.welcomed(welcome(volume_ceiling=0.25))
    await head.reply(1, sound)
    assert head.speaker.take_heard() == quieter(decoded(sound), 0.25)
    await head.mouth.aclose()


@in_virtual_time
async def test_an_earcon_is_as_long_as_its_sound_and_its_echo() -> None:
    head = Head()
    assert head.mouth.make(Earcon.START) == pytest.approx(0.08 + ECHO_S)
    await asyncio.sleep(1)
    assert head.speaker.take_heard() == BEEPS[Earcon.START]
    silent = Head(earcons={})
    assert silent.mouth.make(Earcon.START) == 0.0
    assert silent.speaker.take_heard() == b""
    await head.mouth.aclose()
    await silent.mouth.aclose()


@in_virtual_time
async def test_hushed_it_is_silent_at_once_and_says_how_long_the_room_rings() -> None:
    head = Head()
    assert head.mouth.hush() == 0.0
    head.mouth.say(1, Occasion.STATUS, "")
    await asyncio.sleep(0.1)
    assert head.mouth.hush() == ECHO_S
    await asyncio.sleep(1)
    assert head.speaker.take_heard() == WORDS[: SPEECH.bytes(100)]
    assert head.finished() == []
    assert head.mouth.hush() == 0.0
    await head.mouth.aclose()


class StuckSpeaker(VirtualSpeaker):
    """Takes nothing."""

    async def write(self, pcm: bytes) -> None:
        await asyncio.sleep(1000)


@in_virtual_time
async def test_a_farewell_is_heard_but_waits_for_no_broken_speaker() -> None:
    head = Head()
    head.mouth.make(Earcon.ERROR)
    await head.mouth.farewell()
    assert head.speaker.take_heard() == BEEPS[Earcon.ERROR]
    await head.mouth.aclose()
    stuck = Head(speaker=StuckSpeaker())
    stuck.mouth.make(Earcon.ERROR)
    began_s = now_s()
    await stuck.mouth.farewell()
    assert now_s() - began_s == pytest.approx(FAREWELL_S)
    await stuck.mouth.aclose()


@in_virtual_time
async def test_closed_it_leaves_no_task_whatever_it_was_doing() -> None:

    head = Head()
    head.mouth.make(Earcon.ERROR)
    head.mouth.say(1, Occasion.STATUS, "")
    head.mouth.hush()
    head.mouth.make(Earcon.END)
    head.mouth.expect(2)
    await head.mouth.aclose()
    assert len(asyncio.all_tasks()) == 1
