"""The relay as a whole: from its settings to a process that is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from pommai.errors import AddressError, ConfigError, MissingExtra, StoreError
from pommai.protocol import (
    SUBPROTOCOL,
    AudioFrame,
    ErrorCode,
    Goodbye,
    SpeakingEnd,
)
from pommai.relay import app, auth, loading
from pommai.relay.ports import Outcome
from pommai.relay.providers import local_engine
from pommai.relay.providers.scripted import Failure, ScriptedLLM, ScriptedSTT
from pommai.relay.settings import PipelineSettings, RelaySettings, ServerSettings, StoreSettings, ToySettings
from pommai.relay.stores.sqlite import SqliteStore
from tests.relay.served import PATIENCE_S, ToyWire, until
from tests.relay.test_store import rows
from tests.relay.toybox import Engines

SCRIPTED = PipelineSettings(stt="scripted", moderator="scripted", llm="scripted", tts="scripted")


def settings_in(folder: Path, server: ServerSettings | None = None) -> RelaySettings:
    return RelaySettings(server or ServerSettings(port=0), SCRIPTED, StoreSettings(str(folder / "relay.db")))


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@asynccontextmanager
async def store_in(folder: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(StoreSettings(str(folder / "relay.db")))
    try:
        yield store
    finally:
        await store.close()


# --- the pipeline -----------------------------------------------------------------------------------------------------


async def test_scripted_engines_by_settings_answer_a_whole_turn(tmp_path: Path) -> None:
    parts: list[str] = []
    settings = settings_in(tmp_path)
    pipeline = await app.load_pipeline(settings, progress=parts.append)
    assert parts[0] == "hearing, judging, thinking, speaking" and parts[-1] == "a first turn"
    async with store_in(tmp_path) as store, app.running(settings, pipeline=pipeline, store=store) as relay:
        token, _ = await auth.add_token(store, "teddy", 0.0)
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(relay.url, headers=headers, protocols=[SUBPROTOCOL]) as socket,
        ):
            toy = ToyWire(socket)
            await toy.greet()
            await toy.say(1)
            await toy.until(SpeakingEnd)
    pipeline.close()


async def test_every_engine_has_worked_before_the_first_toy_comes() -> None:
    engines = Engines()
    await app.warm_up(engines.pipeline())
    assert (engines.stt.calls, engines.llm.calls, engines.tts.calls) == (1, 1, 2)
    assert engines.moderator.judged and not engines.at_work()


async def test_warming_up_ends_at_the_first_audio_and_not_at_the_last() -> None:
    engines = Engines(llm=ScriptedLLM(["A very long story that takes the toy a minute to tell. " * 20]))
    async with asyncio.timeout(3):
        await app.warm_up(engines.pipeline())
    assert not engines.at_work()


async def test_an_engine_that_fails_at_its_first_turn_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    engines = Engines(stt=ScriptedSTT(["x"], failure=Failure()))
    await app.warm_up(engines.pipeline())
    assert "first turn failed code=unavailable" in caplog.text


async def test_a_missing_engine_names_the_command_that_installs_it_and_closes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Engine:
        def close(self) -> None:
            closed.append("stt")

    async def stt(self: loading._Load) -> object:
        self.engines.append(Engine())
        return Engine()

    monkeypatch.setattr(loading._Load, "stt", stt)
    monkeypatch.setitem(sys.modules, "hibari", None)
    settings = replace(settings_in(tmp_path), pipeline=replace(SCRIPTED, tts="local"))
    with pytest.raises(MissingExtra, match="make engines"):
        await app.load_pipeline(settings)
    assert closed == ["stt"]


def test_telemetry_of_the_engines_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with local_engine.importing("test"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


# --- starting and stopping --------------------------------------------------------------------------------------------


def test_the_loop_is_uvloop_where_there_is_one_and_asyncios_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def which() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert app.run(which()).startswith("uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert app.run(which()).startswith("asyncio")


async def test_where_it_listens(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    pipeline = Engines().pipeline()
    async with store_in(tmp_path) as store, app.running(settings, pipeline=pipeline, store=store) as relay:
        assert relay.port > 0 and relay.url == f"ws://127.0.0.1:{relay.port}/v1/toy"
        taken = replace(settings, server=ServerSettings(port=relay.port))
        with pytest.raises(AddressError, match=f"127.0.0.1:{relay.port} is taken"):
            async with app.running(taken, pipeline=pipeline, store=store):
                pass


async def test_what_is_wrong_is_told_before_anything_is_loaded_or_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*args: object, **options: object) -> None:
        raise AssertionError("engines were loaded")

    monkeypatch.setattr(app, "load_pipeline", never)
    settings = settings_in(tmp_path)
    open_to_all = replace(settings, server=ServerSettings("0.0.0.0", port=0))
    with pytest.raises(ConfigError, match="no TLS"):
        await app.serve(open_to_all, ready=print)
    with pytest.raises(ConfigError, match="quiet_from"):
        await app.serve(replace(settings, toys={"teddy": ToySettings(quiet_from="x")}), ready=print)
    with pytest.raises(AddressError):
        await app.serve(replace(settings, server=ServerSettings("192.0.2.77", insecure=True)), ready=print)
    with pytest.raises(StoreError):
        await app.serve(replace(settings, store=StoreSettings("/nowhere/relay.db")), ready=print)
    assert not files_in(tmp_path)


@pytest.fixture
def certified(tmp_path: Path) -> ServerSettings:
    """Server settings with a certificate for 127.0.0.1."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    return ServerSettings(port=0, tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))


