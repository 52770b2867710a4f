"""What the operator's pages answer with besides pages: their headers, redirects, and what went wrong.

Trouble is told in the language of whoever asks: as a page to people, as problem details (RFC 9457) to the script.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from aiohttp import web

from relay.errors import DiskFull, RelayError
from relay.language import indonesian
from relay.web.pages import HEADERS, language, render

logger = logging.getLogger(__name__)

PREFIX = "/operator"
TOKEN: web.RequestKey[str] = web.RequestKey("token", str)
"""What our pages send with what changes something; only a paired phone's requests have it."""
PAGE_HEADERS: Mapping[str, str] = {
    **HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
}


class Barred(web.HTTPException):
    """Ends a request before any handler sees it."""

    def __init__(self, request: web.Request, error: RelayError) -> None:
        told = explained(request, error)
        self.status_code = told.status
        headers = {name: value for name, value in told.headers.items() if not name.startswith("Content-T")}
        super().__init__(headers=headers, text=told.text, content_type=told.content_type)


def explained(request: web.Request, error: RelayError) -> web.Response:
    """The answer to a request that failed."""
    if isinstance(error, DiskFull):
        logger.error("%s", error)  # which file it was helps whoever reads this, and nobody with a phone
        error = DiskFull("This box is full", "Delete nothing, and call whoever looks after the box.")
    if "text/html" in request.headers.get("Accept", ""):
        return render(
            request,
            "operator/trouble.html",
            words="operator/texts.json",
            allowed=PAGE_HEADERS,
            status=error.status,
            error=error,
            start=_start(request.path),
            token=request.get(TOKEN, ""),
        )
    say = indonesian().translate if language(request) == "id" else str
    document = {
        "type": f"relay:problem/{error.kind}",
        "title": say(error.what),
        "status": error.status,
        "detail": say(error.advice),
    }
    return web.Response(
        status=error.status,
        text=json.dumps(document, ensure_ascii=False),
        content_type="application/problem+json",
        headers={**PAGE_HEADERS, "Cache-Control": "no-store"},
    )


def _start(path: str) -> str:
    """Where whoever asked for `path` begins again."""
    for start in (PREFIX, "/admin"):
        if path == start or path.startswith(f"{start}/"):
            return start
    return "/"


def see_other(path: str) -> web.Response:
    """Go on there with a GET: what was posted is not posted again by a reload."""
    return web.Response(status=303, headers={**PAGE_HEADERS, "Location": path, "Cache-Control": "no-store"})
