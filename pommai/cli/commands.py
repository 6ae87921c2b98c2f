"""What all commands and groups of the command line have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Optional

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help is about what its options are for: typer would put `<bool>` behind each flag.

    What is wrong with an option is told in plain words, whatever library of typer's has noticed it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        try:
            return list(super().parse_args(ctx, args))
        except typer.BadParameter as error:
            error.message = plainly_wrong(error.message)
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """See click: every parameter, `--help` too."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands, shown in the same way."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See click: every parameter, `--help` and completion too."""
        return _plain(super().get_params(ctx))


def between(minimum: int, maximum: int) -> Callable[[Optional[int]], Optional[int]]:
    """For the callback of an option: refuses other numbers, without the `[1<=x<=9]` that typer's own check shows."""

    def check(value: Optional[int]) -> Optional[int]:
        if value is not None and not minimum <= value <= maximum:
            raise typer.BadParameter(f"{value} is not from {minimum} to {maximum}")
        return value

    return check


def plainly_wrong(text: str) -> str:
    """What a library says about the value of an option, in words of people; those of pydantic are its own."""
    if text.startswith("Input should be a valid integer"):
        return "that is not a whole number"
    return re.sub(r"^(Value error, |Input )", "", text)


def _plain(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
        elif param.param_type_name == "argument":
            param.display_type_rich = _no_type  # older versions of typer do not ask
    return params


def _no_type(ctx: Any) -> None:
    """A type that is not worth showing: an argument's name says it all."""
