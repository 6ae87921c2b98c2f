"""`pommai device` as a technician meets it: on the toy, beside its daemon."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pommai.audio import write_wav
from pommai.cli import device_session, device_token
from pommai.errors import ConnectError, PommaiError
from pommai.limits import Rest
from tests.cli.running import Terminal, command, environment, run
from tests.unit.device.pommaid import PATIENCE_S, Pommaid, settings

TOKEN = "pommai_abcdefghijklmnopqrstuvwxyz"

CREDS = """#!/bin/sh
[ "$1 $2 $3" = "encrypt --with-key=host --name=pommai_relay_token" ] || exit 2
[ "$#" = 5 ] || exit 2
printf 'sealed:'; tr a-z A-Z
"""
"""A `systemd-creds` that seals by shouting."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pommaid]:
    with Pommaid(tmp_path_factory.mktemp("toy")) as running:
        yield running


def device(toy: Pommaid, *args: str) -> subprocess.CompletedProcess[str]:
    return run("device", *args, "--socket", str(toy.socket))


# --- a daemon that runs -----------------------------------------------------------------------------------------------


def test_the_status_for_people_and_for_programs(toy: Pommaid) -> None:
    shown = device(toy, "status")
    assert shown.returncode == 0 and not shown.stderr
    names = [line[:12].strip() for line in shown.stdout.splitlines() if line[:1].strip()]
    assert names[:5] == ["state", "relay", "volume", "rest", "talk today"] and "memory" in names
    status = json.loads(device(toy, "status", "--json").stdout)
    assert {"state", "relay", "volume", "ceiling", "cache", "sound", "battery", "clock_trusted"} <= set(status)
    assert 5 < status["memory_mb"] < 500


def test_volume_pause_and_resume_say_what_became_of_them(toy: Pommaid) -> None:
    assert "40%" in device(toy, "volume", "40").stderr
    assert json.loads(device(toy, "volume", "30", "--json").stdout)["volume"] == 0.3
    assert device(toy, "volume", "140").returncode == 2
    assert "rests until" in device(toy, "pause").stderr
    assert toy.ask("status")["rest"] == "paused"
    assert "over" in device(toy, "resume").stderr
    assert toy.ask("status")["rest"] is None


def test_a_pause_that_no_disk_keeps_says_so(tmp_path: Path) -> None:
    with Pommaid(settings(tmp_path, cache={"path": "/proc/none/toy.db"}).parent) as toy:
        said = device(toy, "pause").stderr
        assert "rests until" in said and "switched off" in said


def test_phrases_are_listed_and_played(toy: Pommaid) -> None:
    listed = [json.loads(line) for line in device(toy, "phrases", "--json").stdout.splitlines()]
    assert {"id": "joke-1", "audio": False} in listed and len(listed) >= 40
    assert "joke-1" in device(toy, "phrases").stdout
    assert "joke-1" in device(toy, "play", "joke-1").stderr
    refused = device(toy, "play", "joke-999")
    assert refused.returncode == 69 and "pommai device phrases" in refused.stderr


def test_light_and_sound_are_tested(toy: Pommaid) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while toy.ask("status")["state"] == "playing":  # what another test had it say
        assert time.monotonic() < deadline
    assert "pommai device status" in device(toy, "test", "led").stderr  # there is nothing to look at
    assert device(toy, "test", "sound").returncode == 0
    assert device(toy, "test", "smell").returncode == 2


def test_a_virtual_toy_is_pressed_and_heard(toy: Pommaid, tmp_path: Path) -> None:
    write_wav(tmp_path / "said.wav", b"\0\0" * 2400)
    pressed = json.loads(device(toy, "press", "--say", str(tmp_path / "said.wav"), "--json").stdout)
    assert pressed["turn"] >= 1 and pressed["held_ms"] == 300 and pressed["opened"]
    assert "50 ms" in device(toy, "press", "--hold-ms", "50").stderr
    assert device(toy, "heard", str(tmp_path / "heard.wav")).returncode == 0
    assert (tmp_path / "heard.wav").is_file()
    nowhere = device(toy, "heard", str(tmp_path / "none" / "heard.wav"))
    assert (
        nowhere.returncode == 69
        and "cannot be written" in nowhere.stderr
        and "a folder that is there" in nowhere.stderr
    )


@pytest.mark.parametrize("args", [(), ("--json",)])
def test_a_dump_is_json_without_the_token(toy: Pommaid, args: tuple[str, ...]) -> None:
    dumped = device(toy, "dump", *args).stdout
    assert json.loads(dumped)["settings"]["relay"]["token"] == "Secret(set)"
    assert "a-token-for-tests" not in dumped


# --- no daemon --------------------------------------------------------------------------------------------------------


