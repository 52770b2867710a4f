"""Moving a receiver's store into another one: the log entry by entry, then what is under way, then all else.

Every step is one that the store takes in daily work, so a move that was cut goes on where it was. Everything is judged
again by the election's root, and by no revocation: a device that was revoked since has its place in the log. Promises 1
and 3 to 7 hold throughout.

Both stores are marked, so that the log stays one: the target until all is there, the source for ever after. No receiver
sequences on a store that bears a mark (`check_place`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from relay.errors import StoreError
from relay.limits import LOG_BATCH, MAX_RECORD, MOVED_AT_ONCE
from relay.log.merkle import leaf_hash
from relay.log.tree import Frontier
from relay.node.restoring import RESTORED
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.statement import read_statement
from relay.store.interface import LogBatch, LogState, Outcome, Store
from relay.store.listing import undelivered
from relay.store.recordset import item_of, kind_end
from relay.trust.admission import Admission, Admitted

MOVED, MOVING = "moved", "moving"
"""Notes of a store: where it was moved to; that what is moved here is not all here yet."""

Progress = Callable[[str, int, int], None]
"""Told what is moved: how many entries of how many."""


class Move:
    """From `source` to `target`, whose receivers are all stopped. `admission` is what the source's custody loaded;
    `place` says where the target is, to people."""

    def __init__(self, source: Store, target: Store, admission: Admission, place: str, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._admission = admission
        self._judge = Admission(admission.root.certificate)
        self._place = place
        self._progress = progress

    async def run(self) -> LogState:
        """Move everything; the log as it is there then. Raises `StoreError`: the target holds another log, say, or does
        not keep all that this store kept."""
        await self._begin()
        for kind in (Kind.NOTICE, Kind.CHECKPOINT):
            await self._add([self._admission.admit(kind, raw) for raw in await self._source.load(kind)])
        await self._source.withhold(())  # what a revoked device sent is moved as well, and withheld again there
        state = await self._move_log()
        await self._move_under_way()
        await self._move_other_receipts()
        for peer in await self._source.peers():
            await self._target.note_peer(peer)
        for key, value in (await self._source.notes()).items():
            if key not in (MOVED, MOVING):
                await self._target.set_note(key, value)
        await self._source.withhold(self._admission.revoked)
        await self._target.withhold(self._admission.revoked)
        await self._read_back(state)
        await self._source.set_note(MOVED, self._place)
        await self._target.set_note(MOVING, "")
        return state

    async def _add(self, records: Sequence[Admitted]) -> None:
        """Have the target keep records: nothing that this store took is left out because of a quota over there."""
        outcomes = await self._target.add(records)
        if Outcome.OVER_QUOTA in outcomes or Outcome.NO_ROOM in outcomes:
            raise StoreError(
                "The other store does not keep all that this one has: its quota is too small",
                "Move with `relay receiver move`, which has none. Nothing is lost: this store is as it was.",
            )

    async def _read_back(self, state: LogState) -> None:
        """Read the log that is there now, and see that it is this one: every entry with its receipt."""
        frontier = Frontier()
        while frontier.size < state.size:
            count = min(LOG_BATCH, state.size - frontier.size)
            raws = await self._target.log_statements(frontier.size, count)
            statements = [StatementId(RecordId(sha256(raw))) for raw in raws]
            if len(raws) != count or len(await self._target.receipted(statements)) != count:
                raise self._incomplete()
            frontier = frontier.extend(leaf_hash(raw) for raw in raws)
            self._progress("read back", frontier.size, state.size)
        if state.size and frontier.to_bytes() != state.frontier:
            raise self._incomplete()

    def _incomplete(self) -> StoreError:
        return StoreError(
            "The log in the other store lacks entries, or has others",
            "Move into an empty database and bucket. This store is as it was: its receiver may go on meanwhile.",
        )

    async def _begin(self) -> None:
        """Mark the target, unless it holds a log that is none of ours, or is at work."""
        moved = (await self._source.notes()).get(MOVED)
        if moved and moved != self._place:
            raise StoreError(f"This store was moved to {moved} already", "Go on there: two of them would be two logs.")
        if not await self._target.leads():
            raise StoreError("A receiver runs on the other store", "Stop every receiver there, then move again.")
        source, target = await self._source.log_state(), await self._target.log_state()
        begun = bool((await self._target.notes()).get(MOVING)) or not target.size
        if not begun and (target.size, target.frontier) != (source.size, source.frontier):
            raise StoreError("The other store holds another log", "Move into an empty database and bucket.")
        if begun:
            await self._target.set_note(MOVING, "1")

    async def _move_log(self) -> LogState:
        source, target = await self._source.log_state(), await self._target.log_state()
        frontier = Frontier()
        while frontier.size < source.size:
            count = min(LOG_BATCH, source.size - frontier.size)
            if frontier.size < target.size:
                count = min(count, target.size - frontier.size)
            raws = await self._source.log_statements(frontier.size, count)
            grown = frontier.extend(leaf_hash(raw) for raw in raws)
            if frontier.size >= target.size:
                await self._append(frontier.size, raws, grown, source)
            elif grown.size == target.size:
                self._check_begun(grown, target)
            frontier = grown
            self._progress("entries", frontier.size, source.size)
        moved = await self._target.log_state()
        if (moved.size, moved.frontier) != (source.size, source.frontier):
            raise StoreError("The other store holds another log", "Move into an empty database and bucket.")
        if moved.checkpoint != source.checkpoint:
            await self._target.append(LogBatch(source.size, (), (), source))
        return source

    def _check_begun(self, frontier: Frontier, target: LogState) -> None:
        """What was moved before must be the beginning of this log."""
        if frontier.to_bytes() != target.frontier:
            raise StoreError("The other store holds another log", "Move into an empty database and bucket.")

    async def _append(self, first: int, raws: Sequence[bytes], grown: Frontier, source: LogState) -> None:
        statements = [self._judge.admit(Kind.STATEMENT, raw) for raw in raws]
        ids = tuple(StatementId(one.id) for one in statements)
        for raw in raws:
            await self._move_objects(file.sha256 for file in read_statement(raw).package.files)
        await self._add(statements)
        receipts = await self._receipts(ids)
        state = source if grown.size == source.size else LogState(grown.size, grown.to_bytes(), b"")
        times = await self._source.log_times(first, len(ids))
        await self._target.append(LogBatch(first, ids, receipts, state, times=tuple(times)))

    async def _receipts(self, ids: Sequence[StatementId]) -> tuple[Admitted, ...]:
        wanted: list[RecordId] = [receipt_id(one) for one in ids]
        found = {one: raw for _, one, raw in await self._source.read(wanted, len(wanted) * MAX_RECORD)}
        if len(found) != len(wanted):
            raise StoreError("Receipts of the log are not in the store", "Restore its newest backup, then move again.")
        return tuple(self._judge.admit(Kind.RECEIPT, found[one]) for one in wanted)

    async def _move_objects(self, wanted: Iterable[ObjectId]) -> None:
        async def one(object_id: ObjectId) -> None:
            path = await self._source.object_path(object_id)
            if path is not None:
                await self._target.adopt(object_id, path)

        objects = iter(set(wanted))
        while batch := list(islice(objects, MOVED_AT_ONCE)):
            await asyncio.gather(*map(one, batch))

    async def _move_under_way(self) -> None:
        """Bundles without an entry, with as much of their content as is here."""
        async for bundle in undelivered(self._source):
            for _, _, raw in await self._source.read([bundle.id], MAX_RECORD):
                await self._add([self._judge.admit(Kind.STATEMENT, raw)])
            for holding in await self._source.holdings([file.sha256 for file in bundle.files]):
                if holding.complete:
                    await self._move_objects([holding.object])
                    continue
                for index in _indices(holding.chunks):
                    data = await self._source.read_chunk(holding.object, index)
                    if data is not None:
                        await self._target.stage_chunk(holding.object, index, data)
                await self._target.commit_chunks()

    async def _move_other_receipts(self) -> None:
        """Receipts of other receivers' logs, or for statements that are not held."""
        keys = self._source.members.keys(bytes([Kind.RECEIPT]), kind_end(Kind.RECEIPT))
        ids = iter([item_of(key)[1] for key in keys])
        while batch := list(islice(ids, LOG_BATCH)):
            held = set(await self._target.offered(batch))
            left = [one for one in batch if one not in held]
            for _, _, raw in await self._source.read(left, len(left) * MAX_RECORD):
                await self._add([self._judge.admit(Kind.RECEIPT, raw)])


async def check_place(store: Store) -> None:
    """Raises `StoreError` for a store on which nobody may sequence: it was moved, or what is moved there is not all
    there yet, or it came out of a backup that may be old. Going on would make a second log."""
    notes = await store.notes()
    if notes.get(RESTORED):
        raise StoreError(
            "This receiver was restored from a backup, and nobody compared it with what is published",
            "Do that first: relay receiver restore --home FOLDER --published URL. "
            "Two logs with one key are never right.",
        )
    if moved := notes.get(MOVED):
        raise StoreError(
            f"This receiver's store was moved to {moved}",
            "Put database and bucket into config.toml, as `relay receiver move` said: this store is only a copy now.",
        )
    if notes.get(MOVING):
        raise StoreError(
            "The move into this store is not finished",
            "Run the same `relay receiver move` again, then start the receivers.",
        )


def _indices(bits: int) -> Iterator[int]:
    return (index for index in range(bits.bit_length()) if bits >> index & 1)
