"""The relay's doors, tried from outside: real sockets on loopback, scripted engines behind."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
import websockets
from aiohttp import WSCloseCode, web

import pommai
from pommai.errors import StoreError
from pommai.limits import Rest
from pommai.protocol import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    VERSION,
    AudioFrame,
    Cancel,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    SpeakingEnd,
    SpeakingStart,
    UtteranceEnd,
    UtteranceStart,
    Welcome,
)
from pommai.relay import app, connection, door, pages, parking, server
from pommai.relay.allowance import Allowances
from pommai.relay.ports import Finding, Layer, Outcome, ToyToken, TurnRecord
from pommai.relay.providers.scripted import Failure, Pace, ScriptedLLM, ScriptedModerator, ScriptedSTT, ScriptedTTS
from pommai.relay.settings import ServerSettings, StoreSettings, ToySettings
from pommai.relay.stores.sqlite import SqliteStore
from pommai.wire import decode, encode
from tests.relay.served import PATIENCE_S, ServedRelay, served, until
from tests.relay.test_store import bytes_on_disk, rows
from tests.relay.toybox import Engines

LONG = "This is a long sentence that takes the toy a good while to say aloud to the child. " * 3


async def test_a_turn_over_the_wire(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        await toy.say(1)
        await toy.until(SpeakingEnd)
        turn = await relay.store.turns.get()
    assert [kind for kind in toy.kinds() if kind != "AudioFrame"] == [
        "Welcome",
        "Transcript",
        "SpeakingStart",
        "Sentence",
        "Sentence",
        "SpeakingEnd",
    ]
    assert (turn.toy, turn.outcome) == ("teddy", Outcome.ANSWERED)


async def test_the_websockets_library_gets_in_too(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        headers = {"Authorization": f"Bearer {await relay.token()}"}
        async with websockets.connect(
            relay.url, additional_headers=headers, subprotocols=[websockets.Subprotocol(SUBPROTOCOL)]
        ) as toy:
            assert toy.subprotocol == SUBPROTOCOL
            assert toy.response is not None and "Sec-WebSocket-Extensions" not in toy.response.headers
            await toy.send(encode(Hello(VERSION, "test")))
            assert isinstance(decode(await toy.recv()), Welcome)


# --- who may come in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", [None, "", "Bearer wrong", "Basic dGVkZHk6", "Bearer", "Bearer é"])
async def test_without_a_valid_token_nobody_comes_in(tmp_path: Path, authorization: str | None) -> None:
    async with served(tmp_path) as relay:
        await relay.token()
        headers = {} if authorization is None else {"Authorization": authorization}
        refusal = await relay.refusal(None, headers=headers)
        assert refusal.status == 401
        assert refusal.headers is not None and refusal.headers["WWW-Authenticate"].startswith("Bearer")
        assert await relay.metric("pommai_auth_failures_total") == 1


async def test_the_sixth_wrong_token_in_a_minute_is_too_many_but_a_right_one_still_gets_in(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        token = await relay.token()
        assert [(await relay.refusal("wrong")).status for _ in range(6)] == [401] * 5 + [429]
        refusal = await relay.refusal(None)
        assert refusal.status == 429
        assert refusal.headers is not None and 1 <= int(refusal.headers["Retry-After"]) <= 60
        async with relay.toy(token=token) as toy:
            assert toy.kinds() == ["Welcome"]


async def test_no_header_makes_another_address_of_an_attacker(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        for number in range(5):
            await relay.refusal("wrong", headers={"X-Forwarded-For": f"192.0.2.{number}"})
        assert (await relay.refusal("wrong", headers={"X-Forwarded-For": "192.0.2.99"})).status == 429


async def test_a_revoked_token_gets_nobody_in_and_ends_the_connection_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    async with served(tmp_path) as relay:
        token = await relay.token()
        async with relay.toy(token=token) as toy, relay.toy("panda") as other:
            await relay.store.revoke_tokens("teddy", 2.0)
            assert await toy.closed() == WSCloseCode.GOING_AWAY
            assert toy.got[-1] == Goodbye(ErrorCode.REVOKED, server.DISMISSED_RETRY_S)
            assert (await relay.refusal(token)).status == 401
            await other.say(1)
            await other.until(SpeakingEnd)


async def test_the_toy_is_who_its_token_says_and_not_who_it_says(tmp_path: Path) -> None:
    headers = {"X-Toy": "teddy"}
    async with served(tmp_path) as relay, relay.knocking(await relay.token("panda"), headers=headers) as toy:
        await toy.socket.send_str('{"type":"hello","version":1,"firmware":"1","toy":"teddy"}')
        await toy.until(Welcome)
        await toy.say(1)
        assert (await relay.store.turns.get()).toy == "panda"


@pytest.mark.parametrize("protocols", [[], ["pommai.v2"], ["chat", "superchat"]])
async def test_the_sub_protocol_is_required(tmp_path: Path, protocols: list[str]) -> None:
    async with served(tmp_path) as relay:
        assert (await relay.refusal(await relay.token(), protocols=protocols)).status == 400


async def test_a_browser_that_looks_at_the_toys_address_is_told_what_it_speaks(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        headers = {"Authorization": f"Bearer {await relay.token()}"}
        assert (await relay.page("/v1/toy"))[0] == 401
        assert (await relay.page("/v1/toy", headers=headers))[0] == 426


async def test_a_full_relay_says_so_but_lets_a_known_toy_replace_itself(tmp_path: Path) -> None:
    async with served(tmp_path, server=ServerSettings(max_toys=1)) as relay:
        token = await relay.token()
        async with relay.toy(token=token):
            refusal = await relay.refusal(await relay.token("panda"))
            assert refusal.status == 503
            assert refusal.headers is not None and refusal.headers["Retry-After"]
            async with relay.toy(token=token) as again:
                assert again.kinds() == ["Welcome"]


async def test_tokens_that_cannot_be_checked_let_nobody_in(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        token = await relay.token()
        await relay.store.close()
        assert (await relay.refusal(token)).status == 503


async def test_no_token_and_no_word_reaches_the_log_the_pages_or_a_header(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engines = Engines(stt=ScriptedSTT(["CANARYHEARD"]), llm=ScriptedLLM(["CANARYSAID is what I say."]))
    async with served(tmp_path, engines) as relay:
        token = await relay.token("canarytoy")
        refusal = await relay.refusal("CANARYTOKEN")
        async with relay.toy(token=token) as toy:
            await toy.socket.send_str("CANARYGARBAGE")
            await toy.until(Error)
            await toy.say(1)
            await toy.until(SpeakingEnd)
            await relay.store.turns.get()
            _, metrics = await relay.page("/metrics")
            _, health = await relay.page("/healthz")
    pages = f"{metrics}{health}{refusal.message}{refusal.headers}"
    assert "CANARY" not in caplog.text and token not in caplog.text
    assert "CANARY" not in pages and "canarytoy" not in pages and token not in pages
    assert b"CANARY" not in bytes_on_disk(tmp_path / "relay.db")


class BuggyModerator(ScriptedModerator):
    """Breaks the contract of its port, with the words that it was given."""

    async def judge(self, text: str, layer: Layer, recent: Sequence[str]) -> Finding:
        raise ValueError(text)


async def test_a_bug_closes_the_connection_and_its_words_reach_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engines = Engines(stt=ScriptedSTT(["CANARYHEARD"]), moderator=BuggyModerator())
    async with served(tmp_path, engines) as relay:
        async with relay.toy() as toy:
            await toy.say(1)
            assert await toy.closed() == WSCloseCode.INTERNAL_ERROR
        async with relay.toy():
            pass  # the relay lives
    assert "ValueError at " in caplog.text and "guardian.py:" in caplog.text, "where to look is told"
    assert not [record for record in caplog.records if "CANARY" in record.getMessage() + repr(record.__dict__)]
    assert "CANARY" not in caplog.text


# --- what may come over the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("garbage", ErrorCode.BAD_MESSAGE),
        ("{}", ErrorCode.BAD_MESSAGE),
        ('{"type":"dance"}', ErrorCode.UNKNOWN_TYPE),
        (b"", ErrorCode.BAD_MESSAGE),
        (b"\xff" * 20, ErrorCode.UNKNOWN_TYPE),
        (b"\x01" * 1300, ErrorCode.TOO_LARGE),
        (encode(UtteranceEnd(7)), ErrorCode.OUT_OF_ORDER),
        (encode(Welcome(1, "s", 0.0, 1.0)), ErrorCode.OUT_OF_ORDER),
        ("x" * (MAX_MESSAGE_BYTES + 1), ErrorCode.TOO_LARGE),
        (b"\x01" * (4 * MAX_MESSAGE_BYTES - 1), ErrorCode.TOO_LARGE),
    ],
)
async def test_garbage_is_answered_with_a_code_and_the_connection_lives(
    tmp_path: Path, frame: str | bytes, code: ErrorCode
) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        await (toy.socket.send_bytes(frame) if isinstance(frame, bytes) else toy.socket.send_str(frame))
        assert await toy.next() == Error(code)
        assert await relay.metric(f'pommai_errors_total{{code="{code}"}}') == 1
        await toy.say(1)
        await toy.until(SpeakingEnd)


async def test_the_tenth_bad_message_in_a_minute_closes_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        for _ in range(12):
            await toy.socket.send_str("garbage")
        assert await toy.closed() == WSCloseCode.POLICY_VIOLATION
        assert toy.got.count(Error(ErrorCode.BAD_MESSAGE)) == 10


async def test_a_message_too_large_to_be_read_closes_the_connection_with_1009(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        await toy.socket.send_str("x" * (4 * MAX_MESSAGE_BYTES + 1))
        assert await toy.closed() == WSCloseCode.MESSAGE_TOO_BIG
        assert await relay.metric('pommai_errors_total{code="too_large"}') == 1


async def test_a_message_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            for _ in range(50):
                await toy.socket.send_bytes(b"x" * 10_000_000)
        assert await relay.metric('pommai_errors_total{code="too_large"}') == 1


async def test_text_that_is_not_utf_8_closes_the_connection_as_the_standard_says(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:
        await toy.socket.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
        assert await toy.closed() == WSCloseCode.INVALID_TEXT


async def test_a_toy_that_never_greets_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_S", 0.05)
    async with served(tmp_path) as relay, relay.knocking(await relay.token()) as toy:
        await toy.socket.send_str("garbage")
        assert await toy.closed() == WSCloseCode.POLICY_VIOLATION
        assert toy.got == [Error(ErrorCode.BAD_MESSAGE)]


async def test_a_toy_that_has_greeted_may_be_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_S", 0.05)
    async with served(tmp_path) as relay, relay.toy() as toy:
        await asyncio.sleep(0.1)
        await toy.say(1)
        await toy.until(SpeakingEnd)


async def test_another_version_is_told_so_and_let_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served(tmp_path) as relay, relay.knocking(await relay.token()) as toy:
        await toy.send(Hello(2, "future"))
        assert await toy.closed() == WSCloseCode.PROTOCOL_ERROR
        assert toy.kinds() == ["Error", "Goodbye"]
        assert toy.got[0] == Error(ErrorCode.UNSUPPORTED_VERSION)
    assert "toy says hello toy=teddy firmware=future" in caplog.text, "whoever looks for the reason finds it"


async def test_a_second_connection_of_a_toy_replaces_the_first(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        token = await relay.token()
        async with relay.toy(token=token) as first, relay.toy(token=token) as second:
            assert await first.closed() == WSCloseCode.GOING_AWAY
            assert first.got[-1] == Goodbye(ErrorCode.REPLACED, server.DISMISSED_RETRY_S)
            await second.say(1)
            await second.until(SpeakingEnd)
            assert json.loads((await relay.page("/healthz"))[1])["active_toys"] == 1
        await until(lambda: not relay.engines.at_work())


async def test_a_toy_that_comes_back_without_its_session_ends_the_turn_it_was_in(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG]))) as relay:
        token = await relay.token()
        async with relay.toy(token=token) as first:
            await first.say(1)
            await first.until(AudioFrame)
            async with relay.toy(token=token) as second:
                assert await first.closed() == WSCloseCode.GOING_AWAY
                assert (await relay.store.turns.get()).outcome is Outcome.INTERRUPTED
                await second.say(1)
                await second.until(SpeakingStart)
                assert relay.engines.tts.at_work == 1


async def test_a_toy_that_is_cut_off_in_mid_turn_and_stays_away_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "RESUME_S", 0.2)
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG]))) as relay:
        async with relay.toy() as toy:
            await toy.say(1)
            await toy.until(AudioFrame)
            toy.abort()
            assert (await relay.store.turns.get()).outcome is Outcome.INTERRUPTED
        await until(lambda: not relay.engines.at_work())
        assert await relay.metric("pommai_active_toys") == 0


async def test_a_toy_that_does_not_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is refused, and no refusal is read: what is unsent must not grow for ever."""
    monkeypatch.setattr(connection, "SEND_S", 0.2)
    monkeypatch.setattr(connection, "MAX_BAD_MESSAGES", 10**9)
    async with served(tmp_path) as relay:
        reader, writer = await _raw_toy(relay, receive_buffer=4096)
        garbage = _masked(b"garbage") * 20_000
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    writer.write(garbage)
                    await writer.drain()
        writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while json.loads((await relay.page("/healthz"))[1])["active_toys"]:
                pass
        assert reader is not None


