"""pommai/1: every message on the wire between a toy and the relay.

Control messages are text, sound is binary. Every message of a turn carries the turn's number; those about the toy
itself may come at any time after the welcome. How all are written and read is `pommai.wire`'s, their order is
`pommai.link`'s. `docs/protocol.md` is the reference for other implementations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated, Final, NewType

SUBPROTOCOL: Final = "pommai.v1"
VERSION: Final = 1
PATH: Final = "/v1/toy"

FRAME_MS: Final = 60
"""Opus frame length: at 24 kbit/s, 60 ms is what fits both 50 kbit/s on the wire and 10:1 (docs/protocol.md)."""

MAX_MESSAGE_BYTES: Final = 16_384
MAX_TEXT_CHARS: Final = 4_096
MAX_PACKET_BYTES: Final = 1_275
"""The largest Opus packet of one frame (RFC 6716, 3.2.1), and the largest piece of a phrase."""

MAX_TURN: Final = 2**32 - 1
MAX_ITEMS: Final = 200
"""The longest list in a message; a message over `MAX_MESSAGE_BYTES` is refused before it is counted."""

RESUME_S: Final = 30.0
"""How long after a drop an interrupted reply may still be resumed; both sides keep to it."""

MAX_CHUNKS: Final = 8
"""The most pieces of a phrase that one `PhraseWanted` brings: some 10 kB, which a turn may have to wait for."""

Signed = NewType("Signed", int)
"""A whole number that may be negative; every other number on the wire is 0 or more."""

Turn = Annotated[int, "turn"]
"""The number of a turn: 1 to `MAX_TURN`."""

Token = Annotated[str, "token"]
"""An id or a code: 1 to 64 of the characters of `wire.TOKEN`. There is no room for words in it."""

Value = str | int | float | bool
"""What an event's data may hold; a text is a `Token`."""


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
    CONVERSATION_LIMIT = "conversation_limit"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    BAD_AUDIO = "bad_audio"
    INTERNAL = "internal"
    SHUTTING_DOWN = "shutting_down"
    REPLACED = "replaced"
    REVOKED = "revoked"
    REST_OVER = "rest_over"


# --- values inside messages -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitsRecord:
    """What parents allow, as the toy has to keep it, also without a network. Minutes are those of the local day.

    `daily_limit_s`, `max_conversation_s`: 0 for no limit. `used_today_s`: talk that the relay has counted today.
    `utc_offset_min`: the local time of the toy's home, east of Greenwich.
    """

    paused: bool = False
    quiet_from_min: int = 0
    quiet_until_min: int = 0
    daily_limit_s: float = 0.0
    max_conversation_s: float = 0.0
    volume_ceiling: float = 1.0
    used_today_s: float = 0.0
    utc_offset_min: Signed = Signed(0)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened on the toy, kept until the relay has acknowledged its `id`. Never words, never sound.

    `id`: unique for ever; the relay stores an id once. `kind`: a token. `at_s`: Unix seconds, as well as the toy
    knew. `urgent`: goes before all others.
    """

    id: Token
    kind: Token
    at_s: float
    urgent: bool = False
    data: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PhraseEntry:
    """A phrase that the relay has spoken for this toy. `sha256`: hex, of its `size` bytes (see `pommai.packets`)."""

    id: Token
    kind: Token
    sha256: Token
    size: int


# --- toy to relay -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a toy. `firmware`: its version, for the relay's log. `captions`: send words as text too.

    After a drop in mid-turn: `session` is the one that was lost, `turn` the one to resume, `next_sequence` the first
    frame of its reply that the toy does not have.
    """

    version: int
    firmware: Token
    captions: bool = False
    session: Token | None = None
    turn: Turn | None = None
    next_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class UtteranceStart:
    """The child began to speak; audio frames of this turn follow."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """The child let the button go; every audio frame of this turn has been sent."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget this turn: the child barged in, or the press turned out to be a tap."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class EventBatch:
    """What happened on the toy and was not yet acknowledged."""

    events: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class CommandDone:
    """The command `id` was obeyed, or could not be: then `code` says why. It is not to be sent again."""

    id: Token
    code: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class PhrasesWanted:
    """Send the manifest, from entry number `first` on."""

    first: int = 0


