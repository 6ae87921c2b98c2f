"""Records one utterance at a time: microphone to Opus packets, kept back until the press is known to be a hold.

It also knows whether the room has been silent since the microphone was opened; where there is nobody to talk to, it
records nothing and knows only that.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pommai.audio import SPEECH, level_dbfs
from pommai.codec import FOR_A_RECOGNISER, Framer, OpusEncoder
from pommai.device.ports import Mic, Uplink
from pommai.errors import HardwareError, MissingExtra
from pommai.protocol import FRAME_MS, UtteranceEnd, UtteranceStart

_log = logging.getLogger(__name__)

SILENT_S: Final = 3.0
"""An open microphone that gives nothing for this long is broken; a sound card may take 1.6 s to begin."""

QUIET_DBFS: Final = -50.0
"""A room in which nobody speaks; what is below it throughout is silence."""

ROUNDING_S: Final = 0.001


class Recorder:
    """One microphone's recorder. Nothing leaves it before `start`, and nothing at all after `close`."""

    def __init__(self, mic: Mic, uplink: Uplink) -> None:
        self._mic = mic
        self._uplink = uplink
        self._framer: Framer | None = None
        self._kept_back: list[bytes] = []
        self._started_turn: int | None = None
        self._deaf_until_s = 0.0
        self.heard = False
        """Whether anything in this press was louder than `QUIET_DBFS`."""
        self.silent = False
        """Whether the microphone gives sound since it was opened, and none in this press was louder than that."""
        self.taken = False
        """Whether what was said in this press was sent."""
        self.deadline_s = float("inf")
        """When the open microphone must be taken for broken (the loop's clock), unless it gives sound before."""

    def open(self, turn: int, *, record: bool = True) -> bool:
        """Begin to record the utterance of `turn`, or only to listen for silence; whether the microphone is open.

        One that cannot be opened, or whose sound cannot be encoded, is overdue at once.
        """
        self.close()
        self.silent = False
        self._expect_sound()
        try:
            self._framer = Framer(OpusEncoder(FOR_A_RECOGNISER), FRAME_MS) if record else None
            self._mic.open(self._hear)
        except (HardwareError, MissingExtra) as error:
            _log.warning("recorder: the microphone failed, turn=%d: %s", turn, error)
            self.deadline_s = asyncio.get_running_loop().time()
            return False
        return True

    def forget(self) -> None:
        """The button went down: what was before says nothing any more."""
        self.heard = self.silent = self.taken = False

    def only_listen(self) -> None:
        """From now on, listen for silence and record nothing; what was kept back is forgotten."""
        self._framer = None
        self._kept_back = []

    def deafen(self, seconds: float) -> None:
        """Hear nothing for so long, whether open now or soon: the toy makes a sound of its own."""
        self._deaf_until_s = max(self._deaf_until_s, asyncio.get_running_loop().time() + seconds)

    def start(self, turn: int) -> None:
        """Send what was kept back as the beginning of `turn`, and from now on everything as it comes."""
        self._started_turn = turn
        self.taken = True
        self._uplink.send(UtteranceStart(turn))
        self._send(turn, self._kept_back)
        self._kept_back = []

    def end(self, turn: int) -> None:
        """Close the microphone, send the last short packet, and say that the utterance is over."""
        self._mic.close()  # what it hands over now was said before the button came up
        framer = self._framer
        self.close()
        if framer is not None:
            self._send(turn, framer.flush())
        self._uplink.send(UtteranceEnd(turn))

    def close(self) -> None:
        """Close the microphone and forget what was kept back. Closing twice is allowed."""
        self._framer = None
        self._started_turn = None
        self._mic.close()
        self._kept_back = []
        self.deadline_s = float("inf")

    def _hear(self, pcm: bytes) -> None:
        self._expect_sound()
        began_s = asyncio.get_running_loop().time() - SPEECH.ms(len(pcm)) / 1000
        if began_s < self._deaf_until_s - ROUNDING_S:
            return
        if not self.heard:
            self.heard = level_dbfs(pcm) >= QUIET_DBFS
            self.silent = not self.heard
        if self._framer is None:
            return
        packets = self._framer.push(pcm)
        if self._started_turn is None:
            self._kept_back += packets
        else:
            self._send(self._started_turn, packets)

    def _send(self, turn: int, packets: list[bytes]) -> None:
        for packet in packets:
            self._uplink.send_audio(turn, packet)

    def _expect_sound(self) -> None:
        self.deadline_s = asyncio.get_running_loop().time() + SILENT_S
