"""What a child hears of a network that stalls: the silences inside a reply, at a real speaker of a real daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from pommai.relay.providers.scripted import tone
from tests.faults.bodies import hands_on, heard_since, real_body, replied
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.proxy import between
from tests.faults.sounds import longest_pause_ms, reply_in
from tests.faults.together import at_best
from tests.pulse import Pulse

EARLY: Final = {2: 200.0}
"""Before the third packet: the toy begins to play when it has two, and has no more than these."""
LATE: Final = {7: 200.0, 20: 200.0}
"""Both when 0.4 s of the reply have come."""
LONG: Final = {20: 2000.0}
"""More than the relay's lead and what is concealed."""

Reply = Callable[[Mapping[int, float]], Awaitable[float]]


@asynccontextmanager
async def a_child(relay: MakeRelay, toy: MakeToy, pulse: Pulse, folder: Path) -> AsyncIterator[Reply]:
    """Asks, while the network stalls as told; the longest pause of the reply."""
    async with (
        relay() as lighthouse,
        between(lighthouse.port) as proxy,
        toy(proxy.url, await lighthouse.token(), **real_body(pulse, folder)) as bear,
        pulse.record() as ear,
    ):
        with ExitStack() as stack:
            pins = await hands_on(bear, folder, stack)

            async def ask(stalls_ms: Mapping[int, float]) -> float:
                await bear.until("idle")
                proxy.stall_before(stalls_ms)
                asked = len(ear.pcm)
                pins.press()
                await pulse.say(tone(440, 300))
                pins.release()
                await bear.until("speaking")
                await bear.until("idle")
                await ear.until(heard_since(asked, replied))
                return longest_pause_ms(reply_in(bytes(ear.pcm[asked:])))

            yield ask


async def test_short_stalls_are_hardly_heard_and_a_long_one_is(
    relay: MakeRelay, toy: MakeToy, pulse: Pulse, tmp_path: Path
) -> None:
    async with a_child(relay, toy, pulse, tmp_path) as ask:
        await at_best(60.0, lambda: ask(LATE))
        await at_best(120.0, lambda: ask(EARLY))
        assert await ask(LONG) > 500, "or this ear hears no pause at all"
