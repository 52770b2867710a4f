"""The site's upkeep: an arrival changes its own pages only, and what grew bit by bit is what would be written anew."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import pytest_asyncio

from relay.cli.demo.election import example_stations
from relay.errors import BadInput, StoreError
from relay.limits import SITE_AGAIN_SECONDS, SITE_LEAST_BATCH
from relay.records.identifiers import StatementId, sha256
from relay.records.notice import Station
from relay.records.statement import Statement
from relay.web.site.chart import draw, read_places
from relay.web.site.pages import Look
from relay.web.site.regions import Regions, add_up, fingerprint, station_row
from tests.factory import ELECTION
from tests.site.election import BATUN, BUPATI, EVENING, GUBERNUR, KETAPANG, LONG, PublicElection, picture, tally_of

PLACES = (LONG, BATUN, KETAPANG)


def files(folder: Path) -> dict[str, bytes]:
    """Everything published, but the site's own counts, and when each region was written."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and "tile" not in path.parts and path.name != "settled.json":
            content = path.read_bytes()
            if path.suffix == ".json" and content[:1] == b"{":
                document = json.loads(content)
                for own in ("generation", "begun", "log", "sum"):
                    document.pop(own, None)
                content = json.dumps(document).encode()
            if path.suffix == ".html":
                content = re.sub(rb'<p class="quiet as-of">.*?</p>', b"", content, flags=re.DOTALL)
            found[str(path.relative_to(folder))] = content
    return found


async def test_before_anything_arrives(election: PublicElection) -> None:
    assert "0%" in election.text("index.html")
    whole = election.document("region/index.json")
    assert (whole["sums"]["stations"], whole["sums"]["expected"], whole["sums"]["arrived"]) == (192, 384, 0)
    assert len(whole["children"]) == 7
    assert "2 formulir belum masuk" in election.text("region/1906022011.html")
    assert election.document("site.json")["entries"] == 0


async def test_an_arrival(election: PublicElection) -> None:
    photograph = picture("form")
    statement = await election.submit(photographs=[photograph])
    assert await election.publish() == 1
    result = election.result()
    assert (result["state"], result["entry"], result["arrived"], result["counted"]) == ("result", 0, EVENING, True)
    (one,) = result["statements"]
    assert (one["id"], one["device"], one["standing"]) == (statement.hex(), f"tps-{LONG}", "current")
    assert sha256((election.public / "statement" / statement.hex()).read_bytes()) == statement
    assert (election.public / "receipt" / statement.hex()).read_bytes()
    assert (election.public / "object" / one["files"][0]["sha256"]).read_bytes() == photograph
    for path in ("region/1906022011.json", "region/190602.json", "region/index.json"):
        assert election.document(path)["sums"]["arrived"] == 1
    page = election.text(f"tps/{LONG}/{BUPATI}.html")
    assert "Perangkat" in page
    assert "27 November 2024, 19.00.00 WIB" in page
    assert f"../../object/{one['files'][0]['sha256']}" in page
    assert election.document("islands.json")["stations"][LONG]["mark"] == "1"