async def test_a_relay_with_a_certificate_speaks_tls_only(tmp_path: Path, certified: ServerSettings) -> None:
    trust = ssl.create_default_context(cafile=certified.tls_cert)
    async with (
        store_in(tmp_path) as store,
        app.running(settings_in(tmp_path, certified), pipeline=Engines().pipeline(), store=store) as relay,
        aiohttp.ClientSession() as client,
    ):
        assert relay.url.startswith("wss://")
        token, _ = await auth.add_token(store, "teddy", 0.0)
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        async with client.ws_connect(relay.url, headers=headers, protocols=[SUBPROTOCOL], ssl=trust) as socket:
            toy = ToyWire(socket)
            await toy.greet()
            await toy.say(1)
            await toy.until(SpeakingEnd)
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"http://127.0.0.1:{relay.port}/healthz")


async def test_old_turns_are_swept_and_a_store_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "SWEEP_S", 0.01)
    swept: list[float] = []

    async def sweep(now_s: float) -> int:
        swept.append(now_s)
        if len(swept) == 1:
            raise StoreError("locked")
        return 0

    async with store_in(tmp_path) as store:
        monkeypatch.setattr(store, "sweep", sweep)
        async with app.running(settings_in(tmp_path), pipeline=Engines().pipeline(), store=store):
            await until(lambda: len(swept) >= 3)
    assert abs(swept[0] - time.time()) < PATIENCE_S
    assert "the store failed: locked" in caplog.text


async def test_a_bug_in_the_background_is_told_without_words_and_ends_no_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.01)
    looked: list[int] = []

    async def look_after(self: app.RelayServer) -> None:
        looked.append(1)
        raise KeyError("what a child said")

    async def prepare(self: app.SpokenPhrases, busy: object) -> None:
        raise ZeroDivisionError("what a child said")

    monkeypatch.setattr(app.RelayServer, "look_after", look_after)
    monkeypatch.setattr(app.SpokenPhrases, "prepare", prepare)
    async with (
        store_in(tmp_path) as store,
        app.running(settings_in(tmp_path), pipeline=Engines().pipeline(), store=store),
    ):
        await until(lambda: len(looked) >= 3)
    assert "KeyError at" in caplog.text and "ZeroDivisionError at" in caplog.text
    assert "what a child said" not in caplog.text


# --- the process ------------------------------------------------------------------------------------------------------

SLOW_TOY = """
import sys
from pommai.relay import app, loading
from pommai.relay.providers.scripted import ScriptedLLM
from tests.relay.test_app import settings_of_process
async def llm(self):
    return ScriptedLLM(["This is a long sentence that takes the toy a good while to say aloud. " * 20])
loading._Load.llm = llm
app.GRACE_S = float(sys.argv[2])
app.run(app.serve(settings_of_process(sys.argv[1]), ready=lambda relay: print(relay.url, flush=True)))
"""


def settings_of_process(folder: str) -> RelaySettings:
    return settings_in(Path(folder))


@pytest.fixture
def relay_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A relay in a process of its own, which tells a long story to everyone."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", SLOW_TOY, str(tmp_path), "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    yield process
    process.kill()
    process.communicate()


