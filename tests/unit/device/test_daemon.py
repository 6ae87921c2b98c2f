"""`pommaid` as systemd runs it: it boots, serves, reloads and ends, whatever is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from pommai import __version__
from pommai.audio import SPEECH, read_recording, write_wav
from pommai.device.cache.cache import Cache
from pommai.device.service.loading import LIVE, changes, load_settings, masked
from pommai.device.settings import CacheSettings, DeviceSettings, RelayLink
from pommai.errors import ConfigError, RefusedError
from pommai.protocol import EventRecord
from pommai.schema import Secret
from tests.protocol.tiny_relay import Peer, parrot, tiny_relay
from tests.unit.device.pommaid import PATIENCE_S, START, Pommaid, beside, settings

SHIMS = Path(__file__).parents[2] / "shims"
HEAVY = {"sqlite_utils", "opuslib", "pyaudio", "RPi", "systemd", "typer", "rich", "aiohttp", "numpy"}


def tone(ms: int) -> bytes:
    """Something to say."""
    return b"".join((4000 if n // 30 % 2 else -4000).to_bytes(2, "little", signed=True) for n in range(24 * ms))


async def unsent(path: Path) -> tuple[EventRecord, ...]:
    """The events that wait for the relay in a toy's database."""
    cache = await Cache.open(CacheSettings(path=str(path)))
    try:
        return await cache.unsent(100, 100_000)
    finally:
        await cache.close()


@contextmanager
def started(folder: Path, **options: object) -> Iterator[Pommaid]:
    """A daemon of which nobody knows whether it will be ready."""
    daemon = Pommaid(folder, **options)  # type: ignore[arg-type]  # see Pommaid
    try:
        yield daemon
    finally:
        daemon.close()


# --- a life -----------------------------------------------------------------------------------------------------------


def test_it_boots_with_no_network_and_ends_in_time(tmp_path: Path) -> None:
    with Pommaid(tmp_path) as toy:
        told = [toy.told()]
        while "READY=1" not in told:
            told.append(toy.told())
        toy.until("no connection")
        status = toy.ask("status")
        assert status["state"] == "connecting" and not status["relay"]["reached"]
        assert "nothing listens" in status["relay"]["why_not"]
        assert status["version"] == __version__ and status["cache"]["problem"] == ""
        code, seconds = toy.end()
        assert code == 0 and seconds < 2
        assert not toy.socket.exists() and "Traceback" not in toy.log
        while (message := toy.told()) != "STOPPING=1":
            told.append(message)
    news = [message for message in told if message.startswith("STATUS=connecting; relay: ")]
    assert any("nothing listens at ws://127.0.0.1:9/v1/toy" in message for message in news), told
    assert not any("a-token-for-tests" in message for message in [*told, toy.log])


def test_the_watchdog_is_fed_in_time_while_it_lives(tmp_path: Path) -> None:
    with Pommaid(tmp_path, env={"WATCHDOG_USEC": "3000000"}) as toy:
        fed_s: list[float] = []
        while len(fed_s) < 4:
            if toy.told() == "WATCHDOG=1":
                fed_s.append(time.monotonic())
    assert max(later - earlier for earlier, later in pairwise(fed_s)) < 3.0


async def test_a_turn_from_the_press_to_the_answer(tmp_path: Path) -> None:
    write_wav(tmp_path / "said.wav", tone(600))
    async with tiny_relay(parrot) as relay:
        settings(tmp_path, relay={"url": relay.url}, sound={"kind": "virtual", "earcons": False})
        await beside(lambda: _converse(tmp_path))


def _converse(folder: Path) -> None:
    with Pommaid(folder) as toy:
        assert toy.status_when("idle")["relay"]["session"] == "s1"
        pressed = toy.ask("press", say=str(folder / "said.wav"))
        assert pressed["turn"] == 1 and pressed["held_ms"] > 600
        status = toy.status_when("speaking")
        assert status["lights"]["color"] == [0.0, 1.0, 0.0]
        turn = toy.status_when("idle")["last_turn"]
        assert turn["outcome"] == "played" and turn["first_audio_ms"] >= 0 and turn["play_ms"] > 0
        toy.ask("heard", path=str(folder / "heard.wav"))
        assert SPEECH.ms(len(read_recording(folder / "heard.wav").pcm)) > 500
        kinds = [entry["kind"] for entry in toy.ask("dump")["log"]]
        assert "relay" in kinds and "turn" in kinds


