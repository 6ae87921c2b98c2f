"""What a turn costs on the wire, against figures worked out by hand."""

from __future__ import annotations

import pytest

from pommai.codec import OpusEncoder
from pommai.device.network.meter import KEPT_TURNS, Meter, wire_bytes
from pommai.protocol import AudioFrame, Cancel, Goodbye, Hello, SpeakingStart, UtteranceEnd, UtteranceStart
from pommai.wire import encode

PACKET = OpusEncoder().encode(bytes(2880))  # 60 ms of silence


@pytest.mark.parametrize(
    ("payload_bytes", "masked", "expected"),
    [
        (0, False, 2 + 81),
        (125, False, 2 + 125 + 81),
        (126, False, 4 + 126 + 81),
        (187, True, 4 + 4 + 187 + 81),
        (65_535, False, 4 + 65_535 + 81),
        (65_536, True, 10 + 4 + 65_536 + 81),
    ],
)
def test_a_frame_costs_its_payload_and_every_header(payload_bytes: int, masked: bool, expected: int) -> None:
    assert wire_bytes(payload_bytes, masked=masked) == expected


def test_a_turn_counts_its_control_messages_too() -> None:
    meter = Meter()
    for message in (UtteranceStart(1), AudioFrame(1, 0, PACKET), AudioFrame(1, 1, PACKET), UtteranceEnd(1)):
        meter.sent(message, len(encode(message)))
    start, end = len(encode(UtteranceStart(1))), len(encode(UtteranceEnd(1)))
    uplink = meter.turn(1).uplink
    assert uplink.frames == 4
    assert uplink.audio_ms == 120
    assert uplink.wire_bytes == 4 * (6 + 81) + start + end + 2 * (7 + len(PACKET))
    assert uplink.kbps == pytest.approx(uplink.wire_bytes * 8 / 120)
    assert uplink.compression == pytest.approx(384 / uplink.kbps)
    assert meter.turn(1).downlink.wire_bytes == 0


def test_the_relay_does_not_mask_its_frames() -> None:
    meter = Meter()
    meter.sent(Cancel(1), 30)
    meter.received(SpeakingStart(1), 30)
    assert meter.turn(1).uplink.wire_bytes - meter.turn(1).downlink.wire_bytes == 4


def test_full_rate_speech_at_60_ms_stays_under_the_budget() -> None:
    meter = Meter()
    for sequence in range(50):  # 3 s at 24 kbit/s without a pause: 180 bytes a packet
        frame = AudioFrame(1, sequence, bytes([11 << 3]) + bytes(179))  # SILK, 60 ms
        meter.sent(frame, len(encode(frame)))
    for message in (UtteranceStart(1), UtteranceEnd(1)):
        meter.sent(message, len(encode(message)))
    assert meter.turn(1).uplink.kbps == pytest.approx(37.4, abs=0.1)
    assert meter.turn(1).uplink.compression >= 10


def test_a_turn_without_sound_has_no_rate() -> None:
    meter = Meter()
    meter.sent(UtteranceStart(1), 40)
    assert (meter.turn(1).uplink.kbps, meter.turn(1).uplink.compression) == (0, 0)


def test_what_is_no_opus_packet_costs_bytes_and_gives_no_sound() -> None:
    meter = Meter()
    meter.received(AudioFrame(1, 0, b"\xff"), 8)
    assert meter.turn(1).downlink.wire_bytes == 2 + 8 + 81
    assert meter.turn(1).downlink.audio_ms == 0


def test_only_the_latest_turns_are_kept() -> None:
    meter = Meter()
    for turn in range(1, KEPT_TURNS + 2):
        meter.sent(UtteranceStart(turn), 40)
    assert meter.turn(KEPT_TURNS + 1).uplink.frames == 1
    assert meter.turn(1).uplink.frames == 0
    assert meter.turn(2).uplink.frames == 1


def test_messages_of_no_turn_belong_to_no_turn() -> None:
    meter = Meter()
    meter.received(Goodbye("shutting_down", 1.0), 50)
    meter.sent(Hello(1, "0.1.0"), 50)
    assert meter.turn(0).uplink.frames == 0
    assert meter.turn(0).downlink.frames == 0
