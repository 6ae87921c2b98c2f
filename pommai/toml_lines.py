"""In which line of a TOML file a key stands: what `tomllib` does not tell, and a person who must correct it needs.

Pure. It trusts `tomllib` to have accepted the text, so it only has to tell keys from values.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_DOTTED: Final = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"

_STATEMENT: Final = re.compile(rf"\[{{1,2}}[ \t]*(?P<header>{_DOTTED})[ \t]*\]{{1,2}}|(?P<key>{_DOTTED})[ \t]*=")
"""A header `[a.b]` or `[[a.b]]`, or what stands before a value."""

_GAP: Final = re.compile(r"(?:\s|#[^\n]*)*")
"""White space and comments, over any number of lines."""

_VALUE_PART: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'  # the text may end in two quotes of its own
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|(?P<open>[\[{])"
    r"|(?P<close>[\]}])"
    r"|(?P<line>\n)"
    r"""|[^"'#\[\]{}\n]+""",
    re.DOTALL,
)

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A key of a file, or with no `keys` the file itself; as text `FILE:LINE: a.b`."""

    file: str
    lines: Mapping[Keys, int]
    keys: Keys = ()

    def inside(self, key: str) -> Place:
        """The place of `key` in the table that is here."""
        return Place(self.file, self.lines, (*self.keys, key))

    @property
    def line(self) -> int:
        """The line of the key, or of what it is written inside of, such as an inline table; from 1 on."""
        return next(
            (self.lines[known] for n in range(len(self.keys), 0, -1) if (known := self.keys[:n]) in self.lines), 1
        )

    @property
    def where(self) -> str:
        """`FILE:LINE`, as editors and compilers write it."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {'.'.join(self.keys)}"


def lines(text: str) -> dict[Keys, int]:
    """The line of every key and table in `text`, which is valid TOML. Keys of inline tables are not in it.

    A table has the line of its own header; one that is only implied (`a` by `[a.b]`) that of the first mention.
    """
    named: dict[Keys, int] = {}
    implied: dict[Keys, int] = {}
    table: Keys = ()
    for match in _statements(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["header"] is not None:
            keys = table = _keys(match["header"])
        else:
            keys = (*table, *_keys(match["key"]))
        named.setdefault(keys, line)
        for n in range(1, len(keys)):
            implied.setdefault(keys[:n], line)
    return implied | named


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line of what `tomllib` says is wrong with `text`; the last one, if something is missing at the end."""
    told = re.search(r"at line (\d+)", str(error))
    return int(told[1]) if told else text.count("\n") + (not text.endswith("\n"))


def _statements(text: str) -> Iterator[re.Match[str]]:
    """The headers and keys of `text`, from the top."""
    at = _after(_GAP, text, 0)
    while match := _STATEMENT.match(text, at):
        yield match
        at = match.end() if match["header"] is not None else _value_end(text, match.end())
        at = _after(_GAP, text, at)


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends: the first end of a line that is in no text, array or inline table."""
    depth = 0
    while part := _VALUE_PART.match(text, at):
        if part["line"] and depth == 0:
            break
        depth += (part["open"] is not None) - (part["close"] is not None)
        at = part.end()
    return at


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _keys(dotted: str) -> Keys:
    """The keys of `a."b c".d`, with the escapes of quoted ones undone."""
    return tuple(key if key[0] not in "\"'" else _unquoted(key) for key in re.findall(_KEY, dotted))


def _unquoted(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"])
