"""What pages say about how far the site is, and where what they do not show is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.site.election import BATUN, BUPATI, LONG, PublicElection
from tests.site.test_going_on import change


def as_of(election: PublicElection, path: str = "index.html") -> str:
    """What a page says about how far the site is, as it is read out."""
    found = election.text(path).partition('<p class="quiet as-of">')[2].partition("</p>")[0]
    for tag in ("<time", "<a", "</time", "</a"):
        found = ">".join(part.partition(">")[2] if at else part for at, part in enumerate(found.split(tag)))
    return " ".join(found.replace(">", "").split())


async def test_pages_say_how_far_the_site_is(election: PublicElection) -> None:
    village = "region/1906022011.html"
    assert as_of(election) == "Belum memuat satu pun entri log."
    assert "Belum ada yang masuk" in election.text("index.html")
    await election.submit(BATUN)
    await election.submit(LONG)
    await election.publish()
    assert as_of(election) == "Memuat log sampai entri No. 1 (27 November 2024, 19.00.00 WIB)."
    assert as_of(election, "en/index.html").startswith(
        "Shows the log up to entry no. 1 (27 November 2024, 19:00:00 WIB)"
    )
    assert as_of(election, village).startswith("Ditulis ketika situs ini memuat log sampai entri No. 1 (27 November")
    assert as_of(election, village).endswith("Sampai mana situs ini sekarang: Ringkasan.")
    assert as_of(election, f"en/{village}").endswith("How far this site is now: Overview.")
    assert election.document(village.replace("html", "json"))["log"]["entries"] == 2


async def test_pages_say_that_the_site_is_behind(election: PublicElection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 2)
    for tps in list(election.stations)[:5]:
        await election.submit(tps)
    assert election.receiver.log is not None
    while await election.receiver.log.sequencer.sequence():
        pass
    await election.reopen(anew=True)
    assert "Belum ada yang masuk" not in election.text("index.html"), "that is not known yet"
    assert "Log sudah berisi 5 entri" in as_of(election)
    await election.keeper.follow()
    assert "No. 1 (" in as_of(election) and "Log sudah berisi 5 entri; sisanya menyusul di sini." in as_of(election)
    assert "The log has 5 entries by now" in as_of(election, "en/index.html")
    village = f"region/{next(iter(election.stations))[:10]}.html"
    assert "Log saat itu sudah berisi 5 entri." in as_of(election, village)
    await election.publish()
    assert "menyusul" not in as_of(election) and "No. 4 (" in as_of(election)


async def test_pages_say_that_they_are_being_written_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 2)
    for tps in list(election.stations)[:5]:
        await election.submit(tps)
    await election.publish()
    await change(election, 2, *(replace(one, registered_voters=7) for one in election.stations.values()))
    await election.keeper.follow()
    assert as_of(election).endswith("2 dari 5 entri sudah. Yang sudah tampil tetap tampil selama itu.")
    assert "No. 4 (" in as_of(election)
    assert "2 of 5 entries are done" in as_of(election, "en/index.html")
    assert election.document("site.json")["again"] == [2, 5]
    await election.publish()
    assert "ditulis ulang" not in as_of(election)
    assert election.document("site.json")["again"] is None


async def test_the_downloads_say_where_the_rest_is(election: PublicElection) -> None:
    await election.submit("1906099999001")
    await election.publish()
    await election.site.write_tables()
    assert "1906099999001" not in election.text("results.csv")
    assert "1906099999001/" + BUPATI in election.document("strays.json")["strays"]
    for page, up in (("downloads.html", ""), ("en/downloads.html", "../")):
        assert f'<a href="{up}strays.json">strays.json</a>' in election.text(page)
