"""The answers to what is asked at the control socket (see `control`): numbers, codes and texts of ours, never words."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pommai import __version__, starter
from pommai.audio import SPEECH, read_recording, write_wav
from pommai.device.body.sim import VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.service.control import Request
from pommai.device.service.loading import masked
from pommai.device.service.toy import Toy
from pommai.device.telemetry import memory
from pommai.errors import AudioError, RefusedError

HOLD_MS: Final = 1000
MAX_HOLD_MS: Final = 61_000
MAX_SAYING_S: Final = 60.0
LOG_ENTRIES: Final = 200
"""How much of the ring a dump shows: it has to fit into one answer."""

LOOK_S: Final = 0.1
"""Between two looks whether a press has opened the microphone."""

AFTER_SAYING_MS: Final = 200
"""How much longer than what it says a virtual child holds the button."""


class Answers:
    """One method for each request."""

    def __init__(self, toy: Toy) -> None:
        self._toy = toy
        self._began_s = time.monotonic()
        self._unwritten = b""  # what was heard and could not be written yet
        self._known: dict[str, Callable[[Request], Awaitable[Mapping[str, Any]]]] = {
            "status": self._status,
            "play": self._play,
            "volume": self._volume,
            "pause": self._pause,
            "resume": self._resume,
            "test": self._test,
            "dump": self._dump,
            "phrases": self._phrases,
            "press": self._press,
            "heard": self._heard,
        }

    async def answer(self, request: Request) -> Mapping[str, Any]:
        """See `control.Answer`."""
        asked = self._known.get(request["do"])
        if asked is None:
            raise RefusedError("there is no such request", remedy=f"Known are: {', '.join(self._known)}.")
        return await asked(request)

    # --- what the toy is ----------------------------------------------------------------------------------------------

    async def _status(self, _request: Request) -> Mapping[str, Any]:
        """All of one moment: what has to be waited for comes first."""
        toy = self._toy
        book, lights = toy.logbook, toy.hardware.lights
        spool, phrases = await toy.cache.spool_size(), await toy.cache.phrases()
        pss_kb = (await asyncio.to_thread(memory)).get("pss_kb")
        charge = toy.signs.charge
        return {
            "state": type(book.state).__name__.lower(),
            "since_s": round(time.monotonic() - book.since_s, 1),
            "why": str(getattr(book.state, "why", "")),
            "turn": book.state.turn,
            "relay": {
                "url": toy.settings.relay.url,
                "reached": book.welcome is not None,
                "why_not": book.not_reached,
                "session": book.welcome.session if book.welcome is not None else None,
            },
            **toy.deeds.rules(),
            "battery": dataclasses.asdict(charge) if charge is not None else None,
            "battery_problem": toy.battery.problem,
            "cache": {
                "unsent": spool.unsent,
                "urgent": spool.urgent,
                "phrases": len(phrases),
                "syncing": toy.upkeep.syncing,
                "problem": toy.cache.problem,
            },
            "sound": self._sound(),
            "lights": {
                "color": [round(channel, 2) for channel in dataclasses.astuple(lights.color)],
                "problem": toy.hardware.problem,
            },
            "clock_trusted": toy.clock.trusted,
            "memory_mb": None if pss_kb is None else round(int(pss_kb) * 1024 / 1e6, 1),
            "uptime_s": round(time.monotonic() - self._began_s, 1),
            "version": __version__,
            "python": ".".join(map(str, sys.version_info[:3])),
            "last_turn": toy.telemetry.last_turn or None,
            "availability": toy.availability(),
        }

    def _sound(self) -> Mapping[str, Any]:
        card = self._toy.hardware.card
        if card is None:
            return {"kind": "virtual", "present": True, "xruns": 0}
        return {"kind": "card", "present": card.present, "xruns": card.mic.xruns + card.speaker.xruns}

    async def _dump(self, request: Request) -> Mapping[str, Any]:
        entries = await self._toy.cache.recent_log(LOG_ENTRIES)
        return {
            "status": await self._status(request),
            "settings": masked(self._toy.settings),
            "spool": dataclasses.asdict(await self._toy.cache.spool_size()),
            "log": [{"at_s": entry.at_s, "kind": entry.kind, **entry.data} for entry in entries],
        }

    async def _phrases(self, _request: Request) -> Mapping[str, Any]:
        spoken = {entry.id for entry in await self._toy.cache.phrases()}
        written = {phrase.id for phrase in await asyncio.to_thread(starter.load)}
        return {"phrases": [{"id": each, "audio": each in spoken} for each in sorted(spoken | written)]}

    # --- what it shall do ---------------------------------------------------------------------------------------------

    async def _play(self, request: Request) -> Mapping[str, Any]:
        phrase = str(request.get("phrase"))
        known = [each["id"] for each in (await self._phrases(request))["phrases"]]
        if phrase not in known:
            raise RefusedError("there is no phrase of that id", remedy="`pommai device phrases` lists them.")
        if not self._toy.deeds.play(phrase):
            raise RefusedError("the toy is talking with its child", remedy="Try again when it is idle.")
        return {"phrase": phrase}

    async def _volume(self, request: Request) -> Mapping[str, Any]:
        is_kept = await self._toy.deeds.volume(_number(request, "value", 0.0, 1.0))
        return self._toy.deeds.rules() | {"kept": is_kept}

    async def _pause(self, _request: Request) -> Mapping[str, Any]:
        is_kept = await self._toy.deeds.pause(paused=True)
        return self._toy.deeds.rules() | {"kept": is_kept}

    async def _resume(self, _request: Request) -> Mapping[str, Any]:
        is_kept = await self._toy.deeds.pause(paused=False)
        return self._toy.deeds.rules() | {"kept": is_kept}

    async def _test(self, request: Request) -> Mapping[str, Any]:
        match request.get("what"):
            case "led":
                return self._test_lights()
            case "sound":
                if not self._toy.deeds.test_sound():
                    raise RefusedError(
                        "the toy makes no small sound now",
                        remedy="Try again when nobody talks with it; sound.earcons must be true.",
                    )
            case _:
                raise RefusedError('what to test is "led" or "sound"')
        return {}

    def _test_lights(self) -> Mapping[str, Any]:
        hardware = self._toy.hardware
        is_virtual = isinstance(hardware.button, VirtualButton)
        if not hardware.lights.can_be_seen and not is_virtual:
            raise RefusedError(
                f"the toy has no lights: {hardware.problem or 'its settings say so'}",
                remedy="Correct the section [lights] of its settings, or the wiring, and restart it.",
            )
        self._toy.deeds.test_lights()
        return {"virtual": is_virtual, "problem": hardware.problem}

    # --- what only a virtual toy can do -------------------------------------------------------------------------------

    async def _press(self, request: Request) -> Mapping[str, Any]:
        button, mic = self._toy.hardware.button, self._toy.hardware.mic
        if not isinstance(button, VirtualButton):
            raise RefusedError(
                "nothing but its own button opens the microphone of a real toy",
                remedy="Press it; or configure a virtual one: button.kind and sound.kind = 'virtual'.",
            )
        if button.down:
            raise RefusedError("the button is down already", remedy="Wait until it has come up.")
        pcm = b""
        if request.get("say") is not None:
            try:
                pcm = (await asyncio.to_thread(read_recording, _path(request, "say"), MAX_SAYING_S)).pcm
            except AudioError as error:
                raise RefusedError(str(error), remedy=error.remedy) from error
        usual_ms = SPEECH.ms(len(pcm)) + AFTER_SAYING_MS if pcm else HOLD_MS
        hold_ms = _number({"hold_ms": usual_ms, **request}, "hold_ms", 1, MAX_HOLD_MS)
        if isinstance(mic, VirtualMic):
            mic.speak(pcm)
        button.press()
        try:
            opened = await self._held(hold_ms / 1000)
        finally:
            button.release()
        state = self._toy.logbook.state
        told = {"turn": state.turn, "held_ms": hold_ms, "opened": opened, "state": type(state).__name__.lower()}
        return told | self._toy.deeds.rules()

    async def _held(self, seconds: float) -> bool:
        """Wait with the button down; whether the microphone was seen open."""
        loop, mic = asyncio.get_running_loop(), self._toy.hardware.mic
        until_s, opened = loop.time() + seconds, False
        while (left_s := until_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, LOOK_S))
            opened = opened or (isinstance(mic, VirtualMic) and mic.is_open)
        return opened

    async def _heard(self, request: Request) -> Mapping[str, Any]:
        speaker = self._toy.hardware.speaker
        if not isinstance(speaker, VirtualSpeaker):
            raise RefusedError("a real speaker does not remember", remedy="Listen; or set sound.kind = 'virtual'.")
        path, pcm = _path(request, "path"), self._unwritten + speaker.take_heard()
        self._unwritten = b""
        gaps_ms, speaker.gaps_ms = speaker.gaps_ms, []
        try:
            await asyncio.to_thread(write_wav, path, pcm)
        except OSError as error:
            self._unwritten = pcm + self._unwritten
            remedy = (
                "The daemon writes it, as its own user: name a file in a folder that is there, and that it may use."
            )
            raise RefusedError(f"{path} cannot be written: {error.strerror}", remedy=remedy) from error
        except ValueError as error:
            self._unwritten = pcm + self._unwritten
            raise RefusedError(f"{str(path)!r} cannot be the name of a file") from error
        return {"path": str(path), "heard_ms": SPEECH.ms(len(pcm)), "gaps_ms": gaps_ms}


def _path(request: Request, name: str) -> Path:
    """A path of the request. Raises RefusedError."""
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise RefusedError(f"{name} must be the path of a file, as a text")
    return Path(value)


def _number(request: Request, name: str, least: float, most: float) -> float:
    """A number of the request. Raises RefusedError; NaN is none."""
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RefusedError(f"{name} must be a number from {least:g} to {most:g}")
    return value