async def test_an_arrival_touches_its_own_pages_only(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.submit(BATUN)
    await election.publish()
    before = {path: (election.public / path).stat().st_mtime_ns for path in files(election.public)}
    await election.submit(KETAPANG)
    await election.publish()
    changed = {
        path for path in files(election.public) if before.get(path) != (election.public / path).stat().st_mtime_ns
    }
    foreign = {path for path in changed if LONG in path or BATUN in path or "1906022011" in path or "190603" in path}
    assert foreign == set()
    assert {f"tps/{KETAPANG}/{BUPATI}.html", "region/1906072004.html", "region/190607.html", "index.html"} <= changed
    assert len(changed) < 40


async def test_what_is_gathered_is_written_when_it_changed(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    gathered = ("newest.json", "islands.json", "strays.json")

    def written() -> list[int]:
        return [(election.public / path).stat().st_mtime_ns for path in gathered]

    before = written()
    await election.submit(next(tps for tps, one in election.stations.items() if not one.island))
    await election.publish()
    mainland = written()
    assert [one > other for one, other in zip(mainland, before, strict=True)] == [True, False, False]
    await election.submit(KETAPANG)
    await election.submit("1906099999001")
    await election.publish()
    assert all(one > other for one, other in zip(written(), mainland, strict=True))


async def test_notes_that_are_too_many_are_kept_once_and_come_back(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole election lists what is flagged while that is little; else each part does."""
    monkeypatch.setattr("relay.web.site.regions.SITE_NOTES", 2)
    for one in PLACES[:2]:
        await election.submit(one, tally=tally_of(one, BUPATI, election.stations, valid=1))
    await election.publish()
    assert len(election.document("region/index.json")["notes"]) == 2
    slow, quick = election.sign(KETAPANG, GUBERNUR), election.sign(KETAPANG, BUPATI)
    await election.hand_in(quick)  # flagged until what its device signed before it arrives
    await election.publish()
    whole = election.document("region/index.json")
    assert (whole["sums"]["flagged"], whole["notes"]) == (3, [])
    assert all(row["notes"] == [] for row in whole["children"].values())
    assert len(election.document("region/190602.json")["notes"]) == 1
    await election.reopen()
    await election.hand_in(slow)
    await election.publish()
    assert {note["tps"] for note in election.document("region/index.json")["notes"]} == set(PLACES[:2])
    grown = files(election.public)
    await election.reopen(anew=True)
    await election.publish()
    assert files(election.public)["region/index.json"] == grown["region/index.json"]


async def test_what_grew_is_what_would_be_written_anew(election: PublicElection) -> None:
    dice = random.Random(2)
    signed: list[tuple[StatementId, str, str]] = []
    for _ in range(40):
        tps, form = dice.choice(PLACES), dice.choice((BUPATI, GUBERNUR))
        wrong = tally_of(tps, form, election.stations, **({"valid": 3} if dice.random() < 0.3 else {}))
        mine = [one for one in signed if one[1:] == (tps, form)]
        supersedes = dice.choice(mine)[0] if mine and dice.random() < 0.6 else None
        device = dice.choice((None, f"second-{tps}"))
        signed.append((await election.submit(tps, form, wrong, supersedes=supersedes, device=device), tps, form))
        if dice.random() < 0.5:
            election.fleet.clock.now += 60
            await election.publish()
    await election.publish()
    await election.site.write_tables()
    grown = files(election.public)
    election.fleet.clock.now += 1_000_000  # times of arrival are what they were
    await election.reopen(anew=True)
    await election.publish()
    await election.site.write_tables()
    anew = files(election.public)
    assert set(anew) == set(grown)
    # Which arrival a batch brought last does not matter; the newest are told with the first time that was known.
    gathered = {"newest.json", "feed.xml", "index.html", "en/index.html"}
    assert {path: anew[path] for path in anew if path not in gathered} == {
        path: grown[path] for path in grown if path not in gathered
    }


async def test_it_goes_on_where_it_was(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    await election.site.settle()
    await election.submit(BATUN)
    await election.reopen()
    assert election.site.entries == 1
    assert await election.publish() == 2
    assert election.document("region/index.json")["sums"]["arrived"] == 2


async def test_an_entry_brought_twice_changes_nothing(election: PublicElection) -> None:
    """After a power cut the site goes on from what was settled: some entries come again."""
    await election.submit(LONG)
    await election.submit(BATUN)
    await election.publish()
    before = files(election.public)
    election.fleet.clock.now += 500
    await election.reopen()
    assert election.site.entries == 0
    assert await election.publish() == 2
    assert files(election.public) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\x00" * 100])
@pytest.mark.parametrize(
    "path",
    [
        "site.json",
        "settled.json",
        "region/index.json",
        "region/1906022011.json",
        f"tps/{LONG}/{BUPATI}.json",
        "islands.json",
        "newest.json",
    ],
)
async def test_what_is_damaged_is_written_again_from_the_log(
    election: PublicElection, path: str, damage: bytes
) -> None:
    """As a power cut may leave a file that was not settled yet."""
    first = await election.submit(LONG, tally=tally_of(LONG, BUPATI, election.stations, valid=1))
    await election.publish()
    (election.public / path).write_bytes(damage)
    await election.reopen()
    await election.submit(LONG, supersedes=first)
    assert await election.publish() == 2
    assert (election.result()["counted"], election.result()["corrected"]) == (True, True)
    assert election.document("region/index.json")["sums"]["arrived"] == 1


@pytest.mark.parametrize("path", ["region/index.json", "region/1906022011.json", "islands.json"])
async def test_what_another_beginning_wrote_over_is_written_again(election: PublicElection, path: str) -> None:
    """A receiver that hung while another one began the site anew."""
    await election.submit(LONG)
    await election.publish()
    (election.public / path).write_bytes(b'{"generation":"0123"}')
    await election.reopen()
    await election.submit(LONG, GUBERNUR)
    assert await election.publish() == 2
    assert election.document("region/index.json")["sums"]["arrived"] == 2


async def test_who_does_not_lead_any_more_writes_nothing(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    before = files(election.public)
    await election.submit(BATUN)
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    election.leading = False
    with pytest.raises(StoreError, match="Another receiver writes the site"):
        await election.keeper.follow()
    assert files(election.public) == before


async def test_what_a_writer_that_hung_wrote_late_is_mended(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its put was under way when it was followed, and arrives after its follower wrote the same file."""
    monkeypatch.setattr("relay.web.site.documents.SITE_DOCUMENTS", 0)
    await election.submit(LONG)
    await election.publish()
    late = {path: path.read_bytes() for path in [*election.public.glob("region/*.json"), election.public / "site.json"]}
    election.elsewhere = True
    await election.reopen()
    await election.submit(LONG, GUBERNUR)
    await election.publish()
    right = files(election.public)
    for path, content in late.items():
        path.write_bytes(content)
    election.fleet.clock.now += 2 * SITE_AGAIN_SECONDS
    while await election.keeper.follow():
        pass
    assert files(election.public) == right
    monkeypatch.setattr(election.site, "add", None)
    assert await election.keeper.follow() == 0  # once is enough


async def log_forty(election: PublicElection) -> None:
    """Have forty results logged, of which the site knows nothing yet."""
    for tps in list(election.stations)[:40]:
        await election.submit(tps)
    assert election.receiver.log is not None
    while await election.receiver.log.sequencer.sequence():
        pass


async def test_what_lags_far_behind_comes_in_larger_batches(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 2)
    monkeypatch.setattr("relay.web.site.service.SITE_LARGEST_BATCH", 4)
    await log_forty(election)
    brought = []
    while count := await election.keeper.follow():
        brought.append(count)
    assert brought[:4] == [4, 4, 4, 3]
    assert brought[-2:] == [2, 2] and sum(brought) == 40


async def test_a_batch_is_as_large_as_can_be_written_in_its_time(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files take long, as in a bucket that much else is put into, readers find a half of it no longer."""
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 16)
    monkeypatch.setattr("relay.web.site.service.SITE_LEAST_BATCH", 3)
    await log_forty(election)
    seconds_each = iter((1.0, 1.0, 0.6, 100.0, 0.5, 10.0))
    publish, sizes = election.keeper._publish, []

    async def publish_slowly(statements: Mapping[int, Statement]) -> None:
        sizes.append(len(statements))
        seconds = next(seconds_each) * len(statements)
        election.fleet.clock.now += seconds
        if seconds > 200:
            raise StoreError("The bucket does not answer", "Wait.")
        await publish(statements)

    monkeypatch.setattr(election.keeper, "_publish", publish_slowly)
    for _ in range(6):
        with suppress(StoreError):
            await election.keeper.follow()
    assert sizes == [16, 5, 5, 8, 4, 10]


def test_where_the_lag_grows_for_all_that_batches_grow_with_it(election: PublicElection) -> None:
    keeper = election.keeper
    keeper._most = SITE_LEAST_BATCH
    assert [keeper._batch(lag) for lag in (5, 100, 6_400, 1_000_000)] == [5, 16, 100, 512]


async def test_a_site_that_was_cut_while_it_was_begun_is_begun_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await election.submit(LONG)
    await election.publish()
    right = files(election.public)
    with monkeypatch.context() as cut:
        cut.setattr(election.site, "_blank", None)
        with pytest.raises(TypeError):
            await election.site.open(election.keeper._in_force(), anew=True)
    await election.reopen()
    assert election.site.entries == 0
    await election.publish()
    await election.site.write_tables()
    assert set(files(election.public)) == set(right)
    assert election.document("region/index.json")["sums"]["arrived"] == 1


async def test_a_correction_with_its_history(election: PublicElection) -> None:
    first = await election.submit(tally=tally_of(LONG, BUPATI, election.stations, valid=999))
    await election.publish()
    assert (election.flags(), election.result()["counted"]) == (
        [
            "more-votes-than-register",
            "more-votes-than-voters",
            "used-is-not-valid-plus-invalid",
            "valid-is-not-sum-of-votes",
        ],
        False,
    )
    assert election.document("region/index.json")["sums"]["totals"][BUPATI]["counted"] == 0
    await election.submit(supersedes=first, reason="<b>salah</b> ketik")
    await election.publish()
    result = election.result()
    assert [one["standing"] for one in result["statements"]] == ["superseded", "current"]
    sums = election.document("region/index.json")["sums"]
    assert (sums["corrected"], sums["arrived"], sums["totals"][BUPATI]["counted"]) == (1, 1, 1)
    page = election.text(f"tps/{LONG}/{BUPATI}.html")
    assert "Sudah dikoreksi" in page
    assert "&lt;b&gt;salah&lt;/b&gt; ketik" in page
    look = Look(ELECTION, election.fleet.election.root, election.receiver.node.identity.certificate, ())
    alone = {**result, "statements": [{**result["statements"][1], "supersedes": None}]}
    for one in look.form_pages(alone):
        assert b'data-shown="reason">&lt;b&gt;salah' in one.content, "a reason that is signed is shown"


async def test_two_packages_of_photographs_alone_are_said_neither_to_agree_nor_to_contradict(
    election: PublicElection,
) -> None:
    for device in ("pulau-batun", "laptop-batun"):
        await election.submit(BATUN, plain=True, photographs=[picture(device)], device=device)
    await election.publish()
    page = election.text(f"en/tps/{BATUN}/{BUPATI}.html")
    assert "2 statements without numbers that could be compared." in page
    assert "alarm" not in page


async def test_every_flag_is_on_the_pages_above(election: PublicElection) -> None:
    await election.submit(BATUN)
    await election.submit(BATUN, tally=tally_of(BATUN, BUPATI, election.stations, votes={"1": 1, "2": 2}), device="b")
    await election.publish()
    sentence = "2 pernyataan saling bertentangan"
    for path in (f"tps/{BATUN}/{BUPATI}.html", "region/1906032008.html", "region/190603.html", "flags.html"):
        assert sentence in election.text(path)
    assert "2 statements contradict each other" in election.text("en/flags.html")
    assert election.document("region/index.json")["sums"]["flagged"] == 1


async def test_a_gap_shows_until_what_is_missing_arrives(election: PublicElection) -> None:
    """The first package of a device travels slower than its second."""
    slow, quick = election.sign(LONG, GUBERNUR), election.sign(LONG, BUPATI)
    await election.hand_in(quick)
    await election.publish()
    assert election.flags(LONG, BUPATI) == ["chain-gap"]
    node = election.device(LONG).identity.node.hex()
    assert "Pernyataan 1 sampai 1" in election.text(f"device/{node}.html")
    assert f"nomor 1 sampai 1 dari perangkat tps-{LONG} belum masuk" in election.text("flags.html")
    await election.hand_in(slow)
    await election.publish()
    assert (election.flags(LONG, BUPATI), election.flags(LONG, GUBERNUR)) == ([], [])
    assert election.document("region/index.json")["sums"]["flagged"] == 0
    assert election.document(f"device/{node}.json")["findings"] == []


async def test_a_fork_shows_at_both_ends(election: PublicElection) -> None:
    """One key used twice: a device restored from a copy, or a stolen key."""
    first = await election.submit(LONG, GUBERNUR)
    await election.publish()
    assert election.flags(LONG, GUBERNUR) == []
    await election.submit(LONG, BUPATI, seq=1)
    await election.publish()
    assert election.flags(LONG, GUBERNUR) == election.flags(LONG, BUPATI) == ["chain-fork"]
    node = election.device(LONG).identity.node.hex()
    (finding,) = election.document(f"device/{node}.json")["findings"]
    assert (finding["finding"], finding["seq"], first.hex() in finding["held"]) == ("fork", 1, True)


async def test_a_revocation_shows_and_goes(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    node = election.device(LONG)
    await election.revoke(2, node)
    await election.publish()
    assert election.flags() == ["device-revoked"]
    assert "dicabut" in election.text(f"device/{node.identity.node.hex()}.html")
    await election.reopen()
    assert election.flags() == ["device-revoked"]
    await election.revoke(3)
    await election.publish()
    assert election.flags() == []


async def test_photographs_without_numbers(election: PublicElection) -> None:
    await election.submit(photographs=[picture("x")], plain=True)
    await election.publish()
    assert (election.result()["state"], election.result()["counted"]) == ("photographs", False)
    assert "hanya berisi foto" in election.text(f"tps/{LONG}/{BUPATI}.html")


async def test_downloads(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.submit(BATUN, tally=tally_of(BATUN, BUPATI, election.stations, valid=1))
    await election.publish()
    await election.site.write_tables()
    rows = list(csv.DictReader(election.text("results.csv").splitlines()))
    assert len(rows) == 384
    long = next(row for row in rows if row["tps"] == LONG and row["form"] == BUPATI)
    tally = election.result()["tally"]
    assert (long["state"], long["counted"], long["votes_1"]) == ("result", "yes", str(tally["votes"]["1"]))
    batun = next(row for row in rows if row["tps"] == BATUN and row["form"] == BUPATI)
    assert (batun["counted"], batun["flags"].split()[0]) == ("no", "used-is-not-valid-plus-invalid")
    assert {row["state"] for row in rows if row["tps"] == KETAPANG} == {"waiting"}
    assert len(json.loads(election.text("results.json"))) == 384
    feed = Xml.fromstring(election.text("feed.xml"))
    entries = feed.findall("{http://www.w3.org/2005/Atom}entry")
    assert [one.findtext("{http://www.w3.org/2005/Atom}updated") for one in entries] == ["2024-11-27T12:00:00Z"] * 2


class Stray:
    """A station that the register does not know."""

    TPS = "1906099999001"


@pytest_asyncio.fixture
async def small(tmp_path: Path) -> AsyncIterator[PublicElection]:
    """An election of one island, whose register names places and has codes of its own."""
    stations = [
        Station("a-1", 1, "Desa & Dusun", "Kecamatan <1>", "", 100, signal=True),
        Station("a-2", 2, "Lain", "Dua", "", 90, signal=True),
    ]
    made = PublicElection(tmp_path, stations)
    try:
        await made.open(islands=False)
        yield made
    finally:
        await made.close()


async def test_a_register_with_codes_of_its_own(small: PublicElection) -> None:
    await small.submit("a-1")
    assert await small.publish() == 1
    page = small.text(f"tps/a-1/{BUPATI}.html")
    assert "Kecamatan &lt;1&gt;" in page
    assert "Desa &amp; Dusun" in page
    assert small.document("region/index.json")["sums"]["complete"] == 0
    assert "chart" not in small.text("index.html")  # no islands, no map: it is optional


async def test_what_the_register_does_not_know_is_not_hidden(small: PublicElection) -> None:
    await small.submit(Stray.TPS)
    await small.publish()
    assert small.flags(Stray.TPS) == ["station-not-in-register"]
    assert Stray.TPS in small.text("flags.html")
    assert small.document("region/index.json")["sums"]["arrived"] == 0


async def test_many_that_the_register_does_not_know_have_pages(
    small: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.strays.SITE_NOTES", 2)
    first = await small.submit("b-0")
    for number in range(1, 5):
        await small.submit(f"b-{number}")
    await small.publish()
    for path in ("strays.json", "strays-2.json", "strays-3.json"):
        assert 1 <= len(small.document(path)["strays"]) <= 2
    assert 'href="strays-3.html"' in small.text("flags.html")
    assert 'href="strays-2.html"' in small.text("en/flags.html")
    assert all(f"b-{number}" in small.text("flags.html") for number in (0, 1))
    assert "b-2" in small.text("strays-2.html") and "b-4" in small.text("en/strays-3.html")
    await small.submit("b-0", supersedes=first, tally={"votes": {"1": 3}, "valid": 9, "voters": 9, "invalid": 0})
    await small.publish()
    assert len(small.document("strays.json")["strays"]["b-0/" + BUPATI]["flags"]) > 1  # it stays where it was
    assert small.document("strays.json")["pages"] == 3


async def test_a_large_election_has_its_tables_by_district(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.web.site.register.SITE_WHOLE_FORMS", 100)
    election = PublicElection(tmp_path)
    try:
        await election.open()
        assert 'href="results.csv"' not in election.text("downloads.html")
        assert "-results.csv" in election.text("downloads.html")
        assert 'href="../region/190602-results.csv"' in election.text("region/190602.html")
        assert not (election.public / "results.csv").exists()
        before = (election.public / "region/190601-results.csv").stat().st_mtime_ns
        await election.submit(LONG)
        await election.publish()
        assert await election.site.write_tables(1)
        rows = list(csv.DictReader(election.text("region/190602-results.csv").splitlines()))
        assert [one["entry"] for one in rows if one["tps"] == LONG and one["form"] == BUPATI] == ["0"]
        assert (election.public / "region/190601-results.csv").stat().st_mtime_ns == before  # nothing changed there
    finally:
        await election.close()


async def test_a_map_of_many_islands_and_of_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.web.site.islands.SITE_MARKS", 2)
    election = PublicElection(tmp_path)
    try:
        await election.open(islands=False)
        assert "chart" not in election.text("index.html")
        text = b"island,latitude,longitude,region\nPulau Long,-3,108,\nMainland,-2,108,190602\nManggar,-2,107,\n"
        monkeypatch.setattr("tests.site.election.load_example_map", lambda: text)
        await election.reopen()
        parts = election.document("islands.json")["parts"]
        assert {one["marks"] for one in parts.values()} == {"0"} and len(parts) == 3
        for form in (BUPATI, GUBERNUR):
            await election.submit(LONG, form)
        await election.publish()
        assert election.document("islands.json")["parts"]["1906022011/Pulau Long"]["marks"] == "2"
        page = election.text("index.html")
        assert '<th scope="row">Pulau Long</th><td>1 dari 1</td>' in page
        assert page.count('<circle class="m2"') == 1  # the island is complete
        assert page.count('<circle class="m1"') == 1  # its district in part, by its code
        assert page.count('<circle class="m0"') == 1  # the other one not yet, by its name
    finally:
        await election.close()


def test_regions_by_code_and_by_name() -> None:
    stations = example_stations()
    regions = Regions.of(stations)
    assert (regions.levels, regions.by_code) == (("district", "village"), True)
    assert [one.key for one in regions.path(stations[0])] == ["index", "190601", "1906012001"]
    renamed = [Station("1906012001999", 99, "Another name", "Mangar", "", 1, signal=True), *stations]
    assert Regions.of(renamed).path(renamed[0]) == regions.path(stations[0])  # misspelt once: the commonest name stands
    assert not Regions.of([*stations, Station("a-1", 1, "V", "D", "", 1, signal=True)]).by_code
    alike = [Station(f"{p}01012001001", 1, "Desa", "Kota", "", 1, signal=True) for p in (19, 71)]
    assert len({Regions.of(alike).path(one)[-2] for one in alike}) == 2  # districts that share a name stay apart
    country = [Station(f"{p}0{r}012001001", 1, "A", f"D{p}{r}", "", 1, signal=True) for p in (19, 71) for r in (1, 2)]
    assert Regions.of(country).levels == ("province", "regency", "district", "village")
    assert [one.name for one in Regions.of(country).path(country[-1])] == ["", "71", "71.02", "D712", "A"]
    named = [replace(one, province=f"Provinsi {one.tps[:2]}", regency=f"Kota {one.tps[:4]}") for one in country]
    assert [one.name for one in Regions.of(named).path(named[-1])] == ["", "Provinsi 71", "Kota 7102", "D712", "A"]
    assert fingerprint(named, ()) != fingerprint(country, ())


def test_names_that_look_alike_have_pages_of_their_own() -> None:
    names = ["Air Asam", "Air-Asam", "AIR ASAM", "Air  Asam", "Air Asam!"]
    regions = Regions()
    keys = {regions.path(Station("1", 1, "V", name, "", 1, signal=True))[1].key for name in names}
    assert len(keys) == len(names)


def test_sums_are_those_of_the_parts() -> None:
    def result(votes: int, *, counted: bool) -> dict[str, Any]:
        tally = {"votes": {"1": votes}, "voters": votes, "valid": votes, "invalid": 0}
        return {
            "entry": 0,
            "arrived": 0,
            "state": "result",
            "counted": counted,
            "corrected": False,
            "tally": tally,
            "flags": [],
        }

    stations = example_stations()[:10]
    rows = [
        station_row(one, (BUPATI,), {BUPATI: result(number, counted=number % 3 > 0)})
        for number, one in enumerate(stations)
    ]
    one_go, _ = add_up(rows)
    halves = [dict(zip(("sums", "notes"), add_up(part), strict=True)) for part in (rows[:4], rows[4:])]
    assert add_up(halves)[0] == one_go
    assert one_go["totals"][BUPATI]["votes"] == {"1": 1 + 2 + 4 + 5 + 7 + 8}
    assert one_go["totals"][BUPATI]["arrived"] == 10


@pytest.mark.parametrize(
    "text",
    [
        b"island\nA\n",
        b"island,latitude,longitude\nA,x,1\n",
        b"island,latitude,longitude\n,1,1\n",
        b"\xff",
        b"island,latitude,longitude\nA,91,0\n",
        b"island,latitude,longitude\nA,nan,0\n",
    ],
)
def test_a_map_that_is_none(text: bytes) -> None:
    with pytest.raises(BadInput):
        read_places(text)


def test_the_chart_keeps_directions() -> None:
    places = read_places(b"island,latitude,longitude\nNorth,-2,108\nSouth,-3,108\nEast,-2.5,109\n")
    chart = draw(places, {"East": "2"})
    assert chart is not None
    marks = {one.name: one for one in chart.marks}
    assert marks["North"].y < marks["East"].y < marks["South"].y
    assert marks["North"].x == marks["South"].x < marks["East"].x
    assert (marks["East"].state, chart.marks[-1].name) == ("2", "East")
    assert all(0 < one.x < chart.width and 0 < one.y < chart.height for one in chart.marks)
