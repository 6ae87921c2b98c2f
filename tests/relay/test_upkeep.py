"""What is not about a turn: nothing is acknowledged before it is stored, and no command is sent twice for nothing."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pommai.errors import StoreError
from pommai.link import ASIDE, Side
from pommai.protocol import (
    MAX_CHUNKS,
    MAX_PACKET_BYTES,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    PhraseChunk,
    PhraseEnd,
    PhraseManifest,
    PhrasesWanted,
    PhraseWanted,
    ToToy,
)
from pommai.relay import app
from pommai.relay.phrase_audio import SpokenPhrases
from pommai.relay.ports import TurnRecord
from pommai.relay.settings import RelaySettings, ServerSettings, StoreSettings, ToySettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.relay.stores.upkeep_rows import MAX_PENDING, MOMENTARY_S
from pommai.relay.upkeep import Answerable, Upkeep
from pommai.starter import Phrase, PhraseKind
from pommai.wire import encode
from tests.relay.served import ServedRelay, WatchedStore, until
from tests.relay.test_store import NOW_S, opened
from tests.relay.toybox import Engines

BROKEN = "the disk is full"


@dataclass
class Wire:
    """The toy's end. `left`: how many messages still get through."""

    got: list[ToToy | PhraseChunk] = field(default_factory=list)
    left: int = 1_000

    async def take(self, message: ToToy | PhraseChunk) -> None:
        if not self.left:
            raise ConnectionResetError
        self.left -= 1
        encode(message)
        assert isinstance(message, Error) or type(message) in ASIDE[Side.RELAY]
        self.got.append(message)


class FailingStore(SqliteStore):
    """A store whose writes and reads fail while `broken`; what it was asked before counts as not asked."""

    broken = False

    async def _run(self, call: Callable[[], Any]) -> Any:
        if self.broken:
            raise StoreError(BROKEN)
        return await super()._run(call)


def upkeep(store: SqliteStore, wire: Wire, toy: str = "teddy", phrases: SpokenPhrases | None = None) -> Upkeep:
    return Upkeep(toy, store, phrases, wire.take, unix_time=lambda: NOW_S)


