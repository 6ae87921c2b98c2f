"""The one loop of the toy: an event comes out of the queue, `machine.step` decides, the effects are performed.

There is one deadline for the state, one for the button, one for the next picture and one for the next second: all are
times to wake up at, so no timer can outlive its reason. Whoever watches over the process is told from this loop and
from nowhere else: a loop that is stuck tells nobody anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pommai.device.inbox import Inbox
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import (
    Disconnected,
    Event,
    Held,
    HeldForRestart,
    HeldLong,
    Occasion,
    PlaybackFinished,
    PlayRequested,
    Pressed,
    RestBegan,
    RestEnded,
    SoundFailed,
    Started,
    StopRequested,
    TimeLimitReached,
)
from pommai.device.mind.gestures import Gestures
from pommai.device.mind.lights import Mood
from pommai.device.mind.machine import step
from pommai.device.mind.states import (
    LIMIT_S,
    Booting,
    Connecting,
    Error,
    Holding,
    Idle,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    State,
    Stopping,
)
from pommai.device.performer import MOOD_S, Performer
from pommai.device.picture import Picture
from pommai.device.ports import (
    Allowance,
    Button,
    Lights,
    Mic,
    Note,
    Observer,
    OwnVoice,
    ResumePoint,
    Speaker,
    StateChanged,
    Upkeep,
    Uplink,
)
from pommai.device.resting import Resting
from pommai.device.settings import Timing
from pommai.device.speech.mouth import Mouth
from pommai.device.speech.recorder import Recorder
from pommai.protocol import AudioFrame, SpeakingEnd

ROUNDING_S: Final = 1e-6
"""A gesture is due in ms and the loop wakes in s: without it, now and then a wake-up comes one rounding too early."""

DYING_AWAY_S: Final = 0.2
"""After something said, until neither the card nor the room sounds of it; nothing that a child says then is lost."""

SECOND_S: Final = 1.0
"""Between two looks at what parents allow, and the longest silence of the loop."""

_NEVER: Final = float("inf")
_WAITING: Final = Idle | Connecting | Offline
_SILENT: Final = _WAITING | Paused | Error
_FREE: Final = _SILENT | Playing


class Ending(StrEnum):
    """Why the toy's life is over."""

    STOPPED = "stopped"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Body:
    """What the toy is made of. `shows_open_mic`: False where the lights cannot, and a sound has to tell of it."""

    button: Button
    mic: Mic
    speaker: Speaker
    lights: Lights
    shows_open_mic: bool = True


def _nothing() -> None:
    """What happens at each round of the loop when nobody watches over it."""


