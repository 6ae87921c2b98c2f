"""docs/settings.md lists every setting; rewrite it with `python -m tests.unit.test_settings_docs`."""

from __future__ import annotations

from pathlib import Path

from pommai.device.service.loading import LIVE
from pommai.device.settings import DeviceSettings
from pommai.relay.settings import RelaySettings
from pommai.schema import describe

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

SHOWN_LIVE = ", ".join(f"`{name}`" if "." in name else f"`{name}.*`" for name in sorted(LIVE))

HEAD = """\
# Settings

Each program reads its TOML file, then the environment, which wins; options of the command line win over both. All
problems are told at once, each with its file and line, or with its variable. Secrets never stand in a file: they come
from the environment, or from a systemd credential named like the variable in lower case.

Changes take effect as follows.

- The relay reads its settings when it starts. After a change, limits of a toy too, restart it: connected toys come back
  by themselves. SIGHUP ends it, as SIGTERM and Ctrl-C do.
- The toy reads its settings again at SIGHUP. Everything needs a restart, and the log names what does, but for
  {live}.

This page is generated.
"""


def table(title: str, settings_class: type) -> str:
    """One program's settings."""

    def code(text: str) -> str:
        return f"`{text}`" if text else ""

    rows = [
        f"| `{row.name}` | {code(row.variable)} | {code(row.default)} | {row.help} |"
        for row in describe(settings_class)
    ]
    return "\n".join([f"## {title}\n", "| setting | environment | default | meaning |", "|---|---|---|---|", *rows, ""])


def page() -> str:
    """The whole page."""
    relay = table("Relay (`pommai relay run --config relay.toml`)", RelaySettings)
    toy = table("Toy", DeviceSettings)
    return f"{HEAD.format(live=SHOWN_LIVE)}\n{relay}\n{toy}"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.unit.test_settings_docs"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
