"""What phones do on the operator's page of a drill, written into the node's diary. It looks on, and changes nothing."""

from __future__ import annotations

import logging
import re

from aiohttp import web

from relay.errors import NotHeld, StoreError
from relay.limits import MAX_TEXT
from relay.node.diary import Diary
from relay.node.drafts import Drafts
from relay.node.pairing import Pairing
from relay.web.operator.answers import PREFIX
from relay.web.operator.guard import FORM, PHONE, cookie_name
from relay.web.pages import Handler

_DRAFT = re.compile(rf"{PREFIX}/drafts/([0-9a-f]{{16}})(?:/|$)")
_PICTURE = re.compile(rf"{PREFIX}/drafts/[0-9a-f]{{16}}/pictures/([0-9a-f]{{16}})")
logger = logging.getLogger(__name__)


class Onlooker:
    """Stands before everything else of the page, and so sees how each request ended."""

    def __init__(self, diary: Diary, drafts: Drafts, pairing: Pairing) -> None:
        self._diary = diary
        self._drafts = drafts
        self._pairing = pairing

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """For `web.Application(middlewares=...)`."""
        picture = _PICTURE.fullmatch(request.path)
        if request.method == "PATCH" and picture and request.headers.get("Upload-Offset") == "0":
            self._note(request, "arriving", picture[1])
        response = await handler(request)
        what, detail = self._seen(request, response, picture[1] if picture else "")
        if what:
            self._note(request, what, detail, response)
        return response

    def _seen(self, request: web.Request, response: web.StreamResponse, picture: str) -> tuple[str, str]:
        """What it was, and a detail; empty for what is no step of a drill."""
        status, call = response.status, (request.method, request.path.removeprefix(PREFIX))
        if call[1] == "/pair":
            if call[0] == "POST":
                return ("paired", _stranger(request)) if status == 303 else ("wrong-code", "")
            return "opened" if status == 200 and PHONE not in request else "", ""
        if call == ("POST", "/begin") and status == 303:
            return "began", ""
        if picture and call[0] == "HEAD":
            begun = status == 204 and response.headers.get("Upload-Offset", "0") != "0"
            return "resumed" if begun and response.headers.get("Upload-Complete") == "?0" else "", picture
        if picture and call[0] == "PATCH":
            if status == 204:
                return "arrived" if response.headers.get("Upload-Complete") == "?1" else "", picture
            return "resumed" if status == 409 else "refused", picture
        if call[0] == "POST" and call[1].endswith("/pictures"):
            return "arrived" if status == 303 else "refused", ""
        if call[0] == "POST" and call[1].endswith("/review") and "/packages/" in response.headers.get("Location", ""):
            return "sent", ""
        return "", ""

    def _note(self, request: web.Request, what: str, detail: str, response: web.StreamResponse | None = None) -> None:
        tps, form = self._form(request, response)
        try:
            self._diary.note(what, who=self._who(request, response), tps=tps, form=form, detail=detail)
        except StoreError as error:
            logger.error("%s", error)  # nobody's form waits for the diary

    def _form(self, request: web.Request, response: web.StreamResponse | None) -> tuple[str, str]:
        """Which station and form it is about."""
        where = response.headers.get("Location", "") if response is not None else ""
        match = _DRAFT.match(request.path) or _DRAFT.match(where)
        if match is None:
            typed = request.get(FORM, {})
            return typed.get("tps", ""), typed.get("form", "")
        try:
            draft = self._drafts.get(match[1])
        except NotHeld:
            return "", ""
        return draft.tps, draft.form

    def _who(self, request: web.Request, response: web.StreamResponse | None) -> str:
        """The phone, or where somebody comes from who has not paired one yet."""
        phone = request.get(PHONE)
        given = response.cookies.get(cookie_name(request)) if response is not None else None
        if phone is None and given is not None:
            phone = self._pairing.phone(given.value)
        return f"{phone.name} {phone.id}" if phone is not None else _stranger(request)


def _stranger(request: web.Request) -> str:
    return f"{request.remote} {request.headers.get('User-Agent', '')}"[:MAX_TEXT]