@dataclass(frozen=True, slots=True)
class PhraseWanted:
    """Send up to `MAX_CHUNKS` pieces of a phrase, from byte `offset` on. `request`: a number for the answer."""

    request: int
    id: Token
    sha256: Token
    offset: int


# --- relay to toy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to Hello. `server_time_s`: Unix time, for a toy without a clock. `paused`: why it rests, if so.

    `volume_ceiling`: the loudest that parents allow, 0.0 to 1.0. `resumed`: the turn whose reply goes on, if one does:
    the link is then where that turn's `UtteranceEnd` had led. `limits`: for the toy to keep. `phrases`: the revision of
    the phrases that the relay has for this toy.
    """

    version: int
    session: Token
    server_time_s: float
    max_utterance_s: float
    paused: ErrorCode | None = None
    volume_ceiling: float = 1.0
    resumed: Turn | None = None
    limits: LimitsRecord | None = None
    phrases: Token | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the relay heard; sent only to a toy that asked for captions."""

    turn: Turn
    text: str


@dataclass(frozen=True, slots=True)
class SpeakingStart:
    """The reply begins; audio frames of this turn follow. `mood`: a light to show with it, see `lights.Mood`."""

    turn: Turn
    mood: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """The text of the audio that follows; sent only to a toy that asked for captions."""

    turn: Turn
    text: str


@dataclass(frozen=True, slots=True)
class SpeakingEnd:
    """Every audio frame of the reply has been sent, and the turn is over."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Error:
    """Something failed. With a `turn`, that turn is over; without, the connection goes on as it was."""

    code: ErrorCode
    retryable: bool = False
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The relay is about to close the connection; come back after `retry_after_s` seconds."""

    code: ErrorCode
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class EventsStored:
    """The events with these ids are stored for good; the toy need not keep them."""

    ids: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """Do something; answer with CommandDone. It may come again at each welcome until then, so an `id` is obeyed once.

    `action`: volume, brightness (with `value` 0.0 to 1.0), pause, resume, play (with the `phrase`'s id), celebrate,
    restart. A toy that does not know an action answers `unknown_type`.
    """

    id: Token
    action: Token
    value: float | None = None
    phrase: Token | None = None


@dataclass(frozen=True, slots=True)
class PhraseManifest:
    """Phrases from entry number `first` of `total` on, as many as fit."""

    revision: Token
    first: int
    total: int
    phrases: tuple[PhraseEntry, ...]


@dataclass(frozen=True, slots=True)
class PhraseEnd:
    """The pieces that `request` asked for have been sent, or cannot be: then `code` says why."""

    request: int
    code: ErrorCode | None = None


ToRelay = Hello | UtteranceStart | UtteranceEnd | Cancel | EventBatch | CommandDone | PhrasesWanted | PhraseWanted
ToToy = (
    Welcome
    | Transcript
    | SpeakingStart
    | Sentence
    | SpeakingEnd
    | Error
    | Goodbye
    | EventsStored
    | Command
    | PhraseManifest
    | PhraseEnd
)
Control = ToRelay | ToToy


# --- binary -----------------------------------------------------------------------------------------------------------


class FrameKind(IntEnum):
    """First byte of a binary frame."""

    SPEECH = 1
    PHRASE = 2


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """One Opus packet (24 kHz mono, at most 60 ms) of a turn; `sequence` counts from 0 in each turn and direction."""

    turn: int
    sequence: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class PhraseChunk:
    """A piece of a phrase, 1 to `MAX_PACKET_BYTES` bytes; `sequence` counts from 0 in each `request`."""

    request: int
    sequence: int
    chunk: bytes


Binary = AudioFrame | PhraseChunk
Message = Control | Binary
