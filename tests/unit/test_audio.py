"""Sound arithmetic, levels and WAV files."""

from __future__ import annotations

import array
import io
import math
import os
import struct
import tracemalloc
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.audio import (
    SILENCE_DBFS,
    SPEECH,
    AudioFormat,
    level_dbfs,
    quieter,
    read_recording,
    resample,
    wav_bytes,
    write_wav,
)
from pommai.errors import AudioError


def sine(hz: float, seconds: float, rate_hz: int = 24_000, peak: float = 0.5) -> bytes:
    """A sine tone as 16 bit mono PCM."""
    n = int(seconds * rate_hz)
    return array.array("h", (int(32767 * peak * math.sin(2 * math.pi * hz * i / rate_hz)) for i in range(n))).tobytes()


def snr_db(reference: bytes, actual: bytes) -> float:
    """Signal-to-noise ratio of `actual` against `reference`, over their common length."""
    a, b = array.array("h", reference), array.array("h", actual)
    signal = sum(x * x for x, _ in zip(a, b, strict=False))
    noise = sum((x - y) ** 2 for x, y in zip(a, b, strict=False))
    return 10 * math.log10(signal / max(noise, 1))


@given(st.integers(0, 10_000))
def test_ms_and_bytes_are_inverse_on_whole_ms(ms: int) -> None:
    assert SPEECH.ms(SPEECH.bytes(ms)) == ms
    assert SPEECH.bytes(ms) == 2 * SPEECH.samples(ms)


def test_bytes_are_always_whole_samples() -> None:
    assert AudioFormat(11_025).bytes(0.1) % 2 == 0


@pytest.mark.parametrize(
    ("pcm", "expected"),
    [
        (b"", SILENCE_DBFS),
        (bytes(480), SILENCE_DBFS),
        (array.array("h", [-32768] * 100).tobytes(), 0.0),
        (sine(1000, 0.1, peak=1.0), -3.01),
        (sine(1000, 0.1, peak=0.1), -23.01),
    ],
)
def test_levels_are_rms_in_dbfs(pcm: bytes, expected: float) -> None:
    assert level_dbfs(pcm) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("volume", "lower_db"), [(1.0, 0.0), (0.5, 6.02), (0.1, 20.0)])
def test_a_volume_is_a_factor(volume: float, lower_db: float) -> None:
    tone = sine(1000, 0.1)
    assert level_dbfs(tone) - level_dbfs(quieter(tone, volume)) == pytest.approx(lower_db, abs=0.05)


def test_no_volume_is_silence_and_full_volume_changes_nothing() -> None:
    tone = sine(1000, 0.1)
    assert quieter(tone, 0.0) == bytes(len(tone))
    assert quieter(tone, 1.0) is tone


def test_a_wav_file_survives_being_written_and_read(tmp_path: Path) -> None:
    pcm = os.urandom(4_800)
    write_wav(tmp_path / "a.wav", pcm)
    assert read_recording(tmp_path / "a.wav").pcm == pcm


def test_resampling_keeps_a_tone_and_its_length() -> None:
    tone = resample(sine(440, 1.0, rate_hz=48_000), 48_000, 24_000)
    assert len(tone) == pytest.approx(48_000, abs=4)
    assert snr_db(sine(440, 1.0)[4_800:-4_800], tone[4_800:-4_800]) > 40
    assert resample(tone, 24_000, 24_000) is tone