class Runner:
    """Runs one toy. Tells the uplink to start when the machine wants it.

    `observer` may look on. Without `voice` the toy says nothing of its own, without `allowance` it knows no limits but
    the relay's, without `upkeep` the relay's other messages are ignored. `earcons`: PCM of each, none for a toy that
    makes none. `on_alive`: called at every round of the loop, at least once a second.
    """

    def __init__(
        self,
        body: Body,
        uplink: Uplink,
        timing: Timing | None = None,
        observer: Observer | None = None,
        *,
        voice: OwnVoice | None = None,
        allowance: Allowance | None = None,
        upkeep: Upkeep | None = None,
        earcons: Mapping[Earcon, bytes] | None = None,
        brightness: float = 1.0,
        on_alive: Callable[[], None] = _nothing,
    ) -> None:
        timing = timing if timing is not None else Timing()
        self.state: State = Booting()
        self.picture = Picture(body.lights, self.state, brightness)
        self._body = body
        self._observer = observer
        self._on_alive = on_alive
        self._inbox = Inbox(self._note, self._resume_point, allowance, upkeep)
        self._resting = Resting(allowance, self._inbox)
        self._recorder = Recorder(body.mic, uplink)
        self.mouth = Mouth(
            body.speaker,
            self._inbox,
            prebuffer_ms=timing.prebuffer_ms,
            voice=voice,
            allowance=allowance,
            earcons=earcons or {},
        )
        self._performer = Performer(
            self._recorder,
            self.mouth,
            self.picture,
            uplink,
            self._inbox,
            self._note,
            shows_open_mic=body.shows_open_mic,
        )
        self._gestures = Gestures(
            timing.debounce_ms, timing.hold_ms, timing.tap_window_ms, timing.help_ms, timing.restart_ms
        )
        self._deadline_s = _NEVER
        self._second_s = 0.0

    async def run(self) -> Ending:
        """Live until `stop`, a restart, or cancellation; leaves microphone, speaker and lights switched off."""
        self._body.button.watch(self._edge)
        self._inbox.put(Started())
        try:
            while not self._performer.is_over:
                self._on_alive()
                self.picture.draw(self._now_s())
                await self._live_on()
            await self.mouth.farewell()
            return Ending.RESTART if isinstance(self.state, Stopping) and self.state.restart else Ending.STOPPED
        finally:
            self._recorder.close()
            await self.mouth.aclose()
            self.picture.off()

    # --- what others may ask for --------------------------------------------------------------------------------------

    def stop(self, *, restart: bool = False) -> None:
        """End the toy's life; a turn in flight ends with an earcon. `run` returns within a second.

        A restart waits for the end of an answer to a call for help.
        """
        self._inbox.put(StopRequested(restart))

    def say(self, occasion: Occasion, phrase: str = "") -> bool:
        """Say something of the toy's own. False, and nothing happens, while the child, the relay or help has the word.

        Only a phrase that somebody asks for is said while the toy rests, or in place of another.
        """
        helps = isinstance(self.state, Playing) and self.state.is_help
        free = isinstance(self.state, _FREE if occasion is Occasion.PHRASE else _WAITING) and not helps
        if free:
            self._inbox.put(PlayRequested(occasion, phrase))
        return free

    def make(self, earcon: Earcon) -> bool:
        """Make a small sound, if this toy makes it, and neither it nor anybody else has the word; whether it did."""
        return isinstance(self.state, _SILENT) and self._performer.make(earcon)

    def limits_changed(self) -> None:
        """What parents allow may have changed: see now, and not within a second, what that means."""
        self._look_at_limits()

    def sound_lost(self) -> None:
        """The sound card has gone: whatever it was used for is over."""
        self._inbox.put(SoundFailed())

    def show(self, mood: Mood, seconds: float = MOOD_S) -> None:
        """Show `mood` for so long."""
        self.picture.show(mood, self._now_s(), seconds)

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _live_on(self) -> None:
        """Handle what comes next: something from the queue, or the first of the times to wake up at."""
        due_ms = self._gestures.due_ms
        due_s = _NEVER if due_ms is None else due_ms / 1000 + ROUNDING_S
        wake_s = min(self.picture.due_s, self._deadline_s, self._recorder.deadline_s, self._second_s, due_s)
        try:
            async with asyncio.timeout_at(wake_s):
                item = await self._inbox.queue.get()
        except TimeoutError:
            self._pass_time()
        else:
            self._take(item)

    def _take(self, item: Event | AudioFrame | SpeakingEnd) -> None:
        """Handle what came out of the queue; what only the body can tell is added to it."""
        match item:
            case AudioFrame():
                self.mouth.take(item)
            case SpeakingEnd(turn):
                self.mouth.complete(turn)
            case Pressed():
                self._press()
            case Held() if isinstance(limit := self._resting.news(self.state), RestBegan):
                self._step(limit)  # the press opened no microphone, or long ago
                self._step(item)
            case Disconnected():
                self._disconnect()
            case PlaybackFinished(turn) if self._gestures.calls:
                self._call_on(turn)
            case HeldForRestart():
                self._step(HeldForRestart(self._recorder.silent))
            case HeldLong():
                self._step(HeldLong(answered=self._recorder.taken))
            case event:
                self._step(event)

    def _press(self) -> None:
        """The button is down: what parents allow at this moment decides what that means."""
        self._recorder.forget()
        limit = self._resting.news(self.state)
        if isinstance(limit, RestEnded):
            self._step(limit)
        self._step(Pressed(limit.why if isinstance(limit, RestBegan) else None))

    def _disconnect(self) -> None:
        is_whole = self.mouth.missing(self.state.turn) is None
        silent_long = self._gestures.calls and self._recorder.silent
        if isinstance(self.state, Listening):
            self._recorder.taken &= self._recorder.heard  # who has said nothing can still call for help
        self._step(Disconnected(is_whole, silent_long))

    def _call_on(self, turn: int) -> None:
        """Something has been said to its end, and the button that called for help is still down."""
        if isinstance(limit := self._resting.news(self.state), RestBegan):
            self._step(limit)
        self._recorder.deafen(DYING_AWAY_S)
        self._step(PlaybackFinished(turn, called=True))
        if isinstance(self.state, Holding):
            self._gestures.count_on(self._now_s() * 1000)

    def _pass_time(self) -> None:
        """Do what is due, unless something has happened meanwhile, which comes first."""
        if not self._inbox.queue.empty():
            return
        now_s = self._now_s()
        for gesture in self._gestures.passed(now_s * 1000):
            self._inbox.put(gesture)
        if now_s >= self._second_s:
            self._second_s = now_s + SECOND_S
            self._resting.count(self.state, now_s)
            self._look_at_limits()
        if now_s >= self._recorder.deadline_s:
            self._recorder.close()
            self._recorder.silent = False  # nobody knows
            self._recorder.taken = False  # nobody heard it: if the button stays down, it is a call for help
            if not isinstance(self.state, Holding):  # gestures need no microphone
                self._step(SoundFailed())
        if now_s >= self._deadline_s:
            self._deadline_s = now_s + LIMIT_S.get(type(self.state), _NEVER)  # unless it is another state now
            self._step(TimeLimitReached())

    def _step(self, event: Event) -> None:
        state, effects = step(self.state, event)
        if state != self.state:
            self._enter(state)
        for effect in effects:
            self._performer.perform(effect, self.state)

    def _enter(self, state: State) -> None:
        """Take on `state`: its deadline and its light begin when its type changes, not when only its contents do."""
        now_s = self._now_s()
        if type(state) is not type(self.state):
            limit_s = LIMIT_S.get(type(state), _NEVER)
            if isinstance(state, Listening):
                limit_s = min(limit_s, self._inbox.max_utterance_s)
            self._deadline_s = now_s + limit_s
            self._second_s = now_s  # limits are looked at in a state that waits before a child can press
        if isinstance(state, Holding):
            self._recorder.only_listen()
        self._resting.count(self.state, now_s)
        self.state = state
        self.picture.begin(state, now_s)
        self._note(StateChanged(state, now_s))

    # --- limits -------------------------------------------------------------------------------------------------------

    def _look_at_limits(self) -> None:
        """Tell the machine, again and again, whether the toy must rest: it waits for the end of a turn by itself.

        A rest in which the button went down ends when it has come up and been answered, or is stuck.
        """
        self.mouth.follow_volume()
        limit = self._resting.news(self.state)
        if isinstance(limit, RestBegan) or (isinstance(limit, RestEnded) and self._gestures.due_ms is None):
            self._inbox.put(limit)

    # --- small things -------------------------------------------------------------------------------------------------

    def _edge(self, down: bool, at_ms: float) -> None:
        for gesture in self._gestures.edge(down, at_ms):
            self._inbox.put(gesture)

    def _resume_point(self) -> ResumePoint | None:
        """The reply that was interrupted, while the child still waits for it."""
        if not isinstance(self.state, Interrupted):
            return None
        missing = self.mouth.missing(self.state.turn)
        return None if missing is None else ResumePoint(self.state.turn, missing)

    def _note(self, note: Note) -> None:
        if self._observer is not None:
            self._observer.noticed(note)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
