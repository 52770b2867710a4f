"""The page for what is not there, on every listener that has pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from relay.errors import Unreadable
from relay.records.identifiers import ObjectId
from relay.store.sqlite import SqliteStore
from tests.applications import BOARD, CONSOLE, PHONES, PUBLIC, applications
from tests.fleet import Fleet

STYLES = {PUBLIC: None, CONSOLE: "/style.css", PHONES: "/style.css", BOARD: "/board.css"}
"""The style sheets that the listeners serve by themselves; the public's is a file of its site."""


@pytest.mark.parametrize("door", STYLES)
async def test_every_listener_leads_back_whoever_mistyped(fleet: Fleet, tmp_path: Path, door: str) -> None:
    app = (await applications(fleet, tmp_path))[door]
    async with TestClient(TestServer(app)) as client:
        for lang, said in (("id", "Halaman ini tidak ada"), ("en", "There is no such page")):
            answer = await client.get("/there/is/none", headers={"Accept": "text/html", "Accept-Language": lang})
            text = await answer.text()
            assert answer.status == 404 and said in text and 'href="/"' in text
        style = STYLES[door]
        if style is not None:
            assert style in text and (await client.get(style)).status == 200
        assert "<html" not in await (await client.get("/there/is/none")).text(), "programs ask for no page"


async def test_what_is_no_page_says_itself_what_is_missing(fleet: Fleet, tmp_path: Path) -> None:
    app = (await applications(fleet, tmp_path))[PUBLIC]
    async with TestClient(TestServer(app)) as client:
        for path, said in ((f"/object/{'00' * 32}", "no such object"), ("/checkpoint.cosigned", "no such checkpoint")):
            answer = await client.get(path, headers={"Accept": "text/html"})
            assert answer.status == 404 and said in await answer.text()


async def test_an_object_that_the_store_lost_is_told_as_one_that_is_not_there(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of it is for the people here."""

    async def lost(_store: SqliteStore, _object: ObjectId) -> Path | None:
        raise Unreadable("The bucket lost it", "Restore it.")

    monkeypatch.setattr(SqliteStore, "object_path", lost)
    app = (await applications(fleet, tmp_path))[PUBLIC]
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(f"/object/{'00' * 32}")
        assert (answer.status, await answer.text()) == (404, "There is no such object here.")


async def test_a_site_that_is_being_written_shows_itself_soon(fleet: Fleet, tmp_path: Path) -> None:
    app = (await applications(fleet, tmp_path))[PUBLIC]
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/", headers={"Accept": "text/html", "Accept-Language": "en"})
        assert answer.status == 503 and answer.headers["Refresh"] == "2"
        assert "being written" in await answer.text()
