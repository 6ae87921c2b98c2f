"""docs/settings.md lists every setting; rewrite it with `python -m tests.unit.test_settings_docs`."""

from __future__ import annotations

from pathlib import Path

from pommai.config import describe
from pommai.device.settings import DeviceSettings
from pommai.relay.settings import RelaySettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

HEAD = """\
# Settings

Each program reads its TOML file, then the environment, which wins. All problems are told at once. Secrets never stand
in a file: they come from the environment, or from a systemd credential named like the variable in lower case. This page
is generated.
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
    return f"{HEAD}\n{relay}\n{toy}"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.unit.test_settings_docs"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
