"""How the messages of pommai/1 are written and read.

Text frames are JSON objects with a `type`; binary frames are a fixed header and one piece of sound. The codec is driven
by the field types of `pommai.protocol`: there is nothing to write for a new message. Unknown fields are ignored, every
size is capped, and what is wrong raises RemoteProtocolError with the `ErrorCode` to answer.
"""

from __future__ import annotations

import json
import re
import struct
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final

from pommai.errors import LocalProtocolError, RemoteProtocolError
from pommai.protocol import (
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    MAX_PACKET_BYTES,
    MAX_TEXT_CHARS,
    MAX_TURN,
    AudioFrame,
    Binary,
    Control,
    ErrorCode,
    FrameKind,
    Message,
    PhraseChunk,
    Signed,
    Token,
    Turn,
)

_HEADER: Final = struct.Struct("!BIH")
"""kind, turn or request, sequence: 7 bytes, big-endian."""

TOKEN: Final = re.compile(r"[A-Za-z0-9_.:+/-]{1,64}")
"""`protocol.Token`: ids, codes, hashes, and the keys and texts of an event's data."""

MAX_DATA: Final = 32
"""The most entries of an event's data."""


_NAMES: Final[dict[type, str]] = {
    cls: re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower() for cls in typing.get_args(Message)
}
CONTROL: Final[dict[str, type]] = {_NAMES[cls]: cls for cls in typing.get_args(Control)}
_hints: dict[type, dict[str, Any]] = {}


def type_name(message_class: type) -> str:
    """The wire's name of a message class: `UtteranceStart` is `utterance_start`."""
    return _NAMES[message_class]


def encode(message: Message) -> str | bytes:
    """The frame to send: `str` for a text frame, `bytes` for a binary one. Raises LocalProtocolError over a cap."""
    match message:
        case AudioFrame(turn, sequence, piece):
            return _binary(FrameKind.SPEECH, turn, sequence, piece)
        case PhraseChunk(request, sequence, piece):
            return _binary(FrameKind.PHRASE, request, sequence, piece)
    payload = {"type": type_name(type(message))} | _plain(message)
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(f"a {payload['type']} message over {MAX_MESSAGE_BYTES} bytes")
    return text


def encoded_size(value: object) -> int:
    """The bytes that a value inside a message takes: for filling a message without passing its cap."""
    return len(json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()) + 1


def decode(frame: str | bytes) -> Message:
    """The message in a frame as it came from the wire. Raises RemoteProtocolError with the code to answer."""
    return _decode_binary(frame) if isinstance(frame, bytes) else _decode_control(frame)


def _binary(kind: FrameKind, number: int, sequence: int, piece: bytes) -> bytes:
    if not 0 < len(piece) <= MAX_PACKET_BYTES:
        raise LocalProtocolError(f"a binary frame with {len(piece)} bytes of sound")
    return _HEADER.pack(kind, number, sequence) + piece


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is None is left out of an object."""
    if is_dataclass(value):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _decode_binary(frame: bytes) -> Binary:
    if len(frame) <= _HEADER.size:
        raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, "a binary frame without a packet")
    if len(frame) > _HEADER.size + MAX_PACKET_BYTES:
        raise RemoteProtocolError(ErrorCode.TOO_LARGE, f"a binary frame of {len(frame)} bytes")
    kind, number, sequence = _HEADER.unpack_from(frame)
    piece = frame[_HEADER.size :]
    match kind:
        case FrameKind.SPEECH:
            return AudioFrame(number, sequence, piece)
        case FrameKind.PHRASE:
            return PhraseChunk(number, sequence, piece)
    raise RemoteProtocolError(ErrorCode.UNKNOWN_TYPE, f"a binary frame of kind {kind}")


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
    return typing.cast(Control, _decode_fields(message_class, payload, payload["type"]))


def _decode_fields(record_class: Any, payload: dict[str, Any], where: str) -> object:
    """The dataclass `record_class` from a JSON object."""
    if record_class not in _hints:
        _hints[record_class] = typing.get_type_hints(record_class, include_extras=True)
    values = {}
    for field in fields(record_class):
        if field.name in payload:
            values[field.name] = _decode_value(
                _hints[record_class][field.name], payload[field.name], f"{where}.{field.name}"
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"{where} without {field.name}")
    return record_class(**values)


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    """`value` checked against a field's type; what is inside it likewise."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only `X | None` occurs
        if value is None:
            return None
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list) and len(value) <= MAX_ITEMS:
        return tuple(_decode_value(typing.get_args(hint)[0], item, where) for item in value)
    if origin is Mapping and isinstance(value, dict) and len(value) <= MAX_DATA:
        return {_token(key, where): _datum(item, where) for key, item in value.items()}
    if is_dataclass(hint) and isinstance(value, dict):
        return _decode_fields(hint, value, where)
    return _decode_scalar(hint, value, where)


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:
    """A text, a code or a number; numbers are finite and within the header's ranges."""
    if hint == Token and isinstance(value, str):
        return _token(value, where)
    if hint == Turn and type(value) is int and 1 <= value <= MAX_TURN:
        return value
    if hint is str and isinstance(value, str) and len(value) <= MAX_TEXT_CHARS and _is_unicode(value):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and type(value) is int and 0 <= value <= MAX_TURN:
        return value
    if hint is Signed and type(value) is int and -MAX_TURN <= value <= MAX_TURN:
        return value
    if hint is float and type(value) in (int, float) and 0 <= value < 2**53:
        return float(value)
    if hint is ErrorCode and isinstance(value, str):
        return ErrorCode(value) if value in list(ErrorCode) else ErrorCode.INTERNAL  # a code of a newer version
    raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"{where} has a value that is not allowed")


def _is_unicode(value: str) -> bool:
    """Whether a text can be sent on: JSON can name half a character (`\\ud800`), which no UTF-8 has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _token(value: str, where: str) -> str:
    if TOKEN.fullmatch(value):
        return value
    raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"{where} holds a text that is no token")


def _datum(value: Any, where: str) -> Any:
    """One value of an event's data."""
    if isinstance(value, str):
        return _token(value, where)
    if isinstance(value, bool) or (type(value) in (int, float) and -(2**53) < value < 2**53):
        return value
    raise RemoteProtocolError(ErrorCode.BAD_MESSAGE, f"{where} holds a value that is not allowed")
