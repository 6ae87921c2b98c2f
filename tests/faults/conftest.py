"""One relay that has spoken its phrases, and one toy that has fetched them, made once and copied for each test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pommai import starter
from tests.faults.pommaid import Pommaid
from tests.faults.relays import RelayProcess
from tests.pulse import pulse

__all__ = ["pulse"]

MakeToy = Callable[..., Pommaid]
MakeRelay = Callable[..., RelayProcess]

NOWHERE = "ws://127.0.0.1:9/v1/toy"
"""An address where no relay is."""


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the databases of a relay and of a toy that have nothing left to do for each other."""
    folder = tmp_path_factory.mktemp("settled")

    async def settle() -> None:
        (folder / "relay").mkdir()
        async with RelayProcess(folder / "relay") as relay:
            await relay.until_logged("phrases ready")
            async with Pommaid(folder / "toy", relay.url, await relay.token()) as toy:
                await toy.until(lambda status: status["cache"]["phrases"] == len(starter.load()))
                await toy.end()
            await relay.end()

    asyncio.run(settle())
    return folder


@pytest.fixture
def relay(settled: Path, tmp_path: Path) -> MakeRelay:
    """Makes relays that have spoken their phrases: `relay()`; not started, use one as `async with`."""

    def make(name: str = "relay", **more: Any) -> RelayProcess:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(settled / "relay" / "relay.db", folder)
        return RelayProcess(folder, **more)

    return make


@pytest.fixture
def toy(settled: Path, tmp_path: Path) -> MakeToy:
    """Makes toys that have their phrases: `toy(url, token)`; not started, use one as `async with`."""

    def make(
        url: str = NOWHERE, token: str = "a-token", name: str = "toy", *, empty: bool = False, **more: Any
    ) -> Pommaid:
        folder = tmp_path / name
        folder.mkdir()
        if not empty:
            shutil.copy(settled / "toy" / "toy.db", folder)
        return Pommaid(folder, url, token, **more)

    return make
