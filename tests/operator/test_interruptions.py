"""What happens to phones at two in the morning: nothing is lost, and nothing is sent twice."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.operator.conftest import TALLY, Island, Phones, begin, type_tally
from tests.operator.wifi import Wifi
from tests.processes import eventually

PARTS = "**/pictures/*"
AGAIN = 20_000
"""Milliseconds: more than a phone waits before it tries again, and what it then has to send."""


def test_the_connection_is_cut_in_the_middle_of_an_upload(island: Island, phone: Page, photos: list[Path]) -> None:
    """The upload goes on where it ended: no part that arrived is sent again."""
    begin(phone)
    offsets = watch_parts(phone)
    cut_after(phone, 2)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator("#offline")).to_be_visible()
    expect(phone.locator(".pictures li")).to_contain_text("Menunggu sambungan")
    phone.unroute(PARTS)
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    expect(phone.locator("#offline")).to_be_hidden()
    arrived = sorted(set(offsets))
    assert arrived == list(range(0, photos[0].stat().st_size, 256 * 1024))
    assert offsets.count(0) == 1
    assert send(phone, island) == [photos[0].stat().st_size]


def test_the_connection_is_cut_in_the_middle_of_a_part(island: Island, phones: Phones, photos: list[Path]) -> None:
    """Half a part is no part: the box kept what was whole, and goes on from there."""
    with Wifi(island.port) as wifi:
        phone = island.pair(phones().new_page(), wifi.url)
        begin(phone)
        offsets = watch_parts(phone)
        wifi.narrow(together=600_000)
        phone.locator("#camera").set_input_files(photos[0])
        stalled(phone, wifi, offsets)
        wifi.cut()
        expect(phone.locator("#offline")).to_be_visible()
        expect(phone.locator(".pictures li")).to_contain_text("Menunggu sambungan")
        wifi.wide()
        expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible(timeout=AGAIN)
        expect(phone.locator("#offline")).to_be_hidden()
        assert offsets == sorted(set(offsets)) and offsets[0] == 0
        assert send(phone, island) == [photos[0].stat().st_size]
    assert "Traceback" not in island.box.log


def test_the_box_dies_in_the_middle_of_an_upload(island: Island, phones: Phones, photos: list[Path]) -> None:
    """SIGKILL while a part is on its way; started again, it has every part that it had acknowledged."""
    with Wifi(island.port) as wifi:
        phone = island.pair(phones().new_page(), wifi.url)
        begin(phone)
        offsets = watch_parts(phone)
        wifi.narrow(together=600_000)
        phone.locator("#camera").set_input_files(photos[0])
        stalled(phone, wifi, offsets)
        before = list(offsets)
        island.box.kill()
        expect(phone.locator("#offline")).to_be_visible()
        island.box.start()
        wifi.wide()
        expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible(timeout=AGAIN)
        assert before and offsets == sorted(set(offsets)), "what was acknowledged is sent no second time"
        assert send(phone, island) == [photos[0].stat().st_size]
    (bundle,) = island.box.list()
    assert island.box.cat(bundle["objects"][0]["sha256"]) == photos[0].read_bytes()


def test_the_answer_to_a_part_is_lost(island: Island, phone: Page, photos: list[Path]) -> None:
    """The box has it already and says where to go on."""
    begin(phone)
    lost: list[str] = []

    def swallow(route: Route) -> None:
        if route.request.method == "PATCH" and len(lost) < 2:
            route.fetch()  # it arrives, and the answer does not
            lost.append(route.request.headers["upload-offset"])
            route.abort("connectionreset")
        else:
            route.continue_()

    phone.route(PARTS, swallow)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    assert len(set(lost)) == 2
    assert send(phone, island) == [photos[0].stat().st_size]


def test_the_page_is_reloaded_in_the_middle_of_an_upload(island: Island, phone: Page, photos: list[Path]) -> None:
    """The phone keeps the picture until the box has it."""
    begin(phone)
    cut_after(phone, 2)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator("#offline")).to_be_visible()
    phone.reload()
    expect(phone.locator("#offline")).to_be_visible()
    offsets = watch_parts(phone)  # before the way is open: the page itself goes on at once
    phone.unroute(PARTS)
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    assert min(offsets) == 2 * 256 * 1024
    assert send(phone, island) == [photos[0].stat().st_size]


def test_a_phone_dies_and_another_one_goes_on(island: Island, phone: Page, phones: Phones, photos: list[Path]) -> None:
    """What was typed and photographed is on the box; what arrived in part can be removed and taken again."""
    begin(phone)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    cut_after(phone, 1)
    phone.locator("#camera").set_input_files(photos[1])
    expect(phone.locator("#offline")).to_be_visible()
    phone.goto(phone.url.replace("/pictures", "/numbers"))
    phone.locator("#voters").fill("101")
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")
    phone.context.close()

    other = island.pair(phones().new_page())
    other.get_by_role("link", name="Lanjutkan").click()
    expect(other.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    expect(other.locator(".pictures")).to_contain_text("Sebagian: ")
    other.on("dialog", lambda dialog: dialog.accept())
    other.get_by_role("button", name="Hapus foto halaman 2").click()
    expect(other.locator(".pictures li")).to_have_count(1)
    other.locator("#gallery").set_input_files(photos[1])
    expect(other.locator(".pictures img")).to_have_count(2)
    other.get_by_role("link", name="Lanjut: ketik angka").click()
    expect(other.locator("#voters")).to_have_value("101")
    assert len(send(other, island)) == 2


def test_the_box_is_switched_off_while_one_types(island: Island, phone: Page, photos: list[Path]) -> None:
    """A power cut: what was acknowledged is there, what was typed meanwhile follows by itself."""
    begin(phone)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    phone.goto(phone.url.replace("/pictures", "/numbers"))
    phone.locator("#voters").fill("101")
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")
    island.box.kill()
    phone.locator("#invalid").fill("4")
    expect(phone.locator("#offline")).to_be_visible()
    island.box.start()
    expect(phone.locator("#kept")).to_have_text("Tersimpan di kotak")
    phone.reload()
    expect(phone.locator("#voters")).to_have_value("101")
    expect(phone.locator("#invalid")).to_have_value("4")
    assert send(phone, island) == [photos[0].stat().st_size]


def test_a_second_tap_sends_nothing_twice(island: Island, phone: Page) -> None:
    """By finger, by script, from two phones' tabs at once, and again after the answer was lost."""
    begin(phone)
    phone.goto(phone.url.replace("/pictures", "/numbers"))
    type_tally(phone, TALLY)
    phone.get_by_role("button", name="Lanjut: periksa").click()
    phone.wait_for_url("**/review")
    second = phone.context.new_page()
    second.goto(phone.url)
    again = """() => {
        const body = new URLSearchParams({ token: document.body.dataset.token });
        const post = () => fetch(location.href, { method: "POST", body, headers: { Accept: "text/html" } });
        return Promise.all([post(), post(), post()]).then((all) => all.map((one) => new URL(one.url).pathname));
    }"""
    paths = second.evaluate(again)
    phone.get_by_role("button", name="Tanda tangani dan kirim").dblclick()
    phone.wait_for_url("**/packages/*")
    (bundle,) = island.box.list()
    assert paths == [f"/operator/packages/{bundle['id']}"] * 3
    assert phone.url.endswith(bundle["id"])