async def test_a_turn_in_flight_is_remembered_as_interrupted(tmp_path: Path) -> None:
    async def silent(peer: Peer) -> None:
        await peer.welcome()
        while await peer.receive() is not None:
            pass

    def cut_off() -> None:
        with Pommaid(tmp_path) as toy:
            toy.status_when("idle")
            toy.ask("press", hold_ms=400)
            toy.status_when("thinking")
            code, seconds = toy.end()
        assert code == 0 and seconds < 2

    async with tiny_relay(silent) as relay:
        settings(tmp_path, relay={"url": relay.url})
        await beside(cut_off)
    events = await unsent(tmp_path / "toy.db")
    assert [(event.kind, dict(event.data)) for event in events] == [("turn", {"turn": 1, "outcome": "interrupted"})]


def test_pause_and_volume_survive_a_restart(tmp_path: Path) -> None:
    with Pommaid(tmp_path) as toy:
        assert toy.ask("volume", value=0.25)["volume"] == 0.25
        paused = toy.ask("pause")
        assert (paused["rest"], paused["kept"]) == ("paused", True)
        assert toy.ask("status")["state"] == "paused", "at once, and not within a second"
        toy.process.kill()
        toy.wait()
    with Pommaid(tmp_path) as toy:
        status = toy.status_when("paused")
        assert (status["volume"], status["rest"], status["why"]) == (0.25, "paused", "paused")
        assert toy.ask("resume")["rest"] is None
        assert toy.ask("status")["state"] in ("connecting", "offline")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"do": "volume", "value": 2}, "from 0 to 1"),
        ({"do": "volume", "value": True}, "must be a number"),
        ({"do": "volume"}, "must be a number"),
        ({"do": "volume", "value": float("nan")}, "must be a number"),
        ({"do": "play", "phrase": "no such"}, "no phrase of that id"),
        ({"do": "test", "what": "smell"}, "led"),
        ({"do": "press", "hold_ms": 0}, "hold_ms"),
        ({"do": "press", "say": "/nowhere.wav"}, "no such file"),
        ({"do": "heard", "path": "/nowhere/heard.wav"}, "cannot be written"),
        ({"do": "heard", "path": "\0x"}, "cannot be the name of a file"),
        ({"do": "press", "say": "\0x"}, "cannot be the name of a file"),
        ({"do": "play", "phrase": "\0x"}, "no phrase of that id"),
        ({"do": "dance"}, "no such request"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_with_a_reason(running: Pommaid, request_: dict[str, object], told: str) -> None:
    with pytest.raises(RefusedError, match=told) as refused:
        running.ask(**request_)  # type: ignore[arg-type]  # one of them is `do`
    assert refused.value.remedy


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pommaid]:
    with Pommaid(tmp_path_factory.mktemp("toy")) as toy:
        yield toy


# --- reload -----------------------------------------------------------------------------------------------------------


async def test_a_reload_takes_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    async with tiny_relay(parrot) as first, tiny_relay(parrot) as second:

        def move() -> None:
            settings(tmp_path, relay={"url": first.url})
            with Pommaid(tmp_path) as toy:
                toy.status_when("idle")
                settings(tmp_path, relay={"url": second.url}, timing={"hold_ms": 250})
                toy.process.send_signal(signal.SIGHUP)
                toy.until("need a restart: timing.hold_ms")
                toy.until("changed: relay.url")
                while not (status := toy.ask("status"))["relay"]["reached"] or not second.peers:
                    assert status["relay"]["url"] == second.url
                told = [toy.told()]
                while not told[-1].startswith("RELOADING=1\nMONOTONIC_USEC="):
                    told.append(toy.told())
                while told[-1] != "READY=1":
                    told.append(toy.told())

        await beside(move)


def test_a_bad_reload_changes_nothing_and_names_every_problem(tmp_path: Path) -> None:
    with Pommaid(tmp_path) as toy:
        before = toy.ask("dump")["settings"]
        settings(tmp_path, sound={"volume": 7}, button={"pin": 99}, relay={"urll": "x"})
        toy.process.send_signal(signal.SIGHUP)
        toy.until("settings of before stay")
        for told in ("sound.volume", "button.pin", "did you mean 'url'"):
            assert told in toy.log
        assert toy.ask("dump")["settings"] == before


# --- what is missing --------------------------------------------------------------------------------------------------


