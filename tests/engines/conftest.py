"""The engines, loaded once for all tests that ask for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_model import LocalModel
from pommai.relay.providers.local_stt import LocalSTT
from pommai.relay.providers.local_tts import LocalTTS


@pytest.fixture(scope="session")
def embedder() -> Iterator[LocalEmbedder]:
    engine = LocalEmbedder.load()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def stt() -> Iterator[LocalSTT]:
    engine = LocalSTT.load()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def tts() -> Iterator[LocalTTS]:
    engine = LocalTTS.load()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def model() -> Iterator[LocalModel]:
    engine = LocalModel.load()
    yield engine
    engine.close()
