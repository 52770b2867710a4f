"""The administrator's page: who logs in sees it, nobody else does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from relay.errors import BadInput
from relay.limits import ADMIN_IDLE_SECONDS, ADMIN_SESSION_SECONDS, MAX_ADMIN_SESSIONS
from relay.node.home import Home
from relay.receiver.password import FILE, has_password, is_right, set_password
from relay.sync.alarm import raise_alarm
from relay.web.admin import Sessions
from relay.web.admin_report import areas_of, chosen
from tests.boxes import RELAY, NodeBox, free_port
from tests.e2e.world import FORM, OTHER_FORM, OTHER_TPS, TPS, World
from tests.operator.conftest import TALLY, Phones, picture_in_english, picture_of
from tests.operator.test_access import find_nothing
from tests.operator.test_strangers import Client
from tests.processes import eventually

PASSWORD = "empat kata yang panjang"
KETAPANG = "1906072004004"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeBox, str]]:
    """A receiver with a password, its console, and a night on which much went wrong."""
    with World(tmp_path_factory.mktemp("admin")) as world:
        box, console = world.box("receiver", "receiver"), free_port()
        box.config(**{**world.settings(box), "console": f"127.0.0.1:{console}"})
        set_password(box.home, PASSWORD)
        with ThreadPoolExecutor() as pool:  # a browser may have a loop in this thread
            pool.submit(asyncio.run, _alarmed(box)).result()
        box.start()
        island = world.box("pulau-long", "operator", tps=[TPS])
        island.submit(tps=TPS, form=FORM, tally=TALLY)
        island.start()
        world.box("km-selat", "carrier", peers=[world.ports["pulau-long"]], receivers=[box]).start()
        for name, tally in (("pulau-batun", {"voters": 1}), ("salinan", {"voters": 2})):
            double = world.box(name, "operator", tps=[OTHER_TPS], receivers=[box])
            double.submit(tps=OTHER_TPS, form=FORM, tally=tally)
            double.start()
        lost = world.box("pulau-ketapang", "operator", tps=[KETAPANG])
        for form in (FORM, OTHER_FORM, FORM):
            lost.submit(tps=KETAPANG, form=form, tally={"voters": 3})
        lost.export(world.folder / "stick")
        first, second, _ = sorted(lost.list(), key=lambda one: one["seq"])
        for file in (world.folder / "stick").rglob(f"*{second['id']}*"):
            file.unlink()
        box.import_(world.folder / "stick")
        eventually(lambda: len(box.list()) == 5, 30, "everything is in the log")
        eventually(lambda: all(one["entry"] is not None for one in box.list()), 30, "everything has its entry")
        assert first["id"] in {one["id"] for one in box.list()}
        box.import_(world.election.revoke("pulau-ketapang", "hilang di laut"))
        yield box, f"http://127.0.0.1:{console}"


async def _alarmed(box: NodeBox) -> None:
    async with Home(box.home).custody() as custody:
        await raise_alarm(
            custody.store, "e2e-2024/receiver", "e2e-2024/receiver signed two different logs of 7 entries", []
        )


def enter(page: Page, url: str) -> Page:
    """Log in, however many guesses somebody else made before."""

    def entered() -> bool:
        page.goto(f"{url}/admin/login")
        page.locator("#password").fill(PASSWORD)
        page.locator("button.go").click()
        return page.url == f"{url}/admin"

    eventually(entered, 60, "guesses are forgotten")
    return page


def test_a_password_opens_the_page(office: tuple[NodeBox, str], phones: Phones) -> None:
    """In a browser; and logging out closes it."""
    _, url = office
    page = phones(wide=True).new_page()
    page.goto(f"{url}/admin")
    expect(page).to_have_url(f"{url}/admin/login")
    picture_of(page, "admin-login-id")
    picture_in_english(page, "admin-login-en")
    page.get_by_label("Kata sandi").fill(PASSWORD)
    page.get_by_role("button", name="Masuk").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("receiver")
    expect(page.get_by_role("alert")).to_contain_text("Bahaya: e2e-2024/receiver menandatangani dua log")
    attention = page.locator("section[aria-labelledby=attention]")
    expect(attention).to_contain_text(f"TPS {OTHER_TPS}, {FORM}: 2 paket saling bertentangan.")
    expect(attention).to_contain_text("pulau-ketapang: paket nomor 2 sudah dibuat tetapi belum tiba.")
    expect(page.locator("section[aria-labelledby=revocations]")).to_contain_text("pulau-ketapang: hilang di laut")
    row = page.locator("#nodes ~ .scroll tr", has_text="pulau-long")
    expect(row).to_contain_text("kotak TPS")
    expect(row.locator("td").nth(4)).to_have_text(re.compile(r"\d\d-\d\d-\d{4}"))
    expect(row.locator("td").nth(5)).to_have_text("belum pernah")  # a boat brought it
    expect(page.locator("#nodes ~ .scroll tr", has_text="km-selat")).to_contain_text("kapal")
    picture_of(page, "admin-id")
    page.goto(f"{url}/admin?lang=en")
    expect(page.get_by_text("Free space")).to_be_visible()
    picture_of(page, "admin-en")
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{url}/admin")
    expect(page).to_have_url(re.compile("/admin/login"))


def test_stations_are_listed_by_area(office: tuple[NodeBox, str], phones: Phones) -> None:
    """From the table of areas to the stations of one; what is incomplete, a part at a time."""
    _, url = office
    page = enter(phones(wide=True).new_page(), url)
    areas = page.locator("#areas ~ .scroll tbody tr td:first-child")
    assert [areas.nth(place).inner_text() for place in range(3)] == ["Pulau Batun", "Pulau Ketapang", "Pulau Long"]
    page.get_by_role("link", name="Pulau Long").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text(TPS)
    expect(page.locator(".tag.arrived")).to_have_text("tiba")
    page.get_by_label("Pulau atau kecamatan").select_option("")
    page.get_by_label("Keadaan").select_option("incomplete")
    page.get_by_role("button", name="Tampilkan").click()
    expect(page.get_by_text("1–100 dari 192 TPS")).to_be_visible()
    picture_of(page, "admin-stations-id")
    picture_in_english(page, "admin-stations-en")
    page.get_by_role("link", name="Berikutnya").click()
    expect(page.get_by_text("101–192 dari 192 TPS")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_text("101–192 of 192 stations")).to_be_visible()


def test_all_that_it_shows_the_command_shows(office: tuple[NodeBox, str]) -> None:
    """One document: of the page, of `status --json`, of `report --json`."""
    box, url = office
    logins = (Client(url).post("/admin/login", {"password": PASSWORD}) for _ in iter(int, 1))
    cookie = next(login.headers["set-cookie"] for login in logins if login.status == 303).partition(";")[0]
    page: dict[str, Any] = {}

    def same(command: str) -> bool:
        page.update(json.loads(Client(url, cookie).ask("GET", "/admin/status.json", Accept="").body))
        printed = box.host.run([*RELAY, "receiver", command, "--home", box.home, "--json"]).json()
        for document in (printed, page):
            document["storage"]["bytes_free"] = 0  # others write to this disk
            for node in document["nodes"]:
                node["last_visit"] = bool(node["last_visit"])  # boats go on coming while we look
        return bool(printed == page)

    for command in ("status", "report"):
        eventually(lambda command=command: same(command), 30, f"{command} --json is what the page has")  # type: ignore[misc]
    assert page["conflicts"] and page["chains"] and page["revocations"] and page["flags"] and page["alarms"]


@pytest.mark.parametrize(("lang", "scheme"), [("id", "light"), ("en", "dark")])
def test_axe_finds_nothing_here(office: tuple[NodeBox, str], phones: Phones, lang: str, scheme: Any) -> None:
    """Each page, with alarms and conflicts on it."""
    _, url = office
    page = phones(lang, wide=True).new_page()
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{url}/admin/login")
    find_nothing(page, "login")
    page.locator("#password").fill("x")
    page.locator("button.go").click()
    find_nothing(page, "login, refused")
    enter(page, url)
    find_nothing(page, "admin")
    page.goto(f"{url}/admin/stations?state=incomplete")
    find_nothing(page, "stations")
    page.goto(f"{url}/?lang={lang}")
    find_nothing(page, "console")


def test_nobody_else_sees_it(office: tuple[NodeBox, str]) -> None:
    """Without a session, from another site, under another name, with somebody's old cookie."""
    _, url = office
    for cookie in ("", "relay-admin=", "relay-admin=" + "A" * 43):
        stranger = Client(url, cookie)
        assert stranger.ask("GET", "/admin").status == 303
        assert stranger.ask("GET", "/admin/status.json", Accept="").status == 401
        assert stranger.post("/admin/logout", {"token": "x"}, Accept="").status == 401
        expired = stranger.post("/admin/logout", {"token": "x"})
        assert (expired.status, expired.headers["location"]) == (303, "/admin/login"), "people log in again"
    stranger = Client(url)
    assert stranger.ask("GET", "/admin/login", Host="evil.example").status == 403
    assert stranger.post("/admin/login", {"password": PASSWORD}, Origin="https://evil.example").status == 403
    assert stranger.post("/admin/login", {"password": PASSWORD}, Sec_Fetch_Site="same-site").status == 403
    assert stranger.post("/admin/login", {"password": "wrong"}).status in (403, 429)
    assert stranger.post("/admin/login", {"password": PASSWORD}).status == 429, "guesses slow down"


