"""`/metrics` on a node's console, for Prometheus. What it says is `relay.node.metrics`'s."""

from __future__ import annotations

from aiohttp import web

from relay.node.daemon import Daemon
from relay.node.metrics import CONTENT_TYPE, metrics
from relay.web.pages import HEADERS


async def metrics_page(daemon: Daemon) -> web.Response:
    """The node's metrics."""
    body = await metrics(daemon.home, daemon.member, daemon.custody, daemon.measures)
    headers = {**HEADERS, "Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    return web.Response(body=body, headers=headers)
