"""The parts of a toy put together: what it hears, says, may and remembers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self

from pommai import starter
from pommai.device import earcons
from pommai.device.allowance import ToyAllowance
from pommai.device.battery import Battery
from pommai.device.cache.cache import Cache
from pommai.device.clock import WallClock
from pommai.device.deeds import Deeds
from pommai.device.diary import Diary
from pommai.device.espeak import find_espeak
from pommai.device.events import Earcon
from pommai.device.hardware import Hardware
from pommai.device.jukebox import Jukebox, Status
from pommai.device.keeping import ALLOWANCE, WALL_CLOCK, Hunger, Keeper, Logbook
from pommai.device.ntp import is_synchronised
from pommai.device.own_voice import POSITION, CachedVoice
from pommai.device.runner import Runner
from pommai.device.settings import DeviceSettings
from pommai.device.sound import PatientSoundCard
from pommai.device.states import Connecting, Idle, Offline, Paused
from pommai.device.upkeep import ToyUpkeep
from pommai.device.uplink import WebSocketUplink
from pommai.protocol import Command, ErrorCode


class Toy:
    """Made by `put_together`; it lives while `live` runs, and ends when its runner does."""

    def __init__(
        self,
        settings: DeviceSettings,
        hardware: Hardware,
        cache: Cache,
        remembered: Mapping[str, Any],
        on_alive: Callable[[], None],
    ) -> None:
        """`remembered`: what the cache holds under the keys of `put_together`. Raises ConfigError for the relay's."""
        self.settings = settings
        self.hardware = hardware
        self.cache = cache
        self.clock = _clock(remembered[WALL_CLOCK])
        self.logbook = Logbook(cache, self.clock.now_s)
        self.battery = Battery(settings.battery.path)
        self._uplink = WebSocketUplink(settings.relay, clock_trusted=lambda: self.clock.trusted)
        self.upkeep = ToyUpkeep(cache, self._uplink, self._obey, is_idle=self._is_idle)
        self._diary = Diary(cache, self.clock.now_s, self.upkeep.poke)
        self._allowance = ToyAllowance(self.clock, settings.sound.volume, remembered[ALLOWANCE])
        self._keeper = Keeper(cache, self.clock, self._allowance)
        self.runner = Runner(
            hardware.body,
            self._uplink,
            settings.timing,
            self.logbook,
            voice=self._voice(remembered[POSITION]),
            allowance=self._allowance,
            upkeep=self.upkeep,
            earcons=_sounds(settings),
            brightness=settings.lights.brightness,
            on_alive=on_alive,
        )
        self.deeds = Deeds(self.runner, self._allowance, self._keeper)

    @classmethod
    async def put_together(
        cls, settings: DeviceSettings, hardware: Hardware, cache: Cache, on_alive: Callable[[], None]
    ) -> Self:
        """A toy that goes on from where it was switched off."""
        remembered = {key: await cache.recall(key) for key in (WALL_CLOCK, ALLOWANCE, POSITION)}
        return cls(settings, hardware, cache, remembered, on_alive)

    def parts(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What works in the background, for as long as the runner runs; each by its name."""
        hunger = Hunger(self.battery, self.runner, lambda: self.settings.battery.low_percent)
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "uplink": self._uplink.run(),
            "upkeep": self.upkeep.run(),
            "logbook": self.logbook.run(),
            "keeper": self._keeper.run(),
            "battery": hunger.run(),
        }
        if self.hardware.card is not None:
            parts["sound"] = _keep(self.hardware.card)
        return parts

    def use(self, settings: DeviceSettings) -> None:
        """Live by these settings from now on, as far as `loading.LIVE` says. Raises ConfigError for the relay's."""
        self._uplink.use(settings.relay)
        self.settings = settings
        self.runner.picture.brightness = settings.lights.brightness
        self.runner.mouth.earcons = _sounds(settings)

    async def write_last_page(self) -> None:
        """The runner has ended: what is to be known of it after the next start. Raises StoreError."""
        if (turn := self.logbook.cut_off) is not None:
            await self._diary.write("turn", durable=True, turn=turn, outcome="interrupted")
        await self.logbook.finish()
        await self._keeper.save(durable=True)

    async def hang_up(self) -> None:
        """Close the connection politely."""
        await self._uplink.aclose()

    def _voice(self, position: object) -> CachedVoice:
        return CachedVoice(
            self.cache,
            Jukebox(starter.load(), position if isinstance(position, Mapping) else None),
            self._diary,
            self._status,
            earcons.sound(Earcon.ERROR),
            find_espeak(),
        )

    async def _obey(self, command: Command) -> ErrorCode | None:
        return await self.deeds.obey(command)

    def _is_idle(self) -> bool:
        return isinstance(self.runner.state, Idle | Offline | Connecting | Paused)

    def _status(self) -> Status:
        """What the toy says of itself when it is asked."""
        charge = self.battery.read()
        return Status(
            online=self.logbook.welcome is not None,
            battery_percent=None if charge is None else charge.percent,
            charging=charge is not None and charge.charging,
            volume=self._allowance.volume,
        )


def _clock(remembered: object) -> WallClock:
    return WallClock(
        float(remembered) if isinstance(remembered, int | float) else None,
        system_s=time.time,
        monotonic_s=time.monotonic,
        is_set=is_synchronised,
    )


async def _keep(card: PatientSoundCard) -> None:
    """Have the sound card, whenever there is one."""
    async with card:
        await asyncio.Event().wait()


def _sounds(settings: DeviceSettings) -> dict[Earcon, bytes]:
    return {each: earcons.sound(each) for each in Earcon} if settings.sound.earcons else {}
