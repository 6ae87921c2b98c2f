"""pommai/1: every message on the wire between a toy and the relay, and how each is written and read.

Text frames are JSON objects with a `type`; binary frames are audio: a fixed header and one Opus packet.
Every message of a turn carries the turn's number. Unknown fields are ignored, every size is capped, and what is
wrong raises RemoteProtocolError with the `ErrorCode` to answer. The order of messages belongs to `pommai.link`.
`docs/protocol.md` is the reference for other implementations.
"""

from __future__ import annotations

import json
import re
import struct
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import IntEnum, StrEnum
from typing import Any

from pommai.errors import LocalProtocolError, RemoteProtocolError

SUBPROTOCOL = "pommai.v1"
VERSION = 1
PATH = "/v1/toy"

FRAME_MS = 60
"""Opus frame length: at 24 kbit/s, 60 ms is what fits both 50 kbit/s on the wire and 10:1 (docs/protocol.md)."""

MAX_MESSAGE_BYTES = 16_384
MAX_TEXT_CHARS = 4_096
MAX_PACKET_BYTES = 1_275
"""The largest Opus packet of one frame (RFC 6716, 3.2.1)."""
MAX_TURN = 2**32 - 1


class ErrorCode(StrEnum):
    """Every code that may cross the wire. Texts stay in the log of the side that met the error."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    TOO_LARGE = "too_large"
    OUT_OF_ORDER = "out_of_order"
    UNSUPPORTED_VERSION = "unsupported_version"
    UTTERANCE_TOO_LONG = "utterance_too_long"
    PAUSED = "paused"
    QUIET_HOURS = "quiet_hours"
    DAILY_LIMIT = "daily_limit"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    BAD_AUDIO = "bad_audio"
    INTERNAL = "internal"
    SHUTTING_DOWN = "shutting_down"
    REPLACED = "replaced"
    REVOKED = "revoked"
    REST_OVER = "rest_over"


# --- toy to relay -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a toy. `captions`: send transcripts and sentences as text too."""

    version: int
    firmware: str
    captions: bool = False


@dataclass(frozen=True, slots=True)
class UtteranceStart:
    """The child began to speak; audio frames of this turn follow."""

    turn: int


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """The child let the button go; every audio frame of this turn has been sent."""

    turn: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget this turn: the child barged in, or the press turned out to be a tap."""

    turn: int


# --- relay to toy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to Hello. `server_time_s`: Unix time, for a toy without a clock. `paused`: why it rests, if so.

    `volume_ceiling`: the loudest that parents allow, 0.0 to 1.0.
    """

    version: int
    session: str
    server_time_s: float
    max_utterance_s: float
    paused: ErrorCode | None = None
    volume_ceiling: float = 1.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the relay heard; sent only to a toy that asked for captions."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class SpeakingStart:
    """The reply begins; audio frames of this turn follow."""

    turn: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """The text of the audio that follows; sent only to a toy that asked for captions."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class SpeakingEnd:
    """Every audio frame of the reply has been sent, and the turn is over."""

    turn: int


@dataclass(frozen=True, slots=True)
class Error:
    """Something failed. With a `turn`, that turn is over; without, the connection goes on as it was."""

    code: ErrorCode
    retryable: bool = False
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The relay is about to close the connection; come back after `retry_after_s` seconds."""

    code: ErrorCode
    retry_after_s: float


ToRelay = Hello | UtteranceStart | UtteranceEnd | Cancel
ToToy = Welcome | Transcript | SpeakingStart | Sentence | SpeakingEnd | Error | Goodbye
Control = ToRelay | ToToy


# --- audio ------------------------------------------------------------------------------------------------------------


class FrameKind(IntEnum):
    """First byte of a binary frame. Other kinds (phrase sync) will get numbers of their own."""

    SPEECH = 1


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """One Opus packet (24 kHz mono, at most 60 ms) of a turn; `sequence` counts from 0 in each turn and direction."""

    turn: int
    sequence: int
    packet: bytes
    kind: FrameKind = FrameKind.SPEECH


