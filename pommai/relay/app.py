"""The relay put together: from process start to the last goodbye."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from pommai import starter
from pommai.bugs import places
from pommai.errors import ConfigError, StoreError
from pommai.relay import listening
from pommai.relay.allowance import Allowances, TalkStore, idle_limits, limit_problems, limits_of
from pommai.relay.loading import LoadedPipeline, Progress, load_pipeline, quiet, warm_up
from pommai.relay.metrics import Metrics
from pommai.relay.phrase_audio import PhraseStore, SpokenPhrases
from pommai.relay.server import RelayServer, RelayStore
from pommai.relay.settings import RelaySettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.relay.turn import Pipeline
from pommai.schema import Problem

__all__ = ["LoadedPipeline", "Progress", "RunningRelay", "load_pipeline", "run", "running", "serve", "warm_up"]

GRACE_S: Final = 5.0
"""How long the turns in flight may go on when the relay is told to stop."""

SWEEP_S: Final = 3600.0
"""Between two looks for turns and words that are older than the settings allow."""

LOOK_AFTER_S: Final = 3.0
"""Between two looks for connected toys whose token was revoked, or whose rest is over."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

T = TypeVar("T")

_log = logging.getLogger(__name__)


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, in a uvloop where there is one, else in asyncio's own loop."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """A relay that serves toys. `url`: what a toy on this machine connects to."""

    url: str
    port: int
    stop: Callable[[], Awaitable[None]]


class WholeStore(RelayStore, PhraseStore, TalkStore, Protocol):
    """All that a relay keeps."""


@asynccontextmanager
async def running(
    settings: RelaySettings,
    *,
    pipeline: Pipeline,
    store: WholeStore,
    grace_s: float = GRACE_S,
    sockets: Sequence[socket.socket] = (),
    pack: Sequence[starter.Phrase] = (),
) -> AsyncIterator[RunningRelay]:
    """A relay that serves until the block is left, or until its `stop` is called; pipeline and store stay open.

    `sockets`: already bound, if they are. `pack`: what it speaks, beside the turns, for toys to keep. Raises
    ConfigError, AddressError and StoreError before anything is served.
    """
    tls = listening.tls_context(settings.server)
    allowances = Allowances(limits_of(settings.toys))
    await allowances.recall(store)
    phrases = SpokenPhrases(pack, pipeline.guardian, pipeline.tts, store)
    server = RelayServer(settings, pipeline, store, metrics=Metrics(), allowances=allowances, phrases=phrases)
    bound = list(sockets) or listening.bind(settings.server)
    port: int = bound[0].getsockname()[1]
    stopped: asyncio.Future[None] | None = None

    async def stop() -> None:
        nonlocal stopped
        stopped = stopped or asyncio.ensure_future(server.stop(grace_s))
        await asyncio.shield(stopped)

    await server.start(bound, tls)
    rounds = {
        asyncio.create_task(_every(SWEEP_S, lambda: store.sweep(time.time())), name="sweep"),
        asyncio.create_task(_every(LOOK_AFTER_S, server.look_after), name="look after"),
        asyncio.create_task(_told(phrases.prepare(lambda: server.in_turn)), name="phrases"),
    }
    try:
        yield RunningRelay(listening.url(settings.server, port), port, stop)
    finally:
        for task in rounds:
            task.cancel()
        await asyncio.wait(rounds)
        await stop()


async def _every(interval_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do `work` on the store now, and again and again; a failure is for the log, and for the next time."""
    while True:
        await _told(work())
        await asyncio.sleep(interval_s)


async def _told(work: Awaitable[object]) -> None:
    """Wait for `work`. What fails is told and ends nothing: others, such as revoked toys, must still be looked for."""
    try:
        await work
    except StoreError as error:
        _log.error("the store failed: %s", error)
    except Exception as error:
        _log.error("a bug in the background: %s", places(error))


async def serve(
    settings: RelaySettings,
    *,
    progress: Progress = quiet,
    warn: Callable[[str], None] = _log.warning,
    ready: Callable[[RunningRelay], None],
) -> None:
    """Everything that `pommai relay run` does: load, call `ready`, serve until one of `SIGNALS`, say goodbye.

    The port is taken before the engines are loaded, so that a taken one is told at once; toys that come early wait.
    `warn`: called before `ready`, with what is right as settings and yet hardly meant. Raises ConfigError.
    """
    if found := problems(settings):
        raise ConfigError([str(problem) for problem in found])
    pack = starter.load() if settings.pipeline.phrases else ()
    with _told_to_stop() as told, _bound(settings) as sockets:
        store = await SqliteStore.open(settings.store)
        try:
            pipeline = await _unless(told, load_pipeline(settings, progress=progress))
            if pipeline is None:
                return
            try:
                async with running(settings, pipeline=pipeline, store=store, sockets=sockets, pack=pack) as relay:
                    for idle in idle_limits(settings.toys, await _known(store)):
                        warn(idle)
                    ready(relay)
                    await told.wait()
            finally:
                pipeline.close()
        finally:
            await store.close()


def problems(settings: RelaySettings) -> list[Problem]:
    """What a relay's settings say wrong together."""
    return [*listening.tls_problems(settings.server), *limit_problems(settings.toys)]


async def _known(store: SqliteStore) -> set[str]:
    """The toys that may come. Raises StoreError."""
    return {token.toy for token in await store.list_tokens() if token.revoked_at_s is None}


async def _unless(told: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if we are told to stop before it is there."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(told.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.wait({working, waiting})


@contextmanager
def _bound(settings: RelaySettings) -> Iterator[list[socket.socket]]:
    sockets = listening.bind(settings.server)
    try:
        yield sockets
    finally:
        for bound in sockets:
            bound.close()


@contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Set by the first of `SIGNALS`; the second one ends the process at once, as it always does.

    What is ignored when the process starts stays so: `nohup` protects from the end of a terminal.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    signals = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def release() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def tell(number: signal.Signals) -> None:
        release()
        if number is signal.SIGHUP:  # whoever expected a reload has to know
            _log.warning("SIGHUP ends the relay; start it again: changed settings take effect at a start")
        else:
            _log.info("%s ends the relay", number.name)
        told.set()

    for number in signals:
        loop.add_signal_handler(number, tell, number)
    try:
        yield told
    finally:
        release()
