"""The order of messages: the table, echoes of ended turns, and two links over a slow wire."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.errors import LocalProtocolError, RemoteProtocolError
from pommai.link import ALLOWED, ASIDE, WELCOMED, Link, Phase, Side
from pommai.protocol import (
    AudioFrame,
    Cancel,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventsStored,
    Goodbye,
    Hello,
    Message,
    PhraseChunk,
    PhraseEnd,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    Sentence,
    SpeakingEnd,
    SpeakingStart,
    Transcript,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.wire import CONTROL

HELLO = Hello(1, "0.1.0")
WELCOME = Welcome(1, "s", 0.0, 20.0)


def example(message_class: type, turn: int) -> Message:
    """A message of the class for `turn`."""
    examples: dict[type, Message] = {
        Hello: HELLO,
        Welcome: WELCOME,
        UtteranceStart: UtteranceStart(turn),
        UtteranceEnd: UtteranceEnd(turn),
        Cancel: Cancel(turn),
        Transcript: Transcript(turn, "x"),
        SpeakingStart: SpeakingStart(turn),
        Sentence: Sentence(turn, "x"),
        SpeakingEnd: SpeakingEnd(turn),
        Error: Error(ErrorCode.TIMEOUT, turn=turn),
        Goodbye: Goodbye(ErrorCode.SHUTTING_DOWN, 1.0),
        AudioFrame: AudioFrame(turn, 0, b"x"),
        EventBatch: EventBatch(()),
        EventsStored: EventsStored(()),
        Command: Command("c", "pause"),
        CommandDone: CommandDone("c"),
        PhrasesWanted: PhrasesWanted(),
        PhraseManifest: PhraseManifest("r", 0, 0, ()),
        PhraseWanted: PhraseWanted(1, "p", "ab", 0),
        PhraseChunk: PhraseChunk(1, 0, b"x"),
        PhraseEnd: PhraseEnd(1),
    }
    return examples[message_class]


class LinkPair:
    """Two links and a wire that delivers each direction in order, but whenever the test likes."""

    def __init__(self) -> None:
        self.links = {side: Link(side) for side in Side}
        self.wires: dict[Side, deque[Message]] = {side: deque() for side in Side}

    def send(self, sender: Side, message: Message) -> bool:
        """Send if the sender's link lets it through."""
        sent = self.links[sender].sending(message)
        if sent:
            self.wires[sender].append(message)
        return sent

    def deliver(self, sender: Side) -> Message | None:
        """Deliver the oldest message that `sender` has on the wire; None if it was an echo or there is none."""
        if not self.wires[sender]:
            return None
        return self.links[Side.TOY if sender is Side.RELAY else Side.RELAY].received(self.wires[sender].popleft())

    def settle(self) -> None:
        """Deliver everything."""
        while any(self.wires.values()):
            for side in Side:
                self.deliver(side)


def idle_pair() -> LinkPair:
    """Both ends after the greeting."""
    pair = LinkPair()
    pair.send(Side.TOY, HELLO)
    pair.settle()
    pair.send(Side.RELAY, WELCOME)
    pair.settle()
    return pair


def test_one_turn_walks_through_every_phase() -> None:
    pair = idle_pair()
    steps = [
        (Side.TOY, UtteranceStart(1), Phase.LISTENING),
        (Side.TOY, AudioFrame(1, 0, b"x"), Phase.LISTENING),
        (Side.TOY, UtteranceEnd(1), Phase.THINKING),
        (Side.RELAY, Transcript(1, "x"), Phase.THINKING),
        (Side.RELAY, SpeakingStart(1), Phase.SPEAKING),
        (Side.RELAY, Sentence(1, "x"), Phase.SPEAKING),
        (Side.RELAY, AudioFrame(1, 0, b"x"), Phase.SPEAKING),
        (Side.RELAY, SpeakingEnd(1), Phase.IDLE),
    ]
    for sender, message, phase in steps:
        assert pair.send(sender, message)
        assert pair.deliver(sender) == message
        assert {link.phase for link in pair.links.values()} == {phase}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("sender", Side)
