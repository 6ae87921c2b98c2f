"""The small model, and the demo brain that asks it only where the reply bank has no answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pommai.errors import ProviderError
from pommai.relay.ports import LLM, ChatMessage, Role, Source, Token
from pommai.relay.providers.local_llm import LocalLLM
from pommai.relay.providers.local_model import Brevity, LocalModel

Take = Callable[[dict[str, Any]], bool]


def asked(text: str) -> list[ChatMessage]:
    return [ChatMessage(Role.SYSTEM, "Be kind."), ChatMessage(Role.USER, text)]


async def replied(llm: LLM, text: str) -> list[Token]:
    async with aclosing(llm.reply(asked(text))) as tokens:
        return [token async for token in tokens]


def joined(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.mark.engines
@pytest.mark.parametrize(
    "text", ["Why is the sky blue?", "What do penguins eat?", "I am building a robot.", "Guess what!"]
)
async def test_it_says_a_sentence_or_two(model: LocalModel, text: str) -> None:
    tokens = await replied(model, text)
    assert len(tokens) > 2
    assert {token.source for token in tokens} == {Source.MODEL}
    said = joined(tokens)
    assert 4 < len(said) < 300
    assert "\n" not in said


@pytest.mark.engines
async def test_the_same_question_has_the_same_answer(model: LocalModel) -> None:
    first = joined(await replied(model, "How many legs does a spider have?"))
    await replied(model, "What makes thunder?")
    assert joined(await replied(model, "How many legs does a spider have?")) == first


@pytest.mark.engines
@pytest.mark.parametrize("text", ["", "\U0001f43b" * 3000, "x" * 9000, "\ud800"])
async def test_odd_questions_fit_its_context(model: LocalModel, text: str) -> None:
    assert joined(await replied(model, text))


@pytest.mark.engines
async def test_closed_early_it_is_free_for_the_next(model: LocalModel) -> None:
    for _ in range(3):
        async with aclosing(model.reply(asked("Tell me all about trains."))) as tokens:
            assert await anext(tokens)
    assert joined(await replied(model, "What do cats like?"))


@pytest.mark.engines
async def test_toys_take_turns(model: LocalModel) -> None:
    replies = await asyncio.gather(*(replied(model, "Do cows fly?") for _ in range(4)))
    assert len({joined(reply) for reply in replies}) == 1


@pytest.mark.engines
def test_nothing_can_connect_to_it(model: LocalModel) -> None:
    mine = {str(fd.readlink()) for fd in list(Path("/proc/self/fd").iterdir()) if fd.is_symlink()}
    tcp = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listening = {f"socket:[{fields[9]}]" for fields in tcp if fields[3] == "0A"}
    assert not mine & listening
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    names = [fields[7] for fields in unix if f"socket:[{fields[6]}]" in mine and len(fields) > 7]
    assert any(name.endswith("/llm.sock") for name in names)
    assert not any(Path(name).exists() for name in names)


@pytest.mark.engines
async def test_the_brain_asks_its_bank_first(model: LocalModel) -> None:
    brain = LocalLLM(Bank({"Hello!": "Hello, my friend! How are you?"}), model)
    assert await replied(brain, "Hello!") == [Token("Hello, my friend! How are you?", Source.BANK, n=0)]
    assert {token.source for token in await replied(brain, "Why is snow cold?")} == {Source.MODEL}


class Bank:
    """A reply bank that knows sentences by heart."""

    def __init__(self, replies: dict[str, str]) -> None:
        self._replies = replies

    async def answer(self, text: str) -> str | None:
        return self._replies.get(text)


# --- the hand-over between threads, with a server that does as it is told ---------------------------------------------


def event(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


class EndlessServer:
    """Says the same word for ever, until it is told to stop."""

    def __init__(self) -> None:
        self.requests = 0
        self.stopped = threading.Event()

    def handle_chat_completions(self, request: dict[str, Any], take: Take) -> None:
        self.requests += 1
        while not take(event("bear ")):
            pass
        self.stopped.set()


class FailingServer:
    """Says a word, then fails as llama.cpp does: by an event."""

    def handle_chat_completions(self, request: dict[str, Any], take: Take) -> None:
        if not take(event("Well ")):
            take({"error": {"code": 400, "message": "the words of a child", "type": "exceed_context_size_error"}})


@pytest.fixture
def endless() -> Iterator[tuple[LocalModel, EndlessServer]]:
    server = EndlessServer()
    model = LocalModel(server)
    yield model, server
    model.close()


async def test_closing_stops_the_engine_at_once(endless: tuple[LocalModel, EndlessServer]) -> None:
    model, server = endless
    async with aclosing(model.reply(asked("Hello!"))) as tokens:
        assert await anext(tokens) == Token("bear ")
        assert not server.stopped.is_set()
    assert server.stopped.is_set()


async def test_cancelling_stops_the_engine_at_once(endless: tuple[LocalModel, EndlessServer]) -> None:
    model, server = endless
    talking = asyncio.Event()

    async def listen() -> None:
        async with aclosing(model.reply(asked("Hello!"))) as tokens:
            async for _ in tokens:
                talking.set()

    task = asyncio.create_task(listen())
    await talking.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert server.stopped.is_set()


async def test_one_that_waits_for_its_turn_never_starts(endless: tuple[LocalModel, EndlessServer]) -> None:
    model, server = endless
    async with aclosing(model.reply(asked("Hello!"))) as tokens:
        await anext(tokens)
        waiting = asyncio.create_task(replied(model, "Me too!"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert server.requests == 1


async def test_an_error_event_is_raised_without_its_words() -> None:
    model = LocalModel(FailingServer())
    with pytest.raises(ProviderError, match=r"^llm: internal$") as raised:
        await replied(model, "Hello!")
    assert raised.value.__cause__ is None
    model.close()


async def test_closed_it_refuses() -> None:
    model = LocalModel(EndlessServer())
    model.close()
    with pytest.raises(ProviderError, match="llm: shutting_down"):
        await replied(model, "Hello!")


# --- brevity ----------------------------------------------------------------------------------------------------------


def brief(text: str) -> tuple[str, bool]:
    """What passes of `text`, given in small pieces, and whether it was enough before the end."""
    brevity = Brevity()
    said = ""
    for start in range(0, len(text), 3):
        said += brevity.push(text[start : start + 3])
        if brevity.enough:
            return said, True
    return said + brevity.rest(), False


@pytest.mark.parametrize(
    ("text", "said", "enough"),
    [
        ("A spider has eight legs. They can fly. And so on", "A spider has eight legs.", True),
        ("Wow! You are so strong! Can you lift a car?", "Wow! You are so strong!", True),
        ("Wow! You are so strong!", "Wow! You are so strong!", False),
        ("Wow! You are so str", "Wow!", False),
        ("The sky is blue because of the light and", "The sky is blue because of the light and", False),
        ('"I am a bear," it said. "Really!" And', '"I am a bear," it said.', True),
        ("It is 3.5 metres long, I think. Or not", "It is 3.5 metres long, I think.", True),
        ("", "", False),
    ],
)
def test_brevity(text: str, said: str, enough: bool) -> None:
    assert brief(text) == (said, enough)
