"""The pages for everybody: a cheap phone on a poor link, a keyboard, a screen reader, no script, either language."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from relay.web.site.pages import LANGUAGES, texts
from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG
from tests.site.story import serving

PAGES = (
    "index.html",
    "region/190602.html",
    "region/1906022011.html",
    f"tps/{LONG}/{BUPATI}.html",
    f"tps/{BATUN}/{BUPATI}.html",
    f"tps/{KETAPANG}/{GUBERNUR}.html",
    "flags.html",
    "downloads.html",
    "check.html",
)
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
BOTH = [f"{prefix}{path}" for path in PAGES for prefix in ("", "en/")]


def kind_of(path: str) -> str:
    """What a page is made by: its folder, or its name without a number."""
    folder, _, name = path.removeprefix("en/").rpartition("/")
    return folder.partition("/")[0] or re.sub(r"-?\d+", "", name)


def ready(page: Any, address: str, path: str) -> None:
    """Open a page and let it check itself."""
    page.goto(address + path)
    if page.locator("[data-verdict]").count():
        page.locator("[data-verdict][data-outcome]").last.wait_for()
        page.locator("#own-root").wait_for()  # shown when all is checked


@pytest.mark.parametrize("path", BOTH)
def test_axe_finds_nothing(page: Any, address: str, path: str) -> None:
    """WCAG 2.2 A and AA, as far as a program can tell: contrast in both colour schemes, and reflow at 320 px."""
    find_nothing(page, address, path)


def test_axe_finds_nothing_on_one_of_each_other_kind(page: Any, address: str, published: Path) -> None:
    """Whatever the site's builder writes besides: no kind of page is forgotten. (Further pages of strays come with
    hundreds of them; they are made of the parts of flags.html.)"""
    named = {kind_of(path) for path in PAGES}
    others: dict[tuple[str, bool], str] = {}
    for file in sorted(published.rglob("*.html")):
        path = str(file.relative_to(published))
        if kind_of(path) not in named:
            others.setdefault((kind_of(path), path.startswith("en/")), path)
    assert {kind for kind, _ in others} >= {"device"}
    for path in others.values():
        find_nothing(page, address, path)


def test_axe_finds_nothing_on_the_pages_of_a_flood(page: Any, flooded: Path) -> None:
    """One of each: the history of a form, its statements, a device with a long chain, and a page of that."""
    device = next(one.name for one in (flooded / "device").iterdir() if one.is_dir())
    form = f"tps/{LONG}/{BUPATI}"
    with serving(flooded) as address:
        for prefix in ("", "en/"):
            for path in (
                f"{form}/history-2.html",
                f"{form}/2.html",
                f"device/{device}.html",
                f"device/{device}/2.html",
            ):
                find_nothing(page, address, prefix + path)


def find_nothing(page: Any, address: str, path: str) -> None:
    """Axe finds nothing on a page of the site, by day and, of colours, by night."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size({"width": 320, "height": 640})
    ready(page, address, path)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for scheme, options in (("dark", CONTRAST), ("light", {"runOnly": [*WCAG, "best-practice"]})):
        page.emulate_media(color_scheme=scheme)
        response = axe.run(page, options=options).response
        assert response["passes"], "axe looked at nothing"
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in response["violations"]] == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_small(page: Any, address: str, published: Path, path: str) -> None:
    """A page with everything that it loads by itself fits a poor link: no picture comes unasked."""
    loaded: dict[str, int] = {}
    page.on("response", lambda response: loaded.update({response.url: int(response.headers.get("content-length", 0))}))
    ready(page, address, path)
    assert sum(loaded.values()) < 150_000
    assert {one.startswith(address) for one in loaded} == {True}  # nothing from anywhere else


def test_the_way_by_keyboard(page: Any, address: str) -> None:
    """Tab reaches the skip link, the menu, and each check's details; Enter opens them; the focus can be seen."""
    ready(page, address, f"tps/{LONG}/{BUPATI}.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    reached: list[str] = []
    while len(reached) < 60:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    for words in (texts("id")["check"]["details"], texts("id")["facts"], "root-text", "root-file"):
        assert words in reached
    summary = page.locator(".statement >> nth=0 >> [data-photos] > summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.locator("[data-step=photographs][data-outcome=ok]").first.wait_for(state="attached")


@pytest.mark.parametrize("path", BOTH)
def test_every_page_by_keyboard(page: Any, address: str, path: str) -> None:
    """Whatever can be used is reached by Tab, one after the other, and the focus is seen wherever it is."""
    ready(page, address, path)
    usable = page.locator("a[href], summary, input:not([type=hidden]), [tabindex='0']")
    expected = sum(one.is_visible() for one in usable.all())
    reached = 0
    while reached <= expected:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached += 1
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == expected


def test_what_a_screen_reader_is_told(page: Any, address: str) -> None:
    ready(page, address, f"tps/{LONG}/{BUPATI}.html")
    assert page.get_by_role("status").first.inner_text().startswith("Cocok")
    assert page.get_by_role("row", name="Suara sah").count() >= 1
    page.goto(f"{address}index.html")
    label = page.get_by_role("img", name="Gantung").first.get_attribute("aria-label")
    assert re.search(r"\d+ dari 39 TPS lengkap", label)


def test_the_other_language_is_the_same_page(page: Any, address: str) -> None:
    page.goto(f"{address}tps/{LONG}/{BUPATI}.html")
    assert page.locator("html").get_attribute("lang") == "id"
    page.get_by_role("link", name="English").click()
    page.wait_for_url(f"{address}en/tps/{LONG}/{BUPATI}.html")
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_role("link", name="Bahasa Indonesia").click()
    page.wait_for_url(f"{address}tps/{LONG}/{BUPATI}.html")


def test_everything_is_there_without_scripts(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}tps/{LONG}/{BUPATI}.html")
    page.locator("[data-photos] > summary").first.click()
    shown = page.locator(".statement >> nth=0")
    assert "JavaScript" in shown.locator("noscript").text_content()
    image = shown.locator("img").first
    image.scroll_into_view_if_needed()
    assert "/object/" in image.get_attribute("src")
    context.close()


def test_the_site_works_below_any_folder(published: Path) -> None:
    """Every link is relative and leads to a file that is there."""
    broken = []
    for file in published.rglob("*.html"):
        for link in _links(file.read_text(encoding="utf-8")):
            target, _, fragment = link.partition("#")
            path = (file.parent / target).resolve() if target else file
            if not path.is_file() or (fragment and f'id="{fragment}"' not in path.read_text(encoding="utf-8")):
                broken.append((str(file.relative_to(published)), link))
            assert not link.startswith(("/", "http")), link
    assert broken == []


def test_the_languages_say_the_same() -> None:
    ours, theirs = (_keys(texts(language)) for language in LANGUAGES)
    assert ours == theirs


_FILES = (".files", ".tables", ".tables_by_district")


def _keys(words: object, path: str = "") -> set[str]:
    """Every key, with the names that its sentence quotes; names of files stand for themselves."""
    if isinstance(words, dict):
        return {one for key, value in words.items() if path not in _FILES for one in _keys(value, f"{path}.{key}")}
    if isinstance(words, list):
        return {one for place, value in enumerate(words) for one in _keys(value, f"{path}.{place}")}
    quoted = sorted(set(re.findall(r"{(\w+)}", str(words))))
    return {f"{path} {quoted}"}


class _LinkReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take every address."""
        self.links += [value for name, value in attrs if name in ("href", "src") and value]


def _links(text: str) -> list[str]:
    reader = _LinkReader()
    reader.feed(text)
    return reader.links
