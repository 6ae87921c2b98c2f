"""What `pommai relay command`, `commands` and `events` do: one toy's life as the relay's store knows it."""

from __future__ import annotations

import asyncio
import difflib
import sys
import time
from collections.abc import Mapping
from typing import Final

from pommai import starter
from pommai.cli import output
from pommai.cli.relay_session import iso, opened_store, shown
from pommai.cli.stopping import until_told
from pommai.errors import UnknownToy
from pommai.protocol import Command, ErrorCode, Value
from pommai.relay.settings import RelaySettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.relay.stores.upkeep_rows import MOMENTARY, MOMENTARY_S, StoredCommand, StoredEvent

LEVELS: Final = ("volume", "brightness")
ACTIONS: Final = (*LEVELS, "pause", "resume", "play", "celebrate", "restart")
"""What a toy can be told (`protocol.Command`)."""

POLL_S: Final = 0.2
"""Between two looks whether the toy has answered: the relay is another process, and the store is all that is shared."""

REFUSED: Final = 69
NOT_IN_TIME: Final = 75
"""Exit codes, as EX_UNAVAILABLE and EX_TEMPFAIL in BSD sysexits.h. A command that was replaced was not done in time."""


Carried = tuple[float | None, str | None]
"""The level, or the phrase's id, that a command carries."""


def carried(action: str, value: str | None) -> Carried:
    """What a command of the command line carries. Raises ValueError with what is wrong, for people."""
    if action not in ACTIONS:
        raise ValueError(f"no such action{_meant(action, ACTIONS)}: it is one of {', '.join(ACTIONS)}")
    if action in LEVELS:
        return _level(action, value), None
    if action == "play":
        ids = [phrase.id for phrase in starter.load()]
        if value not in ids:
            raise ValueError(f"play needs the id of a phrase{_meant(value or '', ids)}, such as {ids[0]}")
        return None, value
    if value is not None:
        raise ValueError(f"{action} takes no value")
    return None, None


def _level(action: str, value: str | None) -> float:
    try:
        level = float(value or "")
    except ValueError:
        level = -1.0
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"{action} needs a value from 0.0 to 1.0")
    return level


