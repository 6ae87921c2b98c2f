"""What the commands of `pommai device` do: ask the daemon at its control socket, and keep a token for it."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pommai.cli import output
from pommai.config import Secret
from pommai.device.network.address import is_whole_token
from pommai.device.settings import ControlSettings
from pommai.errors import ConfigError, ConnectError, PommaiError, ProtocolError

DEFAULT_SOCKET: Final = Path(ControlSettings().socket)
PATIENCE_S: Final = 75.0
"""A press lasts as long as it is held: up to a minute."""

MAX_ANSWER_BYTES: Final = 4_000_000

CREDENTIAL: Final = "pommai_relay_token"
ENCRYPTED: Final = Path("/etc/credstore.encrypted") / CREDENTIAL
PLAIN: Final = Path("/etc/credstore") / CREDENTIAL
"""Where systemd finds the token of the service (systemd.exec(5), LoadCredentialEncrypted)."""

MAX_TOKEN_CHARS: Final = 512
ENCRYPT_S: Final = 30.0


class DaemonRefusedError(PommaiError):
    """The toy's daemon refused.

    `pommai device status` shows how the toy is.
    """

    exit_code = 69  # EX_UNAVAILABLE


# --- the daemon -------------------------------------------------------------------------------------------------------


def ask(path: Path, do: str, /, **request: Any) -> dict[str, Any]:
    """The daemon's answer. Raises ConnectError without one, DaemonRefusedError if it refuses."""
    line = json.dumps({"do": do, **request}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect(str(path))
            client.sendall(line)
            with client.makefile("rb") as answers:
                answered = answers.readline(MAX_ANSWER_BYTES)
    except PermissionError as error:
        raise ConnectError(f"you may not use {path}", remedy=_JOIN_THE_GROUP) from error
    except TimeoutError as error:
        raise ConnectError(f"the toy daemon at {path} does not answer", remedy=_START_IT) from error
    except OSError as error:  # none there, a dead one's, a path too long
        if path.exists() and not path.is_socket():
            raise ConnectError(f"{path} is no socket", remedy=_NAME_IT) from error
        raise ConnectError(f"no toy daemon listens at {path}", remedy=_START_IT) from error
    return _checked(answered, path)


_NAME_IT: Final = f"Name the daemon's socket with --socket; without it, that is {DEFAULT_SOCKET}."
_START_IT: Final = "Start it: `sudo systemctl start pommai`; or name its socket with --socket."
_JOIN_THE_GROUP: Final = "Use sudo, or join the group pommai: `sudo usermod -aG pommai $USER`, then log in again."


def _checked(answered: bytes, path: Path) -> dict[str, Any]:
    """What the daemon said. An empty line: it ended while it was asked."""
    if not answered:
        raise ConnectError(f"the toy daemon at {path} ended while it was asked", remedy=_START_IT)
    try:
        answer = json.loads(answered)
        if answer["ok"]:
            del answer["ok"]
            return dict(answer)
        error = DaemonRefusedError(str(answer["error"]), remedy=str(answer["remedy"]))
    except (ValueError, KeyError, TypeError) as caught:
        raise ProtocolError(f"what listens at {path} is no toy daemon") from caught
    raise error


def show(path: Path, do: str, /, *, as_json: bool, done: str = "", **request: Any) -> None:
    """Ask for something to be done; for people, say that it was: `done`, filled with what the daemon answered."""
    answer = ask(path, do, **request)
    if as_json:
        output.emit(answer)
    elif done:
        output.notice(done.format(**answer))
        if answer.get("kept") is False:
            output.notice("[yellow]Only until it is switched off[/]: it has no disk to keep it on (see `status`).")


def heard(path: Path, wav: Path, *, as_json: bool) -> None:
    """Have the daemon save what its speaker played."""
    try:
        show(path, "heard", as_json=as_json, done="{heard_ms:.0f} ms are in {path}.", path=str(wav))
    except DaemonRefusedError as error:
        if not str(error).startswith(str(wav)):
            raise
        remedy = "The daemon writes the file, as its own user: name one in a folder that is there, and that it may use."
        raise DaemonRefusedError(str(error), remedy=remedy) from None


def status(path: Path, *, as_json: bool) -> None:
    """Show how the toy is."""
    answer = ask(path, "status")
    if as_json:
        output.emit(answer)
    else:
        output.facts(_facts(answer))


def phrases(path: Path, *, as_json: bool) -> None:
    """List the phrases that the toy knows."""
    known = ask(path, "phrases")["phrases"]
    if as_json:
        for phrase in known:
            output.emit(phrase)
    else:
        rows = [[phrase["id"], "recorded" if phrase["audio"] else "text only"] for phrase in known]
        output.table(["phrase", "voice"], rows, whole=("phrase",))


def _facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """The status for people: a name and a line for each thing worth knowing."""
    relay, cache, sound, battery = answer["relay"], answer["cache"], answer["sound"], answer["battery"]
    why = f" ({answer['why']})" if answer["why"] else ""
    facts = [
        ("state", f"{answer['state']}{why}, for {_lasted(answer['since_s'])}"),
        ("relay", f"reached at {relay['url']}" if relay["reached"] else f"not reached: {relay['why_not']}"),
        ("volume", f"{answer['volume']:.0%}, of at most {answer['ceiling']:.0%}"),
        ("rest", answer["rest"] or "no reason to rest"),
        ("talk today", _lasted(answer["used_today_s"])),
        ("battery", answer["battery_problem"] or _charge(battery)),
        ("sound", f"{'there' if sound['present'] else 'no sound card'}, {sound['xruns']} xruns"),
        ("lights", answer["lights"]["problem"] or "in order"),
        ("cache", cache["problem"] or "in order"),
        ("events", f"{cache['unsent']} to be sent, {cache['urgent']} of them urgent"),
        ("phrases", f"{cache['phrases']} recorded{', more on their way' if cache['syncing'] else ''}"),
        ("clock", "trusted" if answer["clock_trusted"] else "not set yet: limits of time hold as they were"),
        ("running", f"pommai {answer['version']} for {_lasted(answer['uptime_s'])}"),
    ]
    if (turn := answer["last_turn"]) is not None:
        audio = f", first sound after {turn['first_audio_ms']} ms" if "first_audio_ms" in turn else ""
        facts.append(("last turn", f"number {turn['turn']}: {turn['outcome']}{audio}"))
    return facts


def _charge(battery: dict[str, Any] | None) -> str:
    if battery is None:
        return "none"
    return f"{battery['percent']} %{', charging' if battery['charging'] else ''}"


def _lasted(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# --- the token --------------------------------------------------------------------------------------------------------


def set_token(*, plain: bool, to: Path | None, as_json: bool) -> None:
    """Read a token from standard input and keep it where the service finds it."""
    token = _read_token()
    path = to if to is not None else PLAIN if plain else ENCRYPTED
    content = token.reveal().encode() if plain else _encrypted(token)
    _store(path, content)
    if as_json:
        output.emit({"path": str(path), "encrypted": not plain})
    else:
        output.notice(f"The token is in {output.plain(str(path))}. {_how_to_use(path, plain=plain)}")


def _how_to_use(path: Path, *, plain: bool) -> str:
    """What has to be done before the toy uses a token that is kept at `path`."""
    if path.absolute() == (PLAIN if plain else ENCRYPTED):
        return "[bold]sudo systemctl restart pommai[/] picks it up."
    load = f"LoadCredential{'' if plain else 'Encrypted'}={CREDENTIAL}:{path.absolute()}"
    return (
        f"The service does not look there: it does if its unit says [bold]{output.plain(load)}[/] "
        "(`sudo systemctl edit pommai`). Without --to, the token is kept where it looks."
    )


def _read_token() -> Secret:
    """One line of standard input, which a terminal does not show. Raises ConfigError for what is no token."""
    try:
        line = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline(4096)
    except EOFError:
        line = ""
    except UnicodeDecodeError:
        line = "\0"
    token = Secret(line.strip())
    if not token:
        raise ConfigError(["no token came in; give it on standard input, in one line"], remedy=_GET_ONE)
    if len(token.reveal()) > MAX_TOKEN_CHARS:
        raise ConfigError(["that is too long for a token; was it copied alone?"], remedy=_GET_ONE)
    if not is_whole_token(token.reveal()):
        problem = "what came in holds characters that no token has; was it copied whole and alone?"
        raise ConfigError([problem], remedy=_GET_ONE)
    return token


_GET_ONE: Final = "`pommai relay token add TOY` makes one and shows it once; then: `sudo pommai device set-token`."


def _encrypted(token: Secret) -> bytes:
    """The token, sealed with the key of this machine. Raises PommaiError where systemd cannot."""
    program = shutil.which("systemd-creds")
    if program is None:
        raise PommaiError("systemd-creds is not installed", remedy=_PLAIN)
    command = [program, "encrypt", "--with-key=host", f"--name={CREDENTIAL}", "-", "-"]
    try:
        ran = subprocess.run(
            command, input=token.reveal().encode(), capture_output=True, timeout=ENCRYPT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        raise PommaiError("systemd-creds cannot be run", remedy=_PLAIN) from None
    if ran.returncode != 0:
        reason = ran.stderr.decode(errors="replace").strip().splitlines()
        raise PommaiError(f"systemd-creds failed: {reason[-1] if reason else ran.returncode}", remedy=_PLAIN)
    return ran.stdout


_PLAIN: Final = "Run it as root: `sudo pommai device set-token`; or keep the token unencrypted, with --plain."


def _store(path: Path, content: bytes) -> None:
    """Write all or nothing; nobody but root, or whoever runs this, may read it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise PommaiError(f"{path} cannot be written: {error.strerror}", remedy=_PLAIN_ROOT) from error


_PLAIN_ROOT: Final = "Run it as root: `sudo pommai device set-token`."
