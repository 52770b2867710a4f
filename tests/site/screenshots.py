"""Pictures of the public site for the documentation: `python -m tests.site.screenshots docs/images`.

Phone (360 by 740) and desktop (1280 by 800), by Chromium, of the story that the tests tell, in both languages.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from relay.cli.demo.election import PROVINCE, REGENCY, example_stations, example_tally
from relay.cli.demo.pictures import PAGES, Heading, form_picture
from tests.chromium import ARGUMENTS, chromium
from tests.site.election import BATUN, BUPATI, LONG
from tests.site.story import serving, tell_story

SIZES = {"phone": (360, 740, 1.5), "desktop": (1280, 800, 1)}


def photographs() -> list[bytes]:
    """The demo's photographs of one form of Pulau Long."""
    station = next(one for one in example_stations() if one.tps == LONG)
    tally = example_tally(LONG, BUPATI, station.registered_voters)
    heading = Heading(station.number, station.village, station.district, REGENCY, PROVINCE)
    return [form_picture(LONG, BUPATI, page, tally, heading, 1) for page in range(1, PAGES + 1)]


def main(target: Path) -> None:
    """Take them all."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="relay-screenshots-") as folder:
        published = asyncio.run(tell_story(Path(folder), photographs()))
        with serving(published) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
            for (name, (width, height, scale)), lang in product(SIZES.items(), ("id", "en")):
                size = ViewportSize(width=width, height=height)
                page = browser.new_context(viewport=size, device_scale_factor=scale).new_page()
                shoot(page, address if lang == "id" else f"{address}en/", target, f"{name}-{lang}")
            browser.close()


def shoot(page: Page, site: str, target: Path, kind: str) -> None:
    """The site's pages in one size and language."""
    page.goto(f"{site}index.html")
    keep(page, target / f"public-front-{kind}.png")
    page.locator("#islands").evaluate("heading => heading.scrollIntoView()")
    keep(page, target / f"public-map-{kind}.png")
    page.goto(f"{site}tps/{BATUN}/{BUPATI}.html")
    page.locator("[data-verdict][data-outcome]").last.wait_for()
    keep(page, target / f"public-conflict-{kind}.png")
    page.goto(f"{site}tps/{LONG}/{BUPATI}.html")
    page.locator("[data-photos] > summary").first.click()
    page.locator("[data-step=photographs][data-outcome=ok]").first.wait_for(state="attached")
    keep(page, target / f"public-station-{kind}.png")
    page.route("**/object/*", altered)
    page.reload()
    page.locator("[data-photos] > summary").first.click()
    page.locator("[data-verdict][data-outcome=bad]").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    keep(page, target / f"public-altered-{kind}.png")


def altered(route: Any) -> None:
    """One bit of a photograph is another."""
    response = route.fetch()
    body = response.body()
    route.fulfill(response=response, body=body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])


def keep(page: Page, path: Path) -> None:
    """What is on the screen, as a small PNG."""
    page.wait_for_timeout(300)  # pictures are decoded beside the page
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
