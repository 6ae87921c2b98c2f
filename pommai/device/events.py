"""What happens to a toy (events, past tense) and what it does about it (effects, imperative).

`machine.step` maps one to the other; `runner` feeds the events and performs the effects. Every event that belongs to a
turn carries its number, so that what comes late from an older turn can be told apart and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from pommai.protocol import ErrorCode

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The process is up; sound and lights are ready."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The relay welcomed us. `paused`: why the toy rests for now, if it does."""

    paused: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the relay is gone; the uplink goes on trying by itself. Comes before the next `Connected`."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """The button went down (first edge, debounced)."""


@dataclass(frozen=True, slots=True)
class Held:
    """The button has been down long enough to be a hold and not a tap."""


@dataclass(frozen=True, slots=True)
class Released:
    """The button came up after a hold."""


@dataclass(frozen=True, slots=True)
class Tapped:
    """The button came up again too soon to be a hold. `count`: taps so far in one quick row: 1, 2, 3 …

    Told at once and not when the row is over, because the microphone must close now.
    """

    count: int


@dataclass(frozen=True, slots=True)
class SpeakingStarted:
    """The relay began to send the reply of `turn`."""

    turn: int


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """The last sample of the reply of `turn` has left the speaker."""

    turn: int


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The relay could not answer `turn`."""

    turn: int
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class SoundFailed:
    """The microphone or the speaker stopped working. If it still does when it is next used, this comes again."""


@dataclass(frozen=True, slots=True)
class TimeLimitReached:
    """The present state has lasted as long as it may (`machine.LIMIT_S`)."""


Event = (
    Started
    | Connected
    | Disconnected
    | Pressed
    | Held
    | Released
    | Tapped
    | SpeakingStarted
    | PlaybackFinished
    | TurnFailed
    | SoundFailed
    | TimeLimitReached
)

# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Start to keep a connection to the relay."""


@dataclass(frozen=True, slots=True)
class OpenMic:
    """Listen for `turn`, keeping the sound back until it is known to be a hold."""

    turn: int


@dataclass(frozen=True, slots=True)
class StartUtterance:
    """It is a hold: send what was kept back of `turn`, and everything from now on as it comes."""

    turn: int


@dataclass(frozen=True, slots=True)
class EndUtterance:
    """Close the microphone, send the last short frame, and say that the utterance of `turn` is over."""

    turn: int


@dataclass(frozen=True, slots=True)
class CloseMic:
    """Close the microphone and forget what was kept back."""


@dataclass(frozen=True, slots=True)
class StartSpeaker:
    """Play the reply of `turn` as it comes."""

    turn: int


@dataclass(frozen=True, slots=True)
class StopSpeaker:
    """Be silent at once: drop everything that waits to be played."""


@dataclass(frozen=True, slots=True)
class CancelTurn:
    """Tell the relay to forget `turn`."""

    turn: int


Effect = Connect | OpenMic | StartUtterance | EndUtterance | CloseMic | StartSpeaker | StopSpeaker | CancelTurn
