"""What systemd is told, and where the log goes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pommai.device.service import supervisor
from pommai.device.service.logs import PER_MINUTE, Fields, HoldBack, kept_log, start_logging
from pommai.device.service.supervisor import Supervisor
from pommai.errors import MissingExtra


class Systemd:
    """Takes what it is told, unless it is deaf."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.is_deaf = False

    def __call__(self, message: str) -> None:
        if self.is_deaf:
            raise ConnectionRefusedError(111, "Connection refused")
        self.told.append(message)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def notify_socket(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The receiving end of sd_notify at `tmp_path`/notify; call it for the next message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield lambda: receiver.recv(4096).decode()


# --- systemd ----------------------------------------------------------------------------------------------------------


def test_the_real_library_reaches_the_socket_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notify_socket: Callable[[], str]
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    told = Supervisor.from_environment(os.environ)
    told.ready()
    assert notify_socket() == "READY=1"
    told.stopping()
    assert notify_socket() == "STOPPING=1"


def test_without_a_supervisor_nothing_is_told_and_no_library_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    alone = Supervisor.from_environment({"WATCHDOG_USEC": "30000000"})
    alone.ready()
    alone.alive()
    alone.stopping()


def test_a_supervisor_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    with pytest.raises(MissingExtra, match="python3-systemd"):
        Supervisor.from_environment({"NOTIFY_SOCKET": "/run/systemd/notify"})


def test_the_watchdog_is_fed_three_times_in_its_time_however_often_the_toy_shows_life() -> None:
    systemd, clock = Systemd(), Clock()
    told = Supervisor(systemd, watchdog_s=30.0, clock=clock)
    for _ in range(250):  # 25 s
        told.alive()
        clock.now_s += 0.1
    assert systemd.told == ["WATCHDOG=1"] * 3


def test_a_toy_that_shows_no_life_feeds_no_watchdog() -> None:
    systemd, clock = Systemd(), Clock()
    told = Supervisor(systemd, watchdog_s=30.0, clock=clock)
    clock.now_s += 100
    told.status("idle")
    told.ready()
    assert "WATCHDOG=1" not in systemd.told


@pytest.mark.parametrize(
    ("usec", "pid", "fed"),
    [("30000000", None, 1), ("30000000", "1", 0), ("soon", None, 0), ("-5", None, 0), ("0", None, 0)],
)
def test_the_watchdog_of_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notify_socket: Callable[[], str],
    usec: str,
    pid: str | None,
    fed: int,
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": usec}
    environ |= {"WATCHDOG_PID": pid or str(os.getpid())}
    monkeypatch.setenv("NOTIFY_SOCKET", environ["NOTIFY_SOCKET"])
    told = Supervisor.from_environment(environ)
    told.alive()
    told.ready()
    assert [notify_socket() for _ in range(fed + 1)] == ["WATCHDOG=1"] * fed + ["READY=1"]


def test_a_status_is_one_line_and_told_once() -> None:
    systemd = Systemd()
    told = Supervisor(systemd)
    told.status("offline: the relay\nis away")
    told.status("offline: the relay\nis away")
    told.status("idle")
    assert systemd.told == ["STATUS=offline: the relay is away", "STATUS=idle"]


def test_a_reload_says_since_when() -> None:
    systemd, clock = Systemd(), Clock()
    told = Supervisor(systemd, clock=clock)
    told.reloading()
    told.ready()
    assert systemd.told == ["RELOADING=1\nMONOTONIC_USEC=100000000", "READY=1"]


def test_a_deaf_systemd_is_logged_once_and_told_again_when_it_hears(caplog: pytest.LogCaptureFixture) -> None:
    systemd = Systemd()
    told = Supervisor(systemd)
    systemd.is_deaf = True
    told.status("idle")
    told.status("listening")
    assert caplog.messages == ["supervisor: systemd cannot be told anything: Connection refused"]
    systemd.is_deaf = False
    told.stopping()
    assert systemd.told == ["STOPPING=1"]


# --- the log ----------------------------------------------------------------------------------------------------------


def journal_stream(descriptor: int) -> dict[str, str]:
    file = os.fstat(descriptor)
    return {"JOURNAL_STREAM": f"{file.st_dev}:{file.st_ino}"}


def test_the_journal_is_used_only_where_stderr_leads_there(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as stderr, (tmp_path / "other").open("wb") as other:
        handler = supervisor.journal(journal_stream(stderr.fileno()), stderr.fileno())
        assert type(handler).__name__ == "JournalHandler"
        assert supervisor.journal(journal_stream(stderr.fileno()), other.fileno()) is None
        assert supervisor.journal({}, stderr.fileno()) is None
        assert supervisor.journal({"JOURNAL_STREAM": "nonsense"}, stderr.fileno()) is None
    assert supervisor.journal({"JOURNAL_STREAM": "1:2"}, 9999) is None


def test_without_the_library_the_log_goes_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with (tmp_path / "stderr").open("wb") as stderr:
        start_logging(journal_stream(stderr.fileno()), stderr.fileno())
    logging.getLogger("pommai.device").info("daemon: ready ms=%d", 12)
    logging.getLogger("somebody.else").info("chatter")
    told = capsys.readouterr().err
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO pommai\.device: daemon: ready ms=12\n", told)


def record(text: str, *args: object, level: int = logging.INFO, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("pommai.device", level, "module.py", line, text, args, None)


def test_figures_become_fields_of_the_journal() -> None:
    logged = record("runner: the relay failed, turn=%s code=%s", 12, "timeout")
    assert Fields().filter(logged)
    assert (logged.__dict__["POMMAI_TURN"], logged.__dict__["POMMAI_CODE"]) == ("12", "timeout")
    assert logged.name == "pommai.device"


def test_info_that_repeats_is_held_back_and_counted() -> None:
    clock = Clock()
    hold_back = HoldBack(clock)
    passed = [hold_back.filter(record("again turn=%d", turn)) for turn in range(PER_MINUTE + 5)]
    assert passed == [True] * PER_MINUTE + [False] * 5
    assert hold_back.filter(record("another", line=2))
    assert all(hold_back.filter(record("bad", level=logging.WARNING)) for _ in range(PER_MINUTE + 5))
    clock.now_s += 60
    later = record("again turn=%d", 99)
    assert hold_back.filter(later)
    assert later.getMessage() == "again turn=99 (and 5 more like this)"


async def test_warnings_are_kept_without_their_text_and_once_for_each_statement() -> None:
    kept: list[tuple[str, dict[str, object]]] = []
    told = asyncio.Event()

    def write(kind: str, data: Mapping[str, object]) -> None:
        kept.append((kind, dict(data)))
        told.set()

    log = logging.getLogger("pommai.device.network.uplink")
    with kept_log(asyncio.get_running_loop(), write):
        for _ in range(3):
            log.warning("no connection: %s", "somewhere")
        log.info("hello")
        logging.getLogger("pommai.device.service.keeping").warning("an entry was lost")
        await told.wait()
    log.warning("after the end")
    await asyncio.sleep(0)
    assert [(kind, data["level"]) for kind, data in kept] == [("log", "WARNING")]
    assert re.fullmatch(r"device\.network\.uplink:\d+", str(kept[0][1]["from"]))
