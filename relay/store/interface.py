"""The one interface of a store, and the values that pass through it.

A store keeps records and objects durably (promise 5), counts an object complete only when its content has its hash
(promise 3), frees content only against a receipt (promise 4), keeps one receipt and one log entry per statement
(promise 6), and never replaces a statement (promise 7). It takes `Admitted` records only: what has not passed
`relay.trust.admission` cannot get in.

Every coroutine returns after what it reports is on the disk: content is written and synced, then the catalogue
commits. `StoreError` tells of a full disk, a locked or a foreign store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from relay.errors import StoreError
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId
from relay.records.receipt import Receipt
from relay.store.recordset import RecordSet
from relay.store.shelf import Shelf
from relay.trust.admission import Admitted


class Outcome(StrEnum):
    """What became of a record that was handed to a store."""

    NEW = "new"
    KNOWN = "known"
    STALE = "stale"
    """A notice or a checkpoint older than the one held."""
    OVER_QUOTA = "over-quota"
    """Its signer has as much under way as a node carries for one signer, or as much altogether as a receiver takes of
    one; or there are as many receipts of a receiver for statements that are not held as a node keeps."""
    NO_ROOM = "no-room"
    """Now: the disk, or the store's own limit, leaves no room for what others made."""


class State(StrEnum):
    """How far a bundle is, seen from this node."""

    PARTIAL = "partial"
    WAITING = "waiting"
    """Complete here, no receipt yet."""
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle: the id of its object, its name, media type and size in bytes."""

    sha256: ObjectId
    name: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A statement with what is held of its objects; `size` and `held` are bytes of the objects.

    `entry` is the log index that the receipt proves, None while there is none. `own` marks what this node made.
    """

    id: StatementId
    tps: str
    form: str
    device: str
    node: NodeId
    seq: int
    state: State
    size: int
    held: int
    entry: int | None
    own: bool
    supersedes: StatementId | None
    flags: tuple[str, ...]
    captured_at: int
    files: tuple[BundleFile, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """Which chunks of an object are held: bit i of `chunks` (least significant first) is chunk i."""

    object: ObjectId
    size: int
    chunks: int
    complete: bool

    def offers(self, missing: int) -> int:
        """Which of the chunks that somebody lacks are held."""
        return missing if self.complete else missing & self.chunks


@dataclass(frozen=True, slots=True)
class Want:
    """An object that this node takes: `missing` is a bit set of chunk indices, `remaining` its bytes."""

    object: ObjectId
    size: int
    missing: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Bundles by state, and bytes of objects held."""

    partial: int
    waiting: int
    delivered: int
    bytes_held: int


@dataclass(frozen=True, slots=True)
class Cargo:
    """What is on board and not delivered: packages, stations, those still arriving, and the oldest claim of a time."""

    packages: int
    stations: int
    partial: int
    oldest: int | None


@dataclass(frozen=True, slots=True)
class PeerNote:
    """What is remembered of a neighbour: its last address (`host:port`) and visit. `last_seen`: seconds since 1970."""

    node: NodeId
    name: str
    role: str
    address: str
    last_seen: int
    bytes_in: int
    bytes_out: int
    connected: bool


@dataclass(frozen=True, slots=True)
class LogState:
    """The receiver's log as last committed: size, frontier, newest signed checkpoint (empty at first)."""

    size: int
    frontier: bytes
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Entries to append in one commit: the statements in order from index `first`, their receipts, the new state, and
    the edge of the tree then (`relay.log.edge`; a store that sequences without its shelf keeps it)."""

    first: int
    statements: tuple[StatementId, ...]
    receipts: tuple[Admitted, ...]
    state: LogState
    edge: bytes = b""
    times: tuple[int, ...] = ()
    """When they were logged (seconds since 1970), where that was before: of entries that are moved."""

    def check(self, size: int) -> list[tuple[int, StatementId]]:
        """Entries and statements of a batch that goes on a log of `size` entries. Raises `StoreError` for another."""
        if size != self.first or self.state.size != size + len(self.statements):
            raise StoreError("The log was changed by another receiver", "Run one sequencer on a store.")
        entries = list(enumerate(self.statements, self.first))
        bodies = [one.body for one in self.receipts]
        if [(one.entry, one.statement) for one in bodies if isinstance(one, Receipt)] != entries:
            raise StoreError("A batch of the log lacks a receipt for each entry", "Report this; nothing was written.")
        return entries


class Seen(StrEnum):
    """What `Store.refresh` found that other processes did."""

    NOTHING = "nothing"
    NEWS = "news"
    """Statements, content, receipts, entries of the log."""
    HEADS = "heads"
    """Checkpoints, and perhaps news: those have to be loaded again."""
    RULES = "rules"
    """Notices, and perhaps more: what is in force has to be loaded again."""


class Store(Protocol):
    """A node's store. The command line may read and submit beside its daemon; several receivers may share one that is
    made for it. Where a number of things at most is asked for, of none or fewer nothing is given."""

    @property
    def members(self) -> RecordSet:
        """The ids this node reconciles: notices and checkpoints in force, receipts, statements without receipt.

        A receiver is asked rather than reconciled with (`receipted`, `known_statements`): its store may leave receipts
        and statements out.
        """

    @property
    def shelf(self) -> Shelf:
        """Where a receiver's published files go."""

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each service that the store needs failed, since it was opened."""

    @property
    def unreadable(self) -> frozenset[ObjectId]:
        """Objects whose content could not be read since the store was opened, or was found to be another one: they
        count as not held, and are wanted while a bundle without receipt needs them. Nothing else is kept up by them."""

    async def reread(self) -> int:
        """Try to read those again; how many can be read now and have their hash, and are held again."""

    async def leads(self) -> bool:
        """Whether this process is the one that sequences: one at a time, decided by the store, soon another one when
        it ends. What keeps the log one all the same is `append`."""

    @property
    def term(self) -> int:
        """How often this process came to lead. What it knew when it led before, another one may have changed since."""

    async def refresh(self) -> Seen:
        """Take in what other processes committed since. Cheap when nothing did."""

    async def changed(self, seconds: float) -> None:
        """Return when another process may have committed something, at the latest after so many seconds."""

    async def close(self) -> None:
        """Sync what is staged and let go of the disk."""

    # -- records
    async def add(self, records: Sequence[Admitted], *, made_here: bool = False) -> list[Outcome]:
        """Keep records, in one durable commit; the outcome of each, in order. What this node made just now has no
        quota, and needs no room. What others bring in its name does: its key may have been copied."""

    async def read(self, ids: Sequence[RecordId], limit: int) -> list[tuple[Kind, RecordId, bytes]]:
        """The held ones among `ids`, in that order, until their bytes pass `limit` (at least one where any is held)."""

    async def load(self, kind: Kind) -> list[bytes]:
        """Every record of a kind in force; for notices and checkpoints, which are few."""

    async def offered(self, ids: Sequence[RecordId]) -> list[RecordId]:
        """Those among `ids`, in that order, that are held and may travel from here: never a delivered statement."""

    async def receipted(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """Those among `ids` whose receipt is held."""

    async def known_statements(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """Those among `ids` whose statement or receipt is held."""

    async def awaiting_receipt(self, after: bytes, limit: int) -> list[StatementId]:
        """Ids of complete or partial statements without receipt, ascending, greater than `after`."""

    def to_deliver(self) -> AsyncIterator[list[StatementId]]:
        """Ids of statements without receipt, page by page: of each signer the one with the least bytes, then of each
        the next one; superseded ones after all others. What gets its receipt meanwhile may have others left out."""

    async def withhold(self, revoked: Iterable[NodeId]) -> int:
        """Stop showing and offering undelivered statements of these signers, and of these only; how many there are.

        Their content stays: a later notice may restore a signer, and an only copy is never deleted.
        """

    async def take_back(self, records: Sequence[RecordId]) -> None:
        """Let go of these receipts and checkpoints, whose signer is believed no more.

        What a receipt delivered is undelivered again, and where its content was freed, wanted again.
        """

    # -- bundles
    async def bundles(self) -> list[Bundle]:
        """Every bundle shown by this node, ordered by station, form, device and sequence."""

    async def bundle(self, statement: StatementId) -> Bundle | None:
        """One bundle, or None."""

    def bundles_of(self, ids: Sequence[RecordId | ObjectId]) -> AsyncIterator[Bundle]:
        """The bundles shown by this node that are one of these, or name one of these objects: each once, read as they
        are asked for."""

    async def undelivered(self, after: bytes, limit: int) -> list[Bundle]:
        """Bundles without receipt, withheld ones too, by ascending id greater than `after`: `bundles` may be a
        whole election."""

    async def counts(self) -> Counts:
        """Bundles by state; cheap. Of very many it may be some seconds old."""

    async def cargo(self, first: int, last: int) -> Cargo:
        """What this node shows and has no receipt for, told in a few numbers. Of the times that devices claim, those
        from `first` to `last` (seconds since 1970) count: another clock was never set."""

    async def chain_head(self, node: NodeId, *, made_here: bool = False) -> tuple[int, StatementId] | None:
        """Sequence number and id of the newest statement of a device's chain that is held, or None. Of this node's own
        with `made_here` the newest one that it made: others, who have a copy of its key, may go on from that."""

    # -- objects
    async def wants(self, limit: int, skip: frozenset[ObjectId] = frozenset()) -> list[Want]:
        """Objects this node takes, at most `limit`, best first: bundles not superseded; of each signer the one with
        the least remaining, then of each the next one; among them the least remaining, then by id.

        All objects of a bundle stand together, so that whole packages come before many halves. Empty while the
        store is over its limit. Only what fits whole, and all of it together, beside what was listed before and is not
        passed over by `skip`, as what is on its way should not be: that keeps its room.
        """

    async def missing(self, object_id: ObjectId) -> int:
        """The bit set of the chunks of one object that nobody brought yet; 0 when it is not wanted, or when there is no
        room for the rest of it. Cheap."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """What is held of each of these objects; those of which nothing is held, or can be read, are left out."""

    async def read_chunk(self, object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:
        """The content of one held chunk, or None. An object that cannot be read is noted (`unreadable`).

        Where a chunk is `doubted`, since somebody who got it from here lacks it still, it is compared with its hash
        first: a disk may give other bytes without an error. Who doubts for no reason costs that hash. Only an object
        whose chunks no statement that is kept lists is read whole, once, and counts as right if it has its own hash.
        """

    async def stage_chunk(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """Write a chunk whose hash a wanted object's statement names; 0 when none does, or it is held already.

        Not yet durable: a commit makes it so, whose number is returned. Raises `Malformed` when the content matches no
        statement.
        """

    async def commit_chunks(self, since: int = 0) -> list[StatementId]:
        """Sync staged chunks, complete objects whose hash is right, commit; bundles that became complete by it. Of an
        object that cannot be read back, chunks are asked for again, and all else is kept.

        Others' commits take whatever is staged, too. Who acknowledges chunks gives the least number that staging them
        returned as `since`: `StoreError` if any commit from that one on failed.
        """

    async def adopt(self, object_id: ObjectId, source: Path) -> bool:
        """Take a whole file in as an object (a copy; hash checked as it is read); False when it is held already, and
        not known to be unreadable. Raises `Malformed` for other content, and `Unreadable` where the file is not to be
        had."""

    async def object_path(self, object_id: ObjectId) -> Path | None:
        """The file of a complete object, for reading only; None where it is not complete here, or known to be
        unreadable. `Unreadable` where a bucket does not have it."""

    async def free(self, objects: Sequence[ObjectId]) -> int:
        """Delete the content of objects; bytes freed. Raises `StoreError` for one that an undelivered bundle needs."""

    def freeable(self, own_before: int) -> AsyncIterator[tuple[StatementId, tuple[ObjectId, ...], int]]:
        """Delivered bundles that still hold content no undelivered one needs, oldest entry first, with its bytes.

        A bundle that this node made is left out unless its receipt came before `own_before` (seconds since 1970).
        """

    async def date_receipts(self, first: int, last: int, now: int) -> None:
        """Have receipts of what this node made that came from `first` to `last` count as having come `now`: the clock
        told no time then. All are seconds since 1970."""

    # -- neighbours
    async def note_peer(self, note: PeerNote) -> None:
        """Remember a neighbour."""

    async def peers(self) -> list[PeerNote]:
        """The remembered neighbours, last seen first, at most a few hundred."""

    async def set_note(self, key: str, value: str) -> None:
        """Keep one line of the daemon's own state (what the uplink does, say) for `relay status`."""

    async def notes(self) -> dict[str, str]:
        """All such lines."""

    async def finish(self) -> list[StatementId]:
        """Complete objects of which every chunk is held: left by a process that ended, or by a place for content that
        was away. The bundles that became complete by it. Cheap where there are none."""

    # -- the receiver's log
    async def unlogged(self, limit: int) -> list[tuple[StatementId, bytes]]:
        """Complete statements that have no entry, in the order in which they became complete, with their bytes. Those
        that need an object which cannot be read wait until it can, or came again. What this process did not see come is
        read first: a receipt has every other copy freed."""

    async def log_state(self) -> LogState:
        """The log as last committed."""

    async def log_edge(self) -> bytes:
        """The edge of the last batch that gave one; empty where this store keeps none."""

    async def append(self, batch: LogBatch) -> None:
        """Commit entries, receipts and state at once; raises `StoreError` if the log is not as the batch assumes."""

    async def log_statements(self, first: int, count: int) -> list[bytes]:
        """Statements by log index, for rebuilding tiles."""

    async def log_times(self, first: int, count: int) -> list[int]:
        """When entries were logged, by log index: seconds since 1970, by the clock of the receiver that did it."""
