"""No page is forgotten: axe looks at whatever the applications register, in both languages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from relay.receiver.password import set_password
from tests.applications import ADMIN, BOARD, CONSOLE, PHONES, applications, routes
from tests.boxes import free_port
from tests.e2e.world import FORM, TPS
from tests.fleet import Fleet
from tests.operator.conftest import OTHER_FORM, Island, Phones, make_island
from tests.operator.test_access import find_nothing
from tests.operator.test_admin import PASSWORD, enter

DOORS = (CONSOLE, PHONES, ADMIN, BOARD)
"""The public's pages are files: see tests/site."""


@dataclass
class Scene:
    """An island, a receiver and a boat; where each door is; and what stands in paths for `{draft}` and others."""

    island: Island
    urls: Mapping[str, str]
    values: dict[str, str]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """What each door answers to GET."""
    folder = tmp_path_factory.mktemp("applications")

    async def ask() -> Mapping[str, list[str]]:
        fleet = Fleet(folder)
        try:
            apps = await applications(fleet, folder)
            return {door: [path for method, path in routes(apps[door]) if method == "GET"] for door in DOORS}
        finally:
            await fleet.close()

    with ThreadPoolExecutor() as pool:  # a browser may have a loop in this thread
        return pool.submit(asyncio.run, ask()).result()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Iterator[Scene]:
    for island in make_island(tmp_path_factory.mktemp("scene")):
        world = island.world
        receiver, boat = world.box("receiver", "receiver"), world.box("km-bahari", "carrier")
        admin, board = free_port(), free_port()
        receiver.config(**{**world.settings(receiver), "console": f"127.0.0.1:{admin}"})
        boat.config(**{**world.settings(boat), "board": f"127.0.0.1:{board}"})
        set_password(receiver.home, PASSWORD)
        receiver.start()
        boat.start()
        statement = island.box.submit(photos[0], tps=TPS, form=FORM, tally={"voters": 1})
        urls = {
            CONSOLE: island.console,
            PHONES: island.url,
            ADMIN: f"http://127.0.0.1:{admin}",
            BOARD: f"http://127.0.0.1:{board}",
        }
        yield Scene(island, urls, {"statement": statement, "place": "0"})


@pytest.mark.timeout(400)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("lang", ["id", "en"])
def test_axe_finds_nothing_on_any_page(
    scene: Scene, paths: Mapping[str, list[str]], phones: Phones, photos: list[Path], door: str, lang: str
) -> None:
    page = phones(lang, wide=door in (ADMIN, BOARD)).new_page()
    url = scene.urls[door]
    if door == ADMIN:
        enter(page, url)
    if door in (CONSOLE, PHONES):
        let_in(scene, page, url)
    if door == PHONES and "draft" not in scene.values:
        draw(scene, page, photos[0])
    looked = 0
    for path in paths[door]:
        if door == CONSOLE and path.startswith("/operator/drafts"):
            continue  # the same application answers phones
        address = url + re.sub(r"{(\w+)}", lambda one: scene.values[one[1]], path)
        answer = page.request.get(address, headers={"Accept": "text/html", "Accept-Language": lang})
        assert answer.status == 200, f"{address}: {answer.status}"
        if answer.headers["content-type"].startswith("text/html"):
            page.goto(address)
            assert page.locator("html").get_attribute("lang") == lang, address
            find_nothing(page, f"{door} {path}")
            looked += 1
    assert looked >= {CONSOLE: 4, PHONES: 6, ADMIN: 5, BOARD: 2}[door]


def let_in(scene: Scene, page: Page, url: str) -> None:
    """Pair with a door of the island."""
    link = urlsplit(scene.island.offer()["link"])
    page.goto(f"{url}{link.path}?{link.query}")
    page.locator("button.go").click()
    page.wait_for_url("**/operator")


def draw(scene: Scene, page: Page, photo: Path) -> None:
    """Begin a draft with a picture."""
    station = page.locator(f"section[aria-labelledby='tps-{TPS}']")
    station.locator("li", has_text=OTHER_FORM).locator("button.go").click()
    page.wait_for_url("**/pictures")
    scene.values["draft"] = page.url.split("/")[-2]
    page.locator("#camera").set_input_files(photo)
    picture = page.locator(".pictures a img")
    picture.wait_for()
    source = picture.get_attribute("src")
    assert source is not None
    scene.values["picture"] = source.split("/")[-1]
