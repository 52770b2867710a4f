"""Pairing a phone: the only page that a stranger sees. It tells nothing about the node."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from ipaddress import ip_address

from aiohttp import web

from relay.errors import BadInput
from relay.limits import MAX_PHONE_NAME
from relay.node.pairing import LONG, SHORT, Attempts, Pairing, normal
from relay.web.operator.answers import PAGE_HEADERS, PREFIX, see_other
from relay.web.operator.guard import Guard, cookie_name, read_form, set_session
from relay.web.pages import render

logger = logging.getLogger(__name__)

_PHONES = ("iPhone", "iPad", "Android", "Windows", "Macintosh", "Linux")


class PairingPages:
    """`GET` and `POST /operator/pair`."""

    def __init__(self, pairing: Pairing, guard: Guard, attempts: Attempts) -> None:
        self._pairing = pairing
        self._guard = guard
        self._attempts = attempts

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The form; a link (QR code) fills it in. It takes a tap: programs that only look at links pair nothing."""
        if self._guard.paired(request) and "code" not in request.query:
            return see_other(PREFIX)
        return self._page(request, request.query.get("code", "")[:64])

    async def pair(self, request: web.Request) -> web.StreamResponse:
        """Take a code."""
        form = await read_form(request)
        code = form.get("code", "")[:64]
        guessable = len(normal(code)) != LONG
        source = _source(request)
        if guessable:
            wait = self._attempts.wait(source, time.monotonic())
            if wait > 0:
                return self._page(request, "", trouble="pair_wait", wait=math.ceil(wait), status=429)
            if len(normal(code)) == SHORT:  # counted before it is judged: a burst of guesses is many guesses
                self._attempts.failed(source, time.monotonic())
        name = _phone_name(request.headers.get("User-Agent", ""))
        try:
            token = await asyncio.to_thread(self._pairing.redeem, code, name, int(time.time()))
        except BadInput:
            return self._page(request, code, trouble="pair_full", status=409)
        if token is None:
            logger.warning("%s tried a code that is not valid", source)
            return self._page(request, "", trouble="pair_wrong", status=403)
        self._attempts.succeeded(source)
        logger.info("paired a phone: %s", name)
        response = see_other(PREFIX)
        set_session(request, response, token)
        return response

    async def unpair(self, request: web.Request) -> web.StreamResponse:
        """Forget the phone that asks."""
        phone = self._pairing.phone(request.cookies.get(cookie_name(request), ""))
        if phone is not None:
            await asyncio.to_thread(self._pairing.unpair, phone.id)
        response = see_other(f"{PREFIX}/pair")
        response.del_cookie(cookie_name(request), secure=request.secure, httponly=True, samesite="Strict")
        return response

    def _page(
        self, request: web.Request, code: str, *, trouble: str = "", wait: int = 0, status: int = 200
    ) -> web.Response:
        response = render(
            request,
            "operator/pair.html",
            words="operator/texts.json",
            allowed=PAGE_HEADERS,
            status=status,
            code=code,
            linked=len(normal(code)) == LONG,
            trouble=trouble,
            wait=wait,
        )
        if wait:
            response.headers["Retry-After"] = str(wait)
        return response


def _source(request: web.Request) -> str:
    """Who asks: an address; of IPv6 the network, since everybody has many addresses of it."""
    try:
        address = ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return "?"
    if address.version == 6 and address.ipv4_mapped is None and not address.is_link_local:
        return address.exploded[:19]
    return str(address)


def _phone_name(agent: str) -> str:
    """What to call a phone in a list: its kind, and the model where its browser tells."""
    kind = next((one for one in _PHONES if one in agent), "")
    inside = agent.partition("(")[2].partition(")")[0]
    model = inside.split(";")[-1].strip() if kind == "Android" else ""
    return " ".join(filter(None, (kind, model)))[:MAX_PHONE_NAME] or "?"
