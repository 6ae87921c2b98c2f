"""What `pommaid` costs: memory and CPU, idle, talking and speaking; and whether it grows over many turns.

    python bench/device.py [--seconds 8] [--turns 100] [--json]

A real daemon with a real body, as far as a machine without one can have it (PyAudio over a virtual PulseAudio card,
pins that behave like RPi.GPIO's), and a real relay with scripted engines on the same machine. Memory is the
proportional set size of the daemon's process (/proc/PID/smaps_rollup). CPU is the time that its threads ran
(/proc/PID/task/TID/schedstat) over wall time, split into the main thread (`main`), libpulse's own threads (`pulse`),
and all others, which are PortAudio's but for a rest below 0.1 % (`sound`). ALSA is told of this one card only, as on a
toy: with all of a desktop's plug-ins PortAudio loads half of ffmpeg. The figures are of a second start; the first one
also migrates the database, and keeps sqlite-utils loaded (`pss_first_start_mb`).

`a53_core_pct` estimates what talking costs a core of a Raspberry Pi Zero 2W: the CPU of `main` and `sound` times 12,
since such a core takes 10 to 15 times as long for the same work. libpulse's threads are left out, as a toy has ALSA
alone; what PulseAudio's plug-in for ALSA does in PortAudio's threads cannot be told apart and is counted, and so is
the fake GPIO in the main thread. It is an estimate, and no measurement on a Pi.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.faults.bodies import hands_on, real_body
from tests.faults.pommaid import Pommaid
from tests.faults.relays import RelayProcess
from tests.pulse import Pulse, running_pulse
from tests.unit.device.fake_gpio import RemotePins

A53_TIMES: Final = 12
BUTTON: Final = 17
WARM_UP_TURNS: Final = 20
SETTLING_S: Final = 32.0
"""A sound card keeps its threads from the thousandth callback on: 30 s of the microphone's."""
TALKS: Final = 3
"""Times that the child talks: the median counts, since machines are noisy."""
SENTENCE: Final = "Can you tell me a story about a small dragon that lives in the mountains and eats strawberries?"
LIBPULSE: Final = "threaded-ml"
"""What libpulse calls its threads."""
ALSA: Final = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
IMPORT: Final = "import pommai.device.daemon"
IMPORTS: Final = 7


@dataclass(frozen=True, slots=True)
class Figures:
    """All of them; megabytes are 10^6 bytes, percent those of one core of this machine."""

    pss_first_start_mb: float
    pss_idle_mb: float
    pss_talking_mb: float
    pss_speaking_mb: float
    cpu_idle_pct: float
    cpu_talking_pct: float
    cpu_talking_main_pct: float
    cpu_talking_sound_pct: float
    cpu_talking_pulse_pct: float
    cpu_speaking_pct: float
    a53_core_pct: float
    import_s: float
    ready_ms: float
    soak_turns: int
    soak_growth_mb: float
    soak_growth_second_half_mb: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the process over some seconds: memory at the end, and CPU of a core."""

    pss_mb: float
    main_pct: float
    sound_pct: float
    pulse_pct: float

    @property
    def cpu_pct(self) -> float:
        """Of the whole process."""
        return self.main_pct + self.sound_pct + self.pulse_pct

    @property
    def a53_core_pct(self) -> float:
        """The estimate for a core of the toy's."""
        return A53_TIMES * (self.main_pct + self.sound_pct)


