"""Settings: files, environment, credentials, and every problem at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pommai.cli import relay_session
from pommai.config import load
from pommai.device.service import loading
from pommai.device.settings import DeviceSettings
from pommai.errors import ConfigError
from pommai.relay.settings import RelaySettings
from pommai.schema import Problem, Secret, describe, setting


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
    told = [problem.replace(f"{tmp_path}/", "") for problem in raised.value.problems]
    assert sorted(told) == sorted(
        [
            "a.toml:2: unknown section [serv]; did you mean 'server'?",
            "a.toml:3: unknown section [sever]; did you mean 'server'?",
            "a.toml:5: server.prot is unknown; did you mean 'port'?",
            "a.toml:6: server.port must be from 1 to 99, not 100",
            "a.toml:7: server.ratio must be a number",
            "a.toml:8: server.open must be true or false",
            "a.toml:9: server.mode must be one of a, b, not 'c'",
            "a.toml:10: server.key is a secret and may not stand in a file; set POMMAI_SERVER_KEY instead",
            "a.toml:12: toys.bobo must be a section of its own",
            "a.toml:14: toys.teddy.hots is unknown; did you mean 'host'?",
            "none.toml cannot be read: No such file or directory",
            "environment: unknown variable POMMAI_SERVER_PROT; did you mean 'POMMAI_SERVER_PORT'?",
            "environment: unknown variable POMMAI_SERVER_HOST_; did you mean 'POMMAI_SERVER_HOST'?",
        ]
    )


def test_five_mistakes_of_a_toy_are_told_with_file_and_line(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """\
# The toy of a maker who was in a hurry.
[button]
pin = 99
pul = "up"

