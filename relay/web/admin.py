"""The administrator's pages of a receiver, behind a login: what has arrived, what is missing, what needs attention.

It answers the device itself only: from elsewhere one comes through ssh, which encrypts and knows who comes. Sessions
live in memory and end with the daemon, after hours, or after an hour without a look. All that they show is taken from
one document, `/admin/status.json`, which is what `relay receiver status --json` prints.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from relay.errors import Refused
from relay.limits import ADMIN_IDLE_SECONDS, ADMIN_ROWS, ADMIN_SESSION_SECONDS, MAX_ADMIN_SESSIONS
from relay.node.daemon import Daemon
from relay.node.pairing import Attempts
from relay.receiver.password import has_password, is_right
from relay.records.identifiers import sha256
from relay.web.admin_report import AdminReport, areas_of, chosen, doubts_of
from relay.web.amounts import size
from relay.web.operator.answers import PAGE_HEADERS, Barred, see_other
from relay.web.operator.guard import check_nearby, check_origin, page_token, read_form, same_token
from relay.web.operator.view import moment
from relay.web.pages import LANGUAGES, Handler, render, static
from relay.web.site.pages import reason

COOKIE = "relay-admin"
PREFIX = "/admin"

STATES = ("", "incomplete", "complete")
"""Which stations a list can be of."""


@dataclass(slots=True)
class Session:
    """Somebody who is logged in; times are monotonic seconds."""

    since: float
    seen: float


class Sessions:
    """Who is logged in. Tokens are kept as hashes, so that no comparison tells how much of one was right."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def begin(self) -> str:
        """A new session's token; of too many the oldest one ends."""
        token, now = secrets.token_urlsafe(32), self._clock()
        self._sessions[_key(token)] = Session(now, now)
        while len(self._sessions) > MAX_ADMIN_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def known(self, token: str) -> bool:
        """Whether a token is of a session that stands; looking keeps it alive."""
        session, now = self._sessions.get(_key(token)), self._clock()
        if session is None:
            return False
        if now - session.since > ADMIN_SESSION_SECONDS or now - session.seen > ADMIN_IDLE_SECONDS:
            self.end(token)
            return False
        session.seen = now
        return True

    def end(self, token: str) -> None:
        """Log out."""
        self._sessions.pop(_key(token), None)


class AdminPages:
    """`/admin`. `report` is what the pages show."""

    def __init__(self, daemon: Daemon, report: AdminReport) -> None:
        self._folder = daemon.home.path
        self._identity = daemon.member.identity
        self._report = report
        self._sessions = Sessions(time.monotonic)
        self._attempts = Attempts()
        self._checking = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [
            web.get(PREFIX, self._guarded(self.show)),
            web.get(f"{PREFIX}/stations", self._guarded(self.stations)),
            web.get(f"{PREFIX}/login", self._guarded(self.login_page, open_to_all=True)),
            web.post(f"{PREFIX}/login", self._guarded(self.login, open_to_all=True)),
            web.post(f"{PREFIX}/logout", self._guarded(self.logout)),
            web.get(f"{PREFIX}/status.json", self._guarded(self.status)),
            web.get(f"{PREFIX}/admin.css", static("admin/admin.css", "text/css")),
            web.get("/operator/operator.css", static("operator/operator.css", "text/css")),
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        report = await self._report()
        areas = areas_of(report.get("forms", ()))
        return self._page(
            request,
            "admin/admin.html",
            report=report,
            areas=areas,
            islands=[line for area in areas if area.island for line in area.stations if line.state != "complete"],
            doubts=doubts_of(report),
            being_read=self._report.being_read,
            entries_read=self._report.entries_read,
            token=page_token(request.cookies[COOKIE]),
        )

    async def stations(self, request: web.Request) -> web.StreamResponse:
        """The stations of an area, or those that are not complete, some at a time."""
        areas = areas_of((await self._report()).get("forms", ()))
        area, state = request.query.get("area", ""), request.query.get("state", "")
        lines = chosen(areas, area, state)
        first = _first(request.query.get("first", ""), len(lines))
        asked = {"area": area, "state": state}
        links = {
            name: "?" + urlencode({**asked, "first": place})
            for name, place in (("before", first - ADMIN_ROWS), ("after", first + ADMIN_ROWS))
            if 0 <= place < len(lines)
        }
        return self._page(
            request,
            "admin/stations.html",
            areas=areas,
            area=area,
            state=state if state in STATES else "",
            states=STATES,
            lines=lines[first : first + ADMIN_ROWS],
            first=first,
            count=len(lines),
            links=links,
        )

    async def status(self, _request: web.Request) -> web.StreamResponse:
        """The same for programs."""
        return web.json_response(await self._report(), headers={**PAGE_HEADERS, "Cache-Control": "no-store"})

    async def login_page(self, request: web.Request) -> web.StreamResponse:
        """The form."""
        return self._page(
            request, "admin/login.html", trouble="" if has_password(self._folder) else "no_password", wait=0
        )

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Take a password. Guesses are checked one at a time, and slow down."""
        form = await read_form(request)
        async with self._checking:
            wait = self._attempts.wait("", time.monotonic())
            if wait > 0:
                return self._page(request, "admin/login.html", 429, trouble="wait", wait=math.ceil(wait))
            if not await asyncio.to_thread(is_right, self._folder, form.get("password", "")):
                self._attempts.failed("", time.monotonic())
                return self._page(request, "admin/login.html", 403, trouble="wrong", wait=0)
            self._attempts.succeeded("")
        response = see_other(PREFIX)
        response.set_cookie(COOKIE, self._sessions.begin(), path=PREFIX, httponly=True, samesite="Strict")
        return response

    async def logout(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        form = await read_form(request)
        if not same_token(form.get("token", ""), page_token(request.cookies[COOKIE])):
            raise Barred(request, Refused("old-page", "The page is too old", "Go back, reload it and try again."))
        self._sessions.end(request.cookies[COOKIE])
        response = see_other(f"{PREFIX}/login")
        response.del_cookie(COOKIE, path=PREFIX)
        return response

    def _guarded(self, handler: Handler, *, open_to_all: bool = False) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            check_nearby(request)
            check_origin(request)
            if not open_to_all and not self._sessions.known(request.cookies.get(COOKIE, "")):
                if "text/html" in request.headers.get("Accept", ""):  # a POST too: its session ended meanwhile
                    return see_other(f"{PREFIX}/login")
                raise web.HTTPUnauthorized(text="Log in at /admin/login.")
            return await handler(request)

        return guarded

    def _page(self, request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
        response = render(
            request,
            template,
            words="admin/texts.json",
            allowed=PAGE_HEADERS,
            status=status,
            most=ADMIN_ROWS,
            moment=moment,
            size=size,
            reason=reason,
            query=dict(request.query),
            receiver=self._identity.name,
            election=self._identity.election,
            home=shlex.quote(str(self._folder)),
            **values,
        )
        if request.query.get("lang") in LANGUAGES:
            response.set_cookie("lang", request.query["lang"], path=PREFIX, httponly=True, samesite="Strict")
        return response


def _first(text: str, count: int) -> int:
    """Where a part of a list begins, as an address says; the beginning for what it cannot say."""
    place = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    return place if place < count else 0


def _key(token: str) -> bytes:
    return sha256(b"relay admin\0" + token[:128].encode("utf-8", "replace"))
