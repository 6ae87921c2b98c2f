"""The toy's settings, together."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pommai.device.mind.states import LIMIT_S, Holding, Listening
from pommai.device.service.loading import load_settings
from pommai.device.settings import Timing, timing_problems
from pommai.errors import ConfigError


def loaded(tmp_path: Path, help_ms: int, restart_ms: int) -> Timing:
    file = tmp_path / "device.toml"
    file.write_text(f"[timing]\nhelp_ms = {help_ms}\nrestart_ms = {restart_ms}\n", encoding="utf-8")
    return load_settings([file], {}).timing


def test_a_call_for_help_comes_before_a_restart(tmp_path: Path) -> None:
    assert loaded(tmp_path, 5_000, 5_001).restart_ms == 5_001
    for help_ms in (5_000, 12_000):
        with pytest.raises(ConfigError) as caught:
            loaded(tmp_path, help_ms, 5_000)
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].startswith(
            f"{tmp_path}/device.toml:2: timing.help_ms {help_ms} must be less than timing.restart_ms, which is 5000"
        )


def test_a_time_that_is_told_already_is_not_told_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, 12_000, 60_000)
    [problem] = caught.value.problems
    assert problem == f"{tmp_path}/device.toml:3: timing.restart_ms must be from 5000 to 19000, not 60000"


def test_every_hold_is_met_before_an_open_microphone_closes_by_itself() -> None:
    bounds = {field.name: (field.metadata["minimum"], field.metadata["maximum"]) for field in fields(Timing)}
    assert bounds["hold_ms"][1] < bounds["help_ms"][0]
    assert bounds["restart_ms"][1] < 1000 * min(LIMIT_S[Listening], LIMIT_S[Holding])
    assert timing_problems(Timing()) == []