def test_what_is_kept_of_a_password(tmp_path: Path) -> None:
    """A salted scrypt hash, in a file that only the receiver reads."""
    assert not has_password(tmp_path) and not is_right(tmp_path, "")
    for short in ("", "kurang"):
        with pytest.raises(BadInput, match="characters"):
            set_password(tmp_path, short)
    file = set_password(tmp_path, PASSWORD)
    first = file.read_text()
    assert PASSWORD not in first and file.stat().st_mode & 0o077 == 0
    assert is_right(tmp_path, PASSWORD) and not is_right(tmp_path, PASSWORD + " ")
    assert not is_right(tmp_path, "x" * 10_000)
    set_password(tmp_path, PASSWORD)
    assert file.read_text() != first
    (tmp_path / FILE).write_text('{"scrypt": [9999999999, 8, 1], "salt": "00", "hash": "00"}')
    with pytest.raises(BadInput, match="damaged"):
        is_right(tmp_path, PASSWORD)


def test_sessions_end() -> None:
    """After hours, after an hour without a look, by logging out, and when there are too many."""
    now = 0.0
    sessions = Sessions(lambda: now)
    token = sessions.begin()
    for _ in range(int(ADMIN_SESSION_SECONDS / ADMIN_IDLE_SECONDS)):
        now += ADMIN_IDLE_SECONDS - 1
        assert sessions.known(token)
    now += ADMIN_IDLE_SECONDS - 1
    assert not sessions.known(token)
    token = sessions.begin()
    now += ADMIN_IDLE_SECONDS + 1
    assert not sessions.known(token)
    token = sessions.begin()
    sessions.end(token)
    assert not sessions.known(token) and not sessions.known("")
    tokens = [sessions.begin() for _ in range(MAX_ADMIN_SESSIONS + 1)]
    assert [sessions.known(one) for one in tokens] == [False] + [True] * MAX_ADMIN_SESSIONS


