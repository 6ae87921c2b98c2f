"""Every error that pommai raises on purpose.

    PommaiError
    ├── ConfigError          settings are wrong: all problems at once
    ├── AudioError           a recording cannot be used
    ├── MissingExtra         a package or engine is not installed
    ├── HardwareError        button, microphone, speaker or lights
    ├── AddressError         a port is taken or an address cannot be bound
    ├── ConnectError         the relay cannot be reached or refuses us
    ├── RefusedError         the toy's daemon does not do what it was asked for
    ├── OutputError          standard output takes no results
    ├── UnknownToy           no toy of that name may use the relay
    ├── ProtocolError
    │   ├── LocalProtocolError    our bug: we tried to send what is not allowed now
    │   └── RemoteProtocolError   theirs: they sent what is not allowed, with the code to answer
    ├── ProviderError        an engine or a cloud service failed at one stage of a turn
    └── StoreError           the database of turns

The first paragraph of a class docstring says what went wrong; the paragraph after it is the remedy that the CLI prints,
unless the one who raises the error knows a better one. `exit_code` follows BSD sysexits.h, so scripts can tell the
kinds apart.

No error text ever holds a child's words, a key or a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class PommaiError(Exception):
    """Something went wrong.

    Run the command again with `--verbose` and read the log.
    """

    exit_code: ClassVar[int] = 70  # EX_SOFTWARE

    def __init__(self, *args: object, remedy: str = "") -> None:
        """`remedy`: what to do next, in place of what the class says."""
        super().__init__(*args)
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """What to do next, as one line: as given, or the second paragraph of the class docstring."""
        if self._remedy:
            return self._remedy
        paragraphs = (type(self).__doc__ or "").strip().split("\n\n")
        return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""


class ConfigError(PommaiError):
    """The configuration has problems.

    Correct the settings named above and start again; nothing was changed.
    """

    exit_code = 78  # EX_CONFIG

    def __init__(self, problems: Sequence[str], *, remedy: str = "") -> None:
        """`problems`: one complete sentence each, in the order they were found; never empty."""
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems), remedy=remedy)


class AudioError(PommaiError):
    """The recording cannot be used.

    Give a RIFF/WAVE file with 8, 16, 24 or 32 bit PCM samples, for example one made by `arecord -f S16_LE -r 24000`.
    """

    exit_code = 65  # EX_DATAERR


class MissingExtra(PommaiError):
    """A part of pommai is not installed.

    Run `make engines` in the source tree: it installs pommai's packages and engines. Elsewhere: `pip install
    'pommai[device,relay]'`.
    """

    exit_code = 69  # EX_UNAVAILABLE


class HardwareError(PommaiError):
    """A microphone, a speaker, the button or the lights cannot be used.

    Check the cable and `arecord -l` / `aplay -l`, or try without hardware: `pommai demo`.
    """

    exit_code = 71  # EX_OSERR


class AddressError(PommaiError):
    """The address cannot be listened on.

    Stop the program that uses the port (`ss -ltnp` names it), or choose another with `--port`.
    """

    exit_code = 69  # EX_UNAVAILABLE


class ConnectError(PommaiError):
    """The relay cannot be reached, or refuses this toy.

    Check the address and the token; `pommai relay token list` on the relay shows which toys it knows.
    """

    exit_code = 69  # EX_UNAVAILABLE


class RefusedError(PommaiError):
    """The toy's daemon refused.

    `pommai device status` shows how the toy is, `pommai device --help` what it can be asked for.
    """

    exit_code = 69  # EX_UNAVAILABLE


class OutputError(PommaiError):
    """The results cannot be written to standard output.

    Send the results to a terminal, a program, or a file on a disk with free space, and start again.
    """

    exit_code = 74  # EX_IOERR


class UnknownToy(PommaiError):
    """No toy of that name may use the relay.

    `pommai relay token list` shows which toys may, with the same `--config`.
    """

    exit_code = 67  # EX_NOUSER


class ProtocolError(PommaiError):
    """A message broke the rules of pommai/1.

    Check that toy and relay run the same version: `pommai --version`.
    """

    exit_code = 76  # EX_PROTOCOL


class LocalProtocolError(ProtocolError):
    """We tried to send what the protocol does not allow now: a bug in pommai.

    Please report it with the log; the words of the conversation are not in it.
    """


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol does not allow now.

    Check that toy and relay run the same version: `pommai --version`.
    """

    def __init__(self, code: str, detail: str, *, remedy: str = "") -> None:
        """`code`: a `protocol.ErrorCode` to answer with. `detail`: for our log, never the content of the message."""
        self.code = code
        super().__init__(f"{code}: {detail}", remedy=remedy)


class ProviderError(PommaiError):
    """An engine or a cloud service failed.

    Try again; if it stays, look at `pommai relay run`'s log for the stage and the code.
    """

    exit_code = 69  # EX_UNAVAILABLE

    def __init__(self, stage: str, code: str, *, retryable: bool = False, remedy: str = "") -> None:
        """`stage`: stt, moderator, llm, tts or embedder. `code`: a `protocol.ErrorCode`."""
        self.stage = stage
        self.code = code
        self.retryable = retryable
        super().__init__(f"{stage}: {code}", remedy=remedy)


class StoreError(PommaiError):
    """The database of turns cannot be used.

    Check `[store] path` (in the file of `--config`, or POMMAI_STORE_PATH), its owner and the free space of the disk.
    """

    exit_code = 74  # EX_IOERR
