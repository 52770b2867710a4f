"""What the pages share: templates, languages, and headers that let a browser do as little as possible."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from typing import Any

from aiohttp import web
from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LANGUAGES = ("id", "en")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def language(request: web.Request) -> str:
    """The language asked for: `?lang=`, else the browser's first that we have, else Indonesian."""
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return asked
    for part in request.headers.get("Accept-Language", "")[:200].split(","):
        code = part.strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return "id"


def render(request: web.Request, template: str, **values: Any) -> web.Response:
    """A page in the language of the request."""
    lang = language(request)
    text = _environment().get_template(template).render(lang=lang, t=_texts()[lang], **values)
    headers = {**HEADERS, "Content-Language": lang, "Vary": "Accept-Language", "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", headers=headers)


async def style(_request: web.Request) -> web.Response:
    """The style sheet."""
    return web.Response(text=_read("style.css"), content_type="text/css", headers=HEADERS)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_read),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _texts() -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = json.loads(_read("texts.json"))
    return texts


def _read(name: str) -> str:
    return (resources.files("relay.web") / "templates" / name).read_text(encoding="utf-8")