@asynccontextmanager
async def talking(process: subprocess.Popen[str], folder: Path) -> AsyncIterator[ToyWire]:
    """A toy in the middle of an answer of that process."""
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    async with store_in(folder) as store:
        token, _ = await auth.add_token(store, "teddy", 0.0)
    headers = {"Authorization": f"Bearer {token.reveal()}"}
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=headers, protocols=[SUBPROTOCOL]) as socket,
    ):
        toy = ToyWire(socket)
        await toy.greet()
        await toy.say(1)
        await toy.until(AudioFrame)
        yield toy


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_during_a_turn_tells_the_toy_and_leaves_with_0(
    relay_process: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    async with talking(relay_process, tmp_path) as toy:
        relay_process.send_signal(number)
        assert await toy.closed() == aiohttp.WSCloseCode.GOING_AWAY
        assert isinstance(toy.got[-1], Goodbye) and toy.got[-1].code is ErrorCode.SHUTTING_DOWN
    _, errors = relay_process.communicate(timeout=PATIENCE_S)
    assert relay_process.returncode == 0
    assert ("changed settings take effect at a start" in errors) is (number is signal.SIGHUP)
    assert "Traceback" not in errors and "never" not in errors and "Warning" not in errors, errors
    assert [row["outcome"] for row in rows(tmp_path / "relay.db")] == [Outcome.CANCELLED]
    assert files_in(tmp_path) == ["relay.db"]


async def test_a_relay_that_is_killed_in_mid_turn_comes_back_with_its_store_intact(
    relay_process: subprocess.Popen[str], tmp_path: Path
) -> None:
    async with talking(relay_process, tmp_path) as toy:
        relay_process.kill()
        assert await toy.closed() == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
    async with store_in(tmp_path) as store:
        assert [token.toy for token in await store.list_tokens()] == ["teddy"]
        assert rows(tmp_path / "relay.db") == []


async def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nohup pommai relay run &`, and the terminal is closed."""

    async def slow(*args: object, **options: object) -> None:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(app, "load_pipeline", slow)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await app.serve(settings_in(tmp_path), ready=print)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_limits_of_no_toy_are_warned_of_at_the_start(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        for toy in ("bobo", "teddy"):
            await auth.add_token(store, toy, 0.0)
        await store.revoke_tokens("teddy", 1.0)
    limits = {toy: ToySettings(paused=True) for toy in ("bobo", "bobbo", "teddy")}
    told: list[object] = []

    def ready(relay: app.RunningRelay) -> None:
        told.append("ready")
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(PATIENCE_S):
        await app.serve(replace(settings_in(tmp_path), toys=limits), warn=told.append, ready=ready)
    assert told == [
        "[toys.bobbo] holds for no toy: there is no valid token for 'bobbo'; did you mean 'bobo'?",
        "[toys.teddy] holds for no toy: there is no valid token for 'teddy'; known are: bobo",
        "ready",
    ]


async def test_told_to_stop_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*args: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(app, "load_pipeline", slow)
    before = signal.getsignal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        await app.serve(settings_in(tmp_path), ready=print)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_toys_that_come_while_the_engines_load_are_served_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = asyncio.Event()
    pipeline = loading.LoadedPipeline(
        *[getattr(Engines().pipeline(), name) for name in ("stt", "guardian", "llm", "tts")]
    )
    ports: list[int] = []
    bind = app.listening.bind

    def noted(settings: ServerSettings) -> list[object]:
        sockets = bind(settings)
        ports.append(sockets[0].getsockname()[1])
        return list(sockets)

    async def slow(*args: object, **options: object) -> loading.LoadedPipeline:
        await loaded.wait()
        return pipeline

    monkeypatch.setattr(app.listening, "bind", noted)
    monkeypatch.setattr(app, "load_pipeline", slow)
    serving = asyncio.create_task(app.serve(settings_in(tmp_path), ready=lambda relay: None))
    await until(lambda: ports)
    async with aiohttp.ClientSession() as client:
        early = asyncio.create_task(client.get(f"http://127.0.0.1:{ports[0]}/healthz"))
        await asyncio.sleep(0.05)
        assert not early.done()
        loaded.set()
        async with await early as response:
            assert json.loads(await response.text())["status"] == "ok"
    os.kill(os.getpid(), signal.SIGINT)
    await serving