def test_five_mistakes_are_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    file.write_text(
        "[relay]\nurl = 3\n[button]\nkind = 'knob'\npin = 99\n[lights]\nbrightnes = 1.0\n[sond]\n", encoding="utf-8"
    )
    with started(tmp_path) as toy:
        assert toy.wait() == 78
    for line, told in ((2, "relay.url"), (4, "button.kind"), (5, "button.pin"), (7, "brightnes"), (8, "sond")):
        assert any(f"{file}:{line}" in text and told in text for text in toy.log.splitlines()), (line, toy.log)
    assert "Traceback" not in toy.log


def test_a_virtual_button_never_opens_a_real_microphone(tmp_path: Path) -> None:
    settings(tmp_path, sound={"kind": "card"})
    with started(tmp_path) as toy:
        assert toy.wait() == 78
    assert "only a real button may open a real microphone" in toy.log


def test_without_a_button_it_ends_with_one_clear_line(tmp_path: Path) -> None:
    settings(tmp_path, button={"kind": "gpio"})
    with started(tmp_path) as toy:
        assert toy.wait() == 71
    errors = [line for line in toy.log.splitlines() if " ERROR " in line]
    assert len(errors) == 1 and "no GPIO here" in errors[0] and "what to do" in errors[0]
    assert "no lights" in toy.log and "Traceback" not in toy.log


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("busy=17", "button.pin 17 "),
        ("busy=17,rpi-lgpio", "button.pin 17 "),
        ("no-access", "to the group gpio"),
        ("no-access,rpi-lgpio", "to the group gpio"),
        ("not-a-pi", "no GPIO here"),
    ],
)
def test_a_button_that_cannot_be_had_is_named_in_one_line(tmp_path: Path, fails: str, told: str) -> None:
    settings(tmp_path, button={"kind": "gpio"})
    with started(tmp_path, env={"PYTHONPATH": str(SHIMS), "POMMAI_FAKE_GPIO_FAILS": fails}) as toy:
        assert toy.wait() == 71
    errors = [line for line in toy.log.splitlines() if " ERROR " in line]
    assert len(errors) == 1 and told in errors[0] and "what to do" in errors[0]
    assert "ready" not in toy.log and "Traceback" not in toy.log
    assert not toy.socket.exists()


def test_a_real_button_is_pressed_by_nobody_else(tmp_path: Path) -> None:
    settings(tmp_path, button={"kind": "gpio"})
    with Pommaid(tmp_path, env={"PYTHONPATH": str(SHIMS)}) as toy:
        with pytest.raises(RefusedError, match="nothing but its own button"):
            toy.ask("press")
        assert toy.ask("status")["lights"]["problem"] == ""
        assert toy.end()[0] == 0


def test_without_a_place_for_its_memory_it_lives_on(tmp_path: Path) -> None:
    settings(tmp_path, cache={"path": "/dev/null/toy.db"})
    with Pommaid(tmp_path) as toy:
        assert "/dev/null/toy.db" in toy.ask("status")["cache"]["problem"]
        shown: set[tuple[float, ...]] = set()
        deadline = time.monotonic() + PATIENCE_S
        while not {(1.0, 0.0, 0.0), (1.0, 0.5, 0.0)} <= shown:  # by turns, for a moment
            shown.add(tuple(toy.ask("status")["lights"]["color"]))
            assert time.monotonic() < deadline, shown
        told = toy.ask("volume", value=0.5)
        assert (told["volume"], told["kept"]) == (0.5, False)
        assert toy.ask("pause")["kept"] is False
        assert toy.ask("status")["state"] == "paused"
        assert toy.end()[0] == 0


def test_without_a_place_for_its_socket_it_lives_on(tmp_path: Path) -> None:
    settings(tmp_path, control={"socket": str(tmp_path / "nowhere" / "control.sock")})
    with Pommaid(tmp_path) as toy:
        assert "will not reach this toy" in toy.log and "nowhere" in toy.log
        assert toy.end()[0] == 0


