"""One press of a virtual toy's button, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pommai.device.mind.states import (
    Booting,
    Connecting,
    Error,
    Fault,
    Holding,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    State,
    Thinking,
)
from pommai.device.network.meter import TurnTraffic
from pommai.device.ports import FirstAudio, Heard, Note, Said, StateChanged, UtteranceEnded
from pommai.protocol import ErrorCode


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """What became of one press. Times are seconds of the loop's clock; rates are kbit/s on the wire, headers included.

    `heard` and `said` are captions. `reply_pcm` is what the speaker really played. `compression` is that of the worse
    direction. `cut`: the utterance was too long and ended before the child did. `interrupted`: by the next press.
    `error`: why there was no reply, or not the whole of it.
    """

    turn: int
    heard: str | None = None
    said: tuple[str, ...] = ()
    released_at_s: float | None = None
    first_audio_at_s: float | None = None
    reply_pcm: bytes = b""
    uplink_kbps: float = 0.0
    downlink_kbps: float = 0.0
    compression: float = 0.0
    cut: bool = False
    interrupted: bool = False
    error: ErrorCode | Fault | None = None


_APART = (Booting, Connecting, Offline, Paused)
"""The states in which a press is of no use."""


@dataclass(slots=True)
class Progress:
    """A turn as far as it has come: `listening` until the button is let go, `over` when the state has left it."""

    turn: int
    heard: str | None = None
    said: list[str] = field(default_factory=list)
    let_go_at_s: float | None = None
    released_at_s: float | None = None
    first_audio_at_s: float | None = None
    started: bool = False
    listening: bool = True
    over: bool = False
    interrupted: bool = False
    cut: bool = False
    reply_pcm: bytes = b""
    error: ErrorCode | Fault | None = None
    state: State | None = None

    def note(self, note: Note) -> None:
        """Follow what the toy notes."""
        match note:
            case StateChanged(state) if not self.over:
                self.enter(state)
            case UtteranceEnded(turn, at_s) if turn == self.turn:
                self.released_at_s = at_s if self.let_go_at_s is None else self.let_go_at_s
            case FirstAudio(turn, at_s) if turn == self.turn:
                self.first_audio_at_s = at_s
            case Heard(turn, text) if turn == self.turn:
                self.heard = text
            case Said(turn, text) if turn == self.turn:
                self.said.append(text)

    def enter(self, state: State) -> None:
        """Follow the state; until the press has been met, only what makes it futile counts."""
        if state.turn < self.turn and not isinstance(state, _APART):
            return
        before, self.state = self.state, state
        is_tail = isinstance(state, Playing) and isinstance(before, Speaking | Playing)  # it is here as a whole
        match before, state:
            case _, Error(why=why):
                self.error = why
            case Playing(), _:
                pass
            case _, Paused(why=why) | Playing(then=Paused(why=why)):
                self.error = why
            case Interrupted(), Interrupted() | Thinking() | Speaking():
                pass
            case (Interrupted(), _) | (_, Booting() | Connecting() | Offline() | Holding()):
                self.error = ErrorCode.UNAVAILABLE
            case _, Playing(then=Connecting()) if not is_tail:
                self.error = ErrorCode.UNAVAILABLE
        if isinstance(state, Listening):
            self.started = state.started
        self.interrupted = state.turn > self.turn and self.error is None
        self.listening = isinstance(state, Listening)
        goes_on = is_tail or isinstance(state, Listening | Thinking | Speaking | Interrupted)
        self.over = state.turn > self.turn or not goes_on

    def outcome(self, traffic: TurnTraffic) -> SpokenTurn:
        """The turn as it is now, with what it cost on the wire."""
        compressions = [way.compression for way in (traffic.uplink, traffic.downlink) if way.audio_ms]
        return SpokenTurn(
            turn=self.turn,
            heard=self.heard,
            said=tuple(self.said),
            released_at_s=self.released_at_s,
            first_audio_at_s=self.first_audio_at_s,
            reply_pcm=self.reply_pcm,
            uplink_kbps=traffic.uplink.kbps,
            downlink_kbps=traffic.downlink.kbps,
            compression=min(compressions, default=0.0),
            cut=self.cut,
            interrupted=self.interrupted,
            error=self.error,
        )