@pytest.mark.parametrize("message_class", [*CONTROL.values(), AudioFrame, PhraseChunk])
def test_what_the_table_does_not_list_is_an_error_or_an_echo(phase: Phase, sender: Side, message_class: type) -> None:
    for side in Side:
        link = Link(side)
        link.phase, link.turn = phase, 0 if message_class is UtteranceStart else 1
        allowed = (sender, message_class) in ALLOWED[phase]
        error = LocalProtocolError if side is sender else RemoteProtocolError
        message = example(message_class, 1)
        door = link.sending if side is sender else link.received
        if allowed:
            assert door(message)
            assert link.phase is ALLOWED[phase][(sender, message_class)]
            continue
        if message_class in ASIDE[sender] and phase in WELCOMED:
            assert door(message)
            assert link.phase is phase
            continue
        try:
            assert not door(message)
        except error as raised:
            assert str(phase) in str(raised)
        assert link.phase is phase


def test_an_error_without_a_turn_is_welcome_everywhere_and_changes_nothing() -> None:
    for phase in Phase:
        link = Link(Side.TOY)
        link.phase = phase
        assert link.received(Error(ErrorCode.BAD_MESSAGE)) is not None
        assert link.phase is phase


def test_a_resumed_turn_goes_on_where_its_utterance_had_ended() -> None:
    pair = LinkPair()
    pair.send(Side.TOY, Hello(1, "0.2.0", session="s", turn=5, next_sequence=3))
    pair.settle()
    pair.send(Side.RELAY, Welcome(1, "s", 0.0, 20.0, resumed=5))
    pair.settle()
    assert {(link.phase, link.turn) for link in pair.links.values()} == {(Phase.THINKING, 5)}
    for message in (SpeakingStart(5), AudioFrame(5, 3, b"x"), SpeakingEnd(5)):
        pair.send(Side.RELAY, message)
    pair.settle()
    assert {link.phase for link in pair.links.values()} == {Phase.IDLE}
    pair.send(Side.TOY, UtteranceStart(6))


def test_a_resumed_turn_may_be_cancelled_at_once() -> None:
    pair = LinkPair()
    pair.send(Side.TOY, Hello(1, "0.2.0", session="s", turn=5, next_sequence=3))
    pair.settle()
    pair.send(Side.RELAY, Welcome(1, "s", 0.0, 20.0, resumed=5))
    pair.send(Side.RELAY, SpeakingStart(5))
    pair.deliver(Side.RELAY)
    pair.send(Side.TOY, Cancel(5))
    assert pair.deliver(Side.RELAY) is None  # the echo of what is over
    pair.settle()
    assert {link.phase for link in pair.links.values()} == {Phase.IDLE}


def test_turn_numbers_must_grow() -> None:
    pair = idle_pair()
    pair.send(Side.TOY, UtteranceStart(3))
    pair.send(Side.TOY, Cancel(3))
    for turn in (2, 3):
        with pytest.raises(LocalProtocolError, match=f"turn {turn} after turn 3"):
            pair.send(Side.TOY, UtteranceStart(turn))


def test_a_message_of_a_turn_to_come_is_an_error() -> None:
    pair = idle_pair()
    with pytest.raises(RemoteProtocolError, match="before it was started") as raised:
        pair.links[Side.TOY].received(SpeakingStart(1))
    assert raised.value.code == ErrorCode.OUT_OF_ORDER


