"""Everything that happens to the toy, in one queue, in the order in which it happened.

What the relay and the player tell is turned into events here, and into notes for the onlooker. What is about the toy
and not about a turn goes straight to the upkeep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pommai.device.mind.events import (
    Connected,
    Disconnected,
    Event,
    PlaybackFinished,
    SoundFailed,
    SpeakingStarted,
    TurnFailed,
)
from pommai.device.mind.lights import RELAY_MOODS, Mood
from pommai.device.mind.states import RESTS
from pommai.device.ports import (
    AboutToy,
    Allowance,
    Failed,
    FirstAudio,
    FromRelay,
    Heard,
    Note,
    Played,
    RelayLost,
    RelayReached,
    ResumePoint,
    Said,
    Upkeep,
)
from pommai.errors import ConnectError
from pommai.protocol import (
    AudioFrame,
    Error,
    ErrorCode,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    Welcome,
)

_log = logging.getLogger(__name__)


class Inbox:
    """See `ports.UplinkListener` and `player.PlayerListener`. `note`: who looks on. `resume`: asked before a hello."""

    def __init__(
        self,
        note: Callable[[Note], None],
        resume: Callable[[], ResumePoint | None],
        allowance: Allowance | None,
        upkeep: Upkeep | None,
    ) -> None:
        self.queue: asyncio.Queue[Event | AudioFrame | SpeakingEnd] = asyncio.Queue()
        self.max_utterance_s = float("inf")
        """The longest utterance that the relay takes."""
        self.volume_ceiling = 1.0
        """The loudest that the relay's parents allow."""
        self.relay_rest: ErrorCode | None = None
        """Why the relay wants the toy to rest, while there is a connection."""
        self.mood: Mood | None = None
        """What the reply in progress is to be shown with; taken by whoever shows it."""
        self._note = note
        self._resume = resume
        self._allowance = allowance
        self._upkeep = upkeep

    def put(self, event: Event) -> None:
        """This has just happened."""
        self.queue.put_nowait(event)

    # --- the uplink ---------------------------------------------------------------------------------------------------

    def resume_point(self) -> ResumePoint | None:
        """See `ports.UplinkListener`."""
        return self._resume()

    def welcomed(self, welcome: Welcome) -> None:
        """See `ports.UplinkListener`."""
        self.max_utterance_s = welcome.max_utterance_s
        self.volume_ceiling = welcome.volume_ceiling
        self.relay_rest = paused = welcome.paused
        if self._allowance is not None:
            self._allowance.told(welcome)
            rest = self._allowance.rest()
            paused = paused or (None if rest is None else ErrorCode(rest))
        if self._upkeep is not None:
            self._upkeep.welcomed(welcome)
        self._note(RelayReached(welcome))
        self.put(Connected(paused, welcome.resumed))

    def lost(self, error: ConnectError) -> None:
        """See `ports.UplinkListener`."""
        self.relay_rest = None
        if self._upkeep is not None:
            self._upkeep.lost()
        self._note(RelayLost(error))
        self.put(Disconnected())

    def received(self, message: FromRelay) -> None:
        """See `ports.UplinkListener`."""
        match message:
            case AudioFrame() | SpeakingEnd():
                self.queue.put_nowait(message)
            case SpeakingStart(turn, mood):
                self.mood = Mood(mood) if mood in RELAY_MOODS else None
                self.put(SpeakingStarted(turn))
            case Transcript(turn, text):
                self._note(Heard(turn, text))
            case Sentence(turn, text):
                self._note(Said(turn, text))
            case Error(code, _, int(turn)):
                self._failed(code, turn)
            case Error(code):
                self._note(Failed(None, code))
                self._about_toy(message)
            case about_toy:
                self._about_toy(about_toy)

    def _failed(self, code: ErrorCode, turn: int) -> None:
        _log.warning("inbox: the relay failed, turn=%s code=%s", turn, code)
        self._note(Failed(turn, code))
        if code in RESTS:
            self.relay_rest = code
        self.put(TurnFailed(turn, code))

    def _about_toy(self, message: AboutToy | Error) -> None:
        if self._upkeep is not None:
            self._upkeep.received(message)

    # --- the player ---------------------------------------------------------------------------------------------------

    def playback_began(self, turn: int, at_s: float) -> None:
        """See `player.PlayerListener`."""
        self._note(FirstAudio(turn, at_s))

    def playback_finished(self, turn: int) -> None:
        """See `player.PlayerListener`."""
        self._note(Played(turn, asyncio.get_running_loop().time()))
        self.put(PlaybackFinished(turn))

    def playback_failed(self, turn: int) -> None:
        """See `player.PlayerListener`."""
        self.put(SoundFailed())
