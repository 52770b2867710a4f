"""The administrator's page: who logs in sees it, nobody else does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from relay.errors import BadInput
from relay.limits import ADMIN_IDLE_SECONDS, ADMIN_SESSION_SECONDS, MAX_ADMIN_SESSIONS
from relay.receiver.password import FILE, has_password, is_right, set_password
from relay.web.admin import Sessions
from relay.web.admin_report import arrange
from tests.boxes import NodeBox, free_port
from tests.e2e.world import FORM, TPS, World, holds
from tests.operator.conftest import Phones, picture_in_english, picture_of
from tests.operator.test_access import find_nothing
from tests.operator.test_strangers import Client

PASSWORD = "empat kata yang panjang"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeBox, str]]:
    """A receiver with a password, and its console."""
    with World(tmp_path_factory.mktemp("admin")) as world:
        box, console = world.box("receiver", "receiver"), free_port()
        box.config(**{**world.settings(box), "console": f"127.0.0.1:{console}"})
        set_password(box.home, PASSWORD)
        island = world.box("pulau-long", "operator", tps=[TPS], receivers=[box])
        island.submit(tps=TPS, form=FORM, tally={"voters": 1})
        box.start()
        island.start()
        holds(island, ("delivered", 0))
        yield box, f"http://127.0.0.1:{console}"


def test_a_password_opens_the_page(office: tuple[NodeBox, str], phones: Phones) -> None:
    """In a browser; and logging out closes it."""
    _, url = office
    page = phones(wide=True).new_page()
    page.goto(f"{url}/admin")
    expect(page).to_have_url(f"{url}/admin/login")
    find_nothing(page, "login")
    picture_of(page, "admin-login-id")
    picture_in_english(page, "admin-login-en")
    page.get_by_label("Kata sandi").fill(PASSWORD)
    page.get_by_role("button", name="Masuk").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("receiver")
    expect(page.locator("#missing + .scroll tbody tr").first).to_be_visible()
    expect(page.locator("#nodes + .scroll")).to_contain_text("pulau-long")
    find_nothing(page, "admin")
    picture_of(page, "admin-id")
    page.goto(f"{url}/admin?lang=en")
    expect(page.get_by_text("Free space")).to_be_visible()
    picture_of(page, "admin-en")
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{url}/admin")
    expect(page).to_have_url(re.compile("/admin/login"))


def test_nobody_else_sees_it(office: tuple[NodeBox, str]) -> None:
    """Without a session, from another site, under another name, with somebody's old cookie."""
    _, url = office
    for cookie in ("", "relay-admin=", "relay-admin=" + "A" * 43):
        stranger = Client(url, cookie)
        assert stranger.ask("GET", "/admin").status == 303
        assert stranger.ask("GET", "/admin/status.json", Accept="").status == 401
        assert stranger.post("/admin/logout", {"token": "x"}).status == 401
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


def test_what_is_missing_is_told_by_station() -> None:
    """What is in the log is not missing, what is under way is told apart; a long log is not summed up."""
    place = {"village": "v", "district": "d", "island": "i"}
    rows = [
        {"tps": tps, "form": form, "state": state, **place}
        for tps, form, state in (
            ("1", "a", "arrived"), ("1", "b", "corrected"), ("2", "a", "missing"), ("2", "b", "under way, partial"),
            ("3", "a", "conflict"), ("3", "b", "missing"),
        )
    ]  # fmt: skip
    status = {
        "alarms": [], "log": {}, "storage": {}, "under_way": {}, "stations_in_register": 3, "named_by_notice": True,
        "revoked": ["lost-box"],
    }  # fmt: skip
    chains = [
        {"kind": "gap", "device": "box", "first": 3, "last": 5},
        {"kind": "gap", "device": "box", "first": 8, "last": 8},
        {"kind": "fork", "device": "box", "seq": 2},
    ]
    whole = {**status, "forms": rows, "summary": {}, "conflicts": [], "chains": chains, "nodes": [], "revocations": []}
    shown = arrange(whole)
    assert [(one["tps"], one["forms_missing"], one["forms_under_way"]) for one in shown["missing"]] == [
        ("2", ["a"], ["b"]),
        ("3", ["b"], []),
    ]
    assert [one["numbers"] for one in shown["chains"]] == ["3–5", "8", "2"]
    short = arrange(status)
    assert short["revocations"] == [{"node": "lost-box"}] and "missing" not in short
