"""What the commands of `pommai relay` do, once their options are known."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pommai.cli import output
from pommai.cli.stopping import until_told
from pommai.config import if_there, load
from pommai.errors import UnknownToy
from pommai.relay import auth
from pommai.relay.ports import ToyToken
from pommai.relay.settings import RelaySettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.schema import Check

DEFAULT_CONFIG: Final = Path("/etc/pommai/relay.toml")

LAST_S: Final = 253_370_764_800.0
"""The year 9999: later times are shown as this one."""


def settings(
    config: Path | None, *, given: Mapping[str, object] | None = None, check: Check[RelaySettings] | None = None
) -> RelaySettings:
    """The settings of the file and the environment, with what the command line says instead. Raises ConfigError.

    `check`: for a relay that is to run. Whoever gives a token needs no certificate.
    """
    files = [config] if config else if_there(DEFAULT_CONFIG)
    return load(RelaySettings, files, os.environ, given=given, check=check)


def settings_to_run(config: Path | None, given: Mapping[str, object]) -> RelaySettings:
    """The same for a relay that is to run: checked as a whole. Raises ConfigError with every problem."""
    from pommai.relay import app  # half a second, which the commands about tokens need not wait

    return settings(config, given=given, check=app.problems)


def run(settings: RelaySettings, *, as_json: bool) -> None:
    """Serve until told to stop; one line, or one JSON object, says when and where toys may come."""
    started_s = time.monotonic()
    from pommai.relay import app

    warnings: list[str] = []

    def ready(relay: app.RunningRelay) -> None:
        spinner.close()
        ready_s = round(time.monotonic() - started_s, 2)
        if as_json:
            served = {"ready": True, "url": relay.url, "port": relay.port, "ready_s": ready_s}
            output.emit(served | {"warnings": warnings})
        else:
            for warning in warnings:
                output.notice(f"[bold yellow]warning:[/] {output.plain(warning)}")
            output.notice(f"[green]ready[/] in {ready_s:.1f} s: toys connect to [bold]{relay.url}[/]  (Ctrl-C stops)")

    with ExitStack() as spinner:
        progress = spinner.enter_context(output.loading(quiet=as_json))
        app.run(app.serve(settings, progress=progress, warn=warnings.append, ready=ready))


def add_token(settings: RelaySettings, toy: str, *, as_json: bool) -> None:
    """Make a token and show it."""

    async def add() -> tuple[str, ToyToken, int]:
        async with opened_store(settings) as store:
            secret, token = await auth.add_token(store, toy, time.time())
            valid = [each for each in await store.list_tokens(toy) if each.revoked_at_s is None]
            return secret.reveal(), token, len(valid)

    secret, token, n_valid = asyncio.run(until_told(add()))
    if n_valid > 1:
        output.notice(
            f"[bold yellow]warning:[/] [bold]{toy}[/] has {n_valid} valid tokens now, and each lets a toy in. To keep "
            f"one alone: [bold]pommai relay token revoke {toy}[/] revokes them all, then add one."
        )
    if as_json:
        output.emit({"toy": toy, "token": secret, "token_id": token.token_id})
        return
    output.results().print(secret, soft_wrap=True)
    output.notice(
        f"This is the token of [bold]{toy}[/], shown this once. Give it to the toy as POMMAI_RELAY_TOKEN,\n"
        "or as the systemd credential pommai_relay_token."
    )


def list_tokens(settings: RelaySettings, *, as_json: bool) -> None:
    """Show every token that the relay knows, without the tokens themselves."""

    async def listed() -> list[ToyToken]:
        async with opened_store(settings) as store:
            return await store.list_tokens()

    tokens = asyncio.run(until_told(listed()))
    if as_json:
        for token in tokens:
            times = {
                "created": iso(token.created_at_s),
                "last_used": iso(token.last_used_at_s),
                "revoked": iso(token.revoked_at_s),
            }
            output.emit({"toy": token.toy, "token_id": token.token_id, **times})
    elif tokens:
        output.table(
            ["toy", "id", "made", "last used", "state"],
            [
                [
                    token.toy,
                    token.token_id,
                    shown(token.created_at_s),
                    shown(token.last_used_at_s) or "never",
                    "valid" if token.revoked_at_s is None else f"revoked {shown(token.revoked_at_s)}",
                ]
                for token in tokens
            ],
            whole=("id", "made", "last used"),
        )
    else:
        output.notice("No toy has a token yet. Make one: [bold]pommai relay token add TOY[/]")


def revoke_tokens(settings: RelaySettings, toy: str, *, as_json: bool) -> None:
    """Revoke every token of a toy. Raises UnknownToy if it has none that is valid."""

    async def revoke() -> int:
        async with opened_store(settings) as store:
            return await store.revoke_tokens(toy, time.time())

    n_tokens = asyncio.run(until_told(revoke()))
    if not n_tokens:
        raise UnknownToy(f"{toy} has no valid token in {settings.store.path}")
    if as_json:
        output.emit({"toy": toy, "revoked": n_tokens})
    else:
        output.notice(f"{n_tokens} token{'s' if n_tokens > 1 else ''} of [bold]{toy}[/] revoked.")


def forget(settings: RelaySettings, toy: str, *, as_json: bool) -> None:
    """Remove everything that is stored about a toy."""

    async def forgotten() -> int:
        async with opened_store(settings) as store:
            return await store.forget(toy)

    n_turns = asyncio.run(until_told(forgotten()))
    if as_json:
        output.emit({"toy": toy, "turns_removed": n_turns})
    else:
        output.notice(f"{n_turns} turn{'' if n_turns == 1 else 's'} of [bold]{toy}[/] removed.")


@asynccontextmanager
async def opened_store(settings: RelaySettings) -> AsyncIterator[SqliteStore]:
    """The relay's store, open for the block. Raises StoreError."""
    store = await SqliteStore.open(settings.store)
    try:
        yield store
    finally:
        await store.close()


def iso(unix_s: float | None) -> str | None:
    """A time for programs: ISO 8601 in UTC, to the second."""
    return None if unix_s is None else _utc(unix_s).isoformat(timespec="seconds")


def shown(unix_s: float | None, *, seconds: bool = False) -> str:
    """A time for people: this machine's own, to the minute, or to the second."""
    if unix_s is None:
        return ""
    return f"{_utc(unix_s).astimezone():{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}}"


def _utc(unix_s: float) -> datetime:
    """A moment; a toy's clock may be far off, and a calendar has an end."""
    return datetime.fromtimestamp(min(unix_s, LAST_S), UTC)
