"""One interactive virtual toy: the composition root of `pommai sim`."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from pommai.cli.embedded import embedded_relay
from pommai.cli.output import ToyScreen, loading, toy_screen
from pommai.cli.questions import Question, all_spoken
from pommai.cli.stopping import until_told
from pommai.config import load
from pommai.device.body.sim import KeyboardButton, TerminalLights, VirtualMic
from pommai.device.body.sound import SoundCard
from pommai.device.mind.states import Listening
from pommai.device.network.address import address_problems, trust_problems
from pommai.device.ports import Failed, Heard, Note, RelayLost, Said, StateChanged
from pommai.device.settings import DeviceSettings, timing_problems
from pommai.device.virtual import VirtualToy
from pommai.errors import ConnectError, HardwareError
from pommai.relay.app import run
from pommai.relay.providers.local_tts import LocalTTS
from pommai.schema import Problem


def toy_settings(relay_url: str | None, config: Path | None) -> DeviceSettings:
    """The toy's settings from `config` and the environment, with `relay_url` in place of theirs if it is given.

    Raises ConfigError, also for a toy without a token (nothing else tells the relay who it is), and for an address that
    a toy must not use.
    """
    given = {} if relay_url is None else {"relay.url": relay_url}
    return load(
        DeviceSettings, [config] if config is not None else [], os.environ, given=given, check=_problems_with_relay
    )


def _problems_with_relay(settings: DeviceSettings) -> list[Problem]:
    """Wiring is left out: a virtual toy has none."""
    problems = [*address_problems(settings.relay), *trust_problems(settings.relay), *timing_problems(settings.timing)]
    if not settings.relay.token:
        what = (
            "is not set: POMMAI_RELAY_TOKEN is empty; get one with `pommai relay token add TOY`, or try `pommai sim "
            "--embedded`"
        )
        problems.append(Problem(("relay.token",), what))
    return problems


def need_terminal() -> None:
    """Raises HardwareError where nobody could press a key."""
    if not sys.stdin.isatty():
        raise HardwareError(
            "pommai sim needs a terminal: its space bar is the button",
            remedy="Run it in a terminal, or see a conversation without one: `pommai demo`.",
        )


def run_sim(settings: DeviceSettings | None, questions: Sequence[Question] | None) -> None:
    """Live as a toy until `q` is pressed. No settings: with a relay of its own. No questions: the real sound card."""
    try:
        run(until_told(_live(settings, questions)))
    except ConnectError as error:
        raise ConnectError(
            str(error),
            remedy="Start a relay (`pommai relay run`), check --relay and the token, or bring one: `--embedded`.",
        ) from error


async def _live(settings: DeviceSettings | None, questions: Sequence[Question] | None) -> None:
    async with AsyncExitStack() as stack:
        card = await stack.enter_async_context(SoundCard()) if questions is None else None
        with loading() as progress:
            tts = None
            if settings is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pommai-sim-"))
                relay = await stack.enter_async_context(embedded_relay(Path(folder), progress))
                settings, tts = relay.device, relay.pipeline.tts
            elif questions is not None:
                progress("the child's voice")
                tts = await asyncio.to_thread(LocalTTS.load)
                stack.callback(tts.close)
            sounds = await all_spoken(questions, tts) if questions is not None and tts is not None else []
        quit_pressed = asyncio.Event()
        button = stack.enter_context(KeyboardButton(sys.stdin.fileno(), quit_pressed.set))
        screen = stack.enter_context(toy_screen())
        lights = TerminalLights(lambda color: screen.light(color.red, color.green, color.blue))
        mic = card.mic if card is not None else VirtualMic()
        sayings = [(question.text, sound.pcm) for question, sound in zip(questions or (), sounds, strict=True)]
        child = _Child(mic, sayings, screen) if isinstance(mic, VirtualMic) else None
        toy = VirtualToy(
            settings,
            observer=_Onlooker(screen, child),
            mic=mic,
            speaker=card.speaker if card else None,
            lights=lights,
            button=button,
        )
        await stack.enter_async_context(toy)
        await quit_pressed.wait()


class _Child:
    """Says the next of `sayings`, each a text and its sound, at each press; its end is shown: time to let go."""

    def __init__(self, mic: VirtualMic, sayings: Sequence[tuple[str, bytes]], screen: ToyScreen) -> None:
        self._mic = mic
        self._sayings = itertools.cycle(sayings)
        self._screen = screen

    def pressed(self) -> None:
        text, pcm = next(self._sayings)
        self._mic.on_spoken = lambda: self._screen.say("child", text)
        self._mic.speak(pcm)


class _Onlooker:
    """Shows on the screen what the toy notes, and lets the virtual child speak when the toy listens."""

    def __init__(self, screen: ToyScreen, child: _Child | None) -> None:
        self._screen = screen
        self._child = child

    def noticed(self, note: Note) -> None:
        """See `ports.Observer`."""
        match note:
            case StateChanged(state):
                if isinstance(state, Listening) and not state.started and self._child is not None:
                    self._child.pressed()
                self._screen.state(type(state).__name__.lower())
            case Heard(text=text):
                self._screen.say("heard", text)
            case Said(text=text):
                self._screen.say("toy", text)
            case Failed(code=code):
                self._screen.say("error", code)
            case RelayLost(error=error):
                self._screen.say("relay", str(error))
