"""Addresses that lead nowhere: people find the way back, in their language; programs are answered plainly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operator.conftest import Island, make_island
from tests.operator.test_strangers import Client, paired


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    """A box for the module."""
    yield from make_island(tmp_path_factory.mktemp("island"))


@pytest.mark.parametrize("path", ["/nothing", "/operators", "/admin", "/index.php?lang=xx"])
def test_a_mistyped_address_leads_back_to_the_start(island: Island, path: str) -> None:
    for client in (Client(island.url), Client(island.console), paired(island)):
        answer = client.ask("GET", path, Accept_Language="id")
        assert answer.status == 404
        assert 'href="/"' in answer.body and "Halaman ini tidak ada" in answer.body
        assert "no such page" in client.ask("GET", path, Accept_Language="en").body
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert island.box.home.name not in answer.body, "it tells strangers nothing"


def test_programs_and_foreign_names_get_no_page(island: Island) -> None:
    for url in (island.url, island.console):
        plain = Client(url).ask("GET", "/nothing", Accept="application/json")
        assert plain.status == 404 and "<html" not in plain.body
        assert Client(url).ask("POST", "/nothing").status == 404
        assert Client(url).ask("GET", "/nothing", Host="evil.example").status == 403
