"""How every command ends: with an exit code, and with one line of what is wrong and one of what to do about it."""

from __future__ import annotations

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
    package = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package:
        return MissingExtra(f"the package {package} is not installed")
    return MissingExtra(
        f"the package {package or 'that is needed'} cannot be imported ({error or 'no reason is given'})"
    )
