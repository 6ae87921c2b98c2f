"""`pommai relay`: run the relay, and decide which toys may use it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Optional

import typer

app = typer.Typer(help="Run the relay, and decide which toys may use it.", no_args_is_help=True)
token_app = typer.Typer(help="The keys by which toys get in: one token, one toy.", no_args_is_help=True)
app.add_typer(token_app, name="token")


class Engine(StrEnum):
    """Which engine serves a stage."""

    LOCAL = "local"
    SCRIPTED = "scripted"


CONFIG = typer.Option(
    None, "--config", metavar="FILE", help="The relay's settings (TOML); /etc/pommai/relay.toml if it exists."
)
JSON = typer.Option(False, "--json", help="Print JSON, one object a line, and nothing else, on stdout.")
VERBOSE = typer.Option(False, "--verbose", "-v", help="Show the log.")
TOY = typer.Argument(..., metavar="TOY", help="The toy's id: 1 to 64 lowercase letters, digits and hyphens.")


@app.command("run")
def run(
    config: Optional[Path] = CONFIG,
    host: Optional[str] = typer.Option(None, "--host", help="Address to listen on, instead of server.host."),
    port: Optional[int] = typer.Option(None, "--port", min=0, max=65535, help="Port, instead of server.port."),
    stt: Optional[Engine] = typer.Option(None, "--stt", help="Speech to text, instead of pipeline.stt."),
    moderator: Optional[Engine] = typer.Option(None, "--moderator", help="Judge, instead of pipeline.moderator."),
    llm: Optional[Engine] = typer.Option(None, "--llm", help="Language model, instead of pipeline.llm."),
    tts: Optional[Engine] = typer.Option(None, "--tts", help="Text to speech, instead of pipeline.tts."),
    json: bool = JSON,
    verbose: bool = VERBOSE,
) -> None:
    """Serve toys until [bold]Ctrl-C[/] or SIGTERM; turns in flight may end, and every toy is told."""
    from pommai.cli import relay_session
    from pommai.cli.output import fail, start_logging
    from pommai.errors import PommaiError

    start_logging(verbose=verbose)
    engines = {"stt": stt, "moderator": moderator, "llm": llm, "tts": tts}
    chosen = {stage: engine.value for stage, engine in engines.items() if engine is not None}
    try:
        settings = relay_session.settings(config, server={"host": host, "port": port}, pipeline=chosen)
        relay_session.run(settings, as_json=json)
    except PommaiError as error:
        fail(error)


@token_app.command("add")
def add(toy: str = TOY, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Make a new token for a toy. It is shown [bold]this once[/]: the relay keeps only its digest."""
    from pommai.cli import relay_session
    from pommai.cli.output import fail
    from pommai.errors import PommaiError

    try:
        relay_session.add_token(relay_session.settings(config), _checked(toy), as_json=json)
    except PommaiError as error:
        fail(error)


@token_app.command("list")
def list_(config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Show which toys have tokens, and when each was last used."""
    from pommai.cli import relay_session
    from pommai.cli.output import fail
    from pommai.errors import PommaiError

    try:
        relay_session.list_tokens(relay_session.settings(config), as_json=json)
    except PommaiError as error:
        fail(error)


@token_app.command("revoke")
def revoke(toy: str = TOY, config: Optional[Path] = CONFIG, json: bool = JSON) -> None:
    """Refuse every token of a toy from now on; a toy that is connected is let go within seconds."""
    from pommai.cli import relay_session
    from pommai.cli.output import fail
    from pommai.errors import PommaiError

    try:
        relay_session.revoke_tokens(relay_session.settings(config), _checked(toy), as_json=json)
    except PommaiError as error:
        fail(error)


@app.command("forget")
def forget(
    toy: str = TOY,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    config: Optional[Path] = CONFIG,
    json: bool = JSON,
) -> None:
    """Remove everything that is stored about a toy, words included, for good. Its tokens stay."""
    from pommai.cli import relay_session
    from pommai.cli.output import fail
    from pommai.errors import PommaiError

    try:
        if json and not yes:
            raise typer.BadParameter("--json cannot ask: add --yes")
        settings = relay_session.settings(config)
        if not yes:
            typer.confirm(f"Remove everything that is stored about {_checked(toy)}, for good?", abort=True, err=True)
        relay_session.forget(settings, _checked(toy), as_json=json)
    except PommaiError as error:
        fail(error)


def _checked(toy: str) -> str:
    """`toy`, if it may be the id of one; a usage error if not."""
    from pommai.relay.auth import TOY_ID_RULE, is_toy_id

    if not is_toy_id(toy):
        raise typer.BadParameter(f"a toy's id is {TOY_ID_RULE}", param_hint="TOY")
    return toy
