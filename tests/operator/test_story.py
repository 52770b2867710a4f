"""The operator's story: pair, photograph, type, review, sign, and see it on its way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.world import OTHER_FORM
from tests.operator.conftest import (
    FORM,
    TALLY,
    Island,
    Phones,
    begin,
    picture_in_english,
    picture_of,
    pictures_of,
    type_tally,
    with_boat,
)
from tests.processes import eventually


@pytest.mark.timeout(400)
def test_an_operator_sends_a_form_and_sees_it_delivered(
    island: Island, phone: Page, phones: Phones, photos: list[Path]
) -> None:
    """From the list to the log entry, by way of a boat; then a correction; and what the boat's board says meanwhile."""
    pictures_of(phone, "operator-list")
    begin(phone)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    phone.locator("#gallery").set_input_files([photos[1]])
    expect(phone.locator(".pictures img[alt='Halaman 2']")).to_be_visible()
    pictures_of(phone, "operator-pictures")
    phone.get_by_role("link", name="Lanjut: ketik angka").click()
    type_tally(phone, {**TALLY, "valid": 1})
    expect(phone.locator("[data-rule=valid-is-not-sum-of-votes]")).to_be_visible()
    expect(phone.locator("[data-rule=voters-is-not-ballots-used]")).to_be_hidden()
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")
    pictures_of(phone, "operator-numbers")
    phone.locator("#voters").fill("10l")
    phone.get_by_role("button", name="Lanjut: periksa").click()
    expect(phone.get_by_role("alert")).to_contain_text("Perlu dibetulkan")
    pictures_of(phone, "operator-wrong")
    type_tally(phone, TALLY)
    expect(phone.locator("[data-rule=valid-is-not-sum-of-votes]")).to_be_hidden()
    phone.get_by_role("button", name="Lanjut: periksa").click()
    phone.wait_for_url("**/review")
    expect(phone.get_by_text("Semua angka cocok.")).to_be_visible()
    pictures_of(phone, "operator-review")
    phone.get_by_role("button", name="Tanda tangani dan kirim").click()
    phone.wait_for_url("**/packages/*")
    pictures_of(phone, "operator-signed", whole=False)
    (bundle,) = island.box.list()
    assert (bundle["form"], bundle["state"], bundle["flags"]) == (FORM, "waiting", [])
    assert [one["size"] for one in bundle["objects"]] == [photo.stat().st_size for photo in photos]
    assert [one["name"] for one in bundle["objects"]] == [f"{FORM}-1.jpg", f"{FORM}-2.jpg"]

    with_boat_and_receiver(island, phone, phones)
    correct(island, phone)


def with_boat_and_receiver(island: Island, phone: Page, phones: Phones) -> None:
    """A boat comes by, then it reaches the receiver: the phone's page follows by itself."""
    receiver, boat = with_boat(island)
    expect(phone.get_by_text("Di km-sinar-laut")).to_be_visible(timeout=30_000)
    pictures_of(phone, "operator-carried", whole=False)
    board = phones(wide=True).new_page()
    board.goto(f"http://{_setting(boat, 'console')}/board")
    expect(board.locator(".figure")).to_have_text("1")
    picture_of(board, "board-loaded-id")
    picture_in_english(board, "board-loaded-en")
    receiver.start()
    expect(phone.locator(".entry")).to_have_text("No. log: 0", timeout=30_000)
    pictures_of(phone, "operator-delivered", whole=False)
    expect(board.get_by_text("Kosong", exact=True)).to_be_visible(timeout=30_000)  # it reloads by itself
    expect(board.get_by_text("1 paket kepada receiver")).to_be_visible(timeout=30_000)
    picture_of(board, "board-empty-id")
    board.goto(f"{board.url}?lang=en")
    expect(board.get_by_text("Everything was received on the mainland.")).to_be_visible()
    picture_of(board, "board-empty-en")
    console = phones(wide=True).new_page()
    console.goto(f"{island.console}/")
    expect(console.get_by_text("0 menunggu · 0 sebagian · 1 terkirim")).to_be_visible()
    picture_of(console, "console-id")
    picture_in_english(console, "console-en")


