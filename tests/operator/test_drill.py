"""A drill as its people see it: two trainees with a phone each at one box, a boat, a receiver; marked on every page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from relay.receiver.password import set_password
from tests.boxes import RELAY, NodeBox, free_port
from tests.e2e.test_drill import Drill, drill_command, report
from tests.e2e.world import FORM, OTHER_FORM, OTHER_TPS, TPS, World
from tests.operator.conftest import TALLY, Phones, begin, picture_in_english, picture_of, type_tally
from tests.operator.test_access import find_nothing
from tests.processes import eventually

PASSWORD = "empat kata yang panjang"
MAGENTA = "rgb(251, 227, 242)"
KINDS = ["login", *["pictures", "upload", "numbers", "receipt"] * 2]


def marked(page: Page, where: str, *, lang: str = "id") -> None:
    """The page says that it is a drill, in words and colour, before anything else; and axe finds nothing wrong."""
    banner = page.locator(".drill")
    expect(banner).to_contain_text("LATIHAN" if lang == "id" else "DRILL")
    top = page.locator("body > :visible").first
    assert top.evaluate("(top, banner) => top.contains(banner)", banner.element_handle()), f"{where}: not on top"
    find_nothing(page, f"{where}, drill")


def coloured(page: Page) -> None:
    """The colour that nothing but a drill has."""
    assert page.locator(".drill").evaluate("one => getComputedStyle(one).backgroundColor") == MAGENTA


class Scene:
    """The nodes of a drill, and their pages."""

    def __init__(self, world: World, folder: Path) -> None:
        drill = Drill(folder / "drill")
        self.receiver = world.box("receiver", "receiver", election=drill)
        self.island = world.box("pulau-long", "operator", tps=[TPS, OTHER_TPS], election=drill)
        self.boat = world.box(
            "km-sinar-laut",
            "carrier",
            peers=[world.ports["pulau-long"]],
            receivers=[self.receiver],
            election=drill,
        )
        set_password(self.receiver.home, PASSWORD)
        self.consoles: dict[str, str] = {}
        for box in (self.receiver, self.island, self.boat):
            console = free_port()
            self.consoles[box.home.name] = f"http://127.0.0.1:{console}"
            text = (box.home / "config.toml").read_text()
            (box.home / "config.toml").write_text(re.sub(r'console = ".*"', f'console = "127.0.0.1:{console}"', text))
        port = free_port()
        with (self.island.home / "config.toml").open("a") as config:
            config.write(f'operator = "127.0.0.1:{port}"\n')
        self.phones = f"https://127.0.0.1:{port}"
        self.public = f"http://127.0.0.1:{world.public['receiver']}/"
        self.island.start()

    def console(self, box: NodeBox, path: str = "/") -> str:
        """A page of a box's console."""
        return self.consoles[box.home.name] + path

    def pair(self, page: Page, *, wrong: int = 0) -> None:
        """Open the page, type a wrong code so many times, then the right one."""
        offer = self.island.relay("pair", "--json").json()
        page.goto(f"{self.phones}/operator")
        marked(page, "pair")
        coloured(page)
        for _ in range(wrong):
            page.locator("#code").fill("AAAA-AAAA")
            page.get_by_role("button", name="Pasangkan").click()
            expect(page.get_by_role("alert")).to_be_visible()
        page.goto(offer["link"])  # a link needs no waiting after wrong guesses
        page.get_by_role("button", name="Pasangkan").click()
        page.wait_for_url("**/operator")


def send(page: Page, tps: str, form: str, photos: list[Path]) -> None:
    """One form from its pictures to its signature."""
    begin(page, form, tps)
    for photo in photos:
        page.locator("#camera").set_input_files(photo)
        expect(page.locator(".pictures a img")).to_have_count(photos.index(photo) + 1)
    page.get_by_role("link", name="Lanjut: ketik angka").click()
    type_tally(page, TALLY)
    page.get_by_role("button", name="Lanjut: periksa").click()
    page.wait_for_url("**/review")
    page.get_by_role("button", name="Tanda tangani dan kirim").click()
    page.wait_for_url("**/packages/*")


