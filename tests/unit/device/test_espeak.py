"""The voice of last resort: real sound from the real program, and every way in which a program can fail."""

from __future__ import annotations

import array
import asyncio
import math
import random
import struct
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from pommai import starter
from pommai.audio import SPEECH, level_dbfs
from pommai.device.speech import espeak
from pommai.device.speech.espeak import Resampler, find_espeak, speak, speech
from pommai.errors import HardwareError, MissingExtra

HEAD = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 22_050, 44_100, 2, 16, b"data", 0)
"""What espeak-ng puts before its samples, but for the sizes."""

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program out of the lines of a shell script; it finds a WAV head in `$HEAD`'s file."""
    (tmp_path / "head").write_bytes(HEAD)

    def make(lines: str) -> str:
        path = tmp_path / "espeak-ng"
        path.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{lines}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make


def sine(rate_hz: int, s: float, hz: float = 1000.0, level: int = 20_000) -> bytes:
    return array.array(
        "h", [int(level * math.sin(math.tau * hz * n / rate_hz)) for n in range(int(rate_hz * s))]
    ).tobytes()


def is_gone(pid_file: Path) -> bool:
    """Whether the process has ended and was reaped: a zombie still has its folder."""
    return not Path(f"/proc/{pid_file.read_text().strip()}").exists()


async def test_a_phrase_becomes_sound_that_lasts_about_as_long_as_it_should() -> None:
    text = next(phrase.text for phrase in starter.load() if phrase.id == "story-1")
    pcm = await speak(text)
    assert 1.5 <= starter.words(text) / (SPEECH.ms(len(pcm)) / 1000) <= 4
    assert -35 <= level_dbfs(pcm) <= -10


async def test_the_first_sound_comes_before_the_last_is_made() -> None:
    text = " ".join(phrase.text for phrase in starter.load())
    async with aclosing(speech(text)) as pieces:
        piece = await anext(pieces)
    assert 0 < SPEECH.ms(len(piece)) < 300


@pytest.mark.parametrize(
    "text", ["--help", "-f /etc/passwd", "[[ hello", "<speak>hello</speak>", "caf\u00e9 \ud800 \u2603"]
)
async def test_no_text_is_taken_for_anything_but_words(text: str) -> None:
    assert SPEECH.ms(len(await speak(text))) > 100


@pytest.mark.parametrize("text", ["", "   "])
async def test_where_there_is_nothing_to_say_an_error_tells_so(text: str) -> None:
    with pytest.raises(HardwareError, match="gave no sound"):
        await speak(text)


async def test_the_text_is_on_standard_input_and_in_no_argument(program: Program, tmp_path: Path) -> None:
    fake = program('echo "$@" > arguments; cat > words; cat head; yes | head -c 4000')
    await speak("canary", fake)
    assert (tmp_path / "words").read_text(encoding="utf-8") == "canary"
    assert "canary" not in (tmp_path / "arguments").read_text(encoding="utf-8")
    assert "--stdin" in (tmp_path / "arguments").read_text(encoding="utf-8")


async def test_of_a_text_that_is_too_long_the_beginning_is_spoken(program: Program, tmp_path: Path) -> None:
    fake = program("cat > words; cat head; yes | head -c 4000")
    await speak("a" * 5000, fake)
    assert (tmp_path / "words").read_text(encoding="utf-8") == "a" * espeak.MAX_CHARS


async def test_sound_may_come_in_crumbs(program: Program) -> None:
    """Each `head` is a process of its own, so the reader sees the file's head, and one sample, in two parts."""
    whole = await speak("hi", program("cat head; yes | head -c 8821"))
    crumbs = (
        "head -c 20 head; sleep 0.1; tail -c +21 head; yes | head -c 1; sleep 0.1; (printf '\\n'; yes) | head -c 8820"
    )
    assert await speak("hi", program(crumbs)) == whole


async def test_sound_without_end_is_cut(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "MAX_S", 2.0)
    pcm = await speak("on and on", program("echo $$ > pid; cat head; exec yes"))
    assert SPEECH.ms(len(pcm)) == pytest.approx(2000, abs=10)
    assert is_gone(tmp_path / "pid")


async def test_a_listener_who_has_heard_enough_ends_the_program(program: Program, tmp_path: Path) -> None:
    async with aclosing(speech("hi", program("echo $$ > pid; cat head; exec yes"))) as pieces:
        await anext(pieces)
    assert is_gone(tmp_path / "pid")


