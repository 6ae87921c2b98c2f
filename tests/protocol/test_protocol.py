"""pommai/1 on the wire: golden frames, round trips, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
import string
import typing
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai import protocol, wire
from pommai.errors import LocalProtocolError, RemoteProtocolError
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    FrameKind,
    Goodbye,
    Hello,
    LimitsRecord,
    Message,
    PhraseChunk,
    PhraseEnd,
    PhraseEntry,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    Sentence,
    Signed,
    SpeakingEnd,
    SpeakingStart,
    Token,
    Transcript,
    Turn,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.wire import decode, encode, encoded_size

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
    (
        Hello(1, "0.2.0", False, "s1", 7, 42),
        '{"type":"hello","version":1,"firmware":"0.2.0","captions":false,"session":"s1","turn":7,"next_sequence":42}',
    ),
    (
        Welcome(1, "s1", 1.5, 20.0, resumed=7, limits=LimitsRecord(utc_offset_min=Signed(-60)), phrases="r1"),
        '{"type":"welcome","version":1,"session":"s1","server_time_s":1.5,"max_utterance_s":20.0,"volume_ceiling":1.0,'
        '"resumed":7,"limits":{"paused":false,"quiet_from_min":0,"quiet_until_min":0,"daily_limit_s":0.0,'
        '"max_conversation_s":0.0,"volume_ceiling":1.0,"used_today_s":0.0,"utc_offset_min":-60},"phrases":"r1"}',
    ),
    (SpeakingStart(7, "alert"), '{"type":"speaking_start","turn":7,"mood":"alert"}'),
    (
        EventBatch(
            (
                EventRecord("e1", "activity", 1.5, data={"phrase": "song-1", "ms": 300}),
                EventRecord("e2", "help", 2, True),
            )
        ),
        '{"type":"event_batch","events":[{"id":"e1","kind":"activity","at_s":1.5,"urgent":false,'
        '"data":{"phrase":"song-1","ms":300}},{"id":"e2","kind":"help","at_s":2,"urgent":true,"data":{}}]}',
    ),
    (EventsStored(("e1", "e2")), '{"type":"events_stored","ids":["e1","e2"]}'),
    (Command("c1", "volume", 0.5), '{"type":"command","id":"c1","action":"volume","value":0.5}'),
    (CommandDone("c1", ErrorCode.UNKNOWN_TYPE), '{"type":"command_done","id":"c1","code":"unknown_type"}'),
    (PhrasesWanted(), '{"type":"phrases_wanted","first":0}'),
    (
        PhraseManifest("r1", 0, 1, (PhraseEntry("song-1", "song", "ab12", 3000),)),
        '{"type":"phrase_manifest","revision":"r1","first":0,"total":1,'
        '"phrases":[{"id":"song-1","kind":"song","sha256":"ab12","size":3000}]}',
    ),
    (
        PhraseWanted(3, "song-1", "ab12", 1275),
        '{"type":"phrase_wanted","request":3,"id":"song-1","sha256":"ab12","offset":1275}',
    ),
    (PhraseEnd(3), '{"type":"phrase_end","request":3}'),
    (AudioFrame(0x01020304, 0x0506, b"opus"), b"\x01\x01\x02\x03\x04\x05\x06opus"),
    (PhraseChunk(0x01020304, 0x0506, b"blob"), b"\x02\x01\x02\x03\x04\x05\x06blob"),
]


@pytest.mark.parametrize(("message", "frame"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_wire_is_what_it_always_was(message: Message, frame: str | bytes) -> None:
    assert encode(message) == frame
    assert decode(frame) == message


def test_every_message_has_a_golden_frame() -> None:
    assert {type(message) for message, _ in GOLDEN} == {*wire.CONTROL.values(), AudioFrame, PhraseChunk}


TURNS = st.integers(0, protocol.MAX_TURN)
NUMBERED = st.integers(1, protocol.MAX_TURN)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
NUMBERS = st.floats(0, 2**50)
TOKENS = st.from_regex(wire.TOKEN, fullmatch=True)
DATA = st.dictionaries(
    TOKENS, TOKENS | st.booleans() | st.integers(-(2**50), 2**50) | st.floats(-(2**50), 2**50), max_size=8
)
VALUES = {
    int: TURNS,
    str: TEXTS,
    float: NUMBERS,
    bool: st.booleans(),
    Signed: st.integers(-protocol.MAX_TURN, protocol.MAX_TURN),
    ErrorCode: st.sampled_from(ErrorCode),
    ErrorCode | None: st.none() | st.sampled_from(ErrorCode),
    int | None: st.none() | TURNS,
    str | None: st.none() | TEXTS,
    float | None: st.none() | NUMBERS,
    Mapping[str, protocol.Value]: DATA,
    Turn: NUMBERED,
    Turn | None: st.none() | NUMBERED,
    Token: TOKENS,
    Token | None: st.none() | TOKENS,
    tuple[Token, ...]: st.lists(TOKENS, max_size=4).map(tuple),
}


def records(record_class: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of a dataclass of the protocol."""
    hints = typing.get_type_hints(record_class, include_extras=True)
    return st.builds(record_class, **{f.name: VALUES[hints[f.name]] for f in dataclasses.fields(record_class)})


