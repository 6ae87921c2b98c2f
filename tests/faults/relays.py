"""A real relay in a process of its own, with scripted engines: started, frozen, killed, and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final, Self

from pommai.relay import auth
from pommai.relay.settings import StoreSettings
from pommai.relay.stores.sqlite import SqliteStore
from tests.faults.proxy import reserved

PATIENCE_S: Final = 20.0
STAGES: Final = ("stt", "moderator", "llm", "tts")


class RelayProcess:
    """Its folder and its port outlive its processes."""

    def __init__(self, folder: Path, *, tls: tuple[Path, Path] | None = None, before: Sequence[str] = ()) -> None:
        """`tls`: the files of certificate and key. `before`: words that go before the command, such as `unshare`."""
        self._before = before
        self._holder = reserved()
        self.port: int = self._holder.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/v1/toy"
        self._database = folder / "relay.db"
        self._config = folder / "relay.toml"
        self._log = folder / "relay.log"
        certificate = "" if tls is None else f'tls_cert = "{tls[0]}"\ntls_key = "{tls[1]}"\n'
        engines = "\n".join(f'{stage} = "scripted"' for stage in STAGES)
        self._config.write_text(
            f"[server]\nport = {self.port}\n{certificate}[pipeline]\n{engines}\n"
            f'[store]\npath = "{self._database}"\nkeep_words_days = 1\n',
            encoding="utf-8",
        )
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.kill()
        self._holder.close()

    async def start(self) -> None:
        """Begin to serve; returns when toys may come."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POMMAI_")}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._before, sys.executable, "-m", "pommai"),
                *("relay", "run", "--config", str(self._config), "--json", "-v"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=clean,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line and json.loads(line)["ready"], self._log.read_text(encoding="utf-8")

    async def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()
        self._process = None

    async def end(self) -> int:
        """Tell it to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        await self._process.communicate()
        return self._process.returncode or 0

    async def until_logged(self, text: str) -> None:
        """Wait until it has said so on stderr."""
        async with asyncio.timeout(2 * PATIENCE_S):
            while text not in self.log:  # noqa: ASYNC110 - a file tells nobody that it grows
                await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """Let it stand still in whatever it does; `kill` ends it for good."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    @property
    def log(self) -> str:
        """What it said on stderr."""
        return self._log.read_text(encoding="utf-8")

    async def token(self, toy: str = "teddy") -> str:
        """A new token for a toy."""
        async with self.store() as store:
            return (await auth.add_token(store, toy, time.time()))[0].reveal()

    async def revoke(self, toy: str = "teddy") -> None:
        """Let none of a toy's tokens in any more."""
        async with self.store() as store:
            assert await store.revoke_tokens(toy, time.time())

    @asynccontextmanager
    async def store(self) -> AsyncIterator[SqliteStore]:
        """The relay's store, beside the relay itself, as the command line has it."""
        store = await SqliteStore.open(StoreSettings(str(self._database)))
        try:
            yield store
        finally:
            await store.close()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read its database as it is now."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def events(self, toy: str = "teddy") -> list[tuple[str, str, bool]]:
        """Id, kind and urgency of what the toy has reported, in the order in which it was stored."""
        sql = "SELECT id, kind, urgent FROM events WHERE toy = ? ORDER BY rowid"
        return [(id, kind, bool(urgent)) for id, kind, urgent in self.rows(sql, toy)]
