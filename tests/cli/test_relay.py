"""`pommai relay …` as its users type it."""

from __future__ import annotations

import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pommai.cli.ending import plainly
from pommai.cli.main import app


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, object]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Pommai = Callable[..., Ran]


@pytest.fixture
def pommai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Pommai:
    """Runs a command with a store of its own."""
    monkeypatch.setenv("POMMAI_STORE_PATH", str(tmp_path / "relay.db"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str) -> Ran:
        with pytest.raises(SystemExit) as left, plainly():
            app(list(args))
        out, err = capfd.readouterr()
        return Ran(int(left.value.code or 0), out, err)

    return run


def a_turn(path: Path, toy: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO turns (toy, started_at_ms, turn, outcome, tokens, uplink_packets, downlink_packets, ms,"
            " verdicts, heard) VALUES (?, 1, 1, 'answered', 0, 0, 0, '{}', '[]', 'SECRET WORDS')",
            (toy,),
        )
    connection.close()


def test_a_token_is_shown_once_on_stdout_and_never_again(pommai: Pommai, tmp_path: Path) -> None:
    added = pommai("relay", "token", "add", "teddy")
    token = added.out.strip()
    assert added.code == 0 and len(token) == 43 and token not in added.err
    assert "shown this once" in added.err
    listed = pommai("relay", "token", "list")
    assert "teddy" in listed.out and "never" in listed.out and "valid" in listed.out and token not in listed.out
    assert token.encode() not in (tmp_path / "relay.db").read_bytes()


@pytest.mark.parametrize("columns", [60, 80])
def test_ids_and_times_are_whole_however_narrow_the_terminal(
    pommai: Pommai, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    (added,) = pommai("relay", "token", "add", "a-toy-with-a-rather-long-name", "--json").lines()
    monkeypatch.setenv("COLUMNS", str(columns))
    listed = pommai("relay", "token", "list").out
    assert str(added["token_id"]) in listed
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d +never", listed) and "T" not in listed


def test_tokens_as_json(pommai: Pommai) -> None:
    (added,) = pommai("relay", "token", "add", "teddy", "--json").lines()
    assert set(added) == {"toy", "token", "token_id"}
    (listed,) = pommai("relay", "token", "list", "--json").lines()
    assert listed["toy"] == "teddy" and listed["token_id"] == added["token_id"]
    assert listed["last_used"] is None and listed["revoked"] is None and "token" not in listed
    assert pommai("relay", "token", "revoke", "teddy", "--json").lines() == [{"toy": "teddy", "revoked": 1}]
    (listed,) = pommai("relay", "token", "list", "--json").lines()
    assert listed["revoked"] is not None


def test_revoking_what_nobody_has_is_an_error(pommai: Pommai) -> None:
    ran = pommai("relay", "token", "revoke", "teddy")
    assert ran.code == 67 and "teddy has no valid token" in ran.err and not ran.out
    assert "`pommai relay token list` shows" in ran.err and "disk" not in ran.err


def test_an_empty_list_says_how_to_begin(pommai: Pommai) -> None:
    ran = pommai("relay", "token", "list")
    assert ran.code == 0 and not ran.out and "pommai relay token add TOY" in ran.err


@pytest.mark.parametrize("toy", ["Teddy", "", "a b", "x" * 65])
def test_a_bad_id_is_a_usage_error(pommai: Pommai, toy: str) -> None:
    for command in (("token", "add"), ("token", "revoke"), ("forget", "--yes")):
        ran = pommai("relay", *command, toy)
        assert ran.code == 2 and "lowercase letters" in ran.err and not ran.out


def test_forgetting_a_toy(pommai: Pommai, tmp_path: Path) -> None:
    pommai("relay", "token", "add", "teddy")
    a_turn(tmp_path / "relay.db", "teddy")
    a_turn(tmp_path / "relay.db", "panda")
    assert pommai("relay", "forget", "teddy", "--yes", "--json").lines() == [{"toy": "teddy", "turns_removed": 1}]
    assert pommai("relay", "forget", "panda", "--yes").err.startswith("1 turn of panda removed.")
    assert b"SECRET" not in (tmp_path / "relay.db").read_bytes()
    assert len(pommai("relay", "token", "list", "--json").lines()) == 1


def test_forgetting_asks_first(pommai: Pommai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pommai("relay", "token", "list")
    a_turn(tmp_path / "relay.db", "teddy")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ran = pommai("relay", "forget", "teddy")
    assert ran.code == 1 and "for good?" in ran.err
    assert pommai("relay", "forget", "teddy", "--json").code == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert "1 turn of teddy removed" in pommai("relay", "forget", "teddy").err


def test_a_store_that_cannot_be_opened(pommai: Pommai, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMMAI_STORE_PATH", "/nowhere/relay.db")
    ran = pommai("relay", "token", "list")
    assert ran.code == 74 and "/nowhere does not exist" in ran.err and not ran.out
    assert "`[store] path`" in ran.err and "--config" in ran.err and "POMMAI_STORE_PATH" in ran.err


def test_every_command_about_toys_uses_the_store_of_the_settings_file(
    pommai: Pommai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POMMAI_STORE_PATH")
    config = tmp_path / "relay.toml"
    config.write_text(f'[store]\npath = "{tmp_path}/other.db"\n', encoding="utf-8")
    for command in (
        ("token", "add", "teddy"),
        ("token", "list"),
        ("token", "revoke", "teddy"),
        ("forget", "teddy", "--yes"),
    ):
        ran = pommai("relay", *command, "--config", str(config), "--json")
        assert ran.code == 0 and ran.lines()[0]["toy"] == "teddy"
    assert (tmp_path / "other.db").exists() and not (tmp_path / "relay.db").exists()


def test_the_settings_file_and_its_problems(pommai: Pommai, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[server]\nprot = 1\n[store]\nkeep_words_days = -1\n[toys.teddy]\npaused = "yes"\n')
    ran = pommai("relay", "run", "--config", str(config))
    assert ran.code == 78 and ran.err.count("error:") == 3 and "did you mean 'port'" in ran.err


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--host", "0.0.0.0"), 78, "no TLS"),
        (("--port", "70000"), 2, "65535"),
        (("--stt", "vosk"), 2, "vosk"),
        (("--config", "/nowhere.toml"), 78, "/nowhere.toml cannot be read"),
    ],
)
def test_what_relay_run_refuses(pommai: Pommai, options: tuple[str, ...], code: int, text: str) -> None:
    ran = pommai("relay", "run", *options)
    assert ran.code == code and text in ran.err and not ran.out


def test_a_taken_port(pommai: Pommai, monkeypatch: pytest.MonkeyPatch) -> None:
    from pommai.relay import listening
    from pommai.relay.settings import ServerSettings

    (taken,) = listening.bind(ServerSettings(port=0))
    with taken:
        ran = pommai("relay", "run", "--port", str(taken.getsockname()[1]))
    assert ran.code == 69 and "is taken by another program" in ran.err and "--port" in ran.err


def test_limits_and_tls_are_told_in_one_round(pommai: Pommai, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[server]\nhost = "0.0.0.0"\n[toys.teddy]\nquiet_from = "late"\n', encoding="utf-8")
    ran = pommai("relay", "run", "--config", str(config))
    assert ran.code == 78 and "no TLS" in ran.err and "teddy.quiet_from must be a time" in ran.err


def test_a_relay_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    engines = [option for stage in ("stt", "moderator", "llm", "tts") for option in (f"--{stage}", "scripted")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pommai", "relay", "run", "--port", "0", "--json", *engines],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "POMMAI_STORE_PATH": str(tmp_path / "relay.db")},
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True and ready["url"] == f"ws://127.0.0.1:{ready['port']}/v1/toy"
        with urllib.request.urlopen(f"http://127.0.0.1:{ready['port']}/healthz", timeout=5) as response:
            assert json.load(response)["engines"]["stt"] == "scripted"
        told_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0 and not out and "Traceback" not in err
        assert time.monotonic() - told_s < 5
    finally:
        process.kill()
        process.communicate()
