"""The sound card over a real PulseAudio: what is heard and played, at 24 and 48 kHz, and how it goes and comes back."""

from __future__ import annotations

import asyncio
import logging
import math
import statistics
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pommai.audio import SPEECH, level_dbfs
from pommai.device.body import sound
from pommai.device.body.sound import PatientSoundCard, SoundCard
from pommai.errors import HardwareError
from tests.pulse import FAST_MS, PATIENCE_S, Pulse, noise, running_pulse

SEARCH_S = 0.1


def tone(seconds: float, hz: float = 1000.0) -> bytes:
    samples = [round(8000 * math.sin(2 * math.pi * hz * n / 24_000)) for n in range(round(24_000 * seconds))]
    return struct.pack(f"<{len(samples)}h", *samples)


class Listener:
    """What the microphone gave."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self._more = asyncio.Event()

    def hear(self, pcm: bytes) -> None:
        self.pcm += pcm
        self._more.set()

    async def until(self, is_there: Callable[[bytes], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_there(bytes(self.pcm)):
                self._more.clear()
                await self._more.wait()


class Changes:
    """What a patient card says about itself, to be waited for."""

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self._more = asyncio.Event()

    def note(self, present: bool) -> None:
        self.seen.append(present)
        self._more.set()

    async def until(self, *expected: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.seen != list(expected):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def patient_card() -> AsyncIterator[tuple[PatientSoundCard, Changes]]:
    changes = Changes()
    async with PatientSoundCard(on_change=changes.note, search_s=SEARCH_S) as card:
        yield card, changes


def part(pcm: bytes) -> bytes:
    """The middle of a second of noise: its ends may be cut, and the middle must be there bit by bit."""
    return pcm[9600:28_800]


async def test_an_unknown_card_is_answered_with_the_known_ones(pulse: Pulse) -> None:
    with pytest.raises(HardwareError, match=r"called 'seeed'; there are: .*default.*toybox"):
        async with SoundCard("seeed"):
            pass


async def test_what_is_said_in_the_room_is_heard_bit_by_bit(pulse: Pulse, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = Listener(), Listener()
    async with SoundCard("TOYbox") as card:
        card.mic.open(first.hear)
        with pytest.raises(HardwareError, match="open already"):
            card.mic.open(first.hear)
        await pulse.say(noise(1.0))
        await first.until(lambda pcm: part(noise(1.0)) in pcm)
        card.mic.close()
        so_far = len(first.pcm)
        card.mic.open(second.hear)  # the next listener: the first hears nothing more
        await second.until(bool)
        assert len(first.pcm) == so_far
        assert card.mic.xruns == 0
    assert capfd.readouterr().err == ""


async def test_what_is_played_reaches_the_ear_bit_by_bit_and_in_real_time(pulse: Pulse) -> None:
    played = noise(1.0)
    async with SoundCard() as card, pulse.record() as ear, asyncio.timeout(PATIENCE_S):
        began_s = time.monotonic()
        for start in range(0, len(played), 960):
            await card.speaker.write(played[start : start + 960])
        await card.speaker.drain()
        assert 0.9 < time.monotonic() - began_s < 2.5
        await ear.until(lambda pcm: part(played) in pcm)
        assert card.speaker.xruns == 0


async def test_a_flushed_speaker_is_silent_within_50_ms(pulse: Pulse, record_property: Callable[..., None]) -> None:
    took_ms = []
    async with SoundCard() as card, pulse.record() as ear:
        for _ in range(5):
            heard_before = len(ear.pcm)
            writing = asyncio.create_task(card.speaker.write(tone(2.0)))
            await ear.until(lambda pcm, start=heard_before: level_dbfs(pcm[start:][-4800:]) > -20)
            card.speaker.flush()
            flushed_s = time.monotonic()
            await writing
            await ear.until(lambda pcm: not any(pcm[-4800:]))
            last = max(n for n, sample in enumerate(bytes(ear.pcm)) if sample) // 2
            took_ms.append(1000 * (ear.began_s + last / SPEECH.rate_hz - flushed_s))
    record_property("flush_ms", took_ms)
    assert statistics.median(took_ms) < 50
    assert max(took_ms) < 50 + FAST_MS, "the ear hears in pieces of that length"


async def test_a_card_that_runs_dry_is_counted_and_goes_on(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    holds_s = [0.0] * 20 + [0.2]  # the callback is held up once, longer than the card has sound for

    async with SoundCard() as card, pulse.record() as ear:
        give = card.speaker.give

        def slow_give(n_bytes: int, *, underflow: bool = False) -> bytes:
            time.sleep(holds_s.pop(0) if holds_s else 0.0)
            return give(n_bytes, underflow=underflow)

        monkeypatch.setattr(card.speaker, "give", slow_give)
        await card.speaker.write(noise(2.0))
        await card.speaker.drain()
        await ear.until(lambda pcm: noise(2.0)[48_000:86_400] in pcm)
        assert 1 <= card.speaker.xruns <= 3


async def test_a_card_that_vanishes_while_speaking_is_found_again(
    pulse: Pulse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pommai.device.body.sound")
    async with patient_card() as (card, changes):
        assert changes.seen == [True]
        writing = asyncio.create_task(card.speaker.write(noise(5.0)))
        await asyncio.sleep(0)
        pulse.vanish()
        with pytest.raises(HardwareError, match="the sound card has gone"):
            await asyncio.wait_for(writing, 2.0)
        await changes.until(True, False)
        assert not card.present
        with pytest.raises(HardwareError, match="no sound card to play with"):
            await card.speaker.drain()
        await pulse.return_()
        await changes.until(True, False, True)
        async with pulse.record() as ear:
            await card.speaker.write(noise(1.0))
            await card.speaker.drain()
            await ear.until(lambda pcm: part(noise(1.0)) in pcm)
    assert [record.getMessage() for record in caplog.records] == [
        "sound: the card is open, in_hz=24000 out_hz=24000",
        f"sound: the card has gone, code=inactive; looking for it every {SEARCH_S} s",
        "sound: the card is open, in_hz=24000 out_hz=24000",
    ]


async def test_a_card_that_vanishes_while_listening_is_found_again(pulse: Pulse) -> None:
    before, after = Listener(), Listener()
    async with patient_card() as (card, changes):
        card.mic.open(before.hear)
        await before.until(bool)
        pulse.vanish()
        await changes.until(True, False)
        with pytest.raises(HardwareError, match="no sound card to listen with"):
            card.mic.open(after.hear)
        await pulse.return_()
        await changes.until(True, False, True)
        so_far = len(before.pcm)
        card.mic.open(after.hear)
        await pulse.say(noise(1.0))
        await after.until(lambda pcm: part(noise(1.0)) in pcm)
        card.mic.close()
        assert len(before.pcm) == so_far


async def test_a_card_that_hangs_holds_up_neither_the_loop_nor_the_end(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, left_behind = asyncio.get_running_loop(), asyncio.Event()
    log = logging.getLogger("pommai.device.body.sound")

    def notice(record: logging.LogRecord) -> bool:
        if record.getMessage() == "sound: the card hangs and is left behind":
            left_behind.set()
        return True

    monkeypatch.setattr(log, "filters", [notice])
    async with patient_card() as (card, changes):
        pulse.freeze()
        writing = asyncio.create_task(card.speaker.write(noise(5.0)))
        with pytest.raises(HardwareError, match="the sound card has gone"):
            await asyncio.wait_for(writing, 3.0)
        await changes.until(True, False)
        async with asyncio.timeout(PATIENCE_S):
            await left_behind.wait()
        assert not card.present
        pulse.thaw()
        await changes.until(True, False, True)
        pulse.freeze()
        ends_s = loop.time()
    assert loop.time() - ends_s < sound.CLOSE_S + 0.5
    pulse.thaw()  # its thread ends now


async def test_without_a_card_a_patient_one_waits_until_there_is_one(
    pulse: Pulse, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pulse.vanish()
    async with patient_card() as (card, changes):
        assert not card.present
        with pytest.raises(HardwareError, match="no sound card to listen with"):
            card.mic.open(lambda pcm: None)
        await pulse.return_()
        await changes.until(True)
        assert card.present
    assert [record.getMessage() for record in caplog.records] == [
        f"sound: there is no microphone; looking for it every {SEARCH_S} s"
    ]
    assert capfd.readouterr().err == ""


# --- a card that knows 48 kHz stereo alone ----------------------------------------------------------------------------


@pytest.fixture
def picky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """A room at 48 kHz stereo, and a PortAudio that refuses everything else as it does for such hardware."""
    import pyaudio

    really = pyaudio.PyAudio.open

    def open_(self: Any, *, rate: int, channels: int, **options: Any) -> Any:
        if rate != 48_000:
            raise OSError(-9997, "Invalid sample rate")
        if channels != 2:
            raise OSError(-9998, "Invalid number of channels")
        return really(self, rate=rate, channels=channels, **options)

    monkeypatch.setattr(pyaudio.PyAudio, "open", open_)
    with running_pulse(tmp_path, rate_hz=48_000, channels=2) as pulse:
        for name, value in pulse.changes.items():
            monkeypatch.setenv(name, value)
        yield pulse


async def test_a_card_that_refuses_24_khz_is_used_at_48_khz(picky: Pulse, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pommai.device.body.sound")
    listener, said = Listener(), tone(0.5)
    loud = level_dbfs(said)
    async with SoundCard() as card, picky.record() as ear:
        card.mic.open(listener.hear)
        await picky.say(said)
        await listener.until(lambda pcm: level_dbfs(pcm[-4800:]) < -60 and level_dbfs(pcm) > -60)
        card.mic.close()
        await card.speaker.write(said)
        await card.speaker.drain()
        await ear.until(lambda pcm: level_dbfs(pcm[-4800:]) < -60 and level_dbfs(pcm) > -60)
    assert "in_hz=48000 out_hz=48000" in caplog.text
    for heard in (bytes(listener.pcm), bytes(ear.pcm)):
        pieces = [heard[start : start + 960] for start in range(0, len(heard), 960)]
        sounding = [piece for piece in pieces if level_dbfs(piece) > loud - 1]
        assert 0.44 <= 0.02 * len(sounding) <= 0.52  # as long as it was said
        middle = sounding[2:-2]
        assert all(level_dbfs(piece) == pytest.approx(loud, abs=0.5) for piece in middle)  # as loud
        rising = sum(one <= 0 < two for one, two in zip(*_neighbours(b"".join(middle)), strict=True))
        assert rising == pytest.approx(20 * len(middle), abs=2)  # and as high


def _neighbours(pcm: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return samples[:-1], samples[1:]


async def test_a_card_that_refuses_everything_is_an_error(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyaudio

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(-9997, "Invalid sample rate")

    monkeypatch.setattr(pyaudio.PyAudio, "open", refuse)
    with pytest.raises(HardwareError, match="cannot be opened: Invalid sample rate"):
        async with SoundCard():
            pass
