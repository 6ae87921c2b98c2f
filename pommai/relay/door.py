"""Who is let in: a toy by its token, and nobody for a while from an address with too many wrong ones."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Final

from aiohttp import hdrs, web

from pommai.errors import StoreError
from pommai.relay.auth import FailureLimiter, TokenStore, bearer, valid_token
from pommai.relay.metrics import Metrics
from pommai.relay.ports import ToyToken

RETRY_S: Final = 5.0
"""When a toy may come back after the relay said goodbye, or was full."""

_log = logging.getLogger(__name__)


class Door:
    """Knows the tokens, and remembers which addresses have shown wrong ones."""

    def __init__(self, store: TokenStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._failures = FailureLimiter()
        self._now = asyncio.get_running_loop().time

    async def token_of(self, request: web.Request) -> ToyToken:
        """What the request's token is known for. Raises 401 for a wrong one, 429 for too many wrong ones."""
        address = request.remote or ""
        shown = bearer(request.headers.get(hdrs.AUTHORIZATION))
        try:
            token = None if shown is None else await valid_token(self._store, shown, time.time())
        except StoreError as error:
            _log.error("tokens cannot be read: %s", error)
            raise later("the relay cannot check tokens now") from None
        if token is not None:
            return token
        self._metrics.denied()
        wait_s = self._failures.wait_s(address, self._now())
        if wait_s > 0:
            raise web.HTTPTooManyRequests(
                text="too many wrong tokens\n", headers={hdrs.RETRY_AFTER: str(math.ceil(wait_s))}
            )
        self._failures.failed(address, self._now())
        _log.warning("wrong token address=%s", address)
        raise web.HTTPUnauthorized(
            text="a device token is required\n", headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="pommai"'}
        )


def later(reason: str) -> web.HTTPServiceUnavailable:
    """503: come back in `RETRY_S` seconds."""
    return web.HTTPServiceUnavailable(text=f"{reason}\n", headers={hdrs.RETRY_AFTER: str(math.ceil(RETRY_S))})
