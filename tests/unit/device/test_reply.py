"""The sound of one reply: decoded in order, concealed where it has to be, and never waiting for what will not come."""

from __future__ import annotations

import asyncio

import pytest

from pommai.audio import SPEECH
from pommai.device.speech.jitter import MAX_CONCEAL_MS, STARVING_MS
from pommai.device.speech.reply import STARVING_S, Reply
from pommai.protocol import AudioFrame

from .monitor import FRAME_BYTES, decoded, packets
from .rig import now_s
from .virtual_time import in_virtual_time


def push(reply: Reply, sound: list[bytes], *sequences: int) -> None:
    for sequence in sequences:
        reply.push(AudioFrame(reply.turn, sequence, sound[sequence]))


@in_virtual_time
async def test_a_whole_reply_is_decoded_in_order() -> None:
    reply, sound = Reply(3, 120), packets(5)
    push(reply, sound, 1, 0, 2, 4, 3)
    reply.end()
    assert [piece async for piece in reply.pcm()] == [
        decoded(sound)[n * FRAME_BYTES : (n + 1) * FRAME_BYTES] for n in range(5)
    ]


@in_virtual_time
async def test_it_is_dry_before_enough_has_come_and_when_it_has_run_out() -> None:
    reply, sound = Reply(3, 120), packets(2)
    assert reply.is_dry
    push(reply, sound, 0, 1)
    pieces = reply.pcm()
    await anext(pieces)
    await anext(pieces)
    assert not reply.is_dry
    for _ in range(int(MAX_CONCEAL_MS / STARVING_MS)):
        await anext(pieces)
    more = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(1)
    assert reply.is_dry
    reply.end()
    assert not reply.is_dry, "it is over"
    with pytest.raises(StopAsyncIteration):
        await more


@in_virtual_time
async def test_what_is_missing_is_where_it_can_be_resumed() -> None:
    reply, sound = Reply(3, 120), packets(5)
    assert reply.missing == 0
    push(reply, sound, 0, 1, 3)
    assert reply.missing == 2
    push(reply, sound, 2)
    assert reply.missing == 4
    reply.end()
    assert reply.missing is None


@in_virtual_time
async def test_a_reply_that_stops_coming_is_concealed_step_by_step_and_then_silent() -> None:
    reply, sound = Reply(3, 120), packets(4)
    push(reply, sound, 0, 1)
    pieces = reply.pcm()
    assert [await anext(pieces), await anext(pieces)] == [
        decoded(sound)[n * FRAME_BYTES :][:FRAME_BYTES] for n in (0, 1)
    ]
    began_s = now_s()
    for n in range(1, round(MAX_CONCEAL_MS / STARVING_MS) + 1):
        assert SPEECH.ms(len(await anext(pieces))) == STARVING_MS
        assert now_s() - began_s == pytest.approx(n * STARVING_S)
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(5)
    assert not waiting.done(), "beyond that, concealment is only silence"
    push(reply, sound, 2, 3)
    await asyncio.sleep(0.1)
    assert not waiting.done(), "a line that stalled stalls again: twice as much is gathered"
    reply.end()
    assert len(await waiting) == FRAME_BYTES
    assert [len(piece) async for piece in pieces] == [FRAME_BYTES]


@in_virtual_time
async def test_a_packet_that_comes_in_time_is_played_at_once() -> None:
    reply, sound = Reply(3, 120), packets(3)
    push(reply, sound, 0, 1)
    pieces = reply.pcm()
    await anext(pieces)
    await anext(pieces)
    asyncio.get_running_loop().call_later(0.02, push, reply, sound, 2)
    began_s = now_s()
    assert await anext(pieces) == decoded(sound)[2 * FRAME_BYTES :]
    assert now_s() - began_s == pytest.approx(0.02)
    await pieces.aclose()


@pytest.mark.parametrize(
    "broken", [b"", b"\xff", b"\x03\x3f" + bytes(40)], ids=["empty", "cut short", "too many frames"]
)
@in_virtual_time
async def test_bytes_that_are_no_opus_keep_their_place(broken: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reply, sound = Reply(3, 0), packets(3)
    sound[1] = broken
    push(reply, sound, 0, 1, 2)
    reply.end()
    assert [len(piece) async for piece in reply.pcm()] == [FRAME_BYTES] * 3
    assert "concealed, turn=3" in caplog.text
    assert [len(piece) async for piece in reply.again()] == [FRAME_BYTES] * 3


@in_virtual_time
async def test_only_what_was_taken_is_kept_for_the_child_who_wants_it_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reply, sound = Reply(3, 120), packets(3)
    push(reply, sound, 2, 0, 0, 1)
    reply.end()
    reply.push(AudioFrame(3, 9, sound[0]))
    assert sorted(reply.packets) == [0, 1, 2]
    assert "code=duplicate" in caplog.text
    assert "code=late" in caplog.text
    assert b"".join([piece async for piece in reply.again()]) == decoded(sound)
    assert b"".join([piece async for piece in reply.again()]) == decoded(sound), "as often as the child wants"


@in_virtual_time
async def test_a_reply_without_a_sound_ends() -> None:
    reply = Reply(3, 120)
    reply.end()
    assert [piece async for piece in reply.pcm()] == []
    assert [piece async for piece in reply.again()] == []
