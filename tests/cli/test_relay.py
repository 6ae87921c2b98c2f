"""`pommai relay …` as its users type it."""

from __future__ import annotations

import asyncio
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pommai.cli.ending import plainly
from pommai.cli.main import app
from pommai.protocol import Command, ErrorCode, EventRecord
from pommai.relay.settings import StoreSettings
from pommai.relay.stores.sqlite import SqliteStore


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


def test_a_second_token_is_given_with_a_warning(pommai: Pommai) -> None:
    assert "valid tokens" not in pommai("relay", "token", "add", "teddy").err
    for options in ((), ("--json",)):
        assert "valid tokens now" in (second := pommai("relay", "token", "add", "teddy", *options)).err
        assert second.code == 0 and second.out.count("\n") == 1
    assert "teddy has 4 valid tokens now" in pommai("relay", "token", "add", "teddy").err
    pommai("relay", "token", "revoke", "teddy")
    assert "valid tokens" not in pommai("relay", "token", "add", "teddy").err


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
        (("--port", "many"), 2, "that is not a whole number"),
        (("--stt", "vosk"), 2, "'--stt': 'vosk' is not one of"),
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


def test_mistakes_of_all_kinds_are_told_in_one_run_with_their_places(pommai: Pommai, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    text = """\
[server]
port = 99999
tls_cert = "/nowhere.crt"
tls_key = "/nowhere.key"
[toys."Bad Id"]
[toys.bobo]
quiet_from = "late"
quiet_until = "07:00"
dayly_limit_min = 3
"""
    config.write_text(text, encoding="utf-8")
    ran = pommai("relay", "run", "--config", str(config), "--host", "0.0.0.0")
    assert ran.code == 78
    told = [line.removeprefix(f"error: {config}:").partition(";")[0] for line in ran.err.splitlines()[:-1]]
    assert told == [
        "2: server.port must be from 0 to 65535, not 99999",
        "9: toys.bobo.dayly_limit_min is unknown",
        "3: server.tls_cert /nowhere.crt cannot be read: No such file or directory",
        "4: server.tls_key /nowhere.key cannot be read: No such file or directory",
        "5: toys.Bad Id is no toy's id: that is 1 to 64 lowercase letters, digits and hyphens",
        "7: toys.bobo.quiet_from must be a time of day like \"19:30\", not 'late'",
    ]


def test_who_gives_a_token_needs_no_certificate(pommai: Pommai, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text('[server]\ntls_cert = "/nowhere/only.crt"\n', encoding="utf-8")
    assert pommai("relay", "token", "add", "teddy", "--config", str(config)).code == 0


@pytest.mark.parametrize("options", [("--json",), ()])
def test_limits_of_no_toy_are_warned_of(pommai: Pommai, tmp_path: Path, options: tuple[str, ...]) -> None:
    pommai("relay", "token", "add", "bobo")
    config = tmp_path / "relay.toml"
    config.write_text("[toys.bobbo]\npaused = true\n", encoding="utf-8")
    engines = [option for stage in ("stt", "moderator", "llm", "tts") for option in (f"--{stage}", "scripted")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pommai", "relay", "run", "--config", config, "--port", "0", *options, *engines],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    warning = "[toys.bobbo] holds for no toy: there is no valid token for 'bobbo'; did you mean 'bobo'?"
    try:
        assert process.stdout is not None and process.stderr is not None
        if options:
            assert json.loads(process.stdout.readline())["warnings"] == [warning]
        else:
            assert any(line == f"warning: {warning}\n" for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


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


# --- what toys are told, and what they report -------------------------------------------------------------------------


@pytest.fixture
def teddy(pommai: Pommai) -> Pommai:
    """The same, where there is a toy of that name."""
    pommai("relay", "token", "add", "teddy")
    return pommai


def in_store(folder: Path, work: Callable[[SqliteStore], Any]) -> Any:
    """What `work` gives, done by another process's connection to the store."""

    async def main() -> Any:
        store = await SqliteStore.open(StoreSettings(str(folder / "relay.db")))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("words", "queued"),
    [
        (("volume", "0.4"), Command("", "volume", 0.4)),
        (("brightness", "1"), Command("", "brightness", 1.0)),
        (("play", "joke-1"), Command("", "play", phrase="joke-1")),
        (("pause",), Command("", "pause")),
        (("restart",), Command("", "restart")),
    ],
)
def test_a_command_waits_for_the_toy(teddy: Pommai, tmp_path: Path, words: tuple[str, ...], queued: Command) -> None:
    (said,) = teddy("relay", "command", "teddy", *words, "--json").lines()
    assert said == {"toy": "teddy", "id": said["id"], "action": words[0], "done": False, "code": None}
    (pending,) = in_store(tmp_path, lambda store: store.pending_commands("teddy", time.time()))
    assert pending == replace(queued, id=said["id"])
    ran = teddy("relay", "command", "teddy", *words)
    assert ran.code == 0 and not ran.out and "Queued: teddy does it when it is connected" in ran.err
    assert ("within 10 minutes" in ran.err) is (words[0] in ("play", "restart"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("dance",), "no such action: it is one of volume, brightness, pause"),
        (("volum", "0.5"), "did you mean volume?"),
        (("volume",), "volume needs a value from 0.0 to 1.0"),
        (("volume", "loud"), "from 0.0 to 1.0"),
        (("brightness", "1.01"), "from 0.0 to 1.0"),
        (("volume", "nan"), "from 0.0 to 1.0"),
        (("pause", "1"), "pause takes no value"),
        (("play",), "play needs the id of a phrase"),
        (("play", "jok-1"), "did you mean joke-1?"),
        (("pause", "--wait", "0"), "not from 1 to 3600"),
    ],
)
def test_what_no_toy_can_do_is_never_queued(teddy: Pommai, tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    ran = teddy("relay", "command", "teddy", *words)
    assert ran.code == 2 and text in ran.err and not ran.out
    assert in_store(tmp_path, lambda store: store.list_commands("teddy", 9)) == []


def test_only_a_toy_that_may_come_is_told_anything(teddy: Pommai, tmp_path: Path) -> None:
    teddy("relay", "token", "revoke", "teddy")
    for toy in ("panda", "teddy"):
        ran = teddy("relay", "command", toy, "pause")
        assert ran.code == 67 and f"{toy} has no valid token" in ran.err and "token list" in ran.err
    assert teddy("relay", "command", "Teddy!", "pause").code == 2
    assert in_store(tmp_path, lambda store: store.pending_commands("teddy", time.time())) == []
    for listing in ("events", "commands"):
        assert teddy("relay", listing, "teddy").code == 0, "its past can be read"
        assert teddy("relay", listing, "panda").code == 67


def answer_next(code: ErrorCode | None) -> Callable[[SqliteStore], Any]:
    """The toy's end: another process's connection, which answers as soon as it sees a command."""

    async def answer(store: SqliteStore) -> None:
        while not (pending := await store.pending_commands("teddy", time.time())):  # noqa: ASYNC110 - other processes tell nothing
            await asyncio.sleep(0.01)
        await store.command_done("teddy", pending[0].id, code, time.time())

    return answer


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("volume", "0.9"), "teddy has taken it; its volume ceiling still holds"),
        (("resume",), "teddy has taken it; its other limits still hold"),
    ],
)
def test_what_limits_may_undo_is_not_said_to_be_done(
    teddy: Pommai, tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    with ThreadPoolExecutor(1) as toy:
        answering = toy.submit(in_store, tmp_path, answer_next(None))
        ran = teddy("relay", "command", "teddy", *words, "--wait", "30")
        answering.result()
    assert ran.code == 0 and text in ran.err and "done" not in ran.err


@pytest.mark.parametrize(
    ("code", "exit_code", "text"),
    [(None, 0, "teddy has done it."), (ErrorCode.UNAVAILABLE, 69, "teddy could not do it: unavailable")],
)
def test_waiting_for_the_toy(teddy: Pommai, tmp_path: Path, code: ErrorCode | None, exit_code: int, text: str) -> None:
    for options in ((), ("--json",)):
        with ThreadPoolExecutor(1) as toy:
            answering = toy.submit(in_store, tmp_path, answer_next(code))
            ran = teddy("relay", "command", "teddy", "celebrate", "--wait", "30", *options)
            answering.result()
        assert ran.code == exit_code
        if options:
            assert ran.lines()[0]["done"] is (code is None) and ran.lines()[0]["code"] == code
        else:
            assert text in ran.err and not ran.out


async def replace_next(store: SqliteStore) -> None:
    """Another parent, who changes their mind."""
    while not await store.pending_commands("teddy", time.time()):  # noqa: ASYNC110 - other processes tell nothing
        await asyncio.sleep(0.01)
    await store.queue_command("teddy", "resume", now_s=time.time())


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_waiting_for_what_a_newer_command_has_replaced(teddy: Pommai, tmp_path: Path, options: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(1) as parent:
        replacing = parent.submit(in_store, tmp_path, replace_next)
        ran = teddy("relay", "command", "teddy", "pause", "--wait", "30", *options)
        replacing.result()
    assert ran.code == 75
    if options:
        assert ran.lines()[0]["done"] is False and ran.lines()[0]["code"] == "replaced"
    else:
        assert "a newer command has taken its place" in ran.err and "could not" not in ran.err and not ran.out


def test_the_help_says_how_long_a_command_waits_and_what_replaces_it(pommai: Pommai) -> None:
    said = " ".join(pommai("relay", "command", "--help").out.split())
    assert "Play, celebrate and restart wait for it 10 minutes" in said and "newer pause or resume" in said


def test_a_toy_that_does_not_answer_in_time(teddy: Pommai) -> None:
    ran = teddy("relay", "command", "teddy", "celebrate", "--wait", "1")
    assert ran.code == 75 and "has not done it within 1 s" in ran.err and "It stays queued" in ran.err and not ran.out
    ran = teddy("relay", "command", "teddy", "celebrate", "--wait", "1", "--json")
    assert ran.code == 75 and ran.lines()[0]["done"] is False


def test_what_became_of_commands(teddy: Pommai, tmp_path: Path) -> None:
    assert "was told nothing yet" in teddy("relay", "commands", "teddy").err
    ids = [
        teddy("relay", "command", "teddy", *words, "--json").lines()[0]["id"]
        for words in (("volume", "0.4"), ("play", "joke-1"), ("pause",))
    ]
    in_store(tmp_path, lambda store: store.command_done("teddy", ids[0], None, 2_000_000_000.0))
    in_store(tmp_path, lambda store: store.command_done("teddy", ids[1], ErrorCode.UNAVAILABLE, 2_000_000_000.0))
    shown = teddy("relay", "commands", "teddy").out
    for text in ("volume 0.4", "done 2033-05-18", "play joke-1", "refused 2033-05-18", "unavailable", "waits for the"):
        assert text in shown
    listed = teddy("relay", "commands", "teddy", "--json", "--last", "2").lines()
    assert [(one["action"], one["phrase"], one["code"]) for one in listed] == [
        ("play", "joke-1", "unavailable"),
        ("pause", None, None),
    ]
    assert listed[0]["done"] == "2033-05-18T03:33:20+00:00" and listed[1]["done"] is None
    in_store(tmp_path, lambda store: store.queue_command("teddy", "restart", now_s=1_000_000_000.0))
    teddy("relay", "command", "teddy", "resume")
    lines = [line.split() for line in teddy("relay", "commands", "teddy").out.splitlines()]
    states = {tuple(line[2:4]) for line in lines if len(line) > 3}
    assert states >= {("restart", "expired"), ("pause", "replaced"), ("resume", "waits")}
    (old_one, *_) = teddy("relay", "commands", "teddy", "--json").lines()
    assert (old_one["expires"], old_one["done"]) == ("2001-09-09T01:56:40+00:00", None)


def test_what_a_toy_has_reported(teddy: Pommai, tmp_path: Path) -> None:
    assert "has reported nothing yet" in teddy("relay", "events", "teddy").err
    batch = [
        EventRecord("e1", "gesture", 2_000_000_000.0, False, {"phrase": "joke-1", "battery": 15}),
        EventRecord("e2", "help", 2_000_000_060.0, True),
        EventRecord("e3", "gesture", 9e15),
    ]
    in_store(tmp_path, lambda store: store.store_events("teddy", batch, 2_000_000_100.0))
    shown = teddy("relay", "events", "teddy").out
    assert "phrase=joke-1 battery=15" in shown and shown.count("urgent") == 1
    assert "9999-01-01" in shown, "a clock that is far off is shown as far as a calendar goes"
    first, second, third = teddy("relay", "events", "teddy", "--json").lines()
    assert first == {
        "toy": "teddy",
        "id": "e1",
        "at": "2033-05-18T03:33:20+00:00",
        "received": "2033-05-18T03:35:00+00:00",
        "kind": "gesture",
        "urgent": False,
        "data": {"phrase": "joke-1", "battery": 15},
    }
    assert second["urgent"] is True and str(third["at"]).startswith("9999")
    assert len(teddy("relay", "events", "teddy", "--last", "1", "--json").lines()) == 1


@pytest.mark.parametrize("columns", [60, 80])
def test_times_of_events_are_whole_however_narrow_the_terminal(
    teddy: Pommai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    event = EventRecord("e1", "gesture", 2_000_000_000.0, True, {"a": "x" * 64, "b": "y" * 64})
    in_store(tmp_path, lambda store: store.store_events("teddy", [event], 2_000_000_000.0))
    monkeypatch.setenv("COLUMNS", str(columns))
    out = teddy("relay", "events", "teddy").out
    assert re.search(r"2033-05-1\d \d\d:\d\d:\d\d", out) and out.count("x") + out.count("y") == 128
    assert max(map(len, out.splitlines())) <= columns


def test_forgetting_a_toy_forgets_what_it_reported_and_was_told(teddy: Pommai, tmp_path: Path) -> None:
    in_store(tmp_path, lambda store: store.store_events("teddy", [EventRecord("e1", "gesture", 1.0)], 1.0))
    teddy("relay", "command", "teddy", "pause")
    teddy("relay", "forget", "teddy", "--yes")
    for listing in ("events", "commands"):
        assert teddy("relay", listing, "teddy", "--json").lines() == []
