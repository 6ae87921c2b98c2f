"""Sound as numbers: formats, arithmetic, levels, resampling and WAV files.

Everywhere in pommai, PCM is `bytes`: signed 16 bit little-endian samples, one channel, 24,000 Hz unless an
`AudioFormat` beside it says otherwise. The toy imports this module, so numpy and soxr are loaded only where used.
"""

from __future__ import annotations

import array
import io
import math
import os
import stat
import struct
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pommai.errors import AudioError, MissingExtra

FULL_SCALE = 32768
"""Magnitude of the most negative 16 bit sample: 0 dBFS."""

SILENCE_DBFS = -100.0
"""What `level_dbfs` returns for digital silence, instead of minus infinity."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Sample rate in Hz of mono 16 bit PCM, with the arithmetic between ms, samples and bytes."""

    rate_hz: int = 24_000

    SAMPLE_BYTES = 2

    def samples(self, ms: float) -> int:
        """Whole samples in `ms` milliseconds, rounded down."""
        return int(self.rate_hz * ms / 1000)

    def bytes(self, ms: float) -> int:
        """Bytes in `ms` milliseconds; always a whole number of samples."""
        return self.samples(ms) * self.SAMPLE_BYTES

    def ms(self, n_bytes: int) -> float:
        """Milliseconds that `n_bytes` of PCM last."""
        return n_bytes * 1000 / (self.SAMPLE_BYTES * self.rate_hz)


SPEECH = AudioFormat(24_000)
"""The one format on the wire, in the toy and out of every TTS adapter."""


def level_dbfs(pcm: bytes) -> float:
    """RMS level of 16 bit mono PCM in dBFS (0 = full-scale square wave), at least `SILENCE_DBFS`."""
    samples = array.array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    if not samples:
        return SILENCE_DBFS
    mean_square = sum(s * s for s in samples) / len(samples)
    if mean_square == 0:
        return SILENCE_DBFS
    return max(SILENCE_DBFS, 10 * math.log10(mean_square / FULL_SCALE**2))


def quieter(pcm: bytes, volume: float) -> bytes:
    """16 bit mono PCM with every sample times `volume`, 0.0 to 1.0; at full volume the very same bytes."""
    if volume >= 1.0:
        return pcm
    samples = array.array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    scaled = array.array("h", (int(sample * volume) for sample in samples))
    if sys.byteorder == "big":
        scaled.byteswap()
    return scaled.tobytes()


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """16 bit mono PCM at `from_hz` to the same at `to_hz`, band-limited (soxr, its default high quality).

    Raises MissingExtra where soxr is not installed; never needed on the toy, whose sound card runs at 24 kHz.
    """
    if from_hz == to_hz:
        return pcm
    try:
        import numpy as np
        import soxr
    except ImportError as error:
        raise MissingExtra(f"resampling {from_hz} Hz to {to_hz} Hz needs the package soxr") from error
    samples = np.frombuffer(pcm, dtype="<i2")
    resampled: bytes = soxr.resample(samples, from_hz, to_hz).astype("<i2").tobytes()
    return resampled


@dataclass(frozen=True, slots=True)
class Recording:
    """What was read of a WAV file, as mono PCM in the `SPEECH` format, and the seconds that the whole file lasts."""

    pcm: bytes
    whole_s: float


def read_recording(path: Path, max_s: float = math.inf) -> Recording:
    """The first `max_s` seconds of the WAV file at `path`: channels averaged, any rate resampled.

    Raises AudioError, with the file's name and what is wrong, for anything that is not a usable recording.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would be to wait for its writer
            raise AudioError(f"{path} is {'a directory' if path.is_dir() else 'a pipe or a device'}, not a WAV file")
        with path.open("rb") as file:
            return _recording(file, path, max_s)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise AudioError(f"{path} may not be read by this user") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or 'the disk reports an error'}") from error
    except ValueError as error:
        raise AudioError(f"{str(path)!r} cannot be the name of a file") from error


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the samples of a WAV file lie: bytes a sample, interleaved channels, frames a second."""

    channels: int
    width: int
    rate_hz: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.width


_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
"""Format tags of RIFF/WAVE (mmreg.h)."""

_EXTENSIBLE_BYTES = 40
"""An extensible format chunk: its sub-format begins, at byte 24, with a plain format tag."""


