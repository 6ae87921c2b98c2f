"""A reply is played once, in order, at the speaker's pace; and stops at once."""

from __future__ import annotations

import asyncio
import math
import struct

import pytest

from pommai.audio import quieter
from pommai.codec import OpusDecoder, OpusEncoder
from pommai.device.player import Player
from pommai.device.sim import VirtualSpeaker
from pommai.errors import HardwareError
from pommai.protocol import AudioFrame

from .virtual_time import in_virtual_time

FRAME_BYTES = 2880  # 60 ms


def packets(n: int) -> list[bytes]:
    """`n` packets of 60 ms of a tone that rises, so that no two sound alike."""
    encoder = OpusEncoder()
    samples = [int(9000 * math.sin(k * k / 90_000)) for k in range(1440 * n)]
    pcm = struct.pack(f"<{len(samples)}h", *samples)
    return [encoder.encode(pcm[i * FRAME_BYTES : (i + 1) * FRAME_BYTES]) for i in range(n)]


def decoded(them: list[bytes]) -> bytes:
    decoder = OpusDecoder()
    return b"".join(decoder.decode(packet) for packet in them)


class Notebook:
    """A listener that writes down what it is told, and when (ms since it was made)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []
        self._began_s = asyncio.get_running_loop().time()

    def _write(self, what: str, turn: int, at_s: float | None = None) -> None:
        at_s = asyncio.get_running_loop().time() if at_s is None else at_s
        self.lines.append((what, turn, round((at_s - self._began_s) * 1000)))

    def playback_began(self, turn: int, at_s: float) -> None:
        self._write("began", turn, at_s)

    def playback_finished(self, turn: int) -> None:
        self._write("finished", turn)

    def playback_failed(self, turn: int) -> None:
        self._write("failed", turn)


@in_virtual_time
async def test_a_reply_that_comes_at_once_is_played_whole_and_in_real_time() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(10)
    player = Player(speaker)
    player.start(7, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(7, sequence, packet))
    player.end(7)
    await asyncio.sleep(2)
    assert speaker.take_heard() == decoded(sound)
    assert notebook.lines == [("began", 7, 0), ("finished", 7, 600)]
    assert speaker.underruns == 0
    await player.aclose()


@in_virtual_time
async def test_it_is_never_louder_than_its_volume() -> None:
    speaker, sound = VirtualSpeaker(), packets(3)
    player = Player(speaker)
    player.volume = 0.25
    player.start(1, Notebook())
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    assert speaker.take_heard() == quieter(decoded(sound), 0.25) != decoded(sound)
    await player.aclose()


@in_virtual_time
async def test_it_gathers_the_prebuffer_first() -> None:
    notebook, sound = Notebook(), packets(10)
    player = Player(VirtualSpeaker(), prebuffer_ms=120)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
        await asyncio.sleep(0.06)
    player.end(1)
    await asyncio.sleep(1)
    assert notebook.lines == [("began", 1, 60), ("finished", 1, 660)]
    await player.aclose()


@in_virtual_time
async def test_a_word_shorter_than_the_prebuffer_is_played_at_its_end() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(1)
    player = Player(speaker)
    player.start(1, notebook)
    player.push(AudioFrame(1, 0, sound[0]))
    await asyncio.sleep(1)
    assert notebook.lines == []
    player.end(1)
    await asyncio.sleep(1)
    assert notebook.lines == [("began", 1, 1000), ("finished", 1, 1060)]
    assert speaker.take_heard() == decoded(sound)
    await player.aclose()


@in_virtual_time
async def test_stop_is_silent_at_once_and_tells_nothing_more() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(20)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    await asyncio.sleep(0.25)
    player.stop()
    player.push(AudioFrame(1, 20, sound[0]))
    player.end(1)
    await asyncio.sleep(3)
    assert speaker.take_heard() == decoded(sound)[: 250 * 48]
    assert notebook.lines == [("began", 1, 0)]
    await player.aclose()


@in_virtual_time
async def test_the_next_reply_follows_a_stop_without_a_trace_of_the_last() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(10)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    await asyncio.sleep(0.1)
    player.stop()
    speaker.take_heard()
    player.start(2, notebook)
    player.push(AudioFrame(1, 9, sound[9]))  # an echo of the turn before
    player.push(AudioFrame(2, 0, sound[0]))
    player.end(1)
    player.push(AudioFrame(2, 1, sound[1]))
    player.end(2)
    await asyncio.sleep(1)
    assert speaker.take_heard() == decoded(sound[:2])
    assert notebook.lines == [("began", 1, 0), ("began", 2, 100), ("finished", 2, 220)]
    await player.aclose()


@in_virtual_time
async def test_a_line_that_stalls_makes_a_pause_and_loses_nothing() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(10)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        if sequence == 5:
            await asyncio.sleep(1)
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    assert speaker.take_heard() == decoded(sound)
    assert speaker.underruns == 1
    assert notebook.lines == [("began", 1, 0), ("finished", 1, 1300)]
    await player.aclose()


@pytest.mark.parametrize("broken", [b"\xff", b"\x03\x3f" + bytes(40)], ids=["cut short", "too many frames"])
@in_virtual_time
async def test_bytes_that_are_no_opus_are_concealed_in_their_place(broken: bytes) -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(6)
    sound[3] = broken
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    heard = speaker.take_heard()
    assert len(heard) == 6 * FRAME_BYTES
    assert heard[: 3 * FRAME_BYTES] == decoded(sound[:3])
    assert notebook.lines[-1] == ("finished", 1, 360)
    await player.aclose()


@in_virtual_time
async def test_a_missing_packet_is_concealed_and_one_that_comes_twice_is_played_once() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(6)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence in (0, 1, 1, 2, 4, 5):
        player.push(AudioFrame(1, sequence, sound[sequence]))
    player.end(1)
    await asyncio.sleep(1)
    heard = speaker.take_heard()
    assert len(heard) == 6 * FRAME_BYTES
    assert heard[: 3 * FRAME_BYTES] == decoded(sound[:3])
    assert notebook.lines == [("began", 1, 0), ("finished", 1, 360)]
    await player.aclose()


class BrokenSpeaker(VirtualSpeaker):
    """Its cable is pulled after the third piece."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    async def write(self, pcm: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise HardwareError("the speaker is gone")
        await super().write(pcm)


@in_virtual_time
async def test_a_speaker_that_fails_is_told_once() -> None:
    notebook, sound = Notebook(), packets(4)
    player = Player(BrokenSpeaker())
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    assert [what for what, _, _ in notebook.lines] == ["began", "failed"]
    await player.aclose()
