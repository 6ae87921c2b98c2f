"""`pommai sim` as its user meets it: on a terminal, with the space bar as the button."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pommai.relay import listening
from pommai.relay.settings import ServerSettings
from tests.cli.running import Terminal, run

TOKEN = {"POMMAI_RELAY_TOKEN": "x"}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A toy on a terminal; temporary files are made in `tmp_path`."""
    opened = Terminal("sim", "--embedded", env={"TMPDIR": str(tmp_path)})
    yield opened
    opened.close()


@pytest.mark.engines
def test_a_press_a_release_and_the_toy_answers(terminal: Terminal) -> None:
    terminal.until("idle")
    terminal.key(" ")
    terminal.until("listening")
    terminal.until("child.*Hello")  # it has said all
    terminal.key(" ")
    terminal.until("heard.*ello")
    terminal.until("speaking")
    terminal.until("idle")
    terminal.key("q")
    assert terminal.process.wait(10) == 0


@pytest.mark.engines
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_told_to_end_it_leaves_nothing_behind(
    terminal: Terminal, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    terminal.until("idle")
    assert list(tmp_path.glob("pommai-sim-*"))
    terminal.process.send_signal(number)
    shown = terminal.rest()
    assert terminal.process.wait(10) == code
    assert "Traceback" not in shown and "error" not in shown
    assert not list(tmp_path.glob("pommai-sim-*"))


@pytest.mark.engines
def test_a_window_that_is_closed_ends_it_too(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until("idle")
    terminal.shut()
    terminal.process.send_signal(signal.SIGHUP)  # as the kernel does for the process that a terminal controls
    assert terminal.process.wait(10) == 129
    assert not list(tmp_path.glob("pommai-sim-*"))


def test_without_a_token_the_way_to_one_is_told() -> None:
    result = run("sim")
    assert result.returncode == 78
    assert "pommai relay token add" in result.stderr


def test_without_a_terminal_it_says_so() -> None:
    result = run("sim", env=TOKEN)
    assert result.returncode == 71
    assert "needs a terminal" in result.stderr
    assert "Run it in a terminal" in result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--relay", "ws://127.0.0.1:1/v1/toy", "--embedded"), "leave out --relay"),
        (("--config", "toy.toml", "--embedded"), "--config"),
        (("--mic", "--wav", "a.wav"), "leave out --wav"),
    ],
)
def test_contradicting_options_are_a_usage_error(args: tuple[str, ...], told: str) -> None:
    result = run("sim", *args, env=TOKEN)
    assert result.returncode == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("address", "told"), [("relay.example", "must look like"), ("ws://192.0.2.1/v1/toy", "plain ws:// to another")]
)
def test_an_address_that_a_toy_must_not_use_is_refused_before_anything_else(address: str, told: str) -> None:
    result = run("sim", "--relay", address, env=TOKEN)
    assert result.returncode == 78
    assert told in result.stderr


@pytest.mark.engines
def test_a_relay_that_is_not_there_is_named_with_the_way_to_start_one() -> None:
    (unused,) = listening.bind(ServerSettings(port=0))
    port = unused.getsockname()[1]
    unused.close()
    terminal = Terminal("sim", "--relay", f"ws://127.0.0.1:{port}/v1/toy", env=TOKEN | {"COLUMNS": "200"})
    try:
        shown = terminal.rest()
        assert terminal.process.wait(10) == 69
    finally:
        terminal.close()
    assert f"nothing listens at ws://127.0.0.1:{port}/v1/toy" in shown
    assert "`pommai relay run`" in shown and "--embedded" in shown


def test_a_wrong_settings_file_names_every_problem(tmp_path: Path) -> None:
    config = tmp_path / "toy.toml"
    config.write_text('[relay]\nurll = "x"\nca_file = "/nowhere"\n[timming]\n', encoding="utf-8")
    result = run("sim", "--config", str(config), "--relay", "https://x")
    assert result.returncode == 78
    assert "did you mean 'url'" in result.stderr
    assert "did you mean 'timing'" in result.stderr
    assert f"{config}:3: relay.ca_file /nowhere holds no certificates" in result.stderr
    assert "command line: relay.url must look like" in result.stderr
    assert "pommai relay token add" in result.stderr
