"""What the relay and the player tell, as events in the order in which they came, and as notes."""

from __future__ import annotations

import asyncio

import pytest

from pommai.device.inbox import Inbox
from pommai.device.mind.events import (
    Connected,
    Disconnected,
    Event,
    PlaybackFinished,
    Pressed,
    SoundFailed,
    SpeakingStarted,
    TurnFailed,
)
from pommai.device.mind.lights import Mood
from pommai.device.mind.states import RESTS
from pommai.device.ports import (
    AboutToy,
    Allowance,
    Failed,
    FirstAudio,
    Heard,
    Note,
    Played,
    RelayLost,
    RelayReached,
    ResumePoint,
    Said,
    Upkeep,
)
from pommai.errors import ConnectError
from pommai.limits import Rest
from pommai.protocol import (
    AudioFrame,
    Command,
    Error,
    ErrorCode,
    EventsStored,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    Welcome,
)

from .rig import FakeAllowance, now_s, welcome
from .virtual_time import in_virtual_time


class Chores:
    """An upkeep that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def welcomed(self, welcome: Welcome) -> None:
        self.told.append(welcome)

    def received(self, message: AboutToy | Error) -> None:
        self.told.append(message)

    def lost(self) -> None:
        self.told.append("lost")


class Post:
    """An inbox, and what comes out of it."""

    def __init__(self, allowance: Allowance | None = None, upkeep: Upkeep | None = None) -> None:
        self.notes: list[Note] = []
        self.point: ResumePoint | None = None
        self.inbox = Inbox(self.notes.append, lambda: self.point, allowance, upkeep)

    def take(self) -> list[Event | AudioFrame | SpeakingEnd]:
        return [self.inbox.queue.get_nowait() for _ in range(self.inbox.queue.qsize())]


@in_virtual_time
async def test_everything_comes_out_in_the_order_in_which_it_happened() -> None:
    post = Post()
    post.inbox.put(Pressed())
    post.inbox.received(SpeakingStart(4))
    post.inbox.received(AudioFrame(4, 0, b"x"))
    post.inbox.received(SpeakingEnd(4))
    post.inbox.playback_began(4, 12.5)
    post.inbox.playback_finished(4)
    post.inbox.lost(ConnectError("gone"))
    post.inbox.playback_failed(5)
    assert post.take() == [
        Pressed(),
        SpeakingStarted(4),
        AudioFrame(4, 0, b"x"),
        SpeakingEnd(4),
        PlaybackFinished(4),
        Disconnected(),
        SoundFailed(),
    ]
    assert post.notes[:2] == [FirstAudio(4, 12.5), Played(4, now_s())]
    assert isinstance(post.notes[2], RelayLost)


@in_virtual_time
async def test_captions_are_for_the_onlooker_alone() -> None:
    post = Post()
    post.inbox.received(Transcript(2, "why is the sky blue"))
    post.inbox.received(Sentence(2, "Because."))
    assert post.take() == []
    assert post.notes == [Heard(2, "why is the sky blue"), Said(2, "Because.")]


@in_virtual_time
async def test_a_welcome_brings_what_is_allowed() -> None:
    allowance, chores = FakeAllowance(), Chores()
    post = Post(allowance, chores)
    greeting = welcome(max_utterance_s=12.0, volume_ceiling=0.4, resumed=3)
    post.inbox.welcomed(greeting)
    assert post.take() == [Connected(None, 3)]
    assert (post.inbox.max_utterance_s, post.inbox.volume_ceiling) == (12.0, 0.4)
    assert allowance.welcomes == [greeting]
    assert chores.told == [greeting]
    assert post.notes == [RelayReached(greeting)]


@pytest.mark.parametrize(
    ("relay", "own", "paused"),
    [
        (None, None, None),
        (None, Rest.DAILY_LIMIT, ErrorCode.DAILY_LIMIT),
        (ErrorCode.QUIET_HOURS, None, ErrorCode.QUIET_HOURS),
        (ErrorCode.QUIET_HOURS, Rest.PAUSED, ErrorCode.QUIET_HOURS),
    ],
)
@in_virtual_time
async def test_toy_and_relay_must_both_allow_it_to_talk(
    relay: ErrorCode | None, own: Rest | None, paused: ErrorCode | None
) -> None:
    allowance = FakeAllowance()
    allowance.why = own
    post = Post(allowance)
    post.inbox.welcomed(welcome(relay))
    assert post.take() == [Connected(paused)]
    assert post.inbox.relay_rest == relay
    post.inbox.lost(ConnectError("gone"))
    assert post.inbox.relay_rest is None, "a relay that cannot be reached wants nothing"


@pytest.mark.parametrize("code", ErrorCode)
@in_virtual_time
async def test_a_turn_that_failed_is_an_event_and_a_rest_is_remembered(code: ErrorCode) -> None:
    post = Post()
    post.inbox.received(Error(code, turn=7))
    assert post.take() == [TurnFailed(7, code)]
    assert post.notes == [Failed(7, code)]
    assert post.inbox.relay_rest == (code if code in RESTS else None)


@in_virtual_time
async def test_a_trouble_that_belongs_to_no_turn_is_no_event_but_reaches_the_upkeep() -> None:
    chores = Chores()
    post = Post(upkeep=chores)
    trouble = Error(ErrorCode.INTERNAL)
    post.inbox.received(trouble)
    Post().inbox.received(trouble)
    assert post.take() == []
    assert post.notes == [Failed(None, ErrorCode.INTERNAL)]
    assert chores.told == [trouble]


@in_virtual_time
async def test_what_is_about_the_toy_goes_to_its_upkeep_and_to_nobody_else() -> None:
    chores = Chores()
    post = Post(upkeep=chores)
    messages = [EventsStored(("e1",)), Command("c1", "celebrate")]
    for message in messages:
        post.inbox.received(message)
        Post().inbox.received(message)
    post.inbox.lost(ConnectError("gone"))
    assert chores.told == [*messages, "lost"]
    assert post.take() == [Disconnected()]


@pytest.mark.parametrize(
    ("sent", "mood"),
    [
        ("celebrate", Mood.CELEBRATE),
        ("alert", Mood.ALERT),
        (None, None),
        ("furious", None),
        *((mood.value, None) for mood in Mood if mood not in (Mood.CELEBRATE, Mood.ALERT)),
    ],
)
@in_virtual_time
async def test_the_mood_of_a_reply_is_kept_for_whoever_shows_it(sent: str | None, mood: Mood | None) -> None:
    post = Post()
    post.inbox.received(SpeakingStart(1, "alert"))
    post.inbox.received(SpeakingStart(2, sent))
    assert post.inbox.mood == mood


@in_virtual_time
async def test_a_resume_point_is_asked_for_when_it_is_needed() -> None:
    post = Post()
    assert post.inbox.resume_point() is None
    post.point = ResumePoint(3, 17)
    assert post.inbox.resume_point() == ResumePoint(3, 17)


@in_virtual_time
async def test_the_log_names_the_turn_and_the_code_of_a_failure_and_no_word(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    caplog.set_level("DEBUG")
    post.inbox.received(Transcript(2, "canary"))
    post.inbox.received(Sentence(2, "canary"))
    post.inbox.received(Error(ErrorCode.INTERNAL, turn=2))
    assert "turn=2 code=internal" in caplog.text
    assert "canary" not in caplog.text
    await asyncio.sleep(0)
