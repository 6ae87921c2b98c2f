"""A reply is played once, in order, at the speaker's pace; and stops at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pommai.audio import SPEECH, quieter
from pommai.device.body.sim import VirtualSpeaker
from pommai.device.speech import reply
from pommai.device.speech.jitter import MAX_CONCEAL_MS
from pommai.device.speech.player import Player
from pommai.device.speech.reply import STARVING_S
from pommai.errors import HardwareError, MissingExtra
from pommai.protocol import AudioFrame

from .monitor import FRAME_BYTES, MonitoredSpeaker, decoded, packets
from .virtual_time import in_virtual_time


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
    assert speaker.gaps_ms == []
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
    speaker, notebook, sound = MonitoredSpeaker(), Notebook(), packets(10)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        if sequence == 5:
            await asyncio.sleep(1)
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    heard = speaker.take_heard()
    assert heard[: 5 * FRAME_BYTES] == decoded(sound)[: 5 * FRAME_BYTES]
    assert SPEECH.ms(len(heard)) == 600 + MAX_CONCEAL_MS
    assert notebook.lines == [("began", 1, 0), ("finished", 1, 1300)]
    longest_ms = max(silence.ms for silence in speaker.silences)
    assert longest_ms == pytest.approx(1000 - 300 - MAX_CONCEAL_MS, abs=1000 * STARVING_S)
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


@in_virtual_time
async def test_a_bug_in_what_is_played_is_told_as_a_failure_and_logged_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def buggy() -> AsyncGenerator[bytes, None]:
        yield bytes(FRAME_BYTES)
        raise KeyError("words of a child")

    notebook = Notebook()
    player = Player(VirtualSpeaker())
    player.play(1, buggy(), notebook)
    await asyncio.sleep(1)
    assert [what for what, _, _ in notebook.lines] == ["began", "failed"]
    assert "turn=1: KeyError at " in caplog.text and "test_player.py:" in caplog.text
    assert "words" not in caplog.text
    await player.aclose()


@in_virtual_time
async def test_a_reply_that_cannot_be_decoded_for_want_of_libopus_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "OpusDecoder", missing)
    notebook = Notebook()
    player = Player(VirtualSpeaker())
    player.start(1, notebook)
    await asyncio.sleep(0.01)
    assert [what for what, _, _ in notebook.lines] == ["failed"]
    await player.aclose()


def missing() -> None:
    raise MissingExtra("no libopus")


# --- resumed, repeated, and the toy's own -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_reply_that_is_started_again_goes_on_where_it_is() -> None:
    speaker, notebook, sound = MonitoredSpeaker(), Notebook(), packets(20)
    player = Player(speaker)
    assert player.missing(1) == 0
    player.start(1, notebook)
    for sequence in range(10):
        player.push(AudioFrame(1, sequence, sound[sequence]))
    await asyncio.sleep(0.4)
    assert player.missing(1) == 10
    assert player.missing(2) == 0
    player.start(1, notebook)
    for sequence in range(8, 20):  # the relay is careful, and sends two of them twice
        player.push(AudioFrame(1, sequence, sound[sequence]))
    player.end(1)
    assert player.missing(1) is None
    await asyncio.sleep(2)
    assert speaker.take_heard() == decoded(sound)
    assert notebook.lines == [("began", 1, 0), ("finished", 1, 1200)]
    assert speaker.silences == []
    await player.aclose()


@in_virtual_time
async def test_the_last_reply_is_repeated_from_its_beginning_even_if_it_was_cut_off() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(10)
    player = Player(speaker)
    assert not repeated(player, 1, notebook)
    player.start(1, notebook)
    assert not repeated(player, 1, notebook), "nothing of it has come"
    player.start(2, notebook)
    for sequence in range(10):
        player.push(AudioFrame(2, sequence, sound[sequence]))
    await asyncio.sleep(0.1)
    player.stop()
    speaker.take_heard()
    for turn in (3, 4):
        assert repeated(player, turn, notebook)
        await asyncio.sleep(1)
        assert speaker.take_heard() == decoded(sound)
        assert notebook.lines[-1][:2] == ("finished", turn)
    player.forget_last()
    assert not repeated(player, 5, notebook)
    await player.aclose()


@in_virtual_time
async def test_a_broken_packet_is_concealed_when_it_is_repeated_too() -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(4)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate([*sound[:2], b"\xff", sound[3]]):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    speaker.take_heard()
    assert repeated(player, 2, notebook)
    await asyncio.sleep(1)
    assert len(speaker.take_heard()) == 4 * FRAME_BYTES
    await player.aclose()


def repeated(player: Player, turn: int, notebook: Notebook) -> bool:
    """Play the last reply once more, if there is one; whether there was."""
    last = player.last_reply()
    if last is not None:
        player.play(turn, last, notebook)
    return last is not None


async def pieces(*them: bytes, slowly_s: float = 0.0) -> AsyncGenerator[bytes, None]:
    for piece in them:
        await asyncio.sleep(slowly_s)
        yield piece


LOUD = b"\x00\x20" * 2400  # 100 ms
SOFT = b"\x00\x01" * 2400
EARCON = b"\x00\x10" * 4800  # 200 ms


@in_virtual_time
async def test_what_the_toy_says_by_itself_takes_the_place_of_what_it_said() -> None:
    speaker, notebook = VirtualSpeaker(), Notebook()
    player = Player(speaker)
    player.play(1, pieces(LOUD, LOUD, LOUD), notebook)
    await asyncio.sleep(0.15)
    player.play(2, pieces(SOFT), notebook)
    await asyncio.sleep(1)
    assert speaker.take_heard() == (LOUD * 3)[: SPEECH.bytes(150)] + SOFT
    assert notebook.lines == [("began", 1, 0), ("began", 2, 150), ("finished", 2, 250)]
    await player.aclose()


@in_virtual_time
async def test_a_source_that_is_stopped_is_closed() -> None:
    closed: list[str] = []

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield LOUD
        finally:
            await asyncio.sleep(0.1)  # a program that has to be ended
            closed.append("yes")

    player = Player(VirtualSpeaker())
    player.play(1, source(), Notebook())
    await asyncio.sleep(0.5)
    player.stop()
    assert closed == []
    await player.aclose()
    assert closed == ["yes"]


# --- earcons ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_earcon_is_heard_at_the_volume_of_the_rest_and_told_to_nobody() -> None:
    speaker = VirtualSpeaker()
    player = Player(speaker)
    assert player.make(EARCON, 0.5)
    await player.finish_earcon()
    assert speaker.take_heard() == quieter(EARCON, 0.5)
    await player.finish_earcon()
    await player.aclose()


@in_virtual_time
async def test_what_is_played_next_waits_for_the_end_of_an_earcon() -> None:
    speaker, notebook, sound = MonitoredSpeaker(), Notebook(), packets(3)
    player = Player(speaker)
    player.make(EARCON, 1.0)
    await asyncio.sleep(0.05)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    assert speaker.take_heard() == EARCON + decoded(sound)
    assert notebook.lines == [("began", 1, 200), ("finished", 1, 380)]
    await player.aclose()


@in_virtual_time
async def test_no_earcon_is_made_while_something_is_played_and_a_new_one_ends_the_old(
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker, notebook = VirtualSpeaker(), Notebook()
    player = Player(speaker)
    player.volume = 0.5
    player.play(1, pieces(LOUD, LOUD), notebook)
    await asyncio.sleep(0.05)
    assert not player.make(EARCON, 0.0)
    assert player.volume == 0.5, "of what is heard"
    player.volume = 1.0  # heard from the next piece on
    await asyncio.sleep(1)
    heard, soft = speaker.take_heard(), quieter(LOUD * 2, 0.5)
    louder = next(
        n for n in range(0, len(soft), SPEECH.bytes(20)) if heard[n] != soft[n] or heard[n + 1] != soft[n + 1]
    )
    assert heard == soft[:louder] + (LOUD * 2)[louder:]
    assert 50 <= SPEECH.ms(louder) <= 110 + 20, "no later than what the speaker had already"
    player.make(EARCON, 1.0)
    await asyncio.sleep(0.1)
    player.make(SOFT, 1.0)
    await asyncio.sleep(1)
    assert speaker.take_heard() == EARCON[: SPEECH.bytes(100)] + SOFT
    assert caplog.text == "", "two sounds met"
    await player.aclose()


@in_virtual_time
async def test_an_earcon_is_heard_in_a_reply_that_has_run_dry_and_what_comes_waits_for_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker, notebook, sound = VirtualSpeaker(), Notebook(), packets(8)
    player = Player(speaker)
    player.start(1, notebook)
    for sequence, packet in enumerate(sound[:4]):
        player.push(AudioFrame(1, sequence, packet))
    await asyncio.sleep(0.1)
    player.make(EARCON, 1.0)
    await asyncio.sleep(1)
    assert EARCON not in speaker.take_heard(), "the reply was being heard"
    player.make(EARCON, 1.0)
    await asyncio.sleep(0.05)
    for sequence, packet in enumerate(sound[4:], start=4):
        player.push(AudioFrame(1, sequence, packet))
    player.end(1)
    await asyncio.sleep(1)
    heard = speaker.take_heard()
    assert heard.startswith(EARCON)
    assert len(heard) == len(EARCON) + 4 * FRAME_BYTES
    assert [what for what, _, _ in notebook.lines] == ["began", "finished"]
    assert caplog.text == "", "two sounds met"
    await player.aclose()


@in_virtual_time
async def test_an_earcon_right_after_a_stop_is_heard() -> None:
    """The farewell of a toy that is switched off in the middle of a reply."""
    speaker, notebook = VirtualSpeaker(), Notebook()
    player = Player(speaker)
    player.play(1, pieces(LOUD, LOUD, LOUD), notebook)
    await asyncio.sleep(0.1)
    assert player.stop()
    player.make(EARCON, 1.0)
    await player.finish_earcon()
    assert speaker.take_heard() == LOUD + EARCON
    assert not player.stop(), "nothing was to be heard any more"
    await player.aclose()


@in_virtual_time
async def test_a_stop_ends_an_earcon_too() -> None:
    speaker = VirtualSpeaker()
    player = Player(speaker)
    player.make(EARCON, 1.0)
    await asyncio.sleep(0.1)
    assert player.stop()
    await asyncio.sleep(1)
    assert speaker.take_heard() == EARCON[: SPEECH.bytes(100)]
    await player.aclose()


@in_virtual_time
async def test_an_earcon_that_nobody_can_hear_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    player = Player(BrokenSpeaker())
    player.make(EARCON, 1.0)
    await player.finish_earcon()
    assert "no earcon" in caplog.text
    await player.aclose()
