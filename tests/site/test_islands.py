"""The islands of a register: listed and drawn with what arrived from them; where they are too many, a page says so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from relay.cli.demo.election import example_stations
from relay.web.site.regions import add_up, station_row
from tests.site.election import BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection
from tests.site.test_site import files

DISTRICT = "190602"
"""That of Pulau Long."""
MAP = b"island,latitude,longitude\nPulau Long,-3,108\nPulau Batun,-2,108\nPulau Seliu,-2,107\n"
"""Two islands of the register, and one without a polling station."""
TOO_MANY, OFF_MAP = "islands have polling stations, too many to list here", "the map shows no states of islands"


@pytest_asyncio.fixture
async def unlike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PublicElection]:
    """An election that has more stations on islands, and more villages with islands, than are told one by one."""
    monkeypatch.setattr("relay.web.site.islands.SITE_MARKS", 2)
    monkeypatch.setattr("relay.web.site.islands.SITE_ISLAND_PARTS", 2)
    monkeypatch.setattr("tests.site.election.load_example_map", lambda: MAP)
    election = PublicElection(tmp_path)
    try:
        yield election
    finally:
        await election.close()


def drawn(page: str) -> list[str]:
    """The marks of the map, in the order of the drawing."""
    return re.findall(r'<circle class="(\w+)"', page)


async def test_islands_in_more_places_than_are_gathered_are_listed_and_drawn(unlike: PublicElection) -> None:
    await unlike.open()
    assert unlike.document("islands.json")["stations"] == unlike.document("islands.json")["parts"] == {}
    page = unlike.text("en/index.html")
    assert page.count("<td>0 of 1</td>") == 3
    assert drawn(page) == ["isle", "m0", "m0"]
    for form in (BUPATI, GUBERNUR):
        await unlike.submit(LONG, form)
    await unlike.submit(KETAPANG)
    await unlike.publish()
    for path in ("en/index.html", f"en/region/{DISTRICT}.html"):
        assert '<th scope="row">Pulau Long</th><td>1 of 1</td>' in unlike.text(path)
        assert TOO_MANY not in unlike.text(path)
    assert drawn(unlike.text("en/index.html")) == ["isle", "m0", "m2"]
    told = unlike.document("region/index.json")["sums"]["islands"]
    assert told == {"Pulau Batun": {"0": 1}, "Pulau Ketapang": {"1": 1}, "Pulau Long": {"2": 1}}


async def test_islands_that_are_counted_are_those_of_the_log_however_often_it_is_brought(
    unlike: PublicElection,
) -> None:
    await unlike.open()
    for form in (BUPATI, GUBERNUR):
        await unlike.submit(LONG, form)
    await unlike.publish()
    before = files(unlike.public)
    await unlike.reopen()
    assert unlike.site.entries == 0
    await unlike.publish()
    assert files(unlike.public) == before
    await unlike.reopen(anew=True)
    await unlike.publish()
    assert files(unlike.public)["region/index.json"] == before["region/index.json"]


async def test_a_page_with_too_many_islands_says_so_and_those_of_its_parts_list_them(
    unlike: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("regions", "pages"):
        monkeypatch.setattr(f"relay.web.site.{where}.SITE_ISLANDS", 2)
    await unlike.open()
    for arrived, form in enumerate((BUPATI, GUBERNUR), 1):
        await unlike.submit(LONG, form)
        await unlike.publish()
        whole = unlike.document("region/index.json")
        assert {row["sums"]["islands"] is None for row in whole["children"].values()} == {True}
        assert whole["sums"]["islands"] is None
        assert unlike.document(f"region/{DISTRICT}.json")["sums"]["islands"] == {"Pulau Long": {f"{arrived}": 1}}
    page = unlike.text("en/index.html")
    assert f"More than 2 {TOO_MANY}" in page
    assert OFF_MAP in page
    assert '<th scope="row">Pulau Long</th>' not in page
    assert "Lebih dari 2 pulau memiliki TPS" in unlike.text("index.html")
    assert '<th scope="row">Pulau Long</th><td>1 of 1</td>' in unlike.text(f"en/region/{DISTRICT}.html")


async def test_a_map_shows_the_states_of_islands_that_are_too_many_to_list(
    unlike: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("regions", "pages"):
        monkeypatch.setattr(f"relay.web.site.{where}.SITE_ISLANDS", 2)
    monkeypatch.setattr("relay.web.site.islands.SITE_ISLAND_PARTS", 3)
    await unlike.open()
    for form in (BUPATI, GUBERNUR):
        await unlike.submit(LONG, form)
    await unlike.publish()
    page = unlike.text("en/index.html")
    assert drawn(page) == ["isle", "m0", "m2"]
    assert TOO_MANY in page and OFF_MAP not in page


def test_islands_of_parts_are_those_of_their_stations() -> None:
    stations = example_stations()
    rows = [station_row(one, (BUPATI,), {}) for one in stations]
    one_go, _ = add_up(rows)
    halves = [dict(zip(("sums", "notes"), add_up(part), strict=True)) for part in (rows[:90], rows[90:])]
    assert add_up(halves)[0]["islands"] == one_go["islands"]
    assert one_go["islands"] == {f"Pulau {name}": {"0": 1} for name in ("Batun", "Ketapang", "Long")}
