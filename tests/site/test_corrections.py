"""A correction settles a result and hides nothing: what was flagged before it stays to be seen, and is told as such."""

from __future__ import annotations

import csv
import re

import pytest

from relay.limits import SITE_NOTE_FLAGS
from relay.web.site.shortened import shorten
from tests.site.election import BATUN, BUPATI, EVENING, GUBERNUR, LONG, PublicElection, tally_of

SENTENCE = "The form says 999 valid votes"
BEFORE = f"Before it was corrected: {SENTENCE}"


async def correct(election: PublicElection) -> list[str]:
    """Publish a form that does not add up, then one that corrects it; the ids of both."""
    first = await election.submit(tally=tally_of(LONG, BUPATI, election.stations, valid=999))
    await election.publish()
    second = await election.submit(supersedes=first, reason="salah ketik")
    await election.publish()
    return [first.hex(), second.hex()]


def articles(page: str) -> dict[str, str]:
    """The text of each statement on a page."""
    found = re.findall(r'<article [^>]*data-statement="([0-9a-f]+)".*?</article>', page, re.DOTALL)
    texts = re.findall(r"<article .*?</article>", page, re.DOTALL)
    return dict(zip(found, texts, strict=True))


async def test_what_was_flagged_before_a_correction_stays_on_the_page_and_at_its_statement(
    election: PublicElection,
) -> None:
    first, second = await correct(election)
    result = election.result()
    assert (result["counted"], result["corrected"]) == (True, True)
    assert {(flag["superseded"], *flag["statements"]) for flag in result["flags"]} == {(True, first)}
    page = election.text(f"en/tps/{LONG}/{BUPATI}.html")
    assert BEFORE in page
    shown = articles(page)
    assert SENTENCE in shown[first] and BEFORE not in shown[first], "its heading says that it was corrected"
    assert 'class="found"' not in shown[second]


async def test_what_was_flagged_before_a_correction_stays_in_the_regions_and_among_the_flags(
    election: PublicElection,
) -> None:
    await correct(election)
    for key in ("index", "190602", "1906022011"):
        document = election.document(f"region/{key}.json")
        assert (document["sums"]["flagged"], document["sums"]["totals"][BUPATI]["counted"]) == (1, 1)
        (note,) = document["notes"]
        assert all(flag["superseded"] for flag in note["flags"])
    for path in ("en/flags.html", "en/region/190602.html", "en/region/1906022011.html"):
        assert BEFORE in election.text(path)
    assert "Sebelum dikoreksi: " in election.text("flags.html")


async def test_a_table_tells_flags_from_before_a_correction_apart(election: PublicElection) -> None:
    await correct(election)
    await election.submit(BATUN, tally=tally_of(BATUN, BUPATI, election.stations, valid=1))
    await election.publish()
    await election.site.write_tables()
    rows = {(row["tps"], row["form"]): row for row in csv.DictReader(election.text("results.csv").splitlines())}
    corrected, wrong = rows[LONG, BUPATI], rows[BATUN, BUPATI]
    assert "superseded:valid-is-not-sum-of-votes" in corrected["flags"].split()
    assert all(one.startswith("superseded:") for one in corrected["flags"].split())
    assert (corrected["counted"], wrong["counted"]) == ("yes", "no")
    assert "valid-is-not-sum-of-votes" in wrong["flags"].split()


async def test_the_line_of_a_corrected_statement_in_a_history_has_its_flags(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.history.SITE_STATEMENTS", 1)
    first, second = await correct(election)
    rows = election.document(f"tps/{LONG}/{BUPATI}/history-1.json")["rows"]
    assert "valid-is-not-sum-of-votes" in [flag["flag"] for flag in rows[first]["found"]]
    assert (rows[first]["stands"], rows[second]["found"]) == (False, [])
    assert SENTENCE in election.text(f"en/tps/{LONG}/{BUPATI}/history-1.html")
    assert BEFORE in election.text(f"en/tps/{LONG}/{BUPATI}.html")


async def test_a_corrected_station_is_laid_out_again_as_it_grew(election: PublicElection) -> None:
    """Its row in the village says of its flags all that its own document does, also beside another form."""
    await correct(election)
    await election.submit(LONG, GUBERNUR)
    await election.publish()
    grown = election.document("region/1906022011.json")["children"][LONG]
    await election.reopen(anew=True)
    await election.publish()
    assert election.document("region/1906022011.json")["children"][LONG] == grown


async def test_entry_and_arrival_of_a_result_are_of_one_statement(election: PublicElection) -> None:
    """The first that stands: whoever repeats it later does not make it newer."""
    await election.submit(BATUN, BUPATI)
    await election.publish()
    election.fleet.clock.now += 600
    await election.submit(BATUN, BUPATI, device="laptop-batun")
    await election.publish()
    result = election.result(BATUN)
    assert [one["arrived"] for one in result["statements"]] == [EVENING, EVENING + 600]
    assert (result["entry"], result["arrived"]) == (0, EVENING)
    row = election.document("region/1906032008.json")["children"][BATUN]["forms"][BUPATI]
    assert (row["entry"], row["arrived"]) == (0, EVENING)


def test_flags_from_before_corrections_take_no_room_from_others_and_lose_none() -> None:
    settled = [
        {"flag": "valid-is-not-sum-of-votes", "statements": ["00"], "values": {"said": at}, "superseded": True}
        for at in range(99)
    ]
    own = [{"flag": f"mine-{at}", "statements": ["00"], "values": {}} for at in range(99)]
    stands = {"flag": "valid-is-not-sum-of-votes", "statements": ["01"], "values": {"said": 5}}
    told, more = shorten([*settled, *own, stands], 0, SITE_NOTE_FLAGS)
    assert told[:2] == [stands, settled[0]]
    assert more == 199 - SITE_NOTE_FLAGS
