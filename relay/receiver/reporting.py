"""The administrator's reports: how the receiver is (`status`), and what has arrived and what has not (`report`).

Both only read, and may run beside the daemon. Lives here: gathering from the store, and the sums. Does not live here:
which statement stands and what does not add up (`results`), gaps and forks (`chains`), and how a report is shown.

A report reads every statement of the log once and keeps a few numbers of each, so that it can be made of a whole
country's election on the receiver itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from relay.errors import NotHeld
from relay.limits import LOG_BATCH, MAX_RECORD
from relay.node.health import bytes_free
from relay.node.home import Home, Member
from relay.receiver.chains import Fork, Gap, Link, findings, link_of
from relay.receiver.results import Logged, Result, Standing, judge
from relay.records.identifiers import NodeId, sha256
from relay.records.statement import Statement, read_statement
from relay.store.interface import State, Store
from relay.sync.alarm import read_alarms
from relay.sync.custody import Custody
from relay.trust.certificates import Identity, read_certificate
from relay.trust.witness import SignedCheckpoint

Document = dict[str, Any]
_Form = tuple[str, str]
"""A polling station and a form."""


async def describe_receiver(home: Home, member: Member, custody: Custody) -> Document:
    """How the receiver is, at a glance and at little cost: log, witnesses, storage, alarms, revocations."""
    store = custody.store
    state = await store.log_state()
    counts = await store.counts()
    signed = _own_checkpoint(custody, member)
    return {
        "receiver": member.identity.name,
        "election": member.identity.election,
        "running": home.daemon_runs(),
        "log": {
            "origin": f"{member.identity.election}/{member.identity.name}",
            "size": state.size,
            "root": signed.checkpoint.root.hex() if signed else None,
            "cosigned_by": [one.name for one in signed.note.signatures[1:]] if signed else [],
        },
        "named_by_notice": member.identity.name in [one.name for one in custody.admission.receivers],
        "under_way": {"partial": counts.partial, "complete_not_logged": counts.waiting},
        "stations_in_register": len(custody.admission.stations),
        "storage": {"bytes_held": counts.bytes_held, "bytes_free": bytes_free(home.path)},
        "revoked": sorted(one.name for one in custody.admission.revoked.values()),
        "alarms": [one["what"] for one in read_alarms(await store.notes())],
    }


@dataclass(slots=True)
class _Signer:
    """What is known of a device by the records that it signed."""

    name: str
    statements: int = 0
    newest_entry: int | None = None
    newest_claim: int = 0


@dataclass(slots=True)
class _Gathered:
    """What one reading of the log keeps: the entries of each form, judged at once where there is only one."""

    entries: dict[_Form, list[int]] = field(default_factory=lambda: defaultdict(list))
    results: dict[_Form, Result] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    signers: dict[NodeId, _Signer] = field(default_factory=dict)
    under_way: list[Document] = field(default_factory=list)


class Reporter:
    """Makes the report of one receiver."""

    def __init__(self, home: Home, member: Member, custody: Custody) -> None:
        self._home = home
        self._member = member
        self._custody = custody
        self._identities: dict[bytes, Identity] = {}

    async def report(self) -> Document:
        """Stations, corrections, conflicts, flags, chains, nodes, revocations, storage, as one JSON document."""
        gathered = await self._gather()
        status = await describe_receiver(self._home, self._member, self._custody)
        forms = list(self._rows(gathered))
        return {
            **status,
            "summary": _summary(forms, self._custody.admission.forms),
            "forms": forms,
            "corrections": [one for result in _ordered(gathered.results) for one in _corrections(result)],
            "conflicts": [
                {"tps": result.tps, "form": result.form, "statements": [one.id.hex() for one in result.standing]}
                for result in _ordered(gathered.results)
                if any(standing is Standing.CONFLICT for _, standing in result.statements)
            ],
            "flags": [
                {"tps": result.tps, "form": result.form, **flag.to_map()}
                for result in _ordered(gathered.results)
                for flag in result.flags
            ],
            "chains": [_finding(one, gathered.signers) for one in findings(gathered.links)],
            "under_way_packages": gathered.under_way,
            "nodes": await self._nodes(gathered),
            "revocations": [
                {
                    "node": one.name,
                    "node_id": one.node.hex(),
                    "reason": one.reason,
                    "statements": gathered.signers[one.node].statements if one.node in gathered.signers else 0,
                }
                for one in sorted(self._custody.admission.revoked.values(), key=lambda one: one.name)
            ],
        }

    # -- gathering
    async def _gather(self) -> _Gathered:
        gathered = _Gathered()
        async for entry, raw in _log(self._custody.store):
            logged = self._take(gathered, raw, entry)
            form = (logged.tps, logged.form)
            gathered.entries[form].append(entry)
            if len(gathered.entries[form]) == 1:
                gathered.results[form] = self._judge([logged])
        for form, entries in gathered.entries.items():
            if len(entries) > 1:
                again = [(entry, await self._custody.store.log_statements(entry, 1)) for entry in entries]
                gathered.results[form] = self._judge([self._logged(read_statement(raw), n) for n, (raw,) in again])
        await self._gather_under_way(gathered)
        return gathered

    async def _gather_under_way(self, gathered: _Gathered) -> None:
        """Statements that came and have no entry yet: they are links of their chains already."""
        store = self._custody.store
        for bundle in await store.bundles():
            if bundle.state is State.DELIVERED:
                continue
            for _, _, raw in await store.read([bundle.id], MAX_RECORD):
                self._take(gathered, raw, None)
            gathered.under_way.append(
                {
                    "statement": bundle.id.hex(),
                    "tps": bundle.tps,
                    "form": bundle.form,
                    "device": bundle.device,
                    "state": str(bundle.state),
                    "bytes": bundle.size,
                    "bytes_held": bundle.held,
                }
            )

    def _take(self, gathered: _Gathered, raw: bytes, entry: int | None) -> Logged:
        statement = read_statement(raw)
        logged = self._logged(statement, -1 if entry is None else entry)
        gathered.links.append(link_of(statement, logged.node))
        signer = gathered.signers.setdefault(logged.node, _Signer(logged.device))
        signer.statements += 1
        signer.newest_entry = signer.newest_entry if entry is None else entry
        signer.newest_claim = max(signer.newest_claim, logged.captured_at)
        return logged

    def _logged(self, statement: Statement, entry: int) -> Logged:
        certificate = statement.envelope.certificate
        identity = self._identities.get(sha256(certificate))
        if identity is None:
            # What the store holds was admitted: its signer is whom the certificate names, revoked since or not.
            identity = self._identities[sha256(certificate)] = read_certificate(certificate)
        return Logged.of(statement, identity.name, identity.node, entry, None)

    def _judge(self, logged: list[Logged]) -> Result:
        admission = self._custody.admission
        station = admission.stations.get(logged[0].tps)
        return judge(logged, station, frozenset(admission.forms), (), frozenset(admission.revoked))

    # -- what is told
    def _rows(self, gathered: _Gathered) -> Iterator[Document]:
        """Each form that a station of the register returns, and each that came from elsewhere."""
        admission = self._custody.admission
        under_way = {(one["tps"], one["form"]): one["state"] for one in gathered.under_way}
        expected = {(tps, form): None for tps in sorted(admission.stations) for form in admission.forms}
        for tps, form in expected | dict.fromkeys(sorted(gathered.results)):
            station = admission.stations.get(tps)
            result = gathered.results.get((tps, form))
            newest = result.standing[-1] if result else None
            yield {
                "tps": tps,
                "village": station.village if station else "",
                "district": station.district if station else "",
                "island": station.island if station else "",
                "form": form,
                "state": _state(result)
                if result
                else f"under way, {under_way[tps, form]}"
                if (tps, form) in under_way
                else "missing",
                "entry": newest.entry if newest else None,
                "statement": newest.id.hex() if newest else None,
                "device": newest.device if newest else None,
                "flags": sorted({flag.name for flag in result.flags}) if result else [],
            }

    async def _nodes(self, gathered: _Gathered) -> list[Document]:
        """Nodes that came here, and those whose records others brought. Times are this receiver's clock, and claims."""
        nodes: dict[NodeId, Document] = {}
        for node, signer in gathered.signers.items():
            nodes[node] = _node(node, signer.name, "operator", signer)
        for peer in await self._custody.store.peers():
            told = nodes.setdefault(peer.node, _node(peer.node, peer.name, peer.role, None))
            told |= {"last_visit": peer.last_seen, "bytes_brought": peer.bytes_in}
        return sorted(nodes.values(), key=lambda one: (one["role"], one["node"]))


