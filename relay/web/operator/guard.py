"""Who may use the operator's page: a paired phone, from our own pages, under our own address. Everyone else: nobody.

Four checks stand before every handler, in this order:

1. Host: an address, `localhost`, or a name of the certificate. A page of the internet whose name was rebound to this
   address (DNS rebinding) comes under its own name.
2. Where the request comes from: Fetch Metadata (`Sec-Fetch-Site`) and `Origin`. What changes something must come from
   this very origin; what only reads may also be a link that was followed.
3. The cookie: a token of 256 bits that pairing gave, HttpOnly, SameSite=Strict; with HTTPS also Secure and bound to
   this host (`__Host-`).
4. What changes something carries a second token, derived from the first, that only our pages know.
"""

from __future__ import annotations

import asyncio
import hmac
from ipaddress import IPv6Address, ip_address

from aiohttp import web
from aiohttp.typedefs import Middleware

from relay.errors import BadInput, Refused
from relay.limits import FORM_SECONDS, MAX_FORM
from relay.node.pairing import Pairing, Phone
from relay.records.identifiers import sha256
from relay.web.operator.answers import PREFIX, TOKEN, Barred, see_other
from relay.web.pages import LANGUAGES, Handler

FILES = ("operator.css", "operator.js", "pictures.js")
OPEN_PATHS = frozenset({f"{PREFIX}/pair", *(f"{PREFIX}/{name}" for name in FILES), "/style.css"})
TOKEN_HEADER = "Relay-Token"  # noqa: S105 - the name of a header
PHONE: web.RequestKey[Phone] = web.RequestKey("phone", Phone)
FORM: web.RequestKey[dict[str, str]] = web.RequestKey("form", dict)

_SAFE = ("GET", "HEAD")
_YEAR = 365 * 86_400


class NotPaired(Refused):
    """A phone that is not paired, or no longer."""

    kind = "not-paired"
    status = 401

    def __init__(self) -> None:
        super().__init__("not-paired", "This phone is not paired", "Pair it: the box shows a code.")


class TooLarge(BadInput):
    """A body over its limit."""

    kind = "too-large"
    status = 413


class Guard:
    """The checks, for one listener. `names` are names, besides addresses, under which it may be asked."""

    def __init__(self, pairing: Pairing, names: frozenset[str] = frozenset()) -> None:
        self._pairing = pairing
        self._names = names

    @property
    def middleware(self) -> Middleware:
        """For `web.Application(middlewares=...)`."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            check_host(request, self._names)
            if not is_operators(request.path):
                return await handler(request)
            check_origin(request)
            if request.path not in OPEN_PATHS:
                entrance = self._enter(request)
                if entrance is not None:
                    return entrance
                await check_token(request)
            response = await handler(request)
            if request.query.get("lang") in LANGUAGES:
                response.set_cookie("lang", request.query["lang"], max_age=_YEAR, httponly=True, samesite="Strict")
            return response

        return guarded

    def paired(self, request: web.Request) -> bool:
        """Whether the request comes from a paired phone."""
        token = request.cookies.get(cookie_name(request), "")
        phone = self._pairing.phone(token) if token else None
        if phone is None:
            return False
        request[PHONE] = phone
        request[TOKEN] = page_token(token)
        return True

    def _enter(self, request: web.Request) -> web.StreamResponse | None:
        if self.paired(request):
            return None
        if request.method in _SAFE and "text/html" in request.headers.get("Accept", ""):
            return see_other(f"{PREFIX}/pair")
        raise Barred(request, NotPaired())


def is_operators(path: str) -> bool:
    """Whether a path is of the operator's page."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def cookie_name(request: web.Request) -> str:
    """The cookie's name: over HTTPS one that no other host and no plain connection can set."""
    return "__Host-relay" if request.secure else "relay"


def set_session(request: web.Request, response: web.StreamResponse, token: str) -> None:
    """Give a phone its token."""
    response.set_cookie(
        cookie_name(request), token, max_age=60 * 86_400, httponly=True, secure=request.secure, samesite="Strict"
    )


def page_token(token: str) -> str:
    """The token that our pages send with what changes something."""
    return sha256(b"relay page\0" + token.encode("utf-8", "replace")).hex()


def check_host(request: web.Request, names: frozenset[str] = frozenset()) -> None:
    """Refuse a request whose Host is neither an address nor a name of ours."""
    host = request.host.rpartition(":")[0] if request.host.count(":") == 1 or "]" in request.host else request.host
    plain = host.strip("[]").partition("%")[0]
    try:
        ip_address(plain)
    except ValueError:
        if plain.lower() not in names | {"localhost"}:
            refused = Refused("foreign-host", "This page has no such name", "Open it by the address of the box.")
            raise Barred(request, refused) from None


def check_nearby(request: web.Request) -> None:
    """Refuse a request that comes from another device."""
    address = ip_address((request.remote or "").partition("%")[0])
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if not (plain or address).is_loopback:
        raise Barred(request, Refused("another-device", "This page is for the device itself", "Open it there."))


def check_origin(request: web.Request) -> None:
    """Refuse what another site made the browser send."""
    site = request.headers.get("Sec-Fetch-Site", "")
    if request.method in _SAFE:
        if site in ("cross-site", "same-site") and request.headers.get("Sec-Fetch-Mode") != "navigate":
            raise Barred(request, _another_site())
        return
    ours = f"{request.scheme}://{request.host}"
    if request.headers.get("Origin", "") != ours or site not in ("", "same-origin", "none"):
        raise Barred(request, _another_site())


def _another_site() -> Refused:
    return Refused("another-site", "Another site asked for this", "Open the page of the box itself and try again.")


async def check_token(request: web.Request) -> None:
    """Refuse a change without the page's token. A form's fields are read on the way; one with files brings the token
    as its first part, which its handler checks."""
    request[FORM] = {}
    if request.method in _SAFE or (request.content_type == "multipart/form-data" and _takes_files(request.path)):
        return
    given = request.headers.get(TOKEN_HEADER, "")
    if request.content_type == "application/x-www-form-urlencoded":
        request[FORM] = await read_form(request)
        given = given or request[FORM].get("token", "")
    check_given_token(request, given)


def _takes_files(path: str) -> bool:
    return path.startswith(f"{PREFIX}/drafts/") and path.endswith("/pictures")


def check_given_token(request: web.Request, given: str) -> None:
    """Refuse a change whose token is not the page's."""
    if not same_token(given, request[TOKEN]):
        raise Barred(request, Refused("old-page", "The page is too old", "Go back, reload it and try again."))


def same_token(given: str, expected: str) -> bool:
    """Whether two tokens are the same, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form without files: `MAX_FORM` bytes within `FORM_SECONDS`; of a repeated one the first."""
    from urllib.parse import parse_qsl

    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for part in request.content.iter_chunked(8192):
                body += part
                if len(body) > MAX_FORM:
                    raise Barred(request, TooLarge("That is too long for a form", "Shorten it."))
    except TimeoutError as error:
        request.protocol.force_close()  # strangers must not hold connections by saying nothing
        raise Barred(request, BadInput("The form did not arrive", "Send it again.")) from error
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise Barred(request, BadInput("What arrived is no form", "Reload the page.")) from error
    return dict(reversed(pairs))
