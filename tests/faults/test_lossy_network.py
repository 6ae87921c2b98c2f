"""Every fifth packet is lost, in a network namespace of its own: a whole turn works all the same. Never skipped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pommai.device.mind.effects import Earcon
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.sounds import REPLY, earcons, pitches, pitches_of, question

ONE_IN = 5

LOSSY = """
ip link set lo up
nft add table inet lossy
nft add chain inet lossy input '{ type filter hook input priority 0; }'
nft add rule inet lossy input 'meta l4proto tcp numgen inc mod ONE_IN == 0 counter drop'
exec "$@"
""".replace("ONE_IN", str(ONE_IN))
"""The packets are counted and not drawn by lot: no run has the bad luck of losing the same one four times."""

AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]  # a chroot allows no new user namespace


@pytest.mark.timeout(150)
async def test_a_whole_turn(relay: MakeRelay, toy: MakeToy, tmp_path: Path) -> None:
    lossy = ["unshare", "--net", *AS_ROOT, "sh", "-ec", LOSSY, "sh"]
    async with relay(before=lossy) as lighthouse:
        there = ["nsenter", f"--target={lighthouse.pid}", "--net", *(["--user"] if AS_ROOT else [])]
        async with toy(lighthouse.url, await lighthouse.token(), before=there) as bear:
            await bear.until("idle", 60)
            await bear.press(say=question(tmp_path))
            await bear.until("speaking", 30)
            await bear.until("idle", 60)
            heard = await bear.hear()
            assert pitches(heard) == pitches_of(*REPLY)
            assert earcons(heard) == [Earcon.START, Earcon.END]
            assert bear.lights("speaking") == {"green"}
        assert await dropped(there) > 5, "packets were lost"


async def dropped(there: list[str]) -> int:
    """How many packets the rule has dropped."""
    listing = await asyncio.create_subprocess_exec(
        *there, "nft", "list", "chain", "inet", "lossy", "input", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return int(output.decode().split("counter packets ")[1].split()[0])
