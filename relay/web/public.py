"""The receiver's public side, read-only over plain HTTP: the log's files, objects, statements, receipts, and a page.

    /checkpoint  /tile/…             C2SP tlog-tiles            /object/<sha256>        content
    /statement/<id>  /receipt/<id>   COSE, as in the log        /                       what was received

Everything that is named by its hash never changes and may be cached for ever; the checkpoint and the page may not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from relay.errors import RelayError
from relay.limits import MAX_RECORD
from relay.log.tiles import ENTRIES, WIDTH, parse_path
from relay.net.server import problem
from relay.net.sockets import listen
from relay.node.daemon import Daemon
from relay.node.report import describe_bundle
from relay.records.identifiers import ObjectId, RecordId, StatementId, parse_hash, receipt_id
from relay.store.interface import State
from relay.web.pages import HEADERS, Handler, render, serving, style

_FOR_EVER = "public, max-age=31536000, immutable"
_OPEN = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}


class PublicSite:
    """Answers the public from what the receiver has logged."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._store = daemon.custody.store

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [
            web.get("/", self.index),
            web.get("/style.css", style),
            web.get("/checkpoint", self.checkpoint),
            web.get("/tile/{rest:.+}", self.tile),
            web.get("/object/{digest}", self.object),
            web.get("/statement/{digest}", self.statement),
            web.get("/receipt/{digest}", self.receipt),
        ]

    async def index(self, request: web.Request) -> web.StreamResponse:
        """What was received, newest entry first."""
        stations = self._daemon.custody.admission.stations
        bundles = []
        for bundle in await self._store.bundles():
            if bundle.state is State.DELIVERED:
                station = stations.get(bundle.tps)
                place = ", ".join(filter(None, (station.village, station.district, station.island))) if station else ""
                bundles.append({**describe_bundle(bundle), "place": place})
        bundles.sort(key=lambda bundle: -int(bundle["entry"]))
        state = await self._store.log_state()
        return render(
            request,
            "public.html",
            election=self._daemon.member.identity.election,
            bundles=bundles,
            stations=len({bundle["tps"] for bundle in bundles}),
            size=state.size,
        )

    async def checkpoint(self, _request: web.Request) -> web.StreamResponse:
        """The newest signed checkpoint."""
        state = await self._store.log_state()
        body = state.checkpoint
        for signed in self._daemon.custody.admission.checkpoints.values():
            if signed.checkpoint.size == state.size and signed.checkpoint.origin.encode() == body.partition(b"\n")[0]:
                body = signed.raw  # the same, with the cosignatures that boats brought
        headers = {**_OPEN, "Cache-Control": "no-cache"}
        return web.Response(body=body, content_type="text/plain", charset="utf-8", headers=headers)

    async def tile(self, request: web.Request) -> web.StreamResponse:
        """A tile or an entry bundle."""
        tile = parse_path(request.path.lstrip("/"))
        path = self._daemon.home.public_folder / tile.path
        if not path.is_file():
            raise web.HTTPNotFound(text="The log has no such tile.")
        state = await self._store.log_state()
        level = 0 if tile.level == ENTRIES else tile.level
        if (tile.index * WIDTH + tile.width) << (8 * level) > state.size:
            raise web.HTTPNotFound(text="The log has no such tile.")  # written, not committed yet
        return web.FileResponse(
            path, headers={**_OPEN, "Cache-Control": _FOR_EVER, "Content-Type": "application/octet-stream"}
        )

    async def object(self, request: web.Request) -> web.StreamResponse:
        """The content of an object of a logged package."""
        digest = ObjectId(parse_hash(request.match_info["digest"], "object"))
        path = await self._store.object_path(digest)
        if path is None:
            raise web.HTTPNotFound(text="There is no such object here.")
        kind = _picture_type((await self._store.read_chunk(digest, 0) or b"")[:16])
        headers = {**_OPEN, "Cache-Control": _FOR_EVER, "Content-Security-Policy": HEADERS["Content-Security-Policy"]}
        return web.FileResponse(path, headers={**headers, "Content-Type": kind})

    async def statement(self, request: web.Request) -> web.StreamResponse:
        """A logged statement's bytes."""
        return await self._record(self._statement_id(request), logged=self._statement_id(request))

    async def receipt(self, request: web.Request) -> web.StreamResponse:
        """The receipt for a statement."""
        statement = self._statement_id(request)
        return await self._record(receipt_id(statement), logged=statement)

    def _statement_id(self, request: web.Request) -> StatementId:
        return StatementId(RecordId(parse_hash(request.match_info["digest"], "statement id")))

    async def _record(self, record: RecordId, logged: StatementId) -> web.StreamResponse:
        bundle = await self._store.bundle(logged)
        found = await self._store.read([record], MAX_RECORD) if bundle and bundle.entry is not None else []
        if not found:
            raise web.HTTPNotFound(text="There is no such record in the log.")
        headers = {**_OPEN, "Cache-Control": _FOR_EVER}
        return web.Response(body=found[0][2], content_type="application/cose", headers=headers)


def _picture_type(head: bytes) -> str:
    """The media type of a picture, by its first bytes: what a statement calls a file is only what its device says."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "application/octet-stream"


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except RelayError as error:
        return problem(error)
    return response


@asynccontextmanager
async def public_service(daemon: Daemon) -> AsyncIterator[None]:
    """Serve the public while the daemon runs. An extension of `relay.node.daemon`."""
    listening = listen(daemon.config.public)
    app = web.Application(middlewares=[_explained], client_max_size=1024)
    app.add_routes(PublicSite(daemon).routes())
    async with serving(app, listening):
        yield
