"""The sound card goes and comes back, in mid-speech: seen by the light, survived, and heard again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pommai.audio import level_dbfs
from pommai.relay.providers.scripted import tone
from tests.faults.bodies import GREEN, RED, hands_on, real_body, replied
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.sounds import REPLY, pitches, pitches_of, reply_in
from tests.pulse import Pulse


async def test_the_card_vanishes_while_it_speaks(relay: MakeRelay, toy: MakeToy, pulse: Pulse, tmp_path: Path) -> None:
    body = real_body(pulse, tmp_path)
    async with relay() as lighthouse, toy(lighthouse.url, await lighthouse.token(), **body) as bear:
        with ExitStack() as stack:
            pins = await hands_on(bear, tmp_path, stack)
            await bear.until("idle")
            pins.press()
            await pulse.say(tone(440, 600))
            pins.release()
            await bear.until("speaking")
            assert pins.duties()[GREEN] > 99
            pulse.vanish()
            await bear.until("error")
            reds = set()
            while (await bear.status())["state"] == "error":
                duties = pins.duties()
                assert duties[GREEN] < 1
                reds.add(round(duties[RED]))
            assert reds >= {0, 100}, "it blinks red"
            status = await bear.until("idle")
            assert not status["sound"]["present"]

            await pulse.return_()
            await bear.until(lambda status: bool(status["sound"]["present"]), 30)
            async with pulse.record() as ear:
                pins.press()
                await pulse.say(tone(440, 600))
                pins.release()
                await bear.until("speaking")
                await bear.until("idle")
                await ear.until(replied)
                reply = reply_in(bytes(ear.pcm))
                assert pitches(reply) == pitches_of(*REPLY)
                assert level_dbfs(reply[: 48 * 1000]) > -30
        assert (await bear.end())[0] == 0
        assert "Traceback" not in bear.log
