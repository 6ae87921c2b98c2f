"""Whether the kernel's clock is set: every answer of adjtimex(2), and the real one."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from pommai.device.body import ntp


class Library:
    """A C library whose adjtimex gives `state`; without one, if that is None."""

    def __init__(self, state: int | None) -> None:
        self.asked: list[bytes] = []
        if state is not None:
            self.adjtimex: Callable[[ctypes.Array[ctypes.c_char]], int] = lambda timex: self._answer(timex, state)

    def _answer(self, timex: ctypes.Array[ctypes.c_char], state: int) -> int:
        self.asked.append(timex.raw)
        return state


@pytest.fixture(autouse=True)
def no_library_is_remembered() -> Iterator[None]:
    ntp._adjtimex.cache_clear()
    yield
    ntp._adjtimex.cache_clear()


@pytest.mark.parametrize(
    ("state", "is_set"),
    [(0, True), (1, True), (4, True), (5, False), (-1, False), (None, False)],
    ids=["ok", "leap second ahead", "leap second", "not synchronised", "forbidden", "no such function"],
)
def test_a_clock_is_set_unless_the_kernel_says_or_cannot_say(
    state: int | None, is_set: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(state)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert ntp.is_synchronised() is is_set
    for timex in library.asked:
        assert timex == bytes(len(timex))  # modes 0: it asks, and sets nothing
        assert len(timex) >= 208 + struct.calcsize("q")


def test_the_real_kernel_is_asked_and_its_clock_stays_as_it_is() -> None:
    before_s = time.time() - time.monotonic()
    answers = {ntp.is_synchronised() for _ in range(10)}
    assert len(answers) == 1
    assert time.time() - time.monotonic() == pytest.approx(before_s, abs=1)