def import_s() -> float:
    """CPU seconds to import the daemon in a fresh interpreter; the median of `IMPORTS`."""
    times = []
    for _ in range(IMPORTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", IMPORT], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def pss_mb(pid: int) -> float:
    """The memory of a process, its share of what it shares with others included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def ran_s(pid: int) -> dict[str, float]:
    """The seconds that each kind of thread of a process has run."""
    seconds = {"main": 0.0, "sound": 0.0, "pulse": 0.0}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends just now
            name = (task / "comm").read_text(encoding="utf-8").strip()
            kind = "main" if int(task.name) == pid else "pulse" if name == LIBPULSE else "sound"
            seconds[kind] += int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return seconds


async def cost(pid: int, seconds: float) -> Cost:
    """What the process costs over the next `seconds`."""
    began_s, before = time.monotonic(), ran_s(pid)
    await asyncio.sleep(seconds)
    lasted_s = time.monotonic() - began_s
    return Cost(pss_mb(pid), *(100 * (ran - before[kind]) / lasted_s for kind, ran in ran_s(pid).items()))


def speech(path: Path, seconds: float) -> Path:
    """A recording of at least so much speech, by espeak-ng: what Opus has to encode when a child talks."""
    text = " ".join([SENTENCE] * (1 + int(seconds / 4)))
    subprocess.run(["espeak-ng", "--stdin", "-w", str(path)], input=text.encode(), check=True)
    return path


async def talk(toy: Pommaid, pins: RemotePins, pulse: Pulse, wav: Path, seconds: float) -> Cost:
    """What a held button costs while a child says `wav`; the turn is left in `thinking`."""
    pins.press(BUTTON)
    await toy.until("listening")
    saying = asyncio.create_task(pulse.say(wav))
    figures = await cost(toy_pid(toy), seconds)
    pins.release(BUTTON)
    saying.cancel()
    await asyncio.wait({saying})
    return figures


async def soak(toy: Pommaid, pins: RemotePins, turns: int, progress: Callable[[int], None]) -> tuple[float, float]:
    """Growth in MB over `turns` short turns, each cut off by the next, after a warm-up; and over the second half."""
    grown_mb = {}
    for turn in range(WARM_UP_TURNS + turns):
        if turn in (WARM_UP_TURNS, WARM_UP_TURNS + turns // 2):
            grown_mb[turn] = pss_mb(toy_pid(toy))
        pins.press(BUTTON)
        await toy.until("listening")
        await asyncio.sleep(0.4)
        pins.release(BUTTON)
        await toy.until("speaking")
        progress(turn)
    end_mb = pss_mb(toy_pid(toy))
    return end_mb - grown_mb[WARM_UP_TURNS], end_mb - grown_mb[WARM_UP_TURNS + turns // 2]


def toy_pid(toy: Pommaid) -> int:
    """The process of the daemon."""
    assert toy.process is not None
    return toy.process.pid


async def settled(stack: AsyncExitStack, tell: Callable[[str], None]) -> tuple[Pommaid, Pulse, Path, float]:
    """A toy that was started once and has fetched its phrases, its sound card, the folder of both, and the PSS then."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pommai-bench-")))
    for name in ("pulse", "relay", "toy"):
        (folder / name).mkdir()
    pulse = stack.enter_context(running_pulse(folder / "pulse"))
    relay = await stack.enter_async_context(RelayProcess(folder / "relay"))
    body = real_body(pulse, folder)
    body["env"]["ALSA_CONFIG_PATH"] = str(folder / "alsa.conf")
    (folder / "alsa.conf").write_text(ALSA, encoding="ascii")
    toy = Pommaid(folder / "toy", relay.url, await relay.token(), **body)
    tell("waiting until the relay has spoken its phrases and the toy has fetched them")
    await relay.until_logged("phrases ready")
    async with toy:
        await toy.until(lambda status: status["cache"]["phrases"] > 40 and not status["cache"]["syncing"], 120.0)
        pss_first = pss_mb(toy_pid(toy))
        await toy.end()
    return toy, pulse, folder, pss_first


async def measure(seconds: float, turns: int, tell: Callable[[str], None]) -> Figures:
    """Everything, one after the other."""
    tell("importing")
    importing_s = import_s()
    async with AsyncExitStack() as stack:
        toy, pulse, folder, pss_first = await settled(stack, tell)
        await stack.enter_async_context(toy)
        pins = await hands_on(toy, folder, stack.enter_context(ExitStack()))
        await toy.until("idle")
        tell("letting the sound card settle")
        await asyncio.sleep(SETTLING_S)
        tell("idle")
        idle = await cost(toy_pid(toy), seconds)
        talks = []
        for _ in range(TALKS):
            tell("talking")
            talks.append(await talk(toy, pins, pulse, speech(folder / "speech.wav", seconds + 1), seconds))
            tell("speaking")
            await toy.until("speaking")
            speaking = await cost(toy_pid(toy), min(seconds, 3.0))
            await toy.until("idle")
        talking = sorted(talks, key=lambda talk: talk.a53_core_pct)[TALKS // 2]
        growth, growth_late = await soak(toy, pins, turns, lambda turn: tell(f"turn {turn + 1}"))
        ready_ms = float(toy.log.split("daemon: ready, ms=")[1].split()[0])
    return Figures(
        pss_first_start_mb=round(pss_first, 1),
        pss_idle_mb=round(idle.pss_mb, 1),
        pss_talking_mb=round(talking.pss_mb, 1),
        pss_speaking_mb=round(speaking.pss_mb, 1),
        cpu_idle_pct=round(idle.cpu_pct, 2),
        cpu_talking_pct=round(talking.cpu_pct, 2),
        cpu_talking_main_pct=round(talking.main_pct, 2),
        cpu_talking_sound_pct=round(talking.sound_pct, 2),
        cpu_talking_pulse_pct=round(talking.pulse_pct, 2),
        cpu_speaking_pct=round(speaking.cpu_pct, 2),
        a53_core_pct=round(talking.a53_core_pct, 1),
        import_s=round(importing_s, 3),
        ready_ms=ready_ms,
        soak_turns=turns,
        soak_growth_mb=round(growth, 2),
        soak_growth_second_half_mb=round(growth_late, 2),
    )


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description="What pommaid costs.")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to look at each state")
    parser.add_argument("--turns", type=int, default=100, help="turns to see whether it grows")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()

    def tell(line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{line} …")

    figures = asyncio.run(measure(options.seconds, options.turns, tell))
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    if options.json:
        print(json.dumps(asdict(figures)))
        return
    for name, figure in asdict(figures).items():
        print(f"{name:<28}{figure:>10}")


if __name__ == "__main__":
    main()
