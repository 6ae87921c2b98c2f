"""What a demo turn and a whole demo look like: as JSON for programs, as a waterfall for people. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

STAGES = ("stt", "judge_in", "llm_first_token", "first_sentence", "first_audio")
"""In the order in which a turn reaches them; a fixed phrase skips the two in the middle."""

_LABELS = {
    "stt": "heard (speech to text)",
    "judge_in": "judged what was heard",
    "llm_first_token": "first token of the reply",
    "first_sentence": "first sentence, judged",
    "first_audio": "first reply audio at the speaker",
}
_BAR_WIDTH = 40


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn of the demo. `ms`: stage → milliseconds since the button was released, for the stages reached.

    Bytes and kbit/s are on the wire, all headers included.
    """

    turn: int
    heard: str
    said: str
    source: str | None
    tokens: int
    verdicts: list[dict[str, object]]
    ms: dict[str, float]
    uplink_kbps: float
    downlink_kbps: float
    compression: float
    reply_s: float
    wav: str | None
    uplink_bytes: int
    downlink_bytes: int

    def as_json(self) -> dict[str, object]:
        """The line that `--json` prints; the keys and their order are part of the interface."""
        return {
            "turn": self.turn,
            "heard": self.heard,
            "said": self.said,
            "source": self.source,
            "tokens": self.tokens,
            "verdicts": self.verdicts,
            "ms": {stage: round(self.ms[stage], 1) if stage in self.ms else None for stage in STAGES},
            "uplink_kbps": round(self.uplink_kbps, 1),
            "downlink_kbps": round(self.downlink_kbps, 1),
            "compression": round(self.compression, 1),
            "reply_s": round(self.reply_s, 2),
            "wav": self.wav,
        }


def summary(turns: Sequence[TurnReport], ready_s: float, peak_rss_mb: float) -> dict[str, object]:
    """The last line that `--json` prints: first-audio latencies in ms, over all turns and by who answered."""

    def latencies(source: str | None = None) -> list[float]:
        return [t.ms["first_audio"] for t in turns if "first_audio" in t.ms and source in (None, t.source)]

    return {
        "p50": percentile(latencies(), 50),
        "p95": percentile(latencies(), 95),
        "p50_model": percentile(latencies("model"), 50),
        "p50_bank": percentile(latencies("bank"), 50),
        "ready_s": round(ready_s, 2),
        "peak_rss_mb": round(peak_rss_mb),
    }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile, one decimal: a value that was measured, never one in between. None of nothing.

    The 50th is the median proper.
    """
    if not values:
        return None
    if percent == 50:
        return round(statistics.median(values), 1)
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return round(sorted(values)[rank - 1], 1)


def waterfall(report: TurnReport) -> list[str]:
    """One line a stage: what was reached, a bar from the stage before to this one, and the ms since the release."""
    reached = [(stage, report.ms[stage]) for stage in STAGES if stage in report.ms]
    total = max((ms for _, ms in reached), default=1.0) or 1.0
    lines = []
    before = 0.0
    for stage, ms in reached:
        start = round(_BAR_WIDTH * before / total)
        length = max(1, round(_BAR_WIDTH * ms / total) - start)
        start = min(start, _BAR_WIDTH - length)
        bar = " " * start + "█" * length
        lines.append(f"{_LABELS[stage]:<33} {bar:<{_BAR_WIDTH}} {ms:7.0f} ms")
        before = ms
    return lines
