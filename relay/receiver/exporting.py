"""The whole log with everything that belongs to it, as a BagIt bag (RFC 8493) that outlives this program.

    bagit.txt  bag-info.txt  manifest-sha256.txt  tagmanifest-sha256.txt
    data/root.pem           data/checkpoint, data/tile/…    the log, as it is published (C2SP tlog-tiles)
    data/notices.pem        data/all-notices.pem            notices, without and with the register
    data/receipt/<id>       data/object/<sha256>            the receipt of each entry; objects
    data/statement/<id>                                     statements that have no entry yet

`relay audit file:///…/data` checks it, and so does any BagIt tool. An export that was interrupted is begun again: what
is whole stays, and every file is read back and hashed before the manifest names it. Until then there is no manifest,
so that half a bag cannot pass for one. An object that the receiver's disk or bucket does not give is left out, and
named.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.errors import BadInput, StoreError, Unreadable
from relay.limits import LOG_BATCH, MAX_RECORD, MIB
from relay.log.tiles import WIDTH
from relay.node.home import Member
from relay.receiver.publishing import Publisher
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, receipt_id, statement_id
from relay.records.statement import FileEntry, read_statement
from relay.store.durable import copy_durably, explained, make_folder, write_durably
from relay.store.interface import LogState
from relay.store.listing import undelivered
from relay.store.shelf import FolderShelf
from relay.sync.custody import Custody
from relay.trust.enrolment import Enrolment, pem_block, write_enrolment
from relay.trust.witness import log_key

Progress = Callable[[str, int, int], None]
"""Told what is being written, how many are done, and how many there are."""

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_INFO, _MANIFEST, _TAGS = "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"
_LOG = "External-Identifier: "


@dataclass(frozen=True, slots=True)
class Bagged:
    """What a bag holds: entries of the log, files and their bytes. And what it does not hold: objects that never became
    complete here, and the names of those that the disk or the bucket does not give as they were."""

    entries: int
    files: int
    bytes: int
    incomplete: int
    unreadable: tuple[str, ...]


class Exporter:
    """Writes one receiver's bag to `folder`. The log may grow meanwhile: the bag has what it was at the beginning."""

    def __init__(self, custody: Custody, member: Member, folder: Path, progress: Progress) -> None:
        self._custody = custody
        self._member = member
        self._folder = folder
        self._data = folder / "data"
        self._progress = progress
        self._incomplete = 0
        self._unreadable: set[ObjectId] = set()

    async def export(self) -> Bagged:
        """Write the bag, or go on with it. Raises `BadInput` for another log's folder, `StoreError` for a full disk."""
        origin = f"{self._member.identity.election}/{self._member.identity.name}"
        self._open(origin)
        state = await self._custody.store.log_state()
        await self._write_trust(state)
        await self._write_entries(state)
        await self._write_under_way()
        files, size = await asyncio.to_thread(self._seal, origin)
        unreadable = tuple(sorted(one.hex() for one in self._unreadable))
        return Bagged(state.size, files, size, self._incomplete, unreadable)

    # -- what is written
    async def _write_trust(self, state: LogState) -> None:
        """Root, notices, tiles and the checkpoint, with its cosignatures where they are held."""
        store = self._custody.store
        publisher = Publisher(FolderShelf(self._data), log_key(self._member.identity))
        await publisher.catch_up(state, store)
        for signed in self._custody.admission.checkpoints.values():
            if signed.note.text.encode() == state.checkpoint.partition(b"\n\n")[0] + b"\n":
                self._put("checkpoint", signed.raw)
        notices = await store.load(Kind.NOTICE)
        await publisher.publish_notices(notices)
        self._put("all-notices.pem", write_enrolment(Enrolment(None, None, tuple(notices))))
        self._put("root.pem", pem_block("CERTIFICATE", self._member.root).encode())

    async def _write_entries(self, state: LogState) -> None:
        store = self._custody.store
        for first in range(0, state.size, WIDTH):
            raws = await store.log_statements(first, min(WIDTH, state.size - first))
            missing = [one for one in map(statement_id, raws) if not self._path(f"receipt/{one.hex()}").is_file()]
            async for statement, receipt in self._receipts(missing):
                self._put(f"receipt/{statement.hex()}", receipt)
            for raw in raws:
                await self._write_objects(read_statement(raw).package.files)
            self._progress("entries", first + len(raws), state.size)

    async def _receipts(self, statements: list[StatementId]) -> AsyncIterator[tuple[StatementId, bytes]]:
        of = {receipt_id(one): one for one in statements}
        left: list[RecordId] = list(of)
        while left:
            found = await self._custody.store.read(left, LOG_BATCH * 1_024)
            if not found:
                raise StoreError(f"{len(left)} receipts of the log are not in the store", "Restore its newest backup.")
            for _, record, raw in found:
                yield of[record], raw
            left = left[left.index(found[-1][1]) + 1 :]

    async def _write_under_way(self) -> None:
        store = self._custody.store
        async for bundle in undelivered(store):
            for _, _, raw in await store.read([bundle.id], MAX_RECORD):
                self._put(f"statement/{bundle.id.hex()}", raw)
                await self._write_objects(read_statement(raw).package.files)

    async def _write_objects(self, files: tuple[FileEntry, ...]) -> None:
        for entry in files:
            target = self._path(f"object/{entry.sha256.hex()}")
            if entry.sha256 in self._unreadable or (target.is_file() and target.stat().st_size == entry.size):
                continue
            with explained(target.parent):
                make_folder(target.parent)
            try:
                source = await self._custody.store.object_path(entry.sha256)
                if source is None:
                    self._incomplete += 1
                    continue
                digest = await asyncio.to_thread(copy_durably, source, target)
            except Unreadable:
                self._unreadable.add(entry.sha256)
                continue
            if digest != entry.sha256:
                target.unlink()
                self._unreadable.add(entry.sha256)

    # -- the bag
    def _open(self, origin: str) -> None:
        info = self._folder / _INFO
        with explained(self._folder):
            if info.is_file():
                if f"{_LOG}{origin}\n" not in info.read_text(encoding="utf-8", errors="replace"):
                    raise BadInput(f"{self._folder} is the bag of another log", "Give an empty folder.")
            elif self._folder.exists() and any(self._folder.iterdir()):
                raise BadInput(f"{self._folder} is not empty, and no bag of this log", "Give an empty folder.")
            make_folder(self._data)
            for name in (_TAGS, _MANIFEST):
                (self._folder / name).unlink(missing_ok=True)
        write_durably(info, f"{_LOG}{origin}\n".encode())
        write_durably(self._folder / "bagit.txt", _DECLARATION)

    def _seal(self, origin: str) -> tuple[int, int]:
        """Read everything back, write the manifests; files and bytes of the payload."""
        paths = list(self._payload())
        total = 0
        lines: list[str] = []
        for done, path in enumerate(paths, 1):
            digest, size = _hash(path)
            name = path.relative_to(self._folder).as_posix()
            if path.parent == self._data / "object" and digest != path.name:
                path.unlink()
                raise StoreError(
                    f"{name} was not written as it was read", "Run the same command again; check the disk."
                )
            lines.append(f"{digest}  {name}\n")
            total += size
            self._progress("files checked", done, len(paths))
        identity = self._member.identity
        info = f"Source-Organization: {identity.election}\n{_LOG}{origin}\nPayload-Oxum: {total}.{len(paths)}\n"
        write_durably(self._folder / _INFO, info.encode())
        write_durably(self._folder / _MANIFEST, "".join(lines).encode())
        tags = [f"{_hash(self._folder / name)[0]}  {name}\n" for name in ("bagit.txt", _INFO, _MANIFEST)]
        write_durably(self._folder / _TAGS, "".join(tags).encode())
        return len(paths), total

    def _payload(self) -> Iterator[Path]:
        """Every file of the payload, in a fixed order. What a write that was cut off left is removed."""
        with explained(self._data):
            for folder, names, files in os.walk(self._data):
                names.sort()
                for name in sorted(files):
                    path = Path(folder, name)
                    if name.startswith("."):
                        path.unlink()
                    else:
                        yield path

    def _path(self, name: str) -> Path:
        return self._data / name

    def _put(self, name: str, content: bytes) -> None:
        target = self._path(name)
        with explained(target.parent):
            make_folder(target.parent)
            if target.is_file() and target.read_bytes() == content:
                return
        write_durably(target, content)


def _hash(path: Path) -> tuple[str, int]:
    whole, size = hashlib.sha256(), 0
    with explained(path), path.open("rb") as file:
        while block := file.read(MIB):
            whole.update(block)
            size += len(block)
    return whole.hexdigest(), size
