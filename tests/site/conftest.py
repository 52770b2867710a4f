"""A published site, a plain web server over its folder, and a real browser. Skips where Chromium is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.chromium import ARGUMENTS, WHY_NOT, chromium
from tests.site.election import PublicElection
from tests.site.story import serving, tell_flood, tell_story


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
    """The folder of a site with a bit of everything: see `tell_story`."""
    with ThreadPoolExecutor(1) as aside:  # the browser's driver has a loop of its own in this thread
        return aside.submit(lambda: asyncio.run(tell_story(tmp_path_factory.mktemp("published")))).result()


@pytest.fixture(scope="session")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site with further pages of forms and devices: see `tell_flood`."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(lambda: asyncio.run(tell_flood(tmp_path_factory.mktemp("flooded")))).result()


@pytest.fixture(scope="session")
def address(published: Path) -> Iterator[str]:
    """The site's address behind a web server that knows nothing but files."""
    with serving(published) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. For one module: its driver keeps a loop running, beside which no test can have its own."""
    playwright = pytest.importorskip("playwright.sync_api")
    if (found := chromium()) is None:
        pytest.skip(WHY_NOT)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
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
