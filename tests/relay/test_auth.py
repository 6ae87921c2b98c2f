"""Tokens let in the toy they were made for and nobody else; wrong ones are slowed down."""

from __future__ import annotations

import base64

import pytest

from pommai.relay import auth
from pommai.relay.auth import FailureLimiter, SlidingWindow, add_token, bearer, is_loopback, is_toy_id, valid_token
from pommai.relay.ports import ToyToken
from pommai.schema import Secret


class MemoryTokens:
    """A TokenStore in a dictionary, with what it holds open to the tests."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[ToyToken, bytes]] = {}

    async def add_token(self, token: ToyToken, digest: bytes) -> None:
        self.rows[token.token_id] = (token, digest)

    async def find_token(self, token_id: str) -> tuple[ToyToken, bytes] | None:
        return self.rows.get(token_id)

    async def list_tokens(self, toy: str | None = None) -> list[ToyToken]:
        return [token for token, _ in self.rows.values() if toy in (None, token.toy)]

    async def revoke_tokens(self, toy: str, now_s: float) -> int:
        for key, (token, digest) in self.rows.items():
            if token.toy == toy:
                self.rows[key] = (ToyToken(key, toy, token.created_at_s, token.last_used_at_s, now_s), digest)
        return len(self.rows)

    async def token_used(self, token_id: str, now_s: float) -> None:
        token, digest = self.rows[token_id]
        self.rows[token_id] = (ToyToken(token_id, token.toy, token.created_at_s, now_s, token.revoked_at_s), digest)


async def test_a_token_lets_in_its_toy_and_says_when() -> None:
    store = MemoryTokens()
    token, kept = await add_token(store, "teddy", 10.0)
    assert await valid_token(store, token, 20.0) == kept
    assert kept.toy == "teddy"
    assert store.rows[kept.token_id][0].last_used_at_s == 20.0


async def test_a_token_is_256_random_bits_and_only_its_digest_is_kept() -> None:
    store = MemoryTokens()
    tokens = {(await add_token(store, "teddy", 0.0))[0].reveal() for _ in range(3)}
    assert len(tokens) == 3
    for text in tokens:
        assert len(base64.urlsafe_b64decode(text + "=")) == 32
        assert text not in repr(store.rows) and text.encode() not in b"".join(d for _, d in store.rows.values())
    assert all(len(digest) == 32 for _, digest in store.rows.values())


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "x", lambda t: t.swapcase(), lambda t: "\udcff"])
async def test_any_other_token_lets_nobody_in(change: object) -> None:
    store = MemoryTokens()
    token, _ = await add_token(store, "teddy", 0.0)
    assert callable(change)
    assert await valid_token(store, Secret(change(token.reveal())), 1.0) is None
    assert [t.last_used_at_s for t in await store.list_tokens()] == [None]


async def test_a_right_public_id_does_not_help_a_wrong_token() -> None:
    store = MemoryTokens()
    token, kept = await add_token(store, "teddy", 0.0)
    _, digest = store.rows[kept.token_id]
    store.rows[kept.token_id] = (kept, digest[:-1] + bytes([digest[-1] ^ 1]))
    assert await valid_token(store, token, 1.0) is None


async def test_a_revoked_token_lets_nobody_in() -> None:
    store = MemoryTokens()
    token, _ = await add_token(store, "teddy", 0.0)
    await store.revoke_tokens("teddy", 1.0)
    assert await valid_token(store, token, 2.0) is None


@pytest.mark.parametrize("toy", ["teddy", "a", "toy-7", "7", "x" * 64])
def test_ids_that_may_name_a_toy(toy: str) -> None:
    assert is_toy_id(toy)


@pytest.mark.parametrize("toy", ["", "Teddy", "a b", "x" * 65, "bär", "teddy\n", "../etc", "a_b", "a\x00"])
async def test_ids_that_may_not(toy: str) -> None:
    store = MemoryTokens()
    with pytest.raises(ValueError, match="lowercase"):
        await add_token(store, toy, 0.0)
    assert not store.rows


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_the_authorization_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == (None if token is None else Secret(token))


def test_a_window_slides() -> None:
    window = SlidingWindow(3, 60.0)
    assert [window.add(at) for at in (0.0, 10.0, 20.0)] == [False, False, True]
    assert window.wait_s(20.0) == 40.0
    assert window.wait_s(59.0) == 1.0
    assert window.wait_s(60.0) == 0.0
    assert window.add(61.0)  # three within a minute again: 10, 20 and 61
    assert window.wait_s(61.0) == 9.0


def test_five_failures_a_minute_and_the_address_waits() -> None:
    limiter = FailureLimiter()
    for at in range(5):
        assert limiter.wait_s("192.0.2.1", at) == 0
        limiter.failed("192.0.2.1", at)
    assert limiter.wait_s("192.0.2.1", 4) == 56
    assert limiter.wait_s("192.0.2.2", 4) == 0
    assert limiter.wait_s("192.0.2.1", 60) == 0


def test_addresses_of_one_ipv6_network_count_together_and_mapped_ones_as_ipv4() -> None:
    limiter = FailureLimiter(limit=2)
    limiter.failed("2001:db8::1", 0)
    limiter.failed("2001:db8::ffff:2", 0)
    limiter.failed("::ffff:192.0.2.1", 0)
    limiter.failed("192.0.2.1", 0)
    assert limiter.wait_s("2001:db8::3", 1) == 59
    assert limiter.wait_s("2001:db8:0:1::1", 1) == 0
    assert limiter.wait_s("192.0.2.1", 1) == 59
    assert len(limiter) == 2


def test_memory_stays_bounded_under_many_addresses() -> None:
    limiter = FailureLimiter(limit=1, max_addresses=10)
    for number in range(1000):
        limiter.failed(f"host-{number}", number / 1000)
    assert len(limiter) == 10
    assert limiter.wait_s("host-999", 1) > 0
    assert limiter.wait_s("host-0", 1) == 0


def test_an_address_that_goes_on_is_not_the_one_that_is_forgotten() -> None:
    limiter = FailureLimiter(limit=1, max_addresses=2)
    for address in ("busy", "a", "busy", "b"):
        limiter.failed(address, 0)
    assert limiter.wait_s("busy", 1) > 0


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.168.1.4", False),
        ("::ffff:192.168.1.4", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_loopback(address: str, ours: bool) -> None:
    assert is_loopback(address) is ours


def test_the_rule_names_what_the_pattern_allows() -> None:
    assert auth.TOY_ID.pattern == "[a-z0-9-]{1,64}" and "64" in auth.TOY_ID_RULE
