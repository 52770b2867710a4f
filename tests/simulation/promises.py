"""What must hold, looked at from outside: the ledger of a run.

The ledger hears what was acknowledged and to whom, and compares it with what lies on the disks: whenever a node starts
again, and at the end. It trusts none of the code that it judges: hashes and Merkle roots are computed anew, and who
signed what it knows from those who signed. Numbers in brackets are those of the promises (docs/reliability.md).
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from relay.limits import JUMP_SECONDS
from relay.log.checkpoint import parse_checkpoint
from relay.log.merkle import leaf_hash
from relay.log.note import parse_note
from relay.node.capture import Submission
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id, statement_id
from relay.records.notice import Revocations, read_notice
from relay.records.receipt import read_receipt
from relay.records.statement import FileEntry, read_statement
from relay.store.interface import State
from tests.factory import ELECTION
from tests.naive_tree import root as naive_root
from tests.simulation.catalogue import Layout, Object, Row
from tests.simulation.company import Company
from tests.simulation.store import hashed, hashed_whole

if TYPE_CHECKING:
    from tests.simulation.ship import Ship

Chunks = dict[tuple[ObjectId, int], tuple[StatementId, ...]]
"""Chunks that a node took, by object and index, and the undelivered packages that needed each of them then."""

MOST_VIOLATIONS = 20


@dataclass
class Ledger:
    """What was promised so far, and every promise that was found broken."""

    company: Company
    violations: list[str] = field(default_factory=list)
    captures: dict[StatementId, bytes] = field(default_factory=dict)
    """Packages that are said to be safe, in their statement's bytes."""
    notices: set[RecordId] = field(default_factory=set)
    safe: dict[str, dict[StatementId, None]] = field(default_factory=dict)
    """Own packages of which each device said that they are safe."""
    taken: dict[str, dict[StatementId, None]] = field(default_factory=dict)
    """Statements of which each node told somebody that it holds them."""
    chunks: dict[str, Chunks] = field(default_factory=dict)
    """Chunks of which each node told somebody that it took them."""
    coming: dict[str, list[Chunks]] = field(default_factory=dict)
    """Chunks that each node took in calls that are not answered yet."""
    logs: dict[str, list[StatementId]] = field(default_factory=dict)
    """Each receiver's log as it was seen last: it only grows."""
    revoked: dict[str, set[NodeId]] = field(default_factory=dict)
    """Nodes that each receiver believes no more."""
    complete: dict[str, dict[StatementId, None]] = field(default_factory=dict)
    """Packages of theirs that were complete there when it heard of it: they may be in the log."""
    _receipts: dict[bytes, str] = field(default_factory=dict)
    _roots: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def broken(self, what: str) -> None:
        """Note a broken promise."""
        if len(self.violations) < MOST_VIOLATIONS and what not in self.violations:
            self.violations.append(what)

    def fault(self, where: str, error: BaseException) -> None:
        """Note an error that no code had words for (10)."""
        frames = traceback.extract_tb(error.__traceback__)
        last = next((one for one in reversed(frames) if "/relay/" in one.filename), frames[-1] if frames else None)
        self.broken(f"[10] {where} (in {last.name}, line {last.lineno})" if last else f"[10] {where}")

    # -- what is acknowledged

    def captured(self, ship: Ship, statement: StatementId, submission: Submission) -> None:
        """A device told its operator that a package is safe."""
        raw = ship.disk.catalogue.records.get(statement)
        if raw is None:
            self.broken(f"[5] {ship.name} says that {_short(statement)} is safe, and does not hold it")
            return
        self.safe.setdefault(ship.name, {})[statement] = None
        self.captures[statement] = raw.raw
        package = read_statement(raw.raw).package
        asked = (submission.tps, submission.form, submission.supersedes)
        if (package.tps, package.form, package.supersedes) != asked:
            self.broken(f"[7] {_short(statement)} on {ship.name} supersedes another one than its operator said")

    def acknowledged(self, ship: Ship, records: Sequence[tuple[Kind, bytes]], words: Sequence[str]) -> None:
        """A node told a visitor what became of records."""
        taken = self.taken.setdefault(ship.name, {})
        for (kind, raw), word in zip(records, words, strict=True):
            if kind is not Kind.STATEMENT or word not in ("new", "known"):
                continue
            statement = statement_id(raw)
            if not ship.holds(statement):
                self.broken(f"[5] {ship.name} says that it holds {_short(statement)}, and does not")
            elif (
                statement in ship.disk.catalogue.rows
            ):  # whoever has its receipt alone may be told that it is worth nothing
                taken[statement] = None
        if ship.is_receiver:
            self._hear_of_revocations(ship)

    def needed(self, ship: Ship, object_id: ObjectId) -> tuple[StatementId, ...]:
        """The undelivered packages on a node that need an object. One that gives it another size than it has never
        becomes complete, and keeps nothing."""
        truth = self.company.files.get(object_id)
        rows = [row for row in ship.disk.catalogue.objects[object_id].rows if row.entry is None]
        return tuple(row.id for row in rows if truth is None or row.objects[object_id] == truth.size)

    @contextmanager
    def taking(self, ship: Ship, chunks: Chunks) -> Iterator[None]:
        """Within it a node takes chunks in one call. Who brings them does not know yet that it did."""
        coming = self.coming.setdefault(ship.name, [])
        coming.append(chunks)
        try:
            yield
        finally:
            coming[:] = [one for one in coming if one is not chunks]

    def acknowledged_chunks(self, ship: Ship, chunks: Chunks) -> None:
        """A node told a visitor that it took chunks. Some may have been delivered otherwise, and freed, meanwhile."""
        catalogue = ship.disk.catalogue
        for (object_id, index), needed in chunks.items():
            truth = self.company.files.get(object_id)
            item = catalogue.objects[object_id]
            if truth is None or _honest_layout(item, truth) is None:
                continue
            if _has(item, truth, index):
                self.chunks.setdefault(ship.name, {})[object_id, index] = self.needed(ship, object_id)
            elif any(one not in catalogue.receipts for one in needed):
                self.broken(f"[5] {ship.name} took chunk {index} of {_short(object_id)}, and does not hold it")

    def _hear_of_revocations(self, receiver: Ship) -> None:
        known = self.revoked.setdefault(receiver.name, set())
        fresh = set(receiver.custody.admission.revoked) - known
        known |= fresh
        rows = receiver.disk.catalogue.rows.values()
        complete = {row.id: None for row in rows if row.node in fresh and row.completed is not None}
        self.complete.setdefault(receiver.name, {}).update(complete)

    @contextmanager
    def looking_on(self, ship: Ship) -> Iterator[None]:
        """Look on while a node frees what was delivered: what it made stays for its retention time (4), in truth and
        not only by its clock. What went against receipts is not looked for any more, whatever becomes of those."""
        catalogue, skew = ship.disk.catalogue, ship.skew
        kept = {
            object_id: row.id
            for row in catalogue.rows.values()
            if row.node == ship.member.identity.node and row.entry is not None and self._is_to_be_kept(ship, row)
            for object_id in row.objects
            if catalogue.objects[object_id].whole is not None
        }
        looked = False
        try:
            yield
            looked = True
        finally:
            for chunks in (self.chunks.get(ship.name, {}), *self.coming.get(ship.name, ())):
                for (object_id, index), needed in list(chunks.items()):
                    held = _holds(catalogue.objects[object_id], self.company.files.get(object_id), index)
                    if not held and all(one in catalogue.receipts for one in needed):
                        del chunks[object_id, index]
        for object_id, statement in kept.items() if abs(ship.skew - skew) < 1 else ():
            if catalogue.objects[object_id].whole is None:
                self.broken(f"[4] {ship.name} freed its own {_short(object_id)} of {_short(statement)} too early")
        if abs(skew - ship.skew_seen) > 1:
            ship.set_in = ship.boot
        if looked:  # it has it in a note
            ship.skew_seen, ship.seen_in = skew, ship.boot

    def _is_to_be_kept(self, ship: Ship, row: Row) -> bool:
        """Whether a delivered package of its own has not been kept for its time, and the node could know it: by its
        clock it may be over where that showed a likely time when the receipt came, and was set forward while the
        machine was off, or by little, or once more at a later start."""
        now, kept_for = ship.sea.loop.time(), ship.traits.retention
        over = row.receipt_at < int(ship.wall()) - kept_for and row.receipt_at >= ship.enrolled
        set_forward = ship.skew - ship.skew_seen > JUMP_SECONDS
        could_know = not over or (row.dated_in >= ship.reckons_since and set_forward)
        return could_know and now - row.received < kept_for - 2

    # -- one node

    def look_at(self, ship: Ship) -> None:
        """Look at what lies on a node's disk."""
        found = (self._lost, self._damaged, self._foreign, self._chain_faults, self._marks, self._burdens, self._spared)
        for look in found:
            for what in look(ship):
                self.broken(f"{what} on {ship.name}")
        if ship.is_receiver:
            for what in self._log_faults(ship):
                self.broken(what)

    def _lost(self, ship: Ship) -> Iterator[str]:
        catalogue = ship.disk.catalogue
        for statement in self.taken.get(ship.name, ()):
            if not ship.holds(statement):
                yield f"[5] acknowledged statement {_short(statement)} is lost"
        for statement in self.safe.get(ship.name, ()):
            if statement not in catalogue.rows:
                yield f"[5] own package {_short(statement)} is lost"
        for (object_id, index), needed in self.chunks.get(ship.name, {}).items():
            item = catalogue.objects.get(object_id)
            held = item is not None and _has(item, self.company.files[object_id], index)
            if not held and any(one not in catalogue.receipts for one in needed):
                yield f"[5] acknowledged chunk {index} of {_short(object_id)} is lost"
        for row in catalogue.rows.values():
            if row.completed is not None and row.entry is None:
                for object_id in row.objects:
                    if catalogue.objects[object_id].whole is None:
                        yield f"[4] content {_short(object_id)} of {_short(row.id)} went without a receipt"

    def _damaged(self, ship: Ship) -> Iterator[str]:
        for item in ship.disk.catalogue.objects.values():
            if item.whole is not None and hashed_whole(item.whole) != item.id:
                yield f"[3] object {_short(item.id)} is complete and has another hash"
            for layout in item.layouts:
                content = ship.disk.content.get((item.id, layout.name), {})
                for index in _bits(layout.held):
                    if index not in content or hashed(content[index]) != layout.hashes[index]:
                        yield f"[3] chunk {index} of {_short(item.id)} is held and has another hash, or is not there"

    def _foreign(self, ship: Ship) -> Iterator[str]:
        catalogue = ship.disk.catalogue
        for record_id, record in catalogue.records.items():
            match record.kind:
                case Kind.STATEMENT if statement_id(record.raw) != record_id or not self.company.signed(record.raw):
                    yield f"[1] a statement {_short(record_id)} that no enrolled device signed"
                case Kind.NOTICE if record_id not in self.notices:
                    yield f"[1] a notice {_short(record_id)} that the office did not sign"

    def _chain_faults(self, ship: Ship) -> Iterator[str]:
        """What an honest device made is one unbroken chain."""
        rows = ship.disk.catalogue.rows.values()
        mine = [row for row in rows if row.node == ship.member.identity.node and ship.honest]
        previous: StatementId | None = None
        for place, row in enumerate(sorted(mine, key=lambda row: row.statement.package.seq), 1):
            package = row.statement.package
            if (package.seq, package.previous) != (place, previous):
                yield f"[7] own package {_short(row.id)} is not the next one of its chain"
            previous = row.id

    def _marks(self, ship: Ship) -> Iterator[str]:
        """Corrected is what a correction for the same station and form names, unless its signer is revoked."""
        rows = ship.disk.catalogue.rows
        packages = [row.statement.package for row in rows.values() if not row.withheld]
        corrected = {(one.supersedes, one.tps, one.form) for one in packages if one.supersedes is not None}
        for row in rows.values():
            package = row.statement.package
            if row.superseded != ((row.id, package.tps, package.form) in corrected):
                yield f"[7] package {_short(row.id)} is marked wrongly as {'' if row.superseded else 'not '}corrected"

    def _burdens(self, ship: Ship) -> Iterator[str]:
        """No signer makes others carry more than its quota."""
        if any(one.member.identity.node in ship.custody.admission.revoked for one in ship.sea.receivers):
            return  # what was delivered is under way again
        rows = ship.disk.catalogue.rows.values()
        under_way = [row for row in rows if row.entry is None and row.node != ship.member.identity.node]
        for node in dict.fromkeys(row.node for row in under_way) if not ship.is_receiver else ():
            theirs = [row.weight for row in under_way if row.node == node]
            if len(theirs) > ship.traits.quota_statements or sum(theirs) > ship.traits.quota_bytes:
                yield f"[2] {len(theirs)} packages, {sum(theirs)} bytes of {_short(node)} are over its quota"

    def _spared(self, ship: Ship) -> Iterator[str]:
        """Who knows of a revocation passes nothing on by its signer, whatever else it still knows."""
        catalogue = ship.disk.catalogue
        notices = [_notice(one.raw).body for one in catalogue.records.values() if one.kind is Kind.NOTICE]
        revoked = {row.node for body in notices if isinstance(body, Revocations) for row in body.revoked}
        for row in catalogue.rows.values():
            offered = (Kind.STATEMENT, row.id) in ship.custody.store.members
            if row.entry is None and row.node in revoked and (offered or not row.withheld):
                yield f"[1] package {_short(row.id)} of a revoked signer still travels"

    # -- the log

    def _log_faults(self, receiver: Ship) -> Iterator[str]:
        catalogue = receiver.disk.catalogue
        log, state = catalogue.log, catalogue.log_state
        if len(set(log)) != len(log):
            yield "[6] a statement has two entries"
        before = self.logs.get(receiver.name, [])
        if log[: len(before)] != before:
            yield "[6] the log lost or changed entries"
        self.logs[receiver.name] = list(log)
        if state.size != len(log):
            yield f"[6] the log has {len(log)} entries and says {state.size}"
        if log and _tree(state.checkpoint) != (len(log), self._root(receiver, len(log))):
            yield "[6] the committed checkpoint is not that of the entries"
        published = receiver.disk.files.get("/checkpoint")
        if published is not None:
            size, root = _tree(published)
            if size > len(log) or root != self._root(receiver, size):
                yield "[6] the published checkpoint is not that of the entries"
        revoked, complete = self.revoked.get(receiver.name, set()), self.complete.get(receiver.name, {})
        for entry, statement in enumerate(log):
            if catalogue.receipts.get(statement) != entry or receipt_id(statement) not in catalogue.records:
                yield f"[6] entry {entry} has no receipt of its own"
            row = catalogue.rows.get(statement)
            if row is None or row.completed is None:
                yield f"[6] entry {entry} is of a package that is not complete"
            elif row.node in revoked and statement not in complete:
                yield f"[1] entry {entry} is by a revoked signer"
            elif any(catalogue.objects[one].whole is None for one in row.objects):
                yield f"[4] the content of entry {entry} is gone"

    def _root(self, receiver: Ship, size: int) -> bytes:
        if (receiver.name, size) not in self._roots:
            records = receiver.disk.catalogue.records
            leaves = [leaf_hash(records[one].raw) for one in receiver.disk.catalogue.log[:size]]
            self._roots[receiver.name, size] = naive_root(leaves)
        return self._roots[receiver.name, size]

    def look_at_agreement(self, ships: Sequence[Ship], receiver: Ship) -> None:
        """At the end: every receipt and checkpoint anywhere is of the one log that counts."""
        log = receiver.disk.catalogue.log
        for ship in ships:
            for record in ship.disk.catalogue.records.values():
                if record.kind is Kind.CHECKPOINT:
                    size, root = _tree(record.raw)
                    if size > len(log) or root != self._root(receiver, size):
                        self.broken(f"[6] {ship.name} holds a checkpoint of another log")
                if record.kind is Kind.RECEIPT and (what := self._receipt_fault(record.raw, receiver)):
                    self.broken(f"[6] {ship.name} holds a receipt that {what}")

    def _receipt_fault(self, raw: bytes, receiver: Ship) -> str:
        if raw not in self._receipts:
            receipt = read_receipt(raw)
            log = receiver.disk.catalogue.log
            mine = receiver.disk.catalogue.records.get(receipt.id)
            if receipt.entry >= len(log) or log[receipt.entry] != receipt.statement:
                self._receipts[raw] = f"names entry {receipt.entry}, which is of another statement"
            elif mine is None or mine.raw != raw:
                self._receipts[raw] = f"is a second one for entry {receipt.entry}"
            else:
                self._receipts[raw] = ""
        return self._receipts[raw]

    # -- delivery

    def deliverable(self, ships: Sequence[Ship]) -> list[StatementId]:
        """Packages of honest devices, not revoked, that the nodes which are left hold whole among them."""
        barred = {node for ship in ships for node in ship.custody.admission.revoked}
        gone = [one.member.identity.node for one in ships[0].sea.receivers if one.member.identity.node in barred]
        # Whoever did not hear yet that a receiver is revoked may still free what it delivered there.
        aware = [one for one in ships if all(node in one.custody.admission.revoked for node in gone)]
        received = {one for ship in ships if ship not in aware for one in ship.disk.catalogue.receipts}
        rows = {row.id: row for ship in ships for row in ship.disk.catalogue.rows.values()}
        return [
            row.id
            for row in rows.values()
            if row.node in self.company.islanders
            and row.node not in barred
            and all(
                _is_left(file, [one for one in ships if one in aware or not _may_go(one, file.sha256, received)])
                for file in row.statement.package.files
            )
        ]

    def unsettled(self, ships: Sequence[Ship], receiver: Ship, expected: Sequence[StatementId]) -> Iterator[str]:
        """What is left to do until everybody has everything: nothing, once all was calm for long enough."""
        log = set(receiver.disk.catalogue.log)
        size = receiver.disk.catalogue.log_state.size
        for statement in expected:
            if statement not in log:
                yield f"[6] package {_short(statement)} was not delivered"
        notices = {slot: max(_rank(ship, slot) for ship in ships) for slot in _slots(ships) if "checkpoint" not in slot}
        for ship in ships:
            for row in ship.disk.catalogue.rows.values():
                if row.id in log and row.entry is None and not row.withheld:
                    yield f"[6] {ship.name} did not hear that {_short(row.id)} was delivered"
            for slot, rank in notices.items():
                if _rank(ship, slot) != rank:
                    yield f"[1] {ship.name} did not hear of the newest {slot}"
            if size and (seen := _seen_size(ship, receiver)) != size:
                yield f"[6] {ship.name} has a checkpoint of {seen} entries, the log has {size}"

    def look_at_bundles(self, ship: Ship, bundles: Sequence[tuple[StatementId, State]]) -> None:
        """What the node's own page says has to be what its disk says (4, 6)."""
        for statement, state in bundles:
            if (state is State.DELIVERED) != (statement in ship.disk.catalogue.receipts):
                self.broken(f"[6] {ship.name} shows {_short(statement)} as {state}")


