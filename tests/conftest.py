"""What every test gets: nothing may be left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings

settings.register_profile("pommai", deadline=None)  # machines are shared: an example's time proves nothing
settings.load_profile("pommai")

ALSA_CONF = Path("/usr/share/alsa/alsa.conf")

GRACE_S = 2.0
"""How long a thread that was told to stop may take to be gone."""


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread running, engines of a wider fixture excepted."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE_S
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    leaked = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not leaked, f"threads left behind: {leaked}"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that ran inside the test did to logging: the next test reads the log too."""
    loggers = [logging.getLogger(), logging.getLogger("pommai")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every sound card of this machine: PortAudio asks `ctl.hw` for each, and finds no driver behind it."""
    alsa = tmp_path / "alsa.conf"
    alsa.write_text(ALSA_CONF.read_text(encoding="utf-8") + "\nctl.!hw { type none }\n", encoding="utf-8")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(alsa))
    monkeypatch.setenv("PULSE_SERVER", "unix:/nonexistent")


@pytest.fixture(autouse=True)
def no_task_left_behind(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task running; a plain test has no loop to leave one in."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("tasks_at_the_end")


@pytest_asyncio.fixture
async def tasks_at_the_end() -> AsyncIterator[None]:
    """Compare the loop's tasks before and after the test."""
    before = asyncio.all_tasks()
    yield
    gc.collect()
    await asyncio.sleep(0)
    leaked = [repr(task) for task in asyncio.all_tasks() - before - {asyncio.current_task()}]
    assert not leaked, f"tasks left behind: {leaked}"
