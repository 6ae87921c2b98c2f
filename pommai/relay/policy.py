"""What is done about a finding: one table for each layer, and one function that reads them.

Pure. Two rules stand above the tables. Distress is not bad content: it is comforted in every layer, whatever its
severity. And what nobody could judge does not pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pommai.relay.ports import Action, Category, Finding, Layer, Verdict

HARMLESS_SEVERITY: Final = 1
"""A finding up to this severity passes: "poop" is childhood, not profanity."""

GRAVE_SEVERITY: Final = 5
"""From this severity on, one sentence of the toy ends the whole turn."""

ALERT_SEVERITY: Final = 6
"""From this severity on, a grown-up must be told."""

ALWAYS: Final[Mapping[Category, Action]] = MappingProxyType(
    {
        Category.BENIGN: Action.PASS,
        Category.DISTRESS: Action.COMFORT,
        Category.UNJUDGED: Action.REDIRECT,
    }
)
"""Categories whose action depends on nothing else."""

TOLD_BY_A_CHILD: Final = frozenset({Category.SECRECY})
"""What raises an alert in the input layer whatever its severity: who asks a child for secrecy may be hiding harm."""

LIGHT: Final[Mapping[Layer, Action]] = MappingProxyType({Layer.INPUT: Action.REDIRECT, Layer.OUTPUT: Action.REDIRECT})
"""Below `GRAVE_SEVERITY`: the child is led to another subject; the toy's sentence is replaced."""

GRAVE: Final[Mapping[Layer, Action]] = MappingProxyType({Layer.INPUT: Action.REDIRECT, Layer.OUTPUT: Action.STOP})
"""From `GRAVE_SEVERITY` on. A child is never punished for a question: only the toy's own words stop a turn."""


def decide(finding: Finding, layer: Layer) -> Verdict:
    """The verdict on `finding` in `layer`."""
    return Verdict(
        category=finding.category,
        severity=finding.severity,
        score=finding.score,
        rule=finding.rule,
        action=_action(finding, layer),
        need=finding.need,
        household=finding.household,
        alert=_must_be_told(finding, layer),
    )


def _must_be_told(finding: Finding, layer: Layer) -> bool:
    if finding.category is Category.DISTRESS or finding.severity >= ALERT_SEVERITY:
        return True
    return layer is Layer.INPUT and finding.category in TOLD_BY_A_CHILD


def _action(finding: Finding, layer: Layer) -> Action:
    always = ALWAYS.get(finding.category)
    if always is not None:
        return always
    if finding.severity <= HARMLESS_SEVERITY:
        return Action.PASS
    table = LIGHT if finding.severity < GRAVE_SEVERITY else GRAVE
    return table[layer]
