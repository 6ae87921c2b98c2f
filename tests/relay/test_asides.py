"""What is not about a turn waits in a line of its own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pommai.errors import StoreError
from pommai.protocol import (
    AudioFrame,
    Command,
    CommandDone,
    Error,
    ErrorCode,
    EventBatch,
    EventRecord,
    EventsStored,
    PhraseEnd,
    PhraseWanted,
    SpeakingEnd,
)
from pommai.relay import app, connection
from pommai.relay import asides as asides_module
from pommai.relay.asides import MAX_WAITING, Asides
from pommai.relay.providers.scripted import ScriptedLLM
from pommai.relay.upkeep import Answerable, Upkeep
from tests.relay.served import served, until
from tests.relay.test_resume import STORY
from tests.relay.toybox import Engines

BATCH = EventBatch((EventRecord("e1", "tap", 1.0),))


class SlowUpkeep(Upkeep):
    """Takes one message at a time, when it is let."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.taken: list[Answerable | None] = []
        self.free = asyncio.Event()
        self._failure = failure

    async def receive(self, message: Answerable) -> None:
        await self.free.wait()
        self.taken.append(message)
        if self._failure:
            raise self._failure

    async def look_again(self) -> None:
        await self.receive(None)  # type: ignore[arg-type]


async def test_messages_are_taken_in_order_and_only_very_many_make_the_toy_wait() -> None:
    upkeep = SlowUpkeep()
    async with Asides(upkeep) as asides:
        asides.look_again()
        await asyncio.sleep(0)  # the first is at work now
        for n in range(MAX_WAITING):
            await asides.put(CommandDone(f"c{n}"))
        asides.look_again()  # dropped: the next look finds the same
        waiting = asyncio.create_task(asides.put(BATCH))
        await asyncio.sleep(0)
        assert not waiting.done()
        upkeep.free.set()
        await waiting
        await until(lambda: len(upkeep.taken) == MAX_WAITING + 2)
    assert upkeep.taken == [None, *(CommandDone(f"c{n}") for n in range(MAX_WAITING)), BATCH]


@pytest.mark.parametrize("failure", [StoreError("the disk is full"), ConnectionResetError()])
async def test_a_message_that_fails_does_not_stop_the_next(failure: Exception) -> None:
    upkeep = SlowUpkeep(failure)
    upkeep.free.set()
    async with Asides(upkeep) as asides:
        for n in range(3 * MAX_WAITING):
            await asides.put(CommandDone(f"c{n}"))
        await until(lambda: len(upkeep.taken) == 3 * MAX_WAITING)


async def test_a_bug_ends_the_block() -> None:
    upkeep = SlowUpkeep(KeyError("a bug"))
    upkeep.free.set()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with Asides(upkeep) as asides:
            asides.look_again()
            await asyncio.get_running_loop().create_future()
    assert caught.group_contains(KeyError)


async def test_a_toy_that_leaves_right_after_its_answers_has_given_them() -> None:
    upkeep = SlowUpkeep()
    async with Asides(upkeep) as asides:
        await asides.put(BATCH)
        await asyncio.sleep(0)  # that one is at work now
        for message in (CommandDone("c1"), PhraseWanted(7, "joke-1", "0" * 64, 0), BATCH, CommandDone("c2")):
            await asides.put(message)
        asides.look_again()
        asyncio.get_running_loop().call_soon(upkeep.free.set)
    assert upkeep.taken == [BATCH, CommandDone("c1"), CommandDone("c2")], "the rest comes again by itself"


async def test_a_disk_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asides_module, "LAST_S", 0.05)
    upkeep = SlowUpkeep()
    async with asyncio.timeout(5):
        async with Asides(upkeep) as asides:
            await asides.put(CommandDone("c1"))
    assert upkeep.taken == []


# --- over real sockets ------------------------------------------------------------------------------------------------


async def test_events_are_acknowledged_while_a_reply_is_heard(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([STORY]))) as relay, relay.toy() as toy:
        await toy.say(1)
        await toy.until(AudioFrame)
        await toy.send(BATCH, PhraseWanted(7, "joke-1", "0" * 64, 0))
        assert await toy.until(EventsStored) == EventsStored(("e1",))
        assert await toy.until(PhraseEnd) == PhraseEnd(7, ErrorCode.UNAVAILABLE)
        assert SpeakingEnd(1) not in toy.got
        await toy.until(SpeakingEnd)
        assert [stored.event for stored in await relay.store.list_events("teddy", 10)] == list(BATCH.events)


async def test_a_command_reaches_a_toy_that_connects_and_one_that_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    async with served(tmp_path) as relay:
        token = await relay.token()
        first = await relay.store.queue_command("teddy", "volume", now_s=time.time(), value=0.5)
        async with relay.toy(token=token) as toy:
            got = await toy.until(Command)
            assert (got.id, got.action, got.value) == (first, "volume", 0.5)
            await toy.send(CommandDone(first))
            second = await relay.store.queue_command("teddy", "pause", now_s=time.time())
            assert (await toy.until(Command)).id == second
        async with relay.toy(token=token) as toy:
            assert (await toy.until(Command)).id == second, "the first was answered, the second was not"


async def test_a_toy_that_restarts_answers_and_is_gone_and_the_answer_counts(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        ids = [await relay.store.queue_command("teddy", "restart", now_s=time.time()) for _ in range(4)]
        async with relay.toy() as toy:
            assert (await toy.until(Command)).id == ids[0]
            await toy.send(BATCH, *(CommandDone(id) for id in ids))  # and closes: all in the same moment
        async with asyncio.timeout(10):
            while await relay.store.pending_commands("teddy", time.time()):  # asking is what gives way to the others
                pass


async def test_an_aside_before_the_hello_or_with_garbage_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_BAD_MESSAGES", 3)
    async with served(tmp_path) as relay:
        async with relay.knocking(await relay.token()) as toy:
            await toy.send(BATCH)
            assert await toy.next() == Error(ErrorCode.OUT_OF_ORDER)
        async with relay.toy() as toy:
            for _ in range(3):
                await toy.send(EventBatch((EventRecord("two words", "tap", 1.0),)))
            assert await toy.closed() == 1008
            assert toy.got[1:] == [Error(ErrorCode.BAD_MESSAGE)] * 3
