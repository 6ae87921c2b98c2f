"""Who may connect: device tokens, and a limit on wrong ones.

A token is 256 random bits, shown once; the store keeps its SHA-256 only. The toy's id comes from the token and from
nowhere else. The look-up finds a row by a short public id (the first digits of the digest) and then compares whole
digests in constant time, so that no time tells how much of a token was right.

Five wrong tokens a minute from one address, and the next is answered 429. A right token is let in even from there:
all toys of a home, or all behind a reverse proxy, share one address, and one toy with an old token must not lock the
others out. Guessing stays hopeless at 256 bits; the limit is there to keep logs and disks quiet.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict, deque
from typing import Final, Protocol

from pommai.relay.ports import ToyToken
from pommai.schema import Secret

TOKEN_BYTES: Final = 32
TOY_ID: Final = re.compile(r"[a-z0-9-]{1,64}")
TOY_ID_RULE: Final = "1 to 64 lowercase letters, digits and hyphens"

MAX_FAILURES: Final = 5
WINDOW_S: Final = 60.0
MAX_ADDRESSES: Final = 4_096
"""Addresses that are remembered; beyond it, the one whose last failure is the oldest is forgotten."""

_ID_DIGITS: Final = 12
_NO_DIGEST: Final = bytes(hashlib.sha256().digest_size)


class TokenStore(Protocol):
    """Keeps device tokens as digests. Every method that fails raises StoreError and nothing else."""

    async def add_token(self, token: ToyToken, digest: bytes) -> None:
        """Store a new token, as its digest."""

    async def find_token(self, token_id: str) -> tuple[ToyToken, bytes] | None:
        """The token of that id with its digest, revoked or not; None if there is none."""

    async def list_tokens(self, toy: str | None = None) -> list[ToyToken]:
        """The tokens of a toy, or of all toys, oldest first; revoked ones too."""

    async def revoke_tokens(self, toy: str, now_s: float) -> int:
        """Let no token of this toy in any more; the number of tokens that were valid until now."""

    async def token_used(self, token_id: str, now_s: float) -> None:
        """Remember when a token last let a toy in."""


def is_toy_id(text: str) -> bool:
    """Whether `text` may name a toy (`TOY_ID_RULE`)."""
    return TOY_ID.fullmatch(text) is not None


async def add_token(store: TokenStore, toy: str, now_s: float) -> tuple[Secret, ToyToken]:
    """A new token for `toy`, to be shown once, and what the relay keeps about it. Raises ValueError for a bad id."""
    if not is_toy_id(toy):
        raise ValueError(f"a toy's id is {TOY_ID_RULE}")
    text = secrets.token_urlsafe(TOKEN_BYTES)
    digest = _digest(text)
    token = ToyToken(_token_id(digest), toy, now_s, None, None)
    await store.add_token(token, digest)
    return Secret(text), token


async def valid_token(store: TokenStore, token: Secret, now_s: float) -> ToyToken | None:
    """What the relay knows about this token, which names the toy; None for a wrong or revoked token."""
    digest = _digest(token.reveal())
    found = await store.find_token(_token_id(digest))
    known, known_digest = found if found is not None else (None, _NO_DIGEST)
    if not hmac.compare_digest(digest, known_digest) or known is None or known.revoked_at_s is not None:
        return None
    await store.token_used(known.token_id, now_s)
    return known


def bearer(header: str | None) -> Secret | None:
    """The token in an `Authorization` header, or None where there is no bearer token."""
    scheme, _, token = (header or "").partition(" ")
    return Secret(token.strip()) if scheme.lower() == "bearer" and token.strip() else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _token_id(digest: bytes) -> str:
    return digest.hex()[:_ID_DIGITS]


class SlidingWindow:
    """Counts what happened in the last `window_s` seconds, up to `limit`; the caller brings the time, in seconds."""

    __slots__ = ("_times", "_window_s")

    def __init__(self, limit: int, window_s: float) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=limit)

    def add(self, now_s: float) -> bool:
        """Count one more; whether the limit is reached now."""
        self._times.append(now_s)
        return self.wait_s(now_s) > 0

    def wait_s(self, now_s: float) -> float:
        """Seconds until the count is below the limit again; 0 if it is."""
        if len(self._times) != self._times.maxlen:
            return 0.0
        return max(0.0, self._times[0] + self._window_s - now_s)


class FailureLimiter:
    """One sliding window for each address; IPv6 addresses of one /64 count as one. Memory is bounded."""

    def __init__(
        self, limit: int = MAX_FAILURES, window_s: float = WINDOW_S, max_addresses: int = MAX_ADDRESSES
    ) -> None:
        self._limit = limit
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._windows: OrderedDict[str, SlidingWindow] = OrderedDict()

    def failed(self, address: str, now_s: float) -> None:
        """Count a failure of this address."""
        network = _network(address)
        window = self._windows.setdefault(network, SlidingWindow(self._limit, self._window_s))
        self._windows.move_to_end(network)
        window.add(now_s)
        if len(self._windows) > self._max_addresses:
            self._windows.popitem(last=False)

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds until this address may fail again; 0 if it may now."""
        window = self._windows.get(_network(address))
        return 0.0 if window is None else window.wait_s(now_s)

    def __len__(self) -> int:
        return len(self._windows)


def is_loopback(address: str) -> bool:
    """Whether a peer's address is this machine's own; IPv4 in IPv6 clothing counts as what it is."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_loopback


def _network(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return address if parsed is None else str(parsed)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
