"""What the pages share: serving them, templates, languages, and headers that let a browser do as little as possible."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from socket import socket
from ssl import SSLContext
from typing import Any

from aiohttp import web
from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

from relay.language import indonesian
from relay.limits import LINGERING_SECONDS, MAX_CONNECTIONS_PER_NODE
from relay.net.door import Door, KnownBy
from relay.web.names import form_name

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LANGUAGES = ("id", "en")
DRILL = web.AppKey("drill", bool)
"""Set in an application that serves a practice election: its pages say so, in words and colour."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def language(request: web.Request) -> str:
    """The language asked for: `?lang=`, else what was chosen before, else the browser's first, else Indonesian."""
    for asked in (request.query.get("lang", ""), request.cookies.get("lang", "")):
        if asked in LANGUAGES:
            return asked
    for part in request.headers.get("Accept-Language", "")[:200].split(","):
        code = part.strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return "id"


def render(
    request: web.Request,
    template: str,
    *,
    words: str = "texts.json",
    allowed: Mapping[str, str] = HEADERS,
    status: int = 200,
    **values: Any,
) -> web.Response:
    """A page in the language of the request. `words` is its file of texts; `allowed` are the headers that bound it."""
    lang = language(request)
    drill = texts("texts.json")[lang]["drill"] if request.app.get(DRILL) else ""
    say = indonesian().translate if lang == "id" else str  # for what other rooms say: errors, alarms
    document = _environment().get_template(template)
    text = document.render(lang=lang, t=texts(words)[lang], say=say, drill=drill, **values)
    headers = {**allowed, "Content-Language": lang, "Vary": "Accept-Language, Cookie", "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", headers=headers, status=status)


def static(name: str, content_type: str) -> Handler:
    """A handler that serves one of our own files, a style sheet or a script."""

    async def serve(_request: web.Request) -> web.StreamResponse:
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return web.Response(text=_read(name), content_type=content_type, charset="utf-8", headers=headers)

    return serve


async def style(_request: web.Request) -> web.Response:
    """The style sheet."""
    return web.Response(text=_read("style.css"), content_type="text/css", headers=HEADERS)


@asynccontextmanager
async def serving(
    app: web.Application,
    listening: socket,
    context: SSLContext | None = None,
    *,
    known_by: KnownBy | None = None,
    most_each: int = MAX_CONNECTIONS_PER_NODE,
    handler_cancellation: bool = False,
) -> AsyncIterator[None]:
    """Within it, `app` answers on a socket that listens: bounded in connections, of each address too where it is
    `known_by` something, and nothing is ever decompressed.

    With `handler_cancellation` a call ends when its reader is gone: for what only reads. Who hands something in may be
    gone before it is kept, and it is kept all the same.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        auto_decompress=False,
        lingering_time=LINGERING_SECONDS,
        shutdown_timeout=1.0,
        handler_cancellation=handler_cancellation,
    )
    door = Door(lambda: _protocol(runner), context, known_by=known_by, most_each=most_each)

    @web.middleware
    async def at_work(request: web.Request, handler: Handler) -> web.StreamResponse:
        with door.call(request.transport):
            return await handler(request)

    app.middlewares.insert(0, at_work)
    await runner.setup()
    door.open(listening)
    try:
        yield
    finally:
        await door.close()
        await runner.cleanup()


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["form_name"] = form_name
    return environment


@cache
def texts(name: str) -> dict[str, dict[str, str]]:
    """What pages say, by language and key."""
    found: dict[str, dict[str, str]] = json.loads(_read(name))
    return found


def _read(name: str) -> str:
    return (resources.files("relay.web") / "templates" / name).read_text(encoding="utf-8")
