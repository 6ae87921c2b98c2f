"""The battery, in folders made like those of /sys/class/power_supply."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pommai.device.body.battery import Battery, Charge


def folder(place: Path, **files: str | bytes) -> Battery:
    for name, content in files.items():
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Battery(str(place))


@pytest.mark.parametrize(
    ("capacity", "status", "charge"),
    [
        ("57\n", "Discharging\n", Charge(57, False)),
        ("57\n", "Charging\n", Charge(57, True)),
        ("100\n", "Full\n", Charge(100, True)),
        ("0\n", "Not charging\n", Charge(0, False)),
        ("103\n", "Unknown\n", Charge(100, False)),
        ("15", "Charging", Charge(15, True)),
    ],
)
def test_what_the_kernel_says_is_understood(tmp_path: Path, capacity: str, status: str, charge: Charge) -> None:
    battery = folder(tmp_path, capacity=capacity, status=status)
    assert battery.read() == charge
    assert battery.problem is None


def test_each_reading_is_a_new_one(tmp_path: Path) -> None:
    battery = folder(tmp_path, capacity="57\n", status="Discharging\n")
    battery.read()
    folder(tmp_path, capacity="56\n", status="Charging\n")
    assert battery.read() == Charge(56, True)


def test_a_board_that_tells_only_how_full_it_is_counts_as_discharging(tmp_path: Path) -> None:
    assert folder(tmp_path, capacity="80\n").read() == Charge(80, False)


def test_a_toy_without_a_battery_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    battery = Battery("")
    assert battery.read() is None
    assert battery.problem is None
    assert caplog.records == []


@pytest.mark.parametrize(
    "capacity", ["", "\n", "full\n", "-5\n", "111\n", "4200000\n", "5.5\n", "²\n", b"\xff\xfe", b"1\x002"]
)
def test_what_is_no_percentage_is_told_once_and_read_as_no_battery(
    tmp_path: Path, capacity: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    battery = folder(tmp_path, capacity=capacity, status="Charging\n")
    with caplog.at_level(logging.INFO):
        assert [battery.read(), battery.read(), battery.read()] == [None, None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is no percentage" in caplog.text
    assert battery.problem is not None
    assert "battery.path" in battery.problem


def test_a_missing_folder_is_told_once_and_the_battery_is_found_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "BAT0"
    battery = Battery(str(place))
    assert [battery.read(), battery.read()] == [None, None]
    assert len(caplog.records) == 1
    assert f"{place}/capacity: No such file or directory" in caplog.text
    place.mkdir()
    folder(place, capacity="9\n", status="Discharging\n")
    assert battery.read() == Charge(9, False)
    assert battery.problem is None
    (place / "capacity").unlink()
    assert battery.read() is None  # a loose contact does not fill the log
    assert len(caplog.records) == 1
    assert battery.problem is not None


def test_a_file_in_place_of_the_folder_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "BAT0").write_text("57")
    battery = Battery(str(tmp_path / "BAT0"))
    assert battery.read() is None
    assert "Not a directory" in str(battery.problem)
