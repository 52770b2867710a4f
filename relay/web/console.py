"""The node's own page, on `console`: what is on board, whom it sees, its way out. For reading only.

It listens on the device itself (127.0.0.1) unless config.toml says otherwise. Requests that come under a foreign host
name are refused, so that no page on the internet can read it through a visitor's browser (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from aiohttp import web

from relay.net.sockets import listen
from relay.node.daemon import Daemon
from relay.node.report import describe_bundle, describe_node
from relay.web.pages import Handler, render, style


@asynccontextmanager
async def console_service(daemon: Daemon) -> AsyncIterator[None]:
    """Serve the console while the daemon runs. An extension of `relay.node.daemon`."""
    listening = listen(daemon.config.console)
    app = web.Application(middlewares=[only_by_address], client_max_size=1024)
    app.add_routes(
        [
            web.get("/", lambda request: _page(daemon, request)),
            web.get("/status.json", lambda _request: _status(daemon)),
            web.get("/style.css", style),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    try:
        yield
    finally:
        await runner.cleanup()


@web.middleware
async def only_by_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request whose Host is a name other than localhost."""
    host = request.host.rpartition(":")[0] if request.host.count(":") == 1 or "]" in request.host else request.host
    plain = host.strip("[]").partition("%")[0]
    try:
        ip_address(plain)
    except ValueError:
        if plain != "localhost":
            raise web.HTTPForbidden(text="Open this page by the address of the box.") from None
    response: web.StreamResponse = await handler(request)
    return response


async def _page(daemon: Daemon, request: web.Request) -> web.Response:
    node = await describe_node(daemon.home, daemon.member, daemon.custody)
    bundles = [describe_bundle(bundle) for bundle in await daemon.custody.store.bundles()]
    return render(request, "console.html", node=node, bundles=bundles)


async def _status(daemon: Daemon) -> web.Response:
    return web.json_response(await describe_node(daemon.home, daemon.member, daemon.custody))
