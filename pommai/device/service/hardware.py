"""The body that the settings describe, real or virtual, made ready to be used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from pommai.device.body.sim import VirtualButton, VirtualMic, VirtualSpeaker
from pommai.device.body.sound import PatientSoundCard
from pommai.device.mind.lights import OFF, Color, error
from pommai.device.ports import Button, Lights, Mic, Speaker
from pommai.device.runner import Body
from pommai.device.settings import DeviceSettings
from pommai.errors import HardwareError, MissingExtra

_log = logging.getLogger(__name__)

COMPLAINT_S: Final = 1.2
"""How long the lights show an error, before a toy without a button gives up."""

PICTURE_S: Final = 0.05


class SeenLights:
    """Lights that know what they show, around real ones or around none."""

    def __init__(self, lights: Lights | None) -> None:
        self.color = OFF
        self._lights = lights

    @property
    def can_dim(self) -> bool:
        """See `ports.Lights`."""
        return self._lights is None or self._lights.can_dim

    @property
    def can_be_seen(self) -> bool:
        """Whether there are real ones."""
        return self._lights is not None

    def show(self, color: Color) -> None:
        """See `ports.Lights`."""
        self.color = color
        if self._lights is not None:
            self._lights.show(color)


@dataclass(frozen=True, slots=True)
class Hardware:
    """The body, and what is known of its parts. `problem`: what is wrong with the lights, if they are missed.

    `shows_open_mic`: False where an open microphone cannot be seen, by a fault or by the settings: it has to be heard.
    """

    button: Button
    mic: Mic
    speaker: Speaker
    lights: SeenLights
    card: PatientSoundCard | None
    problem: str = ""
    shows_open_mic: bool = True

    @property
    def body(self) -> Body:
        """What the runner runs."""
        return Body(self.button, self.mic, self.speaker, self.lights, self.shows_open_mic)


async def assemble(settings: DeviceSettings, stack: AsyncExitStack, on_sound: Callable[[bool], None]) -> Hardware:
    """Take the pins; they are given back when `stack` is left. The sound card is still to be entered.

    `on_sound`: told when the card comes and when it goes.

    A toy without lights still talks. Raises HardwareError or MissingExtra for a button that cannot be used: nobody
    could ever press it; the lights say so first, if they can.
    """
    lights, problem, shows_open_mic = await _lights(settings, stack)
    try:
        button = await _button(settings, stack)
    except (HardwareError, MissingExtra):
        await _complain(lights)
        raise
    if settings.sound.kind == "virtual":
        return Hardware(button, VirtualMic(), VirtualSpeaker(), lights, None, problem, shows_open_mic)
    card = PatientSoundCard(settings.sound.card, on_change=on_sound)
    return Hardware(button, card.mic, card.speaker, lights, card, problem, shows_open_mic)


async def _lights(settings: DeviceSettings, stack: AsyncExitStack) -> tuple[SeenLights, str, bool]:
    """The lights, what is wrong with them, and whether they show an open microphone."""
    if settings.button.kind == "virtual":  # it opens a virtual microphone, and is seen in the status
        return SeenLights(None), "", True
    if settings.lights.kind == "none":
        return SeenLights(None), "", False
    from pommai.device.body.led import GpioLights

    try:
        real = await asyncio.to_thread(GpioLights(settings.lights).__enter__)
    except (HardwareError, MissingExtra) as caught:
        _log.warning("hardware: the toy has no lights: %s (what to do: %s)", caught, caught.remedy)
        return SeenLights(None), str(caught), False
    stack.push(real)
    return SeenLights(real), real.problem, real.shows_open_mic


async def _button(settings: DeviceSettings, stack: AsyncExitStack) -> Button:
    if settings.button.kind == "virtual":
        return VirtualButton()
    from pommai.device.body.button import GpioButton

    real = await asyncio.to_thread(GpioButton(settings.button).__enter__)
    stack.push(real)
    return real


async def _complain(lights: SeenLights) -> None:
    """Show an error for a moment."""
    for picture in range(int(COMPLAINT_S / PICTURE_S)):
        lights.show(error(picture * PICTURE_S))
        await asyncio.sleep(PICTURE_S)
    lights.show(OFF)
