"""The jitter buffer: packets in any rhythm, sound in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pommai.device.speech.jitter import (
    MAX_CONCEAL_MS,
    STARVING_MS,
    Conceal,
    Finished,
    JitterBuffer,
    Play,
    Pulled,
    Pushed,
    Wait,
)


def name(sequence: int) -> bytes:
    return f"packet {sequence}".encode()


def push(buffer: JitterBuffer, *sequences: int, ms: float = 60) -> list[Pushed]:
    return [buffer.push(sequence, name(sequence), ms) for sequence in sequences]


def pull(buffer: JitterBuffer, times: int) -> list[Pulled]:
    return [buffer.pull() for _ in range(times)]


def play(sequence: int, ms: float = 60) -> Play:
    return Play(name(sequence), ms)


def test_it_waits_until_120_ms_have_gathered() -> None:
    buffer = JitterBuffer()
    assert buffer.pull() == Wait()
    push(buffer, 0)
    assert buffer.pull() == Wait()
    push(buffer, 1)
    assert pull(buffer, 2) == [play(0), play(1)]


def test_a_reply_shorter_than_the_prebuffer_is_played_when_its_end_is_known() -> None:
    buffer = JitterBuffer()
    push(buffer, 0)
    assert buffer.pull() == Wait()
    buffer.end()
    assert pull(buffer, 3) == [play(0), Finished(), Finished()]


def test_a_reply_without_sound_is_finished_at_once() -> None:
    buffer = JitterBuffer()
    buffer.end()
    assert buffer.pull() == Finished()


def test_without_a_prebuffer_the_first_packet_is_played_at_once() -> None:
    buffer = JitterBuffer(prebuffer_ms=0)
    assert pull(buffer, 2) == [Wait(), Wait()]
    assert buffer.underruns == 0
    push(buffer, 0)
    assert buffer.pull() == play(0)


def test_packets_out_of_order_are_played_in_order() -> None:
    buffer = JitterBuffer()
    push(buffer, 1, 0, 3, 2)
    assert pull(buffer, 4) == [play(n) for n in range(4)]


def test_duplicates_and_late_packets_are_dropped() -> None:
    buffer = JitterBuffer()
    assert push(buffer, 0, 0, 1) == [Pushed.TAKEN, Pushed.DUPLICATE, Pushed.TAKEN]
    assert pull(buffer, 2) == [play(0), play(1)]
    assert push(buffer, 1, 0) == [Pushed.LATE, Pushed.LATE]
    assert buffer.buffered_ms == 0


def test_nothing_is_taken_after_the_end() -> None:
    buffer = JitterBuffer()
    push(buffer, 0)
    buffer.end()
    assert push(buffer, 1) == [Pushed.LATE]
    assert pull(buffer, 2) == [play(0), Finished()]


def test_a_missing_packet_is_concealed_and_then_too_late() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 2)
    assert pull(buffer, 2) == [play(0), Conceal(60)]
    assert push(buffer, 1) == [Pushed.LATE]
    assert buffer.pull() == play(2)


def test_a_missing_first_packet_is_as_long_as_the_one_after_it() -> None:
    buffer = JitterBuffer()
    push(buffer, 1, 2, 3, ms=40)
    assert pull(buffer, 2) == [Conceal(40), play(1, 40)]


def test_a_wide_gap_is_concealed_only_at_its_beginning() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 60_000)
    assert pull(buffer, 4) == [play(0), Conceal(60), Conceal(60), play(60_000)]
    push(buffer, 60_002)
    buffer.end()
    assert pull(buffer, 3) == [Conceal(60), play(60_002), Finished()]


def starve(buffer: JitterBuffer) -> list[Pulled]:
    """Pull for a speaker that is about to fall silent, until there is nothing but silence."""
    pulled = [buffer.pull(starving=True)]
    while pulled[-1] != Wait():
        pulled.append(buffer.pull(starving=True))
    return pulled


DRY: list[Pulled] = [*[Conceal(STARVING_MS)] * round(MAX_CONCEAL_MS / STARVING_MS), Wait()]


def test_run_dry_it_waits_and_conceals_only_when_the_speaker_starves() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 1)
    assert pull(buffer, 4) == [play(0), play(1), Wait(), Wait()]
    assert buffer.pull(starving=True) == Conceal(STARVING_MS)
    push(buffer, 2)
    assert pull(buffer, 2) == [play(2), Wait()]
    assert starve(buffer) == DRY, "what was concealed before a packet came does not count any more"
    assert buffer.underruns == 1


def test_a_packet_that_comes_while_it_conceals_is_played_at_once() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 1)
    pull(buffer, 2)
    for _ in range(6):
        assert buffer.pull(starving=True) == Conceal(STARVING_MS)
    assert buffer.flowing
    push(buffer, 2)
    assert buffer.pull() == play(2)
    assert buffer.underruns == 0


def test_nothing_is_concealed_before_the_reply_begins_to_play_nor_after_it_ran_dry() -> None:
    buffer = JitterBuffer()
    assert starve(buffer) == [Wait()]
    push(buffer, 0)
    assert starve(buffer) == [Wait()]
    push(buffer, 1)
    pull(buffer, 2)
    assert starve(buffer) == DRY
    assert starve(buffer) == [Wait()]
    assert buffer.underruns == 1


def test_run_dry_it_gathers_twice_as_much_each_time_up_to_a_bound() -> None:
    buffer = JitterBuffer(prebuffer_ms=60)
    sequence = 0
    for gathered in (1, 2, 4, 8, 8):
        for _ in range(gathered):
            assert buffer.pull() == Wait()
            push(buffer, sequence)
            sequence += 1
        pulled = pull(buffer, gathered)
        assert pulled == [play(n) for n in range(sequence - gathered, sequence)]
        assert starve(buffer) == DRY
    assert buffer.underruns == 5


def test_a_long_prebuffer_stays_what_it_was_set_to() -> None:
    buffer = JitterBuffer(prebuffer_ms=600)
    push(buffer, *range(10))
    assert pull(buffer, 10) == [play(n) for n in range(10)]
    assert starve(buffer) == DRY
    push(buffer, *range(10, 19))
    assert buffer.pull() == Wait()
    push(buffer, 19)
    assert buffer.pull() == play(10)


def test_the_end_ends_the_gathering_too() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 1)
    assert pull(buffer, 3) == [play(0), play(1), Wait()]
    starve(buffer)
    push(buffer, 2)
    assert buffer.pull() == Wait()
    buffer.end()
    assert pull(buffer, 2) == [play(2), Finished()]


def test_a_packet_that_is_missing_and_one_that_is_late_are_concealed_no_longer_together_than_apart() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 2, 4)
    assert pull(buffer, 5) == [play(0), Conceal(60), play(2), Conceal(60), play(4)]
    assert starve(buffer) == DRY
    push(buffer, 9, 10, 11, 12)
    assert buffer.pull() == play(9), "it had been concealed for as long as it may be"


def test_the_first_packet_that_is_not_here_is_where_a_reply_can_be_resumed() -> None:
    buffer = JitterBuffer()
    assert (buffer.next_sequence, buffer.ended) == (0, False)
    push(buffer, 0, 1, 3)
    assert buffer.next_sequence == 2
    pull(buffer, 1)
    assert buffer.next_sequence == 2
    push(buffer, 2)
    assert buffer.next_sequence == 4
    pull(buffer, 4)
    assert buffer.next_sequence == 4
    buffer.end()
    assert buffer.ended


def test_the_end_after_the_last_packet_was_played_is_no_underrun() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 1)
    pull(buffer, 2)
    buffer.end()
    assert buffer.pull() == Finished()
    assert buffer.underruns == 0


def test_beyond_60_s_nothing_is_taken_until_there_is_room() -> None:
    buffer = JitterBuffer()
    assert set(push(buffer, *range(1000))) == {Pushed.TAKEN}
    assert push(buffer, 1000, 1001) == [Pushed.FULL, Pushed.FULL]
    assert buffer.buffered_ms == 60_000
    assert buffer.pull() == play(0)
    assert push(buffer, 1001) == [Pushed.TAKEN]
    assert pull(buffer, 999)[-1] == play(999)
    assert pull(buffer, 2) == [Conceal(60), play(1001)]


Rhythm = list[tuple[int, float] | bool]

pushes = st.tuples(st.integers(0, 30), st.sampled_from([2.5, 10.0, 20.0, 60.0, 120.0]))


@given(st.lists(pushes | st.booleans(), max_size=80), st.sampled_from([0, 60, 120, 500]))
def test_any_rhythm_is_played_once_in_order_and_within_bounds(rhythm: Rhythm, pre: float) -> None:
    """True and False stand for a pull, by a speaker that starves or does not."""
    buffer = JitterBuffer(prebuffer_ms=pre, capacity_ms=500)
    taken: set[bytes] = set()
    pulled: list[Pulled] = []
    for beat in rhythm:
        if isinstance(beat, bool):
            pulled.append(buffer.pull(starving=beat))
        elif buffer.push(beat[0], name(beat[0]), beat[1]) is Pushed.TAKEN:
            assert name(beat[0]) not in taken
            taken.add(name(beat[0]))
        assert 0 <= buffer.buffered_ms <= 500
    buffer.end()
    while not pulled or pulled[-1] != Finished():
        pulled.append(buffer.pull())
        assert pulled[-1] != Wait(), "waits for what will never come"
    played = [item.packet for item in pulled if isinstance(item, Play)]
    assert played == sorted(taken, key=lambda packet: int(packet.split()[1]))
    concealed_ms = 0.0
    for item in pulled:
        concealed_ms = concealed_ms + item.ms if isinstance(item, Conceal) else 0.0
        assert concealed_ms <= MAX_CONCEAL_MS
    assert buffer.buffered_ms == 0
