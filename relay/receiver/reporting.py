"""The administrator's report: how the receiver is, what has arrived and what has not, and every reason to look twice.

It only reads, and may run beside the daemon. One document is all there is: `relay receiver status --json` and
`report --json` print it, and the administrator's page shows it. Lives here: what is under way, who was seen, and the
sums. Does not live here: what the log says (`reading`), and how a report is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.limits import MAX_RECORD
from relay.node.health import bytes_free
from relay.node.home import Home, Member
from relay.receiver.chains import Fork, Gap, Link, findings, link_of
from relay.receiver.reading import Reading
from relay.receiver.results import Logged
from relay.records.identifiers import NodeId
from relay.records.statement import read_statement
from relay.store.listing import undelivered
from relay.sync.alarm import read_alarms
from relay.sync.custody import Custody

Document = dict[str, Any]


async def describe_receiver(home: Home, member: Member, custody: Custody) -> Document:
    """How the receiver is, at a glance and at little cost: log, witnesses, storage, alarms, revocations."""
    store = custody.store
    state = await store.log_state()
    counts = await store.counts()
    origin = f"{member.identity.election}/{member.identity.name}"
    signed, cosigned = custody.admission.checkpoints.get(origin), custody.admission.cosigned.get(origin)
    return {
        "receiver": member.identity.name,
        "election": member.identity.election,
        "running": home.daemon_runs(),
        "log": {
            "origin": origin,
            "size": state.size,
            "root": signed.checkpoint.root.hex() if signed else None,
            "cosigned_by": list(cosigned.cosigned_by) if cosigned else [],
            "cosigned_entries": cosigned.checkpoint.size if cosigned else 0,
        },
        "named_by_notice": member.identity.name in [one.name for one in custody.admission.receivers],
        "under_way": {"partial": counts.partial, "complete_not_logged": counts.waiting},
        "stations_in_register": len(custody.admission.stations),
        "storage": {"bytes_held": counts.bytes_held, "bytes_free": bytes_free(home.path)},
        "revoked": sorted(one.name for one in custody.admission.revoked.values()),
        "alarms": [one["what"] for one in read_alarms(await store.notes())],
    }


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A package that came and has no entry yet, and what is told of it."""

    logged: Logged
    link: Link
    told: Document


