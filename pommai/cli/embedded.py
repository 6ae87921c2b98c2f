"""A real relay inside the command: composition root of `pommai demo` and `pommai sim --embedded`.

The relay listens on a free port of 127.0.0.1, with a toy and a token made for the occasion, and keeps its turns in the
folder that was given.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pommai.device.settings import DeviceSettings, RelayLink
from pommai.errors import ProviderError, StoreError
from pommai.protocol import ErrorCode
from pommai.relay import app, auth
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import PipelineSettings, RelaySettings, ServerSettings, StoreSettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.relay.turn import Pipeline

RECORD_S = 5.0
"""How long the record of a turn that is over may take to be written."""


class RecordingStore(SqliteStore):
    """The relay's own store, which also hands each finished turn to the command that shows it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._finished: asyncio.Queue[TurnRecord] = asyncio.Queue()

    async def record(self, turn: TurnRecord) -> None:
        """See `ports.Store`."""
        await super().record(turn)
        self._finished.put_nowait(turn)

    async def finished(self, turn: int) -> TurnRecord:
        """The record of `turn`, as soon as it is over; those of turns before it are dropped.

        Raises ProviderError where none comes: the relay has lost the turn.
        """
        try:
            async with asyncio.timeout(RECORD_S):
                while (record := await self._finished.get()).turn != turn:
                    pass
        except TimeoutError:
            raise ProviderError("turn", ErrorCode.INTERNAL) from None
        return record


@dataclass(frozen=True, slots=True)
class EmbeddedRelay:
    """A running relay, its engines and its store, and the settings with which a toy gets in."""

    pipeline: Pipeline
    store: RecordingStore
    device: DeviceSettings


def make_folder(folder: Path) -> None:
    """Make `folder`, for this user only, if it is not there. Raises StoreError if that is not possible."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}") from error


@asynccontextmanager
async def embedded_relay(
    folder: Path, progress: Callable[[str], None], *, keep_words_days: int = 0
) -> AsyncIterator[EmbeddedRelay]:
    """A relay on the embedded engines, until the block is left. `progress` is told what is being loaded.

    `folder` must exist; another relay may use it at the same time. Raises MissingExtra without the engines, StoreError
    for a folder that cannot be written.
    """
    settings = RelaySettings(
        server=ServerSettings(port=0),
        pipeline=PipelineSettings(),
        store=StoreSettings(path=str(folder / "relay.db"), keep_words_days=keep_words_days),
    )
    async with AsyncExitStack() as stack:
        store = await RecordingStore.open(settings.store)
        stack.push_async_callback(store.close)
        toy = f"demo-{secrets.token_hex(4)}"
        token, _ = await auth.add_token(store, toy, time.time())
        stack.push_async_callback(store.revoke_tokens, toy, time.time())
        pipeline = await app.load_pipeline(settings, progress=progress)
        stack.callback(pipeline.close)
        relay = await stack.enter_async_context(app.running(settings, pipeline=pipeline, store=store))
        yield EmbeddedRelay(pipeline, store, DeviceSettings(relay=RelayLink(url=relay.url, token=token)))
