"""The administrator's report: what arrived and what did not, and every reason to look twice."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from relay.cli import reporting
from relay.node.home import Home
from relay.receiver.chains import Link, findings
from relay.receiver.reporting import Reporter, describe_receiver
from relay.receiver.results import Logged, judge
from relay.records.identifiers import StatementId
from relay.records.notice import Register, Station
from relay.records.statement import read_statement
from relay.records.tally import Tally
from relay.web.admin_report import doubts_of
from tests.factory import make_file, make_revocations, make_statement
from tests.fleet import Fleet, Ship
from tests.vectors import judged

REGISTER = Register(
    ("form-1", "form-2"),
    tuple(
        Station(f"tps-{number}", number, f"Desa {number}", "Membalong", "Pulau Batun", 300, False)
        for number in (1, 2, 3)
    ),
)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    fleet.publish(REGISTER)
    yield fleet
    await fleet.close()


async def log_all(receiver: Ship) -> None:
    """Have everything complete entered in the log."""
    assert receiver.log is not None
    while await receiver.log.sequencer.sequence():
        pass


async def report_of(receiver: Ship) -> dict[str, Any]:
    """Its report, as JSON would have it."""
    document = await Reporter(Home(receiver.folder), receiver.member, receiver.custody).report()
    loaded: dict[str, Any] = json.loads(json.dumps(document))
    return loaded


def states(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(row["tps"], row["form"]): row["state"] for row in document["forms"]}


async def test_a_receiver_that_has_nothing_yet(fleet: Fleet) -> None:
    document = await report_of(await fleet.receiver())
    assert document["summary"] == {
        "stations": 3, "stations_complete": 0, "stations_begun": 0, "stations_missing": 3,
        "forms": 6, "forms_arrived": 0, "flagged": 0,
    }  # fmt: skip
    assert set(states(document).values()) == {"missing"}
    assert (document["log"]["size"], document["chains"], document["nodes"]) == (0, [], [])


async def test_stations_that_are_complete_begun_and_missing(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1", "tps-2"))
    for tps, form in (("tps-1", "form-1"), ("tps-1", "form-2"), ("tps-2", "form-1")):
        await receiver.take(make_statement(fleet.election, device.node, tps=tps, form=form))
    await log_all(receiver)
    half = fleet.content()
    await receiver.take(make_statement(fleet.election, device.node, make_file(half), tps="tps-2", form="form-2"))
    document = await report_of(receiver)
    assert document["summary"]["stations_complete"] == 1
    assert (document["summary"]["stations_begun"], document["summary"]["stations_missing"]) == (1, 1)
    assert states(document)["tps-2", "form-1"] == "arrived"
    assert states(document)["tps-2", "form-2"] == "under way, partial"
    assert states(document)["tps-3", "form-1"] == "missing"
    (way,) = document["under_way_packages"]
    assert (way["device"], way["bytes"], way["bytes_held"]) == ("pulau", len(half), 0)


async def test_corrections_and_conflicts(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    one = await fleet.launch("pulau", tps=("tps-1", "tps-2"))
    two = await fleet.launch("salinan", tps=("tps-2",))
    contents = [fleet.content(100) for _ in range(4)]
    first = make_statement(fleet.election, one.node, make_file(contents[0]))
    second = make_statement(fleet.election, one.node, make_file(contents[1]), supersedes=StatementId(first.id))
    third, fourth = (
        make_statement(fleet.election, node, make_file(content), tps="tps-2", tally=Tally({}, {"1": votes}))
        for node, content, votes in ((one.node, contents[2], 30), (two.node, contents[3], 31))
    )
    await receiver.take(first, second, third, fourth)
    for content in contents:
        await receiver.adopt(content)
    await log_all(receiver)
    document = await report_of(receiver)
    assert states(document)["tps-1", "form-1"] == "corrected"
    assert states(document)["tps-2", "form-1"] == "conflict"
    (correction,) = document["corrections"]
    assert (correction["statement"], correction["supersedes"]) == (second.id.hex(), first.id.hex())
    (conflict,) = document["conflicts"]
    assert sorted(conflict["statements"]) == sorted([third.id.hex(), fourth.id.hex()])
    assert "two-statements-in-conflict" in {flag["flag"] for flag in document["flags"]}


async def test_what_was_flagged_before_a_correction_is_reported_after_what_still_is(fleet: Fleet) -> None:
    """On the terminal and on the administrator's page, where there is room for a few only; and told apart in a row."""
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1", "tps-2"))
    first = make_statement(fleet.election, device.node, tally=Tally({}, {"1": 30}))
    right = judged.read(judged.good(300))
    second = make_statement(fleet.election, device.node, tally=right, supersedes=StatementId(first.id))
    third = make_statement(fleet.election, device.node, tps="tps-2", tally=Tally({}, {"1": 30}))
    await receiver.take(first, second, third)
    await log_all(receiver)
    document = await report_of(receiver)
    rows = {row["tps"]: row["flags"] for row in document["forms"] if row["entry"] is not None}
    assert rows == {"tps-1": ["superseded:incomplete"], "tps-2": ["incomplete"]}
    doubts = doubts_of(document)
    assert [(one.tps, [flag.get("superseded", False) for flag in one.flags]) for one in doubts] == [
        ("tps-2", [False]),
        ("tps-1", [True]),
    ]
    lines = [line for line in reporting._report_lines(document) if "incomplete" in line]
    assert ["superseded:" in line for line in lines] == [False, True]


