"""A toy that was cut off comes back, and the reply goes on where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSCloseCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pommai.link import Phase
from pommai.protocol import (
    FRAME_MS,
    RESUME_S,
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Message,
    SpeakingEnd,
    UtteranceStart,
    Welcome,
)
from pommai.relay import app, door, server
from pommai.relay.conversation import Conversation
from pommai.relay.parking import Parking
from pommai.relay.ports import Outcome, TurnRecord
from pommai.relay.prompt import PREFIX
from pommai.relay.providers.scripted import Failure, Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from pommai.relay.server import RelayServer
from pommai.relay.settings import ServerSettings
from pommai.relay.terms import Terms
from pommai.relay.visit import Visit
from pommai.relay.voice import LEAD_S
from tests.relay.served import PATIENCE_S, ServedRelay, ToyWire, served
from tests.relay.served import until as until_real
from tests.relay.toybox import TOKEN, Engines, Toy, talk_to, tell
from tests.relay.virtual_time import run, until

STORY = "Once there was a bear who sang. He sang in the rain. He sang in the sun. Everybody liked it."


def slow() -> Engines:
    """Engines that take about as long as real ones, and tell a story of some six seconds."""
    return Engines(
        stt=ScriptedSTT(["tell me a story", "and then"], Pace(0.2)),
        moderator=ScriptedModerator(pace=Pace(0.05)),
        llm=ScriptedLLM([STORY], Pace(0.1, 0.02)),
        tts=ScriptedTTS(Pace(0.1, 0.01)),
    )


async def _nothing() -> None:
    pass


@dataclass
class Attentive(Toy):
    """Lets a test act on the end of a reply while the relay still sends it."""

    at_the_end: Callable[[], Awaitable[None]] = _nothing

    async def take(self, message: Message) -> None:
        if isinstance(message, SpeakingEnd):
            await self.at_the_end()
        await super().take(message)


@dataclass
class Line:
    """One connection of the toy."""

    visit: Visit
    toy: Attentive

    @property
    def welcome(self) -> Welcome:
        welcome = self.toy.messages[0]
        assert isinstance(welcome, Welcome)
        return welcome

    def cut(self) -> None:
        """The network is gone, and the relay notices."""
        self.toy.gone = True
        self.visit.let_go()

    async def frames(self, n: int) -> None:
        """Wait until `n` frames have come."""
        await until(lambda: len(self.toy.frames) >= n)

    async def ended(self, turn: int = 1) -> None:
        await until(lambda: SpeakingEnd(turn) in self.toy.messages, at_most_s=120)


@dataclass
class Home:
    """A relay without sockets, and one toy that connects to it again and again."""

    engines: Engines = field(default_factory=slow)
    parking: Parking = field(default_factory=Parking)
    records: list[TurnRecord] = field(default_factory=list)

    async def _keep(self, turn: TurnRecord) -> None:
        self.records.append(turn)

    def _new(self) -> Conversation:
        return Conversation("teddy", self.engines.pipeline(), self._keep)

    @asynccontextmanager
    async def line(
        self, session: str | None = None, turn: int | None = None, next_sequence: int = 0, *, captions: bool = True
    ) -> AsyncIterator[Line]:
        toy = Attentive()
        async with Visit(TOKEN, toy.take, self.parking, self._new, Terms()) as visit:
            hello = Hello(VERSION, "test", captions, session, turn, None if turn is None else next_sequence)
            await tell(visit, toy, hello)
            yield Line(visit, toy)

    async def cut_off(self, n_frames: int = 10) -> Line:
        """A first connection that breaks off in the first turn, when so many frames have come."""
        async with self.line() as line:
            await talk_to(line.visit, line.toy, 1)
            await line.frames(n_frames)
            line.cut()
        return line

    async def closed(self) -> None:
        """The relay stops: nothing is at work any more."""
        await self.parking.close()
        assert self.engines.at_work() == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


def at_home(test: Callable[[Home], Awaitable[None]]) -> Callable[[], None]:
    """Run a test of a `Home` in virtual time; it must leave nothing behind."""

    def main() -> None:
        async def inside() -> None:
            home = Home()
            await test(home)
            await home.closed()

        run(inside())

    main.__name__, main.__doc__ = test.__name__, test.__doc__
    return main


def told(frames: list[AudioFrame]) -> list[tuple[int, bytes]]:
    return [(frame.sequence, frame.packet) for frame in frames]


def uninterrupted() -> list[tuple[int, bytes]]:
    """The frames of the story when nothing happens."""
    frames: list[AudioFrame] = []

    async def main() -> None:
        home = Home()
        async with home.line() as line:
            await talk_to(line.visit, line.toy, 1)
            await line.ended()
            frames.extend(line.toy.frames)
        await home.closed()

    run(main())
    return told(frames)


WHOLE = uninterrupted()


@at_home
async def test_a_reply_goes_on_where_it_stopped(home: Home) -> None:
    first = await home.cut_off(10)
    had = len(first.toy.frames)
    await asyncio.sleep(5)
    async with home.line(first.welcome.session, 1, had) as second:
        assert (second.welcome.session, second.welcome.resumed) == (first.welcome.session, 1)
        await second.ended()
        assert second.toy.kinds()[:2] == ["Welcome", "SpeakingStart"]
        assert told(first.toy.frames + second.toy.frames) == WHOLE
        assert second.toy.link.phase is Phase.IDLE
    (record,) = home.records
    assert record.outcome is Outcome.ANSWERED
    assert record.downlink_packets == len(WHOLE), "what was sent twice counts once"
    assert " ".join(record.said) == STORY


@at_home
async def test_what_was_lost_with_the_connection_is_sent_again_with_its_caption(home: Home) -> None:
    first = await home.cut_off(40)
    async with home.line(first.welcome.session, 1, 3) as second:
        await second.ended()
        assert told(second.toy.frames) == WHOLE[3:]
        assert " ".join(second.toy.captions()) == STORY.partition(". ")[2]
    assert " ".join(home.records[0].said) == STORY


@at_home
async def test_a_toy_without_captions_gets_none_when_it_comes_back_either(home: Home) -> None:
    first = await home.cut_off(5)
    async with home.line(first.welcome.session, 1, 0, captions=False) as second:
        await second.ended()
        assert second.toy.kinds() == ["Welcome", "SpeakingStart", "AudioFrame", "SpeakingEnd"]
        assert told(second.toy.frames) == WHOLE


@at_home
async def test_a_toy_that_is_cut_off_while_the_relay_thinks_gets_the_whole_reply(home: Home) -> None:
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        await asyncio.sleep(0.1)
        assert home.engines.stt.at_work
        first.cut()
    async with home.line(first.welcome.session, 1) as second:
        await second.ended()
        assert second.toy.kinds()[:4] == ["Welcome", "Transcript", "SpeakingStart", "Sentence"]
        assert told(second.toy.frames) == WHOLE
    assert home.engines.stt.calls == 1


@at_home
async def test_after_the_last_frame_was_sent_the_tail_may_still_be_asked_for(home: Home) -> None:
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        await first.ended()
        await until(lambda: len(home.records) == 1)
        first.cut()
    await asyncio.sleep(20)
    async with home.line(first.welcome.session, 1, len(WHOLE) - 4) as second:
        assert second.welcome.resumed == 1
        await second.ended()
        assert told(second.toy.frames) == WHOLE[-4:]
    async with home.line(first.welcome.session, 1, len(WHOLE)) as third:
        assert third.welcome.resumed is None, "the second connection ended the conversation"
    assert len(home.records) == 1, "a turn is recorded once"


@at_home
async def test_a_toy_that_lacks_nothing_but_the_end_gets_that(home: Home) -> None:
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        await first.ended()
        first.cut()
    async with home.line(first.welcome.session, 1, len(WHOLE)) as second:
        await second.ended()
        assert second.toy.kinds() == ["Welcome", "SpeakingStart", "SpeakingEnd"]


@at_home
async def test_a_reply_that_was_delivered_is_kept_for_its_time_and_no_longer(home: Home) -> None:
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        await first.ended()
        conversation = first.visit.conversation
        assert conversation is not None
        await asyncio.sleep(RESUME_S - 1)
        assert conversation._reply._kept
        await asyncio.sleep(2)
        assert not conversation._reply._kept, "an idle toy holds no sound"
        first.cut()
    async with home.line(first.welcome.session, 1, 3) as second:
        assert second.welcome.resumed is None
        assert second.welcome.session != first.welcome.session


@at_home
async def test_the_next_turn_drops_what_was_kept_of_the_one_before(home: Home) -> None:
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        await first.ended()
        await talk_to(first.visit, first.toy, 2)
        first.cut()
    async with home.line(first.welcome.session, 1, 3) as second:
        assert second.welcome.resumed is None


@at_home
async def test_a_turn_that_failed_meanwhile_is_told_as_an_error(home: Home) -> None:
    home.engines.tts = ScriptedTTS(failure=Failure(ErrorCode.TIMEOUT))
    async with home.line() as first:
        await talk_to(first.visit, first.toy, 1)
        first.cut()
    await asyncio.sleep(5)
    async with home.line(first.welcome.session, 1) as second:
        await until(lambda: second.toy.link.phase is Phase.IDLE)
        assert second.toy.messages[-1] == Error(ErrorCode.TIMEOUT, retryable=True, turn=1)
    assert home.records[0].outcome is Outcome.FAILED


@at_home
async def test_nothing_is_further_ahead_of_the_ear_than_the_lead_after_a_resume(home: Home) -> None:
    first = await home.cut_off(10)
    await asyncio.sleep(4)
    async with home.line(first.welcome.session, 1, 10) as second:
        await second.ended()
        times_s = second.toy.frame_times_s
        for n_before, at_s in enumerate(times_s):
            assert n_before * FRAME_MS / 1000 - (at_s - times_s[0]) <= LEAD_S + 1e-6
        at_once = sum(at_s == times_s[0] for at_s in times_s)
        assert at_once * FRAME_MS / 1000 == pytest.approx(LEAD_S, abs=FRAME_MS / 1000), "the lead is really used"
        assert times_s[-1] - times_s[0] == pytest.approx(len(times_s) * FRAME_MS / 1000 - LEAD_S, abs=0.1)


@at_home
async def test_a_barge_in_right_after_a_resume_ends_the_turn(home: Home) -> None:
    first = await home.cut_off(10)
    async with home.line(first.welcome.session, 1, 10) as second:
        await tell(second.visit, second.toy, Cancel(1))
        n_before = len(second.toy.got)
        await talk_to(second.visit, second.toy, 2)
        await second.ended(2)
        assert {frame.turn for frame in second.toy.frames[n_before:]} <= {2}
    assert [(record.turn, record.outcome) for record in home.records] == [
        (1, Outcome.CANCELLED),
        (2, Outcome.ANSWERED),
    ]
    assert home.records[0].downlink_packets <= 10 + 1


@at_home
async def test_a_barge_in_after_a_resume_counts_only_what_was_delivered(home: Home) -> None:
    first = await home.cut_off(5)
    await asyncio.sleep(20)  # by now all of the reply has been made
    async with home.line(first.welcome.session, 1, 3) as second:  # two frames are sent twice
        await second.frames(len(first.toy.frames))
        await tell(second.visit, second.toy, Cancel(1))
        await until(lambda: len(home.records) == 1)
        n_sent = 3 + len(second.toy.frames)
    (record,) = home.records
    assert (record.outcome, record.downlink_packets) == (Outcome.CANCELLED, n_sent)
    assert record.said == first.toy.captions()


@at_home
async def test_a_toy_that_does_not_come_back_was_interrupted(home: Home) -> None:
    first = await home.cut_off(10)
    n_sent = len(first.toy.frames)
    await asyncio.sleep(RESUME_S + 1)
    (record,) = home.records
    assert (record.outcome, record.heard) == (Outcome.INTERRUPTED, "tell me a story")
    assert (record.said, record.downlink_packets) == (first.toy.captions(), n_sent), (
        "only what the child may have heard"
    )
    assert not home.parking.parked
    async with home.line(first.welcome.session, 1, 10) as late:
        assert late.welcome.resumed is None
        assert late.welcome.session != first.welcome.session


@pytest.mark.parametrize(
    ("session", "turn", "next_sequence"),
    [("other", 1, 5), (None, None, 0), ("same", 1, 11), ("same", 1, 10_000), ("same", 0, 0)],
)
def test_a_hello_that_does_not_fit_begins_anew(session: str | None, turn: int | None, next_sequence: int) -> None:
    async def main() -> None:
        home = Home()
        first = await home.cut_off(10)
        shown = first.welcome.session if session == "same" else session
        async with home.line(shown, turn, next_sequence) as second:
            assert second.welcome.resumed is None
            assert second.welcome.session != first.welcome.session
            await until(lambda: len(home.records) == 1)
            assert home.records[0].outcome is Outcome.INTERRUPTED
            await talk_to(second.visit, second.toy, 1)
            await second.ended()
        assert [m.content for m in home.engines.llm.prompts[1][len(PREFIX) :]] == ["and then"], "nothing is remembered"
        await home.closed()

    run(main())


@pytest.mark.parametrize("turn", [None, 2])
def test_a_toy_that_resumes_no_turn_still_finds_its_memory(turn: int | None) -> None:
    """Turn 2 is one of which the relay has not heard the end: the child spoke when the connection broke off."""

    async def main() -> None:
        home = Home()
        async with home.line() as first:
            await talk_to(first.visit, first.toy, 1)
            await first.ended()
            await tell(first.visit, first.toy, UtteranceStart(2))
            first.cut()
        await asyncio.sleep(RESUME_S - 1)
        async with home.line(first.welcome.session, turn) as second:
            assert second.welcome.resumed is None
            assert second.welcome.session == first.welcome.session
            await talk_to(second.visit, second.toy, 3)
            await second.ended(3)
        contents = [m.content for m in home.engines.llm.prompts[1][len(PREFIX) :]]
        assert contents == ["tell me a story", STORY, "and then"]
        await home.closed()

    run(main())


@at_home
async def test_a_toy_that_gives_up_its_turn_ends_it_and_goes_on(home: Home) -> None:
    first = await home.cut_off(10)
    async with home.line(first.welcome.session) as second:
        assert second.welcome.session == first.welcome.session
        assert home.records[0].outcome is Outcome.CANCELLED
        assert home.engines.at_work() == 0
        await talk_to(second.visit, second.toy, 2)
        await second.ended(2)
        assert {frame.turn for frame in second.toy.frames} == {2}


@at_home
async def test_a_visit_that_has_let_go_takes_nothing_more(home: Home) -> None:
    async with home.line() as line:
        await talk_to(line.visit, line.toy, 1)
        await line.frames(3)
        line.visit.let_go()
        n_messages = len(line.toy.got)
        with pytest.raises(ConnectionAbortedError):
            await line.visit.receive(Cancel(1))
        await asyncio.sleep(3)
        assert len(line.toy.got) == n_messages
        await line.visit.close(ErrorCode.REPLACED, grace_s=0.0, retry_after_s=1.0)
        assert line.toy.messages[-1] == Goodbye(ErrorCode.REPLACED, 1.0)
        (parked,) = home.parking.parked.values()
        assert parked.conversation.in_turn, "its goodbye ends no turn that another connection may resume"


@at_home
async def test_a_relay_that_stops_ends_what_is_parked(home: Home) -> None:
    await home.cut_off(10)
    await home.parking.close()
    assert [record.outcome for record in home.records] == [Outcome.INTERRUPTED]
    async with home.line() as late:
        await talk_to(late.visit, late.toy, 1)
        await late.frames(1)
        late.cut()
    await home.parking.close()
    assert [record.outcome for record in home.records] == [Outcome.INTERRUPTED] * 2


@at_home
async def test_a_turn_that_is_stopped_while_its_end_is_sent_was_answered(home: Home) -> None:
    async with home.line() as line:
        conversation = line.visit.conversation
        assert conversation is not None
        line.toy.at_the_end = conversation.stop
        await talk_to(line.visit, line.toy, 1)
        await until(lambda: len(home.records) == 1)
    assert [record.outcome for record in home.records] == [Outcome.ANSWERED]


class BuggyTTS(ScriptedTTS):
    """Breaks the contract of its port."""

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(super().speak(text)) as pieces:
            async for piece in pieces:
                yield piece
                raise KeyError(text)


def test_a_bug_in_a_parked_turn_is_logged_without_words_and_the_toy_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        home = Home(Engines(tts=BuggyTTS(), llm=ScriptedLLM(["CANARY is a word."])))
        async with home.line() as first:
            await talk_to(first.visit, first.toy, 1)
            first.cut()
        await asyncio.sleep(5)
        async with home.line(first.welcome.session, 1) as second:
            assert second.welcome.resumed is None
        await home.closed()

    run(main())
    assert "turn broken toy=teddy turn=1: KeyError at " in caplog.text
    assert "CANARY" not in caplog.text


cuts = st.lists(
    st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 5), st.floats(0, RESUME_S - 1)), min_size=1, max_size=4
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts)
def test_every_frame_comes_once_and_in_order_wherever_the_connection_breaks(
    cuts: list[tuple[int, int, float]],
) -> None:
    """Each cut: how many more frames come before it, how many of those are lost all the same, and how long it takes."""

    async def main() -> None:
        home = Home()
        have: list[AudioFrame] = []
        session, turn, over = None, None, False
        for n_more, n_lost, away_s in [*cuts, (len(WHOLE), 0, 0.0)]:
            async with home.line(session, turn, len(have)) as line:
                assert line.welcome.resumed == turn
                if turn is None:
                    await talk_to(line.visit, line.toy, 1)
                session, turn = line.welcome.session, 1
                await until(
                    lambda: len(line.toy.frames) >= n_more or SpeakingEnd(1) in line.toy.messages,  # noqa: B023
                    at_most_s=120,
                )
                line.cut()
            n_lost = min(n_lost, len(line.toy.frames))
            have += line.toy.frames[: len(line.toy.frames) - n_lost]
            over = SpeakingEnd(1) in line.toy.messages and not n_lost
            if over:
                break
            await asyncio.sleep(away_s)
        if not over:
            async with home.line(session, 1, len(have)) as line:
                await line.ended()
                have += line.toy.frames
        assert told(have) == WHOLE
        await home.closed()
        assert [record.outcome for record in home.records] in ([Outcome.ANSWERED], [Outcome.INTERRUPTED])

    run(main())


# --- over real sockets ------------------------------------------------------------------------------------------------

LONG = "This is a long sentence that takes the toy a good while to say aloud to the child. " * 2


def frames_of(wire: ToyWire) -> list[AudioFrame]:
    return [message for message in wire.got if isinstance(message, AudioFrame)]


async def nobody_connected(relay: ServedRelay) -> None:
    """Wait until the relay has seen every toy go."""
    async with asyncio.timeout(PATIENCE_S):
        while await relay.metric("pommai_active_toys"):
            pass


@asynccontextmanager
async def cut_off(relay: ServedRelay, token: str, n_frames: int = 5) -> AsyncIterator[tuple[str, list[AudioFrame]]]:
    """A toy whose connection is reset in mid-reply; its session, and the frames that it has."""
    async with relay.knocking(token) as wire:
        session = (await wire.greet()).session
        await wire.say(1)
        for _ in range(n_frames):
            await wire.until(AudioFrame)
        wire.abort()
        await nobody_connected(relay)
    yield session, frames_of(wire)


async def test_a_reset_connection_is_resumed(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([STORY]))) as relay:
        token = await relay.token()
        async with cut_off(relay, token) as (session, had), relay.knocking(token) as wire:
            welcome = await wire.greet(session, 1, len(had))
            assert (welcome.session, welcome.resumed) == (session, 1)
            await wire.until(SpeakingEnd)
            assert told(had + frames_of(wire)) == WHOLE
            assert (await relay.store.turns.get()).outcome is Outcome.ANSWERED
        await nobody_connected(relay)


async def test_a_connection_that_only_looks_alive_hands_its_turn_over(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([STORY]))) as relay:
        token = await relay.token()
        async with relay.knocking(token) as old:
            session = (await old.greet()).session
            await old.say(1)
            for _ in range(5):
                await old.until(AudioFrame)
            had = frames_of(old)
            async with relay.knocking(token) as new:
                assert (await new.greet(session, 1, len(had))).resumed == 1
                code, _ = await asyncio.gather(old.closed(), new.until(SpeakingEnd))
                assert told(had + frames_of(new)) == WHOLE
                assert code == WSCloseCode.GOING_AWAY
                assert old.got[-1] == Goodbye(ErrorCode.REPLACED, server.DISMISSED_RETRY_S)
            assert (await relay.store.turns.get()).outcome is Outcome.ANSWERED


@pytest.mark.parametrize("how", ["revoked", "forgotten"])
async def test_a_parked_toy_that_is_revoked_or_forgotten_is_ended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG]))) as relay:
        token = await relay.token()
        async with cut_off(relay, token) as (session, had):
            assert relay.store.turns.empty()
            await (relay.store.revoke_tokens("teddy", 2.0) if how == "revoked" else relay.store.forget("teddy"))
            assert (await relay.store.turns.get()).outcome is Outcome.INTERRUPTED
            await until_real(lambda: not relay.engines.at_work())
        if how == "forgotten":
            async with relay.knocking(token) as wire:
                assert (await wire.greet(session, 1, len(had))).session != session


async def test_a_toy_that_was_forgotten_while_it_came_back_is_forgotten_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[RelayServer] = []

    class Watched(RelayServer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            servers.append(self)

    monkeypatch.setattr(app, "RelayServer", Watched)
    async with served(tmp_path, Engines(llm=ScriptedLLM([STORY]))) as relay:
        token = await relay.token()
        async with cut_off(relay, token) as (session, had):
            assert servers[0].in_turn, "a parked turn counts"
            await relay.store.forget("teddy")
            async with relay.knocking(token) as wire:
                assert (await wire.greet(session, 1, len(had))).resumed == 1
                await servers[0].look_after()
                assert await wire.closed() == WSCloseCode.GOING_AWAY
                assert wire.got[-1] == Goodbye(ErrorCode.SHUTTING_DOWN, door.RETRY_S)


async def test_a_toy_that_was_forgotten_finds_no_memory_if_it_comes_back_before_its_old_connection_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    async with served(tmp_path) as relay:
        token = await relay.token()
        async with relay.knocking(token) as old:
            session = (await old.greet()).session
            await relay.store.forget("teddy")
            assert await old.next() == Goodbye(ErrorCode.SHUTTING_DOWN, door.RETRY_S)
            async with relay.knocking(token) as new:  # the old one has not answered the close yet
                assert (await new.greet(session)).session != session


async def test_a_relay_that_stops_records_what_is_parked(tmp_path: Path) -> None:
    engines = Engines(llm=ScriptedLLM([LONG]))
    async with served(tmp_path, engines, grace_s=PATIENCE_S) as relay, cut_off(relay, await relay.token()):
        await relay.stop()
        assert (await relay.store.turns.get()).outcome is Outcome.INTERRUPTED
        assert not engines.at_work()


async def test_a_parked_toy_keeps_its_place(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG])), server=ServerSettings(max_toys=1)) as relay:
        token = await relay.token()
        async with cut_off(relay, token) as (session, had):
            assert (await relay.refusal(await relay.token("panda"))).status == 503
            async with relay.knocking(token) as wire:
                assert (await wire.greet(session, 1, len(had))).resumed == 1


async def test_a_toy_that_leaves_of_its_own_will_ends_its_turn(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG]))) as relay:
        async with relay.toy() as toy:
            await toy.say(1)
            await toy.until(AudioFrame)
        assert (await relay.store.turns.get()).outcome is Outcome.CANCELLED
