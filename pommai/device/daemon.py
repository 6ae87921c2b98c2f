"""`pommaid`, the daemon in the toy: everything put together, from the start of the process to its last sound.

One task group holds all that works in the background: a part that dies of a bug ends the process, which systemd starts
anew. What the world does (no network, no sound card, no disk) is no bug and ends nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from pommai import __version__
from pommai.bugs import places
from pommai.device.cache.cache import Cache
from pommai.device.mind.lights import Mood
from pommai.device.runner import Ending
from pommai.device.service.answers import Answers
from pommai.device.service.control import Control, LiveError
from pommai.device.service.hardware import Hardware, assemble
from pommai.device.service.loading import changes, load_settings
from pommai.device.service.logs import kept_log, start_logging
from pommai.device.service.supervisor import Supervisor, heed
from pommai.device.service.toy import Toy
from pommai.device.settings import DeviceSettings
from pommai.errors import AddressError, ConfigError, PommaiError, StoreError

_log = logging.getLogger(__name__)

END_S: Final = 1.8
"""From SIGTERM to the end of the process, whatever hangs: a disk, a thread in a dead sound card."""

STEP_S: Final = 0.4
"""How long each of the last polite steps may take."""

WORDS_S: Final = 0.1
"""How long the very last line of the log may take."""

BUG: Final = 70  # EX_SOFTWARE
HUNG: Final = 75  # EX_TEMPFAIL: told to end, and something hung


def main(argv: Sequence[str] | None = None) -> None:
    """The command `pommaid`. Exit codes are those of `pommai.errors`; when it was told to end 0, or `HUNG`."""
    options = _options(argv)
    start_logging(os.environ)
    code = _run(options.config, os.environ, only_check=options.check)
    logging.shutdown()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(code)  # Python would wait for it for ever: a disk or a driver that hangs
    sys.exit(code)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pommaid", description="The daemon in the toy.", allow_abbrev=False)
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the toy's settings (TOML); repeatable, later ones win; else /etc/pommai/device.toml, if there is one",
    )
    parser.add_argument("--check", action="store_true", help="check the settings and exit")
    parser.add_argument("--version", action="version", version=f"pommaid {__version__}")
    return parser.parse_args(argv)


def _run(files: Sequence[Path], environ: Mapping[str, str], *, only_check: bool = False) -> int:
    """One life of the toy; the exit code."""
    try:
        settings = load_settings(files, environ)
        if only_check:
            _log.info("daemon: the settings are good")
            return 0
        with _loop() as loop:
            return loop.run_until_complete(Daemon(settings, files, environ).live())
    except PommaiError as error:
        return _told(error)
    except Exception as error:
        _log.error("daemon: a bug ends the process: %s", places(error))  # never its text
        return BUG


def _told(error: PommaiError) -> int:
    """One line for the log, or one for each problem of the settings; the exit code."""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _log.error("settings: %s", problem)
    else:
        _log.error("daemon: %s (what to do: %s)", error, error.remedy)
    return error.exit_code


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not wait for its threads when it is closed, as `asyncio.run` would."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=STEP_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Daemon:
    """One life of the toy, and what it is told by signals."""

    def __init__(self, settings: DeviceSettings, files: Sequence[Path], environ: Mapping[str, str]) -> None:
        """`files`, `environ`: where a reload reads the settings again."""
        self._settings = settings
        self._files = files
        self._environ = environ
        self._began_s = time.monotonic()
        self._supervisor = Supervisor.from_environment(environ)
        self._control = Control(Path(settings.control.socket))
        self._reload = asyncio.Event()
        self._toy: Toy | None = None
        self._is_ordered_to_end = False  # known to the thread of the signals, and to the loop:
        self._is_told_to_end = False
        self._is_ready = False

    async def live(self) -> int:
        """Be the toy until it is told to end; the exit code.

        Raises LiveError or InUseError beside another daemon, HardwareError and MissingExtra without a button.
        """
        loop = asyncio.get_running_loop()
        heed((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), lambda number: self._ordered(number, loop))
        can_be_asked = self._listen()
        try:
            async with AsyncExitStack() as stack:
                cache = await Cache.open(self._settings.cache)
                stack.push_async_callback(cache.close)
                hardware = await assemble(self._settings, stack, self._sound_changed)
                await self._live_with(hardware, cache, can_be_asked=can_be_asked)
        finally:
            self._control.close()
        return 0

    async def _live_with(self, hardware: Hardware, cache: Cache, *, can_be_asked: bool) -> None:
        toy = self._toy = await Toy.put_together(self._settings, hardware, cache, self._alive)
        runner = toy.runner
        toy.logbook.on_news = lambda: self._supervisor.status(toy.logbook.summary)
        parts = toy.parts() | {"reload": self._reload_when_told(toy)}
        if can_be_asked:
            parts["control"] = self._control.serve(Answers(toy).answer)
        if hardware.problem or not can_be_asked:
            runner.show(Mood.TROUBLE)  # for whoever has just switched it on; the log names it
        if self._is_told_to_end:
            runner.stop()
        with kept_log(asyncio.get_running_loop(), toy.logbook.write):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part, name=name) for name, part in parts.items()]
                ending = await runner.run()
                self._supervisor.stopping()
                _log.info("daemon: ending, restart=%s", ending is Ending.RESTART)
                await _politely("the last page", toy.write_last_page())
                await _politely("the connection", toy.hang_up())
                for task in tasks:
                    task.cancel()

    def _listen(self) -> bool:
        """Whether the toy can be asked. Raises LiveError: two daemons would fight for one body."""
        try:
            self._control.listen()
        except LiveError:
            raise
        except AddressError as error:
            _log.warning("daemon: `pommai device` will not reach this toy: %s (what to do: %s)", error, error.remedy)
            return False
        return True

    # --- signals and signs of life ------------------------------------------------------------------------------------

    def _alive(self) -> None:
        """The runner's loop goes round: the only thing that feeds the watchdog."""
        if not self._is_ready:
            self._is_ready = True
            self._supervisor.ready()
            _log.info("daemon: ready, ms=%d", 1000 * (time.monotonic() - self._began_s))
        self._supervisor.alive()

    def _ordered(self, number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
        """SIGTERM or SIGINT: end in good order and in time; the next one ends the process at once. SIGHUP: reload.

        Not in the loop's thread, which may hang: that is when the time to end counts.
        """
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to reload or to end
            if number is signal.SIGHUP:
                loop.call_soon_threadsafe(self._reload.set)
                return
            if self._is_ordered_to_end:
                os._exit(128 + number)
            self._is_ordered_to_end = True
            last = threading.Timer(END_S, _leave_now)
            last.daemon = True
            last.start()
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._is_told_to_end = True
        if self._toy is not None:
            self._toy.runner.stop()

    def _sound_changed(self, present: bool) -> None:
        if self._toy is not None:
            self._toy.sound_changed(present)

    async def _reload_when_told(self, toy: Toy) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._supervisor.reloading()
            try:
                wanted = await asyncio.to_thread(load_settings, self._files, self._environ)
                live, later = changes(toy.settings, wanted)
                toy.use(wanted)
            except ConfigError as error:
                _told(error)
                _log.error("daemon: the settings of before stay")
            else:
                _log.info("daemon: settings read again, changed: %s", ", ".join(live) or "nothing")
                if later:
                    _log.warning("daemon: these settings need a restart: %s", ", ".join(later))
            self._supervisor.ready()


def _leave_now() -> None:
    """The last resort, in a thread of its own: something hangs, and whoever ends us waits no longer."""
    last_words = threading.Thread(
        target=_log.error, args=("daemon: something hangs, the process ends without it",), daemon=True
    )
    last_words.start()
    last_words.join(WORDS_S)  # the log may be what hangs
    os._exit(HUNG)


async def _politely(what: str, step: Awaitable[None]) -> None:
    """One of the last steps, in bounded time; that it failed must not keep the others from being taken."""
    try:
        async with asyncio.timeout(STEP_S):
            await step
    except TimeoutError:
        _log.warning("daemon: %s took too long to end", what)
    except StoreError as error:
        _log.warning("daemon: %s did not end well: %s", what, error)
