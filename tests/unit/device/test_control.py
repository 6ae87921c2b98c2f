"""The control socket: who may connect, what is answered, and that nothing a client does ends the toy."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pommai.device.service.control import MAX_CLIENTS, MAX_LINE_BYTES, Answer, Control, LiveError
from pommai.errors import AddressError, RefusedError


async def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives back what was asked; refuses `no`."""
    if request["do"] == "no":
        raise RefusedError("the toy does not want to", remedy="Ask nicely.")
    return {"asked": request}


@asynccontextmanager
async def serving(path: Path, answer: Answer = echo, patience_s: float = 10.0) -> AsyncIterator[asyncio.Task[None]]:
    control = Control(path, patience_s=patience_s)
    control.listen()
    task = asyncio.create_task(control.serve(answer))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ExceptionGroup):
            await task
        control.close()  # for a server that was not given the time to begin


async def ask(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """The answers to `lines`, until the daemon closes or has answered each."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        answers = []
        for line in lines:
            writer.write(line)
            if reply := await reader.readline():
                answers.append(json.loads(reply))
    finally:
        writer.close()
    return answers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_several_requests_on_one_connection(path: Path) -> None:
    async with serving(path):
        first, second = await ask(path, b'{"do": "a", "x": 1}\n', b'{"do": "b"}\n')
    assert first == {"ok": True, "asked": {"do": "a", "x": 1}}
    assert second == {"ok": True, "asked": {"do": "b"}}


async def test_a_refusal_names_the_reason_and_the_way_out(path: Path) -> None:
    async with serving(path):
        (refused,) = await ask(path, b'{"do": "no"}\n')
    assert refused == {"ok": False, "error": "the toy does not want to", "remedy": "Ask nicely."}


@pytest.mark.parametrize(
    "line", [b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"do": 3}\n', b"\xff\xfe\n", b"[" * 60_000 + b"\n", b"1e999999\n"]
)
async def test_garbage_is_answered_and_the_connection_goes_on(path: Path, line: bytes) -> None:
    async with serving(path):
        answer, after = await ask(path, line, b'{"do": "a"}\n')
    assert not answer["ok"] and answer["error"] and answer["remedy"]
    assert after["ok"]


async def test_an_endless_line_is_refused_and_the_next_client_is_served(path: Path) -> None:
    async with serving(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (2 * MAX_LINE_BYTES))
        refused = json.loads(await reader.readline())
        with suppress(ConnectionError):  # what it did not read is refused by the kernel
            assert await reader.read() == b""
        writer.close()
        (after,) = await ask(path, b'{"do": "a"}\n')
    assert not refused["ok"] and str(MAX_LINE_BYTES) in refused["error"]
    assert after["ok"]


async def test_a_silent_client_is_dropped(path: Path) -> None:
    async with serving(path, patience_s=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_client_that_takes_no_answer_is_dropped(path: Path) -> None:
    serving_it: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()

    async def huge(request: Mapping[str, Any]) -> Mapping[str, Any]:
        serving_it.set_result(asyncio.current_task())
        return {"text": "x" * 10_000_000}

    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        async with serving(path, huge, patience_s=0.05):
            await loop.sock_connect(client, str(path))
            await loop.sock_sendall(client, b'{"do": "a"}\n')
            task = await serving_it
            assert task is not None
            await asyncio.wait_for(task, 5)
            received = 0
            while piece := await loop.sock_recv(client, 1 << 20):
                received += len(piece)
    assert 0 < received < 10_000_000


async def test_one_client_too_many_is_told_so(path: Path) -> None:
    served: list[asyncio.Task[Any]] = []

    async def noted(request: Mapping[str, Any]) -> Mapping[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        return {}

    async with serving(path, noted):
        clients = [await asyncio.open_unix_connection(path) for _ in range(MAX_CLIENTS)]
        for reader, writer in clients:
            writer.write(b'{"do": "a"}\n')
            assert json.loads(await reader.readline())["ok"]
        reader, surplus = await asyncio.open_unix_connection(path)
        refused = json.loads(await reader.readline())
        assert not refused["ok"] and str(MAX_CLIENTS) in refused["error"]
        assert await reader.read() == b""
        surplus.close()
        clients[0][1].close()
        await asyncio.wait_for(served[0], 5)
        (answer,) = await ask(path, b'{"do": "a"}\n')
        assert answer["ok"]
        for _, writer in clients:
            writer.close()


def test_the_socket_is_for_owner_and_group_and_is_gone_at_the_end(path: Path) -> None:
    before = os.umask(0o022)
    try:
        control = Control(path)
        control.listen()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert os.umask(0o022) == 0o022, "the process got its umask back"
        control.close()
        assert not path.exists()
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "failure",
    [None, LookupError("no such group: 'pommai'"), PermissionError(1, "Operation not permitted")],
    ids=["given", "no such group", "not in the group"],
)
async def test_the_socket_is_given_to_the_group_and_the_toy_lives_without_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    asked: list[str] = []

    def chown(what: Path, *, group: str) -> None:
        assert what == path and stat.S_IMODE(path.stat().st_mode) == 0o660
        asked.append(group)
        if failure is not None:
            raise failure

    monkeypatch.setattr(shutil, "chown", chown)
    async with serving(path):
        (answer,) = await ask(path, b'{"do": "a"}\n')
    assert answer["ok"] and asked == ["pommai"]


async def test_the_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path):
        (answer,) = await ask(path, b'{"do": "a"}\n')
    assert answer["ok"]


async def test_a_living_daemon_keeps_its_socket(path: Path) -> None:
    async with serving(path):
        with pytest.raises(LiveError, match="another daemon listens"):
            Control(path).listen()
        (answer,) = await ask(path, b'{"do": "a"}\n')
    assert answer["ok"]


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(AddressError, match="is no socket") as caught:
        Control(path).listen()
    assert "Remove it" in caught.value.remedy
    assert path.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    ("name", "remedy"), [("nowhere/control.sock", "Make its folder"), ("x" * 120, "at most 107 bytes")]
)
def test_a_path_that_cannot_be_is_named(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(AddressError, match="cannot be listened on") as caught:
        Control(tmp_path / name).listen()
    assert remedy in caught.value.remedy


def test_the_socket_of_a_later_daemon_is_not_removed(path: Path) -> None:
    control = Control(path)
    control.listen()
    path.rename(path.with_suffix(".old"))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        control.close()
    assert path.exists()


async def test_a_bug_in_an_answer_ends_the_server(path: Path) -> None:
    async def broken(request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ZeroDivisionError

    async with serving(path, broken) as server:
        assert await ask(path, b'{"do": "a"}\n') == []
        with pytest.raises(ExceptionGroup) as raised:
            await server
    assert raised.group_contains(ZeroDivisionError)
