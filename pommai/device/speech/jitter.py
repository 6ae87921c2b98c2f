"""Opus packets that come in any rhythm to sound that is played in a steady one.

The buffer holds one reply as packets, not as PCM: 60 s are 180 kB at 24 kbit/s. It never asks what time it is: the
player pulls when its speaker wants more, and everything here is counted in milliseconds of sound.

- It begins to play when `prebuffer_ms` have gathered, or everything has if that is less.
- Run dry, it has the decoder go on by itself for up to `MAX_CONCEAL_MS`, and plays on with the first packet that comes
  by then: a stall of 200 ms, with 120 ms gathered, is not heard as a gap.
- After a longer one it waits again, each time for twice as much (`MAX_PREBUFFER_MS` at most): a line that stalled
  stalls again.
- A packet that is missing while later ones are here is concealed. After `MAX_CONCEAL_MS` in a row the rest of the gap
  is skipped: beyond that, concealment is only silence.
- Beyond `capacity_ms` it takes no more and says so; it never grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CAPACITY_MS: Final = 60_000.0
MAX_PREBUFFER_MS: Final = 480.0
MAX_CONCEAL_MS: Final = 120.0
STARVING_MS: Final = 20.0
"""How much is concealed at a time while nothing comes: the next packet is never kept waiting for longer."""


class Pushed(StrEnum):
    """What became of a packet that was pushed; only `TAKEN` will be played."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    LATE = "late"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Play:
    """Decode this packet and play it."""

    packet: bytes
    ms: float


@dataclass(frozen=True, slots=True)
class Conceal:
    """Let the decoder invent `ms` of sound in place of a packet that is missing."""

    ms: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Play nothing, and pull again after the next push or `end`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything has been pulled, and nothing more will come."""


Pulled = Play | Conceal | Wait | Finished


class JitterBuffer:
    """The sound of one reply. Make a new one for each; to be silent at once, stop pulling and let it go."""

    def __init__(self, prebuffer_ms: float = 120.0, capacity_ms: float = CAPACITY_MS) -> None:
        self._wanted_ms = prebuffer_ms
        self._capacity_ms = capacity_ms
        self._packets: dict[int, Play] = {}
        self._next = 0
        self.flowing = False
        """Whether it is being played: false while it gathers."""
        self._ended = False
        self._frame_ms = 0.0  # of the last packet that was played: the best guess at a missing one
        self._concealed_ms = 0.0  # in a row
        self.buffered_ms = 0.0
        """Sound that waits to be pulled."""
        self.underruns = 0
        """How often it ran dry in the middle of the reply, for longer than concealment lasts."""

    @property
    def next_sequence(self) -> int:
        """The first packet that is not here."""
        missing = self._next
        while missing in self._packets:
            missing += 1
        return missing

    @property
    def ended(self) -> bool:
        """Whether everything is here that will ever be."""
        return self._ended

    def push(self, sequence: int, packet: bytes, ms: float) -> Pushed:
        """Take the packet that sounds `ms` (see `packet_ms`) and has this place, from 0, in the reply."""
        if sequence < self._next or self._ended:
            return Pushed.LATE
        if sequence in self._packets:
            return Pushed.DUPLICATE
        if self.buffered_ms + ms > self._capacity_ms:
            return Pushed.FULL
        self._packets[sequence] = Play(packet, ms)
        self.buffered_ms += ms
        return Pushed.TAKEN

    def end(self) -> None:
        """Nothing more will be pushed; what is here is the rest of the reply."""
        self._ended = True

    def pull(self, *, starving: bool = False) -> Pulled:
        """What to do next. Pull again when the speaker wants more, and after `Wait` when something was pushed.

        `starving`: the speaker is about to fall silent.
        """
        if not self.flowing and self._packets:
            self.flowing = self._ended or self.buffered_ms >= self._wanted_ms
        if self.flowing and self._packets:
            return self._advance()
        if self._ended and not self._packets:
            return Finished()
        if self.flowing and starving:
            if self._concealed_ms + STARVING_MS <= MAX_CONCEAL_MS:
                self._concealed_ms += STARVING_MS
                return Conceal(STARVING_MS)
            self._run_dry()
        return Wait()

    def _advance(self) -> Play | Conceal:
        """The next packet, or something in place of a missing one."""
        play = self._packets.pop(self._next, None)
        if play is None:
            here = min(self._packets)
            missing_ms = self._frame_ms or self._packets[here].ms
            if self._concealed_ms + missing_ms <= MAX_CONCEAL_MS:
                self._next += 1
                self._concealed_ms += missing_ms
                return Conceal(missing_ms)
            self._next = here
            play = self._packets.pop(here)
        self._next += 1
        self._concealed_ms = 0.0
        self._frame_ms = play.ms
        self.buffered_ms -= play.ms
        return play

    def _run_dry(self) -> None:
        self.flowing = False
        self.underruns += 1
        self._wanted_ms = max(self._wanted_ms, min(2 * self._wanted_ms, MAX_PREBUFFER_MS))
