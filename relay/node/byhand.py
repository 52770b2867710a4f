"""Moving by hand: a folder on a stick or card as the other side of a visit.

    DIR/notices/<id>.cose       DIR/statements/<id>.cose      DIR/objects/<sha256>
    DIR/checkpoints/<id>.txt    DIR/receipts/<statement id>.cose

Every file is whole or not there (temporary name, fsync, rename), so a stick pulled out half-way holds nothing
half-believed, and exporting again goes on where it stopped. A file that cannot be read, here or on the stick, is named,
and all else goes on. What comes in passes the same custody as on a visit, and
objects are taken only when a statement that is held wants them, and gives them that size (promise 2). `sha256sum
objects/*` checks them. A stick may have been prepared: nothing is written through a link that lies on it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from relay.errors import BadInput, Malformed, Refused, RelayError, StoreError, Unreadable
from relay.limits import MAX_RECORD, RECORDS_PAGE, WANTS_PAGE
from relay.records.identifiers import Kind, ObjectId, RecordId, receipt_id, sha256, statement_id
from relay.records.receipt import read_receipt
from relay.store.durable import copy_durably, explained, make_folder, reading, write_durably
from relay.store.interface import BundleFile, Store
from relay.sync.custody import Custody

FOLDERS: dict[Kind, tuple[str, str]] = {
    Kind.NOTICE: ("notices", ".cose"),
    Kind.CHECKPOINT: ("checkpoints", ".txt"),
    Kind.RECEIPT: ("receipts", ".cose"),
    Kind.STATEMENT: ("statements", ".cose"),
}
OBJECTS = "objects"
_LOOKED_AT = 1_000
"""Names in a folder that are looked at for an export in one of them."""

T = TypeVar("T")

Progress = Callable[[str, int], None]
"""Told what was written or taken (`records`, `objects`) and how many bytes."""


@dataclass(slots=True)
class Moved:
    """What an export wrote or an import took, and what an export left out or an import refused, with why."""

    records: int = 0
    objects: int = 0
    bytes: int = 0
    refused: list[str] = field(default_factory=list)
    foreign: int = 0
    """How many of those are of another election."""
    unreadable: int = 0
    """How many of those are files that the disk, or the stick, does not give."""


async def export_to(custody: Custody, folder: Path, progress: Progress = lambda _what, _size: None) -> Moved:
    """Write everything that this node holds to `folder`; what cannot be read here is left out, and listed. Raises
    `StoreError` when the stick is full or gone, `BadInput` where it leads elsewhere."""
    if any((folder / name).is_symlink() for name in (OBJECTS, *(name for name, _ in FOLDERS.values()))):
        # A disk that somebody prepared could have files written anywhere.
        raise BadInput(f"{folder} has links to other folders in it", "Choose a new folder.")
    moved = Moved()
    store = custody.store
    async for kind, raw in _small_records(custody):
        _write_record(folder, kind, raw, moved, progress)
    left_out: set[ObjectId] = set()
    for bundle in await store.bundles():
        for kind, _, raw in await store.read([bundle.id], MAX_RECORD):  # first: what its objects are is worth more
            _write_record(folder, kind, raw, moved, progress)
        for entry in bundle.files:
            if entry.sha256 in left_out:
                continue
            try:
                written = await _write_object(folder, store, entry)
            except Unreadable as error:
                left_out.add(entry.sha256)
                _refuse_unreadable(folder / OBJECTS / entry.sha256.hex(), error, moved)
                continue
            if written:
                moved.objects += 1
                moved.bytes += entry.size
                progress("objects", entry.size)
    return moved


async def _write_object(folder: Path, store: Store, entry: BundleFile) -> bool:
    """Write an object, where it is held and not there already. Raises `Unreadable`, and `StoreError` of the stick."""
    target = folder / OBJECTS / entry.sha256.hex()
    source = await store.object_path(entry.sha256)
    if source is None:
        if entry.sha256 in store.unreadable:
            raise Unreadable("It cannot be read here", "Export it from another node.")
        return False
    with reading(source):
        size = source.stat().st_size
    if _is_there(target, size, entry.sha256):
        return False
    _make(target.parent)
    copy_durably(source, target)
    return True


async def import_from(custody: Custody, folder: Path, progress: Progress = lambda _what, _size: None) -> Moved:
    """Take in what `folder` holds, with the checks of a visit. What is refused is listed; the rest is kept."""
    if not _is_export(folder):
        what = f"{folder} holds no export of relay"
        if near := _export_near(folder):
            raise BadInput(what, f"There is one in {near}: give that folder.")
        raise BadInput(what, "Give the folder that `relay export` wrote.")
    moved = Moved()
    for kind in Kind:
        for page in _pages(_record_files(folder, kind), RECORDS_PAGE):
            await _take_records(custody, kind, page, moved, progress)
    await _take_objects(custody, folder, moved, progress)
    return moved


def _is_export(folder: Path) -> bool:
    return any((folder / name).is_dir() for name, _ in FOLDERS.values())


def _export_near(folder: Path) -> Path | None:
    """The export that was meant where another folder was named: one within it, or the one that it is a part of."""
    try:
        within = sorted(one for one in islice(folder.iterdir(), _LOOKED_AT) if one.is_dir())
        return next((one for one in (*within, folder.resolve().parent) if _is_export(one)), None)
    except OSError:
        return None  # a stick that fails holds none either


async def import_notices(custody: Custody, notices: Sequence[bytes]) -> Moved:
    """Take in the notices of an enrolment or a revocation file."""
    moved = Moved()
    for verdict in await custody.take([(Kind.NOTICE, raw) for raw in notices]):
        if verdict.refusal is not None:
            moved.refused.append(str(verdict.refusal))
            moved.foreign += _is_foreign(verdict.refusal)
        else:
            moved.records += verdict.word == "new"
    return moved


async def _small_records(custody: Custody) -> AsyncIterator[tuple[Kind, bytes]]:
    """Notices, checkpoints and receipts, page by page; at a receiver those of its log, which its set leaves out."""
    members = [RecordId(record) for kind, record in custody.store.members if kind != Kind.STATEMENT]
    for page in _pages(iter(members), RECORDS_PAGE):
        async for kind, raw in _records(custody, page):
            yield kind, raw
    size, first, there = (await custody.store.log_state()).size, 0, set(members)
    while first < size and (entries := await custody.store.log_statements(first, RECORDS_PAGE)):
        first += len(entries)
        receipts = [receipt_id(statement_id(raw)) for raw in entries]
        async for kind, raw in _records(custody, [one for one in receipts if one not in there]):
            yield kind, raw


async def _records(custody: Custody, ids: Sequence[RecordId]) -> AsyncIterator[tuple[Kind, bytes]]:
    left = list(ids)
    while left and (records := await custody.store.read(left, 1 << 20)):
        for kind, record, raw in records:
            yield kind, raw
            left = left[left.index(record) + 1 :]


def _write_record(folder: Path, kind: Kind, raw: bytes, moved: Moved, progress: Progress) -> None:
    name, suffix = FOLDERS[kind]
    target = folder / name / (_record_name(kind, raw) + suffix)
    if _is_there(target, len(raw), sha256(raw)):
        return
    _make(target.parent)
    write_durably(target, raw)
    moved.records += 1
    moved.bytes += len(raw)
    progress("records", len(raw))


def _record_name(kind: Kind, raw: bytes) -> str:
    return read_receipt(raw).statement.hex() if kind is Kind.RECEIPT else sha256(raw).hex()


async def _take_records(custody: Custody, kind: Kind, files: list[Path], moved: Moved, progress: Progress) -> None:
    records: list[tuple[Kind, bytes]] = []
    names: list[str] = []
    for file in files:
        try:
            records.append((kind, read_plain(file, MAX_RECORD)))
            names.append(f"{file.parent.name}/{file.name}")
        except Unreadable as error:
            _refuse_unreadable(file, error, moved)
    for name, verdict, (_, raw) in zip(names, await custody.take(records), records, strict=True):
        if verdict.refusal is not None:
            moved.refused.append(f"{name}: {verdict.refusal.what}")
            moved.foreign += _is_foreign(verdict.refusal)
        elif verdict.word == "over-quota":
            moved.refused.append(f"{name}: its signer has too much under way on this node")
        elif verdict.word == "no-room":
            moved.refused.append(f"{name}: there is no room left on this node for what others made")
        elif verdict.word == "new":
            moved.records += 1
            moved.bytes += len(raw)
        progress("records", len(raw))


def _is_foreign(error: RelayError) -> bool:
    return isinstance(error, Refused) and error.foreign


async def _take_objects(custody: Custody, folder: Path, moved: Moved, progress: Progress) -> None:
    tried: set[ObjectId] = set()
    claimed: set[tuple[ObjectId, int]] | None = None
    while wants := await custody.store.wants(WANTS_PAGE, frozenset(tried)):
        for want in wants:
            tried.add(want.object)
            file = folder / OBJECTS / want.object.hex()
            try:
                with reading(file):
                    if not file.is_file() or file.is_symlink():
                        continue
                    size = file.stat().st_size
            except Unreadable as error:
                _refuse_unreadable(file, error, moved)
                continue
            if size != want.size:  # statements may differ about it: another one may give this size
                claimed = await _claimed(custody) if claimed is None else claimed
                if (want.object, size) not in claimed:
                    moved.refused.append(
                        f"{OBJECTS}/{file.name}: It has {size} bytes, which no statement here gives it"
                    )
                    continue
            try:
                taken = await custody.store.adopt(want.object, file)
            except Malformed as error:
                moved.refused.append(f"{OBJECTS}/{file.name}: {error.what}")
                continue
            except Unreadable as error:
                _refuse_unreadable(file, error, moved)
                continue
            if taken:
                moved.objects += 1
                moved.bytes += size
                custody.news.ring()
            progress("objects", size)


def _refuse_unreadable(file: Path, error: Unreadable, moved: Moved) -> None:
    moved.refused.append(f"{file.parent.name}/{file.name}: {_trouble(error)}")
    moved.unreadable += 1


def _trouble(error: Unreadable) -> str:
    """What is wrong with a file that is named beside it."""
    cause = error.__cause__
    return f"It cannot be read ({cause.strerror})" if isinstance(cause, OSError) else error.what


async def _claimed(custody: Custody) -> set[tuple[ObjectId, int]]:
    """The sizes that statements give objects. Quotas count those: what is larger than its signer said is in none."""
    return {(entry.sha256, entry.size) for bundle in await custody.store.bundles() for entry in bundle.files}


def _record_files(folder: Path, kind: Kind) -> Iterator[Path]:
    name, suffix = FOLDERS[kind]
    if not (folder / name).is_dir():
        return
    with explained(folder / name), os.scandir(folder / name) as entries:
        for entry in entries:
            if entry.name.endswith(suffix) and not entry.name.startswith("."):
                yield Path(entry.path)


def read_plain(file: Path, limit: int) -> bytes:
    """A plain file's bytes, one more than `limit` at most: admission refuses what is longer."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as content:
            return content.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"It cannot be read ({error.strerror})", "Try another port, stick or card.") from error


def _pages(items: Iterator[T], size: int) -> Iterator[list[T]]:
    page: list[T] = []
    for item in items:
        page.append(item)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _is_there(path: Path, size: int, digest: bytes) -> bool:
    """Whether a plain file has this content: its size alone could be that of something else, cut off or put there."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == digest
    except OSError:
        return False  # it is written anew, where the stick can be written


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made ({error.strerror})", "Check the stick or card.") from error
