"""The virtual rooms themselves: what the other tests here, and those of the whole toy, rely on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from pommai.audio import write_wav
from tests.pulse import FORM, Pulse, noise


async def test_what_is_played_at_the_speaker_is_recorded_bit_by_bit(pulse: Pulse) -> None:
    async with pulse.record() as ear:
        command = ["pacat", "--device=speaker", "--latency-msec=200", *FORM]
        player = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, env=pulse.env)
        await player.communicate(noise(0.5))
        await ear.until(lambda pcm: noise(0.5)[2400:21_600] in pcm)


async def test_what_is_said_in_a_wav_file_reaches_the_microphone(pulse: Pulse, tmp_path: Path) -> None:
    write_wav(tmp_path / "said.wav", noise(0.5))
    heard, expected = bytearray(), noise(0.5)[2400:21_600]
    command = ["parec", "--device=mic", "--latency-msec=20", *FORM]
    mic = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=pulse.env)
    assert mic.stdout is not None
    heard += await mic.stdout.readexactly(960)
    saying = asyncio.create_task(pulse.say(tmp_path / "said.wav"))
    while expected not in heard:
        heard += await asyncio.wait_for(mic.stdout.readexactly(960), 15)
    await saying
    mic.terminate()
    await mic.communicate()


async def test_it_vanishes_and_returns(pulse: Pulse) -> None:
    def answers() -> bool:
        return subprocess.run(["pactl", "info"], env=pulse.env, capture_output=True, check=False).returncode == 0

    assert answers()
    assert os.environ["PULSE_SERVER"] == pulse.env["PULSE_SERVER"]  # this process finds it too
    pulse.vanish()
    pulse.vanish()
    assert not answers()
    await pulse.return_()
    assert answers()
