"""The `pommai` command: one program for makers, technicians and developers."""

from __future__ import annotations

import typer

import pommai
from pommai.cli import demo, device, relay, sim
from pommai.cli.commands import Command, Group

app = typer.Typer(
    name="pommai",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # its tracebacks show local variables: a child's words, keys and tokens
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Command)(demo.demo)
app.command("sim", cls=Command)(sim.sim)
app.add_typer(relay.app, name="relay")
app.add_typer(device.app, name="device")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pommai {pommai.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """A voice companion that lives inside a child's toy.

    Try it, without a key and without hardware: [bold]pommai demo[/]
    """
