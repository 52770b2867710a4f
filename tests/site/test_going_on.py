"""The site goes on: after a power cut, a restart, another register, other pages. Nobody sees less than before."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from relay.cli.demo.election import FORMS, example_stations
from relay.errors import StoreError
from relay.limits import SITE_SETTLE_SECONDS, SITE_SETTLE_SECONDS_ELSEWHERE
from relay.receiver.results import Flag, Result, judge
from relay.records.notice import Register, Station
from relay.store.shelf import FRESH, FolderShelf
from relay.web.site.service import _Upkeep
from tests.factory import make_node
from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection, picture
from tests.site.test_site import files

ISLANDERS = [one for one in example_stations() if one.tps in (LONG, BATUN, KETAPANG)]


class Witness(FolderShelf):
    """A visitor who looks at every document as it is written: none may say less than it did."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written: list[str] = []
        self.less: list[tuple[str, int, int]] = []
        self.left = -1
        """Files that may be written before the power fails; none does while this is negative."""
        self._most: dict[str, int] = {}

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`."""
        if self.left == 0:
            raise StoreError("The power failed", "Switch it on.")
        self.left -= 1
        self.written.append(path)
        said = _says(path, content)
        if said < self._most.get(path, 0):
            self.less.append((path, self._most[path], said))
        self._most[path] = max(said, self._most.get(path, 0))
        await super().write(path, content, content_type, cache, durable=durable)


def _says(path: str, content: bytes) -> int:
    """How much a document says: forms that arrived, statements, links, arrivals."""
    document: Any = json.loads(content) if path.endswith(".json") else {}
    if path.startswith("region/") and "sums" in document:
        return int(document["sums"]["arrived"])
    lists = ("statements", "links", "newest")
    return sum(len(document[key]) for key in lists if key in document)


@pytest_asyncio.fixture
async def watched(tmp_path: Path) -> AsyncIterator[PublicElection]:
    """An election of three stations, watched by a visitor."""
    made = PublicElection(tmp_path, ISLANDERS)
    made.shelf = Witness(made.public)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


def witness(election: PublicElection) -> Witness:
    """The visitor."""
    assert isinstance(election.shelf, Witness)
    return election.shelf


async def change(election: PublicElection, version: int, *stations: Station) -> None:
    """Let the election office publish another register; the site hears of it when it follows next."""
    election.stations = {one.tps: one for one in stations}
    await election.receiver.take(election.fleet.publish(Register(FORMS, stations), version))


async def written_from_nothing(election: PublicElection) -> dict[str, bytes]:
    """What would be published if the whole site were written from the log."""
    await election.reopen(anew=True)
    await election.publish()
    await election.site.write_tables()
    return files(election.public)


def row(election: PublicElection, tps: str = LONG) -> dict[str, str]:
    """A station's row in the table of results."""
    rows = csv.DictReader(election.text("results.csv").splitlines())
    return next(one for one in rows if (one["tps"], one["form"]) == (tps, BUPATI))


# -- power cuts


async def test_after_a_power_cut_nothing_that_was_not_settled_stays_empty(election: PublicElection) -> None:
    """A file system may keep what replaced a file, and of what was new the names only."""
    await election.submit(LONG, photographs=[picture("a")])
    await election.publish()
    await election.site.settle()
    old = set(files(election.public))
    await election.submit(BATUN, photographs=[picture("b")])
    await election.publish()
    right = files(election.public)
    new = [path for path in right if path not in old and not path.startswith("object/")]
    assert {path.partition("/")[0] for path in new} == {"receipt", "statement", "tps", "device", "en"}
    for path in new:
        (election.public / path).write_bytes(b"")
    await election.reopen()
    assert election.document("site.json")["entries"] == 1, "an audit does not ask for what is not there"
    await election.publish()
    assert files(election.public) == right


async def test_what_is_settled_is_not_brought_again(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    await election.site.settle()
    await election.reopen()
    assert (election.site.entries, len(election.site.again)) == (1, 0)


@pytest.mark.parametrize("path", ["region/1906022011.json", "region/index.json", f"tps/{LONG}/{BUPATI}.json"])
async def test_damage_does_not_empty_the_rest_of_the_site(
    election: PublicElection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 1)
    first = [await election.submit(tps) for tps in (LONG, BATUN, KETAPANG)]
    await election.publish()
    await election.site.settle()
    (election.public / path).write_bytes(b"")
    await election.reopen()
    correction = await election.submit(LONG, supersedes=first[0])
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    await election.keeper.follow()
    assert election.document("region/index.json")["sums"]["arrived"] == 3
    assert correction.hex() in election.text(f"tps/{LONG}/{BUPATI}.html")
    await election.publish()
    await election.site.write_tables()
    assert files(election.public) == await written_from_nothing(election)


async def test_one_damaged_file_is_reason_to_bring_the_log_again_once(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others read it, before it is written again."""
    monkeypatch.setattr("relay.web.site.documents.SITE_DOCUMENTS", 0)
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 1)
    await election.submit(LONG)
    await election.submit(LONG, device="second")
    await election.publish()
    right = files(election.public)
    await election.site.settle()
    (election.public / f"device/{election.device(LONG, 'second').identity.node.hex()}.json").write_bytes(b"")
    await election.reopen()
    await election.submit(LONG, GUBERNUR)
    await election.submit(LONG, device="third")
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    for _ in range(10):
        await election.keeper.follow()
    assert (election.site.entries, len(election.site.again)) == (4, 0)
    device = f"device/{election.device(LONG, 'second').identity.node.hex()}.json"
    assert files(election.public)[device] == right[device]


@pytest.mark.parametrize("written", [2, 3, 4, 5, 8])
async def test_damage_that_was_found_when_the_power_failed_is_mended(watched: PublicElection, written: int) -> None:
    """What was damaged may have been written since, and look whole."""
    first = await watched.submit(LONG)
    await watched.publish()
    await watched.submit(BATUN)
    await watched.publish()
    await watched.site.settle()
    (watched.public / f"tps/{LONG}/{BUPATI}.json").write_bytes(b"")
    await watched.reopen()
    await watched.submit(LONG, supersedes=first)
    witness(watched).left = written
    with pytest.raises(StoreError, match="The power failed"):
        await watched.publish()
    witness(watched).left = -1
    await watched.keeper.open()
    await watched.publish()
    assert watched.result()["corrected"]


async def test_damage_that_the_tables_find_is_mended(election: PublicElection) -> None:
    """Else they would find it again and again, and the site would stand still."""
    for tps in (LONG, BATUN):
        await election.submit(tps)
    await election.publish()
    await election.site.settle()
    (election.public / "region/1906022011.json").write_bytes(b"")
    await election.reopen()
    await upkeep(election).tend()
    assert (row(election, LONG)["state"], row(election, BATUN)["state"]) == ("result", "result")
    await election.publish()
    assert (
        files(election.public)["region/1906022011.json"]
        == (await written_from_nothing(election))["region/1906022011.json"]
    )


# -- another register, other pages


async def test_another_register_never_shows_less_than_before(watched: PublicElection) -> None:
    for tps in (LONG, BATUN, KETAPANG):
        await watched.submit(tps)
    await watched.publish()
    await watched.submit(LONG, GUBERNUR)
    await watched.publish()
    await change(watched, 2, *(replace(one, registered_voters=one.registered_voters + 1) for one in ISLANDERS))
    await watched.publish()
    assert witness(watched).less == []
    assert watched.flags(LONG) == ["registered-differs-from-register"], "each result is judged by what is in force"
    assert watched.document("region/index.json")["sums"]["flagged"] == 4
    await watched.site.write_tables()
    assert files(watched.public) == await written_from_nothing(watched)


async def test_other_pages_never_show_less_than_before(
    watched: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watched.submit(LONG)
    await watched.publish()
    await watched.site.settle()
    monkeypatch.setattr("relay.web.site.pages._ours", lambda: [("index.html", b"of another version")])
    witness(watched).written.clear()
    await watched.reopen()
    assert watched.document("region/index.json")["sums"]["arrived"] == 1
    assert len(watched.site.again) == 1
    await watched.publish()
    assert witness(watched).less == []
    assert {f"tps/{LONG}/{BUPATI}.html", "en/region/1906022011.html"} <= set(witness(watched).written)


async def test_what_was_judged_otherwise_is_judged_again_and_seen_meanwhile(
    watched: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watched.submit(LONG)
    await watched.publish()
    await watched.site.settle()
    monkeypatch.setattr("relay.web.site.builder.JUDGING", 0)

    def stricter(*known: Any) -> Result:
        found = judge(*known)
        return replace(found, counted=False, flags=(*found.flags, Flag("found-later", (), {})))

    monkeypatch.setattr("relay.web.site.batch.judge", stricter)
    await watched.reopen()
    assert (watched.result()["counted"], watched.flags(LONG)) == (True, [])
    await watched.publish()
    assert (watched.result()["counted"], watched.flags(LONG)) == (False, ["found-later"])
    assert witness(watched).less == []
    await watched.site.settle()
    witness(watched).written.clear()
    await watched.reopen()
    assert [path for path in witness(watched).written if path.endswith(".html")] == [], "once is enough"


async def test_what_arrives_does_not_wait_while_the_log_is_brought_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 2)
    for tps in list(election.stations)[:20]:
        await election.submit(tps)
    await election.publish()
    await change(election, 2, *(replace(one, registered_voters=7) for one in election.stations.values()))
    await election.keeper.follow()
    late = await election.submit(LONG, GUBERNUR)
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    await election.keeper.follow()
    assert len(election.site.again) > 10
    assert (election.public / "receipt" / late.hex()).read_bytes()
    assert election.document(f"tps/{LONG}/{GUBERNUR}.json")["state"] == "result"
    assert election.document("region/index.json")["sums"]["arrived"] == 21


async def test_what_is_still_to_be_brought_again_is_kept_over_a_restart(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.service.SITE_BATCH", 2)
    for tps in list(election.stations)[:10]:
        await election.submit(tps)
    await election.publish()
    await change(election, 2, *(replace(one, registered_voters=7) for one in election.stations.values()))
    await election.keeper.follow()
    await election.site.settle()
    await election.reopen()
    assert election.site.again == range(2, 10)
    await election.publish()
    assert election.document("region/index.json")["sums"]["flagged"] == 10


@pytest.mark.parametrize("then", ["another register", "the register of before"])
@pytest.mark.parametrize("files_before", [0, 3, 8, 15, 24, 36, 50])
async def test_a_cut_while_regions_are_written_again_takes_nothing_away(
    watched: PublicElection, files_before: int, then: str
) -> None:
    """And when the power is back, yet another register may be in force."""
    for tps in (LONG, BATUN, KETAPANG):
        await watched.submit(tps)
    await watched.publish()
    await watched.site.settle()
    await change(watched, 2, *(replace(one, registered_voters=7, village=f"{one.village} X") for one in ISLANDERS))
    witness(watched).left = files_before
    try:
        await watched.publish()
    except StoreError as error:
        assert "The power failed" in str(error)
    witness(watched).left = -1
    another = [replace(one, registered_voters=8) for one in ISLANDERS]
    await change(watched, 3, *(another if then == "another register" else ISLANDERS))
    await watched.reopen()
    assert watched.document("region/index.json")["sums"]["arrived"] == 3
    await watched.publish()
    assert witness(watched).less == []
    await watched.site.write_tables()
    assert files(watched.public) == await written_from_nothing(watched)


async def test_islands_and_arrivals_stay_and_have_the_names_of_the_new_register(watched: PublicElection) -> None:
    await watched.submit(LONG)
    await watched.publish()
    await change(watched, 2, *(replace(one, village="Desa Baru") for one in ISLANDERS))
    await watched.keeper._follow_notices()
    assert watched.document("islands.json")["stations"][LONG]["mark"] == "1"
    assert [one["village"] for one in watched.document("newest.json")["newest"]] == ["Desa Baru"]
    assert "Desa Baru" in watched.text("feed.xml")


async def test_a_station_that_moves_takes_its_results_along(watched: PublicElection) -> None:
    await watched.submit(LONG)
    await watched.publish()
    batun = next(one for one in ISLANDERS if one.tps == BATUN)
    moved = [replace(one, tps=f"x-{one.tps}") if one.tps == KETAPANG else one for one in ISLANDERS]
    await change(watched, 2, *moved)  # codes of its own: regions are told apart by names now
    await watched.keeper._follow_notices()
    assert watched.document("region/index.json")["sums"]["arrived"] == 1
    assert watched.document("region/gantung--limbongan.json")["sums"]["arrived"] == 1
    await watched.submit(LONG, GUBERNUR)
    await watched.publish()
    await change(watched, 3, *ISLANDERS)  # and back, to where files of then still lie
    await watched.keeper._follow_notices()
    assert watched.document("region/1906022011.json")["sums"]["arrived"] == 2
    assert batun.tps in watched.document("region/1906032008.json")["children"]


async def test_a_station_that_becomes_known_is_a_stray_no_more(watched: PublicElection) -> None:
    await change(watched, 2, *(one for one in ISLANDERS if one.tps != LONG))
    await watched.submit(LONG)
    await watched.publish()
    assert "Tidak ada dalam daftar TPS" in watched.text("flags.html")
    await change(watched, 3, *ISLANDERS)
    await watched.publish()
    assert "Tidak ada dalam daftar TPS" not in watched.text("flags.html")
    assert watched.document("strays.json")["strays"] == {}
    assert watched.document("region/index.json")["sums"]["totals"][BUPATI]["counted"] == 1


async def test_another_map_or_certificate_changes_what_shows_them_only(election: PublicElection) -> None:
    """Of several receivers each has its own, and another one may take over at any time."""
    await election.submit(LONG)
    await election.publish()
    await election.site.settle()
    before = {path: (election.public / path).stat().st_mtime_ns for path in files(election.public)}
    own = (election.public / "receiver.pem").read_bytes()
    other = make_node(election.fleet.election, "receiver-2", election.receiver.node.identity.role)
    election.receiver.node = replace(election.receiver.node, identity=other.identity)
    await election.reopen(islands=False)
    assert "chart" not in election.text("index.html")
    assert (election.public / "receiver.pem").read_bytes() != own
    assert (election.site.entries, len(election.site.again)) == (1, 0)
    changed = {path for path, at in before.items() if (election.public / path).stat().st_mtime_ns != at}
    assert not [path for path in changed if path.startswith(("tps/", "device/", "en/tps/", "en/region/"))]
    assert [path for path in changed if path.startswith("region/")] == ["region/index.json"]


async def test_strays_are_found_again_where_their_first_page_is_damaged(
    watched: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.strays.SITE_NOTES", 1)
    for number in range(3):
        await watched.submit(f"b-{number}")
    await watched.publish()
    await watched.site.settle()
    (watched.public / "strays.json").write_bytes(b"")
    await watched.reopen()
    await watched.submit("b-3")
    await watched.publish()
    listed = [row["tps"] for path in watched.public.glob("strays*.json") for row in _strays(path)]
    assert sorted(listed) == ["b-0", "b-1", "b-2", "b-3"]
    assert watched.document("strays.json")["pages"] >= 3


def _strays(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_bytes())["strays"].values())


# -- tables, and settling


def upkeep(election: PublicElection) -> _Upkeep:
    """What is done now and then, by the election's clock."""
    return _Upkeep(election.site, election.keeper, election.fleet.clock)


async def test_tables_that_a_restart_found_untold_are_written(election: PublicElection) -> None:
    await election.submit(LONG)
    await election.publish()
    assert row(election)["state"] == "waiting"
    await election.site.settle()
    await election.reopen()
    assert await election.keeper.follow() == 0
    await upkeep(election).tend()
    assert row(election)["state"] == "result"
    assert not election.site.has_untold


async def test_tables_follow_a_revocation(election: PublicElection) -> None:
    kept = upkeep(election)
    await election.submit(LONG)
    await election.publish()
    await kept.tend()
    assert row(election)["flags"] == ""
    await election.revoke(1, election.device(LONG))
    assert await election.keeper.follow() == 0
    election.fleet.clock.now += 60
    await kept.tend()
    assert row(election)["flags"] == "device-revoked"


async def test_tables_rest_after_they_were_written(election: PublicElection, monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost what the election is large."""
    told: list[int | None] = []

    async def slow(most: int | None = None) -> bool:
        told.append(most)
        election.fleet.clock.now += 1
        return False

    kept = upkeep(election)
    await election.submit(LONG)
    await election.publish()
    monkeypatch.setattr(election.keeper, "write_tables", slow)
    await kept.tend()
    await kept.tend()
    assert len(told) == 1
    election.fleet.clock.now += 25
    await kept.tend()
    assert len(told) == 2


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_was_written_is_settled_now_and_then(election: PublicElection, *, elsewhere: bool) -> None:
    """A bucket keeps all at once: there a follower has little to bring again."""
    election.elsewhere = elsewhere
    await election.reopen()
    kept = upkeep(election)
    await election.submit(LONG)
    await election.publish()
    await kept.tend()
    assert election.document("settled.json")["entries"] == 0
    election.fleet.clock.now += SITE_SETTLE_SECONDS_ELSEWHERE if elsewhere else SITE_SETTLE_SECONDS
    assert kept.patience == pytest.approx(0.1)
    await kept.tend()
    assert election.document("settled.json")["entries"] == 1
