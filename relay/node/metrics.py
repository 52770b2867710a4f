"""What a node tells Prometheus: its state at the moment it is asked, in the text format.

A registry of its own is made for each answer, out of what the store and the daemon know anyway. Nothing is counted for
its own sake but what became of records (`Custody.verdicts`), and nothing global is kept. docs/monitoring.md lists the
names; docs/alerts.rules.yml uses them.

What is of a log has its election as a label: a drill and the real election, one after the other at the same address or
side by side, are two logs. A counter stands at 0 before it counts: of one that first shows at 40, Prometheus sees no
increase.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from relay import __version__
from relay.errors import REVOKED, StoreError
from relay.limits import METRICS_SECONDS
from relay.node.home import Home, Member
from relay.node.measures import BOUNDS, Measures
from relay.node.report import describe_node
from relay.node.room import disk_size, memory_limit
from relay.records.identifiers import Kind
from relay.store.interface import Outcome
from relay.sync.custody import UNASKED, Custody
from relay.trust.roles import Role
from relay.trust.witness import SPLIT_VIEW

OUTCOMES = (
    *map(str, Outcome),
    *("malformed", UNASKED, REVOKED, SPLIT_VIEW, "bad-signature", "unsigned-note", "unknown-log", "unknown-form"),
    *("foreign-certificate", "foreign-election", "foreign-log", "foreign-tps"),
    *("wrong-issuer", "wrong-leaf", "wrong-role"),
)
"""What may become of a record: see `Verdict.word`."""
_REACHABLE = "Whether the store answers."
_LIMIT = "Memory that this process may take: the least of its unit's limits and the machine's memory."
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(home: Home, member: Member, custody: Custody, measures: Measures | None = None) -> bytes:
    """The node's metrics, in Prometheus's text format. Without its store it tells of that, and what it knows itself."""
    election = member.identity.election
    families = [*_of_store(custody), _gauge("relay_memory_limit_bytes", _LIMIT, memory_limit())]
    try:
        async with asyncio.timeout(METRICS_SECONDS):
            families += await _of_all_that_is_stored(home, member, custody)
    except (StoreError, TimeoutError):
        families.append(_gauge("relay_store_reachable", _REACHABLE, 0))
    if measures is not None:
        families += _of_receiving(measures, election)
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_Ready(families))
    return generate_latest(registry)


async def _of_all_that_is_stored(home: Home, member: Member, custody: Custody) -> list[Metric]:
    node = await describe_node(home, member, custody)
    families = [*_of_node(home, node, custody), *_of_carrying(node), _gauge("relay_store_reachable", _REACHABLE, 1)]
    if member.identity.role is Role.RECEIVER:
        families += _of_log(custody, member, (await custody.store.log_state()).size)
    return families


class _Ready:
    """A collector of what is known already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield from self._families


def _of_node(home: Home, node: Mapping[str, Any], custody: Custody) -> Iterator[Metric]:
    who = {name: str(node[name]) for name in ("node", "role", "election")}
    yield InfoMetricFamily("relay_node", "Which node this is.", value={**who, "version": __version__})
    yield _gauge("relay_alarms", "Alarms in force: proofs that a receiver misbehaves.", len(node["alarms"]))
    yield _gauge("relay_store_bytes_held", "Bytes of objects held.", node["bytes_held"])
    yield _gauge("relay_torn_chunk_bytes", "Bytes of chunks of which the rest is still to come.", custody.torn.bytes)
    yield _gauge("relay_store_bytes_free", "Bytes free on the store's disk.", node["bytes_free"])
    yield _gauge("relay_store_unreadable_objects", "Objects that the disk does not give.", node["unreadable"])
    yield _gauge("relay_store_disk_bytes", "Bytes of the store's disk.", disk_size(home.path))
    yield _gauge("relay_revoked_nodes", "Nodes whose keys are not believed.", len(node["revoked"]))
    taken = CounterMetricFamily(
        "relay_records",
        "Records that came, by what became of them, since the daemon started.",
        labels=["kind", "outcome"],
    )
    none = {(kind.name.lower(), outcome): 0 for kind in Kind for outcome in OUTCOMES}
    for (kind, outcome), count in sorted({**none, **custody.verdicts}.items()):
        taken.add_metric([kind, outcome], count)
    yield taken


def _of_carrying(node: Mapping[str, Any]) -> Iterator[Metric]:
    bundles = GaugeMetricFamily("relay_bundles", "Bundles on this node.", labels=["state"])
    for state, count in node["counts"].items():
        bundles.add_metric([state], count)
    yield bundles
    connected = [peer for peer in node["peers"] if peer["connected"]]
    yield _gauge("relay_neighbours_in_contact", "Nodes in contact now.", len(connected))
    seen = GaugeMetricFamily(
        "relay_neighbour_last_seen_timestamp_seconds", "When a node was last here.", labels=["neighbour", "role"]
    )
    for peer in node["peers"]:
        seen.add_metric([peer["node"], peer["role"]], peer["last_seen"])
    yield seen
    if node["uplink"] is not None:
        yield _gauge(
            "relay_uplink_reachable", "Whether a receiver was reached when last tried.", node["uplink"]["reachable"]
        )


def _of_store(custody: Custody) -> Iterator[Metric]:
    failures = CounterMetricFamily(
        "relay_store_failures", "Calls that the store's services did not answer as they should.", labels=["service"]
    )
    for service, count in sorted(custody.store.troubles.items()):
        failures.add_metric([service], count)
    yield failures


def _of_receiving(measures: Measures, election: str) -> Iterator[Metric]:
    yield _of_one(election, "relay_receiver_leads", "Whether this receiver sequences and publishes.", measures.leads)
    if measures.leads:
        published, site = "Entries of the log that are published.", "Entries that the public site has taken in."
        yield _of_one(election, "relay_log_published_entries", published, measures.published)
        yield _of_one(election, "relay_site_entries", site, measures.site)
    sums = list(accumulate(measures.receipts.counts))
    bounds = [*map(str, BOUNDS), "+Inf"]
    yield HistogramMetricFamily(
        "relay_receipt_seconds",
        "From the last byte of a package to its receipt: the slowest of each batch.",
        buckets=list(zip(bounds, sums, strict=True)),
        sum_value=measures.receipts.total,
    )


def _of_log(custody: Custody, member: Member, size: int) -> Iterator[Metric]:
    identity = member.identity
    signed = custody.admission.cosigned.get(f"{identity.election}/{identity.name}")
    cosigned = len(signed.cosigned_by) if signed else 0
    covered = signed.checkpoint.size if signed else 0
    witnesses = "Witnesses that cosigned the newest cosigned checkpoint."
    yield _of_one(identity.election, "relay_log_entries", "Entries in the log.", size)
    yield _of_one(identity.election, "relay_log_cosignatures", witnesses, cosigned)
    yield _of_one(identity.election, "relay_log_cosigned_entries", "Entries that a witness cosigned.", covered)
    yield _gauge("relay_register_stations", "Polling stations in the register.", len(custody.admission.stations))


def _of_one(election: str, name: str, what: str, value: float) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, what, labels=["election"])
    gauge.add_metric([election], float(value))
    return gauge


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=float(value))
