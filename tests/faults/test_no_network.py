"""The toy with no network, from its first moment: it lives, it answers, and what happened is told once, later."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from pommai.device.mind.effects import Earcon
from pommai.device.mind.states import LIMIT_S, Connecting
from pommai.starter import PhraseKind
from tests.faults.bodies import BLUE, GREEN, RED, SETTINGS
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.lengths import ALONE_S
from tests.faults.pommaid import NEXT_PICTURE_S, Pommaid
from tests.faults.sounds import before, earcons, loud_ms, pitches, question, said
from tests.faults.together import together
from tests.unit.device.fake_gpio import SHIMS, RemotePins

PRESS_EVERY_S: Final = 20.0
LONGER_THAN_A_TAP_S: Final = 0.5

WATCHDOG_S: Final = 2.0
"""What `tests.faults.pommaid` sets: the real unit has 30 s."""


def spooled(toy: Pommaid) -> list[tuple[str, str, bool]]:
    """Id, kind and urgency of all events in the toy's own database, in the order in which they happened."""
    with closing(sqlite3.connect(f"file:{toy.folder / 'toy.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT id, kind, priority = 2 FROM events ORDER BY seq").fetchall()
    return [(id, kind, bool(urgent)) for id, kind, urgent in rows]


async def said_after(toy: Pommaid, **press: Any) -> bytes:
    """What the toy says of its own after a press, heard to its end."""
    await toy.until("offline")
    return await toy.says(**press)


async def left_alone(toy: Pommaid, pins: RemotePins) -> None:
    """Nobody presses: it gives up looking for a relay, and a red flash says that it has no voice."""
    reds: set[int] = set()
    began_s = time.monotonic()
    while time.monotonic() - began_s < PRESS_EVERY_S:
        status = await toy.status()
        assert not status["sound"]["present"] and not status["relay"]["reached"]
        if status["state"] == "offline" and status["since_s"] > NEXT_PICTURE_S:
            duties = pins.duties()
            assert (duties[GREEN], duties[BLUE]) == (0, 0)
            reds.add(round(duties[RED]))
        await asyncio.sleep(0.07)  # no multiple of it is the time between two flashes
    assert (status["state"], reds) == ("offline", {0, 100})


async def pressed_in_vain(toy: Pommaid, pins: RemotePins) -> None:
    """It lights blue while the button is down, and blinks red: it cannot answer, and says so."""
    pins.press()
    await toy.until(lambda status: status["state"] == "holding" and status["since_s"] > LONGER_THAN_A_TAP_S)
    duties = pins.duties()
    assert duties[BLUE] > 50 and (duties[RED], duties[GREEN]) == (0, 0)
    pins.release()
    await toy.until("error")
    await toy.until_seen("error", "red", "dark")
    await toy.until("offline")


@pytest.mark.timeout(ALONE_S + 100)
@pytest.mark.usefixtures("no_card")
async def test_a_toy_without_network_is_still_a_toy(relay: MakeRelay, toy: MakeToy, tmp_path: Path) -> None:
    async def plays() -> None:
        """An activity, and the same once more."""
        async with toy(name="plays") as bear:
            assert bear.supervisor.times("READY=1")
            began_s = time.monotonic()
            await bear.until_seen("connecting", "amber", "dark")
            await bear.until("offline")
            assert time.monotonic() - began_s < LIMIT_S[Connecting] + 3
            await bear.until_seen("offline", "white", "dark")

            greeting = await said_after(bear, say=question(tmp_path))
            assert said(greeting, PhraseKind.AFFECTION) and before(greeting, PhraseKind.AFFECTION), "and a kind word"
            assert earcons(greeting) == [], "nobody listens, so nothing says so"

            await bear.tap(2)
            await bear.until("playing")
            await bear.until("offline")
            assert pitches(await bear.hear()) == pitches(greeting)

            assert bear.lights("playing") == {"green"}

    async def tells_how_it_is() -> None:
        async with toy(name="status") as bear:
            await bear.until("offline")
            await bear.tap(3)
            await bear.until("playing")
            await bear.until("offline")
            status = await bear.hear()
            assert said(status, PhraseKind.VOLUME_LOUD)
            assert before(status, PhraseKind.VOLUME_LOUD), "and before its volume, that it is offline"

    async def helps_and_tells() -> None:
        """A call for help is answered, kept, and told once and first when there is a network at last."""
        lighthouse = relay()
        async with toy(lighthouse.url, await lighthouse.token(), "helps") as bear:
            await bear.until("offline")
            await said_after(bear, hold_ms=600)
            calling = asyncio.create_task(said_after(bear, hold_ms=4200))
            await bear.until(lambda status: status["state"] == "holding" and status["since_s"] > 1)
            assert bear.lights("holding") == {"blue"}, "that the microphone is open is seen"
            assert said(await calling, PhraseKind.HELP)

            mine = spooled(bear)
            assert [kind for _, kind, _ in mine] == ["activity", "help"]
            async with lighthouse:
                await bear.press(100)  # a touch is enough for it to look again, however long it has waited
                await bear.until(lambda status: status["relay"]["reached"], 5)
                await bear.until(lambda status: not status["cache"]["unsent"])
                assert lighthouse.events() == mine[::-1], "urgent first, each once"

    async def with_espeak() -> None:
        async with toy(name="espeak", empty=True) as bear:
            assert loud_ms(await said_after(bear, hold_ms=600)) > 1000, "a sentence"

    async def with_no_voice_at_all() -> None:
        nowhere = tmp_path / "empty"
        nowhere.mkdir()
        async with toy(name="mute", empty=True, env={"PATH": str(nowhere)}) as bear:
            assert earcons(await said_after(bear, hold_ms=4200)) == [Earcon.ERROR], "the last resort: a sound"
            assert [kind for _, kind, urgent in spooled(bear) if urgent] == ["help"], "and the call is kept"

    async def with_nothing_at_all() -> None:
        """No network, no sound card: it lives, pressed or not, feeds its watchdog, and its light tells."""
        env = {"PYTHONPATH": str(SHIMS), "POMMAI_FAKE_GPIO": str(tmp_path / "pins")}
        async with toy(name="alone", sections=SETTINGS, env=env) as bear:
            with RemotePins(tmp_path / "pins") as pins:
                began_s = time.monotonic()
                while time.monotonic() - began_s < ALONE_S:
                    await left_alone(bear, pins)
                    await pressed_in_vain(bear, pins)
            assert "sound: there is no " in bear.log, "which part is missing is in the log"
            assert bear.supervisor.longest_silence_s("WATCHDOG=1") < WATCHDOG_S
            assert (await bear.end())[0] == 0
            assert "Traceback" not in bear.log

    await together(
        plays=plays(),
        tells_how_it_is=tells_how_it_is(),
        helps_and_tells=helps_and_tells(),
        with_espeak=with_espeak(),
        with_no_voice_at_all=with_no_voice_at_all(),
        with_nothing_at_all=with_nothing_at_all(),
    )
