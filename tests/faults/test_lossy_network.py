"""Every fifth packet is lost, in a network namespace of its own: a whole turn works all the same. Never skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.sounds import REPLY, pitches, pitches_of, question

LOSS_PERCENT = 20

LOSSY = """
ip link set lo up
nft add table inet lossy
nft add chain inet lossy input '{ type filter hook input priority 0; }'
nft add rule inet lossy input 'meta l4proto tcp numgen random mod 100 < PERCENT counter drop'
exec "$@"
""".replace("PERCENT", str(LOSS_PERCENT))

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
            assert pitches(await bear.hear()) == pitches_of(*REPLY)
        assert await dropped(there) > 5, "packets were lost"


async def dropped(there: list[str]) -> int:
    """How many packets the rule has dropped."""
    import asyncio

    listing = await asyncio.create_subprocess_exec(
        *there, "nft", "list", "chain", "inet", "lossy", "input", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return int(output.decode().split("counter packets ")[1].split()[0])
