"""The real sound card, through PyAudio: without one, and with PulseAudio's null sinks in place of one."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pommai.device.sound import SoundCard, SoundCardMic, SoundCardSpeaker
from pommai.errors import HardwareError

from .virtual_time import in_virtual_time

PATIENCE_S = 15.0
ALSA_CONF = Path("/usr/share/alsa/alsa.conf")

SCRIPT = """\
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
load-module module-null-sink sink_name=mic_in rate=24000 channels=1 format=s16le
load-module module-remap-source source_name=mic master=mic_in.monitor
load-module module-null-sink sink_name=speaker rate=24000 channels=1 format=s16le
set-default-sink speaker
set-default-source mic
"""


def chirp(seconds: float) -> bytes:
    """A sound that never repeats: pseudo-random samples at about -20 dBFS, none of them zero."""
    state, samples = 1, []
    for _ in range(int(24_000 * seconds)):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        samples.append((state >> 16) % 6000 - 3000 or 1)
    return struct.pack(f"<{len(samples)}h", *samples)


@dataclass
class Pulse:
    """A private PulseAudio, whose `mic_in` sink is the microphone's room and whose `speaker.monitor` is the ear."""

    environment: dict[str, str]

    async def tool(self, *command: str) -> asyncio.subprocess.Process:
        """Run `paplay` or `parec` on raw sound, over its standard input or output."""
        form = ("--raw", "--rate=24000", "--channels=1", "--format=s16le", "--latency-msec=20")
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, *form, stdin=pipe, stdout=pipe, env=self.environment)


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """Start a PulseAudio of our own, and end that one alone."""
    for program in ("pulseaudio", "pactl", "pacat", "parec"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing: apt install pulseaudio libasound2-plugins (`make test` does)")
    socket, script, alsa = tmp_path / "native", tmp_path / "test.pa", tmp_path / "alsa.conf"
    script.write_text(SCRIPT.format(socket=socket))
    alsa.write_text(ALSA_CONF.read_text() + "\npcm.!default { type pulse }\nctl.!default { type pulse }\n")
    places = ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")
    environment = {**os.environ, **dict.fromkeys(places, str(tmp_path)), "PULSE_SERVER": f"unix:{socket}"}
    options = "--daemonize=no --exit-idle-time=-1 --disallow-exit --use-pid-file=no --realtime=no --high-priority=no"
    log = (tmp_path / "pulse.log").open("wb")
    server = subprocess.Popen(["pulseaudio", "-n", "-F", str(script), *options.split()], env=environment, stderr=log)
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None, (tmp_path / "pulse.log").read_text()
            assert time.monotonic() < deadline_s, "PulseAudio does not answer"
        monkeypatch.setenv("PULSE_SERVER", environment["PULSE_SERVER"])
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(alsa))
        yield Pulse(environment)
    finally:
        server.terminate()
        server.wait()
        log.close()


async def test_without_a_sound_card_there_is_one_clear_line(no_card: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HardwareError, match=r"^there is no microphone$") as caught:
        async with SoundCard():
            pass
    assert "arecord -l" in caught.value.remedy
    assert capfd.readouterr().err == ""  # ALSA and JACK have been silenced


async def test_an_unknown_card_is_answered_with_the_known_ones(pulse: Pulse) -> None:
    with pytest.raises(HardwareError, match=r"called 'seeed'; there are: .*default"):
        async with SoundCard("seeed"):
            pass


async def test_what_is_said_in_the_room_is_heard_bit_by_bit(pulse: Pulse, capfd: pytest.CaptureFixture[str]) -> None:
    said = chirp(1.0)
    heard, arrived = bytearray(), asyncio.Event()

    def listen(pcm: bytes) -> None:
        heard.extend(pcm)
        arrived.set()

    async with SoundCard("default") as card, asyncio.timeout(PATIENCE_S):
        card.mic.open(listen)
        with pytest.raises(HardwareError, match="open already"):
            card.mic.open(listen)
        player = await pulse.tool("pacat", "--playback", "--device=mic_in")
        await player.communicate(said)
        while said[9600:28_800] not in heard:
            arrived.clear()
            await arrived.wait()
        card.mic.close()
        so_far = len(heard)
        card.mic.open(lambda pcm: arrived.set())  # the next listener: the first hears nothing more
        arrived.clear()
        await arrived.wait()
        assert len(heard) == so_far
    assert capfd.readouterr().err == ""


async def test_what_is_played_reaches_the_ear_bit_by_bit_and_in_real_time(pulse: Pulse) -> None:
    played = chirp(1.0)
    loop = asyncio.get_running_loop()
    ear = await pulse.tool("parec", "--device=speaker.monitor")
    assert ear.stdout is not None
    async with SoundCard() as card, asyncio.timeout(PATIENCE_S):
        await ear.stdout.readexactly(960)  # it listens
        began_s = loop.time()
        for start in range(0, len(played), 960):
            await card.speaker.write(played[start : start + 960])
        await card.speaker.drain()
        assert 0.9 < loop.time() - began_s < 2.5
        recorded = bytearray()
        while played[9600:28_800] not in recorded:
            recorded += await ear.stdout.readexactly(960)
    ear.terminate()
    await ear.communicate()


async def test_a_flushed_speaker_forgets_what_it_has_not_played() -> None:
    speaker = SoundCardSpeaker()
    speaker.attach(asyncio.get_running_loop())
    await speaker.write(chirp(0.04))
    speaker.flush()
    assert speaker.give(None, 480, None, 0) == (bytes(960), 0)


async def test_the_card_takes_what_there_is_and_silence_for_the_rest() -> None:
    speaker = SoundCardSpeaker()
    speaker.attach(asyncio.get_running_loop())
    await speaker.write(chirp(0.03))
    assert speaker.give(None, 480, None, 0)[0] == chirp(0.02)
    assert speaker.give(None, 480, None, 0)[0] == chirp(0.03)[960:] + bytes(480)
    await speaker.drain()


@in_virtual_time
async def test_a_speaker_that_takes_nothing_any_more_has_failed() -> None:
    speaker = SoundCardSpeaker()
    speaker.attach(asyncio.get_running_loop())
    with pytest.raises(HardwareError, match="took no sound"):
        await speaker.write(chirp(0.1))


async def test_what_a_microphone_gives_while_nobody_listens_is_dropped() -> None:
    mic = SoundCardMic()
    with pytest.raises(HardwareError, match="its sound card is not"):
        mic.open(lambda pcm: None)
    mic.attach(asyncio.get_running_loop())
    heard: list[bytes] = []
    mic.take(b"before", 3, None, 0)
    mic.open(heard.append)
    mic.take(b"during", 3, None, 0)
    await asyncio.sleep(0)
    mic.take(b"on its way", 5, None, 0)
    mic.close()
    mic.open(heard.append)  # what was on its way to the last listener is not for this one
    await asyncio.sleep(0)
    mic.close()
    assert heard == [b"during"]