Message = Control | AudioFrame

_HEADER = struct.Struct("!BIH")
"""kind, turn, sequence: 7 bytes, big-endian."""


# --- the codec, driven by the field types -----------------------------------------------------------------------------


def type_name(message_class: type) -> str:
    """The wire's name of a message class: `UtteranceStart` is `utterance_start`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", message_class.__name__).lower()


CONTROL: dict[str, type] = {type_name(cls): cls for cls in typing.get_args(Control)}
_HINTS: dict[type, dict[str, Any]] = {cls: typing.get_type_hints(cls) for cls in CONTROL.values()}


def encode(message: Message) -> str | bytes:
    """The frame to send: `str` for a text frame, `bytes` for a binary one. Raises LocalProtocolError over a cap."""
    if isinstance(message, AudioFrame):
        if not 0 < len(message.packet) <= MAX_PACKET_BYTES:
            raise LocalProtocolError(f"an audio packet of {len(message.packet)} bytes")
        return _HEADER.pack(message.kind, message.turn, message.sequence) + message.packet
    payload = {"type": type_name(type(message))}
    payload |= {f.name: v for f in fields(message) if (v := getattr(message, f.name)) is not None}
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(f"a {payload['type']} message over {MAX_MESSAGE_BYTES} bytes")
    return text


def decode(frame: str | bytes) -> Message:
    """The message in a frame as it came from the wire. Raises RemoteProtocolError with the code to answer."""
    return _decode_audio(frame) if isinstance(frame, bytes) else _decode_control(frame)


def _decode_audio(frame: bytes) -> AudioFrame:
    if len(frame) <= _HEADER.size:
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "a binary frame without a packet")
    if len(frame) > _HEADER.size + MAX_PACKET_BYTES:
        raise RemoteProtocolError(ErrorCode.TOO_LARGE, f"a binary frame of {len(frame)} bytes")
    kind, turn, sequence = _HEADER.unpack_from(frame)
    try:
        frame_kind = FrameKind(kind)
    except ValueError:
        raise RemoteProtocolError(ErrorCode.UNKNOWN_TYPE, f"a binary frame of kind {kind}") from None
    return AudioFrame(turn, sequence, frame[_HEADER.size :], frame_kind)


def _decode_control(frame: str) -> Control:
    if len(frame.encode(errors="replace")) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(ErrorCode.TOO_LARGE, "a text frame over the cap")
    try:
        payload = json.loads(frame)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "a text frame that is not JSON") from None
    if not isinstance(payload, dict) or not isinstance(payload.get("type"), str):
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "a text frame that is not an object with a type")
    message_class = CONTROL.get(payload["type"])
    if message_class is None:
        raise RemoteProtocolError(ErrorCode.UNKNOWN_TYPE, "a message of a type that this version does not know")
    return typing.cast(Control, _decode_fields(message_class, payload))


def _decode_fields(message_class: type, payload: dict[str, Any]) -> object:
    assert is_dataclass(message_class)
    values = {}
    for field in fields(message_class):
        if field.name in payload:
            where = f"{type_name(message_class)}.{field.name}"
            values[field.name] = _decode_value(_HINTS[message_class][field.name], payload[field.name], where)
        elif field.default is MISSING:
            detail = f"{type_name(message_class)} without {field.name}"
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, detail)
    return message_class(**values)


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    """`value` checked against a field's type; numbers are finite and within the header's ranges."""
    if isinstance(hint, types.UnionType):  # only `X | None` occurs
        if value is None:
            return None
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if hint is str and isinstance(value, str) and len(value) <= MAX_TEXT_CHARS:
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and type(value) is int and 0 <= value <= MAX_TURN:
        return value
    if hint is float and type(value) in (int, float) and 0 <= value < 2**53:
        return float(value)
    if hint is ErrorCode and isinstance(value, str):
        return ErrorCode(value) if value in list(ErrorCode) else ErrorCode.INTERNAL  # a code of a newer version
    raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"{where} has a value that is not allowed")
