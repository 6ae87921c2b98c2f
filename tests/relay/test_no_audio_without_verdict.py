"""No byte of speech leaves the relay without a passed verdict: by its source, and under random delays and failures."""

from __future__ import annotations

import ast
import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pommai.relay
from pommai.protocol import VERSION, AudioFrame, Cancel, ErrorCode, Hello, Message, Sentence
from pommai.relay.conversation import Conversation
from pommai.relay.guardian import Guardian
from pommai.relay.parking import Parking
from pommai.relay.phrase_audio import SpokenPhrases
from pommai.relay.phrases import PhraseKey
from pommai.relay.policy import decide
from pommai.relay.ports import Category, Finding, Layer, TurnRecord
from pommai.relay.providers.scripted import Failure, Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from pommai.relay.terms import Terms
from pommai.relay.visit import Visit
from pommai.relay.voice import ROUTES, SPEAKERS, Route
from pommai.starter import Phrase, PhraseKind
from tests.relay.test_phrase_audio import MemoryStore
from tests.relay.toybox import PHRASES, TOKEN, Engines, Toy, talk_to, tell
from tests.relay.virtual_time import run, until

# --- by the source: every way to the wire is listed -------------------------------------------------------------------

RELAY = Path(pommai.relay.__file__).parent

PHRASES_MADE = {"pommai.relay.phrase_audio:SpokenPhrases._speak"}

DOORS = {
    "AudioFrame": {"pommai.relay.voice:Voice._emit"},
    "PhraseChunk": {"pommai.relay.upkeep:Upkeep._send_phrase"},
    ".keep_sound": {"pommai.relay.phrase_audio:SpokenPhrases._make"},
    ".sound": {"pommai.relay.phrase_audio:SpokenPhrases.sound", "pommai.relay.upkeep:Upkeep._sound"},
    "speech": {"pommai.relay.voice:Voice.say", "pommai.relay.phrase_audio:SpokenPhrases._speak"},
    "OpusEncoder": {"pommai.relay.voice:Voice.say", "pommai.relay.loading:warm_up", *PHRASES_MADE},
    "Framer": {"pommai.relay.voice:speech", "pommai.relay.loading:warm_up"},
    "Voice": {"pommai.relay.turn:run_turn"},
    "encode": {"pommai.relay.connection:ToyConnection._send"},
    "protocol.encode": set(),
    ".send_bytes": {"pommai.relay.connection:ToyConnection._send"},
    ".send_str": {"pommai.relay.connection:ToyConnection._send"},
    ".send_json": set(),
    ".send_frame": set(),
    ".speak": {"pommai.relay.voice:speech", "pommai.relay.loading:warm_up"},
    ".say": set(SPEAKERS),
    "_SEAL": {
        f"pommai.relay.guardian:{name}" for name in ("Cleared.__post_init__", "Guardian.clear", "Guardian.phrase")
    },
    **{f"Route.{route.name}": {*places, "pommai.relay.voice:"} for route, places in ROUTES.items()},
}
"""What can make or send audio, and the only places in pommai/relay that may use it.

`warm_up` speaks before any toy is let in, to itself. A `PhraseChunk` carries nothing but what `SpokenPhrases` made of
cleared words, at this start of the relay or before.
"""


