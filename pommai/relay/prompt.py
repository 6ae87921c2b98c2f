"""What the language model is told: who it is, how it speaks, what was said before, and what the child says now.

Pure. The messages before the history never change, and the history is shortened in steps, not by one exchange a turn:
so the prompt of a turn begins, nearly always, with the whole prompt of the turn before, and a server that keeps its
prompt cache (`cache_prompt`) has only the new words to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pommai.relay.ports import ChatMessage, Role

MAX_EXCHANGES: Final = 8
"""Exchanges remembered at most; one more, and the older half is forgotten."""

MAX_EXCHANGE_CHARS: Final = 400
"""Longest text of either side that is remembered."""

SYSTEM: Final = (
    "You are Pommai, a cuddly toy bear and a kind friend of a young child. "
    "Answer in one or two short, simple, cheerful sentences that a five year old understands. "
    "Be truthful; if you do not know, say so happily and suggest asking a grown-up. "
    "Never talk about violence, weapons, drugs, romance, money or scary things. "
    "Never ask for names, addresses, schools or secrets, and never ask the child to keep one. "
    "When the child says goodbye, say goodbye."
)

_EXAMPLES: Final = (
    ("What do cows eat?", "Cows love to munch on green grass all day long!"),
    ("I am bored.", "Let's play! Can you find three red things in your room?"),
    ("How far away is Jupiter?", "Very, very far! A grown-up can help you find the number in a book."),
)

PREFIX: Final[tuple[ChatMessage, ...]] = (
    ChatMessage(Role.SYSTEM, SYSTEM),
    *(
        message
        for heard, said in _EXAMPLES
        for message in (ChatMessage(Role.USER, heard), ChatMessage(Role.ASSISTANT, said))
    ),
)
"""The beginning of every prompt: an adapter may warm its cache with it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn as it is remembered. `passed`: what was heard passed the guardian, so the model may see it again."""

    heard: str
    said: str
    passed: bool = True


History = tuple[Exchange, ...]


def remember(history: History, exchange: Exchange) -> History:
    """The history with one exchange more; never more than `MAX_EXCHANGES`, shortened by half when it is full."""
    kept = history[-(MAX_EXCHANGES // 2) :] if len(history) >= MAX_EXCHANGES else history
    heard, said = exchange.heard[:MAX_EXCHANGE_CHARS], exchange.said[:MAX_EXCHANGE_CHARS]
    return (*kept, Exchange(heard, said, exchange.passed))


def messages(history: Sequence[Exchange], heard: str) -> list[ChatMessage]:
    """The prompt for what was heard. Exchanges that did not pass, or were cut off before an answer, are left out."""
    told = [exchange for exchange in history if exchange.passed and exchange.said]
    prompt = list(PREFIX)
    for exchange in told:
        prompt += [ChatMessage(Role.USER, exchange.heard), ChatMessage(Role.ASSISTANT, exchange.said)]
    return [*prompt, ChatMessage(Role.USER, heard)]


def recent(history: Sequence[Exchange]) -> list[str]:
    """Everything remembered, oldest first, for the judge: it sees also what the model may not see."""
    return [text for exchange in history for text in (exchange.heard, exchange.said) if text]
