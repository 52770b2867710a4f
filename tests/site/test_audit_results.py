"""`relay audit --results`: what the site shows is what its log says, and the first thing that differs is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from relay.cli.audit import audit
from relay.errors import BadInput, Refused, Unreachable
from relay.net.source import open_source
from relay.receiver.auditing import STATE, Audit, Scope, admit_notices, read_checkpoint, read_notices
from relay.receiver.ledger import Ledger
from relay.records.identifiers import Kind
from relay.trust.admission import Admission
from relay.web.site.audit.compared import Compared
from relay.web.site.audit.course import ResultsAudit
from relay.web.site.audit.difference import difference
from relay.web.site.audit.strays import StraysAudit
from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection, tally_of
from tests.site.story import serving

PATIENCE = 3_600.0
FORM = f"tps/{LONG}/{BUPATI}.json"
WHOLE = "region/index.json"


def nothing(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


async def publish(election: PublicElection) -> None:
    """Bring the site up to its log, with its tables."""
    await election.publish()
    await election.site.write_tables()


@pytest_asyncio.fixture
async def told(tmp_path: Path) -> AsyncIterator[PublicElection]:
    """A correction, a conflict, a gap, and a statement of a station that the register does not know."""
    election = PublicElection(tmp_path)
    try:
        await election.open()
        wrong = tally_of(LONG, BUPATI, election.stations, valid=999)
        first = await election.submit(LONG, BUPATI, wrong)
        await election.submit(LONG, BUPATI, supersedes=first, reason="Suara sah salah ketik")
        await election.submit(LONG, GUBERNUR)
        await election.submit(BATUN, BUPATI)
        await election.submit(BATUN, BUPATI, tally_of(BATUN, BUPATI, election.stations, voters=1), device="laptop")
        await election.submit(KETAPANG, GUBERNUR, seq=3, previous=first)
        await election.submit("1906022099001", BUPATI)
        for tps in list(election.stations)[:30]:
            if tps not in (LONG, BATUN, KETAPANG):
                await election.submit(tps, BUPATI)
        await publish(election)
        await election.publish_notices()
        yield election
    finally:
        await election.close()


async def compared(
    election: PublicElection,
    *,
    url: str = "",
    state: Path | None = None,
    register: bool = True,
    patience: float = PATIENCE,
    now: float = 0.0,
    meanwhile: Callable[[], Any] | None = None,
) -> Compared:
    """Audit the log and its results as the command does."""
    root = election.fleet.election.root
    admission = Admission(root)
    async with open_source(url or election.public.as_uri()) as source:
        admit_notices(admission, await read_notices(source))
        if register:
            admit_notices(admission, await election.receiver.store.load(Kind.NOTICE))
        signed = await read_checkpoint(source, admission)
        ledger = Ledger(state, root, signed.checkpoint.origin)
        try:
            scope = Scope(receipts=False, objects=False)
            report = await Audit(source, admission, signed, ledger, scope, nothing, lambda: now).run()
            if meanwhile:
                await meanwhile()
            return await ResultsAudit(source, admission, ledger, report.size, nothing, lambda: now).run(patience)
        finally:
            ledger.close()


async def wrong(election: PublicElection, **how: Any) -> str:
    """What the audit of the results names."""
    with pytest.raises(Refused) as refused:
        await compared(election, **how)
    assert refused.value.reason == "wrong-result"
    return refused.value.what


def alter(election: PublicElection, path: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a published document."""
    document = election.document(path)
    change(document)
    (election.public / path).write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("register", [True, False])
async def test_an_honest_site_shows_what_its_log_says(told: PublicElection, register: bool) -> None:
    found = await compared(told, register=register)
    assert (found.forms, found.has_register, found.same_pages) == (35, register, True)
    assert (found.behind, found.newer, found.rewritten, found.unnamed) == (None, 0, 0, 0)
    assert found.regions == len(list((told.public / "region").glob("*.json")))