def _meant(word: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def tell(
    settings: RelaySettings, toy: str, action: str, carried: Carried, *, wait_s: float | None, as_json: bool
) -> None:
    """Have a toy do something, and say how it went. Raises UnknownToy; leaves with a code for what is not done."""

    async def told() -> tuple[str, StoredCommand | None]:
        async with opened_store(settings) as store:
            await _known(settings, store, toy, valid=True)
            value, phrase = carried
            id = await store.queue_command(toy, action, value=value, phrase=phrase, now_s=time.time())
            return id, await _done(store, id, time.monotonic() + (wait_s or 0.0))

    id, done = asyncio.run(until_told(told()))
    code = None if done is None else done.code
    if as_json:
        output.emit({"toy": toy, "id": id, "action": action, "done": done is not None and not code, "code": code})
    else:
        output.notice(_how_it_went(toy, action, done, wait_s))
    if code:
        sys.exit(NOT_IN_TIME if code == ErrorCode.REPLACED else REFUSED)
    if done is None and wait_s is not None:
        sys.exit(NOT_IN_TIME)


_LIMITED: Final = {
    "volume": "its volume ceiling still holds: `volume_ceiling` of its limits, which may leave it quieter",
    "resume": "its other limits still hold: a pause in the relay's settings, quiet hours, or its time for the day",
}
"""What the toy has taken may still change nothing: its answer says only that it was taken."""


def _how_it_went(toy: str, action: str, done: StoredCommand | None, wait_s: float | None) -> str:
    if done is not None and done.code == ErrorCode.REPLACED:
        return (
            f"[bold red]error:[/] a newer command has taken its place before [bold]{toy}[/] has answered.\n"
            f"[dim]what to do:[/] Nothing, if the newer one is right; `pommai relay commands {toy}` shows it."
        )
    if done is not None and done.code:
        return f"[bold red]error:[/] [bold]{toy}[/] could not do it: {done.code}"
    if done is not None:
        limited = _LIMITED.get(action)
        return f"[bold]{toy}[/] has taken it; {limited}." if limited else f"[bold]{toy}[/] has done it."
    look = f"`pommai relay commands {toy}` shows what became of it."
    at_most = f", within {MOMENTARY_S / 60:g} minutes" if action in MOMENTARY else ""
    if wait_s is None:
        return f"Queued: [bold]{toy}[/] does it when it is connected{at_most}. {look}"
    return (
        f"[bold red]error:[/] [bold]{toy}[/] has not done it within {wait_s:g} s: is it connected?\n"
        f"[dim]what to do:[/] It stays queued{at_most}; {look}"
    )


async def _done(store: SqliteStore, id: str, until_s: float) -> StoredCommand | None:
    """The command as the toy has answered it; None if it did not before `until_s`, or was forgotten."""
    while True:
        found = await store.find_command(id)
        if found is None or found.done_at_s is not None:
            return found
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return None
        await asyncio.sleep(min(POLL_S, left_s))


def list_commands(settings: RelaySettings, toy: str, last: int, *, as_json: bool) -> None:
    """Show what a toy was told lately, and what became of it. Raises UnknownToy."""

    async def listed() -> list[StoredCommand]:
        async with opened_store(settings) as store:
            found = await store.list_commands(toy, last)
            if not found:
                await _known(settings, store, toy)
            return found

    stored = asyncio.run(until_told(listed()))
    if as_json:
        for one in stored:
            times = {"queued": iso(one.created_at_s), "expires": iso(one.expires_at_s), "done": iso(one.done_at_s)}
            what = {"action": one.command.action, "value": one.command.value, "phrase": one.command.phrase}
            output.emit({"toy": toy, "id": one.command.id, **what, **times, "code": one.code})
    elif stored:
        rows = [[shown(one.created_at_s, seconds=True), _what(one.command), _state(one)] for one in stored]
        output.table(["queued", "command", "state"], rows, whole=("queued",))
    else:
        output.notice(f"[bold]{toy}[/] was told nothing yet. Tell it something: [bold]pommai relay command[/]")


def _what(command: Command) -> str:
    carried = command.phrase if command.value is None else f"{command.value:g}"
    return f"{command.action} {carried}" if carried else command.action


def _state(stored: StoredCommand) -> str:
    if stored.done_at_s is None:
        return "waits for the toy" if time.time() < stored.expires_at_s else "expired"
    at = shown(stored.done_at_s, seconds=True)
    if stored.code == ErrorCode.REPLACED:
        return f"replaced {at}"
    return f"refused {at}: {stored.code}" if stored.code else f"done {at}"


def list_events(settings: RelaySettings, toy: str, last: int, *, as_json: bool) -> None:
    """Show what a toy has reported lately. Raises UnknownToy."""

    async def listed() -> list[StoredEvent]:
        async with opened_store(settings) as store:
            found = await store.list_events(toy, last)
            if not found:
                await _known(settings, store, toy)
            return found

    stored = asyncio.run(until_told(listed()))
    if as_json:
        for one in stored:
            event = one.event
            times = {"at": iso(event.at_s), "received": iso(one.received_at_s)}
            what = {"kind": event.kind, "urgent": event.urgent, "data": dict(event.data)}
            output.emit({"toy": toy, "id": event.id, **times, **what})
    elif stored:
        rows = [
            [
                shown(one.event.at_s, seconds=True),
                one.event.kind,
                "urgent" if one.event.urgent else "",
                _data(one.event.data),
            ]
            for one in stored
        ]
        output.table(["time", "kind", "", "data"], rows, whole=("time",))
    else:
        output.notice(f"[bold]{toy}[/] has reported nothing yet.")


def _data(data: Mapping[str, Value]) -> str:
    return " ".join(f"{key}={value}" for key, value in data.items())


async def _known(settings: RelaySettings, store: SqliteStore, toy: str, *, valid: bool = False) -> None:
    """Raises UnknownToy for a toy without any token, or without a `valid` one."""
    tokens = await store.list_tokens(toy)
    if not any(token.revoked_at_s is None or not valid for token in tokens):
        raise UnknownToy(f"{toy} has no {'valid ' if valid else ''}token in {settings.store.path}")
