"""What a node tells Prometheus: its state at the moment it is asked, in the text format.

A registry of its own is made for each answer, out of what the store and the daemon know anyway; nothing is counted for
its own sake, and nothing global is kept. docs/monitoring.md lists the names; docs/alerts.rules.yml uses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from relay import __version__
from relay.node.home import Home, Member
from relay.node.report import describe_node
from relay.sync.custody import Custody
from relay.trust.roles import Role

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(home: Home, member: Member, custody: Custody) -> bytes:
    """The node's metrics, in Prometheus's text format."""
    node = await describe_node(home, member, custody)
    families = [*_of_node(node, custody), *_of_carrying(node)]
    if member.identity.role is Role.RECEIVER:
        families += _of_log(custody, member, (await custody.store.log_state()).size)
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_Ready(families))
    return generate_latest(registry)


class _Ready:
    """A collector of what is known already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield from self._families


def _of_node(node: Mapping[str, Any], custody: Custody) -> Iterator[Metric]:
    who = {name: str(node[name]) for name in ("node", "role", "election")}
    yield InfoMetricFamily("relay_node", "Which node this is.", value={**who, "version": __version__})
    yield _gauge("relay_alarms", "Alarms in force: proofs that a receiver misbehaves.", len(node["alarms"]))
    yield _gauge("relay_store_bytes_held", "Bytes of objects held.", node["bytes_held"])
    yield _gauge("relay_store_bytes_free", "Bytes free on the store's disk.", node["bytes_free"])
    yield _gauge("relay_revoked_nodes", "Nodes whose keys are not believed.", len(node["revoked"]))
    taken = CounterMetricFamily(
        "relay_records",
        "Records that came, by what became of them, since the daemon started.",
        labels=["kind", "outcome"],
    )
    for (kind, outcome), count in sorted(custody.verdicts.items()):
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


def _of_log(custody: Custody, member: Member, size: int) -> Iterator[Metric]:
    identity = member.identity
    signed = custody.admission.checkpoints.get(f"{identity.election}/{identity.name}")
    cosigned = len(signed.note.signatures) - 1 if signed else 0
    yield _gauge("relay_log_entries", "Entries in the log.", size)
    yield _gauge("relay_log_cosignatures", "Witnesses that cosigned the newest checkpoint.", cosigned)
    yield _gauge("relay_register_stations", "Polling stations in the register.", len(custody.admission.stations))


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=float(value))
