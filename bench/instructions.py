"""How many instructions `pommaid` executes while a child talks: `python -m bench.instructions [--seconds 8] [--json]`.

The same toy as in `bench.device`, under valgrind's callgrind (Debian: valgrind), which counts the instructions of each
thread; unlike time, that does not depend on how cold the caches of this machine are between two wake-ups. Kinds of
threads are those of `bench.device`, told apart by what they call.

`a53_core_pct` is an estimate: the instructions of `main` and `sound` over `A53_PER_S`. They are those of this machine's
instruction set, of the process alone and not of the kernel (a quarter of the CPU time here, by `perf`), and the rate of
a Cortex-A53 is an assumption.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

from bench.device import BUTTON, SETTLING_S, settled, speech, toy_pid
from tests.faults.bodies import hands_on

A53_PER_S: Final = 400e6
"""Instructions that a Cortex-A53 at 1 GHz is taken to execute in a second of such a program: 0.4 in each cycle. It can
issue two; an interpreter that wakes up to cold caches waits most of the time."""

LIBPULSE: Final = "pa_mainloop_run"
"""What libpulse's threads are in all the time, and no other."""


def control(pid: int, order: str) -> None:
    """Have callgrind do something now."""
    subprocess.run(["callgrind_control", order, str(pid)], check=True, capture_output=True)


def counted(folder: Path) -> dict[str, int]:
    """The instructions in the last dump, by kind of thread. Each thread has a file of its own."""
    numbers = {"main": 0, "sound": 0, "pulse": 0}
    for path in folder.glob("callgrind.*"):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^summary: (\d+)$", text, re.MULTILINE)
        if found is None:
            continue
        kind = "main" if path.name.endswith("-01") else "pulse" if LIBPULSE in text else "sound"
        numbers[kind] += int(found[1])
        path.unlink()
    return numbers


async def measure(seconds: float) -> dict[str, float]:
    """Millions of instructions in a second of talk, and the estimate."""
    async with AsyncExitStack() as stack:
        toy, pulse, folder, _ = await settled(stack, lambda line: None)
        counts = folder / "counts"
        counts.mkdir()
        options = ("--instr-atstart=no", "--separate-threads=yes", f"--callgrind-out-file={counts}/callgrind")
        toy.before = ("valgrind", "--tool=callgrind", *options)
        await stack.enter_async_context(toy)
        pins = await hands_on(toy, folder, stack.enter_context(ExitStack()))
        await toy.until("idle")
        await asyncio.sleep(SETTLING_S)
        pid = toy_pid(toy)
        control(pid, "--instr=on")
        pins.press(BUTTON)
        await toy.until("listening")
        saying = asyncio.create_task(pulse.say(speech(folder / "speech.wav", seconds + 4)))
        await asyncio.sleep(2)  # what is executed for the first time is translated first
        control(pid, "--dump")
        counted(counts)
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        control(pid, "--dump")
        lasted_s = asyncio.get_running_loop().time() - began_s
        pins.release(BUTTON)
        saying.cancel()
        await asyncio.wait({saying})
        per_s = {kind: number / lasted_s for kind, number in counted(counts).items()}
    figures = {f"{kind}_m_per_s": round(each / 1e6, 1) for kind, each in per_s.items()}
    return figures | {"a53_core_pct": round(100 * (per_s["main"] + per_s["sound"]) / A53_PER_S, 1)}


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description="How many instructions pommaid executes while a child talks.")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a child talks")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if shutil.which("callgrind_control") is None:
        sys.exit("callgrind is not installed: sudo apt install valgrind")
    figures = asyncio.run(measure(options.seconds))
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<18}{figure:>8}")


if __name__ == "__main__":
    main()