async def test_it_is_the_same_over_http(told: PublicElection) -> None:
    with serving(told.public) as url:
        assert (await compared(told, url=url)).forms == 35


def _votes(document: dict[str, Any]) -> None:
    document["tally"]["votes"]["1"] += 100


def _no_correction(document: dict[str, Any]) -> None:
    document["statements"] = document["statements"][1:]
    document["corrected"] = False


def _no_flags(document: dict[str, Any]) -> None:
    document["flags"] = []


def _no_notes(document: dict[str, Any]) -> None:
    document["notes"] = []


def _sums(document: dict[str, Any]) -> None:
    document["sums"]["totals"][BUPATI]["votes"]["2"] += 1_000


def _more(document: dict[str, Any]) -> None:
    document["statements"].append({**document["statements"][0], "id": "ab" * 32})


def _registered(document: dict[str, Any]) -> None:
    document["station"]["registered_voters"] += 50


def _no_stray(document: dict[str, Any]) -> None:
    document["strays"]["1906022099001/C-HASIL-KWK-BUPATI"]["flags"] = []


def _made_up_stray(document: dict[str, Any]) -> None:
    document["strays"]["1906022099002/C-HASIL-KWK-BUPATI"] = {}


def _emptied(document: dict[str, Any]) -> None:
    document.clear()


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (FORM, _votes, "votes for pair 1, and the log says"),
        (FORM, _no_correction, "does not show entry 0 of the log, which belongs there"),
        (f"tps/{BATUN}/{BUPATI}.json", _no_flags, "does not show the flag"),
        (FORM, _more, "shows a statement that the log does not have for it: abab"),
        (FORM, _registered, "for station / registered_voters, and the log says"),
        (FORM, _emptied, "is not what belongs there"),
        ("tps/1906022099001/C-HASIL-KWK-BUPATI.json", _votes, "votes for pair 1"),
        ("strays.json", _no_stray, "does not show the flag station-not-in-register"),
        ("strays.json", _made_up_stray, "has a row for 1906022099002/C-HASIL-KWK-BUPATI"),
        (WHOLE, _sums, "adds up"),
        (WHOLE, _no_notes, "does not list the flags of"),
    ],
)
async def test_what_differs_from_the_log_is_named(
    told: PublicElection, path: str, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    alter(told, path, change)
    what = await wrong(told)
    assert what.startswith(path)
    assert said in what


async def test_a_village_that_hides_a_station_or_its_votes(told: PublicElection) -> None:
    village = told.result()["path"][-1]["key"]
    before = (told.public / f"region/{village}.json").read_bytes()
    alter(told, f"region/{village}.json", lambda document: document["children"].pop(LONG))
    assert f"leaves out {LONG}" in await wrong(told)
    (told.public / f"region/{village}.json").write_bytes(before)

    def fewer(document: dict[str, Any]) -> None:
        document["children"][LONG]["forms"][BUPATI]["tally"]["votes"]["1"] = 0

    alter(told, f"region/{village}.json", fewer)
    assert "shows 0 votes for pair 1" in await wrong(told, register=False)


@pytest.mark.parametrize("large", [False, True])
async def test_tables_say_what_the_log_says(told: PublicElection, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    name = "results"
    if large:
        monkeypatch.setattr("relay.web.site.register.SITE_WHOLE_FORMS", 0)
        await told.reopen(anew=True)
        await publish(told)
        name = f"region/{told.result()['path'][1]['key']}-results"
    found = await compared(told)
    assert (found.tables, found.behind) == (2 * (len({tps[:6] for tps in told.stations}) if large else 1), None)
    assert (await compared(told, register=False)).tables == found.tables
    file = told.public / f"{name}.csv"
    content = file.read_bytes()
    row = next(one for one in content.split(b"\r\n") if LONG.encode() in one and BUPATI.encode() in one)
    file.write_bytes(content.replace(row, row[:-1] + b"99"))
    assert f"{name}.csv ({LONG} {BUPATI}) shows" in await wrong(told)
    file.write_bytes(content.replace(row + b"\r\n", b""))
    assert f"{name}.csv leaves out {LONG} {BUPATI}" in await wrong(told)
    file.write_bytes(content)
    file = told.public / f"{name}.json"
    rows = json.loads(file.read_bytes())
    next(one for one in rows if (one["tps"], one["form"]) == (LONG, GUBERNUR))["votes"]["1"] = 0
    file.write_text(json.dumps(rows), encoding="utf-8")
    assert f"{name}.json ({LONG} {GUBERNUR}) shows 0 votes for pair 1" in await wrong(told)


async def test_a_table_that_no_program_can_read_is_refused_in_words(told: PublicElection) -> None:
    table = told.public / "results.csv"
    content = table.read_bytes()
    header, row, *_ = content.split(b"\r\n")
    place = header.split(b",").index(b"entry")
    cells = row.split(b",")
    cells[place] = b"9" * 5_000
    table.write_bytes(content.replace(row, b",".join(cells)))
    assert "for entry, and the log says" in await wrong(told)
    table.write_bytes(content)
    (told.public / "results.json").write_bytes(b"[" * 100_000)
    assert "results.json is not what belongs there" in await wrong(told)


def test_what_is_nested_more_deeply_than_can_be_told_differs_all_the_same() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for said, shown in (({"flags": []}, {"flags": [deep]}), ({"name": "Long"}, {"name": deep})):
        found = difference(said, shown)
        assert found is not None
        assert found.told("x.json").startswith("x.json ")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a\0b", ""])
async def test_a_form_of_the_sites_own_register_is_no_path(told: PublicElection, name: str) -> None:
    def named(document: dict[str, Any]) -> None:
        document["sums"]["totals"][name] = document["sums"]["totals"][BUPATI]

    alter(told, WHOLE, named)
    assert f"{WHOLE} is not what belongs there" in await wrong(told, register=False)


async def test_a_stray_that_is_not_listed_is_not_shown(told: PublicElection) -> None:
    alter(told, "strays.json", lambda document: document["strays"].clear())
    assert (await compared(told)).behind == 6
    with pytest.raises(Refused, match="Entry 6 is in the log"):
        await compared(told, patience=0)


async def test_a_table_that_was_not_written_again_yet_is_behind(told: PublicElection) -> None:
    size = told.site.entries
    await told.submit(KETAPANG, BUPATI)
    await told.publish()
    assert (await compared(told)).behind == size
    await told.site.write_tables()
    assert (await compared(told)).behind is None


async def test_a_result_of_which_the_log_has_nothing(told: PublicElection) -> None:
    empty = next(tps for tps in reversed(told.stations) if not (told.public / f"tps/{tps}").exists())
    (told.public / f"tps/{empty}").mkdir()
    (told.public / f"tps/{empty}/{BUPATI}.json").write_bytes((told.public / FORM).read_bytes())
    assert "and the log says" in await wrong(told)


async def test_a_site_behind_its_log_is_told_and_a_fault_when_it_stays_so(told: PublicElection, tmp_path: Path) -> None:
    """Each document is right as of an earlier entry; later entries are in the log and nowhere on the site."""
    kept = {path: path.read_bytes() for part in ("tps", "region") for path in (told.public / part).rglob("*.json")}
    size = told.site.entries
    await told.submit(KETAPANG, BUPATI)
    await told.publish()
    for path, content in kept.items():
        path.write_bytes(content)
    (told.public / f"tps/{KETAPANG}/{BUPATI}.json").unlink()
    state = tmp_path / "state"
    assert (await compared(told, state=state, now=1_000.0)).behind == size
    found = await compared(told, state=state, now=1_000.0 + PATIENCE - 1)
    assert found.waiting == {"behind": PATIENCE - 1}
    with pytest.raises(Refused, match=f"Entry {size} is in the log") as refused:
        await compared(told, state=state, now=1_000.0 + PATIENCE)
    assert refused.value.reason == "not-shown"


async def test_a_site_behind_its_log_that_shows_something_else_is_wrong(told: PublicElection) -> None:
    kept = told.document(WHOLE)
    await told.submit(KETAPANG, BUPATI)
    await told.publish()
    _sums(kept)
    (told.public / WHOLE).write_text(json.dumps(kept), encoding="utf-8")
    assert "adds up" in await wrong(told)


async def test_what_came_after_the_log_was_read_is_left_to_the_next_audit(told: PublicElection) -> None:
    async def arrive() -> None:
        await told.submit(KETAPANG, BUPATI)
        await told.publish()

    found = await compared(told, meanwhile=arrive)
    assert found.newer >= 3  # the form, and the regions that it lies in
    assert (await compared(told)).newer == 0


async def test_more_than_the_log_has_is_not_taken_for_newer(told: PublicElection) -> None:
    def ahead(document: dict[str, Any]) -> None:
        document["log"]["entries"] = 9_000
        _sums(document)

    alter(told, WHOLE, ahead)
    with pytest.raises(Unreachable, match="The site shows 9000 entries"):
        await compared(told)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (WHOLE, lambda document: document["log"].update(entries=10**40)),
        (STATE, lambda state: state.update(entries=9_000)),
    ],
)
async def test_a_site_that_is_right_and_says_that_it_shows_more_than_the_log_has_is_told(
    told: PublicElection, path: str, more: Callable[[dict[str, Any]], Any]
) -> None:
    alter(told, path, more)
    with pytest.raises(Unreachable, match="entries of a log that has"):
        await compared(told)


