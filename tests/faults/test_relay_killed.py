"""The relay dies, in whatever the toy is doing: the child sees and hears that, and the next turn works."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pommai.device.mind.effects import Earcon
from pommai.starter import PhraseKind
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.pommaid import Pommaid
from tests.faults.relays import RelayProcess
from tests.faults.sounds import REPLY, before, earcons, pitches, pitches_of, question, said
from tests.faults.together import together


async def goes_on(relay: RelayProcess, bear: Pommaid, folder: Path) -> None:
    """The relay is back, and the next turn works as if nothing had been."""
    await bear.until("idle")
    await bear.hear()
    await bear.press(say=question(folder))
    await bear.until("speaking")
    await bear.until("idle")
    heard = await bear.hear()
    assert pitches(heard) == pitches_of(*REPLY)
    assert earcons(heard) == [Earcon.START, Earcon.END]
    assert bear.lights("speaking") == {"green"}
    assert relay.rows("SELECT outcome FROM turns ORDER BY rowid DESC LIMIT 1") == [("answered",)]


async def test_a_turn_dies_with_the_relay_and_the_next_one_works(
    relay: MakeRelay, toy: MakeToy, tmp_path: Path
) -> None:
    async def listening() -> None:
        async with relay("relay-1") as lighthouse, toy(lighthouse.url, await lighthouse.token(), "toy-1") as bear:
            await bear.until("idle")
            pressing = asyncio.create_task(bear.press(say=question(tmp_path, 1.5)))
            await bear.until(lambda status: status["state"] == "listening" and status["since_s"] >= 0.5)
            await lighthouse.kill()
            await bear.until("playing")
            assert not pressing.done(), "it does not let the child talk to nobody"
            await pressing
            await bear.until_seen("connecting", "amber", "dark")
            await bear.hear()
            assert earcons(bytes(bear.heard)) == [Earcon.START]
            assert said(bytes(bear.heard), PhraseKind.UNREACHABLE), "it says that it reaches nobody"
            assert bear.lights("listening") == {"blue"}
            assert bear.lights("playing") == {"green"}
            await lighthouse.start()
            await goes_on(lighthouse, bear, tmp_path)

    async def thinking() -> None:
        async with relay("relay-2") as lighthouse, toy(lighthouse.url, await lighthouse.token(), "toy-2") as bear:
            await bear.until("idle")
            pressing = asyncio.create_task(bear.press(say=question(tmp_path)))
            await bear.until("listening")
            lighthouse.freeze()
            await pressing
            await bear.until("thinking")
            assert await comes_to_its_senses(lighthouse, bear) == []
            await goes_on(lighthouse, bear, tmp_path)

    async def speaking() -> None:
        async with relay("relay-3") as lighthouse, toy(lighthouse.url, await lighthouse.token(), "toy-3") as bear:
            await bear.until("idle")
            await bear.press(say=question(tmp_path))
            await bear.until("speaking")
            await bear.until_heard(500)
            replied = await comes_to_its_senses(lighthouse, bear)
            assert replied == pitches_of(*REPLY)[: len(replied)] != [], "what there was of the reply, once"
            await goes_on(lighthouse, bear, tmp_path)

    await together(listening=listening(), thinking=thinking(), speaking=speaking())


async def comes_to_its_senses(lighthouse: RelayProcess, bear: Pommaid) -> list[int]:
    """The relay dies and comes back in mid-turn; the pitches that were heard of the reply."""
    await lighthouse.kill()
    await bear.until("interrupted")
    await bear.until_seen("interrupted", "amber", "dark")
    await lighthouse.start()
    await bear.until("playing")
    await bear.until("idle")
    await bear.hear()
    assert earcons(bytes(bear.heard)) == [Earcon.START, Earcon.END]
    replied = before(bytes(bear.heard), PhraseKind.LOST_THREAD)
    assert replied is not None, "one friendly sentence at the end"
    return replied
