"""The demo's report: JSON keys, percentiles and the waterfall."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pommai.cli.report import STAGES, TurnReport, percentile, summary, waterfall


def report(turn: int, source: str, **ms: float) -> TurnReport:
    return TurnReport(turn, "hi", "hello", source, 3, [], ms, 36.81, 35.2, 10.43, 2.345, "turn-01.wav", 9_000, 12_000)


def test_the_json_line_has_exactly_the_promised_keys() -> None:
    line = report(1, "bank", stt=300.04, judge_in=310.0, first_audio=400.0).as_json()
    assert list(line) == [
        "turn",
        "heard",
        "said",
        "source",
        "tokens",
        "verdicts",
        "ms",
        "uplink_kbps",
        "downlink_kbps",
        "compression",
        "reply_s",
        "wav",
    ]
    expected = {"stt": 300.0, "judge_in": 310.0, "llm_first_token": None, "first_sentence": None, "first_audio": 400.0}
    assert line["ms"] == expected
    assert json.loads(json.dumps(line)) == line


def test_the_summary_tells_bank_and_model_apart() -> None:
    turns = [report(1, "bank", first_audio=100.0), report(2, "model", first_audio=300.0), report(3, "fixed")]
    assert summary(turns, 2.345, 801.6) == {
        "p50": 200.0,
        "p95": 300.0,
        "p50_model": 300.0,
        "p50_bank": 100.0,
        "ready_s": 2.35,
        "peak_rss_mb": 802,
    }


def test_nothing_measured_is_null_and_not_zero() -> None:
    assert summary([], 1.0, 1.0)["p50"] is None


@given(st.lists(st.floats(0, 1e6).map(lambda x: round(x, 1)), min_size=1), st.sampled_from([90, 95, 99]))
def test_a_percentile_is_a_measured_value_with_enough_at_or_below_it(values: list[float], percent: int) -> None:
    p = percentile(values, percent)
    assert p in values
    assert sum(value <= p for value in values) >= percent / 100 * len(values)


def test_the_waterfall_has_a_line_for_each_stage_reached_ending_at_its_time() -> None:
    full = report(1, "model", stt=300, judge_in=310, llm_first_token=380, first_sentence=500, first_audio=560)
    lines = waterfall(full)
    assert len(lines) == len(STAGES)
    assert lines[0].startswith("heard")
    assert lines[-1].endswith("560 ms")
    ends = [line.rindex("█") for line in lines]
    assert ends == sorted(ends)
    assert len({len(line) for line in lines}) == 1


def test_a_turn_without_stages_has_an_empty_waterfall() -> None:
    assert waterfall(report(1, "fixed")) == []
    assert len(waterfall(report(1, "fixed", stt=0.0))) == 1
