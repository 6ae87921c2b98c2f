"""The demo brain: hand-written replies first, and a very small model for what they do not cover."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from pommai.relay.ports import ChatMessage, Source, Token
from pommai.relay.providers.local_model import LocalModel


class Bank(Protocol):
    """Hand-written replies."""

    async def answer(self, text: str) -> str | None:
        """The reply that fits what was heard; None if there is none."""


class LocalLLM:
    """The embedded `LLM`."""

    name = "local"

    def __init__(self, bank: Bank, model: LocalModel) -> None:
        """Both come loaded; the model is closed with this."""
        self._bank = bank
        self._model = model

    @classmethod
    def load(cls, bank: Bank) -> LocalLLM:
        """With the model, `LocalModel.load()`: blocking. Where the bank loads beside it, use the constructor."""
        return cls(bank, LocalModel.load())

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Token, None]:
        """The bank's reply to the last message as one token, or the model's token by token."""
        answer = await self._bank.answer(messages[-1].content)
        if answer is not None:
            yield Token(answer, Source.BANK, n=0)
            return
        async with aclosing(self._model.reply(messages)) as tokens:
            async for token in tokens:
                yield token

    def close(self) -> None:
        """Close the model; `reply` raises ProviderError from now on, where the bank has no answer."""
        self._model.close()
