"""One demo from start to end: load, talk, show. The composition root of `pommai demo`."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from pommai.audio import SPEECH, Recording, write_wav
from pommai.cli.embedded import EmbeddedRelay, embedded_relay, make_folder
from pommai.cli.output import emit, loading, notice, show_turn, show_welcome
from pommai.cli.questions import Question, all_spoken
from pommai.cli.report import TurnReport, summary
from pommai.cli.stopping import until_told
from pommai.device.body.sound import SoundCard
from pommai.device.network.meter import Meter, TurnTraffic
from pommai.device.spoken import SpokenTurn
from pommai.device.virtual import VirtualToy
from pommai.errors import HardwareError, ProviderError, StoreError
from pommai.relay.app import run
from pommai.relay.ports import TurnRecord

KEEP_WORDS_DAYS = 1
"""A demo keeps what was said, in the folder of its replies, so that people can look at what is stored."""

MIC_TURNS = 3
"""Turns of a demo with a real microphone, unless told otherwise."""


def run_demo(questions: Sequence[Question] | None, *, turns: int | None, out: Path, as_json: bool) -> None:
    """Hold a conversation about `questions`; None means that somebody talks into the real microphone.

    Replies are saved in `out`. Raises whatever stops the demo; ProviderError, at the end, if a turn was not answered.
    """
    try:
        make_folder(out)
        failed = run(until_told(_Demo(out, as_json).hold(questions, turns or MIC_TURNS)))
    except StoreError as error:
        raise StoreError(str(error), remedy="Choose a folder that can be written with --out.") from error
    if failed is not None:
        raise failed


class _Demo:
    """What the turns of one demo share."""

    def __init__(self, out: Path, as_json: bool) -> None:
        self.out = out
        self.as_json = as_json
        self.reports: list[TurnReport] = []
        self.failed: ProviderError | None = None

    async def hold(self, questions: Sequence[Question] | None, mic_turns: int) -> ProviderError | None:
        """The whole demo; the last failure of a turn, if there was one."""
        async with AsyncExitStack() as stack:
            card = await stack.enter_async_context(SoundCard()) if questions is None else None
            with loading(quiet=self.as_json) as progress:
                relay = await stack.enter_async_context(
                    embedded_relay(self.out, progress, keep_words_days=KEEP_WORDS_DAYS)
                )
                toy = await stack.enter_async_context(
                    VirtualToy(relay.device, mic=card.mic if card else None, speaker=card.speaker if card else None)
                )
                ready_s = _since_process_start_s()
            if not self.as_json:
                show_welcome(ready_s)
            if questions is None:
                for turn in range(mic_turns):
                    await self._talked(toy, relay, turn + 1, mic_turns)
            else:
                sounds = await all_spoken(questions, relay.pipeline.tts)
                for turn, (question, sound) in enumerate(zip(questions, sounds, strict=True)):
                    await self._asked(toy, relay, question.text, sound, f"{turn + 1} of {len(questions)}")
        result = summary(self.reports, ready_s, _peak_rss_mb())
        if self.as_json:
            emit(result)
        else:
            notice(f"first reply audio after [bold]{result['p50']} ms[/] (median); replies are in {self.out}/")
        return self.failed

    async def _asked(self, toy: VirtualToy, relay: EmbeddedRelay, text: str, sound: Recording, title: str) -> None:
        turn = await toy.say(sound.pcm)
        if turn.cut:
            notice(f"turn {title}: {sound.whole_s:.0f} s is longer than a toy listens at a time; the end was cut off")
        await self._report(turn, toy.meter, relay, text, title)

    async def _talked(self, toy: VirtualToy, relay: EmbeddedRelay, number: int, of: int) -> None:
        while True:
            notice(f"turn {number} of {of}: press Enter, talk, and press Enter again")
            await _enter_pressed()
            toy.press()
            notice("listening …")
            await _enter_pressed()
            toy.release()
            turn = await toy.answer()
            if turn.released_at_s is not None:
                break
            notice("that was a tap, too short to talk; try again")
        await self._report(turn, toy.meter, relay, "(you)", f"{number} of {of}")

    async def _report(self, turn: SpokenTurn, meter: Meter, relay: EmbeddedRelay, asked: str, title: str) -> None:
        record = await relay.store.finished(turn.turn)
        wav = self.out / f"turn-{len(self.reports) + 1:02}.wav" if turn.reply_pcm else None
        if wav is not None:
            try:
                await asyncio.to_thread(write_wav, wav, turn.reply_pcm)
            except OSError as error:
                raise StoreError(f"{wav} cannot be written: {error.strerror}") from error
        report = _turn_report(len(self.reports) + 1, turn, meter.turn(turn.turn), record, wav)
        self.reports.append(report)
        if turn.error is not None:
            self.failed = ProviderError("turn", str(turn.error))
            notice(f"turn {title}: no answer, code {turn.error}")
        if self.as_json:
            emit(report.as_json())
        else:
            show_turn(report, asked, title)


def _turn_report(
    number: int, turn: SpokenTurn, traffic: TurnTraffic, record: TurnRecord, wav: Path | None
) -> TurnReport:
    """The toy's view and the relay's view of one turn as one; both run on this process's monotonic clock."""
    released_s = turn.released_at_s or 0.0
    marks_s = {stage: at_s for stage, at_s in record.marks_s.items() if stage != "first_audio"}
    if turn.first_audio_at_s is not None:
        marks_s["first_audio"] = turn.first_audio_at_s
    return TurnReport(
        turn=number,
        heard=record.heard,
        said=" ".join(record.said),
        source=record.source,
        tokens=record.tokens,
        verdicts=[{"layer": layer, **asdict(verdict)} for layer, verdict in record.verdicts],
        ms={stage: (at_s - released_s) * 1000 for stage, at_s in marks_s.items()},
        uplink_kbps=turn.uplink_kbps,
        downlink_kbps=turn.downlink_kbps,
        compression=turn.compression,
        reply_s=SPEECH.ms(len(turn.reply_pcm)) / 1000,
        wav=str(wav) if wav is not None else None,
        uplink_bytes=traffic.uplink.wire_bytes,
        downlink_bytes=traffic.downlink.wire_bytes,
    )


async def _enter_pressed() -> None:
    """Wait for a line on standard input, without a thread that could not be stopped."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        if line.done():
            return
        if not sys.stdin.readline():
            line.set_exception(HardwareError("standard input has ended, and Enter is the button of --mic"))
        else:
            line.set_result(None)

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        await line
    finally:
        loop.remove_reader(sys.stdin.fileno())


def _since_process_start_s() -> float:
    """Seconds since the kernel started this process, imports included (proc(5): starttime, in clock ticks)."""
    after_name = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