[lights]
common = \"\"\"
[sound]
volume = 2\"\"\"
[sounds]
[sound]
volume = 2
""",
    )
    with pytest.raises(ConfigError) as raised:
        load(DeviceSettings, [path])
    problems = [problem.removeprefix(f"{path}:") for problem in raised.value.problems]
    assert len(problems) == 5
    assert sorted(problem.split(";")[0] for problem in problems) == sorted(
        [
            "3: button.pin must be from 0 to 27, not 99",
            "4: button.pul is unknown",
            "7: lights.common must be one of cathode, anode, not '[sound]\\nvolume = 2'",
            "10: unknown section [sounds]",
            "12: sound.volume must be from 0.0 to 1.0, not 2",
        ]
    )


def test_a_problem_is_told_in_the_file_that_had_the_last_word(tmp_path: Path) -> None:
    first = toml(tmp_path, "[server]\nport = 100\nmode = 'c'")
    second = toml(tmp_path, "[server]\n\nport = 200\n", "b.toml")
    with pytest.raises(ConfigError) as raised:
        load(Settings, [first, second])
    assert raised.value.problems == (
        f"{second}:3: server.port must be from 1 to 99, not 200",
        f"{first}:3: server.mode must be one of a, b, not 'c'",
    )


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


# --- what is wrong together -------------------------------------------------------------------------------------------


def together(settings: Settings) -> list[Problem]:
    """A check that is never content."""
    toys = [Problem((f"toys.{toy}.port", f"toys.{toy}.mode"), "is no port of a toy") for toy in settings.toys]
    return [Problem(("server.port", "server.mode"), f"{settings.server.port} is not for that mode"), *toys]


def problems_together(
    files: list[Path], environ: dict[str, str] | None = None, given: dict[str, object] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(Settings, files, environ, given=given, check=together)
    return [problem.replace(f"{files[0].parent}/" if files else "-", "") for problem in raised.value.problems]


def test_what_is_wrong_together_is_told_where_it_was_written(tmp_path: Path) -> None:
    first = toml(tmp_path, "[server]\nport = 2\nmode = 'b'\n[toys.bobo]\n\nmode = 'b'\n[toys.teddy]\n")
    second = toml(tmp_path, "[server]\n\nport = 3\n", "b.toml")
    third = toml(tmp_path, "[server]\nhost = 'x'\nmode = 'b'\n", "c.toml")
    toys = ["a.toml:6: toys.bobo.port is no port of a toy", "toys.teddy.port is no port of a toy"]
    told = "server.port 3 is not for that mode"
    assert problems_together([first, second]) == [f"b.toml:3: {told}", *toys]
    assert problems_together([third]) == ["c.toml:3: server.port 80 is not for that mode"], "a default has no line"
    assert problems_together([first], {"POMMAI_SERVER_PORT": "3"}) == [
        f"environment: POMMAI_SERVER_PORT: {told}",
        *toys,
    ]
    assert problems_together([], given={"server.port": 3}) == [f"command line: {told}"]
    assert problems_together([]) == ["server.port 80 is not for that mode"]


def test_the_command_line_wins_and_must_fit_too() -> None:
    environ = {"POMMAI_SERVER_PORT": "3"}
    assert load(Settings, [], environ, given={"server.port": 4}).server.port == 4
    with pytest.raises(ConfigError, match=r"^command line: server\.port must be from 1 to 99, not 100$"):
        load(Settings, [], environ, given={"server.port": 100})


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("[server]\nport = 100", {}),
        ("[server]\nmode = 'c'\nport = 3", {}),
        ("[server]\nprot = 3", {}),
        ("[sever]\nport = 3", {}),
        ("server = 3", {}),
        ("", {"POMMAI_SERVER_PROT": "3"}),
        ("[server", {}),
    ],
)
def test_what_may_only_follow_from_a_problem_is_not_told(tmp_path: Path, text: str, environ: dict[str, str]) -> None:
    assert len(problems_together([toml(tmp_path, text)], environ)) == 1


def test_what_cannot_follow_from_a_problem_is_told_beside_it(tmp_path: Path) -> None:
    told = problems_together([toml(tmp_path, "[server]\nhots = 'x'\nport = 3\n[sever]\n[toys.bobo]\nport = 100\n")])
    assert [problem.partition(";")[0] for problem in told] == [
        "a.toml:4: unknown section [sever]",
        "a.toml:2: server.hots is unknown",
        "a.toml:6: toys.bobo.port must be from 1 to 99, not 100",
    ], "server.mode may be in [sever]"
    told = problems_together([toml(tmp_path, "[server]\nhots = 'x'\nport = 3\nmode = 'b'\n[sever]\n")])
    assert told[-1] == "a.toml:3: server.port 3 is not for that mode"


def test_a_credential_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "pommai_server_key").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^credential pommai_server_key must be a text$"):
        load(Settings, (), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_number_is_told_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.ratio must be from 0 to 1, not 3$"):
        load(Settings, [toml(tmp_path, "[server]\nratio = 3")])


@contextmanager
def shut(folder: Path) -> Iterator[None]:
    """`folder` is one that we may not look into, even if we are root."""
    folder.chmod(0)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(before)
        folder.chmod(0o700)


def test_a_credential_that_may_not_be_looked_at_is_told(tmp_path: Path) -> None:
    with shut(tmp_path), pytest.raises(ConfigError, match=r"^credential pommai_server_key must be a text$"):
        load(Settings, (), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert load(Settings, (), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == Settings()


@pytest.mark.parametrize(("module", "name"), [(loading, "DEFAULT_FILE"), (relay_session, "DEFAULT_CONFIG")])
def test_settings_that_may_not_be_looked_at_are_told_and_those_that_are_not_there_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def read() -> object:
        return loading.load_settings([], {}) if module is loading else relay_session.settings(None)

    monkeypatch.setattr(module, name, tmp_path / "ours.toml")
    with shut(tmp_path), pytest.raises(ConfigError, match=r"ours\.toml cannot be read: Permission denied$"):
        read()
    assert read() == (DeviceSettings() if module is loading else RelaySettings())
    monkeypatch.setattr(module, name, toml(tmp_path, "[cache]\n[store]") / "ours.toml")
    with pytest.raises(ConfigError, match=r"ours\.toml cannot be read: Not a directory$"):
        read()


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[server]\n\nport =", "a.toml:3: this is not TOML: Invalid value (at end of document)"),
        (b"[server]\nport = 1\nport = 2\n", "a.toml:3: this is not TOML: Cannot overwrite a value (at line 3"),
        (b"\xff", "a.toml is not UTF-8"),
        (b"\nserver = 1", "a.toml:2: server must be a section: [server]"),
    ],
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
