"""The receiver's public side, read-only over plain HTTP: the log's files, objects, statements, receipts, and the site.

    /checkpoint  /tile/…             C2SP tlog-tiles            /object/<sha256>        content
    /statement/<id>  /receipt/<id>   COSE, as in the log        /ready                  for balancers
    everything else                  pages (`relay.web.site`)

Everything that is named by its hash never changes and may be cached for ever; the checkpoint and pages may not. Any web
server can do the same from the folder of published files: nothing here decides anything.

The intake lives in the same process: so nothing large is held here for a reader. What is small is answered out of
memory; all else is sent from the disk, where compressed copies lie as well, and what a bucket gave. Of a store that
receivers share little is read at a time, for so many readers as leave `/ready` a place, and for none who are gone.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from socket import socket
from typing import BinaryIO

from aiohttp import web

from relay.errors import RelayError, StoreError, Unreadable
from relay.limits import (
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_OBJECT_READS,
    MAX_PUBLIC_CALLS,
    MAX_RECORD,
    MAX_RECORD_READS,
    MAX_SERVED_COPIES,
    MAX_SERVED_TAGS,
    MAX_SERVED_WHOLE,
    MAX_SHELF_READS,
    PUBLIC_PATIENCE_SECONDS,
)
from relay.log.tiles import ENTRIES, parse_path
from relay.net.door import public_address
from relay.net.server import problem
from relay.net.sockets import listen
from relay.node.daemon import Daemon
from relay.node.health import bytes_free
from relay.receiver.readiness import Readiness
from relay.records.identifiers import ObjectId, RecordId, StatementId, is_drill, parse_hash, receipt_id, sha256
from relay.store.durable import explained
from relay.store.interface import Store
from relay.store.shelf import FOR_EVER, FRESH, FolderShelf
from relay.web.copies import Copies, compressed
from relay.web.crowd import Crowd
from relay.web.missing import with_way_back
from relay.web.pages import DRILL, HEADERS, Handler, serving
from relay.web.sending import FromDisk, Part
from relay.web.shared import SharedReads
from relay.web.site.service import site_service, type_of_file

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,4}", re.ASCII)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "xml": "application/atom+xml",
    "svg": "image/svg+xml",
    "pem": "application/x-pem-file",
}
_OPEN = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}

_PAGE = {
    **HEADERS,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": FRESH,
}
"""Headers of pages and documents: our own scripts and nothing else."""
_NO_PAGES = ("/checkpoint", "/tile/", "/object/", "/statement/", "/receipt/")
"""Where what is not there is told to programs, and in one line to people."""
_WORTH_COMPRESSING = 1_000
"""Bytes."""
_TAG = 32
"""Characters of a content's hash by which caches know it again."""
COPIES = "served"
"""In the receiver's folder: copies of what is served, which nobody misses."""


