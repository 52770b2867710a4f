"""Everybody can use it: axe on every page of operators, in both languages, by day and by night, on a small phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from relay.records.tally import COUNTS, Tally, check_tally
from tests.operator.conftest import FORM, TALLY, TPS, Island, Phones, begin, type_tally, with_boat

TAGS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
NARROW = {"width": 320, "height": 640}


def find_nothing(page: Page, where: str) -> None:
    """Axe finds nothing, by day and, of colours, by night; nothing scrolls sideways; and no target is
    smaller than 44 pixels but for links within sentences."""
    for scheme, options in (("dark", CONTRAST), ("light", TAGS)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        response = Axe().run(page, options=options).response
        assert response["passes"], f"{where}: axe looked at nothing"
        told = [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in response["violations"]]
        assert not told, f"{where}, {scheme}: {told}"
    small = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, summary, textarea")]
            .filter((one) => one.checkVisibility() && !one.closest("p.box, .skip") && !one.matches(".skip"))
            .map((one) => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
            .filter(([, box]) => box.height < 43.5 || box.width < 43.5).map(([html]) => html)"""
    )
    assert not small, f"{where}: {small}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{where} scrolls sideways"


def narrow_phone(phones: Phones, lang: str) -> Page:
    """A small phone that speaks this language, and agrees to whatever it is asked."""
    page = phones(lang).new_page()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.on("dialog", lambda dialog: dialog.accept())
    return page


def let_in(island: Island, page: Page) -> None:
    """Pair, in any language."""
    page.goto(island.offer()["link"])
    page.locator("button.go").click()
    page.wait_for_url("**/operator")


def to_step(page: Page, step: str) -> None:
    """Go to another step of the same draft."""
    page.goto(f"{page.url.rpartition('/')[0]}/{step}")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("lang", ["id", "en"])
def test_axe_finds_nothing_from_pairing_to_signing(
    island: Island, phones: Phones, photos: list[Path], lang: str
) -> None:
    """Each page of a draft, as it looks with nothing, something and something wrong on it."""
    page = narrow_phone(phones, lang)
    page.goto(f"{island.url}/operator")
    find_nothing(page, "pair")
    page.locator("#code").fill("AAAAAAAA")
    page.locator("button").click()
    find_nothing(page, "pair, wrong code")
    page.locator("#code").fill("AAAAAAAA")
    page.locator("button").click()
    find_nothing(page, "pair, to wait")
    page.goto(island.offer()["link"])
    find_nothing(page, "pair, linked")
    page.locator("button.go").click()
    page.wait_for_url("**/operator")
    find_nothing(page, "list")
    page.locator("details.more summary").click()
    find_nothing(page, "list, unpair")
    page.locator("button.go").first.click()
    page.wait_for_url("**/pictures")
    find_nothing(page, "pictures, none")
    page.locator("#camera").set_input_files(photos[0])
    expect(page.locator(".pictures a img")).to_be_visible()
    find_nothing(page, "pictures")
    page.route("**/pictures/*", lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    page.locator("#camera").set_input_files(photos[1])
    expect(page.locator("#offline")).to_be_visible()
    find_nothing(page, "pictures, offline")
    to_step(page, "review")
    expect(page.locator("#held")).to_be_visible()
    find_nothing(page, "review, pictures on the phone")
    to_step(page, "numbers")
    expect(page.locator("#copying")).to_be_visible()
    page.unroute("**/pictures/*")
    find_nothing(page, "numbers, empty")
    page.route("**/numbers", lambda route: route.fulfill(status=401, body="{}"))
    type_tally(page, {**TALLY, "valid": 1})
    page.locator("#voters").fill("x")
    expect(page.locator("#again")).to_be_visible()
    find_nothing(page, "numbers, warned, shut out")
    page.unroute("**/numbers")
    page.locator("button.next").click()
    expect(page.locator("#errors")).to_be_focused()
    find_nothing(page, "numbers, wrong")
    page.locator("#voters").fill("")
    page.locator("button.next").click()
    page.wait_for_url("**/review")
    expect(page.locator("#live-pictures img")).to_have_count(2)
    find_nothing(page, "review")
    page.locator("details summary").click()
    find_nothing(page, "review, discard")
    page.goto(f"{island.url}/operator/packages/{'0' * 64}")
    find_nothing(page, "trouble")
    page.goto(f"{island.url}/operator")
    page.evaluate("document.querySelectorAll('input[name=token]').forEach((one) => { one.value = '' })")
    page.locator("button.go").first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == lang
    find_nothing(page, "trouble, an old page")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("lang", ["id", "en"])
def test_axe_finds_nothing_on_the_way(island: Island, phones: Phones, photos: list[Path], lang: str) -> None:
    """A package signed, carried, delivered, corrected and contradicted; and what was left on the phone."""
    page = narrow_phone(phones, lang)
    let_in(island, page)
    statement = island.box.submit(photos[0], tps=TPS, form=FORM, tally={**TALLY, "valid": 1})
    package = f"{island.url}/operator/packages/{statement}"
    page.goto(package)
    find_nothing(page, "package")
    page.goto(f"{island.url}/operator")
    find_nothing(page, "list, a package that waits")
    page.goto(package)
    receiver, _ = with_boat(island)
    expect(page.locator(".way li.done")).to_have_count(2, timeout=30_000)
    find_nothing(page, "package, carried")
    receiver.start()
    expect(page.locator(".entry")).to_be_visible(timeout=30_000)
    find_nothing(page, "package, delivered")
    page.locator("details summary").click()
    find_nothing(page, "package, correct")
    page.locator("details button").click()
    page.wait_for_url("**/pictures")
    find_nothing(page, "correction, pictures")
    page.route("**/pictures/*", lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    page.locator("#camera").set_input_files(photos[1])
    expect(page.locator("#offline")).to_be_visible()
    to_step(page, "review")
    page.locator("form[data-busy]").evaluate("form => { form.noValidate = true; delete form.dataset.whole }")
    page.locator("button.send").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    find_nothing(page, "correction, refused")
    page.goto(f"{island.url}/operator")
    find_nothing(page, "list, a correction under way")
    other = narrow_phone(phones, lang)
    let_in(island, other)
    other.locator("a.go").click()
    to_step(other, "review")
    other.locator("details summary").click()
    other.locator("button.danger").click()
    other.wait_for_url("**/operator")
    page.unroute("**/pictures/*")
    page.goto(package)
    expect(page.locator("#stranded")).to_be_visible()
    find_nothing(page, "package, a picture left on the phone")
    spare = island.world.box("cadangan", "operator", tps=(TPS,))
    spare.submit(tps=TPS, form=FORM, tally=TALLY)
    spare.export(island.world.folder / "stick")
    island.box.import_(island.world.folder / "stick")
    page.reload()
    find_nothing(page, "package, contradicted")
    page.goto(f"{island.url}/operator")
    find_nothing(page, "list, contradicted")
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
