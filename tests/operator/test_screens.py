"""Screens that nobody touches: the board of a boat, for itself and for its wheelhouse, and the console of a box."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.boxes import NodeBox, free_port
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.operator.conftest import Phones, picture_of
from tests.operator.test_access import find_nothing
from tests.operator.test_strangers import Client

TABLETS = ({"width": 1280, "height": 800}, {"width": 800, "height": 1280}, {"width": 1024, "height": 600})


@dataclass
class Boats:
    """A boat with two packages on board, and one that has none."""

    loaded: NodeBox
    empty: NodeBox
    console: str
    board: str
    board_empty: str


@pytest.fixture(scope="module")
def boats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boats]:
    """Both out of the receiver's reach, with a screen in the wheelhouse."""
    with World(tmp_path_factory.mktemp("boats")) as world:
        island = world.box("pulau-long", "operator", tps=[TPS])
        for form in (FORM, OTHER_FORM):
            island.submit(world.photo(20_000, f"{form}.jpg"), tps=TPS, form=form, tally={"voters": 1})
        island.start()
        loaded = world.box("km-sinar-laut", "carrier", peers=[world.ports["pulau-long"]])
        empty = world.box("km-selat", "carrier")
        ports = [free_port() for _ in range(3)]
        settings = world.settings(loaded, peers=[world.ports["pulau-long"]])
        loaded.config(**{**settings, "console": f"127.0.0.1:{ports[0]}", "board": f"127.0.0.1:{ports[1]}"})
        empty.config(**{**world.settings(empty), "board": f"127.0.0.1:{ports[2]}"})
        loaded.start()
        empty.start()
        holds(loaded, ("waiting", None), ("waiting", None))
        yield Boats(loaded, empty, *(f"http://127.0.0.1:{port}" for port in ports))


def test_the_wheelhouse_gets_the_board_and_nothing_else(boats: Boats) -> None:
    screen = Client(boats.board)
    assert screen.ask("GET", "/").headers["location"] == "/board"
    assert "km-sinar-laut" in screen.ask("GET", "/board").body
    assert screen.ask("GET", "/board.css").status == 200
    for path in ("/status.json", "/metrics", "/style.css", "/operator", "/admin", "/console", "/board/../status.json"):
        assert screen.ask("GET", path).status == 404, path
    assert screen.ask("POST", "/board").status == 405
    assert screen.ask("GET", "/board", Host="evil.example").status == 403
    assert json.loads(Client(boats.console).ask("GET", "/status.json").body)["node"] == "km-sinar-laut"


@pytest.mark.parametrize("lang", ["id", "en"])
@pytest.mark.parametrize("size", TABLETS)
def test_the_board_is_read_across_a_room(boats: Boats, phones: Phones, lang: str, size: Any) -> None:
    """Nothing is small, nothing lies below the screen's edge, and axe finds nothing."""
    page = phones(lang, wide=True).new_page()
    page.set_viewport_size(size)
    for url, figure in ((boats.board, "2"), (boats.board_empty, "–")):
        page.goto(url)
        expect(page.locator(".figure")).to_have_text(figure)
        find_nothing(page, f"board {figure}")
        assert smallest(page) >= min(size.values()) / 32, "too small for a wheelhouse"
        picture_of(page, f"screen-{figure}-{size['width']}-{lang}")
        hidden = page.evaluate("document.documentElement.scrollHeight - window.innerHeight")
        assert hidden <= 0, f"{hidden} pixels are below the edge"


def smallest(page: Page) -> float:
    """The size of the smallest letters."""
    found: float = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("body *")]
            .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
            .map((one) => parseFloat(getComputedStyle(one).fontSize)))"""
    )
    return found


@pytest.mark.parametrize(("lang", "scheme"), [("id", "light"), ("id", "dark"), ("en", "light"), ("en", "dark")])
def test_axe_finds_nothing_on_the_console(boats: Boats, phones: Phones, lang: str, scheme: Any) -> None:
    page = phones(lang, wide=True).new_page()
    page.emulate_media(color_scheme=scheme)
    page.goto(boats.console)
    expect(page.locator("ul.cards").first).to_contain_text(TPS)
    find_nothing(page, "console")
    comma = "," in page.locator("dt", has_text="Ruang" if lang == "id" else "Free").locator("+ dd").inner_text()
    assert comma == (lang == "id")
