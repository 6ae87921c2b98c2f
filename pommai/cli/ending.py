"""How every command ends: with an exit code, and with one line of what is wrong and one of what to do about it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pommai.errors import MissingExtra, PommaiError


@contextmanager
def plainly() -> Iterator[None]:
    """Around a whole command: tell an error of pommai, or a package that is missing, in two lines, and exit."""
    try:
        yield
    except PommaiError as error:
        _fail(error)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "pommai":
            raise  # a bug, not a package that somebody forgot to install
        _fail(_missing(error))


def _fail(error: PommaiError) -> None:
    from pommai.cli.output import fail

    fail(error)


def _missing(error: ImportError) -> MissingExtra:
    """What an import that failed means to the one who installed pommai."""
    package = (error.name or _where_raised(error)).partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return MissingExtra(f"the package {package} is not installed")
    return MissingExtra(f"the package {package} cannot be imported ({str(error) or 'it does not say why'})")


def _where_raised(error: ImportError) -> str:
    """The module whose code raised the error: what a package raises itself often names nothing."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals["__name__"])
