"""The voice of last resort: espeak-ng speaks a phrase whose recording the toy does not have yet.

espeak-ng runs as a process of its own and is told the text on its standard input, because every user of the machine
can read the arguments of a process. Its sound is resampled here in plain Python, by linear interpolation: the images
that it leaves near 11 kHz are weak, in a voice that is a stopgap. Measured: 5 ms of a server's core for a second of
sound, so some 60 ms on a Pi Zero 2W; it is done piece by piece, so that nothing else waits for it.
"""

from __future__ import annotations

import array
import asyncio
import math
import shutil
import struct
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from pommai.audio import SPEECH, AudioFormat
from pommai.errors import HardwareError, MissingExtra

T = TypeVar("T")

MAX_CHARS: Final = 2000
"""Of a longer text only the beginning is spoken; a story has some 800 characters."""

MAX_S: Final = 180.0
"""Sound beyond this is dropped: `MAX_CHARS` of plain words last about 150 s."""

STALLED_S: Final = 10.0
"""A voice that gives no sound for this long has failed. Whole stories take some 0.1 s on a server, 1 s on a Pi."""

_READ_BYTES: Final = 8192
"""Sound taken at once: 0.2 s, for some 10 ms of a Pi."""

_ARGUMENTS: Final = ("--stdin", "--stdout", "-b", "1", "-v", "en", "-s", "140", "-p", "65")
"""UTF-8 in, WAV out; English, 140 words a minute instead of 175, and higher than a grown man."""

_HEAD: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
"""The head of a plain WAV file. espeak-ng writes it before it knows the length, so the sizes in it mean nothing."""

_PCM: Final = 1

_REMEDY: Final = "Install it with `apt install espeak-ng`, and try `espeak-ng hello`."


def find_espeak() -> str | None:
    """Where espeak-ng is, or None if it is not installed. Looks at the disk: ask once, not for each phrase."""
    return shutil.which("espeak-ng")


async def speak(text: str, program: str | None = None) -> bytes:
    """All of `speech` at once: 24 kHz mono 16 bit PCM."""
    pcm = bytearray()
    async with aclosing(speech(text, program)) as pieces:
        async for piece in pieces:
            pcm += piece
            await asyncio.sleep(0)  # what is ready is read without waiting, and others want the loop too
    return bytes(pcm)


async def speech(text: str, program: str | None = None) -> AsyncGenerator[bytes, None]:
    """`text` as spoken by espeak-ng: PCM, 24 kHz mono 16 bit, piece by piece while it is made; never mere silence.

    `program`: what `find_espeak` found; without it, this looks itself. Close the generator to stop early: the process
    is gone when that returns. Raises MissingExtra if espeak-ng is not installed, and HardwareError if it fails.
    """
    program = program or find_espeak()
    if program is None:
        raise MissingExtra("espeak-ng is not installed", remedy=_REMEDY)
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *_ARGUMENTS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise HardwareError(f"espeak-ng cannot be started: {error.strerror}", remedy=_REMEDY) from error
    stdin, stdout = process.stdin, process.stdout
    assert stdin and stdout
    try:
        stdin.write(text[:MAX_CHARS].replace("[[", " ").encode("utf-8", "replace"))  # [[ would begin phonemes
        stdin.close()
        async with aclosing(_sound(stdout)) as pieces:
            async for piece in pieces:
                yield piece
        if stdout.at_eof() and await _in_time(process.wait()) != 0:
            raise HardwareError("espeak-ng failed before it had said everything", remedy=_REMEDY)
    finally:
        await _end(process, stdout)


