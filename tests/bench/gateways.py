"""Gateways for benchmarks: boats that visit a receiver with the product's own visit, and the statements they carry."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.cli.demo.election import example_tally
from relay.errors import Unreachable
from relay.limits import FIRST_RETRY_SECONDS
from relay.net.client import HttpPeer
from relay.net.tls import client_context
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.receipt import read_receipt
from relay.records.statement import Package, chunk_size_for, describe_file, sign_statement
from relay.records.tally import read_tally
from relay.store.interface import Bundle, BundleFile, Holding, Outcome, State
from relay.store.recordset import Item, RecordSet
from relay.sync.claims import Claims
from relay.sync.custody import Custody, Verdict
from relay.sync.handover import Handed
from relay.sync.messages import Hello
from relay.sync.peer import Frame
from relay.sync.signal import Signal
from relay.sync.visit import Visit
from relay.trust.roles import Role
from tests.bench.machine import CONTENT
from tests.bench.receivers import FORMS, VOTERS, Office
from tests.factory import ELECTION, Node, make_node

PHOTO = len(CONTENT)


@dataclass(slots=True)
class Load:
    """What one gateway carries: statements, and the content of their objects."""

    statements: dict[StatementId, bytes] = field(default_factory=dict)
    objects: dict[ObjectId, bytes] = field(default_factory=dict)
    """Each object's first bytes, in which it differs from `CONTENT`."""
    packages: dict[StatementId, Package] = field(default_factory=dict)
    needs: dict[StatementId, tuple[ObjectId, ...]] = field(default_factory=dict)


def content_of_photo(head: bytes, at: int, length: int) -> bytes:
    """A part of a photograph; all are the same but for their first bytes, or memory would be full of them."""
    part = CONTENT[at : at + length]
    return head + part[len(head) :] if at == 0 else part


