"""Opus and mu-law: round trips, short frames, concealment and garbage."""

from __future__ import annotations

import array
import math
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.audio import SPEECH, level_dbfs
from pommai.codec import (
    FOR_A_RECOGNISER,
    FOR_EARS,
    FRAME_LENGTHS_MS,
    Framer,
    OpusDecoder,
    OpusEncoder,
    Tuning,
    mulaw_decode,
    mulaw_encode,
    packet_ms,
)
from pommai.errors import AudioError, LocalProtocolError
from tests.unit.test_audio import sine, snr_db


def vowel(seconds: float) -> bytes:
    """A voiced sound: harmonics of 180 Hz under a formant, swelling four times a second."""
    rate, n = SPEECH.rate_hz, int(seconds * SPEECH.rate_hz)

    def sample(i: int) -> int:
        t = i / rate
        tone = sum(
            math.exp(-(((180 * h - 700) / 500) ** 2)) * math.sin(2 * math.pi * 180 * h * t) for h in range(1, 12)
        )
        return int(6_000 * (0.6 + 0.4 * math.sin(2 * math.pi * 4 * t)) * tone)

    return array.array("h", (sample(i) for i in range(n))).tobytes()


def best_snr_db(reference: bytes, actual: bytes) -> float:
    """SNR at the codec's own delay, searched up to 20 ms."""
    return max(snr_db(reference, actual[2 * delay :]) for delay in range(0, 480))


TUNINGS = pytest.mark.parametrize("tuning", [FOR_EARS, FOR_A_RECOGNISER])


@TUNINGS
def test_a_voice_survives_opus(tuning: Tuning) -> None:
    pcm = vowel(0.6)
    packets = Framer(OpusEncoder(tuning), 60).push(pcm)
    decoder = OpusDecoder()
    decoded = b"".join(decoder.decode(packet) for packet in packets)
    assert len(decoded) == len(pcm)
    assert best_snr_db(pcm[: len(pcm) // 2], decoded) > 10


@TUNINGS
@pytest.mark.parametrize("sound", [vowel(0.6), sine(1_000, 0.6), sine(200, 0.6), random.Random(1).randbytes(28_800)])
def test_no_sound_makes_a_packet_above_the_bit_rate(tuning: Tuning, sound: bytes) -> None:
    encoder = OpusEncoder(tuning)
    for ms in FRAME_LENGTHS_MS:
        frames = Framer(encoder, ms).push(sound)
        assert max(map(len, frames)) * 8 / ms * 1000 <= tuning.bitrate_bps


@TUNINGS
@pytest.mark.parametrize("ms", FRAME_LENGTHS_MS)
def test_every_frame_length_is_decoded_to_its_own(tuning: Tuning, ms: int) -> None:
    packet = OpusEncoder(tuning).encode(bytes(SPEECH.bytes(ms)))
    assert SPEECH.ms(len(OpusDecoder().decode(packet))) == packet_ms(packet) == ms


def test_what_a_recogniser_gets_is_celt_up_to_8_khz() -> None:
    packets = Framer(OpusEncoder(FOR_A_RECOGNISER), 60).push(vowel(0.6))
    assert {packet[0] >> 3 for packet in packets} == {23}, "RFC 6716, table 2: CELT, wideband, 20 ms"


@given(st.lists(st.integers(0, 4_000), max_size=12), st.sampled_from(FRAME_LENGTHS_MS))
def test_framing_loses_nothing_and_pads_less_than_a_frame(pieces: list[int], frame_ms: int) -> None:
    framer = Framer(OpusEncoder(), frame_ms)
    packets = [packet for n in pieces for packet in framer.push(bytes(2 * n))] + framer.flush()
    decoder = OpusDecoder()
    decoded = sum(len(decoder.decode(packet)) for packet in packets)
    assert 2 * sum(pieces) <= decoded < 2 * sum(pieces) + SPEECH.bytes(20)
    assert framer.flush() == []


def test_the_last_frame_is_as_short_as_can_be() -> None:
    framer = Framer(OpusEncoder(), 60)
    framer.push(bytes(SPEECH.bytes(15)))
    assert [SPEECH.ms(len(OpusDecoder().decode(packet))) for packet in framer.flush()] == [20]


def test_a_frame_of_another_length_is_our_bug() -> None:
    for n_bytes in (0, 2, SPEECH.bytes(30), SPEECH.bytes(120)):
        with pytest.raises(LocalProtocolError):
            OpusEncoder().encode(bytes(n_bytes))


def test_a_lost_packet_is_concealed_by_something_like_it() -> None:
    packets = Framer(OpusEncoder(), 60).push(vowel(0.6))
    decoder = OpusDecoder()
    before = [decoder.decode(packet) for packet in packets[:5]][-1]
    concealed = decoder.conceal(60)
    assert SPEECH.ms(len(concealed)) == 60
    assert level_dbfs(concealed) == pytest.approx(level_dbfs(before), abs=10)


def test_bytes_that_are_not_opus_are_refused_and_the_decoder_lives_on() -> None:
    decoder = OpusDecoder()
    for bad in (b"", b"\xff\xff\xff\xff", b"\x03\x00"):
        with pytest.raises(AudioError):
            decoder.decode(bad)
    assert decoder.decode(OpusEncoder().encode(bytes(SPEECH.bytes(20))))


def test_random_bytes_never_crash_the_decoder() -> None:
    decoder, rng = OpusDecoder(), random.Random(1)
    for _ in range(500):
        try:
            assert len(decoder.decode(rng.randbytes(rng.randrange(1, 300)))) <= SPEECH.bytes(120)
        except AudioError as error:
            assert "Opus" in str(error)


def test_mulaw_is_g711() -> None:
    assert mulaw_encode(array.array("h", [0, 32767, -32768]).tobytes()) == b"\xff\x80\x00"
    assert array.array("h", mulaw_decode(b"\xff\x7f\x80\x00\xf0")).tolist() == [0, 0, 32124, -32124, 120]


def test_mulaw_codes_survive_decoding_and_encoding() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # negative zero comes back as zero
    assert mulaw_encode(mulaw_decode(codes)) == codes


def test_mulaw_keeps_speech_above_30_db() -> None:
    tone = sine(440, 0.2)
    assert snr_db(tone, mulaw_decode(mulaw_encode(tone))) > 30
    assert mulaw_encode(b"") == mulaw_decode(b"") == b""


@given(st.binary(max_size=64))
def test_mulaw_takes_every_byte(codes: bytes) -> None:
    assert len(mulaw_decode(codes)) == 2 * len(codes)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        mulaw_encode(os.urandom(3))