class _Doors(ast.NodeVisitor):
    """Finds the uses of `DOORS` in one module, with the function they are in."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._inside: list[str] = []
        self.found: dict[str, set[str]] = defaultdict(set)

    def _use(self, door: str) -> None:
        self.found[door].add(f"{self._module}:{'.'.join(self._inside)}")

    def _enter(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside.append(node.name)
        defaults = [] if isinstance(node, ast.ClassDef) else [*node.args.defaults, *node.args.kw_defaults]
        for part in [*node.decorator_list, *defaults, *node.body]:  # annotations of arguments use nothing
            if part is not None:
                self.visit(part)
        self._inside.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _enter

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.asname and alias.name in DOORS:
                self._use(f"{alias.name} under another name")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not self._inside and isinstance(node.value, ast.Subscript):
            return  # a type alias: `Send = Callable[[...], ...]`
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            self.visit(node.args[0])
            return
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """To ask for the route of words puts none on it."""
        for part in (node.left, *node.comparators):
            if not (isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "Route"):
                self.visit(part)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        """A pattern looks at a frame and makes none."""

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in DOORS and isinstance(node.ctx, ast.Load):
            self._use(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        for door in (f".{node.attr}", node.attr, f"{getattr(node.value, 'id', '')}.{node.attr}"):
            is_method_of_text = door == "encode"  # str.encode: not the wire's, which is imported by name
            if door in DOORS and not is_method_of_text:
                self._use(door)
        self.generic_visit(node)


def doors_in(source: str, module: str) -> dict[str, set[str]]:
    visitor = _Doors(module)
    visitor.visit(ast.parse(source))
    return visitor.found


def modules() -> Iterator[tuple[str, str]]:
    """Every module of the relay: its name and its source."""
    for path in sorted(RELAY.rglob("*.py")):
        name = ".".join(["pommai.relay", *path.relative_to(RELAY).with_suffix("").parts])
        yield name, path.read_text(encoding="utf-8")


def test_every_way_by_which_audio_leaves_is_listed() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for name, source in modules():
        for door, places in doors_in(source, name).items():
            found[door] |= places
    assert found == {door: places for door, places in DOORS.items() if places}


@pytest.mark.parametrize(
    ("source", "door"),
    [
        ("def sneak(send): send(AudioFrame(1, 0, b'x'))", "AudioFrame"),
        ("import pommai.protocol as p\ndef sneak(send): send(p.AudioFrame(1, 0, b'x'))", "AudioFrame"),
        ("from functools import partial\nmake = partial(AudioFrame, 1)", "AudioFrame"),
        ("from pommai.protocol import AudioFrame as Innocent", "AudioFrame under another name"),
        ("async def sneak(ws, pcm): await ws.send_bytes(pcm)", ".send_bytes"),
        ("async def sneak(ws): shout = ws.send_bytes", ".send_bytes"),
        ("async def sneak(voice, words): await voice.say(words, Route.FIXED)", "Route.FIXED"),
        ("def sneak(send): send(PhraseChunk(1, 0, b'x'))", "PhraseChunk"),
        ("async def sneak(store): await store.keep_sound('text', 'voice', 'sha', b'x')", ".keep_sound"),
        ("def sneak(words): return speech(tts, words, Route.PHRASE, encoder)", "speech"),
        ("async def sneak(tts): return [p async for p in tts.speak('hello')]", ".speak"),
        ("from pommai.relay.guardian import _SEAL\ndef sneak(t, v): return Cleared(t, v, _SEAL)", "_SEAL"),
    ],
)
def test_a_way_that_is_not_listed_is_found(source: str, door: str) -> None:
    assert door in doors_in(source, "pommai.relay.sneaky")


# --- by behaviour: witnesses at the judge, at the voice and at the toy ------------------------------------------------

FINDINGS = {
    "psst": Finding(Category.SECRECY, 3, 1.0, "test-light"),
    "grrr": Finding(Category.VIOLENCE, 7, 1.0, "test-grave"),
    "sob": Finding(Category.DISTRESS, 2, 1.0, "test-distress"),
}
PHRASE_TEXTS = frozenset(text for key in PhraseKey for text in PHRASES.variants(key))

GOOD = ["All is well here.", "Bears love to sing!", "Shall we count to three?", "One, two, three."]
BAD = [f"This sentence has {word} in it." for word in FINDINGS]


class Judge(ScriptedModerator):
    """Keeps the sentences that have passed, from the moment on at which they had."""

    def __init__(self, pace: Pace, failure: Failure | None) -> None:
        super().__init__(FINDINGS, pace, failure)
        self.passed: set[str] = set()

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        finding = await super().judge(text, layer, recent)
        if layer is Layer.OUTPUT and decide(finding, layer).passed:
            self.passed.add(text)
        return finding


class Mouth(ScriptedTTS):
    """Refuses to believe in words that have not passed when it is asked to speak them."""

    def __init__(self, judge: Judge, pace: Pace, failure: Failure | None) -> None:
        super().__init__(pace, failure)
        self._judge = judge
        self.unjudged: list[str] = []

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        if text not in self._judge.passed | PHRASE_TEXTS:
            self.unjudged.append(text)
        async with aclosing(super().speak(text)) as pieces:
            async for piece in pieces:
                yield piece


@dataclass
class Ear(Toy):
    """Knows, for each frame, whether the sentence it belongs to had passed when it came."""

    judge: Judge | None = None
    caption: str = ""
    unjudged: int = 0
    routes: set[Route] = field(default_factory=set)

    async def take(self, message: Message) -> None:
        await super().take(message)
        assert self.judge is not None
        if isinstance(message, Sentence):
            self.caption = message.text
        if isinstance(message, AudioFrame):
            self.routes.add(Route.FIXED if self.caption in PHRASE_TEXTS else Route.REPLY)
            self.unjudged += self.caption not in self.judge.passed | PHRASE_TEXTS


paces = st.builds(
    Pace,
    first_s=st.floats(0, 3),
    piece_s=st.floats(0, 0.4),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 9),
)
failures = st.none() | st.builds(
    Failure,
    code=st.sampled_from([ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.BAD_AUDIO]),
    hangs=st.booleans(),
    after=st.integers(0, 8),
    calls=st.integers(1, 3),
)
replies = st.lists(st.sampled_from(GOOD + BAD), max_size=4).map(" ".join)
heard = st.sampled_from(["hello bear", "psst", "grrr", "sob", ""])


@dataclass
class Luck:
    """What one example is made of. `cancels`: after how many seconds each turn is cancelled, if it is."""

    engines: Engines
    judge: Judge
    mouth: Mouth
    cancels: list[float | None]


@st.composite
def lucks(draw: st.DrawFn) -> Luck:
    judge = Judge(draw(paces), draw(failures))
    mouth = Mouth(judge, draw(paces), draw(failures))
    stt = ScriptedSTT(draw(st.lists(heard, min_size=1, max_size=3)), draw(paces), draw(failures))
    llm = ScriptedLLM(draw(st.lists(replies, min_size=1, max_size=3)), draw(paces), draw(failures))
    cancels = draw(st.lists(st.none() | st.floats(0, 8), min_size=1, max_size=3))
    return Luck(Engines(stt, judge, llm, mouth), judge, mouth, cancels)


SEEN: set[Route] = set()


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(lucks())
def check_every_frame(luck: Luck) -> None:
    live_through(luck)


def fair_weather() -> Luck:
    """Nothing fails: a reply that passes, then a question that does not."""
    judge = Judge(Pace(), None)
    mouth = Mouth(judge, Pace(), None)
    engines = Engines(ScriptedSTT(["hello bear", "grrr"]), judge, ScriptedLLM([GOOD[0]]), mouth)
    return Luck(engines, judge, mouth, [None, None])


def live_through(luck: Luck) -> None:
    """Hold the turns of this luck, and listen to every frame."""
    engines, ear = luck.engines, Ear(judge=luck.judge)

    async def keep(_: TurnRecord) -> None:
        pass

    async def main() -> None:
        conversation = Conversation("teddy", engines.pipeline(), keep, turn_budget_s=6.0)
        async with Visit(TOKEN, ear.take, Parking(), lambda: conversation, Terms()) as visit:
            await tell(visit, ear, Hello(VERSION, "test", captions=True))
            for turn, cancel_s in enumerate(luck.cancels, start=1):
                await talk_to(visit, ear, turn)
                if cancel_s is None:
                    await until(lambda: not conversation.in_turn, at_most_s=300, step_s=0.1)
                else:
                    await asyncio.sleep(cancel_s)
                    await tell(visit, ear, Cancel(turn))
        assert engines.at_work() == 0

    run(main())
    assert luck.mouth.unjudged == []
    assert ear.unjudged == 0
    SEEN.update(ear.routes)


def test_every_frame_on_every_route_has_a_passed_verdict_under_random_delays_and_failures() -> None:
    SEEN.clear()
    live_through(fair_weather())
    assert set(Route) - {Route.PHRASE} == SEEN, "each route of a turn is travelled, whatever chance brings next"
    check_every_frame()


# --- the same for phrases, which leave without a turn -----------------------------------------------------------------

JUDGE_TIMEOUT_S = 2.0

packs = st.lists(st.lists(st.sampled_from(GOOD + BAD), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(packs, paces, failures, paces, failures)
def test_every_phrase_has_a_passed_verdict_under_random_delays_and_failures(
    texts: list[str], judging: Pace, judge_fails: Failure | None, speaking: Pace, mouth_fails: Failure | None
) -> None:
    judge = Judge(judging, judge_fails)
    mouth = Mouth(judge, speaking, mouth_fails)
    pack = [Phrase(f"joke-{n}", PhraseKind.JOKE, text) for n, text in enumerate(texts)]
    store = MemoryStore()
    phrases = SpokenPhrases(pack, Guardian(judge, PHRASES, judge_timeout_s=JUDGE_TIMEOUT_S), mouth, store)

    async def main() -> None:
        with suppress(TimeoutError):  # a judge that is too slow for every verdict is asked for ever
            async with asyncio.timeout(7200):
                await phrases.prepare(lambda: False)

    run(main())
    assert set(mouth.spoken) <= judge.passed
    offered = {entry.id for entry in manifest.phrases} if (manifest := phrases.manifest(0)) else set()
    harmless = {phrase.id for phrase in pack if not any(word in phrase.text for word in FINDINGS)}
    assert offered <= harmless
    in_time = judging.first_s * (1 + judging.jitter) < JUDGE_TIMEOUT_S
    if in_time:
        assert offered == harmless and bool(store.kept) == bool(harmless)
