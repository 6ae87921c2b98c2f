"""The relay as its own process, killed in the middle of a turn, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pommai.audio import SPEECH
from pommai.device.mind.states import Idle, Speaking
from pommai.device.ports import Note, RelayLost, StateChanged
from pommai.device.settings import DeviceSettings, RelayLink
from pommai.device.virtual import VirtualToy
from pommai.schema import Secret
from tests.unit.test_audio import sine

QUESTION = sine(300, 1.0, peak=0.3)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A relay on scripted providers, on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = tmp_path / "relay.toml"
    engines = "\n".join(f'{stage} = "scripted"' for stage in ("stt", "moderator", "llm", "tts"))
    path.write_text(
        f'[server]\nport = {port}\n[pipeline]\n{engines}\n[store]\npath = "{tmp_path}/relay.db"\n', encoding="utf-8"
    )
    return path


def port_of(config: Path) -> int:
    return int(config.read_text(encoding="utf-8").split("port = ")[1].split()[0])


async def pommai(*args: str) -> str:
    """The standard output of a command that succeeds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pommai", *args, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@asynccontextmanager
async def relay_process(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`pommai relay run`, accepting connections; ended when the block is left, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pommai", "relay", "run", "--config", str(config), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        await accepting(port_of(config), process)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def accepting(port: int, process: asyncio.subprocess.Process) -> None:
    """Return when the port accepts connections; fail if the process ends first."""
    while process.returncode is None:
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the relay ended with {process.returncode}")


class Watch:
    """Lets a test wait for a state of the toy, and tells why it lost the relay."""

    def __init__(self) -> None:
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self._states: asyncio.Queue[type] = asyncio.Queue()

    def noticed(self, note: Note) -> None:
        match note:
            case StateChanged(state):
                self._states.put_nowait(type(state))
            case RelayLost(error):
                self.lost.put_nowait(str(error))

    async def until(self, wanted: type) -> None:
        while await self._states.get() is not wanted:
            pass


async def token_for(config: Path) -> DeviceSettings:
    """The settings of a toy that this relay lets in."""
    added = json.loads(await pommai("relay", "token", "add", "teddy", "--config", str(config), "--json"))
    url = f"ws://127.0.0.1:{port_of(config)}/v1/toy"
    return DeviceSettings(relay=RelayLink(url=url, token=Secret(added["token"])))


async def test_a_killed_relay_is_an_error_for_the_turn_and_no_end_for_the_toy(config: Path) -> None:
    device, watch = await token_for(config), Watch()
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay_process(config))
        toy = await stack.enter_async_context(VirtualToy(device, observer=watch))
        turn = asyncio.create_task(toy.say(QUESTION))
        await watch.until(Speaking)
        first.kill()
        lost = await turn
        assert lost.error is not None
        await stack.enter_async_context(relay_process(config))
        await watch.until(Idle)
        again = await toy.say(QUESTION)
        assert again.error is None
        assert SPEECH.ms(len(again.reply_pcm)) > 200


async def test_a_stopped_relay_says_goodbye_and_exits_with_0(config: Path) -> None:
    device, watch = await token_for(config), Watch()
    async with relay_process(config) as process, VirtualToy(device, observer=watch):
        await watch.until(Idle)
        os.kill(process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert await watch.lost.get() == "the relay said goodbye (shutting_down)"
