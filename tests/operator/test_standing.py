"""A box that may not sign says so on its pages, plainly and with what to do: one that was revoked, one restored."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.boxes import NodeBox
from tests.operator.conftest import Island, Phones, begin, picture_in_english, picture_of
from tests.operator.test_access import find_nothing

REVOKED = "Kotak ini sudah dicabut oleh KPU (hilang di dermaga)."


def test_a_revoked_box_says_so_on_every_page(island: Island, phones: Phones, photos: list[Path]) -> None:
    page = island.pair(phones().new_page())
    expect(page.get_by_role("alert")).to_have_count(0)
    begin(page)
    page.locator("#camera").set_input_files(photos[0])
    expect(page.locator(".pictures a img")).to_be_visible()
    draft = page.url
    page.goto(f"{island.url}/operator")
    island.box.import_(island.world.election.revoke("pulau-long", "hilang di dermaga"))
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text(REVOKED, timeout=30_000)  # the list follows the node
    expect(notice).to_contain_text("hubungi KPU kabupaten")
    find_nothing(page, "list, revoked")
    picture_of(page, "operator-revoked-id")
    picture_in_english(page, "operator-revoked-en")
    page.goto(draft)
    expect(page.get_by_role("alert")).to_contain_text(REVOKED)
    page.goto(draft.replace("/pictures", "/review"))
    page.get_by_role("button", name="Tanda tangani dan kirim").click()
    expect(page.get_by_text("dicabut (hilang di dermaga)").first).to_be_visible()
    assert island.box.list() == []
    page.goto(island.console)
    expect(page.get_by_role("alert")).to_contain_text(REVOKED)
    page.goto(f"{island.console}/board?lang=en")
    expect(page.locator(".alarm")).to_contain_text("The election office has revoked this box (hilang di dermaga).")
    stranger = phones().new_page()
    stranger.goto(f"{island.url}/operator")
    expect(stranger.get_by_text("dicabut")).to_have_count(0)


def test_a_restored_box_says_that_it_may_not_sign(island: Island, phones: Phones, photos: list[Path]) -> None:
    page = island.pair(phones().new_page())
    begin(page)
    page.locator("#camera").set_input_files(photos[0])
    expect(page.locator(".pictures a img")).to_be_visible()
    draft = page.url
    island.box.relay("backup", island.world.folder / "backup")
    island.box.stop()
    with NodeBox(island.world.folder / "again") as restored:
        restored.relay("restore", island.world.folder / "backup")
        restored.start()
        page.goto(f"{island.url}/operator")  # the phone is paired with it as it was
        expect(page.get_by_role("alert")).to_contain_text("dipulihkan dari cadangan dan belum boleh menandatangani")
        find_nothing(page, "list, restored")
        page.goto(draft.replace("/pictures", "/review"))
        expect(page.locator("#live-pictures img")).to_have_count(1)
        page.get_by_role("button", name="Tanda tangani dan kirim").click()
        expect(page.get_by_text("Kotak ini dipulihkan dari cadangan").first).to_be_visible()
        assert restored.list() == []
        restored.relay("restore", "--newest")
        page.goto(draft.replace("/pictures", "/review"))
        page.get_by_role("button", name="Tanda tangani dan kirim").click()
        page.wait_for_url("**/packages/*")
