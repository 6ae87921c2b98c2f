"""A toy with a real body, as far as a machine without one can have it: PyAudio over PulseAudio, and fake pins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from pommai.audio import level_dbfs
from tests.faults.pommaid import Pommaid
from tests.faults.sounds import REPLY, pitches, pitches_of, reply_in
from tests.pulse import Pulse
from tests.unit.device.fake_gpio import SHIMS, RemotePins

SETTINGS: Final = {"sound": {"kind": "card"}, "button": {"kind": "gpio"}}
RED, GREEN, BLUE = 27, 22, 23


def real_body(pulse: Pulse, folder: Path) -> dict[str, Any]:
    """What `toy(...)` needs to make one; its pins are at `folder`/pins."""
    pins = {"PYTHONPATH": str(SHIMS), "POMMAI_FAKE_GPIO": str(folder / "pins")}
    return {"sections": SETTINGS, "env": {**pulse.changes, **pins}}


async def hands_on(toy: Pommaid, folder: Path, stack: ExitStack) -> RemotePins:
    """The pins of a toy whose sound card is there."""
    pins = stack.enter_context(RemotePins(folder / "pins"))
    await toy.until(lambda status: bool(status["sound"]["present"]))
    return pins


def silent(pcm: bytes) -> bool:
    """Whether the last 200 ms are."""
    return len(pcm) >= 9600 and level_dbfs(pcm[-9600:]) < -60


def replied(pcm: bytes) -> bool:
    """Whether `REPLY` is over: its last sentence was heard, and nothing since. What an ear hears may come late."""
    return silent(pcm) and pitches(reply_in(pcm))[-1:] == pitches_of(REPLY[-1])


def heard_since(start: int, check: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """`check`, of what was heard after the first `start` bytes."""
    return lambda pcm: check(pcm[start:])
