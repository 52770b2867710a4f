"""A page, in the reader's language, for what is not there: whoever mistyped an address is led back to the start.

Only where a person asks for a page: programs get the plain answer that they had.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Middleware

from relay.web.crowd import Crowded
from relay.web.pages import Handler, render


def with_way_back(stylesheet: str, plain: tuple[str, ...] = ()) -> Middleware:
    """For `web.Application(middlewares=...)` of a listener that has its start page at `/` and that style sheet.

    What begins with one of `plain` is no page: it says itself what it lacks.
    """

    @web.middleware
    async def led_back(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed, web.HTTPServiceUnavailable) as error:
            asks_for_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
            if not asks_for_page or request.path.startswith(plain):
                raise
            return _page(request, error, stylesheet)

    return led_back


def _page(request: web.Request, error: web.HTTPException, stylesheet: str) -> web.StreamResponse:
    soon = isinstance(error, web.HTTPServiceUnavailable)
    response = render(
        request,
        "missing.html",
        status=error.status,
        stylesheet=stylesheet,
        what="crowded" if isinstance(error, Crowded) else "not_yet" if soon else "no_page",
    )
    if soon and "Retry-After" in error.headers:
        response.headers["Retry-After"] = response.headers["Refresh"] = error.headers["Retry-After"]
    return response