def event(number: int, *, urgent: bool = False, kind: str = "gesture") -> EventRecord:
    return EventRecord(f"e{number}", kind, NOW_S - 5, urgent, {"phrase": "joke-1"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


# --- events -----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_acknowledged_whole_also_what_was_known(path: Path) -> None:
    async with opened(path) as store:
        wire = Wire()
        served = upkeep(store, wire)
        await served.receive(EventBatch((event(1), event(2))))
        await served.receive(EventBatch((event(2), event(3))))
        await served.receive(EventBatch(()))
        assert wire.got == [EventsStored(("e1", "e2")), EventsStored(("e2", "e3")), EventsStored(())]
        stored = await store.list_events("teddy", 9)
        assert [kept.event.id for kept in stored] == ["e1", "e2", "e3"]
        assert {kept.received_at_s for kept in stored} == {NOW_S}


async def test_an_acknowledgement_that_is_lost_costs_nothing(path: Path) -> None:
    """The relay has stored, and breaks before it can say so; the toy sends everything again."""
    async with opened(path) as store:
        with pytest.raises(ConnectionResetError):
            await upkeep(store, Wire(left=0)).receive(EventBatch((event(1),)))
        wire = Wire()
        await upkeep(store, wire).receive(EventBatch((event(1),)))
        assert wire.got == [EventsStored(("e1",))]
        assert len(await store.list_events("teddy", 9)) == 1


async def test_what_cannot_be_stored_is_not_acknowledged_and_may_come_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await FailingStore.open(StoreSettings(str(path)))
    wire = Wire()
    served = upkeep(store, wire)
    store.broken = True
    await served.receive(EventBatch((event(1, urgent=True),)))
    assert wire.got == [Error(ErrorCode.UNAVAILABLE, retryable=True)]
    assert [record.getMessage() for record in caplog.records] == [f"events not stored toy=teddy: {BROKEN}"]
    store.broken = False
    await served.receive(EventBatch((event(1, urgent=True),)))
    assert wire.got[1:] == [EventsStored(("e1",))]
    await store.close()


async def test_an_urgent_event_is_in_the_log_once_and_its_data_never(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        served = upkeep(store, Wire())
        batch = EventBatch((event(1), event(2, urgent=True, kind="help")))
        await served.receive(batch)
        await served.receive(batch)
    logged = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert logged == [(logging.WARNING, "urgent event toy=teddy kind=help id=e2")]


async def test_a_call_for_help_is_kept_whenever_the_toy_says_that_it_was(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        await store.forget("teddy")
        wire = Wire()
        await upkeep(store, wire).receive(EventBatch((event(1, urgent=True),)))
        assert wire.got == [EventsStored(("e1",))]
        assert len(await store.list_events("teddy", 9)) == 1, "its clock may be wrong by years"
    assert "urgent event toy=teddy kind=gesture id=e1" in caplog.text


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_commands_go_out_in_order_once_a_connection_until_they_are_answered(path: Path) -> None:
    async with opened(path) as store:
        first = await store.queue_command("teddy", "volume", value=0.4, now_s=NOW_S - 2)
        second = await store.queue_command("teddy", "play", phrase="joke-1", now_s=NOW_S - 1)
        await store.queue_command("panda", "restart", now_s=NOW_S)
        wire = Wire()
        served = upkeep(store, wire)
        await served.look_again()
        assert wire.got == [Command(first, "volume", 0.4), Command(second, "play", phrase="joke-1")]
        third = await store.queue_command("teddy", "celebrate", now_s=NOW_S)
        await served.look_again()
        await served.look_again()
        assert wire.got[2:] == [Command(third, "celebrate")]
        await served.receive(CommandDone(first))
        await served.receive(CommandDone(second, ErrorCode.UNAVAILABLE))
        again = Wire()
        await upkeep(store, again).look_again()
        assert again.got == [Command(third, "celebrate")], "at the next welcome, what was not answered"
        done = await store.find_command(second)
        assert done is not None and (done.done_at_s, done.code) == (NOW_S, "unavailable")


async def test_many_commands_go_out_in_order_and_the_next_follow_the_answers(path: Path) -> None:
    """A toy that has no room for all of them would leave some out, and obey those late."""
    async with opened(path) as store:
        ids = [await store.queue_command("teddy", "celebrate", now_s=NOW_S) for _ in range(3 * MAX_PENDING)]
        wire = Wire()
        served = upkeep(store, wire)
        await served.look_again()
        await served.look_again()
        assert len(wire.got) == MAX_PENDING, "the toy has answered none"
        for number in range(len(ids)):
            command = wire.got[number]
            assert isinstance(command, Command) and command.id == ids[number]
            await served.receive(CommandDone(command.id))
            assert len(wire.got) == min(MAX_PENDING + number + 1, len(ids))


async def test_a_command_that_waited_too_long_is_not_sent(path: Path) -> None:
    async with opened(path) as store:
        await store.queue_command("teddy", "play", phrase="song-1", now_s=NOW_S - MOMENTARY_S)
        fresh = await store.queue_command("teddy", "play", phrase="song-2", now_s=NOW_S - MOMENTARY_S + 1)
        wire = Wire()
        await upkeep(store, wire).look_again()
        assert wire.got == [Command(fresh, "play", phrase="song-2")]


async def test_answers_to_nothing_change_nothing(path: Path) -> None:
    async with opened(path) as store:
        wire = Wire()
        id = await store.queue_command("panda", "pause", now_s=NOW_S)
        for unknown in (id, "nothing"):
            await upkeep(store, wire).receive(CommandDone(unknown))
        assert wire.got == [] and len(await store.pending_commands("panda", NOW_S)) == 1


async def test_a_store_that_fails_delays_commands_and_ends_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await FailingStore.open(StoreSettings(str(path)))
    id = await store.queue_command("teddy", "pause", now_s=NOW_S)
    wire = Wire()
    served = upkeep(store, wire)
    store.broken = True
    with pytest.raises(StoreError):
        await served.look_again()
    store.broken = False
    await served.look_again()
    assert wire.got == [Command(id, "pause")]
    store.broken = True
    await served.receive(CommandDone(id))
    assert f"answer not stored toy=teddy id={id}" in caplog.text
    store.broken = False
    assert [command.id for command in await store.pending_commands("teddy", NOW_S)] == [id], (
        "it comes again and is answered"
    )
    await store.close()


async def test_answers_that_cannot_be_stored_are_asked_for_again_and_block_nothing(path: Path) -> None:
    """Else they would keep their places among those that may be unanswered, for as long as the connection lasts."""
    store = await FailingStore.open(StoreSettings(str(path)))
    ids = [await store.queue_command("teddy", "celebrate", now_s=NOW_S) for _ in range(MAX_PENDING + 1)]
    wire = Wire()
    served = upkeep(store, wire)
    await served.look_again()
    store.broken = True
    for id in ids[:MAX_PENDING]:
        await served.receive(CommandDone(id))
    store.broken = False
    wire.got.clear()
    await served.look_again()
    await served.look_again()
    assert wire.got == [Command(id, "celebrate") for id in ids[:MAX_PENDING]], "each once more"
    wire.got.clear()
    for id in ids[:MAX_PENDING]:
        await served.receive(CommandDone(id))
    assert wire.got == [Command(ids[MAX_PENDING], "celebrate")]
    await store.close()


async def test_a_command_that_could_not_be_sent_goes_out_on_the_next_connection(path: Path) -> None:
    async with opened(path) as store:
        id = await store.queue_command("teddy", "pause", now_s=NOW_S)
        with pytest.raises(ConnectionResetError):
            await upkeep(store, Wire(left=0)).look_again()
        wire = Wire()
        await upkeep(store, wire).look_again()
        assert wire.got == [Command(id, "pause")]


# --- phrases ----------------------------------------------------------------------------------------------------------

PACK = (
    Phrase("joke-1", PhraseKind.JOKE, "What is brown and sticky? A stick! " * 12),
    Phrase("song-1", PhraseKind.SONG, "La, la, la."),
)


async def spoken(store: SqliteStore, pack: Sequence[Phrase] = PACK) -> SpokenPhrases:
    pipeline = Engines().pipeline()
    phrases = SpokenPhrases(pack, pipeline.guardian, pipeline.tts, store)
    await phrases.prepare(lambda: False)
    return phrases


async def test_a_toy_without_phrases_to_have_is_told_so(path: Path) -> None:
    async with opened(path) as store:
        unready = SpokenPhrases(PACK, Engines().pipeline().guardian, Engines().tts, store)
        for phrases in (None, unready):
            wire = Wire()
            served = upkeep(store, wire, phrases=phrases)
            await served.receive(PhrasesWanted())
            await served.receive(PhraseWanted(7, "joke-1", "sha", 0))
            assert wire.got == [Error(ErrorCode.UNAVAILABLE, retryable=True), PhraseEnd(7, ErrorCode.UNAVAILABLE)]


async def test_a_toy_is_not_told_that_there_is_nothing_to_have_any_more(path: Path) -> None:
    """Nobody asked, and a toy keeps what it has."""
    async with opened(path) as store:
        wire = Wire()
        phrases = await spoken(store)
        served = upkeep(store, wire, phrases=phrases)
        phrases._revision = None
        await served.look_again()
        assert wire.got == []


async def test_a_phrase_comes_in_pieces_and_is_what_the_list_says(path: Path) -> None:
    async with opened(path) as store:
        wire = Wire()
        phrases = await spoken(store)
        served = upkeep(store, wire, phrases=phrases)
        await served.receive(PhrasesWanted())
        (manifest,) = wire.got
        assert isinstance(manifest, PhraseManifest) and manifest.revision == phrases.revision
        entry = manifest.phrases[0]
        assert (entry.id, entry.kind, manifest.total, manifest.first) == ("joke-1", "joke", 2, 0)
        got, request = b"", 0
        while len(got) < entry.size:
            wire.got.clear()
            await served.receive(PhraseWanted(request, entry.id, entry.sha256, len(got)))
            *pieces, end = wire.got
            assert end == PhraseEnd(request) and 0 < len(pieces) <= MAX_CHUNKS
            for sequence, piece in enumerate(pieces):
                assert isinstance(piece, PhraseChunk) and (piece.request, piece.sequence) == (request, sequence)
                assert len(piece.chunk) <= MAX_PACKET_BYTES
                got += piece.chunk
            request += 1
        assert request > 1 and len(got) == entry.size
        assert hashlib.sha256(got).hexdigest() == entry.sha256


async def test_a_phrase_that_is_not_there_as_the_toy_knows_it(path: Path) -> None:
    async with opened(path) as store:
        wire = Wire()
        phrases = await spoken(store)
        served = upkeep(store, wire, phrases=phrases)
        manifest = phrases.manifest(0)
        assert manifest is not None
        entry = manifest.phrases[1]
        wanted: list[Answerable] = [
            PhraseWanted(1, "joke-99", entry.sha256, 0),
            PhraseWanted(2, entry.id, "0" * 64, 0),
            PhraseWanted(3, entry.id, entry.sha256, entry.size + 1),
            PhraseWanted(4, entry.id, entry.sha256, entry.size),
        ]
        for message in wanted:
            await served.receive(message)
        unavailable = [PhraseEnd(n, ErrorCode.UNAVAILABLE) for n in (1, 2, 3)]
        assert wire.got == [*unavailable, PhraseEnd(4)], "a toy that has all of it gets no more"


async def test_a_store_that_fails_ends_the_phrase_and_nothing_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await FailingStore.open(StoreSettings(str(path)))
    phrases = await spoken(store)
    manifest = phrases.manifest(0)
    assert manifest is not None
    entry = manifest.phrases[0]
    wire = Wire()
    store.broken = True
    await upkeep(store, wire, phrases=phrases).receive(PhraseWanted(1, entry.id, entry.sha256, 0))
    assert wire.got == [PhraseEnd(1, ErrorCode.UNAVAILABLE)] and "phrase not read toy=teddy" in caplog.text
    store.broken = False
    await store.close()


# --- a whole relay ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def relay(folder: Path, pack: Sequence[Phrase] = PACK, **toys: ToySettings) -> AsyncIterator[ServedRelay]:
    """As `pommai relay run` has it, phrases too."""
    engines = Engines()
    settings = RelaySettings(ServerSettings(port=0), store=StoreSettings(str(folder / "relay.db")), toys=toys)
    store = await WatchedStore.open(settings.store)
    try:
        async with (
            app.running(settings, pipeline=engines.pipeline(), store=store, grace_s=1.0, pack=pack) as running,
            aiohttp.ClientSession() as client,
        ):
            yield ServedRelay(running.url, running.port, store, running.stop, client, engines)
    finally:
        await store.close()


async def test_a_toy_comes_back_with_much_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.05)
    limits = ToySettings(daily_limit_min=30, max_conversation_min=10, volume_ceiling=0.5)
    async with relay(tmp_path, teddy=limits) as served, opened(tmp_path / "relay.db") as cli:
        waiting = await cli.queue_command("teddy", "volume", value=0.3, now_s=time.time())
        await until(lambda: "phrases ready n=2 of=2" in caplog.text)
        async with served.knocking(await served.token()) as wire:
            welcome = await wire.greet()
            assert welcome.phrases is not None and welcome.limits is not None
            assert (welcome.limits.daily_limit_s, welcome.limits.max_conversation_s) == (1800, 600)
            assert await wire.until(Command) == Command(waiting, "volume", 0.3)
            await wire.send(CommandDone(waiting), EventBatch((event(1), event(2, urgent=True))))
            assert await wire.until(EventsStored) == EventsStored(("e1", "e2"))
            await wire.say(1)
            await wire.send(EventBatch((event(3),)), PhrasesWanted())
            assert await wire.until(EventsStored) == EventsStored(("e3",)), "in the middle of a turn"
            manifest = await wire.until(PhraseManifest)
            assert manifest.revision == welcome.phrases
            entry = manifest.phrases[1]
            await wire.send(PhraseWanted(1, entry.id, entry.sha256, 0))
            assert (await wire.until(PhraseEnd)).code is None
            pieces = b"".join(message.chunk for message in wire.got if isinstance(message, PhraseChunk))
            assert hashlib.sha256(pieces).hexdigest() == entry.sha256
            later = await cli.queue_command("teddy", "celebrate", now_s=time.time())
            assert await wire.until(Command) == Command(later, "celebrate"), "while it is connected"
        assert [command.id for command in await cli.pending_commands("teddy", time.time())] == [later]
        assert [stored.event.id for stored in await cli.list_events("teddy", 9)] == ["e1", "e2", "e3"]


async def test_a_toy_that_came_before_the_phrases_were_ready_is_told_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.05)
    async with relay(tmp_path) as served, served.knocking(await served.token()) as wire:
        welcome = await wire.greet()
        assert welcome.phrases is None, "they take longer than a welcome"
        manifest = await wire.until(PhraseManifest)
        assert (manifest.first, manifest.total) == (0, len(PACK))


async def test_a_restarted_relay_remembers_what_was_talked_today(tmp_path: Path) -> None:
    limits = ToySettings(daily_limit_min=1)
    async with relay(tmp_path, (), teddy=limits) as served:
        await served.store.record(TurnRecord("teddy", 1, time.time(), uplink_packets=500, downlink_packets=501))
    async with relay(tmp_path, (), teddy=limits) as served, served.knocking(await served.token()) as wire:
        welcome = await wire.greet()
        assert welcome.paused is ErrorCode.DAILY_LIMIT and welcome.phrases is None
        assert welcome.limits is not None and welcome.limits.used_today_s == pytest.approx(60.06)
