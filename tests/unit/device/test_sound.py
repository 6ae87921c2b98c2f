"""Microphone and speaker of a sound card, with the test in the place of PortAudio's threads."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from pommai.device.body import sound
from pommai.device.body.ends import SoundCardMic, SoundCardSpeaker
from pommai.device.body.lines import Lines
from pommai.device.body.portaudio import ABORT, CONTINUE, INPUT_OVERFLOW, OUTPUT_UNDERFLOW, Ends, OpenCard
from pommai.device.body.sound import PatientSoundCard, SoundCard
from pommai.errors import HardwareError
from tests.pulse import noise

from .virtual_time import in_virtual_time


def connected() -> tuple[Lines, SoundCardMic, SoundCardSpeaker]:
    loop, mic, speaker = asyncio.get_running_loop(), SoundCardMic(), SoundCardSpeaker()
    mic.connect(loop)
    speaker.connect(loop)
    return Lines(loop, mic, speaker), mic, speaker


async def test_without_a_sound_card_there_is_one_clear_line(no_card: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HardwareError, match=r"^there is no microphone$") as caught:
        async with SoundCard():
            pass
    assert "arecord -l" in caught.value.remedy
    assert capfd.readouterr().err == ""  # ALSA and JACK have been silenced


async def test_a_flushed_speaker_forgets_what_it_has_not_played() -> None:
    lines, _, speaker = connected()
    give = lines.giver(24_000, 1)
    await speaker.write(noise(0.02))
    speaker.flush()
    assert give(None, 480, None, 0) == (bytes(960), CONTINUE)


async def test_flushing_ends_the_wait_of_those_who_have_written() -> None:
    _, _, speaker = connected()
    writing = asyncio.create_task(speaker.write(noise(0.1)))
    await asyncio.sleep(0)
    speaker.flush()
    await asyncio.wait_for(writing, 0.5)
    await speaker.drain()


async def test_the_card_takes_what_there_is_and_silence_for_the_rest() -> None:
    lines, _, speaker = connected()
    give = lines.giver(24_000, 1)
    await speaker.write(noise(0.02))
    assert give(None, 288, None, 0)[0] == noise(0.012)
    assert give(None, 288, None, 0)[0] == noise(0.02)[576:] + bytes(192)
    await speaker.drain()


async def test_a_writer_waits_until_the_card_is_hardly_behind_and_one_who_drains_until_all_is_taken() -> None:
    lines, _, speaker = connected()
    give = lines.giver(24_000, 1)
    writing = asyncio.create_task(speaker.write(noise(0.06)))
    await asyncio.sleep(0)
    draining = asyncio.create_task(speaker.drain())
    await asyncio.sleep(0)
    give(None, 480, None, 0)
    await asyncio.sleep(0)
    assert not writing.done()  # 40 ms are left
    give(None, 480, None, 0)
    await asyncio.wait_for(writing, 0.5)
    assert not draining.done()
    give(None, 480, None, 0)
    await asyncio.wait_for(draining, 0.5)


async def test_a_card_is_looked_for_eagerly_then_calmly_and_at_once_when_the_kernel_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, cards, more = "", "none", asyncio.Event()

    def search(name: str, ends: Ends) -> OpenCard:
        nonlocal done
        done += "S"
        raise HardwareError("there is no microphone")

    def look() -> str:
        nonlocal done
        done += "l"
        more.set()
        return cards

    async def until_looked(n_looks: int) -> None:
        while done.count("l") < n_looks:
            more.clear()
            await asyncio.wait_for(more.wait(), 10)

    monkeypatch.setattr(sound, "open_card", search)
    monkeypatch.setattr(sound, "kernel_cards", look)
    async with PatientSoundCard(search_s=0.001):
        await until_looked(12 + 6 + 6 + 1)
        cards = "one"
        before = len(done)
        await until_looked(done.count("l") + 3)
    assert done.startswith("lS" * 12 + "llllllS" * 2 + "l")
    assert "S" in done[before : before + 3]


@pytest.mark.parametrize("n_searches", [1, 2])
async def test_a_bug_in_a_search_ends_whoever_has_the_card(monkeypatch: pytest.MonkeyPatch, n_searches: int) -> None:
    """It would leave the toy deaf for ever; ended, it is started anew."""
    outcomes = [HardwareError("there is no microphone")] * (n_searches - 1) + [ZeroDivisionError()]

    def search(name: str, ends: Ends) -> OpenCard:
        raise outcomes.pop(0)

    monkeypatch.setattr(sound, "open_card", search)
    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as caught:
        async with asyncio.timeout(10), PatientSoundCard(search_s=0.001):
            await asyncio.Event().wait()
    bug = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert isinstance(bug, ZeroDivisionError) and not outcomes


@in_virtual_time
async def test_a_speaker_that_takes_nothing_any_more_has_failed() -> None:
    _, _, speaker = connected()
    with pytest.raises(HardwareError, match="took no sound for 2 s"):
        await speaker.write(noise(0.1))


@in_virtual_time
async def test_a_speaker_that_still_takes_a_long_sound_has_not_failed() -> None:
    lines, _, speaker = connected()
    give, loop = lines.giver(24_000, 1), asyncio.get_running_loop()
    for second in range(5):
        loop.call_later(second, give, None, 24_000, None, 0)
    began_s = loop.time()
    await speaker.write(noise(5.0))
    assert loop.time() - began_s == pytest.approx(4.0)


@in_virtual_time
async def test_those_who_write_or_drain_are_told_at_once_that_the_card_has_gone() -> None:
    _, _, speaker = connected()
    began_s = asyncio.get_running_loop().time()
    writing, draining = asyncio.create_task(speaker.write(noise(0.1))), asyncio.create_task(speaker.drain())
    await asyncio.sleep(0)
    speaker.lose()
    speaker.connect(asyncio.get_running_loop())  # that there is another one by now is no comfort
    for task in (writing, draining):
        with pytest.raises(HardwareError, match="the sound card has gone"):
            await task
    assert asyncio.get_running_loop().time() == began_s


async def test_without_a_card_nothing_can_be_played_or_heard() -> None:
    speaker, mic = SoundCardSpeaker(), SoundCardMic()
    with pytest.raises(HardwareError, match="no sound card to play with"):
        await speaker.write(bytes(960))
    with pytest.raises(HardwareError, match="no sound card to play with"):
        await speaker.drain()
    with pytest.raises(HardwareError, match="no sound card to listen with"):
        mic.open(lambda pcm: None)
    speaker.flush()
    mic.close()


async def test_what_a_microphone_gives_while_nobody_listens_is_dropped() -> None:
    lines, mic, _ = connected()
    take = lines.taker(24_000, 1)
    heard: list[bytes] = []
    take(b"before", 3, None, 0)
    mic.open(heard.append)
    take(b"during", 3, None, 0)
    mic.close()
    take(b"after", 3, None, 0)
    mic.open(heard.append)
    await asyncio.sleep(0)
    mic.close()
    assert heard == [b"during"]


async def test_what_is_heard_is_handed_over_in_twos_and_the_rest_at_the_end() -> None:
    lines, mic, _ = connected()
    take = lines.taker(24_000, 1)
    heard: list[bytes] = []
    mic.open(heard.append)
    take(b"one ", 2, None, 0)
    await asyncio.sleep(0)
    assert heard == []
    take(b"two ", 2, None, 0)
    await asyncio.sleep(0)
    assert heard == [b"one two "]
    take(b"three", 2, None, 0)
    mic.close()
    assert heard == [b"one two ", b"three"]
    mic.close()
    await asyncio.sleep(0)
    assert heard == [b"one two ", b"three"]


async def test_what_an_old_listener_has_not_heard_is_not_for_a_new_one() -> None:
    lines, mic, _ = connected()
    take = lines.taker(24_000, 1)
    first: list[bytes] = []
    second: list[bytes] = []
    mic.open(first.append)
    take(b"late", 2, None, 0)
    mic.lose()  # PortAudio's thread was between its look at the listener and its piece
    mic.connect(asyncio.get_running_loop())
    mic.open(second.append)
    take(b"new ", 2, None, 0)
    take(b"er", 1, None, 0)
    await asyncio.sleep(0)
    assert (first, second) == ([], [b"new er"])


async def test_a_lost_microphone_is_closed_and_a_new_card_does_not_open_it() -> None:
    lines, mic, _ = connected()
    take = lines.taker(24_000, 1)
    heard: list[bytes] = []
    mic.open(heard.append)
    mic.lose()
    mic.connect(asyncio.get_running_loop())
    take(b"later", 3, None, 0)
    await asyncio.sleep(0)
    assert heard == []
    mic.open(heard.append)  # and it is not "open already"


async def test_losses_of_sound_count_only_while_there_is_some() -> None:
    lines, mic, speaker = connected()
    take, give = lines.taker(24_000, 1), lines.giver(24_000, 1)
    take(bytes(960), 480, None, INPUT_OVERFLOW)
    give(None, 480, None, OUTPUT_UNDERFLOW)
    assert (mic.xruns, speaker.xruns) == (0, 0)
    mic.open(lambda pcm: None)
    await speaker.write(noise(0.02))
    take(bytes(960), 480, None, INPUT_OVERFLOW)
    give(None, 240, None, OUTPUT_UNDERFLOW)  # the card ran dry before the first sound, in silence
    assert (mic.xruns, speaker.xruns) == (1, 0)
    give(None, 240, None, OUTPUT_UNDERFLOW)
    assert speaker.xruns == 1
    give(None, 240, None, OUTPUT_UNDERFLOW)  # behind the last of the sound: its end may have been cut
    give(None, 240, None, OUTPUT_UNDERFLOW)
    assert speaker.xruns == 2
    mic.close()


async def test_lines_that_were_cut_touch_nothing_any_more() -> None:
    lines, mic, speaker = connected()
    take, give = lines.taker(24_000, 1), lines.giver(24_000, 1)
    heard: list[bytes] = []
    mic.open(heard.append)
    await speaker.write(noise(0.02))
    lines.cut()
    assert take(b"sound", 2, None, 0) == (None, ABORT)
    assert give(None, 480, None, 0) == (b"", ABORT)
    await asyncio.sleep(0)
    assert heard == []
    assert lines.beats == [0, 0]
    mic.close()


def test_a_callback_that_comes_after_the_end_of_the_loop_says_nothing() -> None:
    loop = asyncio.new_event_loop()
    mic, speaker = SoundCardMic(), SoundCardSpeaker()
    lines = Lines(loop, mic, speaker)
    loop.close()
    assert lines.taker(24_000, 1)(bytes(960), 480, None, 0) == (None, CONTINUE)


async def test_at_48_khz_stereo_both_ends_still_speak_24_khz_mono() -> None:
    lines, mic, speaker = connected()
    take, give = lines.taker(48_000, 2), lines.giver(48_000, 2)
    heard: list[bytes] = []
    take(array("h", [9000] * 1920).tobytes(), 960, None, 0)  # before the microphone is open: leaves no trace
    mic.open(heard.append)
    take(bytes(3840), 960, None, 0)
    take(array("h", [1000] * 1920).tobytes(), 960, None, 0)
    await asyncio.sleep(0)
    mic.close()
    assert [len(pcm) for pcm in heard] == [1920]
    assert heard[0][:960] == bytes(960)
    assert set(array("h", heard[0][960:])[20:]) == {1000}
    await speaker.write(array("h", [1000] * 480).tobytes())
    played = array("h", give(None, 960, None, 0)[0])
    assert len(played) == 1920
    assert set(played[80:]) == {1000}
    tail = array("h", give(None, 960, None, 0)[0])  # the filter rings out, and then there is silence
    assert tail[0] > 900
    assert set(tail[80:]) == {0}
    assert give(None, 960, None, 0) == (bytes(3840), CONTINUE)