class PublicSite:
    """Answers the public from what the receiver has logged."""

    def __init__(self, store: Store, folder: Path, readiness: Readiness | None = None) -> None:
        """`folder` is for copies, and nothing else."""
        self._store = store
        self._readiness = readiness or Readiness(store, time.monotonic)
        self._copies = Copies(folder, MAX_SERVED_COPIES)
        self._tags: OrderedDict[tuple[int, ...], str] = OrderedDict()
        """Of files that were read whole for it, as they were then."""
        self._elsewhere = SharedReads(self._fetch, MAX_SHELF_READS)
        """What is read from a bucket just now."""
        self._objects = SharedReads(self._find, MAX_OBJECT_READS)
        self._records = SharedReads(self._logged, MAX_RECORD_READS)
        self._asked: SharedReads[str, bool] = SharedReads(lambda _: self._readiness.ready(), 1)
        """Whether it is ready: who leaves calls no database off."""
        self._crowd = Crowd(MAX_PUBLIC_CALLS, PUBLIC_PATIENCE_SECONDS)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [
            web.get("/", self._let_in(self.page)),
            web.get("/ready", self.ready),
            web.get("/checkpoint", self._let_in(self.checkpoint)),
            web.get("/checkpoint.cosigned", self._let_in(self.checkpoint)),
            web.get("/tile/{rest:.+}", self._let_in(self.tile)),
            web.get("/object/{digest}", self._let_in(self.object)),
            web.get("/statement/{digest}", self._let_in(self.statement)),
            web.get("/receipt/{digest}", self._let_in(self.receipt)),
            web.get("/{path:.+}", self._let_in(self.page)),
        ]

    def _let_in(self, handler: Handler) -> Handler:
        """`handler`, for not too many at once where they wait for other machines; who reads this one's disk is through
        in a moment."""

        async def let_in(request: web.Request) -> web.StreamResponse:
            if isinstance(self._store.shelf, FolderShelf):
                return await handler(request)
            async with self._crowd.place():
                return await handler(request)

        return let_in

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A page, a document or a download of the site."""
        name = request.match_info.get("path") or "index.html"
        kind = _TYPES.get(name.rpartition(".")[2])
        if kind is None or not _PATH.fullmatch(name):
            raise web.HTTPNotFound(text="There is no such page.")
        response = await self._compressed(request, name, {**_PAGE, "Content-Type": kind})
        if response is None and name == "index.html":
            raise web.HTTPServiceUnavailable(text="The site is being written.", headers={"Retry-After": "2"})
        if response is None:
            raise web.HTTPNotFound(text="There is no such page.")
        return response

    async def ready(self, _request: web.Request) -> web.StreamResponse:
        """For balancers: 200 while this receiver takes packages in, 503 while its store is away, full or read-only."""
        ready = await self._asked.read("")
        headers = {"Cache-Control": "no-store"}
        return web.Response(status=200 if ready else 503, text="ready" if ready else "not ready", headers=headers)

    async def checkpoint(self, request: web.Request) -> web.StreamResponse:
        """The newest signed checkpoint; or the newest that witnesses or boats cosigned."""
        headers = {**_OPEN, "Cache-Control": FRESH, "Content-Type": "text/plain; charset=utf-8"}
        response = await self._compressed(request, request.path.lstrip("/"), headers)
        if response is None:
            raise web.HTTPNotFound(text="The log has no such checkpoint yet.")
        return response

    async def tile(self, request: web.Request) -> web.StreamResponse:
        """A tile or an entry bundle."""
        tile = parse_path(request.path.lstrip("/"))
        headers = {**_OPEN, "Cache-Control": FOR_EVER, "Content-Type": "application/octet-stream"}
        serve = self._compressed if tile.level == ENTRIES else self._published  # hashes do not get shorter
        response = await serve(request, tile.path, headers)
        if response is None:
            raise web.HTTPNotFound(text="The log has no such tile.")
        return response

    async def object(self, request: web.Request) -> web.StreamResponse:
        """The content of an object of a logged package."""
        digest = ObjectId(parse_hash(request.match_info["digest"], "object"))
        found = await self._objects.read(digest)
        if found is None:
            raise web.HTTPNotFound(text="There is no such object here.")
        path, kind = found
        headers = {**_OPEN, "Cache-Control": FOR_EVER, "Content-Security-Policy": HEADERS["Content-Security-Policy"]}
        return Part(path, headers={**headers, "Content-Type": kind})

    async def statement(self, request: web.Request) -> web.StreamResponse:
        """A logged statement's bytes."""
        return await self._record(self._statement_id(request), logged=self._statement_id(request))

    async def receipt(self, request: web.Request) -> web.StreamResponse:
        """The receipt for a statement."""
        statement = self._statement_id(request)
        return await self._record(receipt_id(statement), logged=statement)

    async def _published(
        self, request: web.Request, path: str, headers: Mapping[str, str]
    ) -> web.StreamResponse | None:
        """A file of the shelf; None where there is none."""
        shelf = self._store.shelf
        if isinstance(shelf, FolderShelf):
            file = shelf.file(path)
            return Part(file, headers=headers) if file.is_file() else None
        return await self._compressed(request, path, headers)

    async def _compressed(
        self, request: web.Request, path: str, headers: Mapping[str, str]
    ) -> web.StreamResponse | None:
        """A file of the shelf, compressed for those who take it so; None where there is none."""
        shelf = self._store.shelf
        if isinstance(shelf, FolderShelf):
            found = await asyncio.to_thread(_look_at, shelf.file(path))
            tag = "" if found is None or isinstance(found, bytes) else await self._tag(found)
        else:
            fetched = await self._elsewhere.read(path)
            tag = fetched if isinstance(fetched, str) else ""
            found = fetched if not isinstance(fetched, str) else await self._copies.held(tag)
        if found is None:
            return None
        if isinstance(found, bytes):
            return _small(request, found, headers)
        with found:
            return await self._large(request, found, tag, headers)

    async def _large(
        self, request: web.Request, file: BufferedReader, tag: str, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """The answer with what is in an open file, from the disk."""
        headers = _tagged(headers, tag)
        if _is_known(request, tag):
            return web.Response(status=304, headers=headers)
        if _takes_compressed(request):
            try:
                copy = await self._copies.open(f"{tag}.gz", compressed(file))
            except StoreError:  # the disk is full: then as it is
                pass
            else:
                return FromDisk(copy, {**headers, "Content-Encoding": "gzip"})
        return FromDisk(os.fdopen(os.dup(file.fileno()), "rb"), headers)

    async def _tag(self, file: BufferedReader) -> str:
        """What changes when the content does. A file of the shelf is replaced, and never written to."""
        seen = os.fstat(file.fileno())
        key = (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size)
        if key not in self._tags:
            self._tags[key] = await asyncio.to_thread(lambda: file_digest(file, "sha256").hexdigest()[:_TAG])
            while len(self._tags) > MAX_SERVED_TAGS:
                self._tags.popitem(last=False)
        return self._tags[key]

    async def _fetch(self, path: str) -> bytes | str | None:
        """What a shelf elsewhere has, or of what is large the name of its copy."""
        content = await self._store.shelf.read(path)
        if content is None or len(content) <= MAX_SERVED_WHOLE:
            return content
        tag = await asyncio.to_thread(_tag_of, content)
        (await self._copies.open(tag, lambda target: _write(target, content))).close()
        return tag

    async def _find(self, digest: ObjectId) -> tuple[Path, str] | None:
        """Where the content of an object lies, which may come from a bucket, whole; and its media type."""
        try:
            path = await self._store.object_path(digest)
            return None if path is None else (path, await asyncio.to_thread(type_of_file, path))
        except Unreadable:  # what the disk, or the bucket, says is for the people here
            return None

    def _statement_id(self, request: web.Request) -> StatementId:
        return StatementId(RecordId(parse_hash(request.match_info["digest"], "statement id")))

    async def _record(self, record: RecordId, logged: StatementId) -> web.StreamResponse:
        raw = await self._records.read((record, logged))
        if raw is None:
            raise web.HTTPNotFound(text="There is no such record in the log.")
        headers = {**_OPEN, "Cache-Control": FOR_EVER}
        return web.Response(body=raw, content_type="application/cose", headers=headers)

    async def _logged(self, name: tuple[RecordId, StatementId]) -> bytes | None:
        """A statement's record, if the statement is in the log."""
        record, logged = name
        bundle = await self._store.bundle(logged)
        found = await self._store.read([record], MAX_RECORD) if bundle and bundle.entry is not None else []
        return found[0][2] if found else None


def _small(request: web.Request, content: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """The answer with what is held in memory."""
    tag = _tag_of(content)
    if _is_known(request, tag):
        return web.Response(status=304, headers=_tagged(headers, tag))
    response = web.Response(body=content, headers=_tagged(headers, tag))
    if len(content) >= _WORTH_COMPRESSING and _takes_compressed(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _tag_of(content: bytes) -> str:
    return sha256(content).hex()[:_TAG]


def _tagged(headers: Mapping[str, str], tag: str) -> dict[str, str]:
    return {**headers, "ETag": f'W/"{tag}"', "Vary": "Accept-Encoding"}


def _is_known(request: web.Request, tag: str) -> bool:
    return any(one.value in (tag, "*") for one in request.if_none_match or ())


def _takes_compressed(request: web.Request) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _look_at(path: Path) -> bytes | BufferedReader | None:
    """What is in a file, or of a large one the file, open; None where there is none."""
    with explained(path):
        try:
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if os.fstat(file.fileno()).st_size > MAX_SERVED_WHOLE:
            return file
        with file:
            return file.read()


def _write(target: BinaryIO, content: bytes) -> None:
    target.write(content)


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except RelayError as error:
        return problem(error)
    return response


@asynccontextmanager
async def public_service(daemon: Daemon) -> AsyncIterator[None]:
    """Serve the public, and keep its site, while the daemon runs. An extension of `relay.node.daemon`."""
    listening = listen(daemon.config.public, "public")
    own_disk = daemon.config.database is None
    readiness = Readiness(
        daemon.custody.store, time.monotonic, (lambda: bytes_free(daemon.home.path)) if own_disk else None
    )
    daemon.work.append(readiness.keep_writing)
    app = public_application(daemon, readiness)
    async with site_service(daemon), serving_public(app, listening):
        yield


def serving_public(app: web.Application, listening: socket) -> AbstractAsyncContextManager[None]:
    """Within it, `app` answers the public on a socket that listens."""
    return serving(
        app,
        listening,
        known_by=public_address,
        most_each=MAX_CONNECTIONS_PER_ADDRESS,
        handler_cancellation=True,
    )


def public_application(daemon: Daemon, readiness: Readiness | None = None) -> web.Application:
    """What answers the public."""
    app = web.Application(middlewares=[with_way_back("/static/site.css", _NO_PAGES), _explained], client_max_size=1024)
    app[DRILL] = is_drill(daemon.member.identity.election)
    app.add_routes(PublicSite(daemon.custody.store, daemon.home.path / COPIES, readiness).routes())
    return app
