"""What nodes tell Prometheus, the alerts made of it, and the log for programs."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from relay.cli.logs import JsonLines
from relay.errors import StoreError
from relay.node.home import Home
from relay.node.measures import Measures
from relay.node.metrics import OUTCOMES, metrics
from relay.node.room import disk_size, memory_limit
from relay.records.identifiers import Kind
from tests.factory import ELECTION, make_file, make_statement, object_of
from tests.fleet import Fleet, Ship

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OF_IT = f"{{election={ELECTION}}}"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()


async def told(ship: Ship, measures: Measures | None = None) -> dict[str, float]:
    """The samples of a node, by name and labels."""
    text = (await metrics(Home(ship.folder), ship.member, ship.custody, measures)).decode()
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            samples[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return samples


async def test_a_boat_tells_what_it_carries_and_what_it_refused(fleet: Fleet) -> None:
    boat, device = await fleet.carrier("km-bahari"), await fleet.launch("pulau")
    statement = make_statement(fleet.election, device.node, make_file(fleet.content()))
    forged = statement.raw[:-1] + bytes([statement.raw[-1] ^ 1])
    await boat.custody.take([(Kind.STATEMENT, statement.raw), (Kind.STATEMENT, forged), (Kind.STATEMENT, b"x")])
    await boat.custody.take([(Kind.STATEMENT, statement.raw)])
    samples = await told(boat)
    assert samples["relay_bundles{state=partial}"] == 1
    outcomes = {name: value for name, value in samples.items() if name.startswith("relay_records_total{kind=statement")}
    assert {name: value for name, value in outcomes.items() if value} == {
        f"relay_records_total{{kind=statement,outcome={outcome}}}": 1
        for outcome in ("new", "known", "bad-signature", "malformed")
    }
    assert samples["relay_store_bytes_free"] > 0
    assert not any(name.startswith("relay_log_entries") for name in samples) and "relay_uplink_reachable" not in samples


async def test_what_may_become_of_records_is_counted_from_0_on(fleet: Fleet) -> None:
    """Prometheus sees no increase in a counter that first shows at 40."""
    samples = await told(await fleet.carrier("km-bahari"))
    for kind in ("notice", "checkpoint", "receipt", "statement"):
        for outcome in OUTCOMES:
            assert samples[f"relay_records_total{{kind={kind},outcome={outcome}}}"] == 0


def test_every_reason_to_refuse_a_record_is_counted_from_0_on() -> None:
    named = {"REVOKED": "revoked", "SPLIT_VIEW": "split-view", "UNASKED": "unasked"}
    judges = ("trust/admission", "trust/certificates", "trust/witness", "records/cose", "log/note", "sync/custody")
    reasons: set[str] = set()
    for judge in judges:
        source = (ROOT / "relay" / f"{judge}.py").read_text()
        for literal, name in re.findall(r'\bRefused\(\s*(?:"([a-z-]+)"|([A-Z_]+))', source):
            reasons.add(literal or named[name])
    assert "bad-signature" in reasons and "foreign-tps" in reasons
    assert reasons <= set(OUTCOMES)


def test_the_limit_of_memory_is_the_least_of_the_units_and_the_machines(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    proc, slice_ = tmp_path / "cgroup", tmp_path / "groups" / "system.slice"
    unit = slice_ / "relay-receiver.service"
    unit.mkdir(parents=True)
    proc.write_text("12:memory:/old\n0::/system.slice/relay-receiver.service\n")

    def limit() -> int:
        return memory_limit(proc, tmp_path / "groups")

    assert limit() == machine
    (unit / "memory.high").write_text("max\n")
    assert limit() == machine
    (unit / "memory.max").write_text("2097152\n")
    assert limit() == 2_097_152
    (unit / "memory.high").write_text("1572864\n")
    assert limit() == 1_572_864
    (slice_ / "memory.max").write_text("1048576\n")
    assert limit() == 1_048_576, "what a slice allows, all units of it share"
    (slice_ / "memory.max").write_text(f"{2 * machine}\n")
    for name in ("memory.high", "memory.max"):
        (unit / name).write_text(f"{2 * machine}\n")
    assert limit() == machine
    proc.unlink()
    assert limit() == machine


async def test_what_cannot_be_read_is_told(fleet: Fleet) -> None:
    device, content = await fleet.launch("pulau"), fleet.content()
    await device.submit(content)
    assert (await told(device))["relay_store_unreadable_objects"] == 0
    path = await device.store.object_path(object_of(content))
    assert path is not None
    path.unlink()
    await device.store.read_chunk(object_of(content), 0)
    assert (await told(device))["relay_store_unreadable_objects"] == 1


async def test_the_disk_is_told_with_what_is_free_of_it(fleet: Fleet) -> None:
    boat = await fleet.carrier("km-bahari")
    samples = await told(boat)
    assert samples["relay_store_disk_bytes"] == disk_size(boat.folder) > samples["relay_store_bytes_free"] > 0


async def test_a_receiver_tells_of_its_log(fleet: Fleet) -> None:
    receiver, device = await fleet.receiver(), await fleet.launch("pulau")
    await receiver.take(make_statement(fleet.election, device.node))
    assert (await told(receiver))["relay_bundles{state=waiting}"] == 1
    assert receiver.log is not None
    await receiver.log.sequencer.sequence()
    samples = await told(receiver)
    assert (samples[f"relay_log_entries{OF_IT}"], samples[f"relay_log_cosignatures{OF_IT}"]) == (1, 0)
    assert samples["relay_bundles{state=delivered}"] == 1


async def test_a_receiver_tells_of_its_own_work(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    measures = Measures(leads=True, published=7, site=5)
    for seconds in (0.05, 0.4, 99):
        measures.receipts.note(seconds)
    samples = await told(receiver, measures)
    assert samples[f"relay_receiver_leads{OF_IT}"] == 1
    assert (samples[f"relay_log_published_entries{OF_IT}"], samples[f"relay_site_entries{OF_IT}"]) == (7, 5)
    assert [samples[f"relay_receipt_seconds_bucket{{le={le}}}"] for le in ("0.1", "0.25", "0.5", "30.0", "+Inf")] == [
        *(1, 1, 2, 2, 3)
    ]
    measures.leads = False
    samples = await told(receiver, measures)
    assert samples[f"relay_receiver_leads{OF_IT}"] == 0
    assert f"relay_log_published_entries{OF_IT}" not in samples


async def test_a_store_that_is_away_is_told_of(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = await fleet.receiver()
    assert (await told(receiver))["relay_store_reachable"] == 1

    async def away() -> None:
        raise StoreError("The database is away", "Wait.")

    monkeypatch.setattr(receiver.store, "counts", away)
    samples = await told(receiver, Measures())
    assert samples["relay_store_reachable"] == 0
    assert samples[f"relay_receiver_leads{OF_IT}"] == 0
    assert samples["relay_memory_limit_bytes"] > 0
    assert "process_resident_memory_bytes" in samples


async def test_nothing_global_is_kept(fleet: Fleet) -> None:
    boat = await fleet.carrier("km-bahari")
    before = {family.name for family in REGISTRY.collect()}
    await told(boat)
    await told(boat)
    assert {family.name for family in REGISTRY.collect()} == before
    assert not any(name.startswith("relay") for name in before)


async def test_alerts_and_docs_speak_of_metrics_that_there_are(fleet: Fleet) -> None:
    receiver, device = await fleet.receiver(), await fleet.launch("pulau")
    await device.submit(fleet.content())
    await device.visit(receiver)
    await device.store.set_note("uplink", json.dumps({"url": "https://receiver", "reachable": False}))
    measures = Measures(leads=True)
    names = {re.sub(r"\{.*", "", name) for ship in (receiver, device) for name in await told(ship, measures)}
    names |= {name.removesuffix("_bucket") for name in names}
    names.add("relay_store_failures_total")  # of a shared store: tests/cluster/test_store.py
    for file in ("alerts.rules.yml", "monitoring.md"):
        spoken = set(re.findall(r"\b(?:relay_[a-z_]+|process_[a-z_]+)\b", (DOCS / file).read_text()))
        absent = {name for name in spoken - names if not name.endswith("_") and "last_seen" not in name}
        assert absent == set(), f"{file} speaks of {absent}"


def test_the_alerts_are_rules_that_prometheus_takes() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    for command, file in (("check", "alerts.rules.yml"), ("test", "alerts.tests.yml")):
        done = subprocess.run(
            [promtool, command, "rules", str(DOCS / file)], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_a_line_of_the_log_for_programs() -> None:
    def record(message: str, *values: object, exc_info: object = None) -> logging.LogRecord:
        return logging.LogRecord("relay.x", logging.WARNING, "x.py", 1, message, values, exc_info)  # type: ignore[arg-type]

    line = json.loads(JsonLines().format(record("refused a %s:\n%s", "statement", "é")))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "relay.x", "refused a statement:\né")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    try:
        int("odd")
    except ValueError:
        raised = JsonLines().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in raised
    assert "ValueError: invalid literal" in json.loads(raised)["exception"]
