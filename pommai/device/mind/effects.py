"""What a toy does about what happens: effects, in the imperative.

`machine.step` decides on them, and `performer` performs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pommai.device.mind.events import Occasion


class Earcon(StrEnum):
    """The sounds that are no words."""

    START = "start"
    END = "end"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Connect:
    """Start to keep a connection to the relay."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A press: make sure that the connection is alive, or try again now, before it is needed."""


@dataclass(frozen=True, slots=True)
class OpenMic:
    """Listen for `turn`, keeping the sound back until it is known to be a hold; a toy without a light makes a sound."""

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
    """Play the reply of `turn` as it comes; go on where it is being played already."""

    turn: int


@dataclass(frozen=True, slots=True)
class StopSpeaker:
    """Be silent at once: drop everything that waits to be played."""


@dataclass(frozen=True, slots=True)
class Play:
    """Say something of the toy's own on this occasion, as what `turn` has to say. `phrase`: for `Occasion.PHRASE`."""

    turn: int
    occasion: Occasion
    phrase: str = ""


@dataclass(frozen=True, slots=True)
class PlayEarcon:
    """Make a short sound over whatever there is; nothing waits for it."""

    earcon: Earcon


@dataclass(frozen=True, slots=True)
class CancelTurn:
    """Tell the relay to forget `turn`."""

    turn: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the loop, when the earcon before it has been heard."""


Effect = (
    Connect
    | Wake
    | OpenMic
    | StartUtterance
    | EndUtterance
    | CloseMic
    | StartSpeaker
    | StopSpeaker
    | Play
    | PlayEarcon
    | CancelTurn
    | Stop
)
