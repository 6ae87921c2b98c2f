"""`pommai device`: look at a toy and try it, on the toy itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Optional

import typer

from pommai.cli.commands import Command, Group, between

app = typer.Typer(cls=Group, help="Look at a toy and try it, on the toy itself.", no_args_is_help=True)


class Part(StrEnum):
    """What can be tested."""

    LED = "led"
    SOUND = "sound"


SOCKET = typer.Option(
    None,
    "--socket",
    metavar="PATH",
    show_default="/run/pommai/control.sock",
    help="The daemon's control socket.",
)
JSON = typer.Option(False, "--json", help="Print JSON, one object a line, and nothing else, on stdout.")


@app.command("status", cls=Command)
def status(socket: Optional[Path] = SOCKET, json: bool = JSON) -> None:
    """Show how the toy is: state, relay, volume, limits, battery, sound, memory.

    \b[bold]Examples[/]
    $ pommai device status
    $ pommai device status --json
    """
    from pommai.cli import device_session

    device_session.status(socket or device_session.DEFAULT_SOCKET, as_json=json)


@app.command("volume", cls=Command)
def volume(
    percent: int = typer.Argument(..., metavar="PERCENT", callback=between(0, 100), help="0 to 100."),
    socket: Optional[Path] = SOCKET,
    json: bool = JSON,
) -> None:
    """Set how loud the toy is; never louder than its parents allow.

    \b[bold]Example[/]
    $ pommai device volume 40
    """
    _do("volume", socket, json, "The volume is {volume:.0%}, of at most {ceiling:.0%}.", value=percent / 100)


@app.command("pause", cls=Command)
def pause(socket: Optional[Path] = SOCKET, json: bool = JSON) -> None:
    """Let the toy rest until [bold]resume[/], also across restarts; its microphone stays closed.

    \b[bold]Example[/]
    $ pommai device pause
    """
    _do("pause", socket, json, "The toy rests until `pommai device resume`.")


@app.command("resume", cls=Command)
def resume(socket: Optional[Path] = SOCKET, json: bool = JSON) -> None:
    """End a pause that was begun at the toy; other limits hold on.

    \b[bold]Example[/]
    $ pommai device resume
    """
    from pommai.cli import device_session

    device_session.resume(socket or device_session.DEFAULT_SOCKET, as_json=json)


@app.command("play", cls=Command)
def play(
    phrase: str = typer.Argument(..., metavar="PHRASE", help="The phrase's id, as `phrases` lists it."),
    socket: Optional[Path] = SOCKET,
    json: bool = JSON,
) -> None:
    """Let the toy say one of its own phrases.

    \b[bold]Example[/]
    $ pommai device play joke-1
    """
    _do("play", socket, json, "The toy says {phrase}.", phrase=phrase)


@app.command("phrases", cls=Command)
def phrases(socket: Optional[Path] = SOCKET, json: bool = JSON) -> None:
    """List what the toy can say by itself, and whether it has a recording of it.

    \b[bold]Example[/]
    $ pommai device phrases
    """
    from pommai.cli import device_session

    device_session.phrases(socket or device_session.DEFAULT_SOCKET, as_json=json)


@app.command("test", cls=Command)
def test(
    part: Part = typer.Argument(..., metavar="PART", help="led or sound."),
    socket: Optional[Path] = SOCKET,
    json: bool = JSON,
) -> None:
    """Show each colour (red, green, blue, white), or make a small sound.

    \b[bold]Examples[/]
    $ pommai device test led
    $ pommai device test sound
    """
    if part is Part.SOUND:
        _do("test", socket, json, "Did you hear two short notes?", what=part.value)
        return
    from pommai.cli import device_session

    device_session.test_lights(socket or device_session.DEFAULT_SOCKET, as_json=json)


@app.command("press", cls=Command)
def press(
    hold_ms: Optional[int] = typer.Option(
        None,
        "--hold-ms",
        metavar="N",
        callback=between(1, 61_000),
        show_default="1000, or as long as --say lasts",
        help="How long to hold the button.",
    ),
    say: Optional[Path] = typer.Option(None, "--say", metavar="FILE", help="What the virtual child says: a WAV file."),
    socket: Optional[Path] = SOCKET,
    json: bool = JSON,
) -> None:
    """Press the button of a [bold]virtual[/] toy; a real one is opened by its own button alone.

    \b[bold]Example[/]
    $ pommai device press --say question.wav
    """
    from pommai.cli import device_session

    request = {"hold_ms": hold_ms, "say": None if say is None else str(say.absolute())}
    given = {name: value for name, value in request.items() if value is not None}
    device_session.press(socket or device_session.DEFAULT_SOCKET, given, as_json=json)


@app.command("heard", cls=Command)
def heard(
    wav: Path = typer.Argument(..., metavar="FILE", help="The WAV file to write."),
    socket: Optional[Path] = SOCKET,
    json: bool = JSON,
) -> None:
    """Save what a [bold]virtual[/] toy's speaker played since the last time.

    \b[bold]Example[/]
    $ pommai device heard answer.wav
    """
    from pommai.cli import device_session

    device_session.heard(socket or device_session.DEFAULT_SOCKET, wav.absolute(), as_json=json)


@app.command("dump", cls=Command)
def dump(socket: Optional[Path] = SOCKET, _json: bool = JSON) -> None:
    """Print everything that helps a technician, as JSON: status, settings, the last log entries. No words, no token.

    \b[bold]Example[/]
    $ pommai device dump > toy.json
    """
    _do("dump", socket, True, "")


@app.command("set-token", cls=Command)
def set_token(
    plain: bool = typer.Option(False, "--plain", help="Keep it unencrypted, in /etc/credstore, for root alone."),
    to: Optional[Path] = typer.Option(None, "--to", metavar="FILE", help="Keep it in this file instead."),
    json: bool = JSON,
) -> None:
    """Give the toy its token, read from standard input: the way into its relay.

    It is kept as a systemd credential, encrypted with the key of this machine.

    \b[bold]Examples[/]
    $ sudo pommai device set-token
    $ sudo pommai device set-token < token.txt
    """
    from pommai.cli import device_token

    device_token.set_token(plain=plain, to=to, as_json=json)


def _do(do: str, socket: Optional[Path], as_json: bool, done: str, **request: object) -> None:
    """Ask the daemon for one deed."""
    from pommai.cli import device_session

    device_session.show(socket or device_session.DEFAULT_SOCKET, do, as_json=as_json, done=done, **request)
