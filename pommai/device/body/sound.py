"""The real microphone and speaker: `SoundCard` for a command, `PatientSoundCard` for a daemon that lives for months.

Both streams stay open from the beginning, because a sound card may take its time to begin (1.5 s have been measured).
Everything of PortAudio that may block runs in threads; one that hangs is left behind after a second, so that a broken
card never holds up the loop or the end of the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from pommai.device.body.ends import SoundCardMic, SoundCardSpeaker
from pommai.device.body.lines import Lines
from pommai.device.body.portaudio import in_thread, kernel_cards, open_card
from pommai.errors import HardwareError, MissingExtra

_log = logging.getLogger(__name__)

FIRST_SOUND_S: Final = 5.0
"""How long a sound card may take to begin."""

CLOSE_S: Final = 1.0
"""How long a sound card may take to close; SIGTERM leaves two seconds for everything."""

CHECK_S: Final = 0.25
"""How often a patient card looks whether it is still there."""

MISSED_CHECKS: Final = 6
"""So many looks in a row without a callback, and the card has gone: 1.5 s. To count looks and not seconds forgives a
process that was stopped for a while."""

SEARCH_S: Final = 5.0
"""How often a missing card is looked for at first, and whether the kernel has another one afterwards."""

EAGER_SEARCHES: Final = 12
CALM: Final = 6
"""After so many searches in vain only every sixth is made, unless the kernel has another card. Each costs 20 ms of CPU
on a server, ten times that on the toy, and with ALSA's plug-ins some 12 kB of memory that their libraries never give
back; without them, as on a plain Raspberry Pi OS, 0.1 kB."""


class SoundCard:
    """`mic` and `speaker` of one sound card; use it as `async with SoundCard() as card`.

    `name`: a part of the name of the card, in any case, if it is not the default one. Entering raises HardwareError if
    there is no card that hears and plays 24 or 48 kHz, and MissingExtra without PyAudio.
    """

    def __init__(self, name: str = "") -> None:
        self.mic = SoundCardMic()
        self.speaker = SoundCardSpeaker()
        self._name = name
        self._connection: _Connection | None = None
        self._closing: Future[None] | None = None

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._disconnect()

    @property
    def present(self) -> bool:
        """Whether there is a card, as far as is known."""
        return self._connection is not None

    async def _connect(self) -> None:
        connection = _Connection(self._name, self.mic, self.speaker)
        try:
            await connection.open()
            self._connection = connection
        finally:
            if self._connection is None:
                await self._let_go(connection)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._let_go(connection)
        elif self._closing is not None:
            await self._until_closed(self._closing)  # a wait for it was cancelled

    async def _let_go(self, connection: _Connection) -> None:
        self._closing = connection.close()
        await self._until_closed(self._closing)

    async def _until_closed(self, closing: Future[None]) -> None:
        """Wait for a card to close; one that hangs is left behind in its thread."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.wrap_future(closing)
        except TimeoutError:
            _log.warning("sound: the card hangs and is left behind")


class PatientSoundCard(SoundCard):
    """A sound card that may be missing, go, and come back: it is looked for every few seconds, for ever.

    Entering never raises for a card that is not there (nor without PyAudio); it returns after the first attempt, after
    6 s at the latest. While there is none, `mic.open`, `speaker.write` and `speaker.drain` raise HardwareError.
    `on_change` is called in the loop with True when a card was found and with False when it was lost. A bug in the
    search cancels whoever is inside, as in any task group.
    """

    def __init__(
        self, name: str = "", *, on_change: Callable[[bool], None] = lambda present: None, search_s: float = SEARCH_S
    ) -> None:
        super().__init__(name)
        self._on_change = on_change
        self._search_s = search_s
        self._told = False
        self._in_vain = 0
        self._kernel_cards = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._search()
        self._stack.push_async_callback(self._disconnect)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(group.create_task(self._keep(), name="sound card").cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def _keep(self) -> None:
        while True:
            if self._connection is None:
                await self._until_worth_a_search()
                await self._search()
            else:
                code = await self._connection.lost()
                _log.warning("sound: the card has gone, code=%s; looking for it every %.1f s", code, self._search_s)
                self._told = True
                self.mic.lose()
                self.speaker.lose()
                self._on_change(False)
                await self._disconnect()

    async def _until_worth_a_search(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self._search_s)
            looks += 1
            if self._closing is not None and not self._closing.done():
                continue  # PortAudio is still busy with the last one, and allows no second
            if self._in_vain < EAGER_SEARCHES or looks % CALM == 0 or kernel_cards() != self._kernel_cards:
                return

    async def _search(self) -> None:
        self._kernel_cards = kernel_cards()
        self._in_vain += 1
        try:
            await self._connect()
        except (HardwareError, MissingExtra) as error:
            if not self._told:  # once, not at every search
                self._told = True
                _log.warning("sound: %s; looking for it every %.1f s", error, self._search_s)
        else:
            self._told = False
            self._in_vain = 0
            self._on_change(True)


class _Connection:
    """One opening of a card, from the first attempt to the end."""

    def __init__(self, name: str, mic: SoundCardMic, speaker: SoundCardSpeaker) -> None:
        self._mic = mic
        self._speaker = speaker
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(self._loop, mic, speaker)
        self._opening = in_thread(lambda: open_card(name, self._lines), "sound card: open")

    async def open(self) -> None:
        """Wait for the first sound in and out. Raises HardwareError or MissingExtra; close it in any case."""
        try:
            async with asyncio.timeout(FIRST_SOUND_S):
                card = await asyncio.wrap_future(self._opening)
                for began in self._lines.began:
                    await began.wait()
        except TimeoutError:
            raise HardwareError(f"the sound card gave no sound within {FIRST_SOUND_S:.0f} s") from None
        except OSError as error:
            raise HardwareError(f"the sound card cannot be opened: {error}") from error
        self._mic.connect(self._loop)
        self._speaker.connect(self._loop, card.latency_s)
        _log.info("sound: the card is open, in_hz=%d out_hz=%d", *self._lines.rates_hz)

    async def lost(self) -> str:
        """Return when the card has gone, with the way it was seen: `inactive` for PortAudio, `silent` without calls."""
        beats, missed = list(self._lines.beats), 0
        while missed < MISSED_CHECKS:
            if not self._opening.result().is_active():
                return "inactive"
            await asyncio.sleep(CHECK_S)
            before, beats = beats, list(self._lines.beats)
            missed = missed + 1 if any(now == then for now, then in zip(beats, before, strict=True)) else 0
        return "silent"

    def close(self) -> Future[None]:
        """Begin to let go of the card, in a thread; its lines are dead from now on."""
        self._lines.cut()
        self._mic.lose()
        self._speaker.lose()
        return in_thread(self._close, "sound card: close")

    def _close(self) -> None:
        if self._opening.exception() is None:  # waits for an opening that is still under way
            self._opening.result().close()
