"""`python -m pommai`, and the `pommai` command."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command line, which ends in an exit code and never in a traceback, whatever the user does."""
    signal.signal(signal.SIGINT, _leave)
    from pommai.cli.ending import plainly
    from pommai.cli.streams import prepare

    try:
        with plainly():
            prepare()
            from pommai.cli.main import app

            app()
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while modules are imported, or at the very end: nothing is to be tidied up, and an exception could get
    lost in an import. What needs tidying up takes the signal over while it runs (`cli.stopping`, `relay.app.serve`).
    """
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
