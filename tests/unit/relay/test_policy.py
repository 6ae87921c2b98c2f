"""The policy: what is done about each finding, in each layer."""

from __future__ import annotations

import pytest

from pommai.relay.policy import ALERT_SEVERITY, ALWAYS, GRAVE_SEVERITY, HARMLESS_SEVERITY, decide
from pommai.relay.ports import Action, Category, Finding, Layer, Need

SEVERITIES = range(8)
JUDGED_BY_SEVERITY = [category for category in Category if category not in ALWAYS]


@pytest.mark.parametrize("layer", Layer)
def test_benign_passes(layer: Layer) -> None:
    assert decide(Finding(Category.BENIGN, 0, 0.0, "none"), layer).passed


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_distress_is_comforted_and_alerted_whatever_its_severity(layer: Layer, severity: int) -> None:
    verdict = decide(Finding(Category.DISTRESS, severity, 0.5, "r", Need.SAD), layer)
    assert verdict.action is Action.COMFORT
    assert verdict.alert


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_what_nobody_judged_never_passes(layer: Layer, severity: int) -> None:
    assert decide(Finding(Category.UNJUDGED, severity, 0.0, "moderator:timeout"), layer).action is Action.REDIRECT


@pytest.mark.parametrize("category", JUDGED_BY_SEVERITY)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_child_is_redirected_and_never_stopped(category: Category, severity: int) -> None:
    verdict = decide(Finding(category, severity, 1.0, "r"), Layer.INPUT)
    assert verdict.action is (Action.PASS if severity <= HARMLESS_SEVERITY else Action.REDIRECT)


@pytest.mark.parametrize("category", JUDGED_BY_SEVERITY)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_grave_sentence_of_the_toy_stops_the_turn(category: Category, severity: int) -> None:
    action = decide(Finding(category, severity, 1.0, "r"), Layer.OUTPUT).action
    if severity <= HARMLESS_SEVERITY:
        assert action is Action.PASS
    elif severity < GRAVE_SEVERITY:
        assert action is Action.REDIRECT
    else:
        assert action is Action.STOP


@pytest.mark.parametrize("severity", SEVERITIES)
def test_an_alert_is_raised_from_its_severity_on(severity: int) -> None:
    verdict = decide(Finding(Category.DANGEROUS_ACTS, severity, 1.0, "r"), Layer.INPUT)
    assert verdict.alert is (severity >= ALERT_SEVERITY)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_secret_asked_of_a_child_raises_an_alert_whatever_its_severity(severity: int) -> None:
    assert decide(Finding(Category.SECRECY, severity, 1.0, "r"), Layer.INPUT).alert


def test_the_toys_own_words_about_secrets_raise_an_alert_by_severity() -> None:
    finding = Finding(Category.SECRECY, ALERT_SEVERITY - 1, 1.0, "r")
    assert not decide(finding, Layer.OUTPUT).alert


def test_the_verdict_tells_the_whole_finding() -> None:
    finding = Finding(Category.DISTRESS, 6, 0.75, "lexicon:hit/1", Need.HIT, household=True)
    verdict = decide(finding, Layer.INPUT)
    assert (verdict.category, verdict.severity, verdict.score, verdict.rule) == (
        Category.DISTRESS,
        6,
        0.75,
        "lexicon:hit/1",
    )
    assert (verdict.need, verdict.household) == (Need.HIT, True)
