"""The one loop of the toy: an event comes out of the queue, `machine.step` decides, the effects are performed.

Everything that happens ends in the one queue, in the order in which it happened. There is one deadline for the state,
one for the button and one for the next light: all are times to wake up at, so no timer can outlive its reason.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, assert_never

from pommai.device.events import (
    CancelTurn,
    CloseMic,
    Connect,
    Connected,
    Disconnected,
    Effect,
    EndUtterance,
    Event,
    OpenMic,
    PlaybackFinished,
    SoundFailed,
    SpeakingStarted,
    Started,
    StartSpeaker,
    StartUtterance,
    StopSpeaker,
    TimeLimitReached,
    TurnFailed,
)
from pommai.device.gestures import Gestures
from pommai.device.lights import OFF, pattern_for
from pommai.device.machine import LIMIT_S, Booting, Listening, State, step
from pommai.device.player import Player
from pommai.device.ports import (
    Button,
    Failed,
    FirstAudio,
    FromRelay,
    Heard,
    Lights,
    Mic,
    Note,
    Observer,
    Played,
    RelayLost,
    RelayReached,
    Said,
    Speaker,
    StateChanged,
    Uplink,
    UtteranceEnded,
)
from pommai.device.recorder import Recorder
from pommai.device.settings import Timing
from pommai.errors import ConnectError
from pommai.limits import Limits, allowed_volume
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Error,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    Welcome,
)

_log = logging.getLogger(__name__)

LIGHTS_S: Final = 0.04
"""25 pictures a second: enough for the fastest pattern, and under 1 % of one Cortex-A53 core."""

FULL_VOLUME: Final = 1.0
"""What the toy plays at where no parent has set a ceiling; it has no volume of its own yet."""

ROUNDING_S: Final = 1e-6
"""A gesture is due in ms and the loop wakes in s: without it, now and then a wake-up comes one rounding too early."""

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Body:
    """What the toy is made of."""

    button: Button
    mic: Mic
    speaker: Speaker
    lights: Lights


class Runner:
    """Runs one toy. `observer` may look on. Tells the uplink to start when the machine wants it."""

    def __init__(
        self, body: Body, uplink: Uplink, timing: Timing | None = None, observer: Observer | None = None
    ) -> None:
        timing = timing if timing is not None else Timing()
        self.state: State = Booting()
        self._body = body
        self._uplink = uplink
        self._observer = observer
        self._recorder = Recorder(body.mic, uplink)
        self._player = Player(body.speaker, timing.prebuffer_ms)
        self._gestures = Gestures(timing.debounce_ms, timing.hold_ms, timing.tap_window_ms)
        self._queue: asyncio.Queue[Event | AudioFrame | SpeakingEnd] = asyncio.Queue()
        self._max_utterance_s = _NEVER
        self._entered_s = 0.0
        self._deadline_s = _NEVER
        self._picture_s = 0.0
        self._color = OFF

    async def run(self) -> None:
        """Live until cancelled; leaves microphone, speaker and lights switched off."""
        self._body.button.watch(self._edge)
        self._queue.put_nowait(Started())
        self._enter(self.state)
        try:
            while True:
                self._show()
                await self._live_on()
        finally:
            self._recorder.close()
            await self._player.aclose()
            self._body.lights.show(OFF)

    async def _live_on(self) -> None:
        """Handle what comes next: something from the queue, or the first of the times to wake up at."""
        due_ms = self._gestures.due_ms
        due_s = _NEVER if due_ms is None else due_ms / 1000 + ROUNDING_S
        try:
            async with asyncio.timeout_at(min(self._picture_s, self._deadline_s, self._recorder.deadline_s, due_s)):
                item = await self._queue.get()
        except TimeoutError:
            self._pass_time()
            return
        match item:
            case AudioFrame():
                self._player.push(item)
            case SpeakingEnd(turn):
                self._player.end(turn)
            case event:
                self._step(event)

    def _pass_time(self) -> None:
        """Do what is due, unless something has happened meanwhile, which comes first."""
        if not self._queue.empty():
            return
        now_s = self._now_s()
        for gesture in self._gestures.passed(now_s * 1000):
            self._step(gesture)
        if now_s >= self._recorder.deadline_s:
            self._recorder.close()
            self._step(SoundFailed())
        if now_s >= self._deadline_s:
            self._deadline_s = _NEVER
            self._step(TimeLimitReached())

    def _step(self, event: Event) -> None:
        state, effects = step(self.state, event)
        if state != self.state:
            self._enter(state)
        for effect in effects:
            self._perform(effect)

    def _enter(self, state: State) -> None:
        """Take on `state`: its deadline and its light begin when its type changes, not when only its contents do."""
        now_s = self._now_s()
        if type(state) is not type(self.state) or isinstance(state, Booting):
            limit_s = LIMIT_S.get(type(state), _NEVER)
            if isinstance(state, Listening):
                limit_s = min(limit_s, self._max_utterance_s)
            self._entered_s, self._deadline_s, self._picture_s = now_s, now_s + limit_s, now_s
        self.state = state
        self._note(StateChanged(state, now_s))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Connect():
                self._uplink.start(self)
            case OpenMic(turn):
                self._recorder.open(turn)
            case StartUtterance(turn):
                self._recorder.start(turn)
            case EndUtterance(turn):
                self._recorder.end(turn)
                self._note(UtteranceEnded(turn, self._now_s()))
            case CloseMic():
                self._recorder.close()
            case StartSpeaker(turn):
                self._player.start(turn, self)
            case StopSpeaker():
                self._player.stop()
            case CancelTurn(turn):
                self._uplink.send(Cancel(turn))
            case _:
                assert_never(effect)

    # --- what the button, the uplink and the player tell --------------------------------------------------------------

    def _edge(self, down: bool, at_ms: float) -> None:
        for gesture in self._gestures.edge(down, at_ms):
            self._queue.put_nowait(gesture)

    def welcomed(self, welcome: Welcome) -> None:
        """See `ports.UplinkListener`."""
        self._max_utterance_s = welcome.max_utterance_s
        self._player.volume = allowed_volume(Limits(volume_ceiling=welcome.volume_ceiling), FULL_VOLUME)
        self._note(RelayReached(welcome))
        self._queue.put_nowait(Connected(welcome.paused))

    def lost(self, error: ConnectError) -> None:
        """See `ports.UplinkListener`."""
        self._note(RelayLost(error))
        self._queue.put_nowait(Disconnected())

    def received(self, message: FromRelay) -> None:
        """See `ports.UplinkListener`."""
        match message:
            case AudioFrame() | SpeakingEnd():
                self._queue.put_nowait(message)
            case SpeakingStart(turn):
                self._queue.put_nowait(SpeakingStarted(turn))
            case Transcript(turn, text):
                self._note(Heard(turn, text))
            case Sentence(turn, text):
                self._note(Said(turn, text))
            case Error(code=code, turn=turn):
                _log.warning("runner: the relay failed, turn=%s code=%s", turn, code)
                self._note(Failed(turn, code))
                if turn is not None:
                    self._queue.put_nowait(TurnFailed(turn, code))

    def playback_began(self, turn: int, at_s: float) -> None:
        """See `player.PlayerListener`."""
        self._note(FirstAudio(turn, at_s))

    def playback_finished(self, turn: int) -> None:
        """See `player.PlayerListener`."""
        self._note(Played(turn, self._now_s()))
        self._queue.put_nowait(PlaybackFinished(turn))

    def playback_failed(self, turn: int) -> None:
        """See `player.PlayerListener`."""
        self._queue.put_nowait(SoundFailed())

    # --- the lights and the onlooker ----------------------------------------------------------------------------------

    def _show(self) -> None:
        """Draw the next picture of the lights, if its time has come and it differs from the last."""
        now_s = self._now_s()
        if now_s < self._picture_s:
            return
        self._picture_s = now_s + LIGHTS_S
        color = pattern_for(self.state)(now_s - self._entered_s)
        if color != self._color:
            self._color = color
            self._body.lights.show(color)

    def _note(self, note: Note) -> None:
        if self._observer is not None:
            self._observer.noticed(note)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
