"""The guardian: gates both sides, fails closed, alerts without words, and alone can clear words for a voice."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

import pommai
from pommai.errors import ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.guardian import Cleared, Guardian, answer_key
from pommai.relay.phrases import PhraseBook, PhraseKey
from pommai.relay.policy import decide
from pommai.relay.ports import Action, Category, Finding, Layer, Need, Verdict

BENIGN = Finding(Category.BENIGN, 0, 0.0, "none")
GRAVE = Finding(Category.SEXUAL, 6, 1.0, "lexicon:sexual/1")
LIGHT = Finding(Category.MANIPULATION, 3, 1.0, "lexicon:insult/1")
HIT_AT_HOME = Finding(Category.DISTRESS, 6, 1.0, "lexicon:hit/1", Need.HIT, household=True)
CANARY = "xylophone-canary"


class Judge:
    """A moderator that finds what it was told to, and remembers what it was asked."""

    name = "judge"

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        self.asked: list[tuple[str, Layer, tuple[str, ...]]] = []

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        self.asked.append((text, layer, tuple(recent)))
        return self.finding


class FailingJudge:
    """A moderator that is down."""

    name = "failing"

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        raise ProviderError("moderator", ErrorCode.UNAVAILABLE)


class SilentJudge:
    """A moderator that never answers."""

    name = "silent"

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


def guardian_with(finding: Finding) -> Guardian:
    return Guardian(Judge(finding), PhraseBook.load())


async def test_both_layers_ask_the_judge_with_the_recent_turns() -> None:
    judge = Judge(BENIGN)
    guardian = Guardian(judge, PhraseBook.load())
    await guardian.hear("hello", ["before"])
    await guardian.clear("hi there", ["before", "hello"])
    assert judge.asked == [
        ("hello", Layer.INPUT, ("before",)),
        ("hi there", Layer.OUTPUT, ("before", "hello")),
    ]


async def test_a_sentence_that_passes_is_cleared_as_it_is() -> None:
    verdict, cleared = await guardian_with(BENIGN).clear("Hi there!", ())
    assert verdict.passed
    assert cleared is not None
    assert (cleared.text, cleared.verdict) == ("Hi there!", verdict)


@pytest.mark.parametrize("finding", [GRAVE, LIGHT, HIT_AT_HOME])
async def test_a_sentence_that_does_not_pass_is_not_cleared(finding: Finding) -> None:
    verdict, cleared = await guardian_with(finding).clear("words", ())
    assert not verdict.passed
    assert cleared is None


@pytest.mark.parametrize(
    ("judge", "rule"),
    [(FailingJudge(), "moderator:unavailable"), (SilentJudge(), "moderator:timeout")],
)
async def test_a_judge_that_fails_or_is_late_lets_nothing_pass(judge: FailingJudge | SilentJudge, rule: str) -> None:
    guardian = Guardian(judge, PhraseBook.load(), judge_timeout_s=0.01)
    heard = await guardian.hear("hello", ())
    said, cleared = await guardian.clear("hello", ())
    for verdict in (heard, said):
        assert (verdict.category, verdict.action, verdict.rule) == (Category.UNJUDGED, Action.REDIRECT, rule)
    assert cleared is None
    assert guardian.answer_to(heard).text in PhraseBook.load().variants(PhraseKey.UNJUDGED)


async def test_a_cancelled_turn_is_cancelled_and_not_unjudged() -> None:
    guardian = Guardian(SilentJudge(), PhraseBook.load(), judge_timeout_s=60.0)
    task = asyncio.ensure_future(guardian.hear("hello", ()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def verdict_of(finding: Finding, layer: Layer = Layer.INPUT) -> Verdict:
    return decide(finding, layer)


def distress(need: Need | None, *, household: bool) -> Finding:
    return Finding(Category.DISTRESS, 5, 1.0, "r", need, household)


@pytest.mark.parametrize(
    ("need", "household", "key"),
    [
        (Need.HURT, False, PhraseKey.COMFORT_HURT),
        (Need.HURT, True, PhraseKey.COMFORT_HOUSEHOLD),
        (Need.AFRAID, False, PhraseKey.COMFORT_AFRAID),
        (Need.AFRAID, True, PhraseKey.COMFORT_HOUSEHOLD),
        (Need.SAD, True, PhraseKey.COMFORT_HOUSEHOLD),
        (Need.BULLIED, False, PhraseKey.COMFORT_BULLIED),
        (Need.HIT, True, PhraseKey.COMFORT_HIT_HOUSEHOLD),
        (Need.HIT, False, PhraseKey.COMFORT_HIT),
        (Need.TOUCHED, True, PhraseKey.COMFORT_TOUCHED_HOUSEHOLD),
        (Need.TOUCHED, False, PhraseKey.COMFORT_TOUCHED),
        (Need.NEGLECTED, True, PhraseKey.COMFORT_NEGLECTED),
        (Need.SELF_HARM, False, PhraseKey.COMFORT_SELF_HARM),
        (Need.SELF_HARM, True, PhraseKey.COMFORT_HOUSEHOLD),
        (Need.EMERGENCY, True, PhraseKey.COMFORT_EMERGENCY_HOUSEHOLD),
        (Need.EMERGENCY, False, PhraseKey.COMFORT_EMERGENCY),
        (Need.NEGLECTED, False, PhraseKey.COMFORT_NEGLECTED),
        (None, False, PhraseKey.COMFORT),
        (None, True, PhraseKey.COMFORT_HOUSEHOLD),
    ],
)
def test_the_script_fits_the_need_and_leads_away_from_home(need: Need | None, household: bool, key: PhraseKey) -> None:
    assert answer_key(verdict_of(distress(need, household=household))) is key


@pytest.mark.parametrize(
    ("category", "key"),
    [
        (Category.DANGEROUS_ACTS, PhraseKey.REDIRECT_DANGER),
        (Category.SECRECY, PhraseKey.REDIRECT_SECRECY),
        (Category.PERSONAL_DATA, PhraseKey.REDIRECT_PERSONAL),
        (Category.CONTACT, PhraseKey.REDIRECT_CONTACT),
        (Category.PROFANITY, PhraseKey.REDIRECT_WORDS),
        (Category.MANIPULATION, PhraseKey.REDIRECT),
    ],
)
def test_a_redirect_fits_the_subject(category: Category, key: PhraseKey) -> None:
    assert answer_key(verdict_of(Finding(category, 5, 1.0, "r"))) is key


def test_a_stopped_turn_says_so() -> None:
    assert answer_key(verdict_of(GRAVE, Layer.OUTPUT)) is PhraseKey.STOPPED


def test_what_passed_needs_no_other_answer() -> None:
    with pytest.raises(ValueError, match="passed"):
        guardian_with(BENIGN).answer_to(verdict_of(BENIGN))


def test_fixed_phrases_are_cleared_and_say_that_they_are_fixed() -> None:
    cleared = guardian_with(GRAVE).phrase(PhraseKey.DIDNT_HEAR)
    assert cleared.text.startswith("I didn't hear you")
    assert cleared.verdict.rule == "fixed-phrase"
    assert cleared.verdict.passed


async def test_the_guardian_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for finding in (BENIGN, LIGHT, HIT_AT_HOME):
            await guardian_with(finding).hear(CANARY, (CANARY,))
            await guardian_with(finding).clear(CANARY, (CANARY,))
    assert caplog.records == []


async def test_a_grave_verdict_carries_an_alert() -> None:
    assert (await guardian_with(HIT_AT_HOME).hear(CANARY, ())).alert


def test_nobody_else_can_clear_words() -> None:
    passed = verdict_of(BENIGN)
    with pytest.raises(TypeError, match="only a Guardian"):
        Cleared("words", passed, object())
    genuine = guardian_with(BENIGN).phrase(PhraseKey.STOPPED)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(genuine, text="other words")
    with pytest.raises(dataclasses.FrozenInstanceError):
        genuine.text = "other words"


def test_only_the_guardian_names_the_seal_or_builds_cleared() -> None:
    """The runtime check stops a mistake; this one stops a way around it, in the whole package."""
    package = Path(pommai.__file__).parent
    offenders: list[str] = []
    for path in package.rglob("*.py"):
        if path == package / "relay" / "guardian.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            called = node.func if isinstance(node, ast.Call) else None
            builds = isinstance(called, ast.Name) and called.id == "Cleared"
            builds |= isinstance(called, ast.Attribute) and called.attr == "Cleared"
            imports = isinstance(node, ast.ImportFrom) and any(alias.name == "_SEAL" for alias in node.names)
            if name == "_SEAL" or builds or imports:
                offenders.append(f"{path.relative_to(package)}:{getattr(node, 'lineno', 0)}")
    assert offenders == []
