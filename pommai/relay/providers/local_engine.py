"""What the embedded engines share: finding their packages, and one thread for each engine.

An engine is blocking native code. Each has one thread of its own, so calls of one engine run in order, engines run
beside each other, and the event loop waits for none of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ParamSpec, TypeVar

from pommai.errors import MissingExtra, PommaiError, ProviderError
from pommai.protocol import ErrorCode

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_import_lock = threading.Lock()
"""Engines load side by side, but a native module that imports numpy fails while another thread is importing it."""


@contextmanager
def importing(engine: str) -> Iterator[None]:
    """Around the imports of an engine's packages: raises MissingExtra, with the make target, where one is missing."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it once, when it is first imported
    try:
        with _import_lock:
            yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the embedded {engine} needs the package {error.name}: run `make engines`") from error
    except ImportError as error:
        raise MissingExtra(f"the embedded {engine} cannot be imported ({error}): run `make engines`") from error


def package_folder(package: str, engine: str) -> Path:
    """Where an installed package keeps its files, found without running any of its code."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(f"the embedded {engine} needs the package {package}: run `make engines`")
    return Path(spec.submodule_search_locations[0])


class EngineThread:
    """The one thread of an engine. `stage` as in ProviderError."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"pommai-{stage}")
        self._executor.submit(threading.get_ident)  # the thread begins now, not within somebody's first turn

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `call`, after the calls before it. Cancelled while it waits, it never starts.

        Raises ProviderError where the engine fails, or has been closed.
        """
        try:
            future = self._executor.submit(self._checked, partial(call, *args, **kwargs))
        except RuntimeError as error:  # "cannot schedule new futures after shutdown"
            raise ProviderError(self._stage, ErrorCode.SHUTTING_DOWN) from error
        return await asyncio.wrap_future(future)

    def _checked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except PommaiError:
            raise
        # The one door to the vendors' code, and nobody can list what comes out of it: onnxruntime and tokenizers derive
        # their errors from Exception itself. What is not caught here would end the toy's connection.
        except Exception as error:
            _log.error("the embedded engine of stage %s failed: %s", self._stage, type(error).__name__)
            # A library's error text may hold the words it was given, so the error is not chained.
            raise ProviderError(self._stage, ErrorCode.INTERNAL) from None

    def close(self) -> None:
        """Let the call in progress end, drop those that wait, and end the thread. Blocks until then."""
        self._executor.shutdown(wait=True, cancel_futures=True)
