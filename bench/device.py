"""What `pommaid` costs: memory and CPU, idle, talking and speaking; and whether it grows over many turns.

    python bench/device.py [--seconds 8] [--turns 100] [--json]

A real daemon with a real body, as far as a machine without one can have it (PyAudio over a virtual PulseAudio card,
pins that behave like RPi.GPIO's), and a real relay with scripted engines on the same machine. Memory is the
proportional set size of the daemon's process (/proc/PID/smaps_rollup), CPU its user and system time (/proc/PID/stat)
over wall time: Python, PortAudio and libpulse are in both. ALSA is told of this one card only, as on a toy: with all of
a desktop's plug-ins PortAudio loads half of ffmpeg. The figures are of a second start; the first one also migrates the
database, and keeps sqlite-utils loaded (`pss_first_start_mb`). `a53_core_pct` is the CPU while talking times 12: a core
of a Raspberry Pi Zero 2W takes 10 to 15 times as long for the same work. It is an estimate, and no measurement on a Pi.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
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
SENTENCE: Final = "Can you tell me a story about a small dragon that lives in the mountains and eats strawberries?"
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
    cpu_speaking_pct: float
    a53_core_pct: float
    import_s: float
    ready_ms: float
    soak_turns: int
    soak_growth_mb: float


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


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cost(pid: int, seconds: float) -> tuple[float, float]:
    """(PSS in MB at the end, CPU in percent of a core) over the next `seconds`."""
    began_s, used_s = time.monotonic(), cpu_s(pid)
    await asyncio.sleep(seconds)
    return pss_mb(pid), 100 * (cpu_s(pid) - used_s) / (time.monotonic() - began_s)


def speech(path: Path, seconds: float) -> Path:
    """A recording of at least so much speech, by espeak-ng: what Opus has to encode when a child talks."""
    text = " ".join([SENTENCE] * (1 + int(seconds / 4)))
    subprocess.run(["espeak-ng", "--stdin", "-w", str(path)], input=text.encode(), check=True)
    return path


async def talk(toy: Pommaid, pins: RemotePins, pulse: Pulse, wav: Path, seconds: float) -> tuple[float, float]:
    """What a held button costs while a child says `wav`; the turn is left in `thinking`."""
    pins.press(BUTTON)
    await toy.until("listening")
    saying = asyncio.create_task(pulse.say(wav))
    figures = await cost(toy_pid(toy), seconds)
    pins.release(BUTTON)
    saying.cancel()
    await asyncio.wait({saying})
    return figures


async def soak(toy: Pommaid, pins: RemotePins, turns: int, progress: Callable[[int], None]) -> float:
    """Growth in MB over `turns` short turns, each cut off by the next, after a warm-up."""
    grown_from = 0.0
    for turn in range(WARM_UP_TURNS + turns):
        if turn == WARM_UP_TURNS:
            grown_from = pss_mb(toy_pid(toy))
        pins.press(BUTTON)
        await toy.until("listening")
        await asyncio.sleep(0.4)
        pins.release(BUTTON)
        await toy.until("speaking")
        progress(turn)
    return pss_mb(toy_pid(toy)) - grown_from


def toy_pid(toy: Pommaid) -> int:
    """The process of the daemon."""
    assert toy.process is not None
    return toy.process.pid


async def measure(seconds: float, turns: int, tell: Callable[[str], None]) -> Figures:
    """Everything, one after the other."""
    tell("importing")
    importing_s = import_s()
    async with AsyncExitStack() as stack:
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
        await stack.enter_async_context(toy)
        pins = await hands_on(toy, folder, stack.enter_context(ExitStack()))
        await toy.until("idle")
        tell("idle")
        pss_idle, cpu_idle = await cost(toy_pid(toy), seconds)
        tell("talking")
        pss_talking, cpu_talking = await talk(toy, pins, pulse, speech(folder / "speech.wav", seconds + 1), seconds)
        tell("speaking")
        await toy.until("speaking")
        pss_speaking, cpu_speaking = await cost(toy_pid(toy), min(seconds, 3.0))
        await toy.until("idle")
        growth = await soak(toy, pins, turns, lambda turn: tell(f"turn {turn + 1}"))
        ready_ms = float(toy.log.split("daemon: ready, ms=")[1].split()[0])
    return Figures(
        *(
            round(figure, 1)
            for figure in (pss_first, pss_idle, pss_talking, pss_speaking, cpu_idle, cpu_talking, cpu_speaking)
        ),
        a53_core_pct=round(cpu_talking * A53_TIMES, 1),
        import_s=round(importing_s, 3),
        ready_ms=ready_ms,
        soak_turns=turns,
        soak_growth_mb=round(growth, 2),
    )


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description="What pommaid costs.")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to look at each state")
    parser.add_argument("--turns", type=int, default=100, help="turns to see whether it grows")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()

    def tell(line: str) -> None:
        sys.stderr.write(f"\r\033[K{line} …")

    figures = asyncio.run(measure(options.seconds, options.turns, tell))
    sys.stderr.write("\r\033[K")
    if options.json:
        print(json.dumps(asdict(figures)))
        return
    for name, figure in asdict(figures).items():
        print(f"{name:<18}{figure:>10}")


if __name__ == "__main__":
    main()
