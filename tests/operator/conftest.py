"""An island box with its page, and a phone beside it: real daemons, real Chromium."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from relay.cli.demo.election import example_stations, example_tally
from relay.cli.demo.pictures import Heading, form_picture
from tests.boxes import NodeBox, free_port
from tests.chromium import ARGUMENTS, WHY_NOT, chromium
from tests.e2e.world import FORM, OTHER_FORM, OTHER_TPS, TPS, World

AGENT = (
    "Mozilla/5.0 (Linux; Android 10; Redmi Note 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 "
    "Mobile Safari/537.36"
)
PHONE_SIZE = {"width": 360, "height": 740}
STATION = next(one for one in example_stations() if one.tps == TPS)
TALLY = example_tally(TPS, FORM, STATION.registered_voters)

Phones = Callable[..., BrowserContext]


class Island:
    """A box with its operator's page, on loopback."""

    def __init__(self, world: World, box: NodeBox, port: int, console: int) -> None:
        self.world = world
        self.box = box
        self.port = port
        self.url = f"https://127.0.0.1:{port}"
        self.console = f"http://127.0.0.1:{console}"

    def offer(self) -> dict[str, str]:
        """What `relay pair --json` says."""
        offer: dict[str, str] = self.box.aside("pair", "--json").json()
        return offer

    def pair(self, page: Page, url: str = "") -> Page:
        """Scan the code and tap: the page then shows the list of forms. `url` is another way to the box."""
        page.goto(self.offer()["link"].replace(self.url, url or self.url))
        page.get_by_role("button", name="Pasangkan").click()
        page.wait_for_url("**/operator")
        return page


def make_island(folder: Path, *, tps: tuple[str, ...] = (TPS, OTHER_TPS)) -> Iterator[Island]:
    """One box that runs, in a world of its own."""
    with World(folder) as world:
        port, console = free_port(), free_port()
        box = world.box("pulau-long", "operator", tps=tps)
        box.config(
            **{**world.settings(box), "operator": f"127.0.0.1:{port}", "console": f"127.0.0.1:{console}"},
        )
        box.start()
        yield Island(world, box, port, console)


@pytest.fixture
def island(tmp_path: Path) -> Iterator[Island]:
    """A box of a test's own."""
    yield from make_island(tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. For a module: its driver keeps a loop running, beside which no test can have its own."""
    if (found := chromium()) is None:
        pytest.skip(WHY_NOT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def phones(browser: Browser) -> Iterator[Phones]:
    """Makes phones: each a browser of its own that was told to trust the box's certificate."""
    contexts: list[BrowserContext] = []

    def make(lang: str = "id-ID", *, scripts: bool = True, wide: bool = False) -> BrowserContext:
        context = browser.new_context(
            viewport={"width": 1280, "height": 800} if wide else PHONE_SIZE,  # type: ignore[arg-type]
            device_scale_factor=1 if wide else 1.5,
            is_mobile=not wide,
            has_touch=not wide,
            user_agent=AGENT,
            locale=lang,
            ignore_https_errors=True,
            java_script_enabled=scripts,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def phone(island: Island, phones: Phones) -> Page:
    """A paired phone with the list of forms."""
    return island.pair(phones().new_page())


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photographs of a filled-in form, a megabyte and a half each."""
    folder = tmp_path_factory.mktemp("photos")
    heading = Heading(STATION.number, STATION.village, STATION.district, "Belitung Timur", "Kepulauan Bangka Belitung")
    paths = []
    for number in (1, 2):
        path = folder / f"IMG_{number}.jpg"
        path.write_bytes(form_picture(TPS, FORM, number, TALLY, heading, seed=7))
        paths.append(path)
    return paths


def with_boat(island: Island) -> tuple[NodeBox, NodeBox]:
    """A receiver that is off, and a boat that comes by."""
    receiver = island.world.box("receiver", "receiver")
    boat = island.world.box("km-sinar-laut", "carrier", peers=[island.world.ports["pulau-long"]], receivers=[receiver])
    boat.start()
    return receiver, boat


def begin(page: Page, form: str = FORM, tps: str = TPS) -> None:
    """Begin a form at the list."""
    station = page.locator(f"section[aria-labelledby='tps-{tps}']")
    station.locator("li", has_text=form).get_by_role("button", name="Mulai").click()
    page.wait_for_url("**/pictures")


def type_tally(page: Page, tally: dict[str, object]) -> None:
    """Type the numbers of a tally into the form."""
    votes = tally["votes"]
    assert isinstance(votes, dict)
    for name, count in [*tally.items(), *((f"pair-{pair}", count) for pair, count in votes.items())]:
        if name != "votes":
            page.locator(f"#{name}").fill(str(count))


SHOTS = os.environ.get("RELAY_SCREENSHOTS")
"""A folder for pictures of the pages, such as docs/images; where it is not named, none are taken."""


def picture_of(page: Page, name: str, *, whole: bool = True) -> None:
    """Keep what the page shows, as it is: the whole of it, or the screen."""
    if SHOTS:
        page.evaluate("[...document.images].forEach((one) => { one.loading = 'eager' })")
        page.evaluate("Promise.all([...document.images].map((one) => one.decode().catch(() => 0)))")
        shot = Image.open(io.BytesIO(page.screenshot(full_page=whole, animations="disabled"))).convert("RGB")
        shot = shot.crop((0, 0, shot.width, min(shot.height, 4_800 if shot.width < 1_000 else 1_600)))
        shot.quantize(200, dither=Image.Dither.NONE).save(Path(SHOTS) / f"{name}.png", optimize=True)


def pictures_of(page: Page, name: str, *, whole: bool = True) -> None:
    """Keep what an address shows, in both languages: fetched anew, so that both show the same."""
    if SHOTS:
        page.reload()
    picture_of(page, f"{name}-id", whole=whole)
    picture_in_english(page, f"{name}-en", whole=whole)


def picture_in_english(page: Page, name: str, *, whole: bool = True) -> None:
    """Keep what an English phone with the same pairing shows under the same address."""
    browser = page.context.browser
    if SHOTS and browser is not None:
        size, scale = page.viewport_size, page.evaluate("devicePixelRatio")
        context = browser.new_context(
            storage_state=page.context.storage_state(),
            viewport=size,
            device_scale_factor=scale,
            is_mobile=scale > 1,
            locale="en-GB",
            user_agent=AGENT,
            ignore_https_errors=True,
        )
        other = context.new_page()
        other.goto(page.url)
        picture_of(other, name, whole=whole)
        context.close()


__all__ = ["FORM", "OTHER_FORM", "OTHER_TPS", "TALLY", "TPS"]
