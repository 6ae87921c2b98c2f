"""The virtual body behaves like hardware: it takes its time, it forgets what was flushed, it refuses what cannot be."""

from __future__ import annotations

import asyncio
import os

import pytest

from pommai.device.body.sim import KeyboardButton, TerminalLights, VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.mind.lights import BLUE, OFF, Color
from pommai.errors import HardwareError

from .virtual_time import in_virtual_time

SECOND = bytes(range(1, 251)) * 192  # 1 s: 24,000 samples
MS = 48  # bytes


def now_s() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_press_without_bounces_is_one_edge() -> None:
    edges: list[tuple[bool, float]] = []
    button = VirtualButton()
    button.watch(lambda down, at_ms: edges.append((down, at_ms)))
    button.press()
    button.release()
    assert edges == [(True, now_s() * 1000), (False, now_s() * 1000)]


@in_virtual_time
async def test_bounces_alternate_and_end_where_the_finger_is() -> None:
    edges: list[tuple[bool, float]] = []
    button = VirtualButton()
    button.watch(lambda down, at_ms: edges.append((down, at_ms - now_s() * 1000)))
    button.press(bounces=2)
    assert edges == [(True, 0), (False, 2), (True, 4), (False, 6), (True, 8)]


@in_virtual_time
async def test_a_button_cannot_be_pressed_twice_or_let_go_twice() -> None:
    button = VirtualButton()
    with pytest.raises(HardwareError, match="nobody"):
        button.press()
    button.watch(lambda down, at_ms: None)
    with pytest.raises(HardwareError, match="watched already"):
        button.watch(lambda down, at_ms: None)
    with pytest.raises(HardwareError, match="up already"):
        button.release()
    button.press()
    with pytest.raises(HardwareError, match="down already"):
        button.press()


@in_virtual_time
async def test_the_space_bar_talks_by_two_strokes_and_by_being_held() -> None:
    edges: list[tuple[bool, int]] = []
    quits: list[str] = []
    keys, terminal = os.pipe()
    began_s = now_s()
    button = KeyboardButton(keys, lambda: quits.append("quit"))
    button.watch(lambda down, at_ms: edges.append((down, round(at_ms - began_s * 1000))))
    with button:
        for wait_ms in (1000, 1000):  # two strokes
            os.write(terminal, b" ")
            await asyncio.sleep(wait_ms / 1000)
        for wait_ms in (500, 30, 30, 30, 1000):  # held: the first repeat comes late, the others close together
            os.write(terminal, b" ")
            await asyncio.sleep(wait_ms / 1000)
        os.write(terminal, b"x")
        await asyncio.sleep(0.01)
        os.write(terminal, b"q")
        await asyncio.sleep(0.01)
    os.close(keys)
    os.close(terminal)
    assert edges == [(True, 0), (False, 1150), (True, 2000), (False, 2740)]
    assert quits == ["quit"]


@in_virtual_time
async def test_the_microphone_hears_in_real_time_and_then_silence() -> None:
    heard: list[tuple[int, bytes]] = []
    spoken: list[int] = []
    began_s = now_s()
    mic = VirtualMic()
    mic.on_spoken = lambda: spoken.append(round((now_s() - began_s) * 1000))
    mic.speak(SECOND[: 50 * MS])
    mic.open(lambda pcm: heard.append((round((now_s() - began_s) * 1000), pcm)))
    await asyncio.sleep(0.085)
    mic.close()
    mic.close()
    await asyncio.sleep(1)
    assert [at_ms for at_ms, _ in heard] == [20, 40, 60, 80]
    assert b"".join(pcm for _, pcm in heard) == SECOND[: 50 * MS] + bytes(30 * MS)
    assert spoken == [60]
    assert mic.unsaid_ms == 0


@in_virtual_time
async def test_a_closed_microphone_hears_nothing_of_what_is_said_later() -> None:
    heard: list[bytes] = []
    mic = VirtualMic()
    mic.open(heard.append)
    with pytest.raises(HardwareError, match="open already"):
        mic.open(heard.append)
    mic.close()
    mic.speak(SECOND)
    await asyncio.sleep(2)
    assert heard == []
    assert mic.unsaid_ms == 1000
    with pytest.raises(HardwareError, match="half a sample"):
        mic.speak(b"\0")


@in_virtual_time
async def test_a_speaker_lets_nobody_run_ahead_and_plays_everything() -> None:
    speaker = VirtualSpeaker()
    began_s = now_s()
    for start in range(0, len(SECOND), 20 * MS):
        await speaker.write(SECOND[start : start + 20 * MS])
    assert now_s() - began_s == pytest.approx(0.94)
    await speaker.drain()
    assert now_s() - began_s == pytest.approx(1.0)
    assert speaker.take_heard() == SECOND
    assert speaker.take_heard() == b""
    assert speaker.gaps_ms == []


@in_virtual_time
async def test_a_flushed_speaker_is_silent_at_the_very_sample() -> None:
    speaker = VirtualSpeaker()
    writing = asyncio.create_task(speaker.write(SECOND))
    await asyncio.sleep(0.3333)
    speaker.flush()
    writing.cancel()
    await asyncio.sleep(2)
    assert speaker.take_heard() == SECOND[: 2 * 7999]
    await speaker.write(SECOND[: 20 * MS])
    await speaker.drain()
    assert speaker.take_heard() == SECOND[: 20 * MS]
    assert speaker.gaps_ms == []


@in_virtual_time
async def test_looking_at_a_speaker_often_loses_no_sample() -> None:
    speaker = VirtualSpeaker()
    writing = asyncio.create_task(speaker.write(SECOND))
    heard = b""
    for _ in range(1003):
        await asyncio.sleep(0.001)
        heard += speaker.take_heard()
    await writing
    assert heard == SECOND


@in_virtual_time
async def test_a_gap_inside_a_flow_is_counted_and_one_after_a_drain_is_none() -> None:
    speaker = VirtualSpeaker()
    await speaker.write(SECOND[: 20 * MS])
    await asyncio.sleep(0.1)
    await speaker.write(SECOND[: 20 * MS])
    assert speaker.gaps_ms == [pytest.approx(80)]
    await speaker.drain()
    await asyncio.sleep(0.1)
    await speaker.write(SECOND[: 20 * MS])
    assert speaker.gaps_ms == [pytest.approx(80)]


@in_virtual_time
async def test_a_speaker_plays_one_sound_at_a_time_and_whole_samples() -> None:
    speaker = VirtualSpeaker()
    writing = asyncio.create_task(speaker.write(SECOND))
    await asyncio.sleep(0)
    with pytest.raises(HardwareError, match="at once"):
        await speaker.write(SECOND)
    with pytest.raises(HardwareError, match="half a sample"):
        await speaker.write(b"\0")
    await writing


def test_lights_tell_what_changes() -> None:
    shown: list[Color] = []
    lights = TerminalLights(shown.append)
    for color in (OFF, BLUE, BLUE, OFF):
        lights.show(color)
    assert shown == [BLUE, OFF]
    assert lights.color == OFF
    with pytest.raises(HardwareError, match="cannot shine"):
        lights.show(Color(1.2, 0, 0))
