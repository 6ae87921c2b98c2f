"""What the relay counts, for Prometheus. Labels are closed sets: never a toy's id, never a word."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, exposition

import pommai
from pommai.relay.ports import TurnRecord

CONTENT_TYPE: Final = exposition.CONTENT_TYPE_LATEST

BUCKETS_S: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Around the targets: 0.6 s embedded, 0.8 s p50, 1.5 s p95, 2 s promised."""

_ENDED: Final = "ended"


class Metrics:
    """One relay's counters, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        version = Gauge("pommai_version_info", "Which pommai runs; always 1", ["version"], registry=registry)
        version.labels(pommai.__version__).set(1)
        self._turns = Counter("pommai_turns", "Turns that are over", ["outcome", "source"], registry=registry)
        self._stages = Histogram(
            "pommai_stage_seconds",
            "From the end of the utterance until a stage was reached",
            ["stage"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._verdicts = Counter(
            "pommai_verdicts", "Verdicts of the guardian", ["layer", "category", "action"], registry=registry
        )
        self._errors = Counter("pommai_errors", "Errors by the code that crossed the wire", ["code"], registry=registry)
        self._denied = Counter("pommai_auth_failures", "Connections without a valid token", registry=registry)
        payload = Counter("pommai_websocket_payload_bytes", "WebSocket payload", ["direction"], registry=registry)
        self._uplink, self._downlink = payload.labels("uplink"), payload.labels("downlink")
        self._toys = Gauge("pommai_active_toys", "Toys that are connected now", registry=registry)
        self._store_failures = Counter("pommai_store_failures", "Turns that could not be stored", registry=registry)

    def turn_ended(self, turn: TurnRecord) -> None:
        """Count a turn, its stages and its verdicts."""
        self._turns.labels(turn.outcome.value, turn.source.value if turn.source else "none").inc()
        if turn.error is not None:
            self.failed(turn.error)
        for layer, verdict in turn.verdicts:
            self._verdicts.labels(layer.value, verdict.category.value, verdict.action.value).inc()
        ended_s = turn.marks_s.get(_ENDED)
        for stage, at_s in turn.marks_s.items():
            if ended_s is not None and stage != _ENDED:
                self._stages.labels(stage).observe(at_s - ended_s)

    def failed(self, code: str) -> None:
        """Count an error; `code`: a `protocol.ErrorCode`."""
        self._errors.labels(str(code)).inc()

    def denied(self) -> None:
        """Count a connection that was refused for its token."""
        self._denied.inc()

    def not_stored(self) -> None:
        """Count a turn that the store did not take."""
        self._store_failures.inc()

    def received(self, n_bytes: int) -> None:
        """Count WebSocket payload from a toy."""
        self._uplink.inc(n_bytes)

    def sent(self, n_bytes: int) -> None:
        """Count WebSocket payload to a toy."""
        self._downlink.inc(n_bytes)

    def connected(self, n_toys: int) -> None:
        """Say how many toys are connected now."""
        self._toys.set(n_toys)

    def page(self) -> bytes:
        """Everything, in the text format named by `CONTENT_TYPE`."""
        return exposition.generate_latest(self._registry)
