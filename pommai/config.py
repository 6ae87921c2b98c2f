"""TOML files and the environment to the dataclasses of `pommai.schema`, with every problem reported at once.

Later files win over earlier ones, and `POMMAI_SECTION_NAME` in the environment wins over all. Secrets never stand in a
TOML file: they come from the environment, or from a systemd credential of the same name
(`$CREDENTIALS_DIRECTORY/pommai_section_name`).

A problem is told as `FILE:LINE: section.name ...`, or `environment: VARIABLE ...`: those of one setting by itself, and
those of several together, which a program's own `Check` finds.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pommai.errors import ConfigError
from pommai.schema import PREFIX, Check, Problem, Secret, sections_of, variable_of
from pommai.toml_lines import Place, error_line, lines

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})

COMMAND_LINE: Final = "command line"

S = TypeVar("S")


def load(
    settings_class: type[S],
    files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    *,
    given: Mapping[str, object] | None = None,
    check: Check[S] | None = None,
) -> S:
    """The settings from `files` (all must exist, later ones win) and `environ`, over the defaults.

    `given`: by `section.name`, what the command line says instead of them all. Raises ConfigError with every problem
    that was found, not only the first: of each setting, and then those of `check` that do not follow from these.
    """
    return typing.cast(S, _Loader(settings_class, environ or {}, given or {}).load(files, check))


def if_there(file: Path) -> list[Path]:
    """`file` for `load`, unless there is none. One that may not be looked at is there: `load` tells what is wrong."""
    try:
        file.stat()
    except OSError as error:
        return [] if isinstance(error, FileNotFoundError) else [file]
    return [file]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown `word`: the one of `known` that was meant, or else all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(sorted(known)) or 'none'}"


def _placed(table: dict[str, Any], place: Place) -> dict[str, tuple[Any, Place]]:
    """The values of a table, each with its place, for a table that stands at `place`."""
    return {name: (value, place.inside(name)) for name, value in table.items()}


class _Loader:
    """One load: collects problems on the way instead of stopping at the first."""

    def __init__(self, settings_class: Any, environ: Mapping[str, str], given: Mapping[str, object]) -> None:
        self.settings_class = settings_class
        self.environ = environ
        self.given = given
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        """Where each setting that is not a default came from."""
        self.bad: set[str] = set()
        """The settings and sections that are defaults only because what was written is wrong."""
        self.is_unread = False
        """Whether a file could not be read, so that nobody knows what it says."""

    def load(self, files: Sequence[Path], check: Check[Any] | None) -> Any:
        tables: dict[str, dict[str, tuple[Any, Place]]] = {}
        known = {name: (section_class, is_table) for name, section_class, is_table in sections_of(self.settings_class)}
        for path in files:
            for section, (table, place) in self._read(path).items():
                if section not in known:
                    unknown = f"{place.where}: unknown section [{section}]"
                    self.problems.append(f"{unknown}{did_you_mean(section, list(known))}")
                    self.bad.update(difflib.get_close_matches(section, known, n=1))
                elif not isinstance(table, dict):
                    self.problems.append(f"{place} must be a section: [{section}]")
                    self.bad.add(section)
                else:
                    self.origins[section] = place.where
                    tables.setdefault(section, {}).update(_placed(table, place))
        self._check_environment(known)
        sections = {
            name: self._many(section_class, name, tables.get(name, {}))
            if is_table
            else self._section(section_class, name, tables.get(name, {}))
            for name, (section_class, is_table) in known.items()
        }
        settings = self.settings_class(**sections)
        if check is not None:
            self.problems += [self._told(found) for found in check(settings) if not self._follows(found)]
        if self.problems:
            raise ConfigError(self.problems)
        return settings

    def _follows(self, problem: Problem) -> bool:
        """Whether a problem may be there only because of one that is told already."""
        return any(
            name in self.bad or (name not in self.origins and (self.is_unread or name.partition(".")[0] in self.bad))
            for name in problem.settings
        )

    def _told(self, problem: Problem) -> str:
        """The problem with its place: that of the first setting which somebody wrote down."""
        origin = next((self.origins[name] for name in problem.settings if name in self.origins), None)
        return str(problem) if origin is None else f"{origin}: {problem}"

    def _read(self, path: Path) -> dict[str, tuple[Any, Place]]:
        text = ""
        try:
            text = path.read_text(encoding="utf-8")
            return _placed(tomllib.loads(text), Place(str(path), lines(text)))
        except OSError as error:
            self.problems.append(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.problems.append(f"{path} is not UTF-8 text")
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{path}:{error_line(error, text)}: this is not TOML: {error}")
        self.is_unread = True
        return {}

    def _check_environment(self, known: Mapping[str, tuple[Any, bool]]) -> None:
        """A variable that is almost one of ours is a slip; others may belong to another program of pommai."""
        ours = {
            f"{section}.{field.name}": variable_of(section, field.name)
            for section, (section_class, is_table) in known.items()
            if not is_table
            for field in dataclasses.fields(section_class)
        }
        for name in self.environ:
            if name.startswith(f"{PREFIX}_") and name not in ours.values():
                close = difflib.get_close_matches(name, ours.values(), n=1, cutoff=0.9)
                if close:
                    self.problems.append(f"environment: unknown variable {name}; did you mean {close[0]!r}?")
                    self.bad.update(meant for meant, variable in ours.items() if variable == close[0])

    def _many(self, section_class: Any, name: str, table: dict[str, tuple[Any, Place]]) -> dict[str, Any]:
        sections = {}
        for key, (value, place) in table.items():
            if isinstance(value, dict):
                self.origins[f"{name}.{key}"] = place.where
                sections[key] = self._section(
                    section_class, f"{name}.{key}", _placed(value, place), is_one_of_many=True
                )
            else:
                self.problems.append(f"{place} must be a section of its own")
        return sections

    def _section(
        self, section_class: Any, section: str, table: dict[str, tuple[Any, Place]], *, is_one_of_many: bool = False
    ) -> Any:
        hints = typing.get_type_hints(section_class)
        for name, (_, place) in table.items():
            if name not in hints:
                self.problems.append(f"{place} is unknown{did_you_mean(name, list(hints))}")
                self.bad.update(f"{section}.{meant}" for meant in difflib.get_close_matches(name, hints, n=1))
        values = {}
        for field in dataclasses.fields(section_class):
            name, hint = f"{section}.{field.name}", hints[field.name]
            found = self._from_outside(section, field.name, hint) if not is_one_of_many else None
            if found is None and field.name in table:
                found = table[field.name]
                if hint is Secret:
                    variable = variable_of(section, field.name)
                    self.problems.append(f"{found[1]} is a secret and may not stand in a file; set {variable} instead")
                    self.bad.add(name)
                    continue
            if found is not None:
                value, where = found
                self.bad.discard(name)
                self.origins[name] = where.where if isinstance(where, Place) else where.removesuffix(f": {name}")
                values[field.name] = self._value(name, field, hint, value, where)
        return section_class(**values)

    def _from_outside(self, section: str, name: str, hint: Any) -> tuple[Any, str | Place] | None:
        """The raw value from the command line, the environment or a credential, and which; None if none has it."""
        if f"{section}.{name}" in self.given:
            return self.given[f"{section}.{name}"], f"{COMMAND_LINE}: {section}.{name}"
        variable = variable_of(section, name)
        if variable in self.environ:
            return self._parsed(hint, self.environ[variable]), f"environment: {variable}"
        if hint is Secret and (directory := self.environ.get("CREDENTIALS_DIRECTORY")):
            credential = Path(directory) / variable.lower()
            if if_there(credential):
                return self._content(credential), f"credential {credential.name}"
        return None

    @staticmethod
    def _content(credential: Path) -> str | None:
        """The text of a credential; None, for `_value` to refuse, if it is none."""
        try:
            return credential.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    @staticmethod
    def _parsed(hint: Any, text: str) -> Any:
        """The text of a variable as its setting's type; left as text where it does not fit, for `_value` to refuse."""
        if hint is bool and text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        if hint in (int, float):
            try:
                return hint(text)
            except ValueError:
                return text
        return text

    def _value(self, name: str, field: dataclasses.Field[Any], hint: Any, value: Any, where: str | Place) -> Any:
        """`value` checked against the setting's rule; the default, and a problem, if it does not fit."""
        rule = field.metadata
        if hint is Secret and isinstance(value, str):
            return Secret(value)
        written = value
        if hint is float and type(value) is int:
            value = float(value)
        if type(value) is not hint:
            kind = {
                bool: "true or false",
                int: "a whole number",
                float: "a number",
                str: "a text in quotes",
                Secret: "a text",
            }[hint]
            self.problems.append(f"{where} must be {kind}")
        elif rule["minimum"] is not None and not rule["minimum"] <= value <= rule["maximum"]:
            self.problems.append(f"{where} must be from {rule['minimum']} to {rule['maximum']}, not {written}")
        elif rule["choices"] and value not in rule["choices"]:
            self.problems.append(f"{where} must be one of {', '.join(rule['choices'])}, not {value!r}")
        else:
            return value
        self.bad.add(name)
        return field.default
