"""When the toy must rest, and how much of its time is used: what parents allow, and what the relay said of it."""

from __future__ import annotations

from pommai.device.inbox import Inbox
from pommai.device.mind.events import RestBegan, RestEnded
from pommai.device.mind.states import RESTS, Error, Listening, Paused, Playing, Speaking, State
from pommai.device.ports import Allowance
from pommai.limits import Rest


class Resting:
    """Of one toy. Without `allowance` it knows no limits but the relay's."""

    def __init__(self, allowance: Allowance | None, inbox: Inbox) -> None:
        self._allowance = allowance
        self._inbox = inbox
        self._counted_s = 0.0

    def news(self, state: State) -> RestBegan | RestEnded | None:
        """What there is to tell the machine of limits now, as often as one likes: it waits for the end of a turn."""
        rest = None if self._allowance is None else self._allowance.rest()
        relay_rest = self._inbox.relay_rest
        if rest is None and relay_rest in RESTS:  # known since before the reply that went on
            rest = Rest(relay_rest)
        if rest is not None:
            return RestBegan(rest)
        can_end = self._allowance is not None and relay_rest is None
        return RestEnded() if can_end and isinstance(state, Paused | Playing | Error) else None

    def count(self, state: State, now_s: float) -> None:
        """Count the time since the last count, in which the toy was in `state`, if child or relay had the word."""
        talking = isinstance(state, Speaking) or (isinstance(state, Listening) and state.started)
        if talking and self._allowance is not None:
            self._allowance.talked(now_s - self._counted_s)
        self._counted_s = now_s
