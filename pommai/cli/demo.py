"""`pommai demo`: a real relay and a virtual toy hold a spoken conversation, and show where the time went."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def demo(
    say: Optional[list[str]] = typer.Option(
        None, "--say", metavar="TEXT", help="Say this as the child; may be repeated."
    ),
    wav: Optional[list[Path]] = typer.Option(
        None, "--wav", metavar="FILE", help="Play this recording as the child; may be repeated."
    ),
    mic: bool = typer.Option(False, "--mic", metavar="", help="Talk yourself, through the real sound card."),
    turns: Optional[int] = typer.Option(None, "--turns", min=1, max=1000, help="How many turns to hold."),
    out: Path = typer.Option(Path("demo-out"), "--out", metavar="DIR", help="Where the replies are saved."),
    json: bool = typer.Option(
        False, "--json", metavar="", help="Print one JSON object a line, and nothing else, on stdout."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", metavar="", help="Show the log."),
) -> None:
    """Hold a [bold]real spoken conversation[/] on this machine: no key, no hardware, no network."""
    from pommai.cli.demo_session import run_demo
    from pommai.cli.output import fail, start_logging
    from pommai.cli.questions import chosen_questions
    from pommai.errors import PommaiError

    start_logging(verbose=verbose)
    try:
        if mic and (say or wav):
            raise typer.BadParameter("--mic is you talking: leave out --say and --wav")
        questions = None if mic else chosen_questions(say or [], wav or [], turns)
        run_demo(questions, turns=turns, out=out, as_json=json)
    except PommaiError as error:
        fail(error)
