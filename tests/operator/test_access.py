"""Everybody can use it: axe on every page in both languages, by day and by night; targets; the sums of the script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from relay.records.tally import COUNTS, Tally, check_tally
from tests.operator.conftest import TALLY, Island, Phones, begin, type_tally

TAGS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def find_nothing(page: Page, where: str) -> None:
    """Axe finds nothing serious, and no target is smaller than 44 pixels but for links within sentences."""
    response = Axe().run(page, options=TAGS).response
    assert len(response["passes"]) > 10, f"{where}: axe looked at nothing"
    found = response["violations"]
    told = [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in found]
    assert not told, f"{where}: {told}"
    small = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, summary, textarea")]
            .filter((one) => one.checkVisibility() && !one.closest("p.box, .skip") && !one.matches(".skip"))
            .map((one) => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
            .filter(([, box]) => box.height < 43.5 || box.width < 43.5).map(([html]) => html)"""
    )
    assert not small, f"{where}: {small}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{where} scrolls sideways"


@pytest.mark.parametrize(("lang", "scheme"), [("id", "light"), ("en", "dark")])
def test_axe_finds_nothing(island: Island, phones: Phones, photos: list[Path], lang: str, scheme: Any) -> None:
    """Each page of the story, as it looks with something on it."""
    page = phones(lang).new_page()
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{island.url}/operator")
    find_nothing(page, "pair")
    page.locator("#code").fill("AAAAAAAA")
    page.locator("button").click()
    find_nothing(page, "pair, refused")
    page.goto(island.offer()["link"])
    find_nothing(page, "pair, linked")
    page.locator("button.go").click()
    page.wait_for_url("**/operator")
    find_nothing(page, "list")
    page.locator("button.go").first.click()
    page.wait_for_url("**/pictures")
    find_nothing(page, "pictures, none")
    page.locator("#camera").set_input_files(photos[0])
    expect(page.locator(".pictures a img")).to_be_visible()
    find_nothing(page, "pictures")
    page.goto(page.url.replace("/pictures", "/numbers"))
    find_nothing(page, "numbers, empty")
    type_tally(page, {**TALLY, "valid": 1})
    page.locator("#voters").fill("x")
    find_nothing(page, "numbers, warned")
    page.locator("button.next").click()
    expect(page.locator("#errors")).to_be_focused()
    find_nothing(page, "numbers, wrong")
    page.locator("#voters").fill("")
    page.locator("button.next").click()
    page.wait_for_url("**/review")
    find_nothing(page, "review")
    page.locator("details summary").click()
    find_nothing(page, "review, discard")
    page.locator("button.send").click()
    page.wait_for_url("**/packages/*")
    find_nothing(page, "package")
    page.locator("details summary").click()
    find_nothing(page, "package, correct")
    page.goto(f"{island.url}/operator/packages/{'0' * 64}")
    find_nothing(page, "trouble")
    page.goto(f"{island.console}/board?lang={lang}")
    find_nothing(page, "board")


def test_the_keyboard_reaches_everything(island: Island, phone: Page) -> None:
    """Tab goes through the form in the order of the paper, and Enter to the next number."""
    begin(phone)
    phone.goto(phone.url.replace("/pictures", "/numbers"))
    phone.locator("#registered_voters").focus()
    for name in ("voters", "ballots_received", "ballots_used"):
        phone.keyboard.press("Enter")
        expect(phone.locator(f"#{name}")).to_be_focused()
    for name in ("ballots_spoiled", "ballots_unused", "pair-1", "pair-2", "pairs", "valid", "invalid"):
        phone.keyboard.press("Tab")
        expect(phone.locator(f"#{name}")).to_be_focused()


NUMBERS = st.integers(0, 12)


def test_the_script_counts_as_the_node_does(island: Island, phone: Page) -> None:
    """The rules of relay/records/tally.py and those of operator.js are the same rules."""
    cases: list[tuple[dict[str, int], list[int], int | None]] = []

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.dictionaries(st.sampled_from(COUNTS), NUMBERS), st.lists(NUMBERS, max_size=3), st.none() | NUMBERS, NUMBERS
    )
    def gather(counts: dict[str, int], votes: list[int], registered: int | None, base: int) -> None:
        cases.append((counts, votes, registered))
        whole = {"valid": sum(votes), "invalid": base, "ballots_used": sum(votes) + base, "voters": sum(votes) + base}
        cases.append(({**counts, **whole}, votes, registered))

    gather()
    told = phone.evaluate("(cases) => cases.map(([c, v, r]) => relay.check(c, v, r))", [list(one) for one in cases])
    for (counts, votes, registered), flags in zip(cases, told, strict=True):
        tally = Tally(counts, {str(pair): count for pair, count in enumerate(votes, 1)})
        assert tuple(flags) == check_tally(tally, registered), (counts, votes, registered)
    assert len({tuple(flags) for flags in told}) > 20
