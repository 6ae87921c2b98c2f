"""What comes out of the speaker, and why: replies, the toy's own words, and earcons, each at the allowed volume.

A call for help alone outweighs what is allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from pommai.audio import SPEECH
from pommai.device.inbox import Inbox
from pommai.device.mind.effects import Earcon
from pommai.device.mind.events import Occasion, PlaybackFinished
from pommai.device.ports import Allowance, OwnVoice, Speaker
from pommai.device.speech.player import Player
from pommai.protocol import AudioFrame

HELP_VOLUME: Final = 0.3
"""The least volume of an answer to a call for help, whatever parents allow: a frightened child has to hear it."""

FULL_VOLUME: Final = 1.0
"""What a toy without a memory plays at where no parent has set a ceiling."""

ECHO_S: Final = 0.06
"""From the last sample that is played to the end of its sound in the room: the sound card's own delay."""

FAREWELL_S: Final = 0.6
"""How long the last earcon may take; a speaker that takes nothing holds nobody up."""


class Mouth:
    """One speaker. Without `voice` the toy says nothing of its own; `earcons`: PCM of each that it makes."""

    def __init__(
        self,
        speaker: Speaker,
        inbox: Inbox,
        *,
        prebuffer_ms: float,
        voice: OwnVoice | None,
        allowance: Allowance | None,
        earcons: Mapping[Earcon, bytes],
    ) -> None:
        self.earcons = earcons
        self._inbox = inbox
        self._voice = voice
        self._allowance = allowance
        self._player = Player(speaker, prebuffer_ms)
        self._least_volume = 0.0

    def expect(self, turn: int) -> None:
        """The reply of `turn` begins, or goes on."""
        self._least_volume = 0.0
        self.follow_volume()
        self._player.start(turn, self._inbox)

    def take(self, frame: AudioFrame) -> None:
        """A packet of a reply has come."""
        self._player.push(frame)

    def complete(self, turn: int) -> None:
        """The reply of `turn` has come as a whole."""
        self._player.end(turn)

    def missing(self, turn: int) -> int | None:
        """See `Player.missing`."""
        return self._player.missing(turn)

    def say(self, turn: int, occasion: Occasion, phrase: str) -> None:
        """Say something of the toy's own, as what `turn` has to say; the last reply is repeated from memory.

        Help is heard at `HELP_VOLUME` at least, also above the ceiling of the volume, and of a toy that is turned off.
        """
        self._least_volume = HELP_VOLUME if occasion is Occasion.HELP else 0.0
        self.follow_volume()
        last = self._player.last_reply() if occasion is Occasion.REPEAT else None
        if occasion in (Occasion.ACTIVITY, Occasion.HELP, Occasion.PHRASE):
            self._player.forget_last()
        if self._voice is not None:
            speech = self._voice.speak(occasion, phrase) if last is None else self._voice.repeat(last)
            self._player.play(turn, speech, self._inbox)
        elif last is not None:
            self._player.play(turn, last, self._inbox)
        else:
            self._inbox.put(PlaybackFinished(turn))

    def follow_volume(self) -> None:
        """The volume that is allowed may be another now: so is that of what is being said."""
        self._player.volume = max(self._volume(), self._least_volume)

    def make(self, earcon: Earcon) -> float:
        """Make a short sound, if this toy does and nothing else is heard; the seconds until it has died away."""
        pcm = self.earcons.get(earcon)
        if pcm is None or not self._player.make(pcm, self._volume()):
            return 0.0
        self._least_volume = 0.0
        return SPEECH.ms(len(pcm)) / 1000 + ECHO_S

    def hush(self) -> float:
        """Be silent at once; the seconds until what was played has died away."""
        return ECHO_S if self._player.stop() else 0.0

    async def farewell(self) -> None:
        """Let the last earcon be heard."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._player.finish_earcon()
        except TimeoutError:
            self.hush()

    async def aclose(self) -> None:
        """Be silent, and leave no task behind."""
        await self._player.aclose()

    def _volume(self) -> float:
        if self._allowance is not None:
            return self._allowance.volume
        return min(FULL_VOLUME, self._inbox.volume_ceiling)
