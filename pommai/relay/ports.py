"""What a relay needs from the world, by role, and the values that pass between.

Adapters live in `providers/` and `stores/`; only `app.py` and the CLI's demo name them. Every method that fails raises
ProviderError (or StoreError) and nothing else. Streams are async generators: callers close them with `aclosing`, and
closing one stops the work behind it at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

# --- hearing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the child said, as it came: Opus packets in order, 24 kHz mono."""

    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard. `text` is empty exactly when there was no speech. `confidence`: 0 to 1."""

    text: str
    confidence: float
    language: str = "en"


class STT(Protocol):
    """Speech to text."""

    @property
    def name(self) -> str:
        """For metrics and logs: `local`, `scripted`, a vendor."""

    async def transcribe(self, utterance: Utterance) -> Transcript:
        """The words of the utterance; silence and noise give an empty text, never invented words."""


# --- judging ----------------------------------------------------------------------------------------------------------


class Category(StrEnum):
    """What a text is about, when it is about something that matters here."""

    BENIGN = "benign"
    DISTRESS = "distress"
    SELF_HARM = "self_harm"
    SEXUAL = "sexual"
    VIOLENCE = "violence"
    HATE = "hate"
    PROFANITY = "profanity"
    DANGEROUS_ACTS = "dangerous_acts"
    DRUGS = "drugs"
    CONTACT = "contact"
    SECRECY = "secrecy"
    PERSONAL_DATA = "personal_data"
    MANIPULATION = "manipulation"
    UNJUDGED = "unjudged"


class Action(StrEnum):
    """What happens because of a verdict."""

    PASS = "pass"
    REDIRECT = "redirect"
    COMFORT = "comfort"
    STOP = "stop"


class Layer(StrEnum):
    """Which of the guardian's layers a text meets."""

    INPUT = "input"
    OUTPUT = "output"


class Need(StrEnum):
    """What a child in distress needs an answer to; each has its own fixed script."""

    HURT = "hurt"
    AFRAID = "afraid"
    SAD = "sad"
    BULLIED = "bullied"
    NEGLECTED = "neglected"
    HIT = "hit"
    TOUCHED = "touched"
    SELF_HARM = "self_harm"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a moderator found. `severity`: 0 (nothing) to 7. `score`: 0 to 1. `rule`: what fired; never the words.

    `need` is set exactly for Category.DISTRESS. `household`: somebody of the child's home is named in it, so neither
    script nor alert may lead to that person.
    """

    category: Category
    severity: int
    score: float
    rule: str
    need: Need | None = None
    household: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding and what was decided about it (`policy.decide`). `alert`: a grown-up must be told."""

    category: Category
    severity: int
    score: float
    rule: str
    action: Action
    need: Need | None = None
    household: bool = False
    alert: bool = False

    @property
    def passed(self) -> bool:
        """Whether the text may go on: to the model (input) or to the speaker (output)."""
        return self.action is Action.PASS


class Moderator(Protocol):
    """Finds what matters in a text. Holds no policy: what to do about it is `policy.decide`'s."""

    @property
    def name(self) -> str:
        """For metrics and logs."""

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        """The gravest finding in `text`. `recent`: the last turns' texts, oldest first, for drift over many turns."""


# --- thinking ---------------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """Who speaks in a chat message, in the words of the OpenAI chat format."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt."""

    role: Role
    content: str


class Source(StrEnum):
    """Where a reply came from: hand-written and matched by meaning, generated, or one of the fixed phrases."""

    BANK = "bank"
    MODEL = "model"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a reply as it is made; joined, the texts are the reply. `n`: how many of a model's tokens it holds."""

    text: str
    source: Source = Source.MODEL
    n: int = 1


class LLM(Protocol):
    """The language model, or whatever answers in its place."""

    @property
    def name(self) -> str:
        """For metrics and logs."""

    def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Token, None]:
        """The reply to the last message, token by token."""


class Embedder(Protocol):
    """Meaning as vectors."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit-length vector a text, in the order given; all of one dimension."""


# --- speaking ---------------------------------------------------------------------------------------------------------


class TTS(Protocol):
    """Text to speech."""

    @property
    def name(self) -> str:
        """For metrics and logs."""

    def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """One sentence as PCM in the `SPEECH` format, in pieces as they are made."""


# --- remembering ------------------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """How a turn ended. Cancelled: by the toy, or by a goodbye. Interrupted: the toy was cut off and stayed away."""

    ANSWERED = "answered"
    UNHEARD = "unheard"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(slots=True)
class TurnRecord:
    """One turn as it happened, filled in while it runs and stored when it is over.

    `marks_s`: when each stage was first reached, on the monotonic clock: `ended` (the relay knew that the utterance was
    over), `stt`, `judge_in`, `llm_first_token`, `first_sentence` (judged and cleared), `first_audio` (sent). A stage
    that was not reached has no mark. `started_at_s`: Unix time of the utterance's start.
    """

    toy: str
    turn: int
    started_at_s: float
    outcome: Outcome = Outcome.ANSWERED
    source: Source | None = None
    heard: str = ""
    said: list[str] = field(default_factory=list)
    verdicts: list[tuple[Layer, Verdict]] = field(default_factory=list)
    tokens: int = 0
    error: str | None = None
    uplink_packets: int = 0
    downlink_packets: int = 0
    marks_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToyToken:
    """One device token as the relay knows it: never the token itself. Times are Unix seconds."""

    token_id: str
    toy: str
    created_at_s: float
    last_used_at_s: float | None
    revoked_at_s: float | None


class Store(Protocol):
    """Turns and device tokens. Written words are kept only where the settings say so."""

    async def record(self, turn: TurnRecord) -> None:
        """Store a finished turn; the same toy, start and turn number twice is stored once.

        A turn that began before its toy was forgotten is not stored.
        """

    async def forget(self, toy: str) -> int:
        """Remove everything about a toy but its tokens; the number of turns removed."""

    async def forgotten(self, since_s: Mapping[str, float]) -> set[str]:
        """Which of these toys were forgotten at the Unix time given for each, or later, in the last day."""

    async def sweep(self, now_s: float) -> int:
        """Remove words and rows that are older than the settings allow; the number of rows changed or removed."""

    async def close(self) -> None:
        """Write what is pending and release the file."""