VALUES |= {
    LimitsRecord | None: st.none() | records(LimitsRecord),
    tuple[EventRecord, ...]: st.lists(records(EventRecord), max_size=4).map(tuple),
    tuple[PhraseEntry, ...]: st.lists(records(PhraseEntry), max_size=4).map(tuple),
}


def controls() -> st.SearchStrategy[Message]:
    return st.sampled_from(list(wire.CONTROL.values())).flatmap(records)


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


@given(TURNS, st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=protocol.MAX_PACKET_BYTES))
def test_every_piece_of_a_phrase_survives_the_wire(request: int, sequence: int, chunk: bytes) -> None:
    assert decode(encode(PhraseChunk(request, sequence, chunk))) == PhraseChunk(request, sequence, chunk)


@given(records(EventRecord))
def test_the_size_of_a_value_is_what_it_takes_in_a_message(event: EventRecord) -> None:
    alone, both = encode(EventBatch((event,))), encode(EventBatch((event, event)))
    assert isinstance(alone, str) and isinstance(both, str)
    assert len(both.encode()) - len(alone.encode()) == encoded_size(event)


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
        ('{"type":"cancel","turn":0}', ErrorCode.BAD_MESSAGE),
        ('{"type":"hello","version":1,"firmware":"x","session":"s","turn":0}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":"1"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":true}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":-1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"cancel","turn":4294967296}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":7,"retry_after_s":1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":["internal"],"retry_after_s":1}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":"internal","retry_after_s":NaN}', ErrorCode.BAD_MESSAGE),
        ('{"type":"goodbye","code":"internal","retry_after_s":1e999}', ErrorCode.BAD_MESSAGE),
        ("[" * 10_000, ErrorCode.BAD_MESSAGE),
        ('{"type":"events_stored","ids":"e1"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"events_stored","ids":[1]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"events_stored","ids":[' + ",".join(['"e"'] * 201) + "]}", ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"e","kind":"k"}]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"my cat","kind":"k","at_s":1}]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"command_done","id":""}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":["e"]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"e","kind":"k","at_s":1,"data":[]}]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"e","kind":"k","at_s":1,"data":{"a":null}}]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"e","kind":"k","at_s":1,"data":{"a":1e999}}]}', ErrorCode.BAD_MESSAGE),
        ('{"type":"event_batch","events":[{"id":"e","kind":"k","at_s":1,"data":{"a b":1}}]}', ErrorCode.BAD_MESSAGE),
        (
            '{"type":"welcome","version":1,"session":"s","server_time_s":0,"max_utterance_s":20,"limits":{"utc_offset_min":1.5}}',
            ErrorCode.BAD_MESSAGE,
        ),
        ('{"type":"hello","version":1,"firmware":"' + "x" * 5_000 + '"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"hello","version":1,"firmware":"' + "x" * 20_000 + '"}', ErrorCode.TOO_LARGE),
        ('{"type":"transcript","turn":1,"text":"half a \\ud800 character"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"sentence","turn":1,"text":"\\udc00\\ud800"}', ErrorCode.BAD_MESSAGE),
        (
            '{"type":"welcome","version":1,"session":"s 1","server_time_s":0,"max_utterance_s":20}',
            ErrorCode.BAD_MESSAGE,
        ),
        ('{"type":"hello","version":1,"firmware":"0.2.0","session":"\\u0001"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"phrase_manifest","revision":"","first":0,"total":0,"phrases":[]}', ErrorCode.BAD_MESSAGE),
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


def test_an_event_has_no_room_for_words() -> None:
    frame = encode(EventBatch((EventRecord("e", "turn", 1.0, data={"said": "I am afraid of the dark"}),)))
    with pytest.raises(RemoteProtocolError, match="no token") as raised:
        decode(frame)
    assert "afraid" not in str(raised.value)


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
    assert all(set(name) <= allowed for name in wire.CONTROL)
    assert [kind.value for kind in FrameKind] == [1, 2]
