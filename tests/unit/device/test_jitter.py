"""The jitter buffer, and the length of an Opus packet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pommai.device.jitter import (
    MAX_CONCEAL_MS,
    Conceal,
    Finished,
    JitterBuffer,
    Play,
    Pulled,
    Pushed,
    Wait,
)

# --- the length of a packet -------------------------------------------------------------------------------------------


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
        assert buffer.pull() == Wait()
    assert buffer.underruns == 5


def test_a_long_prebuffer_stays_what_it_was_set_to() -> None:
    buffer = JitterBuffer(prebuffer_ms=600)
    push(buffer, *range(10))
    assert pull(buffer, 11) == [*(play(n) for n in range(10)), Wait()]
    push(buffer, *range(10, 19))
    assert buffer.pull() == Wait()
    push(buffer, 19)
    assert buffer.pull() == play(10)


def test_the_end_ends_the_gathering_too() -> None:
    buffer = JitterBuffer()
    push(buffer, 0, 1)
    assert pull(buffer, 3) == [play(0), play(1), Wait()]
    push(buffer, 2)
    assert buffer.pull() == Wait()
    buffer.end()
    assert pull(buffer, 2) == [play(2), Finished()]


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


Rhythm = list[tuple[int, float] | None]

pushes = st.tuples(st.integers(0, 30), st.sampled_from([2.5, 10.0, 20.0, 60.0, 120.0]))


@given(st.lists(pushes | st.none(), max_size=80), st.sampled_from([0, 60, 120, 500]))
def test_any_rhythm_is_played_once_in_order_and_within_bounds(rhythm: Rhythm, pre: float) -> None:
    """None stands for a pull."""
    buffer = JitterBuffer(prebuffer_ms=pre, capacity_ms=500)
    taken: set[bytes] = set()
    pulled: list[Pulled] = []
    for beat in rhythm:
        if beat is None:
            pulled.append(buffer.pull())
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
