"""The leak fixtures themselves: they must be able to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

LEAKY = """
import asyncio, threading
import pytest

async def test_task():
    asyncio.get_running_loop().keep = asyncio.create_task(asyncio.sleep(60), name="leaky")

def test_thread():
    threading.Thread(target=threading.Event().wait, name="leaky", daemon=True).start()

async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
"""


ROOT = Path(__file__).parents[2]


def test_a_leaked_task_and_a_leaked_thread_fail_their_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_leaky=LEAKY, conftest="from tests.conftest import *")
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*tasks left behind*leaky*", "*threads left behind: ?'leaky'*"])
