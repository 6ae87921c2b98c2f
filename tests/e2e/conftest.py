"""The real thing, once a session: every embedded engine, a real relay on loopback, and a virtual toy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from pommai.cli.embedded import RecordingStore
from pommai.device.settings import DeviceSettings, RelayLink
from pommai.relay import app, auth
from pommai.relay.ports import TTS
from pommai.relay.settings import RelaySettings, ServerSettings, StoreSettings
from pommai.relay.turn import Pipeline


@pytest.fixture(scope="session")
def pipeline() -> Iterator[Pipeline]:
    """The embedded engines, loaded and warm."""
    loaded = asyncio.run(app.load_pipeline(RelaySettings()))
    yield loaded
    loaded.close()


@dataclass(frozen=True, slots=True)
class Running:
    """A relay, its store, and what a toy needs to get in."""

    store: RecordingStore
    device: DeviceSettings


@pytest_asyncio.fixture
async def relay(pipeline: Pipeline, tmp_path: Path) -> AsyncIterator[Running]:
    """A real relay on a free port of loopback that keeps words, so that tests can read them."""
    settings = RelaySettings(
        server=ServerSettings(port=0), store=StoreSettings(path=str(tmp_path / "relay.db"), keep_words_days=1)
    )
    store = await RecordingStore.open(settings.store)
    try:
        token, _ = await auth.add_token(store, "teddy", time.time())
        async with app.running(settings, pipeline=pipeline, store=store) as running:
            yield Running(store, DeviceSettings(relay=RelayLink(url=running.url, token=token)))
    finally:
        await store.close()


async def child_says(tts: TTS, text: str) -> bytes:
    """`text` in the synthetic voice, as PCM."""
    pcm = bytearray()
    async with aclosing(tts.speak(text)) as pieces:
        async for piece in pieces:
            pcm += piece
    return bytes(pcm)
