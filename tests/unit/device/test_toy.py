"""A toy put together in this process: what it is told takes effect at once, and what it says of itself is true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pommai import codec
from pommai.audio import read_recording
from pommai.device.cache.cache import Cache
from pommai.device.mind.effects import Earcon
from pommai.device.mind.lights import RED
from pommai.device.mind.states import Connecting, Error, Idle, Listening, Offline, Paused, State
from pommai.device.ports import RelayReached, StateChanged
from pommai.device.service.answers import Answers
from pommai.device.service.hardware import Hardware, assemble
from pommai.device.service.toy import Toy
from pommai.device.settings import (
    ButtonSettings,
    CacheSettings,
    DeviceSettings,
    LightSettings,
    RelayLink,
    SoundSettings,
)
from pommai.errors import MissingExtra, RefusedError, StoreError
from pommai.protocol import Command, ErrorCode, Welcome
from pommai.schema import Secret
from tests.protocol.tiny_relay import TOKEN, Peer, tiny_relay

from .fake_gpio import pins

PATIENCE_S = 20.0


def virtual(path: Path | str = ":memory:", url: str = "ws://127.0.0.1:9/v1/toy") -> DeviceSettings:
    """A toy without hardware, and with a database at `path`."""
    return DeviceSettings(
        relay=RelayLink(url=url, token=Secret(TOKEN)),
        button=ButtonSettings(kind="virtual"),
        sound=SoundSettings(kind="virtual", earcons=False),
        cache=CacheSettings(path=str(path)),
    )


def dimmed_to(settings: DeviceSettings, brightness: float) -> DeviceSettings:
    return replace(settings, lights=LightSettings(brightness=brightness))


class Living:
    """A toy whose runner runs, and no other part that was not asked for."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self._news = asyncio.Event()
        toy.logbook.on_news = self._news.set

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_it_is(self, state: type[State]) -> None:
        await self.until(lambda: isinstance(self.toy.logbook.state, state))


@asynccontextmanager
async def living(
    settings: DeviceSettings, *, hardware: Hardware | None = None, part: str | None = None
) -> AsyncIterator[Living]:
    async with AsyncExitStack() as stack:
        cache = await Cache.open(settings.cache)
        stack.push_async_callback(cache.close)
        body = hardware if hardware is not None else await assemble(settings, stack, lambda present: None)
        toy = await Toy.put_together(settings, body, cache, lambda: None)
        parts = toy.parts()
        wanted = [parts.pop(part)] if part is not None else []
        for unwanted in parts.values():
            unwanted.close()
        living = Living(toy)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (toy.runner.run(), *wanted)]
            await living.until_it_is(Connecting)
            yield living
            await toy.write_last_page()
            await toy.hang_up()
            for task in tasks:
                task.cancel()


# --- pause, volume, brightness ----------------------------------------------------------------------------------------


async def test_a_pause_and_its_end_are_true_as_soon_as_they_are_told(tmp_path: Path) -> None:
    async with living(virtual(tmp_path / "toy.db")) as alive:
        answers = Answers(alive.toy)
        for _ in range(3):
            told = await answers.answer({"do": "pause"})
            assert told["rest"] == "paused" and told["kept"] is True
            status = await answers.answer({"do": "status"})
            assert (status["state"], status["why"], status["rest"]) == ("paused", "paused", "paused")
            told = await answers.answer({"do": "resume"})
            assert told["rest"] is None and told["kept"] is True
            assert (await answers.answer({"do": "status"}))["state"] in ("connecting", "offline")
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_what_a_toy_without_a_disk_is_told_is_done_and_said_not_to_be_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with living(virtual()) as alive:
        answers = Answers(alive.toy)
        assert (await answers.answer({"do": "pause"}))["kept"] is False
        assert (await answers.answer({"do": "resume"}))["kept"] is False
        assert (await answers.answer({"do": "volume", "value": 0.25})) == {
            **alive.toy.deeds.rules(),
            "volume": 0.25,
            "kept": False,
        }
        assert alive.toy.runner.mouth._player.volume == 0.25, "also of what is being said"
        assert await alive.toy.deeds.obey(Command("c1", "pause")) is None
        assert isinstance(alive.toy.logbook.state, Paused)
        assert await alive.toy.deeds.obey(Command("c2", "dance")) is ErrorCode.UNKNOWN_TYPE
    said = [record.getMessage() for record in caplog.records if record.name.endswith(".deeds")]
    assert said == [
        f"deeds: it holds only until the toy is switched off, what={what}"
        for what in ("pause", "pause", "volume", "pause")
    ]


