"""A network that stalls, crawls, resets and falls silent: what the child hears is the whole reply, once."""

from __future__ import annotations

import time
from pathlib import Path

from pommai.device.speech.earcons import Earcon, sound
from pommai.starter import PhraseKind
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.pommaid import Pommaid
from tests.faults.proxy import Proxy, between
from tests.faults.sounds import REPLY, before, earcons, longest_pause_ms, pitches, pitches_of, question, said
from tests.faults.together import together

CLEAN_LINE_BYTES_PER_S = 6_250.0
"""50 kbit/s, in each direction: what a stream may need, headers included."""


async def asked(bear: Pommaid, folder: Path) -> None:
    """The child has asked, and the reply has begun."""
    await bear.until("idle")
    await bear.hear()
    bear.heard.clear()
    await bear.press(say=question(folder))
    await bear.until("speaking")


async def answered(bear: Pommaid) -> bytes:
    """All that was heard of the turn, at its end."""
    await bear.until("idle", 30)
    await bear.hear()
    return bytes(bear.heard)


async def test_what_a_network_does_and_what_the_child_hears(relay: MakeRelay, toy: MakeToy, tmp_path: Path) -> None:
    async with relay() as lighthouse:

        async def on(name: str, proxy: Proxy) -> Pommaid:
            return toy(proxy.url, await lighthouse.token(name), name)

        async def stalled() -> None:
            """200 ms without a byte, twice: no gap, and not a sample differs from an undisturbed reply."""
            async with between(lighthouse.port) as proxy, await on("stalled", proxy) as bear:
                await asked(bear, tmp_path)
                undisturbed = await answered(bear)
                assert pitches(undisturbed) == pitches_of(*REPLY)
                await asked(bear, tmp_path)
                await bear.until_heard(400)
                await proxy.stall(200)
                await bear.until_heard(500)
                await proxy.stall(200)
                assert reply_in(await answered(bear)) == reply_in(undisturbed)

        async def slow() -> None:
            """50 kbit/s: the whole reply, with no pause that is longer than those of speech."""
            async with between(lighthouse.port) as proxy, await on("slow", proxy) as bear:
                await bear.until("idle")
                proxy.bytes_per_s = CLEAN_LINE_BYTES_PER_S
                await asked(bear, tmp_path)
                heard = await answered(bear)
                assert pitches(heard) == pitches_of(*REPLY)
                assert longest_pause_ms(reply_in(heard)) <= 60

        async def reset() -> None:
            """The reply goes on where it stopped: all of it is heard, and nothing twice."""
            async with between(lighthouse.port) as proxy, await on("reset", proxy) as bear:
                await asked(bear, tmp_path)
                undisturbed = await answered(bear)
                await asked(bear, tmp_path)
                await bear.until_heard(500)
                proxy.reset()
                await bear.until("interrupted")
                await bear.until("speaking")
                heard = await answered(bear)
                assert pitches(heard) == pitches_of(*REPLY)
                assert abs(len(heard) - len(undisturbed)) <= 48 * 120, "as long as it is, but for what was concealed"
                assert proxy.connections == 2
                assert earcons(heard) == [Earcon.START, Earcon.END]

        async def refused_for_a_while() -> None:
            """The network comes back after 4 s: the reply is still there."""
            async with between(lighthouse.port) as proxy, await on("away", proxy) as bear:
                await asked(bear, tmp_path)
                await bear.until_heard(500)
                proxy.refuse()
                proxy.reset()
                await bear.until(lambda status: status["state"] == "interrupted" and status["since_s"] > 4)
                assert bear.lights("interrupted") == {"amber", "dark"}
                await proxy.accept()
                heard = await answered(bear)
                assert pitches(heard) == pitches_of(*REPLY)

        async def late() -> None:
            """A network that takes 3 s to connect is a slow one, and no reason to give up."""
            async with between(lighthouse.port) as proxy:
                proxy.connect_delay_s = 3.0
                async with await on("late", proxy) as bear:
                    await asked(bear, tmp_path)
                    assert pitches(await answered(bear)) == pitches_of(*REPLY)

        async def while_idle() -> None:
            """By its own heartbeat, within 25 s; and then it comes back by itself."""
            async with between(lighthouse.port) as proxy, await on("idle", proxy) as bear:
                await bear.until("idle")
                proxy.half_open()
                began_s = time.monotonic()
                await bear.until(lambda status: not status["relay"]["reached"], 30)
                assert time.monotonic() - began_s <= 25
                assert "has not been heard" in (await bear.status())["relay"]["why_not"]
                await bear.until("connecting")
                proxy.heal()
                await asked(bear, tmp_path)
                assert pitches(await answered(bear)) == pitches_of(*REPLY)

        async def when_pressed() -> None:
            """A child who presses is told much sooner."""
            async with between(lighthouse.port) as proxy, await on("press", proxy) as bear:
                await bear.until("idle")
                proxy.half_open()
                began_s = time.monotonic()
                await bear.press(say=question(tmp_path))
                await bear.until(lambda status: not status["relay"]["reached"])
                assert time.monotonic() - began_s < 10
                proxy.heal()
                await bear.until("playing")
                await bear.until("idle")
                await bear.hear()
                assert said(bytes(bear.heard), PhraseKind.LOST_THREAD)
                assert before(bytes(bear.heard), PhraseKind.LOST_THREAD) == []

        async def while_speaking() -> None:
            """What has come is played; then it waits, amber, and the rest follows on the next connection."""
            async with between(lighthouse.port) as proxy, await on("speak", proxy) as bear:
                await asked(bear, tmp_path)
                await bear.until_heard(300)
                proxy.half_open()
                await bear.until(lambda status: not status["relay"]["reached"], 30)
                proxy.heal()
                heard = await answered(bear)
                assert pitches(heard) == pitches_of(*REPLY)

        await together(
            stalled=stalled(),
            slow=slow(),
            reset=reset(),
            refused_for_a_while=refused_for_a_while(),
            late=late(),
            half_open_while_idle=while_idle(),
            half_open_when_pressed=when_pressed(),
            half_open_while_speaking=while_speaking(),
        )


def reply_in(heard: bytes) -> bytes:
    """What comes after the last earcon."""

    return heard[heard.rfind(sound(Earcon.END)) + len(sound(Earcon.END)) :]