def _may_go(ship: Ship, object_id: ObjectId, received: set[StatementId]) -> bool:
    """Whether a ship may let go of content, which believes the receipts for these: what it knows to need it was
    delivered, or is when it hears of that. What it does not know of may need the same photograph."""
    item = ship.disk.catalogue.objects.get(object_id)
    return item is not None and all(row.entry is not None or row.id in received for row in item.rows)


def _is_left(file: FileEntry, ships: Sequence[Ship]) -> bool:
    """Whether ships hold all of a file among them."""
    held = 0
    for ship in ships:
        item = ship.disk.catalogue.objects.get(file.sha256)
        if item is None or file.sha256 in ship.disk.bad | ship.disk.rotten:
            continue  # what no disk gives, relay did not lose
        if item.whole is not None:
            return True
        layout = _honest_layout(item, file)
        held |= layout.held if layout is not None else 0
    return held == (1 << len(file.chunks)) - 1


def _honest_layout(item: Object, truth: FileEntry) -> Layout | None:
    return next((one for one in item.layouts if (one.size, one.hashes) == (truth.size, truth.chunks)), None)


def _has(item: Object, truth: FileEntry, index: int) -> bool:
    layout = _honest_layout(item, truth)
    return item.whole is not None or (layout is not None and bool(layout.held >> index & 1))