async def _sound(stdout: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """What comes out of espeak-ng, resampled. Raises HardwareError if it is no sound, stops coming, or was silence."""
    try:
        head = await _in_time(stdout.readexactly(_HEAD.size))
    except asyncio.IncompleteReadError as error:
        raise HardwareError("espeak-ng gave no sound", remedy=_REMEDY) from error
    rate_hz = _rate_hz(head)
    resampler = Resampler(rate_hz)
    left = AudioFormat(rate_hz).bytes(MAX_S * 1000)
    heard = False
    while left > 0 and (raw := await _in_time(stdout.read(min(left, _READ_BYTES)))):
        left -= len(raw)
        if piece := resampler.push(raw):
            heard = heard or bool(piece.strip(b"\0"))
            yield piece
    last = resampler.flush()
    if not heard and not last.strip(b"\0"):
        raise HardwareError("espeak-ng gave no sound", remedy=_REMEDY)
    if last:
        yield last


async def _in_time(waiting: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(STALLED_S):
            return await waiting
    except TimeoutError:
        raise HardwareError(f"espeak-ng gave no sound for {STALLED_S:.0f} s", remedy=_REMEDY) from None


def _rate_hz(head: bytes) -> int:
    """The sample rate in the head of a WAV file. Raises HardwareError for anything but 16 bit mono PCM."""
    riff, _, wave, fmt, _, tag, channels, rate_hz, _, _, bits, data, _ = _HEAD.unpack(head)
    is_known = (riff, wave, fmt, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
    if not is_known or (tag, channels, bits) != (_PCM, 1, 16) or not 8000 <= rate_hz <= 48_000:
        raise HardwareError("espeak-ng gave no sound that can be played", remedy=_REMEDY)
    return int(rate_hz)


async def _end(process: asyncio.subprocess.Process, stdout: asyncio.StreamReader) -> None:
    """Stop the process if it still runs, and reap it. What it wrote is read to the end, or its pipe never closes."""
    with suppress(ProcessLookupError):
        process.kill()
    while await stdout.read(_READ_BYTES):
        pass
    await process.wait()


class Resampler:
    """16 bit mono PCM of any rate to `SPEECH`, by linear interpolation, in pieces of any size."""

    def __init__(self, from_hz: int) -> None:
        common = math.gcd(from_hz, SPEECH.rate_hz)
        self._n_in, self._n_out = from_hz // common, SPEECH.rate_hz // common
        self._waiting = bytearray()

    def push(self, pcm: bytes) -> bytes:
        """The next sound for `pcm`, which may end inside a sample; often a little less than its length."""
        self._waiting += pcm
        n_blocks = (len(self._waiting) // AudioFormat.SAMPLE_BYTES - 1) // self._n_in
        if n_blocks < 1:
            return b""
        n_used = n_blocks * self._n_in
        samples = _samples(self._waiting[: (n_used + 1) * AudioFormat.SAMPLE_BYTES])
        del self._waiting[: n_used * AudioFormat.SAMPLE_BYTES]
        return self._blocks(samples, n_blocks)

    def flush(self) -> bytes:
        """The sound that was still waiting for what follows it: its last sample is held."""
        n_samples = len(self._waiting) // AudioFormat.SAMPLE_BYTES
        if not n_samples:
            return b""
        last = self._waiting[(n_samples - 1) * AudioFormat.SAMPLE_BYTES : n_samples * AudioFormat.SAMPLE_BYTES]
        del self._waiting[n_samples * AudioFormat.SAMPLE_BYTES :]
        n_blocks = math.ceil(n_samples / self._n_in)
        self._waiting += last * (n_blocks * self._n_in + 1 - n_samples)
        n_wanted = n_samples * self._n_out // self._n_in
        return self._blocks(_samples(self._waiting), n_blocks)[: n_wanted * AudioFormat.SAMPLE_BYTES]

    def _blocks(self, samples: array.array[int], n_blocks: int) -> bytes:
        """So many blocks of `_n_in` samples to `_n_out` each; the place of a sample between two is the same in each."""
        resampled = array.array("h", bytes(n_blocks * self._n_out * AudioFormat.SAMPLE_BYTES))
        for place in range(self._n_out):
            at, part = divmod(place * self._n_in, self._n_out)
            after, rest = part / self._n_out, 1 - part / self._n_out
            pairs = zip(samples[at :: self._n_in], samples[at + 1 :: self._n_in], strict=False)
            resampled[place :: self._n_out] = array.array("h", [int(a * rest + b * after) for a, b in pairs][:n_blocks])
        if sys.byteorder == "big":
            resampled.byteswap()
        return resampled.tobytes()


def _samples(pcm: bytes | bytearray) -> array.array[int]:
    samples = array.array("h", bytes(pcm))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
