"""A published site, a plain web server over its folder, and a real browser. Skips where Chromium is not installed."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection, picture, tally_of

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest_asyncio.fixture
async def election(tmp_path: Path) -> AsyncIterator[PublicElection]:
    """An election from which nothing has arrived yet."""
    made = PublicElection(tmp_path)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site with a bit of everything: see `_story`."""
    with ThreadPoolExecutor(1) as aside:  # the browser's driver has a loop of its own in this thread
        return aside.submit(lambda: asyncio.run(_story(tmp_path_factory.mktemp("published")))).result()


async def _story(folder: Path) -> Path:
    """Pulau Long corrects itself and has photographs, two devices of Pulau Batun contradict each other, from Pulau
    Ketapang the first packages are missing, and most of the mainland has arrived: more than one tile of the log."""
    election = PublicElection(folder)
    try:
        await election.open()
        photographs = [picture("C.HASIL-KWK-BUPATI 1/2"), picture("C.HASIL-KWK-BUPATI 2/2", 3)]
        wrong = tally_of(LONG, BUPATI, election.stations, valid=999)
        first = await election.submit(LONG, BUPATI, wrong, photographs=photographs)
        await election.publish()
        await election.submit(LONG, BUPATI, photographs=photographs, supersedes=first, reason="Suara sah salah ketik")
        await election.submit(LONG, GUBERNUR, photographs=[picture("C.HASIL-KWK-GUBERNUR")])
        await election.submit(BATUN, BUPATI)
        other = tally_of(BATUN, BUPATI, election.stations, votes={"1": 10, "2": 115})
        await election.submit(BATUN, BUPATI, other, device="laptop-batun")
        await election.submit(KETAPANG, GUBERNUR, seq=3, previous=first)
        for number, tps in enumerate(election.stations):
            if tps not in (LONG, BATUN, KETAPANG):
                for place, form in enumerate((GUBERNUR, BUPATI)):
                    if (number * 7 + place * 5) % 11 < 8:
                        await election.submit(tps, form)
        await election.publish()
        await election.site.write_tables()
    finally:
        await election.close()
    return election.public


@pytest.fixture(scope="session")
def address(published: Path) -> Iterator[str]:
    """The site's address behind a web server that knows nothing but files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(published)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. For one module: its driver keeps a loop running, beside which no test can have its own."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a new visitor with a phone. A script error, or what the page's policy refuses, fails the test."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    yield opened
    context.close()
    assert not faults
