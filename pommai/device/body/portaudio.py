"""Opens and closes the two streams of a sound card through PortAudio; the only importer of `pyaudio`.

Everything here may block: a search for cards some 30 to 200 ms, closing a card that has vanished perhaps for ever. Call
it in a thread (`in_thread`), never in the loop.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pommai.audio import SPEECH, AudioFormat
from pommai.errors import HardwareError, MissingExtra

_T = TypeVar("_T")

HEARD_MS: Final = 30
"""How much sound one callback of the microphone carries."""

PLAYED_MS: Final = 12
"""How much sound one callback of the speaker carries. PortAudio keeps three of them in the card, and what is there is
heard in any case: with 12 ms a flushed speaker is silent within 36 ms, with 20 ms it took 49 ms."""

CONTINUE: Final = 0
"""PortAudio's paContinue."""

ABORT: Final = 2
"""PortAudio's paAbort."""

INPUT_OVERFLOW: Final = 2
OUTPUT_UNDERFLOW: Final = 4
"""PortAudio's status flags, as a callback gets them."""

_REFUSED: Final = (-9997, -9998)
"""PortAudio's paInvalidSampleRate and paInvalidChannelCount."""

FORMS: Final = ((SPEECH.rate_hz, 1), (48_000, 1), (48_000, 2))
"""Sample rate in Hz and channels, in the order in which they are tried."""

KERNEL_CARDS: Final = Path("/proc/asound/cards")

Callback = Callable[[bytes | None, int, object, int], tuple[bytes | None, int]]
"""What PortAudio calls in its own thread: sound, number of samples in each channel, times, status."""


class Ends(Protocol):
    """Who takes from the microphone and gives to the speaker. Each is asked once, for the form that the card takes."""

    def taker(self, rate_hz: int, channels: int) -> Callback:
        """The callback of the microphone."""

    def giver(self, rate_hz: int, channels: int) -> Callback:
        """The callback of the speaker."""


class OpenCard:
    """Both streams of a card, running."""

    def __init__(self, microphone: Any, speaker: Any, close: ExitStack) -> None:
        self._streams = (microphone, speaker)
        self._close = close
        self.latency_s: float = speaker.get_output_latency() + PLAYED_MS / 1000
        """From the callback of the speaker to the ear, as the card says."""

    def is_active(self) -> bool:
        """False when PortAudio itself has given up one of the streams. Does not block."""
        try:
            return all(stream.is_active() for stream in self._streams)
        except OSError:  # the stream is gone, and asking for it is an error
            return False

    def close(self) -> None:
        """End both streams and PortAudio, so that the next one to open sees the cards of that time."""
        with suppress(OSError):  # a card that has gone refuses to be closed; there is nothing left to do for it
            self._close.close()


def open_card(name: str, ends: Ends) -> OpenCard:
    """Open microphone and speaker of the card whose name holds `name`, in any case; the default ones if it is empty.

    A card that refuses 24 kHz mono is asked for 48 kHz, mono and then stereo. Raises HardwareError if there is no such
    card, and MissingExtra without PyAudio.
    """
    os.environ.setdefault("PA_ALSA_PLUGHW", "1")  # ALSA then converts rate and channels itself, in C
    os.environ.setdefault("JACK_NO_START_SERVER", "1")  # to look for cards is no reason to start a server
    try:
        import pyaudio
    except ImportError as error:
        raise MissingExtra("the package pyaudio is not installed (Debian: python3-pyaudio)") from error
    _hush_libraries()
    with ExitStack() as stack:
        try:
            audio = pyaudio.PyAudio()
            stack.callback(audio.terminate)
            microphone = _open_stream(audio, pyaudio.paInt16, "input", _index(audio, name, "Input"), ends.taker)
            stack.callback(microphone.close)
            speaker = _open_stream(audio, pyaudio.paInt16, "output", _index(audio, name, "Output"), ends.giver)
            stack.callback(speaker.close)
        except OSError as error:  # PortAudio's own text and number
            raise HardwareError(f"the sound card cannot be opened: {_reason(error)}") from error
        return OpenCard(microphone, speaker, stack.pop_all())


def kernel_cards() -> str:
    """The sound cards that the kernel has, as it describes them; to be compared with an earlier answer."""
    try:
        return KERNEL_CARDS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def in_thread(call: Callable[[], _T], name: str) -> Future[_T]:
    """Run `call` in a thread of its own; the process does not wait for it when it ends. What it raises is passed on.

    A pool's thread will not do: Python joins those at the end, and one that hangs in a driver would hold up SIGTERM.
    """
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # a bug too: whoever waits has to hear of it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _open_stream(
    audio: Any, sample_format: int, direction: str, index: int | None, callback: Callable[[int, int], Callback]
) -> Any:
    piece_ms = HEARD_MS if direction == "input" else PLAYED_MS

    def opened(rate_hz: int, channels: int) -> Any:
        return audio.open(
            rate=rate_hz,
            channels=channels,
            format=sample_format,
            frames_per_buffer=AudioFormat(rate_hz).samples(piece_ms),
            stream_callback=callback(rate_hz, channels),
            **{direction: True, f"{direction}_device_index": index},
        )

    for form in FORMS[:-1]:
        try:
            return opened(*form)
        except OSError as error:
            if not set(_REFUSED) & set(error.args):
                raise
    return opened(*FORMS[-1])


def _index(audio: Any, name: str, direction: str) -> int | None:
    """PortAudio's index of the wanted card; None for the default one. Indices change from boot to boot."""
    devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
    able = [device for device in devices if device[f"max{direction}Channels"] > 0]
    if not able:
        raise HardwareError(f"there is no {'microphone' if direction == 'Input' else 'speaker'}")
    if not name:
        return None
    for device in able:
        if name.lower() in str(device["name"]).lower():
            return int(device["index"])
    known = ", ".join(sorted({str(device["name"]) for device in able}))
    raise HardwareError(f"no {direction.lower()} of a sound card is called {name!r}; there are: {known}")


def _reason(error: OSError) -> str:
    """PortAudio's text for what went wrong; PyAudio puts it in the second place, or in the errno."""
    return str(error.args[1] if len(error.args) > 1 else error)


def _hush_libraries() -> None:
    """ALSA and JACK write pages about every device that is not there to stderr, at each search; let them do nothing.

    They want a C function to be told; any that takes nothing and does nothing serves. A Python function would need
    memory that is writable and executable, which the service is not allowed; to redirect stderr would lose our own log.
    """
    nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)
    for library, setters in (
        ("libasound.so.2", ("snd_lib_error_set_handler",)),
        ("libjack.so.0", ("jack_set_error_function", "jack_set_info_function")),
    ):
        with suppress(OSError, AttributeError):  # PortAudio was built without it: then it does not write
            loaded = ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            for setter in setters:
                getattr(loaded, setter)(nothing)
