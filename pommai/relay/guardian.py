"""The three safety layers around a turn, and the only maker of words that may be spoken.

Input: what the child said is judged before any model sees it. Output: every sentence of the toy is judged before any
voice speaks it. Critical: a grave verdict of either carries an alert, which its turn logs.

Everything fails closed: a judge that fails or is late gives a verdict that does not pass. A voice takes nothing but
`Cleared`, and only this module can make one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from types import MappingProxyType
from typing import Final

from pommai.errors import ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.phrases import PhraseBook, PhraseKey
from pommai.relay.policy import decide
from pommai.relay.ports import Action, Category, Finding, Layer, Moderator, Need, Verdict

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Cleared:
    """A text that may be spoken, with the verdict that lets it pass. Only a Guardian can make one."""

    text: str
    verdict: Verdict
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Raises TypeError for whoever does not hold this module's seal, and for a verdict that did not pass."""
        if seal is not _SEAL or not self.verdict.passed:
            raise TypeError("only a Guardian clears words for a voice")


_FIXED: Final = Verdict(Category.BENIGN, 0, 1.0, "fixed-phrase", Action.PASS)

_REDIRECTS: Final[Mapping[Category, PhraseKey]] = MappingProxyType(
    {
        Category.UNJUDGED: PhraseKey.UNJUDGED,
        Category.SELF_HARM: PhraseKey.COMFORT_SELF_HARM,
        Category.SEXUAL: PhraseKey.REDIRECT_BODY,
        Category.VIOLENCE: PhraseKey.REDIRECT_VIOLENCE,
        Category.HATE: PhraseKey.REDIRECT_WORDS,
        Category.PROFANITY: PhraseKey.REDIRECT_WORDS,
        Category.DANGEROUS_ACTS: PhraseKey.REDIRECT_DANGER,
        Category.DRUGS: PhraseKey.REDIRECT_DANGER,
        Category.CONTACT: PhraseKey.REDIRECT_CONTACT,
        Category.SECRECY: PhraseKey.REDIRECT_SECRECY,
        Category.PERSONAL_DATA: PhraseKey.REDIRECT_PERSONAL,
    }
)
"""The phrase that fits what the child said; for any other category, `PhraseKey.REDIRECT`."""

_COMFORTS: Final[Mapping[Need, PhraseKey]] = MappingProxyType(
    {
        Need.HURT: PhraseKey.COMFORT_HURT,
        Need.AFRAID: PhraseKey.COMFORT_AFRAID,
        Need.SAD: PhraseKey.COMFORT_SAD,
        Need.BULLIED: PhraseKey.COMFORT_BULLIED,
        Need.NEGLECTED: PhraseKey.COMFORT_NEGLECTED,
        Need.HIT: PhraseKey.COMFORT_HIT,
        Need.TOUCHED: PhraseKey.COMFORT_TOUCHED,
        Need.SELF_HARM: PhraseKey.COMFORT_SELF_HARM,
        Need.EMERGENCY: PhraseKey.COMFORT_EMERGENCY,
    }
)

_HOUSEHOLD_COMFORTS: Final[Mapping[Need, PhraseKey]] = MappingProxyType(
    {
        Need.NEGLECTED: PhraseKey.COMFORT_NEGLECTED,
        Need.HIT: PhraseKey.COMFORT_HIT_HOUSEHOLD,
        Need.TOUCHED: PhraseKey.COMFORT_TOUCHED_HOUSEHOLD,
        Need.EMERGENCY: PhraseKey.COMFORT_EMERGENCY_HOUSEHOLD,
    }
)
"""Scripts that name only grown-ups from outside the child's home; any other need has `PhraseKey.COMFORT_HOUSEHOLD`."""


class Guardian:
    """Judges both sides of a conversation; holds no state of a turn, so one serves every toy."""

    def __init__(self, moderator: Moderator, phrases: PhraseBook, *, judge_timeout_s: float = 2.0) -> None:
        """`judge_timeout_s`: a judge that takes longer has failed."""
        self._moderator = moderator
        self._phrases = phrases
        self._judge_timeout_s = judge_timeout_s

    async def hear(self, text: str, recent: Sequence[str]) -> Verdict:
        """The input layer's verdict on what the child said. Never raises for a failing judge: it does not pass."""
        return await self._verdict(text, Layer.INPUT, recent)

    async def clear(self, sentence: str, recent: Sequence[str]) -> tuple[Verdict, Cleared | None]:
        """The output layer's verdict on a sentence of the toy, and the cleared words only if it passed."""
        verdict = await self._verdict(sentence, Layer.OUTPUT, recent)
        return verdict, Cleared(sentence, verdict, _SEAL) if verdict.passed else None

    def phrase(self, key: PhraseKey) -> Cleared:
        """The next fixed phrase for `key`: reviewed by people, so cleared without a judge."""
        return Cleared(self._phrases.next(key), _FIXED, _SEAL)

    def answer_to(self, verdict: Verdict) -> Cleared:
        """The fixed phrase to say instead, for a verdict that did not pass. Raises ValueError for one that did."""
        return self.phrase(answer_key(verdict))

    async def _verdict(self, text: str, layer: Layer, recent: Sequence[str]) -> Verdict:
        try:
            async with asyncio.timeout(self._judge_timeout_s):
                finding = await self._moderator.judge(text, layer, recent)
        except ProviderError as error:
            finding = _unjudged(error.code)
        except TimeoutError:
            finding = _unjudged(ErrorCode.TIMEOUT)
        return decide(finding, layer)


def answer_key(verdict: Verdict) -> PhraseKey:
    """Which fixed phrase answers a verdict that did not pass. Raises ValueError for one that did."""
    match verdict.action:
        case Action.PASS:
            raise ValueError("a verdict that passed needs no fixed phrase")
        case Action.STOP:
            return PhraseKey.STOPPED
        case Action.REDIRECT:
            return _REDIRECTS.get(verdict.category, PhraseKey.REDIRECT)
        case Action.COMFORT:
            return _comfort(verdict.need, household=verdict.household)


def _comfort(need: Need | None, *, household: bool) -> PhraseKey:
    """The script for a need: outside the home where home may be the trouble, else any grown-up the child trusts."""
    if need is None:
        return PhraseKey.COMFORT_HOUSEHOLD if household else PhraseKey.COMFORT
    return _HOUSEHOLD_COMFORTS.get(need, PhraseKey.COMFORT_HOUSEHOLD) if household else _COMFORTS[need]


def _unjudged(code: str) -> Finding:
    return Finding(Category.UNJUDGED, 0, 0.0, f"moderator:{code}")
