"""What the log says, read once and kept up to date: of each form what is to be told, of each device its chain.

A `Reading` goes on where it ended, so that whoever looks again pays for what is new only; it can be left between two
batches at any time. What was read is judged as the public site judges it: by the log alone, chain findings and
revocations included. Does not live here: what is under way, and what a report looks like (`relay.receiver.reporting`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.errors import NotHeld
from relay.limits import REPORT_BATCH
from relay.receiver.chains import Finding, Link, findings, link_of
from relay.receiver.results import Flag, Logged, Result, Standing, judge
from relay.receiver.showing import shown_otherwise
from relay.records.identifiers import NodeId, sha256
from relay.records.notice import Station
from relay.records.statement import Statement, read_statement
from relay.sync.custody import Custody
from relay.trust.certificates import Identity, read_certificate

Form = tuple[str, str]
"""A polling station and a form."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a report tells of a form that has arrived. `entry`, `statement`, `device`: of the newest that stands."""

    state: str
    entry: int
    statement: str
    device: str
    flags: tuple[Flag, ...]
    corrections: tuple[dict[str, Any], ...]
    in_conflict: tuple[str, ...]


@dataclass(slots=True)
class Signer:
    """What is known of a device by the records that it signed. `newest_claim` is what its own clock said."""

    name: str
    newest_entry: int | None = None
    newest_claim: int = 0
    chain: list[tuple[Link, Form]] = field(default_factory=list)
    found: tuple[Finding, ...] = ()

    def links(self) -> Iterator[Link]:
        """Its statements in the log."""
        return (link for link, _ in self.chain)


class Reading:
    """The log of one receiver, as far as it was read."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self._identities: dict[bytes, Identity] = {}
        self._begin(custody.admission.stations, custody.admission.forms)

    def _begin(self, stations: Mapping[str, Station], forms: tuple[str, ...]) -> None:
        self.entries = 0
        """How many entries were read."""
        self.told: dict[Form, Told] = {}
        self.signers: dict[NodeId, Signer] = {}
        self._entries: dict[Form, list[int]] = defaultdict(list)
        self._revoked: frozenset[NodeId] = frozenset()
        self._register = stations, forms

    async def follow(self) -> int:
        """Read up to the log's end; how many entries it has. Raises `NotHeld`, `StoreError`."""
        admission = self._custody.admission
        if self._register != (admission.stations, admission.forms):
            self._begin(admission.stations, admission.forms)
        try:
            size = (await self._custody.store.log_state()).size
            await self._follow_revocations(frozenset(admission.revoked))
            while self.entries < size:
                await self._read(min(REPORT_BATCH, size - self.entries))
        except BaseException:
            self._begin(admission.stations, admission.forms)  # a batch may have been taken in by half
            raise
        return size

    def logged(self, statement: Statement, entry: int) -> Logged:
        """A statement of this receiver's store, with its signer."""
        certificate = statement.envelope.certificate
        key = sha256(certificate)
        if key not in self._identities:
            # What the store holds was admitted: its signer is whom the certificate names, revoked since or not.
            self._identities[key] = read_certificate(certificate)
        identity = self._identities[key]
        return Logged.of(statement, identity.name, identity.node, entry, None)

    async def _read(self, count: int) -> None:
        raws = await self._custody.store.log_statements(self.entries, count)
        if len(raws) != count:
            last = self.entries + count - 1
            raise NotHeld(f"Entries {self.entries} to {last} are not all in the store", "Restore its backup.")
        batch: dict[int, Logged] = {}
        for entry, raw in enumerate(raws, self.entries):
            statement = read_statement(raw)
            batch[entry] = logged = self.logged(statement, entry)
            form = (logged.tps, logged.form)
            self._entries[form].append(entry)
            signer = self.signers.setdefault(logged.node, Signer(logged.device))
            signer.chain.append((link_of(statement, logged.node), form))
            signer.newest_entry = entry
            signer.newest_claim = max(signer.newest_claim, logged.captured_at)
        forms = dict.fromkeys((one.tps, one.form) for one in batch.values())
        for node in dict.fromkeys(one.node for one in batch.values()):
            forms |= dict.fromkeys(self._follow_chain(self.signers[node]))
        await self._judge(forms, batch)
        self.entries += count

    def _follow_chain(self, signer: Signer) -> list[Form]:
        """Look for gaps and forks again; the forms at which something shows that did not, or no longer does."""
        before, signer.found = signer.found, tuple(findings(signer.links()))
        forms = {link.id: form for link, form in signer.chain}
        return [forms[link.id] for link in shown_otherwise(signer.links(), before, signer.found)]

    async def _follow_revocations(self, revoked: frozenset[NodeId]) -> None:
        changed = [self.signers[node].chain for node in revoked ^ self._revoked if node in self.signers]
        self._revoked = revoked
        await self._judge(dict.fromkeys(form for chain in changed for _, form in chain), {})

    async def _judge(self, forms: Iterable[Form], batch: Mapping[int, Logged]) -> None:
        """Judge these forms. `batch` are entries at hand; others are read again."""
        store, admission = self._custody.store, self._custody.admission
        for form in forms:
            logged = []
            for entry in self._entries[form]:
                if entry in batch:
                    logged.append(batch[entry])
                    continue
                (raw,) = await store.log_statements(entry, 1)
                logged.append(self.logged(read_statement(raw), entry))
            nodes = dict.fromkeys(one.node for one in logged)
            chains = [found for node in nodes for found in self.signers[node].found]
            station = admission.stations.get(form[0])
            self.told[form] = _told(judge(logged, station, frozenset(admission.forms), chains, self._revoked))


def _told(result: Result) -> Told:
    newest = result.standing[-1]
    conflict = any(standing is Standing.CONFLICT for _, standing in result.statements)
    return Told(
        state="conflict" if conflict else "corrected" if result.corrected else "arrived",
        entry=newest.entry,
        statement=newest.id.hex(),
        device=newest.device,
        flags=result.flags,
        corrections=tuple(_corrections(result)),
        in_conflict=tuple(one.id.hex() for one in result.standing) if conflict else (),
    )


def _corrections(result: Result) -> Iterator[dict[str, Any]]:
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