def test_a_flag_that_a_correction_left_is_told_beside_the_one_from_before_it() -> None:
    flag = {"tps": "tps-1", "form": "form-1", "flag": "incomplete", "values": {}}
    row = {"tps": "tps-1", "form": "form-1", "number": 1, "village": "Desa", "island": "", "district": "Kecamatan"}
    (doubt,) = doubts_of({"forms": [row], "flags": [flag, {**flag, "superseded": True}, dict(flag)]})
    assert [one.get("superseded", False) for one in doubt.flags] == [False, True]


async def test_gaps_and_forks_of_chains(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1", "tps-2", "tps-3"))
    made = [make_statement(fleet.election, device.node, tps=f"tps-{number}") for number in (1, 2, 3)]
    del device.node.chain[2:]
    twin = make_statement(fleet.election, device.node, form="form-2")
    await receiver.take(made[0], made[2], twin)
    await log_all(receiver)
    gap, fork = (await report_of(receiver))["chains"]
    assert gap == {
        "kind": "gap", "device": "pulau", "node_id": device.node.identity.node.hex(),
        "first": 2, "last": 2, "named": [made[1].id.hex()],
    }  # fmt: skip
    assert (fork["kind"], fork["seq"], sorted(fork["held"])) == ("fork", 3, sorted([made[2].id.hex(), twin.id.hex()]))


async def test_the_status_names_a_device_whose_key_was_used_twice_until_it_is_revoked(fleet: Fleet) -> None:
    """And what is to be done about it; a log too long to be read for that says where to look."""
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1",))
    first = make_statement(fleet.election, device.node)
    device.node.chain.clear()
    await receiver.take(first, make_statement(fleet.election, device.node, form="form-2"))
    await log_all(receiver)

    async def said() -> str:
        home = Home(receiver.folder)
        document = await describe_receiver(home, receiver.member, receiver.custody)
        document["chains"] = await Reporter(home, receiver.member, receiver.custody).forks()
        return "\n".join(reporting._status_lines(document))

    assert "the key of pulau was used twice: let the election office revoke it" in await said()
    assert "2 entries, cosigned by no witness yet" in await said()
    unread = await describe_receiver(Home(receiver.folder), receiver.member, receiver.custody)
    assert "see `relay receiver report`" in "\n".join(reporting._status_lines(unread))
    await receiver.take(make_revocations(fleet.election, 1, device.node))
    assert "used twice" not in await said()


async def test_a_package_under_way_is_no_gap(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1", "tps-2"))
    first = make_statement(fleet.election, device.node, make_file(fleet.content()))
    await receiver.take(first, make_statement(fleet.election, device.node, tps="tps-2"))
    await log_all(receiver)
    assert (await report_of(receiver))["chains"] == []


async def test_revoked_signers_and_nodes(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau")
    boat = await fleet.carrier("km-bahari")
    await device.submit(fleet.content())
    await boat.visit(device)
    await boat.visit(receiver)
    await log_all(receiver)
    await receiver.take(make_revocations(fleet.election, 1, device.node))
    document = await report_of(receiver)
    assert document["revocations"] == [
        {"node": "pulau", "node_id": device.node.identity.node.hex(), "reason": "lost", "statements": 1, "withheld": 0}
    ]
    assert [flag["flag"] for flag in document["flags"]] == ["device-revoked"]
    shown = (await receiver.store.bundles())[0].id.hex()[:16]
    assert f"form-1: device-revoked ({shown})" in "\n".join(reporting._report_lines(document))
    (node,) = [one for one in document["nodes"] if one["node"] == "pulau"]
    assert (node["statements"], node["newest_entry"], node["last_visit"]) == (1, 0, None)
    (bundle,) = await receiver.store.bundles()
    assert node["newest_claim"] == bundle.captured_at, "a device whose packages came by boat was seen, too"


async def test_what_a_revoked_device_sent_is_withheld_and_not_missing(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau")
    await receiver.take(make_statement(fleet.election, device.node, make_file(fleet.content())))
    await receiver.take(make_revocations(fleet.election, 1, device.node))
    assert await receiver.store.bundles() == []
    document = await report_of(receiver)
    assert states(document)["tps-1", "form-1"] == "under way, withheld"
    assert [one["state"] for one in document["under_way_packages"]] == ["withheld"]
    assert document["revocations"][0]["withheld"] == 1
    assert "pulau: lost, 1 packages withheld" in "\n".join(reporting._report_lines(document))


async def test_rows_have_every_flag_that_the_public_site_shows(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau", tps=("tps-1", "tps-2", "tps-3"))
    made = [make_statement(fleet.election, device.node, tps=f"tps-{number}") for number in (1, 2, 3)]
    del device.node.chain[2:]
    twin = make_statement(fleet.election, device.node, form="form-2")
    await receiver.take(made[0], made[2], twin)
    await log_all(receiver)
    logged = [
        Logged.of(read_statement(raw), "pulau", device.node.identity.node, entry, None)
        for entry, raw in enumerate(await receiver.store.log_statements(0, 3))
    ]
    found = findings(Link(one.node, one.seq, one.id, one.previous) for one in logged)
    stations = receiver.custody.admission.stations
    shown = {(one.tps, one.form): judge([one], stations[one.tps], frozenset(REGISTER.forms), found) for one in logged}
    rows = {
        (row["tps"], row["form"]): row["flags"]
        for row in (await report_of(receiver))["forms"]
        if row["entry"] is not None
    }
    assert rows == {form: sorted({flag.name for flag in result.flags}) for form, result in shown.items()}
    assert {"chain-gap", "chain-fork"} <= {flag for flags in rows.values() for flag in flags}


async def test_a_report_that_is_asked_again_reads_what_is_new_and_says_the_same(fleet: Fleet) -> None:
    """Whatever comes between two reports: entries, what closes a gap, a revocation, a new register."""
    receiver = await fleet.receiver()
    device, other = [await fleet.launch(name, tps=("tps-1", "tps-2", "tps-3")) for name in ("pulau", "lain")]
    kept = Reporter(Home(receiver.folder), receiver.member, receiver.custody)
    made = [make_statement(fleet.election, device.node, tps=f"tps-{number}") for number in (1, 2, 3)]
    contradicting = make_statement(fleet.election, other.node, make_file(b"x"), tps="tps-3")
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: receiver.take(made[0], made[2]),
        lambda: receiver.take(made[1]),
        lambda: receiver.take(contradicting),
        lambda: receiver.adopt(b"x"),
        lambda: receiver.take(make_revocations(fleet.election, 1, device.node)),
        lambda: receiver.take(make_revocations(fleet.election, 2)),
    ]
    seen = []
    for step in steps:
        await step()
        await log_all(receiver)
        read = kept.reading.entries
        again = json.loads(json.dumps(await kept.report()))
        assert again == await report_of(receiver) | {"storage": again["storage"]}
        assert kept.reading.entries >= read
        seen.append({flag["flag"] for flag in again["flags"]})
    assert "chain-gap" in seen[0] and "chain-gap" not in seen[1]
    assert "two-statements-in-conflict" in seen[3]
    assert "device-revoked" in seen[4] and "device-revoked" not in seen[5]


async def test_status_is_what_the_report_begins_with(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    await receiver.take(fleet.witnesses(boat))
    status = await describe_receiver(Home(receiver.folder), receiver.member, receiver.custody)
    assert status["log"]["origin"] == "test-2024/receiver"
    assert (status["running"], status["named_by_notice"], status["log"]["cosigned_by"]) == (False, True, [])
    report = await report_of(receiver)
    for document in (status, report):
        del document["storage"]["bytes_free"]  # others use the disk, too
    assert {key: value for key, value in report.items() if key in status} == status


async def test_what_is_printed(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    device = await fleet.launch("pulau")
    await receiver.take(make_statement(fleet.election, device.node))
    await log_all(receiver)
    document = await report_of(receiver)
    rows = list(csv.DictReader(StringIO(reporting._csv(document))))
    assert len(rows) == 6
    assert (rows[0]["tps"], rows[0]["state"], rows[0]["entry"]) == ("tps-1", "arrived", "0")
    assert rows[1]["state"] == "missing" and rows[1]["entry"] == ""
    text = "\n".join(reporting._report_lines(document))
    assert "0 of 3 complete, 1 begun, 2 missing" in text
    assert "missing (3)" in text, "a line for each station"
    assert "tps-3 (Desa 3, Membalong, Pulau Batun): form-1 missing, form-2 missing" in text


def test_a_clock_that_no_calendar_has_ends_no_report() -> None:
    node = {"node": "kp-anis", "role": "operator", "last_visit": None, "statements": 1, "newest_entry": 0}
    assert str(2**61) in reporting._node({**node, "newest_claim": 2**61})
