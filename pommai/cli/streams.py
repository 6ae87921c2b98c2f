"""Standard input, output and error, made fit for what people do to them.

A terminal may know fewer characters than we print, a disk may be full, a stream may be closed from the start. None of
that may end in a traceback, nor hand the number of a closed stream to the next file or socket that is opened.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from pommai.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2

_IN_ASCII: Final = {"█": "#", "·": "-", "→": "->", "…": "..."}
"""What we draw with, for terminals that have no such character."""


class Results(io.FileIO):
    """Standard output. Raises OutputError once if it takes no more; from then on there is nobody left to write for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._is_lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all or part of `data`; how many bytes of it."""
        if self._is_lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            if isinstance(error, BrokenPipeError):
                raise  # `| head` has seen enough: typer ends quietly
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error


class Notices(io.FileIO):
    """Standard error, on which nothing can be said about itself: what it does not take is lost."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all or part of `data`; how many bytes of it."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make the three streams of this process fit. Raises OutputError if standard output is closed."""
    closed = [descriptor for descriptor in (_STDIN, _STDOUT, _STDERR) if _is_closed_and_now_filled(descriptor)]
    if _STDIN in closed:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(_STDIN, closefd=False)), encoding="utf-8")
    codecs.register_error("pommai", _nearest)
    sys.stderr = _text(Notices(_STDERR), sys.stderr, line_buffering=True)
    sys.stdout = _text(Results(_STDOUT), sys.stdout, line_buffering=os.isatty(_STDOUT))
    if _STDOUT in closed:
        raise OutputError("standard output is closed")


def _is_closed_and_now_filled(descriptor: int) -> bool:
    """Whether the stream was closed; then /dev/null has its place, so that nothing else can get it."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        return True
    return False


def _text(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool) -> io.TextIOWrapper:
    """`raw` as text in the encoding of the stream before it, which may not have every character."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="pommai", line_buffering=line_buffering)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """What to write for characters that cannot be encoded, and where to go on; see `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(character, "?") for character in characters), error.end
