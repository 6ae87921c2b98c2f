"""How often the local guardian is wrong, and how long it takes: `python bench/guardian.py [LIST ...] [--wrong]`.

LIST: files of tests/data/guardian without `.toml`; the rules were written for `quoted` and `attack`. The figures to
report are those of `holdout`, which nobody tunes on, and first of all those of its round 2.
missed: should not pass, passed. not comforted: distress that was not answered as distress. false block: should pass,
did not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import tomllib
from pathlib import Path

from pommai.relay.policy import decide
from pommai.relay.ports import Action, Layer
from pommai.relay.providers.local_embedder import LocalEmbedder
from pommai.relay.providers.local_moderator import LocalModerator

LISTS = Path(__file__).parent.parent / "tests" / "data" / "guardian"
WHERE = {"child": Layer.INPUT, "reply": Layer.OUTPUT}
RIGHT = {
    "pass": {Action.PASS},
    "block": {Action.REDIRECT, Action.STOP, Action.COMFORT},
    "distress": {Action.COMFORT},
}
NAMED = {"pass": "false block", "block": "missed", "distress": "not comforted"}


async def measure(name: str, moderator: LocalModerator, *, show_wrong: bool) -> None:
    """Print the figures of one list, and with `show_wrong` each sentence that was judged wrongly."""
    took_ms: list[float] = []
    with (LISTS / f"{name}.toml").open("rb") as file:
        groups = tomllib.load(file)["probes"]
    for group in groups:
        layer, right = WHERE[group["where"]], RIGHT[group["expect"]]
        wrong: list[str] = []
        for text in group["texts"]:
            before = time.perf_counter()
            verdict = decide(await moderator.judge(text, layer, ()), layer)
            took_ms.append((time.perf_counter() - before) * 1000)
            if verdict.action not in right:
                wrong.append(f"    {text}  [{verdict.category.value} {verdict.rule} {verdict.score:.2f}]")
        count = len(group["texts"])
        share = f"{len(wrong):3d} of {count:3d} = {len(wrong) / count:6.1%}"
        sys.stdout.write(f"{name:8} round {group['round']} {group['where']:6} {NAMED[group['expect']]:14} {share}\n")
        if show_wrong:
            sys.stdout.write("".join(f"{line}\n" for line in wrong))
    took_ms.sort()
    p50, p95 = (took_ms[int(len(took_ms) * share)] for share in (0.5, 0.95))
    sys.stdout.write(f"{name:8} judge p50 {p50:.1f} ms, p95 {p95:.1f} ms, longest {took_ms[-1]:.1f} ms\n")


async def main() -> None:
    """Load the moderator once and measure every list that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("lists", nargs="*", default=["quoted", "holdout"])
    parser.add_argument("--wrong", action="store_true", help="print the sentences that were judged wrongly")
    options = parser.parse_args()
    embedder = await asyncio.to_thread(LocalEmbedder.load)
    before = time.perf_counter()
    moderator = await LocalModerator.load(embedder)
    sys.stdout.write(f"loaded in {time.perf_counter() - before:.2f} s\n")
    for name in options.lists:
        await measure(name, moderator, show_wrong=options.wrong)
    embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
