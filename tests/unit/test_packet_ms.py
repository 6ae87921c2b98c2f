"""The length of an Opus packet from its first bytes: what libopus decodes, and a refusal of what it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.audio import SPEECH
from pommai.codec import FRAME_LENGTHS_MS, OpusDecoder, OpusEncoder, packet_ms
from pommai.errors import AudioError


@pytest.mark.parametrize("ms", FRAME_LENGTHS_MS)
def test_what_our_encoder_makes(ms: int) -> None:
    assert packet_ms(OpusEncoder().encode(bytes(SPEECH.bytes(ms)))) == ms


@pytest.mark.parametrize(
    ("packet", "ms"),
    [
        (b"\x00", 10),
        (b"\x18", 60),
        (b"\x60", 10),
        (b"\x68", 20),
        (b"\x80", 2.5),
        (b"\x98", 20),
        (b"\x99ab", 40),
        (b"\x9aab", 40),
        (b"\x9b\x06", 120),
    ],
)
def test_every_mode(packet: bytes, ms: float) -> None:
    assert packet_ms(packet) == ms


# RFC 6716, table 2: configurations 0 to 31
TABLE_2 = [10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4


@pytest.mark.parametrize(("config", "ms"), list(enumerate(TABLE_2)))
def test_frame_lengths_are_those_of_table_2(config: int, ms: float) -> None:
    assert packet_ms(bytes([config << 3])) == ms
    assert packet_ms(bytes([config << 3 | 0b100, 1, 2, 3])) == ms, "the stereo bit changes no length"


@pytest.mark.parametrize("packet", [b"", b"\x03", b"\x9b\x00", b"\x9b\x07", b"\x1b\x03", b"\x99a"])
def test_what_cannot_be_opus(packet: bytes) -> None:
    with pytest.raises(AudioError):
        packet_ms(packet)
    with pytest.raises(AudioError):
        OpusDecoder().decode(packet)


@given(st.binary(min_size=1, max_size=80))
def test_whatever_libopus_decodes_lasts_as_long_as_we_say(packet: bytes) -> None:
    try:
        pcm = OpusDecoder().decode(packet)
    except AudioError:
        return
    assert SPEECH.ms(len(pcm)) == packet_ms(packet)
