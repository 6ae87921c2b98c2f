"""What a log may say about a bug of ours: never its text, which may hold a child's words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator


def places(error: BaseException) -> str:
    """Where an error comes from, by type and lines of code only; for a group, one for each error in it."""
    return "; ".join(_places(error))


def _places(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _places(inner)
    else:
        frames = (f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(error.__traceback__))
        yield f"{type(error).__name__} at {' '.join(frames)}"
