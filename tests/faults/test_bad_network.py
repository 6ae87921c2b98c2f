"""A network that stalls, crawls, resets and falls silent: what the child hears is the whole reply, once."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pommai.device.mind.effects import Earcon
from pommai.starter import PhraseKind
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.pommaid import Pommaid
from tests.faults.proxy import Proxy, between
from tests.faults.sounds import REPLY, before, earcons, pitches, pitches_of, question, said
from tests.faults.together import at_best, together

CLEAN_LINE_BYTES_PER_S = 6_250.0
"""50 kbit/s, in each direction: what a stream may need, headers included."""

Scenario = Callable[[Proxy, Pommaid, Path], Awaitable[None]]


async def asked(bear: Pommaid, folder: Path) -> None:
    """The child has asked, and the reply has begun."""
    await bear.until("idle")
    await bear.hear()
    bear.heard.clear()
    bear.gaps_ms.clear()
    await bear.press(say=question(folder))
    await bear.until("speaking")


async def answered(bear: Pommaid) -> bytes:
    """All that was heard of the turn, at its end; it was green while it spoke."""
    await bear.until("idle", 30)
    await bear.hear()
    assert bear.lights("speaking") == {"green"}
    return bytes(bear.heard)


def longest_gap_ms(bear: Pommaid) -> float:
    """The longest silence of the turn that nobody wanted."""
    return max(bear.gaps_ms, default=0.0)


async def stalled(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """200 ms without a byte, early and late: no gap, and not a sample differs from an undisturbed reply."""
    replies: list[bytes] = []

    async def gap_ms() -> float:
        await asked(bear, folder)
        replies.append(await answered(bear))
        return longest_gap_ms(bear)

    await at_best(0, gap_ms)
    undisturbed = replies[-1]
    assert pitches(undisturbed) == pitches_of(*REPLY)

    async def stalled_gap_ms() -> float:
        await bear.until("idle")
        proxy.stall_before({1: 200, 7: 200, 20: 200})
        gap = await gap_ms()
        return gap if replies[-1] == undisturbed else math.inf

    await at_best(60, stalled_gap_ms)


async def slow(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """50 kbit/s: the whole reply, without a gap."""
    await bear.until("idle")
    proxy.bytes_per_s = CLEAN_LINE_BYTES_PER_S

    async def gap_ms() -> float:
        await asked(bear, folder)
        assert pitches(await answered(bear)) == pitches_of(*REPLY)
        return longest_gap_ms(bear)

    await at_best(60, gap_ms)


async def reset(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """The reply goes on where it stopped: all of it is heard, and nothing twice."""
    await asked(bear, folder)
    undisturbed = await answered(bear)
    await asked(bear, folder)
    await bear.until_heard(500)
    proxy.reset()
    await bear.until("interrupted")
    await bear.until("speaking")
    heard = await answered(bear)
    assert pitches(heard) == pitches_of(*REPLY)
    assert abs(len(heard) - len(undisturbed)) <= 48 * 120, "as long as it is, but for what was concealed"
    assert proxy.connections == 2
    assert earcons(heard) == [Earcon.START, Earcon.END]


async def refused_for_a_while(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """The network comes back after 4 s: the reply is still there."""
    await asked(bear, folder)
    await bear.until_heard(500)
    proxy.refuse()
    proxy.reset()
    await bear.until("interrupted")
    await bear.until_seen("interrupted", "amber", "dark")
    await bear.until(lambda status: status["state"] == "interrupted" and status["since_s"] > 4)
    await proxy.accept()
    heard = await answered(bear)
    assert pitches(heard) == pitches_of(*REPLY)
    assert longest_gap_ms(bear) > 2000, "what had come was played, and then it was silent"


async def late(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """A network that takes 3 s to connect is a slow one, and no reason to give up."""
    await bear.until("idle")
    proxy.connect_delay_s = 3.0
    proxy.reset()
    await bear.until_seen("connecting", "amber", "dark")
    await asked(bear, folder)
    assert pitches(await answered(bear)) == pitches_of(*REPLY)
    assert "offline" not in bear.states()


async def half_open_while_idle(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """By its own heartbeat, within 25 s; it says so to a child that presses; and then it comes back by itself."""
    await bear.until("idle")
    proxy.half_open()
    began_s = time.monotonic()
    await bear.until(lambda status: not status["relay"]["reached"], 30)
    assert time.monotonic() - began_s <= 25
    assert "has not been heard" in (await bear.status())["relay"]["why_not"]
    await bear.until_seen("connecting", "amber", "dark")
    assert said(await bear.says(say=question(folder)), PhraseKind.UNREACHABLE)
    proxy.heal()
    await asked(bear, folder)
    assert pitches(await answered(bear)) == pitches_of(*REPLY)


async def half_open_when_pressed(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """A child who presses is told much sooner."""
    await bear.until("idle")
    proxy.half_open()
    began_s = time.monotonic()
    await bear.press(say=question(folder))
    await bear.until(lambda status: not status["relay"]["reached"])
    assert time.monotonic() - began_s < 10
    proxy.heal()
    await bear.until("playing")
    await bear.until("idle")
    await bear.hear()
    assert said(bytes(bear.heard), PhraseKind.LOST_THREAD)
    assert before(bytes(bear.heard), PhraseKind.LOST_THREAD) == []
    assert earcons(bytes(bear.heard)) == [Earcon.START, Earcon.END]
    assert bear.lights("playing") == {"green"}


async def half_open_while_speaking(proxy: Proxy, bear: Pommaid, folder: Path) -> None:
    """What has come is played; then it waits, amber and silent, and the rest follows on the next connection."""
    await asked(bear, folder)
    await bear.until_heard(300)
    proxy.half_open()
    await bear.until(lambda status: not status["relay"]["reached"], 30)
    await bear.until_seen("interrupted", "amber", "dark")
    proxy.heal()
    heard = await answered(bear)
    assert pitches(heard) == pitches_of(*REPLY)
    assert longest_gap_ms(bear) > 2000


SCENARIOS: tuple[Scenario, ...] = (
    stalled,
    slow,
    reset,
    refused_for_a_while,
    late,
    half_open_while_idle,
    half_open_when_pressed,
    half_open_while_speaking,
)


async def test_what_a_network_does_and_what_the_child_hears(relay: MakeRelay, toy: MakeToy, tmp_path: Path) -> None:
    async with relay() as lighthouse:

        async def live_through(scenario: Scenario, name: str) -> None:
            async with between(lighthouse.port) as proxy, toy(proxy.url, await lighthouse.token(name), name) as bear:
                await scenario(proxy, bear, tmp_path)

        await together(**{each.__name__: live_through(each, each.__name__.replace("_", "-")) for each in SCENARIOS})