def test_a_barge_in_makes_echoes_of_what_the_relay_still_had_on_the_wire() -> None:
    pair = idle_pair()
    for message in (UtteranceStart(1), UtteranceEnd(1)):
        pair.send(Side.TOY, message)
    pair.settle()
    for message in (SpeakingStart(1), AudioFrame(1, 0, b"x"), SpeakingEnd(1)):
        pair.send(Side.RELAY, message)
    pair.send(Side.TOY, Cancel(1))
    assert [pair.deliver(Side.RELAY) for _ in range(3)] == [None, None, None]
    assert pair.deliver(Side.TOY) is None, "the relay had ended the turn: the cancel is an echo there"


def test_after_a_barge_in_the_old_turn_is_an_echo_in_the_middle_of_the_new_one() -> None:
    pair = idle_pair()
    for message in (UtteranceStart(1), UtteranceEnd(1)):
        pair.send(Side.TOY, message)
    pair.settle()
    for message in (SpeakingStart(1), AudioFrame(1, 0, b"x"), Sentence(1, "x"), SpeakingEnd(1)):
        pair.send(Side.RELAY, message)
    for message in (Cancel(1), UtteranceStart(2), AudioFrame(2, 0, b"x")):
        pair.send(Side.TOY, message)
    assert [pair.deliver(Side.RELAY) for _ in range(4)] == [None] * 4
    assert pair.links[Side.TOY].phase is Phase.LISTENING
    pair.settle()
    assert pair.links[Side.RELAY].phase is Phase.LISTENING
    assert pair.links[Side.RELAY].turn == 2


def test_what_the_toy_still_says_of_a_turn_that_failed_is_dropped_and_not_sent() -> None:
    pair = idle_pair()
    pair.send(Side.TOY, UtteranceStart(1))
    pair.settle()
    pair.send(Side.RELAY, Error(ErrorCode.DAILY_LIMIT, turn=1))
    pair.settle()
    assert not pair.send(Side.TOY, AudioFrame(1, 0, b"x"))
    assert not pair.send(Side.TOY, UtteranceEnd(1))


def test_whoever_ended_a_turn_may_not_go_on_with_it() -> None:
    pair = idle_pair()
    pair.send(Side.TOY, UtteranceStart(1))
    pair.send(Side.TOY, Cancel(1))
    pair.settle()
    with pytest.raises(LocalProtocolError):
        pair.send(Side.TOY, AudioFrame(1, 0, b"x"))
    with pytest.raises(RemoteProtocolError):
        pair.links[Side.RELAY].received(AudioFrame(1, 0, b"x"))


def test_after_goodbye_the_relay_is_silent_and_the_toy_is_not_heard() -> None:
    pair = idle_pair()
    pair.send(Side.RELAY, Goodbye(ErrorCode.SHUTTING_DOWN, 1.0))
    pair.send(Side.TOY, UtteranceStart(1))
    assert pair.deliver(Side.TOY) is None
    pair.settle()
    assert not pair.send(Side.TOY, Cancel(1))
    with pytest.raises(LocalProtocolError):
        pair.send(Side.RELAY, WELCOME)


@given(st.data(), st.integers(5, 60))
def test_two_links_never_disagree_however_late_the_wire(data: st.DataObject, n_actions: int) -> None:
    """Each end does only what its own table allows; then no delay may ever make the other end raise."""
    pair = idle_pair()
    for _ in range(n_actions):
        side = data.draw(st.sampled_from(Side))
        link = pair.links[side]
        may_send = [kind for sender, kind in ALLOWED[link.phase] if sender is side and kind is not Goodbye]
        action = data.draw(st.sampled_from([*may_send, "deliver"]))
        if isinstance(action, type):
            pair.send(side, example(action, link.turn + (action is UtteranceStart)))
        else:
            pair.deliver(side)
    if data.draw(st.booleans()):
        pair.send(Side.RELAY, Goodbye(ErrorCode.SHUTTING_DOWN, 1.0))
    pair.settle()
    toy, relay = pair.links[Side.TOY], pair.links[Side.RELAY]
    assert relay.phase is toy.phase
    assert relay.phase is Phase.CLOSED or relay.turn == toy.turn
