"""pommai/1 on the wire: golden frames, round trips, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
import string
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai import protocol
from pommai.errors import LocalProtocolError, RemoteProtocolError
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    FrameKind,
    Goodbye,
    Hello,
    Message,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
    decode,
    encode,
)

GOLDEN: list[tuple[Message, str | bytes]] = [
    (Hello(1, "0.1.0", captions=True), '{"type":"hello","version":1,"firmware":"0.1.0","captions":true}'),
    (UtteranceStart(7), '{"type":"utterance_start","turn":7}'),
    (UtteranceEnd(7), '{"type":"utterance_end","turn":7}'),
    (Cancel(7), '{"type":"cancel","turn":7}'),
    (
        Welcome(1, "s1", 1.5, 20.0),
        '{"type":"welcome","version":1,"session":"s1","server_time_s":1.5,"max_utterance_s":20.0,"volume_ceiling":1.0}',
    ),
    (
        Welcome(1, "s1", 1.5, 20.0, ErrorCode.PAUSED, 0.5),
        '{"type":"welcome","version":1,"session":"s1","server_time_s":1.5,"max_utterance_s":20.0,"paused":"paused","volume_ceiling":0.5}',
    ),
    (Transcript(7, "hé"), '{"type":"transcript","turn":7,"text":"hé"}'),
    (SpeakingStart(7), '{"type":"speaking_start","turn":7}'),
    (Sentence(7, "hi"), '{"type":"sentence","turn":7,"text":"hi"}'),
    (SpeakingEnd(7), '{"type":"speaking_end","turn":7}'),
    (Error(ErrorCode.TIMEOUT, True, 7), '{"type":"error","code":"timeout","retryable":true,"turn":7}'),
    (Error(ErrorCode.BAD_MESSAGE), '{"type":"error","code":"bad_message","retryable":false}'),
    (
        Goodbye(ErrorCode.SHUTTING_DOWN, 2.0),
        '{"type":"goodbye","code":"shutting_down","retry_after_s":2.0}',
    ),
    (AudioFrame(0x01020304, 0x0506, b"opus"), b"\x01\x01\x02\x03\x04\x05\x06opus"),
]


@pytest.mark.parametrize(("message", "frame"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_wire_is_what_it_always_was(message: Message, frame: str | bytes) -> None:
    assert encode(message) == frame
    assert decode(frame) == message


def test_every_message_has_a_golden_frame() -> None:
    assert {type(message) for message, _ in GOLDEN} == {*protocol.CONTROL.values(), AudioFrame}


TURNS = st.integers(0, protocol.MAX_TURN)
VALUES = {
    int: TURNS,
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    float: st.floats(0, 2**50),
    bool: st.booleans(),
    ErrorCode: st.sampled_from(ErrorCode),
    ErrorCode | None: st.none() | st.sampled_from(ErrorCode),
    int | None: st.none() | TURNS,
}


@st.composite
def controls(draw: st.DrawFn) -> Message:
    message_class = draw(st.sampled_from(list(protocol.CONTROL.values())))
    hints = typing.get_type_hints(message_class)
    return typing.cast(
        Message, message_class(**{f.name: draw(VALUES[hints[f.name]]) for f in dataclasses.fields(message_class)})
    )


@given(controls())
def test_every_control_message_survives_the_wire(message: Message) -> None:
    frame = encode(message)
    assert isinstance(frame, str)
    assert decode(frame) == message


@given(TURNS, st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=protocol.MAX_PACKET_BYTES))
def test_every_audio_frame_survives_the_wire(turn: int, sequence: int, packet: bytes) -> None:
    frame = encode(AudioFrame(turn, sequence, packet))
    assert isinstance(frame, bytes)
    assert decode(frame) == AudioFrame(turn, sequence, packet)


@given(st.text() | st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_garbage_gets_a_code_and_nothing_else(frame: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        decode(frame)
    assert raised.value.code in list(ErrorCode)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"dance"}', ErrorCode.UNKNOWN_TYPE),
        ('{"turn":1}', ErrorCode.BAD_MESSAGE),
        ('{"type":7}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":"1"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":true}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":-1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":4294967296}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":7,"retry_after_s":1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":["internal"],"retry_after_s":1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":"internal","retry_after_s":NaN}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":"internal","retry_after_s":1e999}', ErrorCode.BAD_MESSAGE),
        ("[" * 10_000, ErrorCode.BAD_MESSAGE),
        ('{"type":"hello","version":1,"firmware":"' + "x" * 5_000 + '"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"hello","version":1,"firmware":"' + "x" * 20_000 + '"}', ErrorCode.TOO_LARGE),
        (b"", ErrorCode.BAD_MESSAGE),
        (b"\x01\0\0\0\1\0\0", ErrorCode.BAD_MESSAGE),
        (b"\x09\0\0\0\1\0\0x", ErrorCode.UNKNOWN_TYPE),
        (b"\x01\0\0\0\1\0\0" + bytes(1_276), ErrorCode.TOO_LARGE),
    ],
)
def test_each_kind_of_bad_input_gets_its_code(frame: str | bytes, code: ErrorCode) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        decode(frame)
    assert raised.value.code is code


def test_unknown_fields_are_ignored_and_null_is_absent() -> None:
    assert decode('{"type":"cancel","turn":1,"mood":{"deep":[1]}}') == Cancel(1)
    frame = '{"type":"error","code":"timeout","retryable":true,"turn":null}'
    assert decode(frame) == Error(ErrorCode.TIMEOUT, retryable=True)


def test_a_code_of_a_newer_version_is_read_as_internal() -> None:
    assert decode('{"type":"error","code":"because","turn":3}') == Error(ErrorCode.INTERNAL, turn=3)
    welcome = decode(
        '{"type":"welcome","version":1,"session":"s","server_time_s":0,"max_utterance_s":20,"paused":"nap"}'
    )
    assert welcome == Welcome(1, "s", 0.0, 20.0, ErrorCode.INTERNAL)


def test_an_error_never_repeats_what_the_message_said() -> None:
    canary = "canaryword"
    for frame in (f'{{"type":"{canary}"}}', f'{{"type":"cancel","turn":"{canary}"}}', f"{{{canary}", canary.encode()):
        with pytest.raises(RemoteProtocolError) as raised:
            decode(frame)
        assert canary not in str(raised.value)


@pytest.mark.parametrize("message", [AudioFrame(1, 0, b""), AudioFrame(1, 0, bytes(1_276)), Transcript(1, "é" * 9_000)])
def test_what_is_over_a_cap_is_not_sent(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_the_names_on_the_wire_are_snake_case() -> None:
    allowed = set(string.ascii_lowercase + "_")
    assert all(set(name) <= allowed for name in protocol.CONTROL)
    assert FrameKind.SPEECH == 1