async def test_brightness_by_command_outlives_the_toy_until_the_setting_is_another(tmp_path: Path) -> None:
    settings = virtual(tmp_path / "toy.db")

    async with living(settings) as alive:
        assert alive.toy.runner.picture.brightness == 1.0
        assert await alive.toy.deeds.obey(Command("c1", "brightness", 0.25)) is None
        assert await alive.toy.cache.recall("brightness") == {"value": 0.25, "setting": 1.0}, "at once, not at the end"
        alive.toy.use(replace(settings, sound=SoundSettings(kind="virtual")))
        assert alive.toy.runner.picture.brightness == 0.25, "that was another setting"
    async with living(settings) as alive:
        assert alive.toy.runner.picture.brightness == 0.25
    async with living(dimmed_to(settings, 0.5)) as alive:
        assert alive.toy.runner.picture.brightness == 0.5
        await alive.toy.deeds.brightness(0.125)
        alive.toy.use(dimmed_to(settings, 0.75))
        assert alive.toy.runner.picture.brightness == 0.75, "a setting that was changed wins"
    async with living(dimmed_to(settings, 0.75)) as alive:
        assert alive.toy.runner.picture.brightness == 0.75


@pytest.mark.parametrize("kept", [{}, [], "bright", {"setting": 1.0}, {"setting": 1.0, "value": True}, {"value": 0.5}])
async def test_brightness_that_cannot_be_read_is_the_settings(tmp_path: Path, kept: object) -> None:
    settings = virtual(tmp_path / "toy.db")
    cache = await Cache.open(settings.cache)
    await cache.remember("brightness", kept)
    await cache.close()
    async with living(settings) as alive:
        assert alive.toy.runner.picture.brightness == 1.0


async def test_limits_that_the_relay_told_survive_a_power_cut_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper's own time to write is half a minute away: what is written is written because of the welcome."""
    async with living(virtual(tmp_path / "toy.db"), part="keeper") as alive:
        cache, written = alive.toy.cache, asyncio.Event()
        remember = cache.remember
        durably: dict[str, bool] = {}

        async def noted(key: str, value: object, durable: bool = False) -> None:
            await remember(key, value, durable)
            durably[key] = durable
            if key == "clock":
                written.set()

        monkeypatch.setattr(cache, "remember", noted)
        welcome = Welcome(1, "s1", 1_800_000_000.0, 61.0, volume_ceiling=0.25)
        alive.toy._allowance.told(welcome)
        alive.toy.noticed(RelayReached(welcome))
        async with asyncio.timeout(PATIENCE_S):
            await written.wait()
        assert durably["allowance"] is True
        assert (await cache.recall("allowance"))["limits"]["volume_ceiling"] == 0.25
        monkeypatch.undo()


async def test_a_command_that_the_cache_fails_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(key: str, value: object, durable: bool = False) -> None:
        raise StoreError("the disk is gone")

    async with living(virtual()) as alive:
        monkeypatch.setattr(alive.toy.cache, "remember", broken)
        assert await alive.toy._obey(Command("c1", "volume", 0.5)) is ErrorCode.UNAVAILABLE
        monkeypatch.undo()


async def test_what_was_heard_is_not_lost_to_a_bad_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with living(virtual()) as alive:
        heard = [b"\1\0" * 240, b"\2\0" * 240]
        monkeypatch.setattr(alive.toy.hardware.speaker, "take_heard", lambda: heard.pop(0))
        answers = Answers(alive.toy)
        with pytest.raises(RefusedError):
            await answers.answer({"do": "heard", "path": "/nowhere/heard.wav"})
        told = await answers.answer({"do": "heard", "path": str(tmp_path / "heard.wav")})
        assert told["heard_ms"] == 20.0
        assert read_recording(tmp_path / "heard.wav").pcm == b"\1\0" * 240 + b"\2\0" * 240
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize("path", [{"a": 1}, None, "", 7])
async def test_what_is_no_path_makes_no_file(path: object) -> None:
    async with living(virtual()) as alive:
        with pytest.raises(RefusedError, match="path must be the path of a file"):
            await Answers(alive.toy).answer({"do": "heard", "path": path})
        with pytest.raises(RefusedError, match="say must be the path of a file"):
            await Answers(alive.toy).answer({"do": "press", "say": 7})


async def test_a_press_tells_whether_it_opened_the_microphone() -> None:
    async with living(virtual()) as alive:
        answers = Answers(alive.toy)
        told = await answers.answer({"do": "press", "hold_ms": 50})
        assert (told["opened"], told["rest"], told["turn"]) == (True, None, 1)
        await answers.answer({"do": "pause"})
        told = await answers.answer({"do": "press", "hold_ms": 50})
        assert (told["opened"], told["rest"], told["paused_here"]) == (False, "paused", True)


