"""The filter between 48 and 24 kHz: what passes, what must not come back as another tone, and every sample's value."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.audio import level_dbfs
from pommai.device.body.halfband import TAPS, Decimator, Interpolator

SAMPLES = st.one_of(st.integers(-32768, 32767), st.sampled_from((-32768, 32767)))

SETTLED = 2 * 64
"""Bytes until the filter is full, plenty."""


def pcm_of(samples: Iterable[int]) -> bytes:
    values = list(samples)
    return struct.pack(f"<{len(values)}h", *values)


def samples_of(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def tone(hz: float, rate_hz: int, channels: int = 1) -> bytes:
    """A fifth of a second, the same in every channel."""
    wave = [round(10_000 * math.sin(2 * math.pi * hz * n / rate_hz)) for n in range(rate_hz // 5)]
    return pcm_of(sample for sample in wave for _ in range(channels))


def in_pieces(pcm: bytes, n_bytes: int) -> list[bytes]:
    return [pcm[start : start + n_bytes] for start in range(0, len(pcm), n_bytes)]


def gain_db(before: bytes, after: bytes) -> float:
    return level_dbfs(after[SETTLED:]) - level_dbfs(before[SETTLED:])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hz", [100, 1000, 3000, 6000, 8000, 10_000])
def test_voices_pass_in_both_directions(hz: int, channels: int) -> None:
    slow, fast = tone(hz, 24_000), tone(hz, 48_000, channels)
    assert gain_db(fast, Decimator(channels).push(fast)) == pytest.approx(0, abs=0.1)
    assert gain_db(slow, Interpolator(channels).push(slow)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("hz", [14_000, 15_000, 17_000, 20_000, 23_000])
def test_what_24_khz_cannot_hold_does_not_come_back_as_another_tone(hz: int) -> None:
    fast = tone(hz, 48_000)
    assert gain_db(fast, Decimator().push(fast)) < -45


def test_playing_at_48_khz_adds_no_mirrored_tone() -> None:
    slow = tone(7000, 24_000)
    played = samples_of(Interpolator().push(slow))[64:]
    whole = len(played) // 48 * 48
    mirrored = sum(
        sample * complex(math.cos(2 * math.pi * 17 * n / 48), math.sin(2 * math.pi * 17 * n / 48))
        for n, sample in enumerate(played[:whole])
    )
    assert 20 * math.log10(2 * abs(mirrored) / whole / 10_000) < -45


@given(st.lists(SAMPLES, min_size=2, max_size=60).filter(lambda samples: len(samples) % 2 == 0))
def test_decimation_is_the_filter_rounded_and_clipped(samples: list[int]) -> None:
    taps = [tap for pair in zip(TAPS, [0] * len(TAPS), strict=True) for tap in pair]
    taps[15] = 1 << 13
    past = [0] * len(taps) + samples
    expected = []
    for newest in range(len(taps), len(past), 2):
        exact = sum(tap * past[newest - age] for age, tap in enumerate(taps))
        expected.append(max(-32768, min(32767, (exact + (1 << 13)) >> 14)))
    assert _far(samples_of(Decimator().push(pcm_of(samples))), expected) <= 1


@given(st.lists(SAMPLES, min_size=1, max_size=60))
def test_interpolation_copies_each_sample_and_puts_one_between(samples: list[int]) -> None:
    past = [0] * len(TAPS) + samples
    between, copied = [], []
    for newest in range(len(TAPS), len(past)):
        exact = sum(tap * past[newest - age] for age, tap in enumerate(TAPS))
        between.append(max(-32768, min(32767, (exact + (1 << 12)) >> 13)))
        copied.append(past[newest - 7])
    played = samples_of(Interpolator().push(pcm_of(samples)))
    assert played[1::2] == copied
    assert _far(played[0::2], between) <= 1


@given(st.lists(SAMPLES, min_size=4, max_size=60).filter(lambda samples: len(samples) % 4 == 0))
def test_two_channels_are_averaged_and_both_played(samples: list[int]) -> None:
    average = [(left + right) >> 1 for left, right in zip(samples[::2], samples[1::2], strict=True)]
    assert Decimator(2).push(pcm_of(samples)) == Decimator().push(pcm_of(average))
    mono, stereo = samples_of(Interpolator().push(pcm_of(samples))), Interpolator(2).push(pcm_of(samples))
    assert samples_of(stereo)[::2] == samples_of(stereo)[1::2] == mono


def test_a_sound_is_the_same_in_pieces_of_any_size() -> None:
    fast, slow = tone(1234, 48_000, 2), tone(1234, 24_000)
    for n_bytes in (8, 96, 1920, len(fast)):
        decimator, interpolator = Decimator(2), Interpolator(2)
        assert b"".join(map(decimator.push, in_pieces(fast, n_bytes))) == Decimator(2).push(fast)
        assert b"".join(map(interpolator.push, in_pieces(slow, n_bytes))) == Interpolator(2).push(slow)


def test_the_filter_comes_to_rest_and_can_be_made_to_forget() -> None:
    interpolator, decimator = Interpolator(), Decimator()
    assert interpolator.at_rest
    interpolator.push(tone(440, 24_000))
    assert not interpolator.at_rest
    interpolator.push(bytes(30))
    assert interpolator.at_rest
    decimator.push(tone(440, 48_000))
    decimator.forget()
    assert decimator.push(bytes(1920)) == bytes(960)


def _far(samples: list[int], expected: list[int]) -> int:
    """The largest difference; a neighbour that is clipped may borrow one."""
    return max(abs(one - other) for one, other in zip(samples, expected, strict=True))