class Held:
    """What a gateway holds, as a visit asks for it: the part of a `Store` that a visit to a receiver uses."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.members = RecordSet()
        for one in load.statements:
            self.members.add(Kind.STATEMENT, one)
        self._waiting = sorted(load.statements)

    async def awaiting_receipt(self, after: bytes, limit: int) -> list[StatementId]:
        return [one for one in self._waiting if one > after][:limit]

    async def to_deliver(self) -> AsyncIterator[list[StatementId]]:
        yield self._waiting

    async def read(self, ids: Sequence[RecordId], limit: int) -> list[tuple[Kind, RecordId, bytes]]:
        found: list[tuple[Kind, RecordId, bytes]] = []
        for one in ids:
            raw = self._load.statements.get(StatementId(one))
            if raw is None:
                continue
            limit -= len(raw)
            if found and limit < 0:
                break
            found.append((Kind.STATEMENT, one, raw))
        return found

    async def known_statements(self, ids: Sequence[StatementId]) -> set[StatementId]:
        return set(ids)

    async def bundle(self, statement: StatementId) -> Bundle:
        package = self._load.packages[statement]
        files = tuple(BundleFile(one.sha256, one.name, one.media_type, one.size) for one in package.files)
        size = sum(one.size for one in files)
        return Bundle(
            id=statement,
            tps=package.tps,
            form=package.form,
            device="",
            node=NodeId(bytes(32)),
            seq=package.seq,
            state=State.WAITING,
            size=size,
            held=size,
            entry=None,
            own=False,
            supersedes=None,
            flags=(),
            captured_at=0,
            files=files,
        )

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        held = [one for one in objects if one in self._load.objects]
        return [Holding(one, PHOTO, (1 << -(-PHOTO // chunk_size_for(PHOTO))) - 1, complete=True) for one in held]

    async def read_chunk(self, object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:
        step = chunk_size_for(PHOTO)
        return content_of_photo(self._load.objects[object_id], index * step, step)

    def settle(self, statement: StatementId) -> None:
        """A receipt came."""
        self._waiting.remove(statement)
        self.members.discard(Kind.STATEMENT, statement)


class Keeper:
    """The part of a `Custody` that a visit to a receiver uses: takes everything and checks it after the race."""

    def __init__(self, office: Office, load: Load) -> None:
        self.admission = office.election.admission
        self.store = Held(load)
        self.refused: dict[Item, None] = {}
        self.handed = Handed()
        self.news = Signal()
        self.content = 0
        self.receipts: dict[RecordId, tuple[float, bytes]] = {}
        """With the moment at which each came."""
        self._statements = {receipt_id(one): one for one in load.statements}
        self._checkpoint: RecordId | None = None

    async def take(self, records: Sequence[tuple[Kind, bytes]], asked: frozenset[bytes]) -> list[Verdict]:
        now = time.perf_counter()
        taken: list[Verdict] = []
        for kind, raw in records:
            name = RecordId(sha256(raw))
            if kind is Kind.RECEIPT:
                name = read_receipt(raw).id
                self.receipts[name] = now, raw
                self.store.settle(self._statements[name])
            elif kind is Kind.CHECKPOINT:
                if self._checkpoint is not None:
                    self.store.members.discard(Kind.CHECKPOINT, self._checkpoint)
                self._checkpoint = name
            self.store.members.add(kind, name)
            taken.append(Verdict(kind, name, Outcome.NEW, asked=name))
        return taken


class Peer(HttpPeer):
    """The product's own client; notes when the last chunk of each object was handed to the link."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(url, context)
        self.brought: dict[ObjectId, float] = {}

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        return await super().put_chunks(self._noted(frames))

    async def _noted(self, frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
        async for frame in frames:
            self.brought[frame[0]] = time.perf_counter()
            yield frame


class Gateway:
    """A boat at the receiver's: one contact, and a visit for each load."""

    def __init__(self, folder: Path, office: Office, name: str) -> None:
        self._office = office
        self.node = make_node(office.election, name, Role.CARRIER)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        pem = ssl.DER_cert_to_PEM_cert(self.node.identity.certificate)
        certificate.write_text(pem)
        key.write_bytes(self.node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        admission = office.election.admission
        self._context = client_context(certificate, key, office.election.root, admission.identify)
        self.peer: Peer | None = None
        self.receipts: dict[RecordId, tuple[float, bytes]] = {}
        self.broken = 0
        """Visits that did not come to their end."""

    def hello(self) -> Hello:
        identity = self.node.identity
        return Hello(identity.node, identity.name, identity.role, identity.election, 1 << 30)

    @asynccontextmanager
    async def contact(self, url: str) -> AsyncIterator[Peer]:
        """Be connected."""
        self.peer = Peer(url, self._context)
        async with self.peer:
            yield self.peer

    async def deliver(self, load: Load) -> None:
        """Visit until every statement of a load has its receipt."""
        assert self.peer is not None
        keeper = Keeper(self._office, load)
        while await keeper.store.awaiting_receipt(b"", 1):
            custody = cast(Custody, keeper)
            try:
                visit = Visit(custody, self.peer, self.hello(), Claims(), time.monotonic, at_receiver=True)
                await visit.run()
            except Unreachable:  # the next visit goes on where this one ended
                self.broken += 1
                await asyncio.sleep(FIRST_RETRY_SECONDS)
        self.receipts |= keeper.receipts


class Stations:
    """The devices of polling stations, each with its certificate and its chain of statements."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._dice = random.Random(2)

    def loads(self, count: int, per_visit: int, photos: int = 0) -> list[Load]:
        """So many statements, in loads for one visit each. Takes the next stations of the register."""
        loads: list[Load] = []
        for number, (package, node) in enumerate(self._packages(count, photos)):
            if number % per_visit == 0:
                loads.append(Load())
            raw = sign_statement(package, node.identity.uri, node.identity.certificate, node.key)
            name = StatementId(RecordId(sha256(raw)))
            node.chain.append(name)
            loads[-1].statements[name] = raw
            loads[-1].packages[name] = package
            loads[-1].needs[name] = tuple(file.sha256 for file in package.files)
            loads[-1].objects |= self._heads
        return loads

    def _packages(self, count: int, photos: int) -> Iterator[tuple[Package, Node]]:
        for number in range(count):
            at = number % len(FORMS)
            if at == 0:
                station = self._office.stations.pop()
                node = make_node(self._office.election, f"island-{station.tps}", tps=[station.tps])
            self._heads = {}
            files = []
            for photo in range(photos):
                head = self._dice.randbytes(64)
                file = describe_file(f"{photo + 1}.jpg", "image/jpeg", [content_of_photo(head, 0, PHOTO)], PHOTO)
                self._heads[file.sha256] = head
                files.append(file)
            tally = read_tally(example_tally(station.tps, FORMS[at], VOTERS))
            previous = node.chain[-1] if node.chain else None
            package = Package(ELECTION, station.tps, FORMS[at], at + 1, previous, 1_732_708_000, tuple(files), tally)
            yield package, node