async def test_entries_are_read_once_and_documents_each_time(told: PublicElection, tmp_path: Path) -> None:
    state = tmp_path / "state"
    await compared(told, state=state)
    alter(told, FORM, _votes)
    assert "votes for pair 1" in await wrong(told, state=state)


async def test_a_region_that_does_not_name_its_entry_is_held_against_the_whole_log(told: PublicElection) -> None:
    alter(told, WHOLE, lambda document: document.pop("log"))
    assert (await compared(told)).unnamed == 1


async def test_results_that_were_not_judged_again_yet_are_told(told: PublicElection, tmp_path: Path) -> None:
    """The site says that it is written again: its statements are compared, and what was made of them is not."""
    alter(told, "site.json", lambda document: document.update(again=[0, told.site.entries]))
    alter(told, FORM, _no_flags)
    alter(told, FORM, lambda document: document.update(counted=False))
    state = tmp_path / "state"
    found = await compared(told, state=state)
    assert (found.rewritten, found.waiting) == (1, {"again": 0.0})
    with pytest.raises(Refused, match="does not come to an end"):
        await compared(told, state=state, now=PATIENCE)
    alter(told, FORM, _no_correction)
    assert "does not show entry 0" in await wrong(told)


def say_again(election: PublicElection, first: int) -> None:
    """Have the site say that it is written again, and is through up to the entry `first`."""
    alter(election, STATE, lambda document: document.update(again=[first, election.site.entries]))