def wav(pcm: bytes, *, channels: int, width: int, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    return buffer.getvalue()


def widened(pcm16: bytes, width: int) -> bytes:
    """16 bit samples as samples of `width` bytes, as a WAV file holds them."""
    samples = array.array("h", pcm16)
    if width == 1:
        return bytes((s >> 8) + 128 for s in samples)
    return b"".join(bytes(width - 2) + s.to_bytes(2, "little", signed=True) for s in samples)


@pytest.mark.parametrize(("width", "least_db"), [(1, 25), (2, 90), (3, 90), (4, 90)])
def test_every_pcm_width_is_read(tmp_path: Path, width: int, least_db: float) -> None:
    tone = sine(440, 0.2)
    (tmp_path / "a.wav").write_bytes(wav(widened(tone, width), channels=1, width=width, rate_hz=24_000))
    assert snr_db(tone, read_recording(tmp_path / "a.wav").pcm) > least_db


def test_48_khz_stereo_is_averaged_and_resampled(tmp_path: Path) -> None:
    left = array.array("h", sine(440, 0.5, rate_hz=48_000))
    stereo = array.array("h", (sample for value in left for sample in (value, 0))).tobytes()
    (tmp_path / "a.wav").write_bytes(wav(stereo, channels=2, width=2, rate_hz=48_000))
    pcm = read_recording(tmp_path / "a.wav").pcm
    assert SPEECH.ms(len(pcm)) == pytest.approx(500, abs=1)
    assert snr_db(sine(440, 0.5, peak=0.25)[4_800:-4_800], pcm[4_800:-4_800]) > 35


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a WAV file"),
        (b"ID3 this is no WAV file", "is not a WAV file"),
        (wav_bytes(b""), "holds no sound"),
        (wav_bytes(bytes(100))[:40], "is not a WAV file"),
        (wav(bytes(100), channels=1, width=2, rate_hz=1_000), "unusable format: 1000 Hz"),
        (wav(bytes(90), channels=9, width=2, rate_hz=24_000), "9 channels"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"x\.wav") as raised:
        read_recording(path)
    assert told in str(raised.value)


def test_what_is_no_file_is_refused_by_name_and_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    for path, told in [
        (tmp_path / "none.wav", "none.wav: there is no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "pipe.wav", "pipe.wav is a pipe or a device"),
        (Path("/dev/null"), "/dev/null is a pipe or a device"),
        (tmp_path / "loop.wav", "loop.wav cannot be read: Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (Path("/dev/null/x.wav"), "cannot be read: Not a directory"),
        (Path("/proc/self/mem"), "cannot be read: Input/output error"),
        (Path("a\0b"), r"'a\\x00b' cannot be the name of a file"),
    ]:
        with pytest.raises(AudioError, match=told):
            read_recording(path)


PCM_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk of a RIFF file, which may lie about its size."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def fmt(tag: int = 1, *, channels: int = 1, rate_hz: int = 24_000, bits: int = 16, frame_bytes: int = 2) -> bytes:
    return struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)


def extensible(sub_format: int) -> bytes:
    """WAVE_FORMAT_EXTENSIBLE: 22 more bytes, with valid bits, speaker positions and the sub-format's GUID."""
    return fmt(0xFFFE) + struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", sub_format) + PCM_GUID_TAIL


@pytest.mark.parametrize(
    "content",
    [
        riff(chunk(b"fmt ", extensible(1)), chunk(b"data", sine(440, 0.1))),
        riff(chunk(b"LIST", b"odd"), chunk(b"fmt ", fmt() + bytes(2)), chunk(b"data", sine(440, 0.1))),
        riff(chunk(b"fmt ", fmt()), chunk(b"data", sine(440, 0.1), size=0xFFFFFFFF)),  # written into a pipe
        riff(chunk(b"fmt ", fmt()), chunk(b"data", sine(440, 0.1)), chunk(b"LIST", b"", size=0xFFFFFFFF)),
    ],
    ids=["extensible", "chunk before the format", "endless", "broken chunk after the samples"],
)
def test_every_way_to_write_pcm_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert read_recording(tmp_path / "a.wav").pcm == sine(440, 0.1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            riff(chunk(b"fmt ", fmt(3, bits=32, frame_bytes=4)), chunk(b"data", bytes(8))),
            "holds floating-point samples",
        ),
        (riff(chunk(b"fmt ", extensible(3)), chunk(b"data", bytes(8))), "holds floating-point samples"),
        (riff(chunk(b"fmt ", fmt(0x55)), chunk(b"data", bytes(8))), "compressed samples (WAV format 0x0055)"),
        (riff(chunk(b"fmt ", fmt()[:12]), chunk(b"data", bytes(8))), "its format is cut off"),
        (riff(chunk(b"data", bytes(8)), chunk(b"fmt ", fmt())), "ends before its samples"),
        (riff(chunk(b"LIST", bytes(4), size=0xFFFFFFFF), chunk(b"data", bytes(8))), "ends before its samples"),
        (riff(chunk(b"fmt ", fmt(channels=2)), chunk(b"data", bytes(8))), "contradicts itself"),
        (riff(chunk(b"fmt ", fmt(bits=0, frame_bytes=0)), chunk(b"data", bytes(8))), "unusable format"),
        (b"RIFF\0\0\0\0AVI ", "does not begin with RIFF and WAVE"),
    ],
)
def test_what_is_no_pcm_is_refused_with_the_reason(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"x\.wav") as raised:
        read_recording(tmp_path / "x.wav")
    assert told in str(raised.value) and "()" not in str(raised.value)


@given(st.binary(max_size=80))
def test_no_bytes_make_the_reader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVEfmt " + content)
    try:
        recording = read_recording(path)
    except AudioError:
        return
    assert recording.pcm


def test_of_ten_minutes_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    n_bytes = 600 * 48_000 * 4
    path = tmp_path / "endless.wav"
    format_chunk = chunk(b"fmt ", fmt(channels=2, rate_hz=48_000, frame_bytes=4))
    path.write_bytes(riff(format_chunk, chunk(b"data", b"", size=n_bytes)))
    os.truncate(path, path.stat().st_size + n_bytes)
    tracemalloc.start()
    try:
        recording = read_recording(path, max_s=21)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert recording.whole_s == 600
    assert SPEECH.ms(len(recording.pcm)) == pytest.approx(21_000, abs=1)
    assert peak_bytes < 20_000_000