def test_stations_are_put_in_order() -> None:
    """Islands first, then districts, what is not in the register last; within them by village and number."""

    def row(tps: str, number: int, village: str, district: str, island: str, state: str) -> dict[str, Any]:
        place = {"village": village, "district": district, "island": island}
        return {"tps": tps, "number": number, "form": "a", "state": state, **place}

    areas = areas_of(
        [
            row("9", 0, "", "", "", "arrived"),
            row("3", 2, "Desa", "Gantung", "", "missing"),
            row("2", 10, "Desa", "Gantung", "", "corrected"),
            row("1", 1, "Laut", "Gantung", "Pulau Long", "under way, partial"),
            row("1", 1, "Laut", "Gantung", "Pulau Long", "conflict"),
        ]
    )
    assert [(one.name, one.island) for one in areas] == [("Pulau Long", True), ("Gantung", False), ("", False)]
    assert [(one.tps, one.state) for area in areas for one in area.stations] == [
        ("1", "begun"), ("3", "missing"), ("2", "complete"), ("9", "complete"),
    ]  # fmt: skip
    assert [one.tps for one in chosen(areas, "", "incomplete")] == ["1", "3"]
    assert [one.tps for one in chosen(areas, areas[1].key, "complete")] == ["2"]
    assert len(chosen(areas, "", "?")) == 4 and chosen(areas, "nowhere", "") == []
