"""`pommai sim`: an interactive virtual toy. A key is the button, the terminal shows light and state."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def sim(
    relay: Optional[str] = typer.Option(None, "--relay", metavar="URL", help="Relay to use, instead of relay.url."),
    embedded: bool = typer.Option(False, "--embedded", help="Start a relay on the embedded engines for this toy."),
    config: Optional[Path] = typer.Option(None, "--config", metavar="FILE", help="The toy's settings (TOML)."),
    mic: bool = typer.Option(False, "--mic", help="Use the real microphone and speaker."),
    wav: Optional[list[Path]] = typer.Option(None, "--wav", metavar="FILE", help="What the child says; repeatable."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the log."),
) -> None:
    """Hold a [bold]virtual toy[/] in your hand: the space bar is its button.

    Its token comes from the environment: POMMAI_RELAY_TOKEN, as shown once by [bold]pommai relay token add[/].

    \b[bold]Examples[/]
    $ pommai sim --embedded
    $ pommai sim --relay wss://relay.example/v1/toy
    """
    from pommai.cli.output import start_logging
    from pommai.cli.questions import chosen_questions
    from pommai.cli.sim_session import need_terminal, run_sim, toy_settings

    start_logging(verbose=verbose)
    if embedded and (relay is not None or config is not None):
        raise typer.BadParameter("--embedded brings a relay of its own: leave out --relay and --config")
    if mic and wav:
        raise typer.BadParameter("--mic is you talking: leave out --wav")
    settings = None if embedded else toy_settings(relay, config)
    need_terminal()
    run_sim(settings, None if mic else chosen_questions([], wav or [], None))
