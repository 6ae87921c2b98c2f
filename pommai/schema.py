"""What a program's settings are: declared as dataclasses, described for its documentation.

A settings class is a frozen dataclass of sections; a section is a frozen dataclass of `setting`s, or a `dict` of such
sections for `[name.ID]`. `pommai.config` reads them.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

PREFIX: Final = "POMMAI"

S = TypeVar("S")


class Secret:
    """A key or a token, which no log, traceback or `repr` can show by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; call this only where it is handed over."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(set)" if self._value else "Secret(empty)"


def setting(
    default: Any,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """One setting of a section: its default, what it is for, and what it may be (bounds are inclusive)."""
    rule = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=rule)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with settings whose values are fine each by itself. As text `section.name what`.

    `settings`: the `section.name` of all that it depends on; the first is the one to correct.
    """

    settings: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.settings[0]} {self.what}"


Check = Callable[[S], Sequence[Problem]]
"""Finds what is wrong with settings together; it sees the default in place of what is no value at all."""


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as the documentation shows it. `name` is `section.name`; `variable` is its environment variable."""

    name: str
    variable: str
    default: str
    help: str


def describe(settings_class: type) -> Iterator[Described]:
    """Every setting of a settings class, in order; a section for each of many is shown as `section.ID.name`."""
    for section, section_class, is_table in sections_of(settings_class):
        for field in dataclasses.fields(section_class):
            name = f"{section}.ID.{field.name}" if is_table else f"{section}.{field.name}"
            variable = "" if is_table else variable_of(section, field.name)
            default = "" if isinstance(field.default, Secret) else str(field.default)
            yield Described(name, variable, default, field.metadata["help"])


def sections_of(settings_class: type) -> Iterator[tuple[str, Any, bool]]:
    """(name, section class, whether it is a table of many: `[toys.ID]`) of each section."""
    for name, hint in typing.get_type_hints(settings_class).items():
        is_table = typing.get_origin(hint) is dict
        yield name, typing.get_args(hint)[1] if is_table else hint, is_table


def variable_of(section: str, name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}_{section}_{name}".upper()
