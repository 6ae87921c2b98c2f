"""What happens to a toy: events, in the past tense.

`runner` feeds them to `machine.step`, which answers with `effects`. Every event that belongs to a turn carries its
number, so that what comes late from an older turn can be told apart and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pommai.limits import Rest
from pommai.protocol import ErrorCode


class Occasion(StrEnum):
    """Why the toy speaks by itself, from its own store of phrases. `jukebox` chooses the words."""

    ACTIVITY = "activity"
    REPEAT = "repeat"
    STATUS = "status"
    HELP = "help"
    UNREACHABLE = "unreachable"
    LOST_THREAD = "lost_thread"
    RESTING = "resting"
    BEDTIME = "bedtime"
    NOTHING_TO_REPEAT = "nothing_to_repeat"
    LOW_BATTERY = "low_battery"
    RESTARTING = "restarting"
    PHRASE = "phrase"


# --- the relay and time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The process is up; sound and lights are ready."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The relay welcomed us. `paused`: why the toy rests for now, if it does. `resumed`: the turn that goes on."""

    paused: ErrorCode | None = None
    resumed: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the relay is gone; the uplink goes on trying by itself. Comes before the next `Connected`.

    `complete`: everything of the reply in progress is here and only has to be played. `silent_long`: the button has
    been down for as long as a call for help, and nobody has spoken.
    """

    complete: bool = False
    silent_long: bool = False


@dataclass(frozen=True, slots=True)
class RestBegan:
    """The toy itself knows that it must rest now: by what parents allowed, the time of day and the talk of today.

    Comes again for as long as it holds, so that a turn may end first.
    """

    why: Rest


@dataclass(frozen=True, slots=True)
class RestEnded:
    """The toy itself knows no reason to rest any more."""


@dataclass(frozen=True, slots=True)
class TimeLimitReached:
    """The present state has lasted as long as it may (`machine.LIMIT_S`)."""


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """Somebody who may (the daemon, the control socket, a command of the relay) wants a phrase to be heard.

    `phrase`: its id, for `Occasion.PHRASE`.
    """

    occasion: Occasion
    phrase: str = ""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The process is to end: SIGTERM, an upgrade. `restart`: a parent wants it to be started anew; help comes first."""

    restart: bool = False


# --- the button -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pressed:
    """The button went down (first edge, debounced). `rest`: why the toy must rest at this moment, if it must."""

    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The button has been down long enough to be a hold and not a tap."""


@dataclass(frozen=True, slots=True)
class HeldLong:
    """The button has been down for so long that it is a call for help, where there is nobody to talk to.

    `answered`: not in this press, which was a wish to talk: the relay has heard it or refused it, or the child was
    talking when the connection went.
    """

    answered: bool = False


@dataclass(frozen=True, slots=True)
class HeldForRestart:
    """The button has been down for longest; how long the toy itself spoke meanwhile is not counted.

    `silent`: the microphone is open, and whenever it was, in this press, nobody made a sound.
    """

    silent: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The button came up after a hold. `long`: one so long that it had been told as `HeldLong`."""

    long: bool = False


@dataclass(frozen=True, slots=True)
class Tapped:
    """The button came up again too soon to be a hold. `count`: taps so far in one quick row: 1, 2, 3 …

    Told at once and not when the row is over, because the microphone must close now.
    """

    count: int


# --- a turn -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeakingStarted:
    """The relay began to send the reply of `turn`."""

    turn: int


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    """The last sample of what `turn` had to say has left the speaker.

    `called`: the button that called for help has not come up yet.
    """

    turn: int
    called: bool = False


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The relay could not answer `turn`."""

    turn: int
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class SoundFailed:
    """The microphone or the speaker stopped working. If it still does when it is next used, this comes again."""


Event = (
    Started
    | Connected
    | Disconnected
    | RestBegan
    | RestEnded
    | TimeLimitReached
    | PlayRequested
    | StopRequested
    | Pressed
    | Held
    | HeldLong
    | HeldForRestart
    | Released
    | Tapped
    | SpeakingStarted
    | PlaybackFinished
    | TurnFailed
    | SoundFailed
)
