"""The parts of a toy put together: what it hears, says, may and remembers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Self

from pommai import codec, starter
from pommai.device.body.battery import Battery
from pommai.device.body.ntp import is_synchronised
from pommai.device.body.sound import PatientSoundCard
from pommai.device.cache.cache import Cache
from pommai.device.diary import Diary
from pommai.device.mind.allowance import ToyAllowance
from pommai.device.mind.availability import Availability
from pommai.device.mind.clock import WallClock
from pommai.device.mind.effects import Earcon
from pommai.device.mind.jukebox import Jukebox, Status
from pommai.device.mind.lights import Mood
from pommai.device.mind.states import Connecting, Idle, Offline, Paused
from pommai.device.network.meter import Meter
from pommai.device.network.upkeep import ToyUpkeep
from pommai.device.network.uplink import WebSocketUplink
from pommai.device.ports import Note, RelayReached, StateChanged
from pommai.device.runner import Runner
from pommai.device.service.deeds import Deeds
from pommai.device.service.hardware import Hardware
from pommai.device.service.keeping import (
    ALLOWANCE,
    AVAILABILITY,
    BRIGHTNESS,
    WALL_CLOCK,
    Keeper,
    Logbook,
    kept_brightness,
)
from pommai.device.service.signs import Signs
from pommai.device.settings import DeviceSettings
from pommai.device.speech import earcons
from pommai.device.speech.espeak import find_espeak
from pommai.device.speech.own_voice import POSITION, CachedVoice
from pommai.device.telemetry import Telemetry
from pommai.errors import MissingExtra
from pommai.protocol import Command, ErrorCode, Value

_log = logging.getLogger(__name__)

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


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
        meter = Meter()
        self._uplink = WebSocketUplink(settings.relay, meter=meter, clock_trusted=lambda: self.clock.trusted)
        self.upkeep = ToyUpkeep(cache, self._uplink, self._obey, is_idle=self._is_idle)
        self._diary = Diary(cache, self.clock.now_s, self.upkeep.poke, lambda: self.clock.trusted)
        self._allowance = ToyAllowance(self.clock, settings.sound.volume, remembered[ALLOWANCE])
        self._availability = Availability(remembered[AVAILABILITY], _boot_id(), time.monotonic())
        self._availability.sound(hardware.card is None, time.monotonic())
        self._keeper = Keeper(
            cache,
            self.clock,
            {ALLOWANCE: self._allowance.snapshot, BRIGHTNESS: self._brightness},
            lambda: self._availability.snapshot(time.monotonic()),
            self._diary.retry,
        )
        self.telemetry = Telemetry(
            self._diary,
            meter,
            self._health,
            lambda: self.settings.telemetry.enabled,
            lambda data: self.logbook.write("turn", data),
        )
        self.runner = Runner(
            hardware.body,
            self._uplink,
            settings.timing,
            self,
            voice=self._voice(remembered[POSITION]),
            allowance=self._allowance,
            upkeep=self.upkeep,
            earcons=_sounds(settings, hardware),
            brightness=kept_brightness(remembered[BRIGHTNESS], settings.lights.brightness),
            on_alive=on_alive,
        )
        self.deeds = Deeds(self.runner, self._allowance, self._keeper)
        self.signs = Signs(
            self.runner,
            self.battery,
            low_percent=lambda: self.settings.battery.low_percent,
            has_sound=lambda: hardware.card is None or hardware.card.present,
            is_updating=lambda: self.upkeep.syncing,
            has_trouble=lambda: bool(cache.problem),
            show_trouble=self._show_trouble,
            complain=self._complain if self._is_unseen else None,
        )

    @classmethod
    async def put_together(
        cls, settings: DeviceSettings, hardware: Hardware, cache: Cache, on_alive: Callable[[], None]
    ) -> Self:
        """A toy that goes on from where it was switched off."""
        keys = (WALL_CLOCK, ALLOWANCE, AVAILABILITY, BRIGHTNESS, POSITION)
        remembered = {key: await cache.recall(key) for key in keys}
        return cls(settings, hardware, cache, remembered, on_alive)

    def parts(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What works in the background, for as long as the runner runs; each by its name."""
        parts: dict[str, Coroutine[Any, Any, None]] = {
            "uplink": self._uplink.run(),
            "upkeep": self.upkeep.run(),
            "logbook": self.logbook.run(),
            "keeper": self._keeper.run(),
            "telemetry": self.telemetry.run(),
            "signs": self.signs.run(),
            "codec": _preload(),
        }
        if self.hardware.card is not None:
            parts["sound"] = _keep(self.hardware.card)
        return parts

    def use(self, settings: DeviceSettings) -> None:
        """Live by these settings from now on, as far as `loading.LIVE` says. Raises ConfigError for the relay's."""
        self._uplink.use(settings.relay)
        if settings.lights.brightness != self.settings.lights.brightness:  # or what somebody wished stays
            self.runner.picture.brightness = settings.lights.brightness
        self.settings = settings
        self.runner.mouth.earcons = _sounds(settings, self.hardware)

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`: whoever counts and writes is told."""
        if isinstance(note, StateChanged):
            self._availability.entered(note.state, note.at_s)
        if isinstance(note, RelayReached):  # its limits outlive a power cut from now on
            self._keeper.told()
        self.logbook.noticed(note)
        self.telemetry.noticed(note)

    def sound_changed(self, present: bool) -> None:
        """The sound card has come, or has gone."""
        self._availability.sound(present, time.monotonic())
        if not present:
            self.runner.sound_lost()

    def availability(self) -> dict[str, float]:
        """The shares of time in which a press would have been answered, and in which the relay was there."""
        shares = self._availability.shares(time.monotonic())
        return {
            "answered": round(shares.answered, 5),
            "online": round(shares.online, 5),
            "counted_s": round(shares.counted_s),
        }

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

    @property
    def _is_unseen(self) -> bool:
        """Whether an open microphone cannot be seen, and not because the owner wanted it so."""
        return bool(self.hardware.problem) and not self.hardware.shows_open_mic

    def _complain(self) -> bool:
        """Make the sound of an error; False while there is no card, or somebody talks."""
        card = self.hardware.card
        return (card is None or card.present) and self.runner.make(Earcon.ERROR)

    def _show_trouble(self) -> bool:
        """Have the light say that the log names a trouble; False in a state whose own light must not be covered."""
        can_be_seen = self._is_idle()
        if can_be_seen:
            self.runner.show(Mood.TROUBLE)
        return can_be_seen

    def _brightness(self) -> dict[str, float]:
        """See `keeping.kept_brightness`."""
        return {"value": self.runner.picture.brightness, "setting": self.settings.lights.brightness}

    def _health(self) -> dict[str, Value]:
        """What the parts know of themselves, for telemetry."""
        charge, card = self.signs.charge, self.hardware.card
        health: dict[str, Value] = dict(self.availability())
        if charge is not None:
            health["battery_percent"] = charge.percent
        if card is not None:
            health["xruns"] = card.mic.xruns + card.speaker.xruns
        return health

    def _is_idle(self) -> bool:
        return isinstance(self.runner.state, Idle | Offline | Connecting | Paused)

    def _status(self) -> Status:
        """What the toy says of itself when it is asked."""
        charge = self.signs.charge
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


def _boot_id() -> str:
    """What the kernel calls this start of the board; empty where it does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


async def _preload() -> None:
    """Load what the first press needs, before there is one."""
    try:
        await asyncio.to_thread(codec.preload)
    except MissingExtra as error:
        _log.error("toy: it can neither hear nor speak: %s (what to do: %s)", error, error.remedy)


async def _keep(card: PatientSoundCard) -> None:
    """Have the sound card, whenever there is one."""
    async with card:
        await asyncio.Event().wait()


def _sounds(settings: DeviceSettings, hardware: Hardware) -> dict[Earcon, bytes]:
    """The small sounds of this toy. An open microphone that cannot be seen is heard, whatever the settings say."""
    if settings.sound.earcons:
        return {each: earcons.sound(each) for each in Earcon}
    return {} if hardware.shows_open_mic else {each: earcons.sound(each) for each in (Earcon.START, Earcon.ERROR)}
