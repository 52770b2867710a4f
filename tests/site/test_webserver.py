"""The public port as it is, and behind nginx, which is told what the documentation says. Skips without nginx."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Middleware

from relay.limits import MAX_SERVED_WHOLE
from relay.store.interface import Store
from relay.store.shelf import FOR_EVER, FRESH, FolderShelf
from relay.web.public import PublicSite
from tests.boxes import free_port
from tests.site.election import BUPATI, LONG, PublicElection, picture

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOMEBODY = "nobody nogroup"
"""As whom nginx serves."""
GZIP = {"Accept-Encoding": "gzip"}
FORM_PAGE = f"tps/{LONG}/{BUPATI}.html"


class Public:
    """A published site, its public port, and what that was asked for."""

    def __init__(self, election: PublicElection) -> None:
        self.election = election
        self.port = 0
        self.asked: list[str] = []
        self.statement = ""
        self.photograph = ""

    async def publish(self) -> None:
        """Let a package with a photograph arrive."""
        content = picture(f"form {len(self.asked)}")
        self.statement = (await self.election.submit(photographs=[content])).hex()
        await self.election.publish()
        self.photograph = self.election.result()["statements"][-1]["files"][0]["sha256"]

    @property
    def checkpoint(self) -> bytes:
        """What is published now."""
        return (self.election.public / "checkpoint").read_bytes()


@pytest.fixture
async def public(election: PublicElection, tmp_path: Path) -> AsyncIterator[Public]:
    made = Public(election)
    await made.publish()

    @web.middleware
    async def noted(request: web.Request, handler: Any) -> web.StreamResponse:
        made.asked.append(request.path)
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[noted])
    app.add_routes(PublicSite(election.receiver.store, tmp_path / "served").routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


def recipes(page: str, language: str = "nginx") -> list[str]:
    """The examples for nginx, or for another program, in a page of the documentation."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit of systemd, each with its values in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)=(.*)$", unit):
        found.setdefault(key, []).append(value)
    return found


@contextmanager
def umask(mask: str) -> Iterator[None]:
    """Within it, files are made as under a unit with this `UMask=`."""
    before = os.umask(int(mask, 8))
    try:
        yield
    finally:
        os.umask(before)


@asynccontextmanager
async def nginx(folder: Path, http: str, user: str = "root") -> AsyncIterator[None]:
    """nginx with this within its `http`. As `user` it serves; it is started as whoever tests."""
    if NGINX is None:
        pytest.skip("nginx is missing: apt-get install nginx-light")
    folder.mkdir()
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user {user}; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ include /etc/nginx/mime.types; access_log off; {paths}\n{http}\n}}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        while not (folder / "pid").exists() and process.returncode is None:  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)
        assert process.returncode is None, (folder / "error.log").read_text()
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def get(url: str, path: str, headers: Mapping[str, str] = GZIP) -> tuple[Mapping[str, str], bytes]:
    """Headers and bytes as they came over the wire."""
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url + path, headers=headers) as got:
        assert got.status == 200, path
        return got.headers, await got.read()


