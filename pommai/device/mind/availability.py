"""How reliable the toy was: the share of time in which a press of its button would have been answered.

Answered: the toy would have begun to listen, or would have said something of its own. So talking, waiting, being
without a network and resting all count, because a press then gets at least an excuse. Not answered: while the process
starts or ends, while the sound card is away, after sound has failed, and while there is no process though the toy is
switched on: from when the board was started, or from when the last process was last heard of. A toy that is switched
off is not expected to answer, and that time is not counted at all; neither are the seconds between the last `snapshot`
and a power cut.

Times are seconds since the board was started (CLOCK_MONOTONIC, which is also the loop's clock), because those are right
before anybody knows the time of day. After `FADING_S` all that was counted is halved, so that what is long past fades.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pommai.device.mind.states import (
    Booting,
    Error,
    Fault,
    Holding,
    Idle,
    Listening,
    Paused,
    Playing,
    Speaking,
    State,
    Stopping,
    Thinking,
)

FADING_S: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Shares:
    """Each 0.0 to 1.0 of `counted_s`; 0.0 of nothing."""

    answered: float
    online: float
    counted_s: float


class Availability:
    """Counts for one process; what the processes before it counted is in `kept`."""

    def __init__(self, kept: object, boot: str, now_s: float) -> None:
        """`kept`: an earlier `snapshot`, in any state. `boot`: an id of this start of the board; empty if unknown."""
        values: Mapping[str, Any] = kept if isinstance(kept, Mapping) else {}
        self._boot = boot
        self._counted_s = _seconds(values.get("counted_s"))
        self._answered_s = min(_seconds(values.get("answered_s")), self._counted_s)
        self._online_s = min(_seconds(values.get("online_s")), self._counted_s)
        self._state: State = Booting()
        self._has_sound = True
        self._since_s = now_s
        if boot and values:  # nobody was there to answer
            last_s = _seconds(values.get("at_s")) if values.get("boot") == boot else 0.0
            self._counted_s += max(0.0, now_s - last_s)

    def entered(self, state: State, now_s: float) -> None:
        """The toy is in `state` from now on."""
        self._count(now_s)
        self._state = state

    def sound(self, present: bool, now_s: float) -> None:
        """From now on there is a sound card, or none."""
        self._count(now_s)
        self._has_sound = present

    def shares(self, now_s: float) -> Shares:
        """How it was until now."""
        self._count(now_s)
        counted_s = self._counted_s or 1.0
        return Shares(self._answered_s / counted_s, self._online_s / counted_s, self._counted_s)

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What has to survive, for JSON."""
        self._count(now_s)
        return {
            "boot": self._boot,
            "at_s": round(now_s, 1),
            "counted_s": round(self._counted_s, 1),
            "answered_s": round(self._answered_s, 1),
            "online_s": round(self._online_s, 1),
        }

    def _count(self, now_s: float) -> None:
        """Count what has passed in the present state."""
        passed_s = max(0.0, now_s - self._since_s)
        self._since_s = now_s
        self._counted_s += passed_s
        if self._has_sound and would_answer(self._state):
            self._answered_s += passed_s
        if is_online(self._state):
            self._online_s += passed_s
        if self._counted_s > FADING_S:
            self._counted_s, self._answered_s, self._online_s = (
                self._counted_s / 2,
                self._answered_s / 2,
                self._online_s / 2,
            )


def would_answer(state: State) -> bool:
    """Whether a press in this state gets an answer."""
    match state:
        case Booting() | Stopping() | Error(why=Fault.SOUND):
            return False
        case Playing(then=Stopping()) | Error(then=Stopping()):
            return False
    return True


def is_online(state: State) -> bool:
    """Whether the relay is there in this state, or beneath it."""
    match state:
        case Holding(then=then) | Playing(then=then) | Paused(then=then) | Error(then=then):
            return is_online(then)
    return isinstance(state, Idle | Listening | Thinking | Speaking)


def _seconds(kept: object) -> float:
    """Seconds as they were kept; 0 for what makes no sense."""
    is_number = isinstance(kept, int | float) and not isinstance(kept, bool)
    return float(kept) if is_number and isinstance(kept, int | float) and 0 <= kept < 2**53 else 0.0