def correct(island: Island, phone: Page) -> None:
    """A correction begins with what was sent, and needs a reason."""
    phone.get_by_text("Koreksi paket ini").first.click()
    phone.get_by_role("button", name="Koreksi paket ini").click()
    phone.wait_for_url("**/pictures")
    expect(phone.locator(".pictures img")).to_have_count(2)
    phone.get_by_role("link", name="Lanjut: ketik angka").click()
    expect(phone.locator("#voters")).to_have_value(str(TALLY["voters"]))
    phone.locator("#pair-1").fill("57")
    phone.get_by_role("button", name="Lanjut: periksa").click()
    phone.wait_for_url("**/review")
    pictures_of(phone, "operator-correction")
    phone.locator("form[data-busy]").evaluate("form => { form.noValidate = true }")
    phone.get_by_role("button", name="Tanda tangani dan kirim").click()
    expect(phone.get_by_role("alert")).to_contain_text("Tulis alasan koreksi.")
    phone.locator("#reason").fill("Suara pasangan 1 salah ketik")
    phone.get_by_role("button", name="Tanda tangani dan kirim").click()
    phone.wait_for_url("**/packages/*")
    expect(phone.get_by_text("Suara pasangan 1 salah ketik")).to_be_visible()

    def logged() -> bool:
        return [one["entry"] for one in sorted(island.box.list(), key=lambda one: one["seq"])] == [0, 1]

    eventually(logged, 30, "both packages are in the log")
    first, second = sorted(island.box.list(), key=lambda one: one["seq"])
    assert second["supersedes"] == first["id"]
    assert "valid-is-not-sum-of-votes" in second["flags"]
    phone.get_by_role("link", name="Daftar formulir").click()
    expect(phone.get_by_text("No. log: 1")).to_be_visible()


def test_the_page_speaks_english(island: Island, phones: Phones, photos: list[Path]) -> None:
    """The switch is remembered; every page is looked at."""
    page = phones().new_page()
    page.goto(island.offer()["link"])
    pictures_of(page, "operator-pair")
    page.get_by_role("link", name="English").click()
    page.goto(f"{island.url}/operator")
    expect(page.get_by_role("heading", name="Pair this phone")).to_be_visible()
    page.locator("#code").fill("AAAA-AAAA")
    page.get_by_role("button", name="Pair").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.goto(island.offer()["link"])
    page.get_by_role("button", name="Pair").click()
    expect(page.get_by_role("heading", name="Your polling stations")).to_be_visible()
    page.locator("li", has_text=OTHER_FORM).first.get_by_role("button", name="Begin").click()
    page.locator("#gallery").set_input_files(photos[0])
    expect(page.locator(".pictures img[alt='Page 1']")).to_be_visible()
    page.get_by_role("link", name="Next: type the numbers").click()
    page.locator("#voters").fill("12x")
    page.get_by_role("button", name="Next: review").click()
    expect(page.get_by_role("alert")).to_contain_text("To be put right")
    page.get_by_role("link", name="Voters who came").click()
    expect(page.locator("#voters")).to_be_focused()
    page.locator("#voters").fill("12")
    page.get_by_role("button", name="Next: review").click()
    page.wait_for_url("**/review")
    expect(page.get_by_text("Not every number was typed.")).to_be_visible()
    expect(page.get_by_text("not added up")).to_have_count(0)
    page.get_by_role("button", name="Sign and send").click()
    page.wait_for_url("**/packages/*")
    assert island.box.list()[0]["flags"] == ["incomplete"]


def test_without_javascript(island: Island, phones: Phones, photos: list[Path]) -> None:
    """Everything but comfort works in a browser that runs no script."""
    page = island.pair(phones(scripts=False).new_page())
    begin(page)
    page.locator("#gallery").set_input_files([str(photo) for photo in photos])
    page.get_by_role("button", name="Kirim foto ke kotak").click()
    expect(page.locator(".pictures img")).to_have_count(2)
    page.get_by_role("button", name="Hapus foto halaman 2").click()
    expect(page.locator(".pictures img")).to_have_count(1)
    page.get_by_role("link", name="Lanjut: ketik angka").click()
    page.locator("#pairs").select_option("3")
    page.get_by_role("button", name="Ubah").click()
    expect(page.locator("#pair-3")).to_be_visible()
    type_tally(page, {**TALLY, "invalid": 77})
    page.get_by_role("button", name="Lanjut: periksa").click()
    expect(page.locator(".box.warn:visible")).to_contain_text("tidak sama dengan suara sah + tidak sah")
    expect(page.locator(".box.warn:visible")).to_contain_text("tidak ikut dijumlahkan dalam hasil")
    page.get_by_role("button", name="Tanda tangani dan kirim").click()
    expect(page).to_have_url(re.compile("/packages/"))
    assert island.box.list()[0]["flags"] == ["used-is-not-valid-plus-invalid"]


def _setting(box: object, key: str) -> str:
    text = (box.home / "config.toml").read_text()  # type: ignore[attr-defined]
    match = re.search(rf'^{key} = "(.*)"$', text, re.M)
    assert match is not None
    return match[1]
