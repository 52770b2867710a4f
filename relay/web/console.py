"""The node's own pages, on `console`: what is on board, whom it sees, its way out; the carrier's board; and, on an
operator's device, the operator's page for whoever sits at the device itself.

It listens on the device itself (127.0.0.1) unless config.toml says otherwise. Requests that come under a foreign host
name are refused, so that no page on the internet can read it through a visitor's browser (DNS rebinding). An
operator's device answers itself only, whatever it listens on: its page for others is `relay.web.operator`'s, with TLS.
Where config.toml has `board`, the carrier's board is served there besides, to whoever asks, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from relay.limits import MAX_FORM
from relay.net.door import any_address
from relay.net.sockets import listen
from relay.node.daemon import Daemon
from relay.node.handover import keep_handovers
from relay.node.overquota import keep_over_quota
from relay.node.report import all_delivered, describe_bundle, describe_node
from relay.node.uplink import Uplink
from relay.records.identifiers import is_drill
from relay.trust.roles import Role
from relay.web.admin import AdminPages
from relay.web.admin_report import AdminReport
from relay.web.amounts import size, way
from relay.web.board import Board
from relay.web.metrics import metrics_page
from relay.web.missing import with_way_back
from relay.web.operator.answers import see_other
from relay.web.operator.guard import check_host, check_nearby
from relay.web.operator.service import Operator, phones_service
from relay.web.pages import DRILL, HEADERS, Handler, language, render, serving, style, texts


@asynccontextmanager
async def console_service(daemon: Daemon) -> AsyncIterator[None]:
    """Serve the console while the daemon runs. An extension of `relay.node.daemon`."""
    listening = listen(daemon.config.console, "console")
    role = daemon.member.identity.role
    operator = Operator(daemon) if role is Role.OPERATOR else None
    if role is not Role.RECEIVER:
        daemon.work.append(lambda: keep_handovers(daemon.custody))
    quota = daemon.config.quota(at_receiver=role is Role.RECEIVER)
    daemon.work.append(lambda: keep_over_quota(daemon.custody, quota))
    async with AsyncExitStack() as stack:
        if operator is not None:
            await operator.load()
            await stack.enter_async_context(phones_service(daemon, operator))
        await stack.enter_async_context(serving(console_application(daemon, operator), listening))
        if daemon.config.board is not None:
            screen = serving(board_application(daemon), listen(daemon.config.board), known_by=any_address)
            await stack.enter_async_context(screen)
        yield


def console_application(daemon: Daemon, operator: Operator | None) -> web.Application:
    """What answers on `console`; with the page of its `operator`, where the node has one."""
    app = web.Application(middlewares=[only_by_address, with_way_back("/style.css")], client_max_size=MAX_FORM)
    app[DRILL] = is_drill(daemon.member.identity.election)

    async def page(request: web.Request) -> web.StreamResponse:
        return await _page(daemon, request)

    async def status(_request: web.Request) -> web.StreamResponse:
        return await _status(daemon)

    async def metrics(_request: web.Request) -> web.StreamResponse:
        return await metrics_page(daemon)

    app.add_routes(
        [
            web.get("/", page),
            web.get("/status.json", status),
            web.get("/metrics", metrics),
            web.get("/style.css", style),
            *Board(daemon).routes(),
        ]
    )
    if daemon.member.identity.role is Role.RECEIVER:
        app.add_routes(AdminPages(daemon, AdminReport(daemon)).routes())
    if operator is not None:
        app.middlewares.append(only_from_here)
        operator.add_to(app)
    return app


def board_application(daemon: Daemon) -> web.Application:
    """The board for a screen that is not this device: on any Wi-Fi, so nothing else is served beside it."""
    app = web.Application(middlewares=[only_by_address, with_way_back("/board.css")], client_max_size=MAX_FORM)
    app[DRILL] = is_drill(daemon.member.identity.election)
    app.add_routes([web.get("/", _to_board), *Board(daemon).routes()])
    return app


async def _to_board(_request: web.Request) -> web.StreamResponse:
    return see_other("/board")


@web.middleware
async def only_by_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request whose Host is a name other than localhost."""
    check_host(request)
    return await handler(request)


@web.middleware
async def only_from_here(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request that comes from another device."""
    check_nearby(request)
    return await handler(request)


async def _page(daemon: Daemon, request: web.Request) -> web.Response:
    node = await describe_node(daemon.home, daemon.member, daemon.custody)
    bundles = [describe_bundle(bundle) for bundle in await daemon.custody.store.bundles()]
    meanings = texts("operator/texts.json")[language(request)]  # what flags mean, as operators read it
    uplink = Uplink(**node["uplink"]) if node["uplink"] else None
    now, lang, words = int(time.time()), language(request), texts("texts.json")[language(request)]
    return render(
        request,
        "console.html",
        node=node,
        bundles=bundles,
        meanings=meanings,
        size=size,
        uplink=uplink,
        way=lambda one: way(one, now, lang, words, all_delivered=all_delivered(node["counts"])),
    )


async def _status(daemon: Daemon) -> web.Response:
    return web.json_response(await describe_node(daemon.home, daemon.member, daemon.custody), headers=HEADERS)
