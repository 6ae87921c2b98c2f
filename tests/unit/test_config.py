"""Settings: files, environment, credentials, and every problem at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pommai.config import Secret, describe, load, setting
from pommai.device.settings import DeviceSettings
from pommai.errors import ConfigError
from pommai.relay.settings import RelaySettings


@dataclass(frozen=True, slots=True)
class Server:
    """A section."""

    host: str = setting("localhost", help="where")
    port: int = setting(80, minimum=1, maximum=99, help="which")
    ratio: float = setting(0.5, minimum=0, maximum=1, help="how much")
    open: bool = setting(False, help="whether")
    mode: str = setting("a", choices=("a", "b"), help="how")
    key: Secret = setting(Secret(""), help="key")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings."""

    server: Server = field(default_factory=Server)
    toys: dict[str, Server] = field(default_factory=dict)


def toml(tmp_path: Path, text: str, name: str = "a.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_gives_the_defaults() -> None:
    assert load(Settings) == Settings()
    assert load(RelaySettings) == RelaySettings()
    assert load(DeviceSettings) == DeviceSettings()


def test_later_files_win_and_the_environment_wins_over_all(tmp_path: Path) -> None:
    first = toml(tmp_path, "[server]\nport = 1\nratio = 0\nopen = true\n[toys.bobo]\nport = 7")
    second = toml(tmp_path, "[server]\nport = 2\nmode = 'b'", "b.toml")
    environ = {"POMMAI_SERVER_HOST": "example", "POMMAI_SERVER_OPEN": "no"}
    settings = load(Settings, [first, second], environ)
    assert settings.server == Server("example", 2, 0.0, False, "b")
    assert settings.toys == {"bobo": Server(port=7)}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        serv = 1
        [sever]
        [server]
        prot = 3
        port = 100
        ratio = "much"
        open = 1
        mode = "c"
        key = "x"
        [toys]
        bobo = 3
        [toys.teddy]
        hots = "x"
        """,
    )
    environ = {"POMMAI_SERVER_PROT": "1", "POMMAI_SERVER_HOST_": "x", "POMMAI_OTHER": "kept"}
    with pytest.raises(ConfigError) as raised:
        load(Settings, [path, tmp_path / "none.toml"], environ)
    told = "\n".join(raised.value.problems)
    for expected in (
        "unknown section [serv]; did you mean 'server'?",
        "unknown section [sever]; did you mean 'server'?",
        "server.prot is unknown; did you mean 'port'?",
        "server.port must be from 1 to 99, not 100",
        "server.ratio must be a number",
        "server.open must be true or false",
        "server.mode must be one of a, b, not 'c'",
        "server.key is a secret and may not stand in a file; set POMMAI_SERVER_KEY instead",
        "toys.bobo must be a section of its own",
        "toys.teddy.hots is unknown; did you mean 'host'?",
        "none.toml cannot be read: No such file or directory",
        "unknown variable POMMAI_SERVER_PROT; did you mean 'POMMAI_SERVER_PORT'?",
        "unknown variable POMMAI_SERVER_HOST_; did you mean 'POMMAI_SERVER_HOST'?",
    ):
        assert expected in told
    assert len(raised.value.problems) == 13


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"POMMAI_SERVER_PORT": "x"}, "environment: POMMAI_SERVER_PORT must be a whole number"),
        ({"POMMAI_SERVER_OPEN": "maybe"}, "environment: POMMAI_SERVER_OPEN must be true or false"),
        ({"POMMAI_SERVER_RATIO": "nan"}, "environment: POMMAI_SERVER_RATIO must be from 0 to 1, not nan"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(Settings, (), environ)
    assert raised.value.problems == (problem,)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"server = [", "is not TOML"), (b"\xff", "is not UTF-8"), (b"server = 1", "server must be a section: [server]")],
)
def test_a_file_that_is_no_settings_file_is_told(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml") as raised:
        load(Settings, [path])
    assert problem in str(raised.value)


def test_an_unknown_word_that_resembles_nothing_lists_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known are: server, toys"):
        load(Settings, [toml(tmp_path, "[zzz]")])


def test_a_secret_comes_from_the_environment_or_a_credential(tmp_path: Path) -> None:
    (tmp_path / "pommai_server_key").write_text("from-credential\n", encoding="utf-8")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(Settings, (), credentials).server.key.reveal() == "from-credential"
    both = credentials | {"POMMAI_SERVER_KEY": "from-environment"}
    assert load(Settings, (), both).server.key == Secret("from-environment")
    assert load(Settings, (), {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).server.key == Secret("")


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("hunter2")
    shown = f"{secret!r} {secret!s} {secret} {Server(key=secret)!r} {[secret]}"
    assert "hunter2" not in shown
    assert bool(secret)
    assert not Secret("")
    assert secret == Secret("hunter2") != "hunter2"
    assert {secret, Secret("hunter2")} == {secret}


def test_every_setting_can_be_described() -> None:
    rows = {row.name: row for row in describe(Settings)}
    assert rows["server.port"].variable == "POMMAI_SERVER_PORT"
    assert rows["server.port"].default == "80"
    assert rows["server.key"].default == ""
    assert rows["toys.ID.port"].variable == ""
