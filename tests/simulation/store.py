"""A store in memory: `relay.store.interface.Store` over a simulated disk.

What is durable is on the `Disk`; here is what a crash takes: staged chunks, the commit under way, the set of members.
Content is synced before the catalogue says that it is held, as in the embedded store. `tests.store_conformance` keeps
it honest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from relay.errors import Malformed, StoreError
from relay.limits import MAX_FILE, MAX_PEERS, STATEMENTS_MARGIN
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.receipt import Receipt
from relay.records.statement import chunk_size_for
from relay.store.arriving import SharedCommits
from relay.store.interface import (
    Bundle,
    Cargo,
    Counts,
    Holding,
    LogBatch,
    LogState,
    Outcome,
    PeerNote,
    Seen,
    State,
    Want,
)
from relay.store.recordset import END, FIRST, RecordSet
from relay.store.room import Room
from relay.store.unreadable import UnreadableObjects
from relay.sync.reconcile import respond
from relay.trust.admission import Admitted
from tests.simulation.catalogue import Catalogue, Layout, Object, Row, Rules
from tests.simulation.disk import Disk, DiskShelf, Handle

Chunks = dict[int, bytes]
T = TypeVar("T")


class Members(RecordSet):
    """A set of records that remembers what it was asked since it changed: neighbours ask the same again and again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, bytes], Any] = {}
        super().__init__()

    def keys(self, lower: bytes = FIRST, upper: bytes = END) -> Iterator[bytes]:
        """See `RecordSet`."""
        return iter(self._recall("keys", lower, upper, lambda: tuple(RecordSet.keys(self, lower, upper))))

    def rank(self, bound: bytes) -> int:
        """See `RecordSet`."""
        return self._recall("rank", bound, b"", lambda: RecordSet.rank(self, bound))

    def fingerprint(self, lower: bytes = FIRST, upper: bytes = END) -> bytes:
        """See `RecordSet`."""
        return self._recall("fingerprint", lower, upper, lambda: RecordSet.fingerprint(self, lower, upper))

    def __contains__(self, item: tuple[int, bytes]) -> bool:
        return self._recall("holds", item[1], bytes([item[0]]), lambda: RecordSet.__contains__(self, item))

    def answer(self, message: bytes, limit: int) -> bytes:
        """See `relay.sync.reconcile.respond`."""
        return self._recall("answer", message, limit.to_bytes(8), lambda: respond(self, message, limit))

    def _recall(self, what: str, lower: bytes, upper: bytes, find: Callable[[], T]) -> T:
        asked = what, lower, upper
        known: T | None = self._known.get(asked)
        if known is None:
            known = self._known[asked] = find()
        return known

    def _forget(self, index: int) -> None:
        self._known.clear()
        super()._forget(index)


