"""The operator's page at work: on the device itself over its console, and for phones on a listener with HTTPS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from relay.errors import NotHeld, RelayError, Unreachable
from relay.limits import MAX_FORM
from relay.net.door import any_address
from relay.net.sockets import listen
from relay.node.daemon import Daemon
from relay.node.diary import Diary
from relay.node.drafts import AlreadySent, Drafts
from relay.node.pairing import Attempts, Pairing
from relay.records.identifiers import is_drill
from relay.web.diary import Onlooker
from relay.web.missing import with_way_back
from relay.web.operator.answers import PREFIX, explained, see_other
from relay.web.operator.certificate import names, page_certificate, page_context
from relay.web.operator.guard import FILES, Guard, is_operators
from relay.web.operator.pages import OperatorPages
from relay.web.operator.pairing import PairingPages
from relay.web.pages import DRILL, Handler, serving, static, style

_KINDS = {"css": "text/css", ".js": "text/javascript"}


class Operator:
    """The operator's page of one node: drafts, phones and guesses are shared by its listeners."""

    def __init__(self, daemon: Daemon) -> None:
        self._drafts = Drafts(daemon.home, daemon.member, daemon.custody)
        self._pairing = Pairing(daemon.home.path)
        self._attempts = Attempts()
        self._diary = Diary(daemon.home.path)
        self._pages = OperatorPages(daemon, self._drafts)

    async def load(self) -> None:
        """Take up the drafts of before."""
        await self._drafts.load()

    def add_to(self, app: web.Application, known_as: frozenset[str] = frozenset()) -> None:
        """Serve the page within `app`, behind its guard."""
        guard = Guard(self._pairing, known_as)
        pairing = PairingPages(self._pairing, guard, self._attempts)
        if app[DRILL]:
            app.middlewares.append(Onlooker(self._diary, self._drafts, self._pairing).middleware)
        app.middlewares.append(_in_words)
        app.middlewares.append(guard.middleware)
        app.add_routes(
            [
                web.get(f"{PREFIX}/pair", pairing.show),
                web.post(f"{PREFIX}/pair", pairing.pair),
                web.post(f"{PREFIX}/unpair", pairing.unpair),
                *(web.get(f"{PREFIX}/{name}", static(f"operator/{name}", _KINDS[name[-3:]])) for name in FILES),
                *self._pages.routes(),
            ]
        )


@web.middleware
async def _in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell what went wrong on the operator's pages."""
    try:
        return await handler(request)
    except (RelayError, web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        if not is_operators(request.path):
            raise
        if isinstance(error, AlreadySent) and error.statement and "text/html" in request.headers.get("Accept", ""):
            return see_other(f"{PREFIX}/packages/{error.statement}")
        if isinstance(error, RelayError):
            return explained(request, error)
        return explained(request, NotHeld("There is no such page", "Begin at the list of forms."))
    except (ConnectionError, TimeoutError):  # phones sleep and walk away
        request.protocol.force_close()
        return explained(request, Unreachable("The phone left in the middle of a request", "Try again."))


@asynccontextmanager
async def phones_service(daemon: Daemon, operator: Operator) -> AsyncIterator[None]:
    """Serve paired phones over HTTPS, where config.toml has `operator`."""
    if daemon.config.operator is None:
        yield
        return
    certificate, key = page_certificate(daemon.home, daemon.config)
    context = page_context(certificate, key)
    listening = listen(daemon.config.operator, "operator")
    app = phones_application(daemon, operator, names(certificate))
    async with serving(app, listening, context, known_by=any_address):
        yield


def phones_application(daemon: Daemon, operator: Operator, known_as: frozenset[str] = frozenset()) -> web.Application:
    """What answers phones; under addresses, and names that it is `known_as`."""
    app = web.Application(middlewares=[with_way_back("/style.css")], client_max_size=MAX_FORM)
    app[DRILL] = is_drill(daemon.member.identity.election)
    operator.add_to(app, known_as)
    app.add_routes([web.get("/", _to_page), web.get("/style.css", style)])
    return app


async def _to_page(_request: web.Request) -> web.StreamResponse:
    return see_other(PREFIX)
