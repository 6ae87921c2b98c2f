"""Plays one thing at a time: a reply as it comes, a phrase of the toy's own, the last reply again, or an earcon.

Packets are decoded just before their sound is needed, so that a minute of speech waits as 180 kB and not as 3 MB, and a
reply that is stopped costs nothing more. The packets of the last reply are kept, for the child who wants it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol

from pommai.audio import SPEECH, quieter
from pommai.bugs import places
from pommai.device.ports import Speaker
from pommai.device.speech.reply import Reply
from pommai.errors import HardwareError, MissingExtra
from pommai.protocol import AudioFrame

_log = logging.getLogger(__name__)

PIECE_MS: Final = 20
"""How much PCM the speaker gets at a time: what may still be heard after a stop is a few of these."""


class PlayerListener(Protocol):
    """Who is told how playing gets on. Never called for what was stopped, nor for an earcon."""

    def playback_began(self, turn: int, at_s: float) -> None:
        """The first sample was handed to the speaker at `at_s` (the loop's clock)."""

    def playback_finished(self, turn: int) -> None:
        """The last sample has been heard."""

    def playback_failed(self, turn: int) -> None:
        """The speaker, or what was to be played, stopped working; nothing more of this will be played."""


class Player:
    """One speaker's player. `prebuffer_ms`: sound to gather before the first is played.

    `volume`: 0.0 to 1.0; a change is heard at once, also in what is being played.
    """

    def __init__(self, speaker: Speaker, prebuffer_ms: float = 120.0) -> None:
        self._speaker = speaker
        self.prebuffer_ms = prebuffer_ms
        self.volume = 1.0
        self._reply: Reply | None = None
        self._last: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._earcon: asyncio.Task[None] | None = None
        self._stopped: set[asyncio.Task[None]] = set()

    # --- replies ------------------------------------------------------------------------------------------------------

    def start(self, turn: int, listener: PlayerListener) -> None:
        """Expect the reply of `turn` and play it as it comes; one that is being played already goes on."""
        if self._reply is not None and self._reply.turn == turn:
            return
        self._hush()
        self._reply = self._last = Reply(turn, self.prebuffer_ms)
        self._begin(turn, self._reply.pcm(), listener)

    def push(self, frame: AudioFrame) -> None:
        """Take a packet of the reply; one of another turn is dropped."""
        if self._reply is not None and self._reply.turn == frame.turn:
            self._reply.push(frame)

    def end(self, turn: int) -> None:
        """Every packet of the reply of `turn` has been pushed."""
        if self._reply is not None and self._reply.turn == turn:
            self._reply.end()

    def missing(self, turn: int) -> int | None:
        """The first packet of the reply of `turn` that is not here; None if it is here as a whole."""
        if self._reply is None or self._reply.turn != turn:
            return 0
        return self._reply.missing

    # --- everything else ----------------------------------------------------------------------------------------------

    def play(self, turn: int, pieces: AsyncGenerator[bytes, None], listener: PlayerListener) -> None:
        """Play `pieces` (PCM) as what `turn` has to say; whatever plays is stopped."""
        self._hush()
        self._begin(turn, pieces, listener)

    def last_reply(self) -> AsyncGenerator[bytes, None] | None:
        """The last reply once more, to be played; None if there is none."""
        return None if self._last is None or not self._last.packets else self._last.again()

    def forget_last(self) -> None:
        """The toy has said something else since: there is no last reply any more."""
        self._last = None

    def make(self, earcon: bytes, volume: float) -> bool:
        """Play a short sound (PCM) at `volume`, unless something else is heard; whether it is played.

        What is played next waits for its end.
        """
        if not (self._task is None or self._task.done() or (self._reply is not None and self._reply.is_dry)):
            return False
        self.volume = volume
        self._quiet(self._earcon)
        self._earcon = asyncio.create_task(self._write_earcon(earcon), name="earcon")
        return True

    async def finish_earcon(self) -> None:
        """Return when the last earcon has been heard."""
        if self._earcon is not None and not self._earcon.done():
            await asyncio.wait({self._earcon})

    def stop(self) -> bool:
        """Be silent at once, and forget the rest. False if nothing was to be heard."""
        earcon, self._earcon = self._earcon, None
        return any([self._hush(), self._quiet(earcon)])

    async def aclose(self) -> None:
        """Stop, and leave no task behind."""
        last = [task for task in (self._task, self._earcon) if task is not None]
        self.stop()
        if ending := {*self._stopped, *last}:
            await asyncio.wait(ending)

    # --- the speaker --------------------------------------------------------------------------------------------------

    def _hush(self) -> bool:
        """Stop what is played, unless it is an earcon; False if nothing was."""
        self._reply = None
        task, self._task = self._task, None
        return self._quiet(task)

    def _quiet(self, task: asyncio.Task[None] | None) -> bool:
        if task is None or task.done():
            return False
        task.cancel()
        self._stopped.add(task)  # it ends soon, and not now: nothing must wait for it
        task.add_done_callback(self._stopped.discard)
        self._speaker.flush()
        return True

    def _begin(self, turn: int, pieces: AsyncGenerator[bytes, None], listener: PlayerListener) -> None:
        self._task = asyncio.create_task(self._play(turn, pieces, listener), name="player")
        self._task.add_done_callback(partial(_ended, turn, listener))

    async def _play(self, turn: int, pieces: AsyncGenerator[bytes, None], listener: PlayerListener) -> None:
        began = False
        try:
            async with aclosing(pieces):
                async for pcm in pieces:
                    await self.finish_earcon()
                    if not began:
                        listener.playback_began(turn, asyncio.get_running_loop().time())
                        began = True
                    await self._write(pcm)
            await self._speaker.drain()
        except (HardwareError, MissingExtra) as error:
            _log.warning("player: the sound failed, turn=%d: %s", turn, error)
            listener.playback_failed(turn)
        else:
            listener.playback_finished(turn)

    async def _write(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), SPEECH.bytes(PIECE_MS)):
            await self._speaker.write(quieter(pcm[start : start + SPEECH.bytes(PIECE_MS)], self.volume))

    async def _write_earcon(self, pcm: bytes) -> None:
        try:
            await self._write(pcm)
            await self._speaker.drain()
        except HardwareError as error:
            _log.warning("player: no earcon, the speaker failed: %s", error)


def _ended(turn: int, listener: PlayerListener, task: asyncio.Task[None]) -> None:
    """A bug ends what is played, and is told as any failure; its text may hold a child's words and is not logged."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.error("player: a bug, turn=%d: %s", turn, places(error))
        listener.playback_failed(turn)