async def test_what_is_written_before_the_time_is_known_says_so() -> None:
    async with living(virtual()) as alive:
        toy = alive.toy
        toy.clock._is_set = lambda: False
        assert not toy.clock.trusted
        await toy._diary.write("activity")
        (event,) = await toy.cache.unsent(10, 10_000)
        assert event.data["clock"] == "unsure"


async def test_a_toy_without_its_codec_says_what_is_missing_and_lives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def preload() -> None:
        asked.append(threading.current_thread().name)
        raise MissingExtra("the library libopus is not installed")

    monkeypatch.setattr(codec, "preload", preload)
    async with living(virtual()) as alive:
        parts = alive.toy.parts()
        work = parts.pop("codec")
        for unwanted in parts.values():
            unwanted.close()
        await work
    assert asked and asked != [threading.main_thread().name]
    assert "libopus is not installed (what to do:" in caplog.text
    await asyncio.get_running_loop().shutdown_default_executor()


# --- what it says of itself -------------------------------------------------------------------------------------------


async def test_a_status_is_all_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything changes while the disk is asked: what is told is what is true when it has answered."""
    async with living(virtual()) as alive:
        toy = alive.toy
        phrases = toy.cache.phrases

        async def slowly() -> object:
            found = await phrases()
            toy.deeds._allowance.paused_here = True
            toy.noticed(StateChanged(Paused(7, ErrorCode.PAUSED, Idle(7)), 1.0))
            toy.hardware.lights.show(RED)
            return found

        monkeypatch.setattr(toy.cache, "phrases", slowly)
        status = await Answers(toy).answer({"do": "status"})
        assert (status["state"], status["turn"], status["rest"]) == ("paused", 7, "paused")
        assert status["lights"]["color"] == [1.0, 0.0, 0.0]
        monkeypatch.undo()
        toy.deeds._allowance.paused_here = False
    await asyncio.get_running_loop().shutdown_default_executor()


# --- the body ---------------------------------------------------------------------------------------------------------


async def test_a_sound_card_that_goes_ends_what_it_was_used_for() -> None:
    async def silent(peer: Peer) -> None:
        await peer.welcome()
        while await peer.receive() is not None:
            pass

    async with tiny_relay(silent) as relay, living(virtual(url=relay.url), part="uplink") as alive:
        await alive.until_it_is(Idle)
        alive.toy.hardware.button.press()  # type: ignore[attr-defined]  # a virtual one
        await alive.until_it_is(Listening)
        alive.toy.sound_changed(True)
        assert isinstance(alive.toy.runner.state, Listening), "that a card has come ends nothing"
        alive.toy.sound_changed(False)
        await alive.until_it_is(Error)
        assert not alive.toy.hardware.mic.is_open  # type: ignore[attr-defined]
        alive.toy.hardware.button.release()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fails", "kind", "problem", "seen"),
    [
        ("", "gpio", "", True),
        ("busy=22", "gpio", "lights.green_pin 22 cannot be used", True),
        ("busy=23", "gpio", "lights.blue_pin 23 cannot be used", False),
        ("busy=27,busy=22,busy=23", "gpio", "lights.red_pin 27 cannot be used", False),
        ("", "none", "", False),
    ],
)
async def test_an_open_microphone_that_cannot_be_seen_is_heard(
    monkeypatch: pytest.MonkeyPatch, fails: str, kind: str, problem: str, seen: bool
) -> None:
    settings = replace(virtual(), button=ButtonSettings(), lights=LightSettings(kind=kind))
    with pins(monkeypatch, ",".join(filter(None, ["rpi-lgpio", fails]))):
        async with AsyncExitStack() as stack:
            hardware = await assemble(settings, stack, lambda present: None)
            assert problem in hardware.problem and bool(problem) == bool(hardware.problem)
            assert hardware.shows_open_mic is hardware.body.shows_open_mic is seen
            async with living(settings, hardware=hardware) as alive:
                silent = set() if seen else {Earcon.START, Earcon.ERROR}
                assert set(alive.toy.runner.mouth.earcons) == silent
                alive.toy.use(replace(settings, sound=SoundSettings(kind="virtual")))
                assert set(alive.toy.runner.mouth.earcons) == set(Earcon)
                alive.toy.use(settings)
                assert set(alive.toy.runner.mouth.earcons) == silent
                if hardware.lights.can_be_seen:
                    told = await Answers(alive.toy).answer({"do": "test", "what": "led"})
                    assert told == {"virtual": False, "problem": hardware.problem}
                else:
                    with pytest.raises(RefusedError, match=f"the toy has no lights: {problem}"):
                        await Answers(alive.toy).answer({"do": "test", "what": "led"})
                assert isinstance(alive.toy.runner.state, Connecting | Offline)
        await asyncio.get_running_loop().shutdown_default_executor()