def test_two_daemons_do_not_fight_for_one_body(tmp_path: Path) -> None:
    with Pommaid(tmp_path) as toy:
        second = subprocess.run(
            [sys.executable, "-c", START, "--config", str(toy.file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 69 and "another daemon listens" in second.stderr
        assert toy.ask("status")["state"]


def test_two_daemons_do_not_share_one_memory(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    settings(other, cache={"path": str(tmp_path / "toy.db")})
    with Pommaid(tmp_path) as toy:
        with started(other) as second:
            assert second.wait() == 69
        errors = [line for line in second.log.splitlines() if " ERROR " in line]
        assert len(errors) == 1 and "another daemon uses" in errors[0] and "cache.path" in errors[0]
        assert "Traceback" not in second.log and "lives in memory" not in second.log and not second.socket.exists()
        assert toy.ask("status")["cache"]["problem"] == ""
        toy.process.kill()
        toy.wait()
    with Pommaid(other) as second:
        assert second.ask("status")["cache"]["problem"] == ""


def test_a_toy_whose_lights_are_broken_says_so_by_a_sound(tmp_path: Path) -> None:
    settings(tmp_path, button={"kind": "gpio"}, sound={"kind": "virtual", "earcons": False})
    busy = {"PYTHONPATH": str(SHIMS), "POMMAI_FAKE_GPIO_FAILS": "busy=27,busy=22,busy=23"}
    with Pommaid(tmp_path, env=busy) as toy:
        assert "no lights" in toy.log and "lights.red_pin 27" in toy.ask("status")["lights"]["problem"]
        deadline = time.monotonic() + PATIENCE_S
        while not toy.ask("heard", path=str(tmp_path / "heard.wav"))["heard_ms"]:
            assert time.monotonic() < deadline
        assert toy.end()[0] == 0


def test_a_colour_that_is_missing_takes_no_other_with_it(tmp_path: Path) -> None:
    settings(tmp_path, button={"kind": "gpio"})
    with Pommaid(tmp_path, env={"PYTHONPATH": str(SHIMS), "POMMAI_FAKE_GPIO_FAILS": "busy=22"}) as toy:
        assert "a colour is missing: lights.green_pin 22" in toy.log
        lights = toy.ask("status")["lights"]
        assert "lights.green_pin 22" in lights["problem"] and lights["color"][0] == 1.0
        assert toy.end()[0] == 0


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_thread_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    hang = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"
    with Pommaid(tmp_path, before=hang) as toy:
        code, seconds = toy.end()
    assert code == 0 and seconds < 2


STUCK = """
import time
from pommai.device.service.keeping import Keeper
async def stuck(self, *, durable=False):
    time.sleep(60)
Keeper.save = stuck
"""


def test_a_loop_that_hangs_at_the_end_is_ended_in_time(tmp_path: Path) -> None:
    with Pommaid(tmp_path, before=STUCK) as toy:
        code, seconds = toy.end()
    assert code == 75 and seconds < 2.3 and "something hangs" in toy.log


HUNG = """
import ctypes, logging, sys, threading
from pommai.device import daemon
async def hang(self, toy):
    print("hanging", file=sys.stderr, flush=True)
    while True:
        ctypes.CDLL(None).pause()
daemon.Daemon._reload_when_told = hang
"""
MUTE = "logging.getLogger('pommai.device.daemon').error = lambda *args: threading.Event().wait()"


@pytest.mark.parametrize("log", ["", MUTE], ids=["log", "no log"])
def test_a_loop_that_hangs_in_mid_life_is_ended_in_time(tmp_path: Path, log: str) -> None:
    """In a library that does not come back; and with a log that takes nothing more."""
    with started(tmp_path, before=HUNG + log) as toy:
        toy.until("hanging")
        code, seconds = toy.end()
    assert code == 75 and seconds < 2.3 and ("something hangs" in toy.log) is not bool(log)


def test_a_second_signal_ends_a_loop_that_hangs_at_once(tmp_path: Path) -> None:
    with started(tmp_path, before=HUNG) as toy:
        toy.until("hanging")
        toy.process.send_signal(signal.SIGTERM)
        code, seconds = toy.end(signal.SIGINT)
    assert code == 128 + signal.SIGINT and seconds < 1


def test_told_to_end_while_it_begins_it_ends(tmp_path: Path) -> None:
    slow = """
import asyncio, sys
from pommai.device import daemon
assemble = daemon.assemble
async def slowly(*args):
    print("assembling", file=sys.stderr, flush=True)
    await asyncio.sleep(0.5)
    return await assemble(*args)
daemon.assemble = slowly
"""
    with started(tmp_path, before=slow) as toy:
        toy.until("assembling")
        code, seconds = toy.end()
    assert code == 0 and seconds < 2 and "Traceback" not in toy.log


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Pommaid(tmp_path, before=STUCK) as toy:
        toy.process.send_signal(signal.SIGTERM)
        toy.until("ending")
        code, seconds = toy.end(signal.SIGINT)
    assert code == 128 + signal.SIGINT and seconds < 1


def test_a_bug_in_a_part_ends_it_and_says_so(tmp_path: Path) -> None:
    bug = """
from pommai.device.service.keeping import Keeper
async def broken(self):
    raise ZeroDivisionError("what a child said")
Keeper.run = broken
"""
    with started(tmp_path, before=bug) as toy:
        assert toy.wait() == 70
    (error,) = [line for line in toy.log.splitlines() if " ERROR " in line]
    assert "ERROR pommai.device.daemon: daemon: a bug ends the process: ZeroDivisionError at " in error
    assert "<string>:4" in error and "what a child said" not in toy.log


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argument", "told"), [("--check", "the settings are good"), ("--version", __version__)])
def test_what_can_be_asked_without_starting(tmp_path: Path, argument: str, told: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", START, argument]
        + (["--config", str(settings(tmp_path))] if argument == "--check" else []),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and told in ran.stdout + ran.stderr


def test_the_daemon_imports_nothing_heavy() -> None:
    code = "import sys, pommai.device.daemon; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in ran.stdout.split()} & HEAVY


def test_settings_that_changed_are_sorted_by_what_they_need() -> None:
    before = DeviceSettings()
    after = DeviceSettings(relay=RelayLink(url="wss://relay.example/v1/toy", token=Secret("new")))
    assert changes(before, after) == (["relay.url", "relay.token"], [])
    assert changes(before, before) == ([], [])
    names = {f"{section}.{name}" for section, values in masked(before).items() for name in values}
    assert {name for name in LIVE if "." in name} <= names


def test_a_dump_holds_no_secret() -> None:
    shown = masked(DeviceSettings(relay=RelayLink(token=Secret("very-secret"))))
    assert "very-secret" not in str(shown) and shown["relay"]["token"] == "Secret(set)"


def test_all_problems_of_mixed_settings_are_told_at_once(tmp_path: Path) -> None:
    file = settings(
        tmp_path, relay={"url": "ws://relay.example/v1/toy"}, sound={"kind": "card"}, lights={"red_pin": 22}
    )
    with pytest.raises(ConfigError) as caught:
        load_settings([file], {})
    assert len(caught.value.problems) == 3


HURRIED = """\
[relay]
url = "ws://relay.example/v1/toy"
ca_fil = "x"
[button]
kind = "virtual"
[lights]
red_pin = 22
blue_pin = 99
pwm_hz = "fast"
brightness = 0.5
[sound]
kind = "card"
[cach]
"""


def test_mistakes_of_all_kinds_are_told_in_one_run_with_their_places(tmp_path: Path) -> None:
    """`lights.brightness` is right or wrong by `lights.pwm_hz`, which is told already: it is left out."""
    file = tmp_path / "device.toml"
    file.write_text(HURRIED, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", START, "--check", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"POMMAI_RELAY_TOKEN": "two words"},
    )
    assert ran.returncode == 78
    told = [line.partition("settings: ")[2].replace(f"{file}:", "") for line in ran.stderr.splitlines()]
    assert [line.split(";")[0] for line in told] == [
        "13: unknown section [cach]",
        "3: relay.ca_fil is unknown",
        "8: lights.blue_pin must be from 0 to 27, not 99",
        "9: lights.pwm_hz must be a whole number",
        "environment: POMMAI_RELAY_TOKEN: relay.token holds characters that no token has",
        "2: relay.url is plain ws:// to another machine",
        "7: lights.green_pin 22 is in use for lights.red_pin already",
        "5: button.kind = 'virtual' needs sound.kind = 'virtual': only a real button may open a real microphone",
    ]


@pytest.mark.parametrize("url", ["wss://relay.example/v1/toy", "https://relay.example"])
def test_a_file_of_certificates_is_looked_at_whatever_else_is_wrong(tmp_path: Path, url: str) -> None:
    file = settings(tmp_path, relay={"url": url, "ca_file": "/nowhere.pem"}, sound={"volume": 7})
    with pytest.raises(ConfigError) as caught:
        load_settings([file], {})
    line = 1 + file.read_text(encoding="utf-8").splitlines().index("ca_file = '/nowhere.pem'")
    said = f"{file}:{line}: relay.ca_file /nowhere.pem holds no certificates that can be read"
    assert said in caught.value.problems and len(caught.value.problems) == 2 + (url[:3] != "wss")