class Reporter:
    """Makes the report of one receiver."""

    def __init__(self, home: Home, member: Member, custody: Custody) -> None:
        self._home = home
        self._member = member
        self._custody = custody
        self.reading = Reading(custody)

    async def report(self) -> Document:
        """Stations, corrections, conflicts, flags, chains, nodes, revocations, storage, as one JSON document.

        Asked again, it reads what is new in the log only.
        """
        await self.reading.follow()
        way = await self._under_way()
        status = await describe_receiver(self._home, self._member, self._custody)
        told = [(form, self.reading.told[form]) for form in sorted(self.reading.told)]
        rows = list(self._rows(way))
        return {
            **status,
            "summary": _summary(rows, self._custody.admission.forms),
            "forms": rows,
            "corrections": [one for _, form in told for one in form.corrections],
            "conflicts": [
                {"tps": tps, "form": form, "statements": list(one.in_conflict)}
                for (tps, form), one in told
                if one.in_conflict
            ],
            "flags": [{"tps": tps, "form": form, **flag.to_map()} for (tps, form), one in told for flag in one.flags],
            "chains": list(self._chains(way)),
            "under_way_packages": [one.told for one in way],
            "nodes": await self._nodes(way),
            "revocations": [
                {
                    "node": one.name,
                    "node_id": one.node.hex(),
                    "reason": one.reason,
                    "statements": len(self.reading.signers[one.node].chain) if one.node in self.reading.signers else 0,
                    "withheld": sum(package.logged.node == one.node for package in way),
                }
                for one in sorted(self._custody.admission.revoked.values(), key=lambda one: one.name)
            ],
        }

    async def forks(self) -> list[Document]:
        """Devices whose key was used twice, as the report tells of them: for whoever asks for nothing else."""
        await self.reading.follow()
        return [one for one in self._chains(await self._under_way()) if one["kind"] == "fork"]

    # -- gathering
    async def _under_way(self) -> list[_UnderWay]:
        """Statements that came and have no entry yet. Those of revoked signers are here, too, and stay here."""
        store, revoked = self._custody.store, self._custody.admission.revoked
        found: list[_UnderWay] = []
        async for bundle in undelivered(store):
            for _, _, raw in await store.read([bundle.id], MAX_RECORD):
                statement = read_statement(raw)
                logged = self.reading.logged(statement, -1)
                told = {
                    "statement": bundle.id.hex(),
                    "tps": bundle.tps,
                    "form": bundle.form,
                    "device": bundle.device,
                    "state": "withheld" if bundle.node in revoked else str(bundle.state),
                    "bytes": bundle.size,
                    "bytes_held": bundle.held,
                }
                found.append(_UnderWay(logged, link_of(statement, logged.node), told))
        return found

    # -- what is told
    def _rows(self, way: list[_UnderWay]) -> Iterator[Document]:
        """Each form that a station of the register returns, and each that came from elsewhere."""
        admission, arrived = self._custody.admission, self.reading.told
        under_way = {(one.logged.tps, one.logged.form): one.told["state"] for one in way}
        expected = {(tps, form): None for tps in sorted(admission.stations) for form in admission.forms}
        for tps, form in expected | dict.fromkeys(sorted(arrived)):
            station, told = admission.stations.get(tps), arrived.get((tps, form))
            state = under_way.get((tps, form))
            yield {
                "tps": tps,
                "number": station.number if station else None,
                "village": station.village if station else "",
                "district": station.district if station else "",
                "island": station.island if station else "",
                "form": form,
                "state": told.state if told else f"under way, {state}" if state else "missing",
                "entry": told.entry if told else None,
                "statement": told.statement if told else None,
                "device": told.device if told else None,
                "flags": sorted({flag.label for flag in told.flags}) if told else [],
            }

    def _chains(self, way: list[_UnderWay]) -> Iterator[Document]:
        """Gaps and forks of the log; what came and has no entry yet is no gap."""
        signers, coming = self.reading.signers, _by_node(way)
        for node in sorted(signers.keys() | coming.keys()):
            signer, new = signers.get(node), coming.get(node, [])
            links = [*(signer.links() if signer else ()), *(one.link for one in new)]
            name = signer.name if signer else new[0].logged.device
            for found in findings(links) if new or signer is None else signer.found:
                yield _finding(found, name)

    async def _nodes(self, way: list[_UnderWay]) -> list[Document]:
        """Nodes that came here, and those whose records others brought. Times are this receiver's clock, and claims."""
        nodes: dict[NodeId, Document] = {}
        coming = _by_node(way)
        for node in self.reading.signers.keys() | coming.keys():
            signer, new = self.reading.signers.get(node), [one.logged for one in coming.get(node, [])]
            claims = [one.captured_at for one in new] + ([signer.newest_claim] if signer else [])
            nodes[node] = _node(node, signer.name if signer else new[0].device, "operator") | {
                "statements": len(new) + (len(signer.chain) if signer else 0),
                "newest_entry": signer.newest_entry if signer else None,
                "newest_claim": max(claims),
            }
        for peer in await self._custody.store.peers():
            told = nodes.setdefault(peer.node, _node(peer.node, peer.name, peer.role))
            told["last_visit"] = peer.last_seen
        return sorted(nodes.values(), key=lambda one: (one["role"], one["node"]))


def _by_node(way: list[_UnderWay]) -> dict[NodeId, list[_UnderWay]]:
    nodes: dict[NodeId, list[_UnderWay]] = {}
    for one in way:
        nodes.setdefault(one.logged.node, []).append(one)
    return nodes


def _node(node: NodeId, name: str, role: str) -> Document:
    return {
        "node": name,
        "node_id": node.hex(),
        "role": role,
        "statements": 0,
        "newest_entry": None,
        "newest_claim": None,
        "last_visit": None,
    }


def _finding(found: Gap | Fork, name: str) -> Document:
    device = {"device": name, "node_id": found.node.hex()}
    if isinstance(found, Gap):
        named = [one.hex() for one in found.named]
        return {"kind": "gap", **device, "first": found.first, "last": found.last, "named": named}
    held, named = [one.hex() for one in found.held], [one.hex() for one in found.named]
    return {"kind": "fork", **device, "seq": found.seq, "held": held, "named": named}


def _summary(rows: list[Document], forms: tuple[str, ...]) -> Document:
    """How many stations of the register returned all their forms, some, none; how many forms came."""
    came: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        if row["district"] and (not forms or row["form"] in forms):
            came[row["tps"]].append(row["entry"] is not None)
    complete = sum(all(one) for one in came.values())
    some = sum(any(one) for one in came.values())
    return {
        "stations": len(came),
        "stations_complete": complete,
        "stations_begun": some - complete,
        "stations_missing": len(came) - some,
        "forms": sum(len(one) for one in came.values()),
        "forms_arrived": sum(sum(one) for one in came.values()),
        "flagged": sum(bool(row["flags"]) for row in rows),
    }
