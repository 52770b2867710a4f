"""No picture is left behind without a word: whatever page the phone shows, and whatever the box says to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.operator.conftest import TALLY, Island, Phones, begin, type_tally
from tests.operator.wifi import Wifi
from tests.processes import eventually

PARTS = "**/pictures/*"
KEPT = """() => new Promise((done) => {
    const opening = indexedDB.open("relay", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("pictures", { keyPath: "id" });
    opening.onsuccess = () => {
        const count = opening.result.transaction("pictures").objectStore("pictures").count();
        count.onsuccess = () => { opening.result.close(); done(count.result); };
    };
})"""


def kept(page: Page, count: int) -> None:
    """Wait until the phone keeps so many pictures."""
    eventually(lambda: page.evaluate(KEPT) == count, 15, f"the phone keeps {count} pictures")


def to_step(page: Page, step: str) -> None:
    """Go to another step of the same draft."""
    page.goto(f"{page.url.rpartition('/')[0]}/{step}")


def test_two_pictures_on_a_slow_way_are_both_signed(island: Island, phones: Phones, photos: list[Path]) -> None:
    """Nobody signs without them, on no phone, while they go on from whatever page is open."""
    with Wifi(island.port) as wifi:
        phone = island.pair(phones().new_page(), wifi.url)
        begin(phone)
        wifi.narrow(each=100_000)
        phone.locator("#gallery").set_input_files([str(photo) for photo in photos])
        kept(phone, 2)
        phone.get_by_role("link", name="Lanjut: ketik angka").click()
        expect(phone.locator("#copying")).to_contain_text("Menyalin 2 foto ke kotak")
        type_tally(phone, TALLY)
        phone.get_by_role("button", name="Lanjut: periksa").click()
        phone.wait_for_url("**/review")
        expect(phone.locator("#held")).to_contain_text("2 foto masih di ponsel ini")
        phone.get_by_role("button", name="Tanda tangani dan kirim").click()
        expect(phone.locator("#held")).to_be_focused()
        other = island.pair(phones().new_page())
        other.goto(phone.url.replace(wifi.url, island.url))
        expect(other.locator(".pictures li")).to_have_count(2)
        other.get_by_role("button", name="Tanda tangani dan kirim").click()
        expect(other.get_by_role("alert")).to_contain_text("belum tersalin penuh")
        assert island.box.list() == []
        wifi.wide()
        expect(phone.locator("#held")).to_be_hidden(timeout=20_000)
        expect(phone.locator("#copying")).to_be_hidden()
        expect(other.locator("#live-pictures img")).to_have_count(2)
        phone.get_by_role("button", name="Tanda tangani dan kirim").click()
        phone.wait_for_url("**/packages/*")
    (bundle,) = island.box.list()
    assert [one["size"] for one in bundle["objects"]] == [photo.stat().st_size for photo in photos]
    kept(phone, 0)


def test_a_picture_is_announced_before_its_first_byte(island: Island, phone: Page, photos: list[Path]) -> None:
    """In the order in which they were chosen; a phone that dies now has told the box what is lacking."""
    begin(phone)
    phone.route(PARTS, lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    phone.locator("#gallery").set_input_files([str(photo) for photo in photos])
    kept(phone, 2)
    drafts = island.box.home / "drafts"

    def announced() -> list[int]:
        (file,) = drafts.glob("*/draft.json")
        return [one["size"] for one in json.loads(file.read_text())["pictures"]]

    eventually(lambda: announced() == [photo.stat().st_size for photo in photos], 15, "both are announced")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 507])
def test_what_the_box_refuses_stays_on_the_phone(island: Island, phone: Page, photos: list[Path], status: int) -> None:
    """What is wrong is said; the picture is kept, and goes on when it can."""
    begin(phone)
    kind = {404: "not-held", 409: "already-sent"}.get(status, "something")
    problem = {"type": f"relay:problem/{kind}", "title": "Kotak sedang sibuk", "detail": "Tunggu", "status": status}

    def refuse(route: Route) -> None:
        if route.request.method == "PATCH":
            route.fulfill(status=status, content_type="application/problem+json", body=json.dumps(problem))
        else:
            route.continue_()

    phone.route(PARTS, refuse)
    phone.locator("#camera").set_input_files(photos[0])
    kept(phone, 1)
    if status in (404, 409):
        expect(phone.locator("#stranded")).to_contain_text("Ada foto yang tidak ikut terkirim")
        expect(phone.locator("#stranded img")).to_be_visible()
    else:
        expect(phone.locator(".pictures li")).to_contain_text("Kotak sedang sibuk. Tunggu Foto ini tetap tersimpan")
        expect(phone.locator("#unpaired")).to_be_visible(visible=status == 401)
    kept(phone, 1)
    phone.unroute(PARTS)
    phone.reload()
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    kept(phone, 0)


def test_a_picture_that_is_damaged_on_its_way_is_sent_again(island: Island, phone: Page, photos: list[Path]) -> None:
    """The phone has it as it was taken."""
    begin(phone)
    damaged: list[int] = []

    def damage(route: Route) -> None:
        body = route.request.post_data_buffer
        if route.request.method == "PATCH" and body and not damaged:
            damaged.append(len(body))
            route.continue_(post_data=bytes([*body[:1000], body[1000] ^ 1, *body[1001:]]))
        else:
            route.continue_()

    phone.route(PARTS, damage)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    assert damaged
    to_step(phone, "review")
    phone.get_by_role("button", name="Tanda tangani dan kirim").click()
    phone.wait_for_url("**/packages/*")
    (bundle,) = island.box.list()
    assert island.box.cat(bundle["objects"][0]["sha256"]) == photos[0].read_bytes()


def test_what_one_phone_removes_no_other_brings_back(
    island: Island, phone: Page, phones: Phones, photos: list[Path]
) -> None:
    """The phone that took it is told, and keeps it no longer."""
    begin(phone)
    phone.route(PARTS, lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    phone.locator("#camera").set_input_files(photos[0])
    kept(phone, 1)
    other = island.pair(phones().new_page())
    other.on("dialog", lambda dialog: dialog.accept())
    other.get_by_role("link", name="Lanjutkan").click()
    other.get_by_role("button", name="Hapus foto halaman 1").click()
    expect(other.locator(".pictures li")).to_have_count(0)
    phone.unroute(PARTS)
    expect(phone.locator("#said")).to_contain_text("Foto ini sudah dihapus di kotak")
    kept(phone, 0)
    other.reload()
    expect(other.locator(".pictures li")).to_have_count(0)


def test_a_picture_is_removed_while_it_waits(island: Island, phone: Page, photos: list[Path]) -> None:
    """By the phone that took it, on its card: it comes back by no reload."""
    begin(phone)
    phone.route(PARTS, lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    phone.locator("#camera").set_input_files(photos[0])
    kept(phone, 1)
    phone.on("dialog", lambda dialog: dialog.accept())
    phone.get_by_role("button", name="Hapus IMG_1.jpg").click()
    expect(phone.locator(".pictures li")).to_have_count(0)
    phone.unroute(PARTS)
    phone.reload()
    expect(phone.get_by_text("Belum ada foto.")).to_be_visible()
    kept(phone, 0)


def test_a_discarded_draft_takes_its_pictures_along(island: Island, phone: Page, photos: list[Path]) -> None:
    """It asks first, and then the phone keeps none of them."""
    begin(phone)
    phone.route(PARTS, lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    phone.locator("#camera").set_input_files(photos[0])
    kept(phone, 1)
    to_step(phone, "review")
    asked: list[str] = []
    answers = iter((False, True))

    def answer(dialog: object) -> None:
        asked.append(dialog.message)  # type: ignore[attr-defined]
        dialog.accept() if next(answers) else dialog.dismiss()  # type: ignore[attr-defined]

    phone.on("dialog", answer)
    phone.locator("details summary", has_text="Buang isian ini").click()
    for _ in range(2):
        phone.get_by_role("button", name="Buang isian ini").click()
    phone.wait_for_url("**/operator")
    assert asked == ["Buang semua foto dan angka isian ini?"] * 2
    kept(phone, 0)


def test_a_refused_save_is_said_and_tried_again(island: Island, phone: Page) -> None:
    """Not "saving" for ever."""
    begin(phone)
    to_step(phone, "numbers")
    problem = {"type": "relay:problem/store", "title": "Kotak sedang penuh", "detail": "Tunggu"}
    phone.route(
        "**/numbers", lambda route: route.fulfill(status=507, content_type="application/json", body=json.dumps(problem))
    )
    phone.locator("#voters").fill("101")
    expect(phone.locator("#kept")).to_have_text("Kotak sedang penuh. Tunggu")
    phone.unroute("**/numbers")
    phone.get_by_role("button", name="Coba lagi").click()
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")
    expect(phone.get_by_role("button", name="Coba lagi")).to_be_hidden()


def test_what_is_no_number_is_said_while_one_types(island: Island, phone: Page) -> None:
    """Not only when one goes on; and it is not called saved, though the box keeps it as it was typed."""
    begin(phone)
    to_step(phone, "numbers")
    phone.locator("#voters").fill("1.234")
    expect(phone.locator("#voters-error")).to_have_text(
        "“1.234” bukan bilangan bulat. Ketik angka saja, tanpa titik atau huruf."
    )
    expect(phone.locator("#voters")).to_have_attribute("aria-invalid", "true")
    with phone.expect_response("**/numbers") as saved:
        phone.locator("#invalid").fill("4")
    assert saved.value.ok
    expect(phone.locator("#kept")).not_to_have_text("Tersimpan di kotak")
    phone.locator("#voters").fill("1234")
    expect(phone.locator("#voters-error")).to_have_count(0)
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")


def test_a_phone_that_is_paired_anew_goes_on_where_it_was(island: Island, phone: Page) -> None:
    """An old page says that it is shut out, and saves as soon as it is in again: nothing that was typed is lost."""
    begin(phone)
    to_step(phone, "numbers")
    (one,) = island.box.relay("pair", "--list", "--json").json()
    island.box.relay("pair", "--unpair", one["id"])
    phone.clock.install()
    phone.locator("#voters").fill("101")
    expect(phone.locator("#unpaired")).to_contain_text("Ponsel ini tidak lagi dipasangkan")
    phone.clock.pause_at(phone.evaluate("Date.now()") + 1_000)  # no time passes in which it might try by itself
    second = phone.context.new_page()
    island.pair(second)
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak", timeout=30_000)
    expect(phone.locator("#unpaired")).to_be_hidden()


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
def test_two_phones_type_different_parts(island: Island, phones: Phones, scripts: bool) -> None:
    """What one did not touch is not erased by its blanks, nor put back to what it was."""
    first = island.pair(phones(scripts=scripts).new_page())
    begin(first)
    to_step(first, "numbers")
    second = island.pair(phones().new_page())
    second.goto(first.url)
    second.locator("#voters").fill("101")
    expect(second.locator("#kept")).to_have_text("Tersimpan di kotak")
    first.locator("#invalid").fill("4")
    if scripts:
        expect(first.locator("#kept")).to_have_text("Tersimpan di kotak")
        second.reload()
        second.locator("#invalid").fill("5")
        expect(second.locator("#kept")).to_have_text("Tersimpan di kotak")
    first.get_by_role("button", name="Lanjut: periksa").click()
    first.wait_for_url("**/review")
    shown = first.locator(".tally").inner_text()
    assert "101" in shown
    to_step(first, "numbers")
    expect(first.locator("#invalid")).to_have_value("5" if scripts else "4")


def test_a_page_that_cannot_be_fetched_stays_as_it_is(island: Island, phone: Page, photos: list[Path]) -> None:
    """The connection is lost just when the list is asked for: no error page of the browser in its place."""
    begin(phone)
    phone.route("**/pictures", lambda route: route.abort("internetdisconnected"))
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator("#said")).to_have_text("Foto tersimpan di kotak")
    expect(phone.locator("#offline")).to_be_visible()
    expect(phone.get_by_role("heading", name="Foto formulir")).to_be_visible()
    kept(phone, 0)


def test_a_button_says_what_it_does_once_its_answer_is_lost(island: Island, phone: Page) -> None:
    """It may be tapped again, and reads like it."""
    begin(phone)
    to_step(phone, "review")
    phone.clock.install()
    phone.evaluate("addEventListener('submit', (event) => event.preventDefault())")  # nothing goes, nothing comes
    button = phone.locator("button.send")
    button.click()
    expect(button).to_have_text("Menandatangani …")
    phone.clock.fast_forward(16_000)
    expect(button).to_have_text("Tanda tangani dan kirim")
    expect(button).not_to_have_attribute("aria-disabled", "true")
