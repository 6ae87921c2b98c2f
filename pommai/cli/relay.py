"""`pommai relay`: run the relay, decide which toys may use it, and look after them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Optional

import typer

from pommai.cli.commands import Command, Group, between

app = typer.Typer(cls=Group, help="Run the relay, and look after the toys that use it.", no_args_is_help=True)
token_app = typer.Typer(cls=Group, help="The keys by which toys get in: one token, one toy.", no_args_is_help=True)
app.add_typer(token_app, name="token")


class Engine(StrEnum):
    """Which engine serves a stage."""

    LOCAL = "local"
    SCRIPTED = "scripted"


CONFIG = typer.Option(
    None,
    "--config",
    metavar="FILE",
    show_default="/etc/pommai/relay.toml, if there is one",
    help="The relay's settings (TOML).",
)
JSON = typer.Option(False, "--json", help="Print JSON, one object a line, and nothing else, on stdout.")
TOY = typer.Argument(..., metavar="TOY", help="The toy's id: 1 to 64 lowercase letters, digits and hyphens.")

LAST = typer.Option(20, "--last", metavar="N", callback=between(1, 50_000), help="How many, counted from the latest.")


@app.command("run", cls=Command)
def run(
    config: Optional[Path] = CONFIG,
    host: Optional[str] = typer.Option(
        None, "--host", metavar="ADDRESS", help="Address to listen on, instead of server.host."
    ),
    port: Optional[int] = typer.Option(
        None,
        "--port",
        metavar="N",
        callback=between(0, 65535),
        help="Port, instead of server.port; 0 takes a free one.",
    ),
    stt: Optional[Engine] = typer.Option(
        None, "--stt", metavar="ENGINE", help="Speech to text, instead of pipeline.stt: local or scripted."
    ),
    moderator: Optional[Engine] = typer.Option(
        None, "--moderator", metavar="ENGINE", help="Judge, instead of pipeline.moderator."
    ),
    llm: Optional[Engine] = typer.Option(
        None, "--llm", metavar="ENGINE", help="Language model, instead of pipeline.llm."
    ),
    tts: Optional[Engine] = typer.Option(
        None, "--tts", metavar="ENGINE", help="Text to speech, instead of pipeline.tts."
    ),
    json: bool = JSON,
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the log."),
) -> None:
    """Serve toys until [bold]Ctrl-C[/], SIGTERM or SIGHUP; turns in flight may end, and every toy is told.

    Changed settings take effect at the next start.

    \b[bold]Examples[/]
    $ POMMAI_STORE_PATH=relay.db pommai relay run
    $ pommai relay run --config relay.toml --verbose
    """
    from pommai.cli import relay_session
    from pommai.cli.output import start_logging

    start_logging(verbose=verbose)
    engines = {"stt": stt, "moderator": moderator, "llm": llm, "tts": tts}
    given: dict[str, object] = {f"pipeline.{stage}": chosen.value for stage, chosen in engines.items() if chosen}
    given |= {name: value for name, value in (("server.host", host), ("server.port", port)) if value is not None}
    relay_session.run(relay_session.settings_to_run(config, given), as_json=json)


@token_app.command("add", cls=Command)
def add(toy: str = TOY, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Make a new token for a toy; it is shown [bold]this once[/], for the relay keeps only its digest.

    \b[bold]Example[/]
    $ pommai relay token add teddy --config relay.toml
    """
    from pommai.cli import relay_session

    relay_session.add_token(relay_session.settings(config), _checked(toy), as_json=json)


@token_app.command("list", cls=Command)
def list_(config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Show which toys have tokens, and when each was last used.

    \b[bold]Example[/]
    $ pommai relay token list --config relay.toml
    """
    from pommai.cli import relay_session

    relay_session.list_tokens(relay_session.settings(config), as_json=json)


@token_app.command("revoke", cls=Command)
def revoke(toy: str = TOY, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Refuse every token of a toy from now on; a toy that is connected is let go within seconds.

    \b[bold]Example[/]
    $ pommai relay token revoke teddy --config relay.toml
    """
    from pommai.cli import relay_session

    relay_session.revoke_tokens(relay_session.settings(config), _checked(toy), as_json=json)


@app.command("forget", cls=Command)
def forget(
    toy: str = TOY,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    config: Optional[Path] = CONFIG,
    json: bool = JSON,
) -> None:
    """Remove everything that is stored about a toy for good, words included; its tokens stay.

    \b[bold]Examples[/]
    $ pommai relay forget teddy
    $ pommai relay forget teddy --yes --json --config relay.toml
    """
    from pommai.cli import relay_session

    if json and not yes:
        raise typer.BadParameter("--json cannot ask: add --yes")
    settings = relay_session.settings(config)
    if not yes:
        typer.confirm(f"Remove everything that is stored about {_checked(toy)}, for good?", abort=True, err=True)
    relay_session.forget(settings, _checked(toy), as_json=json)


@app.command("command", cls=Command)
def command(
    toy: str = TOY,
    action: str = typer.Argument(
        ..., metavar="ACTION", help="volume, brightness, pause, resume, play, celebrate or restart."
    ),
    value: Optional[str] = typer.Argument(
        None,
        metavar="VALUE",
        show_default=False,
        help="For volume and brightness 0.0 to 1.0, for play the id of a phrase.",
    ),
    wait: Optional[int] = typer.Option(
        None,
        "--wait",
        metavar="SECONDS",
        callback=between(1, 3600),
        help="Wait until the toy has taken it; fail if it cannot, or not in time.",
    ),
    config: Optional[Path] = CONFIG,
    json: bool = JSON,
) -> None:
    """Have a toy do something: [bold]at once[/] if it is connected, else as soon as it is.

    Play, celebrate and restart wait for it 10 minutes, the others 30 days. A newer volume or brightness replaces an
    older one that still waits, and so does a newer pause or resume.

    \b[bold]Examples[/]
    $ pommai relay command teddy volume 0.4
    $ pommai relay command teddy play joke-1 --wait 10
    """
    from pommai.cli import relay_session, toy_session

    try:
        carried = toy_session.carried(action, value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    settings = relay_session.settings(config)
    toy_session.tell(settings, _checked(toy), action, carried, wait_s=wait, as_json=json)


@app.command("commands", cls=Command)
def commands(toy: str = TOY, last: int = LAST, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Show what a toy was told to do, and what became of it.

    \b[bold]Example[/]
    $ pommai relay commands teddy --last 5
    """
    from pommai.cli import relay_session, toy_session

    toy_session.list_commands(relay_session.settings(config), _checked(toy), last, as_json=json)


@app.command("events", cls=Command)
def events(toy: str = TOY, last: int = LAST, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Show what a toy has reported: what happened and when, [bold]never words[/].

    \b[bold]Example[/]
    $ pommai relay events teddy --last 50 --json
    """
    from pommai.cli import relay_session, toy_session

    toy_session.list_events(relay_session.settings(config), _checked(toy), last, as_json=json)


def _checked(toy: str) -> str:
    """`toy`, if it may be the id of one; a usage error if not."""
    from pommai.relay.auth import TOY_ID_RULE, is_toy_id

    if not is_toy_id(toy):
        raise typer.BadParameter(f"a toy's id is {TOY_ID_RULE}", param_hint="TOY")
    return toy