def test_back_after_sending(island: Island, phone: Page) -> None:
    """Back leads to what became of it; nothing can be changed or sent once more."""
    begin(phone)
    phone.goto(phone.url.replace("/pictures", "/numbers"))
    type_tally(phone, TALLY)
    phone.get_by_role("button", name="Lanjut: periksa").click()
    phone.wait_for_url("**/review")
    phone.get_by_role("button", name="Tanda tangani dan kirim").click()
    phone.wait_for_url("**/packages/*")
    package = phone.url
    phone.go_back()
    phone.wait_for_url(package)
    phone.go_back()
    phone.wait_for_url(package)
    assert len(island.box.list()) == 1


def test_begin_is_tapped_twice(island: Island, phone: Page) -> None:
    """There is one draft for a form."""
    begin(phone)
    first = phone.url
    phone.go_back()
    phone.reload()
    phone.get_by_role("link", name="Lanjutkan").click()
    phone.wait_for_url("**/pictures")
    assert phone.url == first


def test_what_is_no_picture_is_not_taken(island: Island, phone: Page, tmp_path: Path) -> None:
    """A file that only says that it is one."""
    begin(phone)
    false = tmp_path / "foto.jpg"
    false.write_bytes(b"<html>" * 50_000)
    phone.locator("#gallery").set_input_files(false)
    expect(phone.locator("#said")).to_contain_text("Foto ini tidak dapat dipakai. Ambil lagi.")
    expect(phone.locator("#said")).to_be_visible()
    phone.reload()
    expect(phone.locator(".pictures li")).to_have_count(0)


