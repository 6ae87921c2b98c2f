"""What `pommai device set-token` does: keep the toy's token where its service finds it."""

from __future__ import annotations

import errno
import getpass
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pommai.cli import output
from pommai.device.network.address import is_whole_token
from pommai.errors import ConfigError, PommaiError
from pommai.schema import Secret

CREDENTIAL: Final = "pommai_relay_token"
ENCRYPTED: Final = Path("/etc/credstore.encrypted") / CREDENTIAL
PLAIN: Final = Path("/etc/credstore") / CREDENTIAL
"""Where systemd finds the token of the service (systemd.exec(5), LoadCredentialEncrypted)."""

MAX_TOKEN_CHARS: Final = 512
ENCRYPT_S: Final = 30.0


class NotKeptError(PommaiError):
    """The token cannot be kept.

    Name another file with `--to`; without it, the token is kept where the service looks.
    """

    exit_code = 73  # EX_CANTCREAT


class NotAllowedError(NotKeptError):
    """The token may not be kept there by this user.

    Name another file with `--to`, in a folder that may be written to.
    """

    exit_code = 77  # EX_NOPERM


def set_token(*, plain: bool, to: Path | None, as_json: bool) -> None:
    """Read a token from standard input and keep it where the service finds it."""
    token = _read_token()
    path = to if to is not None else PLAIN if plain else ENCRYPTED
    content = token.reveal().encode() if plain else _encrypted(token)
    _store(path, content, plain=plain)
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
        raise PommaiError("systemd-creds is not installed", remedy=_UNENCRYPTED)
    command = [program, "encrypt", "--with-key=host", f"--name={CREDENTIAL}", "-", "-"]
    try:
        ran = subprocess.run(
            command, input=token.reveal().encode(), capture_output=True, timeout=ENCRYPT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        raise PommaiError("systemd-creds cannot be run", remedy=_UNENCRYPTED) from None
    if ran.returncode != 0:
        reason = ran.stderr.decode(errors="replace").strip().splitlines()
        remedy = _UNENCRYPTED if os.geteuid() == 0 else _SEAL_AS_ROOT
        raise PommaiError(f"systemd-creds failed: {reason[-1] if reason else ran.returncode}", remedy=remedy)
    return ran.stdout


_UNENCRYPTED: Final = "Keep the token unencrypted, with --plain: for root alone, but as it is."
_SEAL_AS_ROOT: Final = (
    "Run it with sudo: root alone has the machine's key. Or keep the token unencrypted, with --plain."
)


def _store(path: Path, content: bytes, *, plain: bool) -> None:
    """Write all or nothing; nobody but root, or whoever runs this, may read it. Raises NotKeptError."""
    try:
        _write(_regular(path), content)
    except OSError as error:
        reason = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        told = f"{path} cannot be written: {reason}"
        if not isinstance(error, PermissionError):
            raise NotKeptError(told, remedy=_MAKE_ROOM if error.errno in _FULL else "") from error
        given = ["--plain"] * plain + (["--to", str(path.absolute())] if path not in (PLAIN, ENCRYPTED) else [])
        again = shlex.join(["sudo", "pommai", "device", "set-token", *given])
        raise NotAllowedError(told, remedy="" if os.geteuid() == 0 else f"Run it as root: `{again}`.") from error


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MAKE_ROOM: Final = "Make room on its disk, or name a file on another one with `--to`."


def _regular(path: Path) -> Path:
    """The file to write: `path`, or where it leads to. Raises NotKeptError for what is no file, such as a device."""
    if not path.is_symlink() and not path.exists():
        return path
    if not path.is_file():
        raise NotKeptError(f"{path} is there and is no file; it stays as it is")
    return path.resolve()


def _write(path: Path, content: bytes) -> None:
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
