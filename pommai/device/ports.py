"""What the toy needs from its body and from the network, by role.

Nothing here blocks: the runner's loop calls these methods from one asyncio thread, and drivers with threads of their
own (PyAudio callbacks, GPIO edges) hand over through the loop. A driver that fails raises HardwareError.

At the end stand the notes: what an onlooker (the CLI, a test) is told while the toy works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pommai.device.lights import Color
from pommai.device.machine import State
from pommai.errors import ConnectError
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
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
        """Stop calling at once; no piece of sound arrives after this returns. Closing twice is allowed."""


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

    def show(self, color: Color) -> None:
        """Light up in this colour until the next call."""


class Button(Protocol):
    """The one thing the child touches."""

    def watch(self, on_edge: Callable[[bool, float], None]) -> None:
        """Call `on_edge(down, at_ms)` in the loop's thread at every edge, bounces included; `at_ms` is monotonic."""


FromRelay = Transcript | SpeakingStart | Sentence | SpeakingEnd | Error | AudioFrame
"""What the uplink hands on; Welcome and Goodbye it handles itself."""


class UplinkListener(Protocol):
    """Who is told what the uplink meets; every call comes in the loop's thread, in the order of the wire."""

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

    def send(self, message: UtteranceStart | UtteranceEnd | Cancel) -> None:
        """Queue a control message. Without a connection it is dropped: the turn it belongs to is lost anyway."""

    def send_audio(self, turn: int, packet: bytes) -> None:
        """Queue one Opus packet of a turn; sequence numbers are counted here."""


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