async def test_a_listener_who_is_cancelled_ends_the_program(program: Program, tmp_path: Path) -> None:
    heard = asyncio.Event()

    async def listen() -> None:
        async with aclosing(
            speech("hi", program("echo $$ > pid; cat head; yes | head -c 9000; exec sleep 1000"))
        ) as pieces:
            async for _ in pieces:
                heard.set()

    listening = asyncio.create_task(listen())
    await heard.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert is_gone(tmp_path / "pid")


@pytest.mark.parametrize("lines", ["echo $$ > pid; exec sleep 1000", "echo $$ > pid; cat head; exec sleep 1000"])
async def test_a_program_that_hangs_is_ended(
    lines: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "STALLED_S", 0.5)
    with pytest.raises(HardwareError, match="no sound for"):
        await speak("hi", program(lines))
    assert is_gone(tmp_path / "pid")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("exit 1", "gave no sound"),
        ("exec >&-; exit 0", "gave no sound"),
        ("head -c 20 head", "gave no sound"),
        ("cat head head | tail -c +2", "no sound that can be played"),
        ("cat head", "gave no sound"),
        ("cat head; printf x", "gave no sound"),
        ("cat head; head -c 9000 /dev/zero", "gave no sound"),
        ("cat head; yes | head -c 9000; exit 3", "failed before it had said everything"),
        ("cat head; yes | head -c 9000; kill -SEGV $$", "failed before it had said everything"),
    ],
)
async def test_a_program_that_fails_is_told(lines: str, told: str, program: Program) -> None:
    with pytest.raises(HardwareError, match=told) as raised:
        await speak("canary" * 300, program(lines))
    assert "apt install espeak-ng" in raised.value.remedy
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": 3},
        {"channels": 2},
        {"bits": 8},
        {"rate_hz": 4000},
        {"rate_hz": 96_000},
    ],
)
async def test_sound_of_another_kind_is_refused(fields: dict[str, int], program: Program, tmp_path: Path) -> None:
    fake = program("cat head; yes | head -c 9000")
    kind = {"tag": 1, "channels": 1, "rate_hz": 22_050, "bits": 16} | fields
    head = struct.pack("<HHIIHH", kind["tag"], kind["channels"], kind["rate_hz"], 44_100, 2, kind["bits"])
    (tmp_path / "head").write_bytes(HEAD[:20] + head + HEAD[36:])
    with pytest.raises(HardwareError, match="no sound that can be played"):
        await speak("hi", fake)


async def test_without_the_program_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_espeak() is None
    with pytest.raises(MissingExtra) as raised:
        await speak("hi")
    assert "apt install espeak-ng" in raised.value.remedy


@pytest.mark.parametrize("content", [b"", b"\x7fELF nothing", None])
async def test_a_program_that_cannot_be_started_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "espeak-ng"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HardwareError, match="cannot be started"):
        await speak("hi", str(path))


@pytest.mark.parametrize("from_hz", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_resampling_keeps_pitch_level_and_length(from_hz: int) -> None:
    resampler = Resampler(from_hz)
    pcm = resampler.push(sine(from_hz, 1.0)) + resampler.flush()
    assert len(pcm) == SPEECH.bytes(1000)
    heard, wanted = array.array("h", pcm), array.array("h", sine(SPEECH.rate_hz, 1.0))
    assert max(abs(a - b) for a, b in zip(heard[:-2], wanted[:-2], strict=True)) < 0.03 * 20_000


def test_pieces_of_any_size_give_the_same_sound() -> None:
    pcm, sizes = sine(22_050, 0.5), random.Random(7)
    whole, pieces = Resampler(22_050), Resampler(22_050)
    heard, rest = b"", pcm
    while rest:
        size = sizes.choice([1, 3, 101, 293, 294, 295, 296, 4001])
        heard, rest = heard + pieces.push(rest[:size]), rest[size:]
    assert heard + pieces.flush() == whole.push(pcm) + whole.flush()


@pytest.mark.parametrize(("n_bytes", "n_samples"), [(0, 0), (1, 0), (2, 1), (3, 1), (294, 160), (296, 161)])
def test_the_last_sound_is_neither_lost_nor_lengthened(n_bytes: int, n_samples: int) -> None:
    resampler = Resampler(22_050)
    heard = resampler.push(b"\x01" * n_bytes) + resampler.flush()
    assert heard == b"\x01" * 2 * n_samples


def test_the_loudest_sound_stays_within_16_bits() -> None:
    resampler = Resampler(22_050)
    pcm = array.array("h", [-32_768, 32_767] * 500).tobytes()
    heard = array.array("h", resampler.push(pcm) + resampler.flush())
    assert (min(heard), max(heard)) == (-32_768, 32_767)
