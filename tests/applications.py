"""The web applications that nodes really serve, one for each door, and the routes that they register."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from aiohttp import web

from relay.net.server import SyncServer
from relay.node.config import Config
from relay.node.daemon import Daemon
from relay.node.home import Home
from relay.trust.roles import Role
from relay.web.console import board_application, console_application
from relay.web.operator.service import Operator, phones_application
from relay.web.public import public_application
from tests.fleet import Fleet

SYNC, PUBLIC, CONSOLE, ADMIN, PHONES, BOARD = "sync", "public", "console", "admin", "phones", "board"
"""Doors. `admin` is the console of a receiver."""


async def applications(fleet: Fleet, folder: Path) -> Mapping[str, web.Application]:
    """What nodes of every role serve."""
    island = await _daemon(fleet, folder, "island", Role.OPERATOR)
    receiver = await _daemon(fleet, folder, "receiver", Role.RECEIVER)
    boat = await _daemon(fleet, folder, "boat", Role.CARRIER)
    operator = Operator(island)
    return {
        SYNC: SyncServer(_nobody, _nobody, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).runner().app,
        PUBLIC: public_application(receiver),
        CONSOLE: console_application(island, operator),
        ADMIN: console_application(receiver, None),
        PHONES: phones_application(island, operator),
        BOARD: board_application(boat),
    }


def routes(app: web.Application) -> Iterator[tuple[str, str]]:
    """Method and path of everything that an application answers; HEAD only where it has a handler of its own."""
    handlers = {(one.method, _path(one)): one.handler for one in app.router.routes()}
    for (method, path), handler in sorted(handlers.items(), key=lambda one: one[0]):
        if method != "HEAD" or handlers.get(("GET", path)) != handler:
            yield method, path


def _path(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


async def _daemon(fleet: Fleet, folder: Path, name: str, role: Role) -> Daemon:
    ship = await fleet.launch(name, role)
    home = Home(folder / f"home-{name}")
    home.path.mkdir()
    return Daemon(home, Config(), ship.member, ship.custody)


def _nobody(_who: object) -> NoReturn:
    raise AssertionError("nobody visits")
