"""What the commands print: the only importer of rich.

Results go to stdout, as text for people or as JSON lines for programs; progress, notices, logs and errors go to stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pommai.cli.report import TurnReport, waterfall
from pommai.errors import ConfigError, PommaiError


def console() -> Console:
    """For people, on stderr: stdout stays clean for pipes."""
    return Console(stderr=True, highlight=False)


def results() -> Console:
    """For people, on stdout: what the command was asked for."""
    return Console(highlight=False)


def emit(data: object) -> None:
    """For programs: one JSON value on one line of stdout, at once; escaped where the encoding is not Unicode's."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(data, ensure_ascii=not is_unicode) + "\n")
    sys.stdout.flush()


def notice(text: str) -> None:
    """One line on stderr; rich markup is allowed."""
    console().print(text, soft_wrap=True)


def plain(text: str) -> str:
    """`text` for a `notice`, with nothing in it taken for markup."""
    return escape(text)


def table(columns: list[str], rows: list[list[str]], *, whole: Collection[str] = ()) -> None:
    """A table on stdout. The columns in `whole` are never wrapped: ids and times are to be copied and compared."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in rows:
        drawn.add_row(*map(escape, row))
    results().print(drawn)


def facts(lines: Sequence[tuple[str, str]]) -> None:
    """Named facts on stdout, one a line; a long one goes on beneath its own beginning."""
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, text in lines:
        drawn.add_row(name, escape(text))
    results().print(drawn)


def fail(error: PommaiError) -> NoReturn:
    """Say what went wrong and what to do next, and leave with the error's exit code."""
    for text in error.problems if isinstance(error, ConfigError) else (str(error),):
        notice(f"[bold red]error:[/] {escape(text)}")
    if error.remedy:
        notice(f"[dim]what to do:[/] {escape(error.remedy)}")
    sys.exit(error.exit_code)


def start_logging(*, verbose: bool = False) -> None:
    """Log to stderr: warnings, or everything that pommai says with `verbose`. No log holds a child's words."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("pommai").setLevel(logging.INFO if verbose else logging.WARNING)


@contextmanager
def loading(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while something slow is loaded; call what it gives with the name of each part."""
    if quiet:
        yield lambda part: None
        return
    with console().status("starting …") as status:
        yield lambda part: status.update(f"loading {escape(part)} …")


def show_welcome(ready_s: float) -> None:
    """The banner of the demo: what this is, and what it is not."""
    out = results()
    out.print(f"[bold]pommai demo[/] · relay, guardian, engines and a virtual toy, ready in {ready_s:.1f} s\n")
    out.print(
        "[yellow]This is a demo brain:[/] hand-written replies, and a model of 135 million parameters for the gaps.\n"
        "It invents facts. The README says how larger models are plugged in.\n"
    )


def show_turn(report: TurnReport, asked: str, title: str) -> None:
    """One turn for people: what was said, how it was judged, and where the time went."""
    out = results()
    out.print(f"[bold]Turn {title}[/]")
    heard = escape(report.heard) or "[dim](no speech)[/]"
    for label, text in (("child", escape(asked)), ("heard", heard), ("toy", f"[green]{escape(report.said)}[/]")):
        out.print(f"  [dim]{label:<7}[/] {text}", soft_wrap=True)
    judged = ", ".join(f"{v['layer']} {v['category']} → {v['action']}" for v in report.verdicts)
    out.print(
        f"  [dim]judged [/] {judged}   [dim]answered by[/] {report.source}, {report.tokens} tokens", soft_wrap=True
    )
    for line in waterfall(report):
        out.print(f"    {line}", soft_wrap=True)
    out.print(
        f"  [dim]wire   [/] up {report.uplink_bytes / 1000:.1f} kB, {report.uplink_kbps:.1f} kbit/s · "
        f"down {report.downlink_bytes / 1000:.1f} kB, {report.downlink_kbps:.1f} kbit/s · "
        f"in all {(report.uplink_bytes + report.downlink_bytes) / 1000:.1f} kB, "
        f"{report.compression:.1f}:1 against PCM",
        soft_wrap=True,
    )
    out.print(f"  [dim]reply  [/] {report.reply_s:.1f} s of speech, {report.wav or 'none'}\n", soft_wrap=True)


class ToyScreen:
    """The virtual toy on the terminal: its light, its state, and the last things that were said."""

    KEPT_LINES = 8

    def __init__(self, live: Live) -> None:
        self._live = live
        self._rgb = (0, 0, 0)
        self._state = ""
        self._lines: list[Text] = []

    def light(self, red: float, green: float, blue: float) -> None:
        """Show the LED in this colour; channels are 0.0 to 1.0."""
        self._rgb = (round(255 * red), round(255 * green), round(255 * blue))
        self._draw()

    def state(self, name: str) -> None:
        """Show the state of the toy."""
        self._state = name
        self._draw()

    def say(self, who: str, text: str) -> None:
        """Add a line to what was said."""
        self._lines = [*self._lines, Text.assemble((f"{who:<7}", "dim"), text)][-self.KEPT_LINES :]
        self._draw()

    def _draw(self) -> None:
        led = Text.assemble(("  ⬤  ", f"rgb({','.join(map(str, self._rgb))})"), (f"{self._state:<12}", "bold"))
        hint = Text("space: the button (hold, or tap on and off) · q: quit", "dim")
        self._live.update(Text("\n").join([*self._lines, Text(), led, hint]))


@contextmanager
def toy_screen() -> Iterator[ToyScreen]:
    """A live picture of a toy, until the block is left; the last picture stays."""
    with Live(console=results(), refresh_per_second=20) as live:
        yield ToyScreen(live)