@pytest.mark.timeout(300)
def test_two_people_are_taken_through_and_each_is_told_of(tmp_path: Path, phones: Phones, photos: list[Path]) -> None:
    """Login, pictures, upload, receipt; by camera, page and boat. What went wrong for one is not told of the other."""
    with World(tmp_path, election="e2e-2024") as world:
        scene = Scene(world, tmp_path)
        walk = scene.island.host.popen([*RELAY, "drill", "walk", "--home", scene.island.home], name="walk")
        eventually(lambda: "Pair your phone" in walk.output, 30, "the walk has begun", while_running=[walk])
        first, second = phones().new_page(), phones().new_page()
        scene.pair(first, wrong=1)
        scene.pair(second)
        marked(first, "list")
        coloured(first)
        expect(first.get_by_text("DRILL-DONE")).to_have_count(0)
        picture_of(first, "drill-operator-id")
        picture_in_english(first, "drill-operator-en")

        begin(first, FORM, TPS)  # both are at work at the same time
        refuse_a_picture(first, tmp_path)
        break_an_upload(first, photos[0])
        for form in (FORM, OTHER_FORM):
            second.goto(f"{scene.phones}/operator")
            send(second, OTHER_TPS, form, photos[:1])
        finish(first, scene, photos)

        scene.boat.start()
        expect(first.get_by_text("Di km-sinar-laut")).to_be_visible(timeout=60_000)
        board = phones(wide=True).new_page()
        board.goto(scene.console(scene.boat, "/board"))
        marked(board, "board")
        coloured(board)
        picture_of(board, "drill-board-id")
        picture_in_english(board, "drill-board-en")
        scene.receiver.start()
        expect(first.locator(".entry")).to_contain_text("No. log", timeout=60_000)
        marked(first, "package")
        assert walk.wait(60) == 0, walk.output
        assert "The drill is done here." in walk.output
        look_around(scene, phones)
        eventually(lambda: report(scene.receiver)["done"] == 2, 60, "both records are at the receiver")
        check(report(scene.receiver))
        printed = drill_command(scene.receiver, "report").text
        assert re.search(r"Android Redmi Note 8 [0-9a-f]{8}: login \d+:\d\d min, pictures ", printed), printed


def refuse_a_picture(page: Page, folder: Path) -> None:
    """What is no picture is refused, and the page says so."""
    (folder / "note.jpg").write_text("no picture at all")
    page.locator("#gallery").set_input_files(folder / "note.jpg")
    words = page.locator("#copying").get_attribute("data-failed")
    assert words, "the page has no words for a picture that is none"
    expect(page.locator("#said")).to_contain_text(words)


def break_an_upload(page: Page, photo: Path) -> None:
    """The answer to a part is lost: the page asks how far it was, and goes on."""
    lost: list[str] = []

    def lose(route: Any) -> None:
        if route.request.method == "PATCH" and not lost:
            lost.append(route.request.url)
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/pictures/*", lose)
    page.locator("#camera").set_input_files(photo)
    expect(page.locator(".pictures a img")).to_have_count(1, timeout=30_000)
    assert lost
    page.unroute("**/pictures/*")


def finish(page: Page, scene: Scene, photos: list[Path]) -> None:
    """The one whose first form was begun already."""
    page.get_by_role("link", name="Lanjut: ketik angka").click()
    type_tally(page, TALLY)
    page.get_by_role("button", name="Lanjut: periksa").click()
    page.wait_for_url("**/review")
    page.get_by_role("button", name="Tanda tangani dan kirim").click()
    page.wait_for_url("**/packages/*")
    page.goto(f"{scene.phones}/operator")
    send(page, TPS, OTHER_FORM, photos[:1])


def look_around(scene: Scene, phones: Phones) -> None:
    """Console, administrator and public: all say it, in both languages."""
    for lang in ("id", "en"):
        page = phones(f"{lang}-ID", wide=True).new_page()
        page.goto(scene.console(scene.island))
        marked(page, "console", lang=lang)
        coloured(page)
        page.goto(scene.console(scene.boat, "/board"))
        marked(page, "board, empty", lang=lang)
        page.goto(scene.console(scene.receiver, "/admin/login"))
        marked(page, "login", lang=lang)
        page.locator("#password").fill(PASSWORD)
        page.locator("button.go").click()
        page.wait_for_url("**/admin")
        marked(page, "admin", lang=lang)
        coloured(page)
        expect(page.get_by_text("DRILL-DONE")).to_have_count(0)
        picture_of(page, f"drill-admin-{lang}")
        page.goto(scene.public)
        if lang == "en":
            page.get_by_role("link", name="English").click()
        expect(page.locator(".drill")).to_contain_text("LATIHAN" if lang == "id" else "DRILL")
        expect(page.get_by_text("DRILL-DONE")).to_have_count(0)
        assert page.locator(".drill").evaluate("one => getComputedStyle(one).backgroundColor") == MAGENTA
        picture_of(page, f"drill-public-{lang}")


def check(told: dict[str, Any]) -> None:
    """Who did what, how long, what went wrong: each of the two by himself."""
    mine = next(one for one in told["reports"] if one["tps"] == TPS)
    other = next(one for one in told["reports"] if one["tps"] == OTHER_TPS)
    (me, *_), (them, *_) = mine["people"], other["people"]
    assert me["who"] != them["who"] and me["who"].startswith("Android Redmi Note 8 ")
    for one in (mine, other):
        assert [step["step"].split()[0] for step in one["steps"]] == KINDS
        assert all(step["who"] == one["people"][0]["who"] for step in one["steps"])
        person = one["people"][0]["seconds"]
        assert person["login"] > 0 and person["pictures"] > 0 and person["upload"] > 0 and person["receipt"] > 0
    assert any(one.startswith("login: wrong code") for one in mine["troubles"])
    assert any("picture refused" in one for one in mine["troubles"])
    assert any("upload resumed" in one for one in mine["troubles"])
    assert not any(one.startswith(("login", "pictures", "upload")) for one in other["troubles"])
