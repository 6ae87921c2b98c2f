"""What every error promises: a remedy for people and an exit code for programs."""

from __future__ import annotations

import pytest

from pommai import errors
from pommai.errors import ConfigError, PommaiError, ProviderError, RemoteProtocolError, StoreError


def every(kind: type[PommaiError]) -> list[type[PommaiError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


@pytest.mark.parametrize("kind", [kind for kind in every(PommaiError) if kind.__module__ == errors.__name__])
def test_every_class_has_a_remedy_an_exit_code_and_a_place_in_the_tree(kind: type[PommaiError]) -> None:
    assert len((kind.__doc__ or "").strip().split("\n\n")) == 2
    assert 64 <= kind.exit_code <= 78  # sysexits.h
    assert kind.__name__ in (errors.__doc__ or "")


def test_the_remedy_is_that_of_the_class_on_one_line_unless_there_is_a_better_one() -> None:
    assert StoreError("x").remedy.startswith("Check `[store] path`") and "\n" not in StoreError("x").remedy
    for error in (
        StoreError("x", remedy="Mend it."),
        ConfigError(["x"], remedy="Mend it."),
        ProviderError("stt", "unavailable", remedy="Mend it."),
        RemoteProtocolError("bad_message", "x", remedy="Mend it."),
    ):
        assert error.remedy == "Mend it." and "Mend" not in str(error)