def test_a_press_on_a_toy_that_rests_says_that_nothing_was_opened(tmp_path: Path) -> None:
    with Pommaid(tmp_path) as toy:
        device(toy, "pause")
        said = device(toy, "press", "--hold-ms", "50").stderr
    assert "stayed closed" in said and "pommai device resume" in said


# --- what it says, said to people -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", list(Rest))
def test_a_rest_that_goes_on_after_the_pause_is_explained(rest: Rest) -> None:
    assert device_session._resumed({"rest": None}) == "The pause is over."
    said = device_session._resumed({"rest": rest.value})
    assert "still rests" in said and device_session._RESTS[rest] in said
    held = {"held_ms": 1000, "opened": False, "rest": rest.value, "paused_here": False, "state": "paused", "turn": 0}
    assert device_session._RESTS[rest] in device_session._pressed(held)


def test_a_press_that_opened_nothing_for_another_reason_names_the_state() -> None:
    held = {"held_ms": 1000, "opened": False, "rest": None, "paused_here": False, "state": "error", "turn": 3}
    assert device_session._pressed(held).endswith("[yellow]the microphone stayed closed[/]: the toy is error.")


def test_a_light_of_which_a_colour_is_missing_says_so() -> None:
    said = device_session._lit({"virtual": False, "problem": "lights.green_pin 22 cannot be used: GPIO busy"})
    assert "look at the toy" in said and "lights.green_pin 22" in said
    assert device_session._lit({"virtual": False, "problem": ""}).endswith("look at the toy.")


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Something that listens at `path`, and gives this answer to whatever comes."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_no_daemon_is_told_with_the_way_to_one(tmp_path: Path) -> None:
    ran = run("device", "status", "--socket", str(tmp_path / "control.sock"))
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 69 and "no toy daemon listens at" in error and "systemctl start pommai" in remedy


def test_a_file_that_is_no_socket_is_told(tmp_path: Path) -> None:
    path = tmp_path / "control.txt"
    path.touch()
    ran = run("device", "status", "--socket", str(path))
    error, remedy = ran.stderr.splitlines()
    assert ran.returncode == 69 and error.endswith("control.txt is no socket") and "/run/pommai/control.sock" in remedy


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [(b"", 69, "ended while"), (b"HTTP/1.1 400\n", 76, "is no toy daemon"), (b'{"a": 1}\n', 76, "is no toy daemon")],
)
def test_what_is_no_daemon_is_told(tmp_path: Path, answer: bytes, code: int, told: str) -> None:
    path = tmp_path / "control.sock"
    with answering(path, answer):
        ran = run("device", "status", "--socket", str(path))
    assert ran.returncode == code and told in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize("do", ["status", "press"])
