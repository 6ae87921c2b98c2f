"""`pommai demo`: a real relay and a virtual toy hold a spoken conversation, and show where the time went."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from pommai.cli.commands import between


def demo(
    say: Optional[list[str]] = typer.Option(
        None, "--say", metavar="TEXT", help="Say this as the child; may be repeated."
    ),
    wav: Optional[list[Path]] = typer.Option(
        None, "--wav", metavar="FILE", help="Play this recording as the child; may be repeated."
    ),
    mic: bool = typer.Option(False, "--mic", help="Talk yourself, through the real sound card."),
    turns: Optional[int] = typer.Option(
        None,
        "--turns",
        metavar="N",
        callback=between(1, 1000),
        show_default="2, or 3 with --mic, or one for each --say and --wav",
        help="How many turns to hold, 1 to 1000.",
    ),
    out: Path = typer.Option(Path("demo-out"), "--out", metavar="DIR", help="Where the replies are saved."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object a line, and nothing else, on stdout."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the log."),
) -> None:
    """Hold a [bold]real spoken conversation[/] on this machine: no key, no hardware, no network.

    A relay, its engines and a virtual toy run in this one process; you see what was heard, judged and said, and when.

    \b[bold]Examples[/]
    $ pommai demo --say "Why is the sky blue?"
    $ pommai demo --turns 10 --json | tail -n 1
    """
    from pommai.cli.demo_session import run_demo
    from pommai.cli.output import start_logging
    from pommai.cli.questions import chosen_questions

    start_logging(verbose=verbose)
    if mic and (say or wav):
        raise typer.BadParameter("--mic is you talking: leave out --say and --wav")
    questions = None if mic else chosen_questions(say or [], wav or [], turns)
    run_demo(questions, turns=turns, out=out, as_json=json)