class MemoryStore:
    """See `relay.store.interface.Store`. `clock` is seconds since 1970; `exports` is where `object_path` puts files."""

    def __init__(
        self,
        handle: Handle,
        rules: Rules,
        storage_limit: int | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        exports: Path | None = None,
    ) -> None:
        self.handle = handle
        self._rules = rules
        self._storage_limit = storage_limit
        self._room = Room(self._left_of)
        self._coming: Counter[ObjectId] = Counter()
        """Bytes of chunks that are being staged."""
        self._clock = clock
        self.truth: Callable[[], tuple[float, int]] = lambda: (0.0, 0)
        """What the time is in truth (virtual seconds), and which run of the node this is."""
        self._exports = exports
        self._members = Members()
        self._followed = 0
        self._seen = -1
        self._staged: dict[Layout, Chunks] = {}
        self._committing: dict[Layout, Chunks] = {}
        self._commits = SharedCommits(self._commit_staged)
        self._unreadable = UnreadableObjects(self._packages_of)

    @classmethod
    def open(
        cls,
        disk: Disk,
        rules: Rules,
        storage_limit: int | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        exports: Path | None = None,
    ) -> MemoryStore:
        """Open what is on a disk, and mend what a crash left."""
        store = cls(disk.mount(), rules, storage_limit, clock, exports)
        if store.handle.alone:
            store._mend()
        store._follow()
        store._seen = store._foreign()
        store._measure_room()
        return store

    @property
    def members(self) -> RecordSet:
        """See `Store`."""
        return self._members

    @property
    def shelf(self) -> DiskShelf:
        """See `Store`."""
        return DiskShelf(self.handle)

    @property
    def troubles(self) -> Mapping[str, int]:
        """See `Store`. It needs none."""
        return {}

    @property
    def unreadable(self) -> frozenset[ObjectId]:
        """See `Store`."""
        return self._unreadable.objects

    async def reread(self) -> int:
        """See `Store`."""
        again = self.unreadable - self.handle.disk.bad - self.handle.disk.rotten
        for one in again:
            self._unreadable.forget(one)
        return len(again)

    async def _packages_of(self, object_id: ObjectId) -> str:
        item = self._catalogue.objects.get(object_id)
        return ", ".join(row.id.hex()[:16] for row in item.rows) if item is not None else ""

    async def leads(self) -> bool:
        """See `Store`."""
        return True

    @property
    def term(self) -> int:
        """See `Store`."""
        return 1

    async def refresh(self) -> Seen:
        """See `Store`."""
        await self.handle.give_way()
        seen, self._seen = self._seen, self._foreign()
        self._measure_room()
        self._follow()
        return Seen.RULES if seen != self._seen else Seen.NOTHING

    async def changed(self, seconds: float) -> None:
        """See `Store`."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See `Store`."""
        await self.commit_chunks()
        self.handle.unmount()

    # -- records

    async def add(self, records: Sequence[Admitted], *, made_here: bool = False) -> list[Outcome]:
        """See `Store`."""
        rules = replace(self._rules, made_here=made_here)
        urgent = any(item.kind is not Kind.STATEMENT for item in records)
        return await self._commit(
            lambda catalogue: [self._add(catalogue, item, rules) for item in records], urgent=urgent
        )

    async def read(self, ids: Sequence[RecordId], limit: int) -> list[tuple[Kind, RecordId, bytes]]:
        """See `Store`."""
        await self.handle.give_way()
        found: list[tuple[Kind, RecordId, bytes]] = []
        size = 0
        for one in ids:
            record = self._catalogue.records.get(one)
            if record is None:
                continue
            size += len(record.raw)
            if found and size > limit:
                break
            found.append((record.kind, one, record.raw))
        return found

    async def load(self, kind: Kind) -> list[bytes]:
        """See `Store`."""
        await self.handle.give_way()
        return [record.raw for record in self._catalogue.records.values() if record.kind is kind]

    async def offered(self, ids: Sequence[RecordId]) -> list[RecordId]:
        """See `Store`."""
        return [one for one in ids if any((kind, one) in self._members for kind in Kind)]

    async def receipted(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        return {one for one in ids if (Kind.RECEIPT, receipt_id(one)) in self._members}

    async def known_statements(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        await self.handle.give_way()
        return {one for one in ids if one in self._catalogue.rows or one in self._catalogue.receipts}

    async def awaiting_receipt(self, after: bytes, limit: int) -> list[StatementId]:
        """See `Store`."""
        await self.handle.give_way()
        rows = self._catalogue.rows.values()
        return sorted(row.id for row in rows if row.entry is None and not row.withheld and row.id > after)[:limit]

    async def to_deliver(self) -> AsyncIterator[list[StatementId]]:
        """See `Store`."""
        await self.handle.give_way()
        rows = [row for row in self._catalogue.rows.values() if row.entry is None and not row.withheld]
        turns: Counter[tuple[bool, NodeId]] = Counter()
        due: list[tuple[bool, int, StatementId]] = []
        for row in sorted(rows, key=lambda row: (row.weight, row.id)):
            turns[row.superseded, row.node] += 1
            due.append((row.superseded, turns[row.superseded, row.node], row.id))
        yield [statement for *_, statement in sorted(due)]

    async def withhold(self, revoked: Iterable[NodeId]) -> int:
        """See `Store`."""
        nodes = set(revoked)
        rows = self._catalogue.rows.values()
        if any(row.entry is None and row.withheld != (row.node in nodes) for row in rows):
            await self._commit(lambda catalogue: catalogue.withhold(nodes), urgent=True)
        return sum(row.withheld for row in self._catalogue.rows.values())

    async def take_back(self, records: Sequence[RecordId]) -> None:
        """See `Store`."""
        await self._commit(lambda catalogue: catalogue.take_back(records), urgent=True)

    # -- bundles

    async def bundles(self) -> list[Bundle]:
        """See `Store`."""
        await self.handle.give_way()
        found = [self._catalogue.bundle(row) for row in self._catalogue.rows.values() if not row.withheld]
        return sorted(found, key=lambda one: (one.tps, one.form, one.device, one.seq, one.id))

    async def bundle(self, statement: StatementId) -> Bundle | None:
        """See `Store`."""
        await self.handle.give_way()
        row = self._catalogue.rows.get(statement)
        return self._catalogue.bundle(row) if row is not None and not row.withheld else None

    async def bundles_of(self, ids: Sequence[RecordId | ObjectId]) -> AsyncIterator[Bundle]:
        """See `Store`."""
        for one in await self.bundles():
            if one.id in ids or any(file.sha256 in ids for file in one.files):
                yield one

    async def undelivered(self, after: bytes, limit: int) -> list[Bundle]:
        """See `Store`."""
        await self.handle.give_way()
        rows = [row for row in self._catalogue.rows.values() if row.entry is None and row.id > after]
        left = [self._catalogue.bundle(row) for row in rows]
        return sorted(left, key=lambda one: one.id)[:limit]

    async def counts(self) -> Counts:
        """See `Store`."""
        states = [one.state for one in await self.bundles()]
        partial, waiting, delivered = (states.count(one) for one in (State.PARTIAL, State.WAITING, State.DELIVERED))
        return Counts(partial, waiting, delivered, self._catalogue.bytes_held)

    async def cargo(self, first: int, last: int) -> Cargo:
        """See `Store`."""
        waiting = [one for one in await self.bundles() if one.state is not State.DELIVERED]
        claims = [one.captured_at for one in waiting if first <= one.captured_at <= last]
        partial = sum(one.state is State.PARTIAL for one in waiting)
        return Cargo(len(waiting), len({one.tps for one in waiting}), partial, min(claims, default=None))

    async def chain_head(self, node: NodeId, *, made_here: bool = False) -> tuple[int, StatementId] | None:
        """See `Store`."""
        await self.handle.give_way()
        mine = [row for row in self._catalogue.rows.values() if row.node == node and row.made_here >= made_here]
        head = max(mine, key=lambda row: row.statement.package.seq, default=None)
        return (head.statement.package.seq, head.id) if head else None

    # -- objects

    async def wants(self, limit: int, skip: frozenset[ObjectId] = frozenset()) -> list[Want]:
        """See `Store`."""
        await self.handle.give_way()
        self._measure_room()
        wants: dict[ObjectId, Want] = {}
        for object_id in self._catalogue.wanting(self._rules) if self._room.left > 0 else ():
            if object_id in skip or object_id in wants:
                continue
            if want := self._want(object_id):
                wants[object_id] = want
                if len(wants) == limit:
                    break
        for object_id in sorted(self.unreadable - skip - wants.keys()) if self._room.left > 0 else ():
            if len(wants) < limit and (want := self._want(object_id)):
                wants[object_id] = want
        arriving = {*self._coming, *(one.object for one in (*self._staged, *self._committing))}
        return self._room.choose(list(wants.values()), skip, sorted(arriving))

    def _measure_room(self) -> None:
        """See how many bytes of content of others may still come, by the limit and by the disk: when it is opened, when
        somebody asks what it wants, after a commit, and now and then. Chunks count from then on."""
        disk = self.handle.disk
        self._room.left = (1 << 62) - self._coming.total()
        if disk.full:
            self._room.left = 0
            disk.on_trouble()  # which looks again
        elif self._storage_limit is not None:
            coming = (one for chunks in (self._staged, self._committing) for one in chunks.values())
            uncommitted = sum(len(data) for one in coming for data in one.values())
            self._room.left = self._storage_limit - self._catalogue.bytes_held - self._coming.total() - uncommitted

    async def missing(self, object_id: ObjectId) -> int:
        """See `Store`."""
        await self.handle.give_way()
        want = self._want(object_id)
        return want.missing if want and self._room.fits(object_id) else 0

    def _left_of(self, object_id: ObjectId) -> int:
        """How many bytes of an object have to come until it is whole, besides those for which room was made."""
        layouts = self._wanted(object_id)
        return min((one.bytes_of(self._missing(one)) for one in layouts), default=0) - self._coming[object_id]

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store`."""
        await self.handle.give_way()
        found: list[Holding] = []
        for object_id in objects:
            item = self._catalogue.objects.get(object_id)
            if object_id in self._unreadable:
                continue
            if item is not None and item.whole is not None:
                found.append(Holding(object_id, item.size, (1 << len(item.whole)) - 1, complete=True))
            elif item is not None and (layout := _fullest(item)):
                found.append(Holding(object_id, layout.size, layout.held, complete=False))
        return found

    async def read_chunk(self, object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:
        """See `Store`."""
        await self.handle.give_way()
        item = self._catalogue.objects.get(object_id)
        if item is None or index < 0 or object_id in self._unreadable:
            return None
        disk = self.handle.disk
        if object_id in disk.bad or (doubted and object_id in disk.rotten):
            await self._unreadable.note(object_id)
            disk.on_trouble()
            return None
        data = self._chunk(item, index)
        return data[:-1] + bytes([data[-1] ^ 1]) if data and object_id in disk.rotten else data

    def _chunk(self, item: Object, index: int) -> bytes | None:
        """A chunk as it was written."""
        if item.whole is not None:
            return item.whole[index] if index < len(item.whole) else None
        layout = _fullest(item)
        if layout is None or not layout.held >> index & 1:
            return None
        return self.handle.disk.content[item.id, layout.name].get(index)

    async def stage_chunk(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """See `Store`."""
        if not self._room.take(len(data)):
            return 0
        self._coming[object_id] += len(data)
        taken = False
        try:
            taken = await self._stage(object_id, index, data)
        finally:
            self._coming = +(self._coming - Counter({object_id: len(data)}))
            self._room.give_back(0 if taken else len(data))
        return self._commits.number if taken else 0

    async def _stage(self, object_id: ObjectId, index: int, data: bytes) -> bool:
        """Keep a chunk in memory; whether it was wanted."""
        await self.handle.give_way()
        layouts = self._wanted(object_id)
        if not layouts:
            return False
        digest = hashed(data)
        fitting = [one for one in layouts if one.fits(index, len(data), digest)]
        if not fitting:
            raise Malformed("A chunk's content is not what any statement says")
        taken = False
        for layout in fitting:
            if self._missing(layout) >> index & 1:
                await self.handle.give_way()
                taken |= bool(self._missing(layout) >> index & 1)
                self._staged.setdefault(layout, {})[index] = data
        return taken

    async def commit_chunks(self, since: int = 0) -> list[StatementId]:
        """See `Store`."""
        self.handle.check()
        if not (since or self._staged or self._committing):
            await asyncio.sleep(0)
            return []
        try:
            return await self._commits.join(since)
        finally:
            self._measure_room()

    async def adopt(self, object_id: ObjectId, source: Path) -> bool:
        """See `Store`."""
        await self.handle.give_way()
        item = self._catalogue.objects.get(object_id)
        if item is not None and item.whole is not None and object_id not in self._unreadable:
            return False
        chunks = read_chunks(source)
        if hashed_whole(chunks) != object_id or sum(map(len, chunks)) > MAX_FILE:
            raise Malformed(f"The content of {source} is not what its hash says", "Copy the file again.")
        await self._commit(lambda catalogue: self._adopt(catalogue, object_id, chunks))
        return True

    async def object_path(self, object_id: ObjectId) -> Path | None:
        """See `Store`."""
        await self.handle.give_way()
        item = self._catalogue.objects.get(object_id)
        if item is None or item.whole is None or self._exports is None or object_id in self._unreadable:
            return None
        path = self._exports / object_id.hex()
        path.write_bytes(b"".join(item.whole))
        return path

    async def free(self, objects: Sequence[ObjectId]) -> int:
        """See `Store`."""
        freed = await self._commit(lambda catalogue: catalogue.free(objects), urgent=True)
        self.handle.disk.bad.difference_update(objects)
        self.handle.disk.rotten.difference_update(objects)
        for one in objects:
            self._unreadable.forget(one)
        self._drop_content(objects)
        if freed and self.handle.disk.full:
            self.handle.disk.freed += len(objects)
        return freed

    async def freeable(self, own_before: int) -> AsyncIterator[tuple[StatementId, tuple[ObjectId, ...], int]]:
        """See `Store`."""
        await self.handle.give_way()
        rows = [row for row in self._catalogue.rows.values() if row.entry is not None]
        for row in sorted(rows, key=lambda row: row.entry or 0):
            if not row.own or row.receipt_at < own_before:
                held = self._catalogue.freeable(row, own_before)
                if held:
                    yield row.id, tuple(held), sum(held.values())

    async def date_receipts(self, first: int, last: int, now: int) -> None:
        """See `Store`."""
        await self.handle.give_way()

        def dated(catalogue: Catalogue) -> list[Row]:
            rows = [row for row in catalogue.rows.values() if row.own and row.entry is not None]
            return [row for row in rows if first <= row.receipt_at <= last]

        def date(catalogue: Catalogue) -> None:
            for row in dated(catalogue):
                row.receipt_at, row.dated_in = now, self.truth()[1]

        if dated(self._catalogue):
            await self._commit(date, urgent=True)

    # -- neighbours

    async def note_peer(self, note: PeerNote) -> None:
        """See `Store`."""
        await self._commit(lambda catalogue: catalogue.peers.update({note.node: note}))

    async def peers(self) -> list[PeerNote]:
        """See `Store`."""
        await self.handle.give_way()
        return sorted(self._catalogue.peers.values(), key=lambda one: -one.last_seen)[:MAX_PEERS]

    async def set_note(self, key: str, value: str) -> None:
        """See `Store`."""
        await self._commit(lambda catalogue: catalogue.notes.update({key: value}), urgent=True)

    async def notes(self) -> dict[str, str]:
        """See `Store`."""
        await self.handle.give_way()
        return dict(self._catalogue.notes)

    # -- the receiver's log

    async def unlogged(self, limit: int) -> list[tuple[StatementId, bytes]]:
        """See `Store`."""
        await self.handle.give_way()
        rows = [
            (row.completed, row)
            for row in self._catalogue.rows.values()
            if row.completed is not None
            and row.entry is None
            and not row.withheld
            and not row.objects.keys() & self.unreadable
        ]
        rows.sort(key=lambda one: one[0])
        return [(row.id, row.statement.raw) for _, row in rows[:limit]]

    async def finish(self) -> list[StatementId]:
        """See `Store`."""
        return []

    async def log_edge(self) -> bytes:
        """See `Store`."""
        return b""

    async def log_state(self) -> LogState:
        """See `Store`."""
        await self.handle.give_way()
        return self._catalogue.log_state

    async def append(self, batch: LogBatch) -> None:
        """See `Store`."""
        await self._commit(lambda catalogue: catalogue.append(batch, self._rules, int(self._clock())))

    async def log_statements(self, first: int, count: int) -> list[bytes]:
        """See `Store`."""
        await self.handle.give_way()
        return [self._catalogue.records[one].raw for one in self._catalogue.log[first : first + count]]

    async def log_times(self, first: int, count: int) -> list[int]:
        """See `Store`."""
        await self.handle.give_way()
        return [self._catalogue.rows[one].receipt_at for one in self._catalogue.log[first : first + count]]

    # -- within

    @property
    def _catalogue(self) -> Catalogue:
        return self.handle.disk.catalogue

    async def _commit(self, change: Callable[[Catalogue], T], *, urgent: bool = False) -> T:
        """Change the catalogue in one durable step; what frees space or rules is `urgent`."""
        done = await self.handle.step(lambda: self._change(change), urgent=urgent)
        self._follow()
        return done

    def _change(self, change: Callable[[Catalogue], T]) -> T:
        done = change(self._catalogue)
        commits = self._catalogue.commits
        commits[id(self.handle)] = commits.get(id(self.handle), 0) + 1
        return done

    def _add(self, catalogue: Catalogue, item: Admitted, rules: Rules) -> Outcome:
        limit = self._storage_limit
        has_room = limit is None or rules.keeps_all or catalogue.bytes_held < limit + STATEMENTS_MARGIN
        if isinstance(item.body, Receipt):  # what a full disk takes of these is urgent, and not for what is not here
            has_room &= not self.handle.disk.full
        outcome = catalogue.add(item, replace(rules, has_room=has_room), int(self._clock()))
        row = catalogue.rows.get(item.body.statement) if isinstance(item.body, Receipt) else None
        if row is not None and outcome is Outcome.NEW:
            row.received, row.dated_in = self.truth()
        return outcome

    async def _commit_staged(self) -> list[StatementId]:
        staged, self._staged = self._staged, {}  # whatever happens now: what failed once is not believed later
        if not staged:
            return []
        self._committing = staged
        try:
            await self.handle.step(lambda: self._sync(staged))
            return await self._commit(lambda catalogue: self._hold(catalogue, staged))
        finally:
            self._committing = {}

    def _sync(self, staged: dict[Layout, Chunks]) -> None:
        for layout, chunks in staged.items():
            self.handle.disk.content.setdefault((layout.object, layout.name), {}).update(chunks)

    def _hold(self, catalogue: Catalogue, staged: dict[Layout, Chunks]) -> list[StatementId]:
        """Say which chunks are held, and what of it is whole. Raises `StoreError` where that comes to no place,
        before anything is said."""
        content = self.handle.disk.content
        if self.handle.disk.misplaces and any(self._becomes_whole(layout, chunks) for layout, chunks in staged.items()):
            self.handle.disk.misplaces -= 1
            self.handle.disk.on_trouble()
            raise StoreError("An object does not come to its place (simulated)", "Check the disk.")
        again: list[StatementId] = []
        for layout, chunks in staged.items():
            item = catalogue.objects[layout.object]
            pieces = content.get((layout.object, layout.name), {})
            if (item.whole is not None and layout.object not in self._unreadable) or not pieces.keys() >= chunks.keys():
                continue  # it became whole, or was freed, since it was synced
            for index in chunks:
                layout.held |= 1 << index
            if layout.held != layout.whole:
                continue
            whole = tuple(pieces[index] for index in range(len(layout.hashes)))
            if self._is(layout.object, whole):
                again += [row.id for row in item.rows if row.entry is None and row.completed is not None]
                self._place(catalogue, layout.object, whole)
            else:
                layout.held, layout.refuted = 0, True
        return [*catalogue.settle(layout.object for layout in staged), *again]

    def _becomes_whole(self, layout: Layout, chunks: Chunks) -> bool:
        """Whether an object that is not there becomes whole by these chunks. What is written anew is given up where it
        does not come to its place, and so is left alone."""
        held = layout.held | sum(1 << index for index in chunks)
        return held == layout.whole and self._catalogue.objects[layout.object].whole is None

    def _adopt(self, catalogue: Catalogue, object_id: ObjectId, chunks: tuple[bytes, ...]) -> None:
        self._place(catalogue, object_id, chunks)
        catalogue.settle([object_id])

    def _is(self, object_id: ObjectId, whole: tuple[bytes, ...]) -> bool:
        return hashed_whole(whole) == object_id

    def _place(self, catalogue: Catalogue, object_id: ObjectId, chunks: tuple[bytes, ...]) -> None:
        size = sum(map(len, chunks))
        item = catalogue.objects.setdefault(object_id, Object(object_id, size))
        item.whole, item.size = chunks, size
        self.handle.disk.bad.discard(object_id)
        self.handle.disk.rotten.discard(object_id)
        self._unreadable.forget(object_id)
        for layout in item.layouts:
            layout.held = 0
        self._drop_content([object_id])

    def _drop_content(self, objects: Iterable[ObjectId]) -> None:
        gone = set(objects)
        content = self.handle.disk.content
        for key in [key for key in content if key[0] in gone]:
            del content[key]

    def _wanted(self, object_id: ObjectId) -> list[Layout]:
        """The layouts by which an object may still come; or come again, since it cannot be read."""
        item = self._catalogue.objects.get(object_id)
        if item is None or item.whole is None or object_id not in self._unreadable:
            return self._catalogue.wanted(object_id, self._rules)
        sizes = {row.objects[object_id] for row in item.rows if row.entry is None and not row.withheld}
        return [one for one in item.layouts if not one.refuted and one.size in sizes]

    def _want(self, object_id: ObjectId) -> Want | None:
        layouts = self._wanted(object_id)
        if not layouts:
            return None
        missing = 0
        for layout in layouts:
            missing |= self._missing(layout)
        largest = max(layouts, key=lambda one: one.size)
        return Want(object_id, largest.size, missing, largest.bytes_of(missing)) if missing else None

    def _missing(self, layout: Layout) -> int:
        brought = layout.held
        for chunks in (self._staged.get(layout, {}), self._committing.get(layout, {})):
            for index in chunks:
                brought |= 1 << index
        return layout.whole & ~brought

    def _follow(self) -> None:
        journal = self._catalogue.journal
        for kind, record, present in journal[self._followed :]:
            if present:
                self._members.add(kind, record)
            else:
                self._members.discard(kind, record)
        self._followed = len(journal)

    def _foreign(self) -> int:
        return sum(number for process, number in self._catalogue.commits.items() if process != id(self.handle))

    def _mend(self) -> None:
        """After a crash: content that the catalogue does not count, and objects that no statement names."""
        disk = self.handle.disk
        counted = {
            (one.object, one.name): one.held
            for item in self._catalogue.objects.values()
            for one in item.layouts
            if one.held
        }
        for key, chunks in list(disk.content.items()):
            held = counted.get(key, 0)
            disk.content[key] = {index: data for index, data in chunks.items() if held >> index & 1}
        for item in self._catalogue.objects.values():
            if not item.rows:
                item.whole = None


def _fullest(item: Object) -> Layout | None:
    held = [one for one in item.layouts if one.held]
    hidden = {row.node for row in item.rows if row.withheld}
    return max(held, key=lambda one: (one.node not in hidden, one.bytes_of(one.held)), default=None)


@lru_cache(maxsize=1 << 14)
def hashed(data: bytes) -> bytes:
    """SHA-256; the same few contents go through all elections."""
    return sha256(data)


@lru_cache(maxsize=1 << 12)
def hashed_whole(chunks: tuple[bytes, ...]) -> bytes:
    """SHA-256 of an object that lies in chunks."""
    return sha256(b"".join(chunks))


def read_chunks(source: Path) -> tuple[bytes, ...]:
    """A file's content, cut."""
    content = source.read_bytes()
    step = chunk_size_for(len(content))
    return tuple(content[at : at + step] for at in range(0, len(content), step))