def _holds(item: Object, truth: FileEntry | None, index: int) -> bool:
    return truth is not None and _has(item, truth, index)


def _bits(bits: int) -> Iterator[int]:
    return (index for index in range(bits.bit_length()) if bits >> index & 1)


_notice = lru_cache(maxsize=1 << 12)(read_notice)


@lru_cache(maxsize=1 << 12)
def _tree(checkpoint: bytes) -> tuple[int, bytes]:
    tree = parse_checkpoint(parse_note(checkpoint))
    return tree.size, tree.root


def _slots(ships: Sequence[Ship]) -> list[str]:
    return sorted({slot for ship in ships for slot in ship.disk.catalogue.slots})


def _rank(ship: Ship, slot: str) -> int:
    held = ship.disk.catalogue.slots.get(slot)
    return ship.disk.catalogue.records[held].rank if held is not None else 0


def _seen_size(ship: Ship, receiver: Ship) -> int:
    catalogue, origin = ship.disk.catalogue, f"{ELECTION}/{receiver.name}\n".encode()
    held = [catalogue.records[one].raw for slot, one in catalogue.slots.items() if slot.startswith("checkpoint")]
    return max((_tree(raw)[0] for raw in held if raw.startswith(origin)), default=0)


def _short(name: bytes) -> str:
    return name.hex()[:12]
