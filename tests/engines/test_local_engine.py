"""The thread of an engine, and finding its packages; no engine is needed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator
from importlib import import_module

import pytest

from pommai.errors import MissingExtra, ProviderError
from pommai.relay.providers.local_engine import EngineThread, importing, package_folder

WORDS = "I hid the canary"


@pytest.fixture
def thread() -> Iterator[EngineThread]:
    thread = EngineThread("stt")
    yield thread
    thread.close()


async def test_calls_run_in_one_other_thread(thread: EngineThread) -> None:
    idents = {await thread.run(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


async def test_a_call_cancelled_while_it_waits_never_starts(thread: EngineThread) -> None:
    busy, done = threading.Event(), []
    first = asyncio.create_task(thread.run(busy.wait))
    second = asyncio.create_task(thread.run(done.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    busy.set()
    assert await first
    await thread.run(done.append, "third")
    assert done == ["third"]


async def test_a_failure_has_a_code_and_no_words(thread: EngineThread, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderError, match=r"^stt: internal$") as raised:
        await thread.run({}.__getitem__, WORDS)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "the embedded engine of stage stt failed: KeyError"
    ]
    assert WORDS not in caplog.text


class VendorError(Exception):
    """Derives from Exception itself, as the errors of onnxruntime and tokenizers do."""


async def test_a_failure_that_no_library_lists_has_a_code_too(
    thread: EngineThread, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise VendorError(WORDS)

    with pytest.raises(ProviderError, match=r"^stt: internal$") as raised:
        await thread.run(fail)
    assert raised.value.__suppress_context__
    assert "VendorError" in caplog.text
    assert WORDS not in caplog.text


async def test_a_provider_error_passes_as_it_is(thread: EngineThread) -> None:
    def fail() -> None:
        raise ProviderError("stt", "bad_audio")

    with pytest.raises(ProviderError, match="bad_audio"):
        await thread.run(fail)


async def test_a_closed_engine_refuses(thread: EngineThread) -> None:
    thread.close()
    thread.close()
    with pytest.raises(ProviderError, match="shutting_down"):
        await thread.run(int)


def test_a_missing_package_names_the_make_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(MissingExtra, match=r"voice needs the package hibari: run `make engines`"), importing("voice"):
        import_module("hibari")


def test_a_broken_package_says_what_is_wrong() -> None:
    with pytest.raises(MissingExtra, match=r"voice cannot be imported \(no libgomp\): run `make"), importing("voice"):
        raise ImportError("no libgomp")


def test_imports_wait_for_each_other() -> None:
    inside, seen = threading.Event(), []

    def second() -> None:
        with importing("voice"):
            seen.append(inside.is_set())

    with importing("speech recogniser"):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.05)
        inside.set()
    other.join()
    assert seen == [True]


def test_a_missing_folder_names_the_make_target() -> None:
    with pytest.raises(MissingExtra, match=r"model needs the package no_such_package: run `make engines`"):
        package_folder("no_such_package", "model")


def test_onnxruntime_is_told_not_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with importing("anything"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