def _recording(file: BinaryIO, path: Path, max_s: float) -> Recording:
    """Walk the chunks of an open file: the format, then the samples. Sizes are believed only as far as the file goes.

    The module `wave` would do, but before Python 3.12 it knows no extensible format, and recorders that write into a
    pipe leave sizes that it stumbles over.
    """
    riff = file.read(12)
    if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise AudioError(f"{path} is not a WAV file: it does not begin with RIFF and WAVE")
    layout = None
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"fmt ":
            layout = _layout(file.read(min(size, _EXTENSIBLE_BYTES)), path)
        elif name == b"data" and layout is not None:
            size = min(size, os.fstat(file.fileno()).st_size - start)
            n_frames = max(0, size) // layout.frame_bytes
            pcm = _samples(file, layout, int(min(n_frames, max_s * layout.rate_hz)))
            if not pcm:
                raise AudioError(f"{path} holds no sound: it has no samples")
            return Recording(pcm, n_frames / layout.rate_hz)
        file.seek(start + size + size % 2)
    raise AudioError(f"{path} is not a WAV file: it ends before its samples")


def _layout(chunk: bytes, path: Path) -> _Layout:
    """The layout that a format chunk describes. Raises AudioError for samples that are no PCM, or of no use."""
    if len(chunk) < 16:
        raise AudioError(f"{path} is not a WAV file: its format is cut off")
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) == _EXTENSIBLE_BYTES:
        tag = int.from_bytes(chunk[24:26], "little")
    if tag != _PCM:
        kind = "floating-point" if tag == _FLOAT else "compressed"
        raise AudioError(f"{path} holds {kind} samples (WAV format 0x{tag:04x}), not PCM")
    layout = _Layout(channels, (bits + 7) // 8, rate_hz)
    if not (1 <= channels <= 8 and 1 <= layout.width <= 4 and 8000 <= rate_hz <= 192_000):
        raise AudioError(f"{path} has an unusable format: {rate_hz} Hz, {channels} channels, {bits} bit")
    if frame_bytes != layout.frame_bytes:
        raise AudioError(f"{path} contradicts itself: {channels} channels of {bits} bit are not {frame_bytes} bytes")
    return layout


def _samples(file: BinaryIO, layout: _Layout, n_frames: int) -> bytes:
    """`n_frames` from here on in the `SPEECH` format; second by second, so that no more than needed is in memory."""
    mono = bytearray()
    for done in range(0, n_frames, layout.rate_hz):
        raw = file.read(min(layout.rate_hz, n_frames - done) * layout.frame_bytes)
        mono += _mono16(raw, layout.channels, layout.width)
    return resample(bytes(mono), layout.rate_hz, SPEECH.rate_hz)


def _mono16(raw: bytes, channels: int, width: int) -> bytes:
    """Interleaved PCM of `width` bytes a sample to mono 16 bit, averaging the channels."""
    if channels == 1 and width == 2:
        return raw[: len(raw) // 2 * 2]
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtra("a WAV file that is not 16 bit mono needs the package numpy") from error
    raw = raw[: len(raw) // (channels * width) * channels * width]
    if width == 1:  # 8 bit WAV is unsigned
        samples = (np.frombuffer(raw, dtype=np.uint8).astype(np.int32) - 128) << 8
    else:  # the two most significant bytes of each little-endian sample
        columns = np.frombuffer(raw, dtype=np.uint8).reshape(-1, width)[:, width - 2 :]
        samples = np.ascontiguousarray(columns).view("<i2").reshape(-1).astype(np.int32)
    mono: bytes = samples.reshape(-1, channels).mean(axis=1).round().astype("<i2").tobytes()
    return mono


def write_wav(path: Path, pcm: bytes, audio_format: AudioFormat = SPEECH) -> None:
    """Write mono 16 bit `pcm` to `path` as a RIFF/WAVE file, replacing what is there."""
    path.write_bytes(wav_bytes(pcm, audio_format))


def wav_bytes(pcm: bytes, audio_format: AudioFormat = SPEECH) -> bytes:
    """Mono 16 bit `pcm` as the bytes of a RIFF/WAVE file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(AudioFormat.SAMPLE_BYTES)
        wav.setframerate(audio_format.rate_hz)
        wav.writeframes(pcm)
    return buffer.getvalue()
