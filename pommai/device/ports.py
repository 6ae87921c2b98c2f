"""What the toy needs from its body and from the network, by role.

Nothing here blocks: the runner's loop calls these methods from one asyncio thread, and drivers with threads of their
own (PyAudio callbacks, GPIO edges) hand over through the loop. A driver that fails raises HardwareError.

At the end stand the notes: what an onlooker (the CLI, a test) is told while the toy works.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from pommai.device.mind.events import Occasion
from pommai.device.mind.lights import Color
from pommai.device.mind.states import State
from pommai.errors import ConnectError
from pommai.limits import Rest
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventsStored,
    PhraseChunk,
    PhraseEnd,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)


class Mic(Protocol):
    """Hears. PCM is 24 kHz mono 16 bit."""

    def open(self, on_pcm: Callable[[bytes], None]) -> None:
        """From now on call `on_pcm` in the loop's thread with each piece of sound (10 to 60 ms), in order."""

    def close(self) -> None:
        """Hand over what was heard since the last piece, and stop calling: nothing arrives after this returns.

        Closing twice is allowed.
        """


class Speaker(Protocol):
    """Plays. PCM is 24 kHz mono 16 bit."""

    async def write(self, pcm: bytes) -> None:
        """Take `pcm` to be played next; return when the speaker wants more (at most 60 ms ahead of the ear)."""

    async def drain(self) -> None:
        """Return when the last sample that was written has been played."""

    def flush(self) -> None:
        """Be silent at once: forget what was written and not yet played."""


class Lights(Protocol):
    """One RGB LED."""

    @property
    def can_dim(self) -> bool:
        """False where each channel is only on or off: dimmed, an open microphone could not be seen there."""

    def show(self, color: Color) -> None:
        """Light up in this colour until the next call."""


class Button(Protocol):
    """The one thing the child touches."""

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """Call `on_edge(down, at_ms)` in the loop's thread at every edge, bounces included; `at_ms` is monotonic."""


# --- the network ------------------------------------------------------------------------------------------------------

AboutToy = EventsStored | Command | PhraseManifest | PhraseChunk | PhraseEnd
"""What the relay sends about the toy itself: for `Upkeep`."""

FromRelay = Transcript | SpeakingStart | Sentence | SpeakingEnd | Error | AudioFrame | AboutToy
"""What the uplink hands on; Welcome and Goodbye it handles itself."""

ToSend = UtteranceStart | UtteranceEnd | Cancel | EventBatch | CommandDone | PhrasesWanted | PhraseWanted


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a reply broke off: its turn, and the first frame that the toy does not have."""

    turn: int
    next_sequence: int


class UplinkListener(Protocol):
    """Who is told what the uplink meets; every call comes in the loop's thread, in the order of the wire."""

    def resume_point(self) -> ResumePoint | None:
        """Asked before each hello: the reply that broke off, if one did and is still wanted."""

    def welcomed(self, welcome: Welcome) -> None:
        """The relay let us in; messages may be sent from now on."""

    def received(self, message: FromRelay) -> None:
        """A message came that the protocol allows now."""

    def lost(self, error: ConnectError) -> None:
        """The connection is gone, or an attempt failed; the uplink tries again by itself. `error` says why."""


class Uplink(Protocol):
    """The connection to the relay, kept up for ever: it reconnects by itself."""

    def start(self, listener: UplinkListener) -> None:
        """Begin to keep a connection; `listener` hears of everything from now on. Once only."""

    def wake(self) -> None:
        """The child has pressed the button: find out now whether the connection is alive, or try again at once."""

    def send(self, message: ToSend) -> None:
        """Queue a control message. Without a connection it is dropped: what it belongs to is lost, or sent again."""

    def send_audio(self, turn: int, packet: bytes) -> None:
        """Queue one Opus packet of a turn; sequence numbers are counted here."""


# --- the toy's own memory ---------------------------------------------------------------------------------------------


class OwnVoice(Protocol):
    """What the toy says by itself, without the relay."""

    def speak(self, occasion: Occasion, phrase: str = "") -> AsyncGenerator[bytes, None]:
        """The sound of a phrase that fits, as PCM in pieces; never empty: a toy without phrases makes an earcon.

        What is to be remembered of the occasion (a call for help above all) is on disk before the first piece.
        """

    def repeat(self, reply: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """`reply`, the relay's last one, which the child wants again; that it does is remembered in the same way."""


class Allowance(Protocol):
    """What parents allow, as far as the toy knows, and how much of it is used."""

    @property
    def volume(self) -> float:
        """How loud to play, 0.0 to 1.0: the toy's own volume, under the ceiling."""

    def rest(self) -> Rest | None:
        """Why the toy must rest now, if it must."""

    def told(self, welcome: Welcome) -> None:
        """The relay said what is allowed, and what time it is."""

    def talked(self, seconds: float) -> None:
        """Child or toy talked for so long, until now."""


class Upkeep(Protocol):
    """What toy and relay settle besides talking: events, commands, phrases. It works by itself and never blocks."""

    def welcomed(self, welcome: Welcome) -> None:
        """There is a connection."""

    def received(self, message: AboutToy | Error) -> None:
        """The relay sent something about the toy, or an error that belongs to no turn."""

    def lost(self) -> None:
        """The connection is gone."""


# --- notes for an onlooker --------------------------------------------------------------------------------------------
# Times are seconds of the loop's monotonic clock.


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The toy is in another state now."""

    state: State
    at_s: float


@dataclass(frozen=True, slots=True)
class RelayReached:
    """The relay welcomed us."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class RelayLost:
    """The connection is gone or could not be made."""

    error: ConnectError


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """The utterance of `turn` is complete: the end of speech, from which latencies are counted."""

    turn: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What the relay understood; only with captions."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of the reply, as text; only with captions."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class FirstAudio:
    """The first sample of the reply of `turn` was handed to the speaker."""

    turn: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Played:
    """The last sample of the reply of `turn` has left the speaker."""

    turn: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The relay could not answer `turn`, or, without a turn, reports a trouble of its own."""

    turn: int | None
    code: ErrorCode


Note = StateChanged | RelayReached | RelayLost | UtteranceEnded | Heard | Said | FirstAudio | Played | Failed


class Observer(Protocol):
    """An onlooker; it must not block and cannot change what happens."""

    def noticed(self, note: Note) -> None:
        """This has just happened."""
