"""Two pages for machines: `/healthz` for whoever watches the service, `/metrics` for a Prometheus on the same machine.

Headers that a proxy adds are never a reason to trust; a request that carries them does not count as local.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

import pommai
from pommai.relay.auth import is_loopback
from pommai.relay.metrics import CONTENT_TYPE, Metrics
from pommai.relay.turn import Pipeline

_PROXIED: Final = (hdrs.X_FORWARDED_FOR, hdrs.FORWARDED, "X-Real-IP")


def engine_names(pipeline: Pipeline, moderator: str) -> dict[str, str]:
    """The name of each engine by its part in a turn; the pipeline's guardian does not tell who judges for it."""
    return {
        "stt": pipeline.stt.name,
        "moderator": moderator,
        "llm": pipeline.llm.name,
        "tts": pipeline.tts.name,
    }


class Pages:
    """What the relay tells about itself; never a toy's id, never a word."""

    def __init__(
        self,
        engines: dict[str, str],
        metrics: Metrics,
        *,
        n_toys: Callable[[], int],
        stopping: Callable[[], bool],
    ) -> None:
        """`engines`: see `engine_names`."""
        self._engines = engines
        self._metrics = metrics
        self._n_toys = n_toys
        self._stopping = stopping

    def routes(self) -> list[web.RouteDef]:
        """For the application that serves them."""
        return [web.get("/healthz", self._health), web.get("/metrics", self._metrics_page)]

    async def _health(self, request: web.Request) -> web.Response:
        """Whether toys are served, by which engines, and how many."""
        stopping = self._stopping()
        health = {
            "status": "stopping" if stopping else "ok",
            "version": pommai.__version__,
            "engines": self._engines,
            "active_toys": self._n_toys(),
        }
        return web.json_response(health, status=503 if stopping else 200)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        """The counters, for this machine only."""
        if any(header in request.headers for header in _PROXIED) or not is_loopback(request.remote or ""):
            raise web.HTTPForbidden(text="metrics are for this machine only\n")
        return web.Response(body=self._metrics.page(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