async def test_a_site_that_is_written_again_for_ever_is_a_fault_though_it_says_that_it_goes_on(
    told: PublicElection, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    kept = (told.public / WHOLE).read_bytes()
    alter(told, WHOLE, _sums)
    for first, now in ((1, 0.0), (2, PATIENCE - 1)):
        say_again(told, first)
        found = await compared(told, state=state, now=now)
        assert (found.rewritten, found.waiting) == (1, {"again": now})
    say_again(told, 3)
    with pytest.raises(Refused, match="does not come to an end") as refused:
        await compared(told, state=state, now=PATIENCE)
    assert refused.value.reason == "not-shown"
    (told.public / WHOLE).write_bytes(kept)
    assert (await compared(told, state=state, now=PATIENCE)).waiting == {}
    alter(told, WHOLE, _sums)
    assert (await compared(told, state=state, now=2 * PATIENCE)).waiting == {"again": 0.0}


async def test_a_long_log_has_longer_to_be_written_again_as_long_as_that_goes_on(
    told: PublicElection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.audit.course.AUDIT_AGAIN_ENTRIES", told.site.entries)
    alter(told, WHOLE, _sums)
    for name, first in (("goes on", 2), ("stands still", 1)):
        state = tmp_path / name
        say_again(told, 1)
        await compared(told, state=state, now=0.0)
        say_again(told, first)
        if first == 2:
            assert (await compared(told, state=state, now=PATIENCE)).waiting == {"again": PATIENCE}
            say_again(told, 3)
        with pytest.raises(Refused, match="does not come to an end"):
            await compared(told, state=state, now=first * PATIENCE)


async def test_what_waits_for_two_reasons_is_remembered_of_both(told: PublicElection, tmp_path: Path) -> None:
    state = tmp_path / "state"
    kept = (told.public / "strays.json").read_bytes()
    alter(told, "strays.json", lambda document: document["strays"].clear())
    await compared(told, state=state, now=0.0)
    alter(told, WHOLE, _sums)
    say_again(told, 1)
    with pytest.raises(Refused, match="Entry 6 is in the log"):
        await compared(told, state=state, now=PATIENCE)
    (told.public / "strays.json").write_bytes(kept)
    assert (await compared(told, state=state, now=PATIENCE + 1)).waiting == {"again": 1.0}


def _known_stray(document: dict[str, Any]) -> None:
    document["strays"][f"{LONG}/{BUPATI}"] = {}


@pytest.mark.parametrize(("change", "again"), [(_no_stray, 6), (_known_stray, 0)])
async def test_a_list_that_is_not_written_again_yet_is_told_and_a_fault_when_it_stays_so(
    told: PublicElection, tmp_path: Path, change: Callable[[dict[str, Any]], None], again: int
) -> None:
    """A row may be as it was judged before, or of a station that the register did not have then."""
    alter(told, STATE, lambda document: document.update(again=[again, again + 1]))
    alter(told, "strays.json", change)
    state = tmp_path / "state"
    found = await compared(told, state=state)
    assert (found.rewritten, found.newer, found.waiting) == (1, 0, {"again": 0.0})
    with pytest.raises(Refused, match="does not come to an end"):
        await compared(told, state=state, now=PATIENCE)


async def test_a_row_of_which_the_log_has_nothing_is_made_up_also_while_the_site_is_written_again(
    told: PublicElection,
) -> None:
    say_again(told, 0)
    alter(told, "strays.json", _made_up_stray)
    assert "has a row for 1906022099002/C-HASIL-KWK-BUPATI" in await wrong(told)


async def test_a_stray_that_arrives_while_the_site_is_compared_is_newer_and_no_fault(
    told: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = StraysAudit.read

    async def read_after_arrivals(strays: StraysAudit) -> None:
        for number in range(2, 90):  # more than the log had
            await told.submit(f"19060220990{number:02}", BUPATI)
        await publish(told)
        await read(strays)

    monkeypatch.setattr(StraysAudit, "read", read_after_arrivals)
    assert (await compared(told)).newer == 88
    monkeypatch.undo()
    assert (await compared(told)).newer == 0


async def test_a_revoked_device_is_flagged_in_what_is_expected(told: PublicElection) -> None:
    await told.revoke(1, told.device(LONG))
    await publish(told)
    await told.publish_notices()
    assert (await compared(told)).behind is None
    alter(told, FORM, lambda document: document.update(flags=[]))
    assert "device-revoked" in await wrong(told)


async def test_a_form_with_a_long_history_is_compared_page_by_page(told: PublicElection) -> None:
    for number in range(60):
        await told.submit(LONG, BUPATI, tally_of(LONG, BUPATI, told.stations, valid=number))
    await publish(told)
    assert told.result()["pages"]["history"] > 1
    assert (await compared(told)).behind is None

    def fewer(document: dict[str, Any]) -> None:
        document["statements"][3]["tally"]["votes"]["1"] = 0

    alter(told, f"tps/{LONG}/{BUPATI}/2.json", fewer)
    assert "for tally / votes / 1 of statement" in await wrong(told)


async def test_a_site_of_another_judging_is_not_compared(told: PublicElection) -> None:
    await told.site.settle()

    def other(document: dict[str, Any]) -> None:
        document["print"] = " ".join([*document["print"].split()[:2], "999"])

    alter(told, "settled.json", other)
    with pytest.raises(Refused) as refused:
        await compared(told)
    assert refused.value.reason == "other-judging"


def test_the_command_compares_results_and_names_what_differs(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(published, tmp_path / "public")
    form = tmp_path / "public" / FORM
    options = [form.parents[2].as_uri(), "--root", str(published / "root.pem"), "--no-state", "--jobs", "1"]
    document = json.loads(CliRunner().invoke(audit, [*options, "--results", "--json"]).stdout)
    assert (document["outcome"], document["results"]["register"]) == ("right", False)
    assert document["results"]["forms"] == len(list(published.glob("tps/*/*.json")))
    form.write_text(form.read_text(encoding="utf-8").replace('"1":', '"1":1', 1), encoding="utf-8")
    assert "--results" in CliRunner().invoke(audit, options).stdout  # what was not compared is told
    wrong = CliRunner().invoke(audit, [*options, "--results", "--json"], standalone_mode=False)
    assert wrong.return_value == 1
    assert FORM in json.loads(wrong.stdout)["wrong"]
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    said = CliRunner().invoke(audit, [*options, "--results"], standalone_mode=False)
    assert "suara untuk paslon 1, padahal menurut log" in said.stderr
    unusable = CliRunner().invoke(audit, [*options, "--results", "--hashes-only"], standalone_mode=False)
    assert unusable.return_value == 2


def test_the_command_tells_what_no_terminal_takes(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "public")
    form = tmp_path / "public" / FORM
    document = json.loads(form.read_bytes())
    document["tally"]["votes"]["1"] = HALF
    form.write_text(json.dumps(document), encoding="utf-8")
    options = [form.parents[2].as_uri(), "--root", str(published / "root.pem"), "--no-state", "--jobs", "1"]
    said = CliRunner().invoke(audit, [*options, "--results"], standalone_mode=False)
    assert (said.return_value, f"{FORM} shows" in said.stderr) == (1, True)
    said = CliRunner().invoke(audit, [*options, "--results", "--json"], standalone_mode=False)
    assert (said.return_value, json.loads(said.stdout)["reason"]) == (1, "wrong-result")


async def test_a_document_too_long_to_be_one_is_not_read(told: PublicElection, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (told.public / FORM).stat().st_size
    monkeypatch.setattr("relay.web.site.audit.forms.AUDIT_DOCUMENT", size)
    alter(told, FORM, lambda document: document.update(more="x" * size))
    assert await wrong(told) == f"{FORM} is not what belongs there"


async def test_a_region_that_names_a_path_elsewhere_is_not_followed(told: PublicElection) -> None:
    alter(told, WHOLE, lambda document: document["children"].update({"../../../secret": {}}))
    assert "is not what belongs there" in await wrong(told, register=False)
    assert "has a row for ../../../secret" in await wrong(told)


async def test_a_site_with_more_stations_than_there_can_be_is_not_read_to_its_end(
    told: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.web.site.audit.register.AUDIT_STATIONS", 3)
    assert await wrong(told, register=False) == "The site lists more than 3 polling stations"


async def test_a_site_with_more_regions_than_there_can_be_is_not_read_to_its_end(
    told: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a station in them they could go on for ever."""
    most = len(told.stations)
    monkeypatch.setattr("relay.web.site.audit.register.AUDIT_STATIONS", most)
    names = [f"empty-{number}" for number in range(most)]
    for name in names:
        (told.public / f"region/{name}.json").write_text('{"level": "village", "children": {}}', encoding="utf-8")
    alter(told, WHOLE, lambda document: document["children"].update({name: {} for name in names}))
    assert await wrong(told, register=False) == f"The site lists more than {most} regions"


async def test_a_village_that_is_named_in_every_district_is_not_read_for_ever(
    told: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = len(told.stations)
    monkeypatch.setattr("relay.web.site.audit.register.AUDIT_STATIONS", most)
    village = told.result()["path"][-1]["key"]
    district = {"level": "district", "children": {village: {}}}
    (told.public / "region/more.json").write_text(json.dumps(district), encoding="utf-8")
    alter(told, WHOLE, lambda document: document["children"].update(more={}))
    assert await wrong(told, register=False) == f"The site lists more than {most} polling stations"


async def test_a_list_of_more_than_the_log_has_is_not_kept(told: PublicElection) -> None:
    rows: dict[str, Any] = {f"{number}/{BUPATI}": {} for number in range(2 * told.site.entries)}
    alter(told, "strays.json", lambda document: document["strays"].update(rows))
    assert await wrong(told) == "strays.json is not what belongs there"


@pytest.mark.timeout(60)
async def test_a_flag_that_is_shown_fifty_thousand_times_ends_the_audit_at_once(told: PublicElection) -> None:
    alter(told, FORM, lambda document: document.update(flags=["gap"] * 50_000))
    assert f"{FORM} does not show the flag more-votes-than-register" in await wrong(told)


@pytest.mark.timeout(60)
def test_what_has_one_name_a_hundred_thousand_times_is_told_apart_at_once() -> None:
    said = [{"id": "ab", "entry": 1}]
    shown = [{"id": "ab", "entry": 1, "more": number} for number in range(100_000)]
    assert difference({"statements": said}, {"statements": shown}) is not None
    assert difference({"statements": said}, {"statements": said * 100_000}) is None


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["a"], ["a", "a"]),
        (["a", "a"], ["a"]),
        (["a", "a"], ["a", 'a"+1']),
        (["a", "a", "b"], ["a", "b", "b"]),
    ],
)
def test_flags_count_as_often_as_they_are_shown(said: list[str], shown: list[str]) -> None:
    assert difference({"flags": said}, {"flags": shown}) is not None
    assert difference({"flags": said}, {"flags": said[::-1]}) is None


def test_no_name_takes_the_place_of_what_is_numbered() -> None:
    """One that ends as a number behind a name does."""
    same = {"id": "a", "entry": 1}
    others = [{"id": "a", "entry": 2}, {"id": "a+1", "entry": 2}, {"id": "a+1+1", "entry": 2}]
    for shown in ([same, *others], [*others, same], [others[1], same, others[0]], [others[0], others[2], same]):
        found = difference({"statements": [same]}, {"statements": shown})
        assert found is not None
    assert difference({"statements": [same, *others]}, {"statements": [same, *others, same, *others]}) is None


HALF = "\ud800"
"""Half a character, which JSON can have and no text."""


def _key(name: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["children"][name] = document["children"].pop(LONG)

    return change


def _half_a_name(document: dict[str, Any]) -> None:
    document["name"] = HALF


def _half_a_district(document: dict[str, Any]) -> None:
    document["path"][-1]["name"] = HALF


def _half_an_island(document: dict[str, Any]) -> None:
    document["children"][LONG]["island"] = HALF


@pytest.mark.parametrize(
    "change",
    [_half_a_name, _half_a_district, _half_an_island, _key(HALF), _key("a\0b"), _key("../../x"), _key("")],
    ids=["name", "district", "island", "half", "null", "path", "empty"],
)
async def test_a_village_of_the_sites_own_register_has_names_and_stations_that_can_be(
    told: PublicElection, change: Callable[[dict[str, Any]], None]
) -> None:
    village = told.result()["path"][-1]["key"]
    alter(told, f"region/{village}.json", change)
    assert await wrong(told, register=False) == f"region/{village}.json is not what belongs there"


def _half_a_village(document: dict[str, Any]) -> None:
    document["station"]["village"] = HALF


def _expected(document: dict[str, Any]) -> None:
    document["sums"].update(expected=10**400, stations=1.5)


@pytest.mark.parametrize(("path", "change"), [(FORM, _half_a_village), (WHOLE, _expected)])
async def test_documents_that_are_none_are_refused_in_words(
    told: PublicElection, path: str, change: Callable[[dict[str, Any]], None]
) -> None:
    alter(told, path, change)
    assert await wrong(told, register=False) == f"{path} is not what belongs there"


async def test_a_table_with_a_row_of_no_station_is_refused_in_words(told: PublicElection) -> None:
    table = told.public / "results.json"
    table.write_text(json.dumps([*json.loads(table.read_bytes()), {"tps": 1, "form": 2}]), encoding="utf-8")
    assert await wrong(told) == "results.json is not what belongs there"


async def test_numbers_of_entries_that_cannot_be_told_are_not(told: PublicElection) -> None:
    kept = (told.public / FORM).read_bytes()
    alter(told, FORM, lambda document: document["statements"][-1].update(entry=int("9" * 4_300)))
    with pytest.raises(Unreachable, match=r"The site shows 10\^18\+ entries of a log"):
        await compared(told)
    (told.public / FORM).write_bytes(kept)
    for said in ({"entries": int("9" * 4_300)}, {"again": [0, int("9" * 4_300)]}, {"again": [-1, 1]}):
        kept = (told.public / STATE).read_bytes()
        alter(told, STATE, lambda document, said=said: document.update(said))  # type: ignore[misc]
        assert f"{STATE} is not what belongs there" in await wrong(told)
        (told.public / STATE).write_bytes(kept)


@pytest.mark.parametrize(
    "failure", [ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, RecursionError]
)
async def test_whatever_a_comparison_fails_with_is_told_in_words(
    told: PublicElection, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("relay.web.site.audit.strays.stray_row", fail)
    assert await wrong(told) == "strays.json is not what belongs there"
    monkeypatch.setattr("relay.web.site.audit.regions.difference", fail)
    village = told.result(next(iter(told.stations)))["path"][-1]["key"]
    assert await wrong(told) == f"region/{village}.json is not what belongs there"


async def test_where_another_version_wrote_the_pages_that_is_said_first(told: PublicElection) -> None:
    await told.site.settle()
    alter(told, FORM, _votes)

    def other(document: dict[str, Any]) -> None:
        register, _, judging = document["print"].split()
        document["print"] = f"{register} {'ab' * 8} {judging}"

    alter(told, "settled.json", other)
    with pytest.raises(Refused, match="audit it with that version before you tell anybody"):
        await compared(told)


async def test_what_is_right_does_not_cover_what_stands_before_it_under_the_same_name(told: PublicElection) -> None:
    """Whoever reads the first of two finds another than whoever reads the last."""

    def twice(document: dict[str, Any]) -> None:
        first = json.loads(json.dumps(document["statements"][0]))
        first["tally"]["votes"]["1"] = 0
        document["statements"].insert(0, first)

    kept = (told.public / FORM).read_bytes()
    alter(told, FORM, twice)
    assert f"{FORM} shows" in await wrong(told)
    (told.public / FORM).write_bytes(kept)
    table = told.public / "results.csv"
    lines = table.read_bytes().split(b"\r\n")
    row = next(one for one in lines if LONG.encode() in one)
    table.write_bytes(b"\r\n".join([lines[0], row + b"9", *lines[1:]]))
    assert await wrong(told) == "results.csv is not what belongs there"


async def test_where_no_site_is_there_is_nothing_to_compare(told: PublicElection) -> None:
    (told.public / "site.json").unlink()
    with pytest.raises(BadInput, match="No site is published there"):
        await compared(told)
