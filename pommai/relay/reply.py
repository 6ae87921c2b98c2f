"""The reply of one turn, kept so that it can go on over another connection.

The turn puts its messages in, in order, whether the toy can be reached or not. One connection at a time delivers them,
at the pace of the ear. When that connection breaks off, the next one goes back to the first frame that the toy does not
have, and delivers the rest. So every frame reaches the toy once, with the number and the bytes it always had.

`send` may have returned for a frame that is lost with its connection. So what was delivered to its end is kept for
another `RESUME_S`, and then dropped. A reply takes some 3 kB a second.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pommai.protocol import (
    FRAME_MS,
    RESUME_S,
    AudioFrame,
    Error,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    ToToy,
    Transcript,
)
from pommai.relay.voice import Lead, Send

FRAME_S: Final = FRAME_MS / 1000

_BEFORE_SOUND: Final = (Transcript, SpeakingStart)


class Reply:
    """`put` is the turn's `Send`. `deliver` is called once a connection; `rewind` before it, but for the first."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.said: list[str] = []
        """What the toy has heard, or has begun to hear; of captions and frames, only what was delivered counts."""
        self.n_sent = 0
        """How many frames were sent to the toy; whether they arrived, only the toy knows."""
        self.delivered = asyncio.Event()
        """Set when the last message is being sent."""
        self._kept: list[ToToy | AudioFrame] = []
        self._first = 0
        self._next = 0
        self._is_whole = False
        self._is_dropped = False
        self._bug: BaseException | None = None
        self._changed = asyncio.Event()
        self._dropping: asyncio.TimerHandle | None = None

    async def put(self, message: ToToy | AudioFrame) -> None:
        """Add the next message of the turn; the last one is a SpeakingEnd or an Error. Never waits, raises nothing."""
        self._kept.append(message)
        self._is_whole = isinstance(message, SpeakingEnd | Error)
        self._changed.set()

    def fail(self, bug: BaseException) -> None:
        """The turn will put nothing more, by a bug of ours: whoever delivers it has to know."""
        self._bug = bug
        self._changed.set()

    async def deliver(self, send: Send) -> None:
        """Send what was not delivered yet and what is still to come, sound at the pace of the ear.

        Returns when the reply is over. Raises what `send` raises, and the bug that broke the turn.
        """
        lead, caption = Lead(), ""
        while (message := await self._upcoming()) is not None:
            match message:
                case Sentence(_, text):
                    caption = text
                case AudioFrame():
                    await lead.wait()
                    self._count(message, caption)
                    lead.sent_s += FRAME_S
                    caption = ""
                case SpeakingEnd() | Error():
                    self.delivered.set()  # before it is: the toy may already be in its next turn when `send` returns
                    self._dropping = asyncio.get_running_loop().call_later(RESUME_S, self.drop)
            await send(message)
            self._next += 1

    def rewind(self, next_sequence: int) -> bool:
        """Go back to the frame `next_sequence`, the first that the toy does not have; False if that cannot be.

        The connection that delivered until now must have been told to stop. What the toy has, it will not ask for
        again: that is dropped.
        """
        if self._is_dropped or self._bug is not None or not self._first <= next_sequence <= self.n_sent:
            return False
        if self._dropping is not None:
            self._dropping.cancel()
        if next_sequence > 0:  # so the toy knows what was heard, and that the reply has begun
            start = next(message for message in self._kept if isinstance(message, SpeakingStart))
            self._kept = [start, *self._after(next_sequence)]
        self._first, self._next = next_sequence, 0
        self.delivered.clear()
        return True

    def drop(self) -> None:
        """Keep nothing any more: the reply cannot be resumed from now on."""
        if self._dropping is not None:
            self._dropping.cancel()
        self._is_dropped = True
        self._kept.clear()

    async def _upcoming(self) -> ToToy | AudioFrame | None:
        """The next message to deliver, as soon as there is one; None after the last."""
        while self._next >= len(self._kept):
            if self._is_whole:
                return None
            self._changed.clear()
            if self._bug is not None:
                raise self._bug
            await self._changed.wait()
        return self._kept[self._next]

    def _count(self, frame: AudioFrame, caption: str) -> None:
        """A frame leaves; `caption`: the text that begins with it. What leaves a second time counts once."""
        if frame.sequence == self.n_sent:
            self.n_sent += 1
            if caption:
                self.said.append(caption)

    def _after(self, next_sequence: int) -> list[ToToy | AudioFrame]:
        """What comes after the frames that the toy has, beginning with the caption of the frame to come."""
        n_had = 0
        for place, message in enumerate(self._kept, start=1):
            if isinstance(message, AudioFrame) and message.sequence < next_sequence:
                n_had = place
        return [message for message in self._kept[n_had:] if not isinstance(message, _BEFORE_SOUND)]
