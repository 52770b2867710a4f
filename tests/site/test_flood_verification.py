"""The pages of a form's history check themselves in a real browser, as the form's own page does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from relay.records.identifiers import Kind, StatementId
from relay.records.statement import Package, sign_statement
from relay.records.tally import read_tally
from tests.factory import ELECTION, make_file
from tests.site.election import BUPATI, EVENING, LONG, PublicElection, picture
from tests.site.story import serving
from tests.site.test_floods import few
from tests.site.test_verification import STEPS, outcomes

FOLDER = f"tps/{LONG}/{BUPATI}"


async def flood(folder: Path) -> Path:
    """Statements for one form that correct each other; the first names one of its two photographs three times."""
    election = PublicElection(folder)
    try:
        await election.open()
        photographs = [picture("1/2"), picture("2/2", 3)]
        named = [(0, "a.jpg"), (1, "b.jpg"), (0, "c.jpg"), (0, "d.jpg")]
        files = tuple(make_file(photographs[at], name) for at, name in named)
        node = election.device(LONG)
        tally = read_tally({"votes": {"1": 3}})
        package = Package(ELECTION, LONG, BUPATI, 1, None, EVENING, files, tally)
        raw = sign_statement(package, node.identity.uri, node.identity.certificate, node.key)
        first = election.fleet.election.admission.admit(Kind.STATEMENT, raw)
        node.chain.append(StatementId(first.id))
        last = await election.hand_in(first, *photographs)
        for _ in range(4):
            last = await election.submit(LONG, BUPATI, supersedes=last, reason="<i>lagi</i>")
        await election.publish()
        await election.publish_notices()
    finally:
        await election.close()
    return election.public


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site with such a form."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as aside:
        few(patch, statements=2)
        folder = aside.submit(lambda: asyncio.run(flood(tmp_path_factory.mktemp("flooded")))).result()
    with serving(folder) as found:
        yield found


def test_a_photograph_that_is_named_often_is_checked_once(page: Any, flooded: str) -> None:
    found = outcomes(page, flooded, f"{FOLDER}/1.html", photographs=True)
    assert found == {**dict.fromkeys((*STEPS, "photographs"), "ok"), "verdict": "ok"}
    assert page.locator(".statement >> nth=0").locator("figure").count() == 2


@pytest.mark.parametrize("path", [f"{FOLDER}.html", f"{FOLDER}/2.html", f"en/{FOLDER}/3.html"])
def test_the_pages_of_a_history_check_themselves(page: Any, flooded: str, path: str) -> None:
    assert outcomes(page, flooded, path) == {**dict.fromkeys(STEPS, "ok"), "verdict": "ok"}


def test_a_correction_leads_to_what_it_corrects_on_another_page(page: Any, flooded: str) -> None:
    page.goto(f"{flooded}{FOLDER}/2.html")
    page.locator(".correction a").first.click()
    page.wait_for_url(f"{flooded}{FOLDER}/1.html#s-*")
    page.locator(".statement:target").wait_for()