def _node(node: NodeId, name: str, role: str, signer: _Signer | None) -> Document:
    return {
        "node": name,
        "node_id": node.hex(),
        "role": role,
        "statements": signer.statements if signer else 0,
        "newest_entry": signer.newest_entry if signer else None,
        "newest_claim": signer.newest_claim if signer else None,
        "last_visit": None,
        "bytes_brought": 0,
    }


async def _log(store: Store) -> AsyncIterator[tuple[int, bytes]]:
    size = (await store.log_state()).size
    for first in range(0, size, LOG_BATCH):
        count = min(LOG_BATCH, size - first)
        raws = await store.log_statements(first, count)
        if len(raws) != count:
            raise NotHeld(f"Entries {first} to {first + count - 1} are not all in the store", "Restore its backup.")
        for entry, raw in enumerate(raws, first):
            yield entry, raw


def _own_checkpoint(custody: Custody, member: Member) -> SignedCheckpoint | None:
    return custody.admission.checkpoints.get(f"{member.identity.election}/{member.identity.name}")


def _ordered(results: dict[_Form, Result]) -> list[Result]:
    return [results[form] for form in sorted(results)]


def _state(result: Result) -> str:
    if any(standing is Standing.CONFLICT for _, standing in result.statements):
        return "conflict"
    return "corrected" if result.corrected else "arrived"


def _corrections(result: Result) -> Iterator[Document]:
    for one, _ in result.statements:
        if one.supersedes is not None:
            yield {
                "tps": one.tps,
                "form": one.form,
                "statement": one.id.hex(),
                "supersedes": one.supersedes.hex(),
                "entry": one.entry,
                "device": one.device,
                "reason": one.reason,
            }


def _finding(found: Gap | Fork, signers: dict[NodeId, _Signer]) -> Document:
    device = {"device": signers[found.node].name, "node_id": found.node.hex()}
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
