"""What a child hears while the network stalls: no gap above 60 ms, 120 ms in the first 0.4 s of a reply."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pommai.audio import SPEECH
from pommai.device.speech.jitter import MAX_CONCEAL_MS
from pommai.device.speech.player import Player
from pommai.device.speech.reply import STARVING_S
from pommai.protocol import AudioFrame

from .monitor import MonitoredSpeaker, packets
from .test_player import Notebook
from .virtual_time import in_virtual_time

FRAME_S = 0.06
STALL_S = 0.2
RELAY_LEAD_S = 1.2
SOUND = packets(35)  # 2.1 s
WARM_FRAMES = 7  # 0.42 s

EARLY_GAP_MS = 120.0
GAP_MS = 60.0

Stall = tuple[float, float]
"""When the network stops, in seconds since the first packet was sent, and for how long."""


def arrivals(stalls: list[Stall], lead_s: float, jitter: random.Random | None = None) -> list[float]:
    """When each packet comes, of a relay that runs `lead_s` ahead of real time, over a network that keeps the order.

    What is sent during a stall comes at its end, all at once: that is how TCP behaves.
    """
    came: list[float] = []
    for n in range(len(SOUND)):
        sent_s = max(0.0, n * FRAME_S - lead_s)
        at_s = max([sent_s, *(began_s + s for began_s, s in stalls if began_s <= sent_s < began_s + s)])
        at_s += 0.0 if jitter is None else jitter.uniform(0.0, 0.015)
        came.append(max([at_s, *came[-1:]]))
    return came


async def gaps_ms(stalls: list[Stall], lead_s: float, jitter: random.Random | None = None) -> tuple[float, float]:
    """The longest gap that begins before 0.4 s of the reply have come, and the longest after that."""
    speaker = MonitoredSpeaker()
    player, notebook = Player(speaker), Notebook()
    player.start(1, notebook)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    came = arrivals(stalls, lead_s, jitter)
    for sequence, (packet, at_s) in enumerate(zip(SOUND, came, strict=True)):
        await asyncio.sleep(max(0.0, began_s + at_s - loop.time()))
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(5)
    await player.aclose()
    assert [what for what, _, _ in notebook.lines] == ["began", "finished"]
    assert SPEECH.ms(len(speaker.take_heard())) >= 60 * len(SOUND), "something of the reply was lost"
    warm_s = began_s + came[WARM_FRAMES - 1]
    early = [silence.ms for silence in speaker.silences if silence.began_s < warm_s]
    late = [silence.ms for silence in speaker.silences if silence.began_s >= warm_s]
    return max(early, default=0.0), max(late, default=0.0)


apart = st.tuples(st.integers(0, 34), st.sampled_from([200, 200, 190, 150, 110, 70])).map(
    lambda stall: (stall[0] * FRAME_S, stall[1] / 1000)
)


def one_at_a_time(stalls: list[Stall]) -> list[Stall]:
    """Stalls that touch or overlap would be a longer one: those that begin before the last is over are dropped."""
    kept: list[Stall] = []
    for began_s, s in sorted(stalls):
        if not kept or began_s > kept[-1][0] + kept[-1][1]:
            kept.append((began_s, s))
    return kept


@pytest.mark.parametrize("lead_s", [0.0, RELAY_LEAD_S])
@settings(max_examples=60)
@given(stalls=st.lists(apart, min_size=1, max_size=6).map(one_at_a_time))
def test_stalls_of_200_ms_are_hardly_heard(lead_s: float, stalls: list[Stall]) -> None:
    @in_virtual_time
    async def play() -> None:
        early_ms, late_ms = await gaps_ms(stalls, lead_s)
        assert early_ms <= EARLY_GAP_MS
        assert late_ms <= (0.0 if lead_s else GAP_MS)

    play()


@in_virtual_time
async def test_stalls_at_any_moment_and_with_jitter_are_hardly_heard() -> None:
    rng = random.Random(7)
    for _ in range(30):
        at_s, stalls = rng.uniform(0, 0.5), []
        while at_s < 2:
            stalls.append((at_s, rng.choice([STALL_S, rng.uniform(0.02, STALL_S)])))
            at_s += stalls[-1][1] + rng.uniform(0.001, 0.6)
        early_ms, late_ms = await gaps_ms(stalls, 0.0, rng)
        assert early_ms <= EARLY_GAP_MS
        assert late_ms <= GAP_MS


@in_virtual_time
async def test_a_stall_costs_the_child_10_ms_of_silence_at_the_worst_moment() -> None:
    """The next packet is due when 60 ms are left; 120 ms are concealed in steps of 20 ms, one in 30 ms."""
    assert await gaps_ms([(10 * FRAME_S, STALL_S)], 0.0) == (0.0, pytest.approx(10.0))


@in_virtual_time
async def test_the_relays_lead_hides_a_stall_of_a_whole_second() -> None:
    assert await gaps_ms([(0.5, 1.0)], RELAY_LEAD_S) == (0.0, 0.0)


@in_virtual_time
async def test_a_longer_stall_is_a_gap_and_then_more_is_gathered() -> None:
    _, late_ms = await gaps_ms([(10 * FRAME_S, 0.5)], 0.0)
    assert 500 - 60 - MAX_CONCEAL_MS - 1000 * STARVING_S <= late_ms <= 500 - 60 - MAX_CONCEAL_MS
