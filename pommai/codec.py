"""Opus through opuslib, and G.711 mu-law by table.

opuslib's own encode and decode allocate fresh ctypes buffers at every call; the classes here call the same bound
functions with buffers of their own, kept for the life of the stream. An instance belongs to one stream and to one
thread at a time. Importing opuslib runs `ldconfig`, so it happens when the first codec is made, not before.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any, Final

from pommai.audio import SPEECH, AudioFormat
from pommai.errors import AudioError, LocalProtocolError, MissingExtra

BITRATE_BPS: Final = 24_000
"""Opus payload, before any header: the rate at which 60 ms frames stay under 38.4 kbit/s on the wire."""

COMPLEXITY: Final = 5
"""Measured on the wire budget's reference speech: 10 costs twice the CPU of 5 on a Cortex-A53 for little gain."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What an encoder is made for: `bitrate_bps` of payload, and whether it is to be light on the CPU.

    A light one uses CELT alone and keeps what is below 8 kHz, which is all that recognisers hear; Opus's own choice for
    speech adds SILK, at four times the CPU, and no more words are recognised (bench/RESULTS.md).
    """

    bitrate_bps: int
    light: bool


FOR_EARS: Final = Tuning(BITRATE_BPS, light=False)
FOR_A_RECOGNISER: Final = Tuning(22_000, light=True)
"""Below `BITRATE_BPS`, since CELT uses its rate up: so 0.6 s of any sound stay under 38.4 kbit/s on the wire."""

FRAME_LENGTHS_MS: Final = (60, 40, 20, 10)
"""The frame lengths used here, longest first (RFC 6716, 2.1.4)."""

_MAX_PACKET_BYTES: Final = 1_275
_MAX_DECODED_MS: Final = 120

_SILK_MS: Final = (10.0, 20.0, 40.0, 60.0)
_HYBRID_MS: Final = (10.0, 20.0)
_CELT_MS: Final = (2.5, 5.0, 10.0, 20.0)


def packet_ms(packet: bytes) -> float:
    """How long an Opus packet sounds, read from its first bytes without decoding it (RFC 6716, 3.1 and 3.2).

    Raises AudioError for bytes that cannot be an Opus packet of at most 120 ms.
    """
    if not packet:
        raise AudioError("an Opus packet is empty")
    config, code = packet[0] >> 3, packet[0] & 0b11
    if config < 12:
        frame_ms = _SILK_MS[config % 4]
    elif config < 16:
        frame_ms = _HYBRID_MS[config % 2]
    else:
        frame_ms = _CELT_MS[config % 4]
    if code < 3:
        n_frames = 1 if code == 0 else 2
    elif len(packet) > 1:
        n_frames = packet[1] & 0b11_1111
    else:
        raise AudioError("an Opus packet ends before its number of frames")
    if not 0 < n_frames * frame_ms <= _MAX_DECODED_MS:
        raise AudioError(f"an Opus packet of {n_frames} frames of {frame_ms:g} ms")
    if code == 1 and len(packet) % 2 == 0:  # two frames of one length after the first byte
        raise AudioError("an Opus packet of two equal frames with an odd number of bytes")
    return n_frames * frame_ms


@dataclass(frozen=True, slots=True)
class _Opus:
    """The parts of opuslib that are used, loaded once."""

    encoder: Any
    decoder: Any
    ctl: Any
    constants: Any


@functools.cache
def _opus() -> _Opus:
    try:
        import opuslib
        from opuslib.api import ctl, decoder, encoder
    except ImportError as error:
        raise MissingExtra("the package opuslib is not installed") from error
    except Exception as error:  # opuslib raises a bare Exception where the shared library is missing
        raise MissingExtra("the library libopus is not installed (Debian: libopus0)") from error
    return _Opus(encoder, decoder, ctl, opuslib)


def preload() -> None:
    """Load opuslib now, so that no codec has to wait for it; takes a while on a small board. Raises MissingExtra."""
    _opus()


class OpusEncoder:
    """Mono PCM frames to Opus packets, tuned for speech.

    Variable bit rate around the tuning's, which no packet exceeds: Opus alone overshoots on steady sounds, and the
    wire's budget must hold for every sound that a child may make.
    """

    def __init__(self, tuning: Tuning = FOR_EARS, audio_format: AudioFormat = SPEECH) -> None:
        opus, constants = _opus(), _opus().constants
        application = constants.APPLICATION_RESTRICTED_LOWDELAY if tuning.light else constants.APPLICATION_VOIP
        self._format = audio_format
        self._bitrate_bps = tuning.bitrate_bps
        self._encode = opus.encoder.libopus_encode
        self._destroy = opus.encoder.destroy
        self._state = opus.encoder.create_state(audio_format.rate_hz, 1, application)
        self._set(opus.ctl.set_bitrate, tuning.bitrate_bps)
        self._set(opus.ctl.set_complexity, COMPLEXITY)
        if tuning.light:
            self._set(opus.ctl.set_max_bandwidth, constants.BANDWIDTH_WIDEBAND)
        self._pcm = (ctypes.c_int16 * audio_format.samples(max(FRAME_LENGTHS_MS)))()
        self._packet = ctypes.create_string_buffer(_MAX_PACKET_BYTES)

    def encode(self, pcm: bytes) -> bytes:
        """One packet for `pcm`, whose length must be one of `FRAME_LENGTHS_MS`; anything else is our bug."""
        if self._format.ms(len(pcm)) not in FRAME_LENGTHS_MS:
            raise LocalProtocolError(f"{len(pcm)} bytes of PCM are not one Opus frame")
        ctypes.memmove(self._pcm, pcm, len(pcm))
        n_samples = len(pcm) // AudioFormat.SAMPLE_BYTES
        ceiling_bytes = min(_MAX_PACKET_BYTES, self._bitrate_bps * n_samples // self._format.rate_hz // 8)
        n_bytes = self._encode(self._state, self._pcm, n_samples, self._packet, ceiling_bytes)
        if n_bytes <= 0:
            raise LocalProtocolError(f"libopus refused to encode a frame (code {n_bytes})")
        return self._packet.raw[:n_bytes]

    def _set(self, setting: Any, value: int) -> None:
        _opus().encoder.encoder_ctl(self._state, setting, value)

    def __del__(self) -> None:
        if hasattr(self, "_state"):
            self._destroy(self._state)


class OpusDecoder:
    """Opus packets of one stream to mono PCM in `audio_format`, whatever their frame length."""

    def __init__(self, audio_format: AudioFormat = SPEECH) -> None:
        opus = _opus()
        self._format = audio_format
        self._decode = opus.decoder.libopus_decode
        self._destroy = opus.decoder.destroy
        self._state = opus.decoder.create_state(audio_format.rate_hz, 1)
        self._pcm = (ctypes.c_int16 * audio_format.samples(_MAX_DECODED_MS))()

    def decode(self, packet: bytes) -> bytes:
        """The PCM of one packet. Raises AudioError for bytes that are not an Opus packet of at most 120 ms."""
        if not packet:
            raise AudioError("an Opus packet is empty")
        return self._run(packet, len(packet), len(self._pcm))

    def conceal(self, ms: float) -> bytes:
        """`ms` of plausible sound in place of a packet that did not come in time (packet loss concealment)."""
        return self._run(None, 0, self._format.samples(ms))

    def _run(self, packet: bytes | None, n_bytes: int, n_samples: int) -> bytes:
        decoded = self._decode(self._state, packet, n_bytes, self._pcm, n_samples, 0)
        if decoded < 0:
            raise AudioError(f"bytes that are not an Opus packet (libopus code {decoded})")
        return ctypes.string_at(self._pcm, decoded * AudioFormat.SAMPLE_BYTES)

    def __del__(self) -> None:
        if hasattr(self, "_state"):
            self._destroy(self._state)


class Framer:
    """PCM in pieces of any size to packets of `frame_ms`, with a short last one at `flush`.

    The last frame is as short as Opus allows and padded with silence to the next of `FRAME_LENGTHS_MS`, so that
    nothing that was said is lost and the end of an utterance waits for nothing.
    """

    def __init__(self, encoder: OpusEncoder, frame_ms: int, audio_format: AudioFormat = SPEECH) -> None:
        self._encoder = encoder
        self._format = audio_format
        self._frame_bytes = audio_format.bytes(frame_ms)
        self._pending = bytearray()

    def push(self, pcm: bytes) -> list[bytes]:
        """The packets that `pcm` completes, oldest first; often none."""
        self._pending += pcm
        packets = []
        while len(self._pending) >= self._frame_bytes:
            packets.append(self._encoder.encode(bytes(self._pending[: self._frame_bytes])))
            del self._pending[: self._frame_bytes]
        return packets

    def flush(self) -> list[bytes]:
        """The packet for what is pending, in the shortest frame that holds it; none if nothing is."""
        if not self._pending:
            return []
        lengths = (self._format.bytes(ms) for ms in reversed(FRAME_LENGTHS_MS))
        n_bytes = next(length for length in lengths if length >= len(self._pending))
        pcm = bytes(self._pending).ljust(n_bytes, b"\0")
        self._pending.clear()
        return [self._encoder.encode(pcm)]


# --- G.711 mu-law -----------------------------------------------------------------------------------------------------

_BIAS: Final = 0x84
_CLIP: Final = 32_635


def _expand(code: int) -> int:
    """One mu-law byte as a 16 bit sample (ITU-T G.711, table 2a, left-aligned to 16 bits)."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + _BIAS << (code >> 4 & 0x07)) - _BIAS
    return -magnitude if code & 0x80 else magnitude


def _compress(sample: int) -> int:
    """One 16 bit sample as a mu-law byte."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), _CLIP) + _BIAS
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


@functools.cache
def _tables() -> tuple[bytes, tuple[bytes, ...]]:
    """Compression of every 16 bit sample (indexed as unsigned) and expansion of every byte, made on first use."""
    compress = bytes(_compress(u if u < 0x8000 else u - 0x10000) for u in range(0x10000))
    expand = tuple(_expand(code).to_bytes(2, "little", signed=True) for code in range(0x100))
    return compress, expand


def mulaw_encode(pcm: bytes) -> bytes:
    """16 bit little-endian PCM to mu-law, one byte a sample. The rate stays what it was."""
    compress, _ = _tables()
    pairs = zip(pcm[::2], pcm[1::2], strict=True)
    return bytes(compress[low | high << 8] for low, high in pairs)


def mulaw_decode(mulaw: bytes) -> bytes:
    """mu-law, one byte a sample, to 16 bit little-endian PCM. Every byte is valid."""
    _, expand = _tables()
    return b"".join(expand[code] for code in mulaw)