async def check_headers(public: Public, url: str) -> None:
    """What a log client, a browser and a cache are to be told."""
    for path in ("checkpoint", "index.html", FORM_PAGE, f"tps/{LONG}/{BUPATI}.json", "site.json", "static/verify.js"):
        headers, _ = await get(url, path)
        assert headers["Cache-Control"] == FRESH, path
    for path in ("tile/0/000.p/1", "tile/entries/000.p/1", f"statement/{public.statement}"):
        headers, _ = await get(url, path)
        assert headers["Cache-Control"] == FOR_EVER, path
    headers, content = await get(url, "checkpoint")
    assert headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    assert (headers["X-Content-Type-Options"], content) == ("nosniff", public.checkpoint)
    assert (await get(url, "tile/0/000.p/1"))[0]["Content-Type"] == "application/octet-stream"
    assert (await get(url, f"receipt/{public.statement}"))[0]["Content-Type"] == "application/cose"
    headers, content = await get(url, f"object/{public.photograph}")
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("image/jpeg", FOR_EVER)
    for path in (FORM_PAGE, "static/verify.js", "tile/entries/000.p/1"):
        headers, content = await get(url, path)
        file = (public.election.public / path).read_bytes()
        assert headers["Content-Encoding"] == "gzip", path
        assert "Accept-Encoding" in headers["Vary"]
        assert gzip.decompress(content) == file
        plain, content = await get(url, path, {"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain
        assert content == file
    assert "script-src 'self'" in (await get(url, FORM_PAGE))[0]["Content-Security-Policy"]


async def test_the_public_port(public: Public) -> None:
    url = f"http://127.0.0.1:{public.port}/"
    await check_headers(public, url)
    headers, _ = await get(url, FORM_PAGE)
    async with aiohttp.ClientSession(headers={"If-None-Match": headers["ETag"]}) as session:
        async with session.get(url + FORM_PAGE) as again:
            assert (again.status, again.headers["Cache-Control"]) == (304, FRESH)
        async with session.get(f"{url}checkpoint.cosigned") as none:
            assert none.status == 404


class Elsewhere:
    """A shelf that is no folder, as a bucket is; it counts what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = FolderShelf(folder)
        self.reads = 0

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        self.reads += 1
        return await self._folder.read(path)


@asynccontextmanager
async def site_of(shelf: object, folder: Path, *middlewares: Middleware) -> AsyncIterator[str]:
    """The public port of a receiver with this shelf; its address."""
    app = web.Application(middlewares=middlewares)
    app.add_routes(PublicSite(cast(Store, SimpleNamespace(shelf=shelf)), folder).routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("where", ["folder", "bucket"])
async def test_what_is_large_is_served_as_what_is_small(tmp_path: Path, where: str) -> None:
    """Types, tags, compression and what is known already; also after it was replaced by something of its size."""
    public = tmp_path / "public"
    public.mkdir()
    shelf = FolderShelf(public) if where == "folder" else Elsewhere(public)
    async with site_of(shelf, tmp_path / "served") as url, aiohttp.ClientSession(auto_decompress=False) as session:
        seen: set[str] = set()
        for content in (b"1" * (MAX_SERVED_WHOLE + 1), b"2" * (MAX_SERVED_WHOLE + 1), b"3" * MAX_SERVED_WHOLE):
            await FolderShelf(public).write("results.json", content, "application/json")
            headers, plain = await get(url, "results.json", {"Accept-Encoding": "identity"})
            assert (plain, headers["Content-Type"], headers["Cache-Control"]) == (content, "application/json", FRESH)
            assert "Content-Encoding" not in headers
            for _ in range(2):
                short, packed = await get(url, "results.json")
                assert (gzip.decompress(packed), short["Content-Encoding"]) == (content, "gzip")
                assert (short["ETag"], short["Vary"]) == (headers["ETag"], "Accept-Encoding")
            for fields in (GZIP, {}):
                known = {"If-None-Match": headers["ETag"], **fields}
                async with session.get(f"{url}results.json", headers=known) as again:
                    assert (again.status, await again.read()) == (304, b"")
            async with session.head(f"{url}results.json", headers={"Accept-Encoding": "identity"}) as head:
                assert (head.status, head.headers["Content-Length"]) == (200, str(len(content)))
            seen.add(headers["ETag"])
        assert len(seen) == 3


async def test_a_large_page_is_served_as_it_is_where_no_copy_can_be_made(tmp_path: Path) -> None:
    content = bytes(MAX_SERVED_WHOLE + 1)
    (tmp_path / "large.csv").write_bytes(content)
    (tmp_path / "served").write_bytes(b"no folder")
    with patch("shutil.rmtree"):
        async with site_of(FolderShelf(tmp_path), tmp_path / "served") as url:
            headers, came = await get(url, "large.csv")
    assert came == content
    assert "Content-Encoding" not in headers


async def test_a_bucket_is_asked_once_for_all_who_ask_at_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"4" * 1_000_000)
    shelf = Elsewhere(tmp_path)
    asked, opened = 0, asyncio.Event()
    read = shelf.read

    @web.middleware
    async def together(request: web.Request, handler: Any) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 20:
            asyncio.get_running_loop().call_soon(opened.set)  # when this one waits as well
        response: web.StreamResponse = await handler(request)
        return response

    async def slow(path: str) -> bytes | None:
        await opened.wait()
        return await read(path)

    with patch.object(shelf, "read", slow):
        async with site_of(shelf, tmp_path / "served", together) as url:
            asking = [asyncio.create_task(get(url, "results.json")) for _ in range(20)]
            answers = await asyncio.gather(*asking)
    assert {len(gzip.decompress(content)) for _, content in answers} == {1_000_000}
    assert shelf.reads == 1


async def test_a_folder_served_by_nginx_as_documented(public: Public, tmp_path: Path) -> None:
    beside, within = recipes("reference/site.md")
    port = free_port()
    within = within.replace("/var/lib/relay-public", str(public.election.public))
    async with nginx(tmp_path / "nginx", f"{beside} server {{ listen 127.0.0.1:{port}; {within} }}"):
        await check_headers(public, f"http://127.0.0.1:{port}/")


async def copied(service: Mapping[str, list[str]], places: Mapping[str, Path]) -> None:
    """Do what the unit that copies the public files does, once, with other places in the place of its own."""
    for line in service["ExecStart"]:
        command = line
        for place, path in places.items():
            command = command.replace(f"{place}/", f"{path}/")
        with umask(service["UMask"][0]):
            process = await asyncio.create_subprocess_exec(*shlex.split(command))
        assert await process.wait() == 0, command


async def test_nginx_as_somebody_else_serves_the_copy_that_is_documented_and_not_the_receivers_folder(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0 or shutil.which("rsync") is None:
        pytest.skip("needs root, as whom nginx can become somebody else, and rsync: apt-get install rsync")
    receiver = settings((ROOT / "systemd" / "relay-receiver.service").read_text())
    service = settings(recipes("reference/site.md", "ini")[0])
    beside, within = recipes("reference/site.md")
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which is for root alone
        lib, port = Path(place), free_port()
        lib.chmod(0o755)
        home, copy, head = lib / "relay-receiver", lib / service["StateDirectory"][0], lib / "run"
        for path, mode in ((home, receiver["StateDirectoryMode"][0]), (copy, service["StateDirectoryMode"][0])):
            path.mkdir()
            path.chmod(int(mode, 8))
        head.mkdir()
        election = PublicElection(home)
        places = {
            "/var/lib/relay-receiver/public": election.public,
            f"/var/lib/{copy.name}": copy,
            f"/run/{service['RuntimeDirectory'][0]}": head,
        }

        def over(root: Path) -> str:
            recipe = within.replace(f"root /var/lib/{copy.name};", f"root {root};")
            assert f"root {root};" in recipe
            return f"{beside} server {{ listen 127.0.0.1:{port}; {recipe} }}"

        public, url = Public(election), f"http://127.0.0.1:{port}/"
        try:
            with umask(receiver["UMask"][0]):
                await election.open()
                await public.publish()
            async with (
                nginx(tmp_path / "private", over(election.public), SOMEBODY),
                aiohttp.ClientSession() as session,
                session.get(f"{url}index.html") as answer,
            ):
                assert answer.status == 403, "the receiver's folder is for nobody else to read"
            await copied(service, places)
            async with nginx(tmp_path / "copy", over(copy), SOMEBODY):
                await check_headers(public, url)
                with umask(receiver["UMask"][0]):
                    await public.publish()
                await copied(service, places)
                assert (await get(url, "checkpoint"))[1] == public.checkpoint
                assert (await get(url, f"receipt/{public.statement}"))[1]
        finally:
            await election.close()


async def test_nginx_before_the_public_port_as_documented(public: Public, tmp_path: Path) -> None:
    port = free_port()
    recipe = recipes("howto/receiver-behind-a-web-server.md")[0]
    recipe = re.sub(r"listen \[::\]:443.*\n|ssl_certificate.*\n", "", recipe)
    recipe = recipe.replace("listen 443 ssl http2", f"listen 127.0.0.1:{port}").replace(":8480", f":{public.port}")
    recipe = recipe.replace("/var/cache/nginx/relay", str(tmp_path / "cache"))
    url = f"http://127.0.0.1:{port}/"
    async with nginx(tmp_path / "nginx", recipe):
        await check_headers(public, url)
        public.asked.clear()
        for _ in range(20):
            await get(url, f"object/{public.photograph}")
            await get(url, "index.html")
        assert public.asked.count(f"/object/{public.photograph}") == 0  # kept since the first time
        assert public.asked.count("/index.html") <= 1
        await public.publish()
        public.asked.clear()
        until = time.monotonic() + 20
        while "/checkpoint" not in public.asked and time.monotonic() < until:
            _, content = await get(url, "checkpoint")
        assert content == public.checkpoint  # who waited for the new one did not get the old one
