"""One enrolled key that signs as much as it may: nothing of it is hidden, and nothing else is hidden by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pytest

from relay.limits import KIB, SITE_NOTE_FLAGS, SITE_STATEMENTS_BYTES
from relay.receiver.results import Logged, LoggedFile
from relay.records.identifiers import ObjectId, RecordId, StatementId, sha256
from relay.records.statement import read_statement
from relay.records.tally import read_tally
from relay.trust.certificates import read_certificate
from tests.site.election import BATUN, BUPATI, EVENING, GUBERNUR, LONG, PublicElection, tally_of
from tests.site.test_site import files

FOLDER = f"tps/{LONG}/{BUPATI}"


def logged(election: PublicElection, entry: int, tps: str = LONG, form: str = BUPATI, device: str = "") -> Logged:
    """The next statement of a device, as if it had been logged."""
    statement = read_statement(election.sign(tps, form, device=device or None).raw)
    signer = read_certificate(statement.envelope.certificate)
    return Logged.of(statement, signer.name, signer.node, entry, EVENING)


def name(number: int) -> StatementId:
    """An id."""
    return StatementId(RecordId(sha256(b"flood %d" % number)))


def heavy(one: Logged, entry: int) -> Logged:
    """Another statement of the same device, with as much in it as one can hold."""
    objects = tuple(
        LoggedFile(f"{at:02}" + '"' * 253, "image/" + "x" * 121, 1, ObjectId(sha256(b"%d" % at))) for at in range(32)
    )
    return replace(
        one,
        id=name(entry),
        entry=entry,
        seq=one.seq + entry,
        previous=name(entry - 1),
        supersedes=name(-entry),
        reason="\U0001f600" * 1000,
        tally=read_tally({"votes": {f"{at:03}-" + "v" * 59: entry for at in range(100)}}),
        flags=tuple(f"{at:02}-{entry}-" + "f" * 50 for at in range(16)),
        files=objects,
    )


def reachable(folder: Path, start: str = "index.html") -> dict[str, str]:
    """The pages that links lead to from this one, with their text."""
    found: dict[str, str] = {}
    left = [start]
    while left:
        path = left.pop()
        if path not in found and path.endswith(".html") and (folder / path).is_file():
            found[path] = (folder / path).read_text(encoding="utf-8")
            left += [urljoin(path, link.partition("#")[0]) for link in re.findall('href="([^"]+)"', found[path])]
    return found


def few(monkeypatch: pytest.MonkeyPatch, statements: int = 3, rows: int = 4) -> None:
    """Let a page hold so few statements, or lines of a history."""
    monkeypatch.setattr("relay.web.site.history.SITE_STATEMENTS", statements)
    monkeypatch.setattr("relay.web.site.history.SITE_HISTORY", rows)


async def submit_many(election: PublicElection, count: int) -> list[StatementId]:
    """Statements of two devices for one form: some correct others, some do not add up."""
    signed: list[StatementId] = []
    for number in range(count):
        wrong = tally_of(LONG, BUPATI, election.stations, **({"valid": number} if number % 3 else {}))
        supersedes = signed[number // 2] if number % 4 == 3 else None
        device = "second" if number % 5 == 2 else None
        signed.append(await election.submit(LONG, BUPATI, wrong, supersedes=supersedes, device=device))
    return signed


async def test_every_statement_of_a_flood_is_reached_by_links(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    signed = await submit_many(election, 14)
    await election.publish()
    for start in ("index.html", "en/index.html"):
        pages = reachable(election.public, start)
        articles = {path: re.findall('data-statement="([0-9a-f]+)"', text) for path, text in pages.items()}
        assert {one.hex() for one in signed} == {one for found in articles.values() for one in found}
        assert max(map(len, articles.values())) <= 3
    lines = [election.document(f"{FOLDER}/history-{page}.json")["rows"] for page in range(1, 5)]
    assert [len(rows) for rows in lines] == [4, 4, 4, 2]
    for number, rows in enumerate(lines, 1):
        for key, row in rows.items():
            assert key in election.text(f"{FOLDER}/{row['page']}.html")
            link = f'href="../../../tps/{LONG}/{BUPATI}/{row["page"]}.html#s-{key[:16]}"'
            assert link in election.text(f"{FOLDER}/history-{number}.html")


async def test_a_flood_is_judged_as_if_it_fitted_one_page(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as narrow:
        few(narrow)
        await submit_many(election, 14)
        await election.publish()
        paged = election.result()
        rows = {
            key: row
            for page in range(1, 5)
            for key, row in election.document(f"{FOLDER}/history-{page}.json")["rows"].items()
        }
    assert paged["pages"] == {"statements": 5, "history": 4}
    await election.reopen(anew=True)
    await election.publish()
    whole = election.result()
    assert whole["pages"] is None and len(whole["statements"]) == 14
    for key in ("state", "counted", "corrected", "tally", "entry", "arrived", "standing"):
        assert paged[key] == whole[key]
    shown = {one["id"]: one for one in whole["statements"]}
    assert all(one == shown[one["id"]] for one in paged["statements"])
    assert {key: row["stands"] for key, row in rows.items()} == {
        key: one["standing"] != "superseded" for key, one in shown.items()
    }
    told = {(key, flag["flag"]) for key, row in rows.items() for flag in row["found"]}
    of_all = {"two-statements-in-conflict", "two-statements-agree"}
    expected = {
        (one, flag["flag"])
        for flag in whole["flags"]
        if flag["flag"] not in of_all
        for one in flag["statements"][: 1 if flag["flag"] == "corrected-by-another-device" else None]
    }
    assert told == expected and len(told) > 10
    assert of_all & {flag["flag"] for flag in paged["flags"]}


async def test_a_history_that_grew_is_what_would_be_written_anew(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    for _ in range(5):
        await submit_many(election, 3)
        await election.publish()
    grown = files(election.public)
    state = election.document("site.json")
    (election.public / "site.json").write_text(election.text("site.json").replace('"entries":15', '"entries":0'))
    assert state["entries"] == 15
    await election.reopen()
    await election.publish()
    assert files(election.public) == grown, "an entry brought twice changes nothing"
    await election.reopen(anew=True)
    await election.publish()
    anew = files(election.public)
    assert {path: anew[path] for path in anew if path.startswith("tps/")} == {
        path: grown[path] for path in grown if path.startswith("tps/")
    }


async def test_a_flood_of_one_key_is_light_and_hides_nothing(election: PublicElection) -> None:
    honest = logged(election, 0, device="honest")
    one = logged(election, 1)
    flood = [heavy(one, entry) for entry in range(1, 40)]
    await election.site.add([honest, *flood[:1]])
    await election.site.add(flood[1:])
    written = [*election.public.glob(f"{FOLDER}*"), *election.public.glob(f"{FOLDER}/*")]
    sizes = {
        path.suffix: max(each.stat().st_size for each in written if each.suffix == path.suffix) for path in written
    }
    assert sizes[".json"] < SITE_STATEMENTS_BYTES + 64 * KIB
    assert sizes[".html"] < 3 * SITE_STATEMENTS_BYTES
    assert (election.public / "region/index.json").stat().st_size < 16 * KIB
    assert (election.public / "flags.html").stat().st_size < 16 * KIB
    await election.reopen()  # what was written is read back, whatever comes next
    await election.site.add([heavy(one, 40)])
    await election.site.believe(replace(election.site._register, revoked=frozenset([one.node])))
    result = election.result()
    assert honest.id.hex() in [each["id"] for each in result["statements"]]
    assert (result["state"], result["standing"], result["counted"]) == ("conflict", 41, False)
    names = [flag["flag"] for flag in result["flags"]]
    assert {"two-statements-in-conflict", "device-revoked", "corrects-what-is-not-here", "incomplete"} <= set(names)
    (note,) = election.document("region/index.json")["notes"]
    assert "two-statements-in-conflict" in [flag["flag"] for flag in note["flags"]]
    assert len(note["flags"]) == SITE_NOTE_FLAGS and note["more_flags"] > 16 * 40
    assert f"{note['more_flags']:,} more flags" in election.text("en/flags.html")


async def test_a_statement_that_was_lost_from_its_page_is_written_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    signed = await submit_many(election, 7)
    await election.publish()
    (election.public / f"{FOLDER}/1.json").unlink()
    await election.reopen()
    signed.append(await election.submit(LONG, BUPATI, supersedes=signed[-1]))
    assert await election.publish() == 8
    pages = [election.document(f"{FOLDER}/{page}.json")["statements"] for page in (1, 2, 3)]
    assert [one["id"] for page in pages for one in page] == [one.hex() for one in signed]


def written_since(folder: Path, before: dict[Path, int]) -> set[str]:
    """The pages of forms that were written since."""
    now = {path: path.stat().st_mtime_ns for path in folder.glob("tps/*/*.html")}
    return {str(path.relative_to(folder)) for path in now if now[path] != before.get(path)}


async def test_an_arrival_does_not_write_what_other_gaps_of_its_device_concern(election: PublicElection) -> None:
    """Each finding is told at few statements: those at which nothing else is told now stay as they are."""
    for seq, form in ((3, GUBERNUR), (7, BUPATI)):
        await election.submit(LONG, form, seq=seq, previous=name(seq))
        await election.publish()
    before = {path: path.stat().st_mtime_ns for path in election.public.glob("tps/*/*.html")}
    await election.submit(LONG, BUPATI, seq=11, previous=name(11))
    await election.publish()
    assert written_since(election.public, before) == {f"tps/{LONG}/{BUPATI}.html"}
    assert election.flags(LONG, GUBERNUR) == ["chain-gap"]
    assert election.flags(LONG, BUPATI).count("chain-gap") == 2


async def test_a_statement_that_arrives_in_a_gap_changes_what_follows_it(election: PublicElection) -> None:
    await election.submit(LONG, GUBERNUR, seq=3, previous=name(3))
    await election.publish()
    await election.submit(LONG, BUPATI, seq=1)
    await election.publish()
    (flag,) = election.result(LONG, GUBERNUR)["flags"]
    assert (flag["values"]["first"], flag["values"]["last"]) == (2, 2)


async def test_votes_under_names_that_no_form_has_are_shown_and_in_no_sum(
    election: PublicElection,
) -> None:
    """A device may sign a hundred names of its own in each of its statements."""
    for at, tps in enumerate((LONG, BATUN)):
        votes = {"1": 10, **{f"x-{at}-{number}": 1 for number in range(20)}}
        await election.submit(tps, BUPATI, {"votes": votes, "valid": 30, "invalid": 0, "voters": 30})
    await election.publish()
    await election.site.write_tables()
    total = election.document("region/index.json")["sums"]["totals"][BUPATI]
    assert (total["votes"], total["counted"]) == ({}, 0)
    assert "x-0-7" in election.text(f"tps/{LONG}/{BUPATI}.html")
    header = election.text("results.csv").splitlines()[0].split(",")
    assert [name for name in header if name.startswith("votes_")] == ["votes_1"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_row_says_how_many_flags_it_leaves_out(election: PublicElection, known: bool) -> None:
    tps = LONG if known else "1906099999001"
    one = replace(logged(election, 0, tps), flags=tuple(f"mine-{at}" for at in range(16)))
    await election.site.add([one])
    await election.site.write_tables()
    notes: Sequence[dict[str, int]]
    if known:
        notes = election.document("region/index.json")["notes"]
        assert "+10" in election.text("results.csv")
        await election.site.add([logged(election, 1, tps, GUBERNUR)])  # beside it in the row of the station
        assert election.document("region/index.json")["notes"] == notes
    else:
        notes = list(election.document("strays.json")["strays"].values())
    assert notes[0]["more_flags"] == 16 + (not known) - SITE_NOTE_FLAGS
    assert len(election.result(tps)["flags"]) == 16 + (not known)
