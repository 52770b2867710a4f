"""The administrator's page while a long log is read, and of a log that is too long for it: never an empty election."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from relay.node.config import Config
from relay.node.daemon import Daemon
from relay.node.home import Home
from relay.receiver.password import set_password
from relay.receiver.reporting import Document, Reporter
from relay.web import admin_report
from relay.web.console import console_application
from tests.fleet import Fleet

PASSWORD = "empat kata yang panjang"


@pytest.fixture
async def office(fleet: Fleet, tmp_path: Path) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """The console of a receiver with one entry, and an administrator who has logged in."""
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau")
    await island.submit(b"photo")
    await island.visit(receiver)
    assert receiver.log is not None
    await receiver.log.sequencer.sequence()
    home = Home(tmp_path / "office")
    home.path.mkdir()
    set_password(home.path, PASSWORD)
    app = console_application(Daemon(home, Config(), receiver.member, receiver.custody), None)
    async with TestClient(TestServer(app)) as client:
        headers = {"Origin": str(client.make_url("/").origin()), "Accept": "text/html"}
        await client.post("/admin/login", data={"password": PASSWORD}, headers=headers, allow_redirects=False)
        yield client


async def page(office: TestClient[web.Request, web.Application], lang: str = "id") -> str:
    answer = await office.get(f"/admin?lang={lang}", headers={"Accept": "text/html"})
    assert answer.status == 200
    return await answer.text()


async def test_a_log_that_is_being_read_says_so(
    office: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first entry on; once it is read, everything is there."""
    monkeypatch.setattr(admin_report, "ADMIN_PATIENCE_SECONDS", 0.01)
    read, report = asyncio.Event(), Reporter.report

    async def long(reporter: Reporter) -> Document:
        await read.wait()
        return await report(reporter)

    monkeypatch.setattr(Reporter, "report", long)
    assert "Log sedang dibaca: 0 dari 1 entri" in await page(office)
    shown = await page(office, "en")
    assert "The log is being read: 0 of 1 entries" in shown
    assert "receiver report" not in shown and 'aria-labelledby="attention"' not in shown
    read.set()
    monkeypatch.setattr(admin_report, "ADMIN_PATIENCE_SECONDS", 30)
    shown = await page(office)
    assert "sedang dibaca" not in shown and 'aria-labelledby="attention"' in shown


async def test_a_log_that_is_too_long_says_what_to_do(
    office: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_report, "MAX_ADMIN_REPORT", 0)
    assert "Pada penerima jalankan: relay receiver report" in await page(office)
    assert "run: relay receiver report" in await page(office, "en")