def test_an_empty_photo_is_said_to_have_failed_and_the_others_arrive(
    island: Island, phone: Page, photos: list[Path], tmp_path: Path
) -> None:
    """No page says then that a photo was left behind, and none that it was saved."""
    begin(phone)
    empty = tmp_path / "kosong.jpg"
    empty.touch()
    phone.locator("#gallery").set_input_files([str(empty), str(photos[0])])
    expect(phone.locator(".pictures img[alt='Halaman 1']")).to_be_visible()
    expect(phone.locator("#said.problem")).to_have_text("Foto ini tidak dapat dipakai. Ambil lagi.")
    expect(phone.locator("#stranded")).to_have_count(0)
    assert send(phone, island) == [photos[0].stat().st_size]


def test_a_photo_that_is_cut_off_is_refused_on_the_phone(
    island: Island, phone: Page, photos: list[Path], tmp_path: Path
) -> None:
    """And what was said of the photo before does not stand beside it."""
    begin(phone)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator("#said")).to_have_text("Foto tersimpan di kotak")
    cut = tmp_path / "foto.jpg"
    cut.write_bytes(photos[1].read_bytes()[:-1_000])
    phone.locator("#camera").set_input_files(cut)
    expect(phone.locator("#said.problem")).to_contain_text("Foto ini tidak terbuka")
    phone.reload()
    expect(phone.locator(".pictures li")).to_have_count(1)


def test_no_photo_is_called_saved_while_one_waits(island: Island, phone: Page, photos: list[Path]) -> None:
    """What stands there was said of the one before."""
    begin(phone)
    phone.locator("#camera").set_input_files(photos[0])
    expect(phone.locator("#said")).to_have_text("Foto tersimpan di kotak")
    cut_after(phone, 1)
    phone.locator("#camera").set_input_files(photos[1])
    expect(phone.locator(".pictures li").last).to_contain_text("Menunggu sambungan")
    expect(phone.locator("#said")).to_have_text("")
    phone.unroute(PARTS)
    expect(phone.locator("#said")).to_have_text("Foto tersimpan di kotak", timeout=AGAIN)


def stalled(page: Page, wifi: Wifi, offsets: list[int]) -> None:
    """Wait until a part is stuck half-way, and until the answer to the one before has been heard here, too."""
    eventually(wifi.stalled.is_set, 15, "a part is under way")
    eventually(lambda: page.evaluate("true") and offsets, 15, "the part before it was answered")


def watch_parts(page: Page) -> list[int]:
    """Where the parts began that the box answered."""
    offsets: list[int] = []

    def note(response: object) -> None:
        request = response.request  # type: ignore[attr-defined]
        if request.method == "PATCH" and response.status == 204:  # type: ignore[attr-defined]
            offsets.append(int(request.headers["upload-offset"]))

    page.on("response", note)
    return offsets


def cut_after(page: Page, parts: int) -> None:
    """Let so many parts of a picture through, then nothing that has to do with pictures."""
    passed = 0

    def cut(route: Route) -> None:
        nonlocal passed
        if route.request.method == "PATCH" and passed < parts:
            passed += 1
            route.continue_()
        elif route.request.method in ("PATCH", "HEAD") and passed >= parts:
            route.abort("internetdisconnected")
        else:
            route.continue_()

    page.route(PARTS, cut)


def send(page: Page, island: Island) -> list[int]:
    """Sign what is there; sizes of the pictures in the package."""
    page.goto(page.url.rpartition("/")[0] + "/review")
    page.get_by_role("button", name="Tanda tangani dan kirim").click()
    page.wait_for_url("**/packages/*")
    (bundle,) = island.box.list()
    return [one["size"] for one in bundle["objects"]]
