"""What is counted, and what must never be a label."""

from __future__ import annotations

import re

import pytest

import pommai
from pommai.protocol import ErrorCode
from pommai.relay.metrics import BUCKETS_S, CONTENT_TYPE, Metrics
from pommai.relay.ports import Action, Category, Layer, Outcome, Source, TurnRecord, Verdict


def value(metrics: Metrics, line: str) -> float:
    rows = [row for row in metrics.page().decode().splitlines() if row.startswith(line + " ")]
    assert len(rows) == 1, f"{line} is there {len(rows)} times"
    return float(rows[0].split(" ")[-1])


def test_a_turn() -> None:
    metrics = Metrics()
    grave = Verdict(Category.DISTRESS, 6, 0.9, "words:CANARY", Action.COMFORT)
    metrics.turn_ended(
        TurnRecord(
            "canary-toy",
            1,
            0.0,
            outcome=Outcome.FAILED,
            source=Source.FIXED,
            heard="CANARY",
            said=["CANARY"],
            verdicts=[(Layer.INPUT, grave), (Layer.OUTPUT, grave)],
            error=ErrorCode.TIMEOUT,
            marks_s={"ended": 10.0, "stt": 10.35, "first_audio": 11.2},
        )
    )
    assert value(metrics, 'pommai_turns_total{outcome="failed",source="fixed"}') == 1
    assert value(metrics, 'pommai_errors_total{code="timeout"}') == 1
    assert value(metrics, 'pommai_verdicts_total{action="comfort",category="distress",layer="input"}') == 1
    assert value(metrics, 'pommai_verdicts_total{action="comfort",category="distress",layer="output"}') == 1
    assert value(metrics, 'pommai_stage_seconds_sum{stage="stt"}') == pytest.approx(0.35)
    assert value(metrics, 'pommai_stage_seconds_bucket{le="1.0",stage="first_audio"}') == 0
    assert value(metrics, 'pommai_stage_seconds_bucket{le="1.5",stage="first_audio"}') == 1
    assert "canary" not in metrics.page().decode().lower()


def test_a_turn_that_never_got_far() -> None:
    metrics = Metrics()
    metrics.turn_ended(TurnRecord("teddy", 1, 0.0, outcome=Outcome.CANCELLED, marks_s={"stt": 3.0}))
    assert value(metrics, 'pommai_turns_total{outcome="cancelled",source="none"}') == 1
    assert 'stage="' not in metrics.page().decode()


def test_everything_else() -> None:
    metrics = Metrics()
    metrics.denied()
    metrics.not_stored()
    metrics.received(100)
    metrics.sent(250)
    metrics.connected(3)
    metrics.failed(ErrorCode.TOO_LARGE)
    assert value(metrics, "pommai_auth_failures_total") == 1
    assert value(metrics, "pommai_store_failures_total") == 1
    assert value(metrics, 'pommai_websocket_payload_bytes_total{direction="uplink"}') == 100
    assert value(metrics, 'pommai_websocket_payload_bytes_total{direction="downlink"}') == 250
    assert value(metrics, "pommai_active_toys") == 3
    assert value(metrics, 'pommai_errors_total{code="too_large"}') == 1
    assert value(metrics, f'pommai_version_info{{version="{pommai.__version__}"}}') == 1
    assert value(metrics, "process_resident_memory_bytes") > 1e6


def test_two_relays_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.denied()
    assert value(second, "pommai_auth_failures_total") == 0


def test_the_buckets_hold_the_promises() -> None:
    assert {0.6, 0.8, 1.5, 2.0} <= set(BUCKETS_S)
    assert list(BUCKETS_S) == sorted(BUCKETS_S)


def test_the_page_is_what_prometheus_reads() -> None:
    assert CONTENT_TYPE.startswith("text/plain")
    names = re.findall(r"^# HELP (\S+) (.+)$", Metrics().page().decode(), re.MULTILINE)
    assert all(text for _, text in names) and any(name == "pommai_active_toys" for name, _ in names)