def test_a_daemon_that_hangs_is_not_waited_for_and_to_be_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    monkeypatch.setattr(device_session, "PATIENCE_S", 60.0 if do == "press" else 0.05)
    monkeypatch.setattr(device_session, "PRESS_S", 0.05 if do == "press" else 60.0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()
        with pytest.raises(ConnectError, match="does not answer") as caught:
            device_session.ask(tmp_path / "control.sock", do)
    assert "systemctl restart pommai" in caught.value.remedy


AS_NOBODY = """
import os, sys
from pathlib import Path
import rich.console
import pommai.cli.output
from pommai.cli.device_session import ask
from pommai.cli.ending import plainly
os.setgid(65534)
os.setuid(65534)
with plainly():
    ask(Path(sys.argv[1]), "status")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_ask_is_told_of_the_group() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        Path(folder).chmod(0o711)
        path = Path(folder) / "control.sock"
        server.bind(str(path))
        server.listen()
        path.chmod(0o660)
        ran = subprocess.run([sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 69 and "you may not use" in ran.stderr and "usermod -aG pommai" in ran.stderr


# --- the token --------------------------------------------------------------------------------------------------------


def set_token(*args: str, said: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = environment() if path is None else environment(PATH=path)
    return subprocess.run(
        command("device", "set-token", *args), input=said, capture_output=True, text=True, check=False, env=env
    )


@pytest.fixture
def creds(tmp_path: Path) -> str:
    """A PATH on which `systemd-creds` is ours."""
    program = tmp_path / "bin" / "systemd-creds"
    program.parent.mkdir()
    program.write_text(CREDS, encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_a_token_is_sealed_and_kept_for_the_service(tmp_path: Path, creds: str) -> None:
    path = tmp_path / "credstore.encrypted" / "pommai_relay_token"
    ran = set_token("--to", str(path), said=f"{TOKEN}\n", path=creds)
    assert ran.returncode == 0 and TOKEN not in ran.stdout + ran.stderr
    assert "does not look there" in ran.stderr and "restart pommai" not in ran.stderr
    assert f"LoadCredentialEncrypted=pommai_relay_token:{path}" in ran.stderr.replace("\n", "")
    assert path.read_text(encoding="utf-8") == f"sealed:{TOKEN.upper()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_plain_token_is_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "credstore" / "pommai_relay_token"
    ran = set_token("--plain", "--json", "--to", str(path), said=f"  {TOKEN}\nrest\n")
    assert json.loads(ran.stdout) == {"path": str(path), "encrypted": False}
    assert path.read_text(encoding="utf-8") == TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_terminal_does_not_show_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    terminal = Terminal("device", "set-token", "--plain", "--to", str(path))
    try:
        terminal.until("Token: ")
        terminal.key(f"{TOKEN}\n")
        shown = terminal.rest()
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()
    assert TOKEN not in shown and path.read_text(encoding="utf-8") == TOKEN


@pytest.mark.parametrize(
    ("path", "plain", "told"),
    [
        (device_token.ENCRYPTED, False, "systemctl restart pommai"),
        (device_token.PLAIN, True, "systemctl restart pommai"),
        (device_token.ENCRYPTED, True, "LoadCredential=pommai_relay_token:/etc/credstore.encrypted/"),
        (Path("/run/token"), True, "LoadCredential=pommai_relay_token:/run/token"),
    ],
)
def test_a_restart_is_enough_only_where_the_service_looks(path: Path, plain: bool, told: str) -> None:
    said = device_token._how_to_use(path, plain=plain)
    assert told in said and ("restart" in said) is ("LoadCredential" not in said)


@pytest.mark.parametrize(
    ("said", "told"),
    [("", "no token came in"), ("\n", "no token came in"), ("two words\n", "no token has"), ("x" * 600, "too long")],
)
def test_what_is_no_token_is_refused_and_kept_nowhere(tmp_path: Path, said: str, told: str) -> None:
    ran = set_token("--plain", "--to", str(tmp_path / "token"), said=said)
    assert ran.returncode == 78 and told in ran.stderr and "pommai relay token add" in ran.stderr
    assert not (said.strip() and said.strip() in ran.stderr) and "relay.token" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_sealed_the_token_stays_where_it_was(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "systemd-creds"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Failed to determine local credential host secret' >&2; exit 1\n")
    program.chmod(0o755)
    path = tmp_path / "token"
    path.write_text("of before", encoding="utf-8")
    ran = set_token("--to", str(path), said=TOKEN, path=f"{program.parent}:{os.environ['PATH']}")
    assert ran.returncode == 70 and "host secret" in ran.stderr and "--plain" in ran.stderr
    assert path.read_text(encoding="utf-8") == "of before"


@pytest.mark.parametrize("name", ["pipe", "folder", "link to nothing", "link to a pipe"])
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link to nothing").symlink_to(tmp_path / "nothing")
    (tmp_path / "link to a pipe").symlink_to(tmp_path / "pipe")
    before = {path.name: path.lstat() for path in tmp_path.iterdir()}
    ran = set_token("--plain", "--to", str(tmp_path / name), said=TOKEN)
    assert ran.returncode == 73 and "is no file" in ran.stderr and "--to" in ran.stderr
    after = {path.name: path.lstat() for path in tmp_path.iterdir()}
    assert {each: kind.st_ino for each, kind in after.items()} == {each: kind.st_ino for each, kind in before.items()}


def test_a_link_goes_on_leading_to_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of before", encoding="utf-8")
    (tmp_path / "link").symlink_to("token")
    assert set_token("--plain", "--to", str(tmp_path / "link"), said=TOKEN).returncode == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "token").read_text(encoding="utf-8") == TOKEN


@pytest.mark.parametrize("path", ["file/token", "file/folder/token"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    ran = set_token("--plain", "--to", str(tmp_path / path), said=TOKEN)
    told = ran.stderr.replace("\n", " ")
    assert ran.returncode == 73 and f"{path} cannot be written: Not a directory" in told
    assert "Name another file with `--to`" in told and "sudo" not in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("number", "user", "code", "told"),
    [
        (errno.EACCES, 1000, 77, "Run it as root: `sudo pommai device set-token --plain --to '/x y/token'`."),
        (errno.EPERM, 0, 77, "Name another file with `--to`, in a folder that may be written to."),
        (errno.ENOSPC, 0, 73, "Make room on its disk"),
        (errno.EROFS, 1000, 73, "Name another file with `--to`"),
    ],
)
def test_what_to_do_follows_from_what_failed(
    monkeypatch: pytest.MonkeyPatch, number: int, user: int, code: int, told: str
) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(device_token, "_write", fail)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(PommaiError, match=os.strerror(number)) as caught:
        device_token._store(Path("/x y/token"), b"", plain=True)
    assert caught.value.exit_code == code and told in caught.value.remedy
    with pytest.raises(PommaiError) as caught:
        device_token._store(device_token.PLAIN, b"", plain=True)
    assert "--to /etc" not in caught.value.remedy