async def test_a_dead_toy_is_noticed_by_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1.5 * connection.HEARTBEAT_S + 1 <= 25, "aiohttp waits half as long for the answer, and rounds up"
    monkeypatch.setattr(connection, "HEARTBEAT_S", 0.1)
    async with served(tmp_path) as relay:
        reader, writer = await _raw_toy(relay)
        writer.write(_masked(b'{"type":"hello","version":1,"firmware":"test"}'))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == bytes([0x81, 126]), "a text of two bytes of length"
            welcome = decode((await reader.readexactly(int.from_bytes(await reader.readexactly(2)))).decode())
            assert isinstance(welcome, Welcome)
            while await relay.metric("pommai_active_toys"):
                pass
        writer.close()
        async with relay.knocking(await relay.token()) as again:
            assert (await again.greet(welcome.session)).session == welcome.session, "it was cut off and has not left"


async def _raw_toy(
    relay: ServedRelay, receive_buffer: int = 65536
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A toy that was let in and then never answers a ping: a bare TCP connection."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", relay.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(
        f"GET /v1/toy HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nAuthorization: Bearer {await relay.token()}\r\n\r\n".encode()
    )
    assert b"101" in await reader.readline()
    return reader, writer


def _masked(payload: bytes) -> bytes:
    """A text frame of a client, masked with zeros."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


# --- turns and the store ----------------------------------------------------------------------------------------------


async def test_a_store_that_fails_does_not_break_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as relay, relay.toy() as toy:

        async def broken(turn: TurnRecord) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(relay.store, "record", broken)
        for turn in (1, 2):
            await toy.say(turn)
            await toy.until(SpeakingEnd)
        async with asyncio.timeout(PATIENCE_S):
            while await relay.metric("pommai_store_failures_total") < 2:
                pass


async def test_a_cancelled_turn_lets_the_next_one_begin(tmp_path: Path) -> None:
    async with served(tmp_path, Engines(llm=ScriptedLLM([LONG, "Short."]))) as relay, relay.toy() as toy:
        await toy.say(1)
        await toy.until(AudioFrame)
        await toy.send(Cancel(1))
        await toy.say(2)
        end = await toy.until(SpeakingEnd)
        assert end == SpeakingEnd(2)


async def test_a_toy_that_is_forgotten_in_mid_turn_leaves_no_trace_of_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    engines = Engines(stt=ScriptedSTT(["SECRET"]), llm=ScriptedLLM([LONG]))
    path = tmp_path / "relay.db"
    kept = StoreSettings(str(path), keep_words_days=10)
    async with served(tmp_path, engines, store=kept) as relay:
        token = await relay.token()
        async with relay.toy(token=token) as toy, relay.toy("panda") as other:
            await toy.say(1)
            await toy.until(AudioFrame)
            command = await SqliteStore.open(kept)
            await command.forget("teddy")
            await command.close()
            assert await toy.closed() == WSCloseCode.GOING_AWAY
            assert toy.got[-1] == Goodbye(ErrorCode.SHUTTING_DOWN, door.RETRY_S)
            await other.say(1)
            await other.until(AudioFrame)
        async with relay.toy(token=token) as toy:
            await toy.say(1)
            await toy.until(AudioFrame)
    said_again = [row["turn"] for row in rows(path, "SELECT turn FROM turns WHERE toy = 'teddy'")]
    assert said_again == [1], "only the turn after it was forgotten"
    assert all("SECRET" not in message.content for message in engines.llm.prompts[-1][:-1])


class Nap(Allowances):
    """A rest for every toy that the test ends."""

    over = False

    def rest(self, toy: str) -> Rest | None:
        return None if self.over else Rest.QUIET_HOURS


async def test_a_toy_whose_rest_is_over_is_sent_away_for_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nap = Nap({})
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    monkeypatch.setattr(app, "Allowances", lambda limits: nap)
    async with served(tmp_path) as relay:
        token = await relay.token()
        async with relay.knocking(token) as toy:
            assert (await toy.greet()).paused is ErrorCode.QUIET_HOURS
            nap.over = True
            assert await toy.closed() == WSCloseCode.GOING_AWAY
            assert toy.got[-1] == Goodbye(ErrorCode.REST_OVER, 0.0)
        async with relay.knocking(token) as toy:
            assert (await toy.greet()).paused is None


async def test_a_toy_learns_of_summer_time_when_no_turn_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [datetime(2030, 3, 31, 0, 59, tzinfo=UTC)]
    allowances = Allowances({}, lambda: now[0], zone=ZoneInfo("Europe/Berlin"))
    monkeypatch.setattr(app, "LOOK_AFTER_S", 0.02)
    monkeypatch.setattr(app, "Allowances", lambda limits: allowances)
    engines = Engines(llm=ScriptedLLM(["Short."], Pace(first_s=0.3)))
    async with served(tmp_path, engines) as relay:
        token = await relay.token()
        async with relay.knocking(token) as toy:
            limits = (await toy.greet()).limits
            assert limits is not None and limits.utc_offset_min == 60
            await toy.say(1)
            await until(lambda: engines.llm.at_work)
            now[0] += timedelta(minutes=1)
            assert await toy.closed() == WSCloseCode.GOING_AWAY
            assert toy.got[-2:] == [SpeakingEnd(1), Goodbye(ErrorCode.REST_OVER, 0.0)]
        async with relay.knocking(token) as toy:
            limits = (await toy.greet()).limits
            assert limits is not None and limits.utc_offset_min == 120
            await toy.say(2)
            await toy.until(SpeakingEnd)


async def test_a_toy_is_told_how_loud_it_may_be(tmp_path: Path) -> None:
    async with served(tmp_path, toys={"teddy": ToySettings(volume_ceiling=0.3)}) as relay:
        async with relay.knocking(await relay.token("teddy")) as toy:
            assert (await toy.greet()).volume_ceiling == 0.3
        async with relay.knocking(await relay.token("panda")) as panda:
            assert (await panda.greet()).volume_ceiling == 1.0


async def test_a_toy_that_must_rest_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path, toys={"teddy": ToySettings(paused=True)}) as relay:
        async with relay.knocking(await relay.token("panda")) as panda:
            assert (await panda.greet()).paused is None
        async with relay.knocking(await relay.token("teddy")) as toy:
            assert (await toy.greet()).paused is ErrorCode.PAUSED
            await toy.say(1)
            assert await toy.next() == Error(ErrorCode.PAUSED, turn=1)


async def test_what_is_counted(tmp_path: Path) -> None:
    engines = Engines(tts=ScriptedTTS(failure=Failure(calls=2)))
    async with served(tmp_path, engines) as relay, relay.toy() as toy:
        await toy.say(1)
        await toy.until(Error)
        await relay.store.turns.get()
        await toy.say(2)
        await toy.until(SpeakingEnd)
        await relay.store.turns.get()
        assert await relay.metric("pommai_active_toys") == 1
        assert await relay.metric('pommai_turns_total{outcome="answered",source="model"}') == 1
        failed = [
            await relay.metric(f'pommai_turns_total{{outcome="failed",source="{s}"}}') for s in ("model", "fixed")
        ]
        assert sum(failed) == 1
        assert await relay.metric('pommai_errors_total{code="unavailable"}') == 1
        assert await relay.metric('pommai_stage_seconds_count{stage="first_audio"}') == 1
        assert await relay.metric('pommai_verdicts_total{action="pass",category="benign",layer="input"}') == 2
        uplink = await relay.metric('pommai_websocket_payload_bytes_total{direction="uplink"}')
        downlink = await relay.metric('pommai_websocket_payload_bytes_total{direction="downlink"}')
        assert uplink > 1000 and downlink > 5000


# --- pages for machines -----------------------------------------------------------------------------------------------


async def test_health(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.toy():
        status, text = await relay.page("/healthz")
    assert status == 200
    assert json.loads(text) == {
        "status": "ok",
        "version": pommai.__version__,
        "engines": {"stt": "scripted", "moderator": "local", "llm": "scripted", "tts": "scripted"},
        "active_toys": 1,
    }


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_metrics_are_for_this_machine_and_not_for_what_a_proxy_lets_through(tmp_path: Path, header: str) -> None:
    async with served(tmp_path) as relay:
        assert (await relay.page("/metrics"))[0] == 200
        assert (await relay.page("/metrics", headers={header: "127.0.0.1"}))[0] == 403


async def test_metrics_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "is_loopback", lambda address: False)
    async with served(tmp_path) as relay:
        assert (await relay.page("/metrics"))[0] == 403


async def test_no_page_tells_what_the_relay_is_made_of(tmp_path: Path) -> None:
    async with served(tmp_path) as relay, relay.client.get(f"{relay.http}/healthz") as response:
        assert response.headers["Server"] == "pommai"


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_stopping_lets_a_short_turn_end_and_says_goodbye(tmp_path: Path) -> None:
    engines = Engines(llm=ScriptedLLM(["Short."], Pace(first_s=0.1)))
    async with served(tmp_path, engines, grace_s=PATIENCE_S) as relay, relay.toy() as toy:
        await toy.say(1)
        await until(lambda: engines.llm.at_work)
        stopping = asyncio.create_task(relay.stop())
        assert await toy.closed() == WSCloseCode.GOING_AWAY
        await stopping
        assert (await relay.store.turns.get()).outcome is Outcome.ANSWERED
    assert toy.kinds()[-2:] == ["SpeakingEnd", "Goodbye"]
    assert toy.got[-1] == Goodbye(ErrorCode.SHUTTING_DOWN, door.RETRY_S)


async def test_stopping_cuts_a_turn_that_takes_too_long(tmp_path: Path) -> None:
    engines = Engines(llm=ScriptedLLM(["never"], failure=Failure(hangs=True)))
    async with served(tmp_path, engines, grace_s=0.05) as relay, relay.toy() as toy, relay.toy("panda") as idle:
        await toy.say(1)
        await until(lambda: engines.llm.at_work)
        codes = await asyncio.gather(toy.closed(), idle.closed(), relay.stop())
        assert codes == [WSCloseCode.GOING_AWAY, WSCloseCode.GOING_AWAY, None]
        assert isinstance(toy.got[-1], Goodbye) and isinstance(idle.got[-1], Goodbye)
        assert (await relay.store.turns.get()).outcome is Outcome.CANCELLED
        assert not engines.at_work()


async def test_a_turn_that_begins_while_the_relay_stops_is_refused(tmp_path: Path) -> None:
    engines = Engines(llm=ScriptedLLM(["never"], failure=Failure(hangs=True)))
    async with served(tmp_path, engines, grace_s=0.3) as relay, relay.toy() as toy:
        await toy.say(1)
        await until(lambda: engines.llm.at_work)
        stopping = asyncio.create_task(relay.stop())
        await asyncio.sleep(0)
        await toy.send(Cancel(1), UtteranceStart(2))
        await toy.closed()
        await stopping
    assert isinstance(toy.got[-1], Goodbye)
    assert not [message for message in toy.got if isinstance(message, SpeakingStart)]


async def test_a_toy_whose_token_is_being_checked_while_the_relay_stops_is_told_to_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, checked = asyncio.Event(), asyncio.Event()
    valid_token = door.valid_token

    async def slowly(*args: Any) -> ToyToken | None:
        asked.set()
        await checked.wait()
        return await valid_token(*args)

    monkeypatch.setattr(server, "CLOSE_S", 0.01)  # what aiohttp would wait for
    async with served(tmp_path) as relay:
        token = await relay.token()
        monkeypatch.setattr(door, "valid_token", slowly)
        knocking = asyncio.create_task(relay.refusal(token))
        await asked.wait()
        stopping = asyncio.create_task(relay.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done(), "it waits for the toy at the door"
        checked.set()
        refusal = await knocking
        await stopping
    assert refusal.status == 503
    assert refusal.headers is not None and refusal.headers["Retry-After"] == str(int(door.RETRY_S))


async def test_a_toy_that_gets_in_while_the_relay_stops_is_told_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entering, let_in = asyncio.Event(), asyncio.Event()
    prepare = web.WebSocketResponse.prepare

    async def slowly(socket: web.WebSocketResponse, request: web.BaseRequest) -> object:
        writer = await prepare(socket, request)
        entering.set()
        await let_in.wait()
        return writer

    monkeypatch.setattr(server, "CLOSE_S", 0.01)  # what aiohttp would wait for
    monkeypatch.setattr(web.WebSocketResponse, "prepare", slowly)
    async with served(tmp_path) as relay, relay.knocking(await relay.token()) as toy:
        await entering.wait()
        stopping = asyncio.create_task(relay.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done(), "it waits for the toy at the door"
        let_in.set()
        assert await toy.closed() == WSCloseCode.GOING_AWAY
        await stopping
    assert toy.got == [Goodbye(ErrorCode.SHUTTING_DOWN, door.RETRY_S)]


async def test_a_stopped_relay_is_gone(tmp_path: Path) -> None:
    async with served(tmp_path) as relay:
        token = await relay.token()
        await relay.stop()
        await relay.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with relay.knocking(token):
                pass
