"""Does what the machine decided: each effect, with the body and the uplink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

from pommai.device.inbox import Inbox
from pommai.device.mind.effects import (
    CancelTurn,
    CloseMic,
    Connect,
    Earcon,
    Effect,
    EndUtterance,
    OpenMic,
    Play,
    PlayEarcon,
    StartSpeaker,
    StartUtterance,
    Stop,
    StopSpeaker,
    Wake,
)
from pommai.device.mind.states import Listening, State
from pommai.device.picture import Picture
from pommai.device.ports import Note, Uplink, UtteranceEnded
from pommai.device.speech.mouth import Mouth
from pommai.device.speech.recorder import Recorder
from pommai.protocol import Cancel

MOOD_S: Final = 3.0
"""How long a mood is shown."""


class Performer:
    """What an effect does to the toy. `is_over`: the last of them has been performed."""

    def __init__(
        self,
        recorder: Recorder,
        mouth: Mouth,
        picture: Picture,
        uplink: Uplink,
        inbox: Inbox,
        note: Callable[[Note], None],
        *,
        shows_open_mic: bool,
    ) -> None:
        self.is_over = False
        self._recorder = recorder
        self._mouth = mouth
        self._picture = picture
        self._uplink = uplink
        self._inbox = inbox
        self._note = note
        self._shows_open_mic = shows_open_mic

    def perform(self, effect: Effect, state: State) -> None:
        """Do it; the toy is in `state` already."""
        match effect:
            case Connect():
                self._uplink.start(self._inbox)
            case Wake():
                self._uplink.wake()
            case OpenMic(turn):
                self._open_mic(turn, record=isinstance(state, Listening))
            case StartUtterance(turn):
                self._recorder.start(turn)
            case EndUtterance(turn):
                self._recorder.end(turn)
                self._note(UtteranceEnded(turn, asyncio.get_running_loop().time()))
            case CloseMic():
                self._recorder.close()
            case CancelTurn(turn):
                self._uplink.send(Cancel(turn))
            case Stop():
                self.is_over = True
            case StartSpeaker() | StopSpeaker() | Play() | PlayEarcon():
                self._sound(effect)
            case _:
                assert_never(effect)

    def make(self, earcon: Earcon) -> bool:
        """Make a small sound, which the toy itself does not hear; whether it is made."""
        seconds = self._mouth.make(earcon)
        self._recorder.deafen(seconds)
        return seconds > 0

    def _open_mic(self, turn: int, *, record: bool) -> None:
        """An open microphone can be seen, or else heard."""
        is_open = self._recorder.open(turn, record=record)
        if is_open and not self._shows_open_mic:
            self.make(Earcon.START)

    def _sound(self, effect: StartSpeaker | StopSpeaker | Play | PlayEarcon) -> None:
        """Effects that can be heard: by the child, and not by the toy itself."""
        match effect:
            case StartSpeaker(turn):
                if self._inbox.mood is not None:
                    self._picture.show(self._inbox.mood, asyncio.get_running_loop().time(), MOOD_S)
                self._mouth.expect(turn)
            case StopSpeaker():
                self._recorder.deafen(self._mouth.hush())
            case Play(turn, occasion, phrase):
                self._mouth.say(turn, occasion, phrase)
            case PlayEarcon(Earcon.START) if not self._shows_open_mic:
                pass  # it was made when the microphone was opened
            case PlayEarcon(earcon):
                self.make(earcon)
