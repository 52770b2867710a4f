"""Nodes joined without sockets: real stores in folders, `Host` as the peer of `Visit`, and a clock set by hand.

A `Ship` is a node of a `Fleet`. `Link` is the way from one to another; adversaries are links that misbehave in one
way, and tests name the promise that holds all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from relay.errors import Malformed, Unreachable
from relay.log.tree import consistency_proof
from relay.node.home import Member
from relay.receiver.publishing import Publisher
from relay.receiver.sequencing import Sequencer
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId
from relay.records.notice import Body, Receiver, Receivers, Witnesses, sign_notice
from relay.records.statement import chunk_size_for
from relay.store.interface import Bundle, Holding, State, Want
from relay.store.recordset import FIRST
from relay.store.shelf import FolderShelf
from relay.store.sqlite import SqliteStore
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.delivery import Watch
from relay.sync.host import Host
from relay.sync.messages import Given, Greeting, Hello, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span
from relay.sync.report import VisitReport
from relay.sync.visit import Visit
from relay.trust.admission import Admission, Admitted
from relay.trust.roles import Role
from relay.trust.witness import log_key, public_bytes
from tests.factory import (
    ELECTION,
    Election,
    Node,
    content_of,
    make_election,
    make_file,
    make_node,
    make_statement,
    object_of,
)

T = TypeVar("T")
Beside = Callable[["Ship"], Awaitable[SqliteStore]]
"""Opens a node's store as another process would."""

CHUNK = chunk_size_for(1)


async def each(items: Iterable[T]) -> AsyncIterator[T]:
    """Them, one after the other, as a stream brings them."""
    for item in items:
        yield item


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A receiver's log, for visitors. Waiting for the next batch makes it, and takes the seconds asked for."""

    def __init__(self, custody: Custody, member: Member, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.publisher = Publisher(FolderShelf(folder), log_key(member.identity))
        self.sequencer = Sequencer(custody, member, self.publisher)
        self._store = custody.store
        self._clock = clock
        self._one = asyncio.Lock()

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """See `LogReader`."""
        if not 0 <= old_size <= new_size <= (await self._store.log_state()).size:
            raise Malformed("The log never had these sizes")
        return list(await self.publisher.prove(new_size, lambda read: consistency_proof(old_size, new_size, read)))

    @property
    def batches(self) -> int:
        """See `LogReader`."""
        return 0

    async def next_batch(self, heard: int, seconds: float) -> None:
        """See `LogReader`."""
        self._clock.now += seconds
        async with self._one:
            await self.sequencer.sequence()
            await self.sequencer.publish()


@dataclass
class Ship:
    """One node with its store."""

    node: Node
    election: Election
    custody: Custody
    clock: Clock
    folder: Path
    log: Log | None = None
    claims: Claims = field(default_factory=Claims)

    @property
    def store(self) -> SqliteStore:
        """Its store."""
        assert isinstance(self.custody.store, SqliteStore)
        return self.custody.store

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.identity.name

    @property
    def member(self) -> Member:
        """Who it is, with its key."""
        return Member(self.node.identity, self.node.key, self.election.root)

    def greeting(self) -> Hello:
        """What it says of itself."""
        identity = self.node.identity
        news, content = self.custody.news.count, self.custody.content
        return Hello(identity.node, identity.name, identity.role, identity.election, 1 << 30, news, content)

    def host(self, visitor: Ship) -> Host:
        """It, as `visitor` meets it."""
        name = visitor.node.identity.node.hex()
        return Host(self.custody, self.greeting, name, self.claims, self.clock, self.log)

    async def visit(
        self,
        other: Ship | Link,
        watch: Watch | None = None,
        *,
        expecting: bool = False,
        since: bytes = FIRST,
        at_receiver: bool | None = None,
    ) -> VisitReport:
        """Visit another node, or whom a link leads to. Whether it is taken for a receiver is as it is, or as said."""
        link = other if isinstance(other, Link) else Link(other.host(self))
        visit = Visit(
            self.custody,
            link,
            self.greeting(),
            self.claims,
            self.clock,
            watch,
            expecting=expecting,
            at_receiver=link.host.is_receiver if at_receiver is None else at_receiver,
            since=since,
        )
        return await visit.run()

    async def submit(
        self, *contents: bytes, form: str = "form-1", tps: str = "tps-1", supersedes: StatementId | None = None
    ) -> StatementId:
        """Make the next statement of this device over files with these contents (a tally, without any)."""
        files = [make_file(content, f"{place}.jpg") for place, content in enumerate(contents)]
        statement = make_statement(self.election, self.node, *files, form=form, tps=tps, supersedes=supersedes)
        await self.custody.take([(statement.kind, statement.raw)], made_here=True)
        for content in contents:
            await self.adopt(content)
        return StatementId(statement.id)

    async def take(self, *records: Admitted) -> list[str]:
        """Take records in, judged anew; one word for each."""
        return [verdict.word for verdict in await self.custody.take([(one.kind, one.raw) for one in records])]

    async def adopt(self, content: bytes) -> None:
        """Take a whole object in."""
        path = self.folder / "adopted"
        path.write_bytes(content)
        await self.store.adopt(object_of(content), path)

    async def stage(self, content: bytes, chunks: Iterable[int]) -> None:
        """Take some chunks of an object in."""
        step = chunk_size_for(len(content))
        for index in chunks:
            await self.store.stage_chunk(object_of(content), index, content[index * step : (index + 1) * step])
        await self.store.commit_chunks()

    async def bundle(self, statement: StatementId) -> Bundle | None:
        """What it holds of a bundle."""
        return await self.store.bundle(statement)

    async def state(self, statement: StatementId) -> State | None:
        """How far a bundle is here; None where its statement is not held."""
        bundle = await self.bundle(statement)
        return bundle.state if bundle else None

    async def chunks_held(self, content: bytes) -> set[int]:
        """The chunks of an object that are held here, durably."""
        for holding in await self.store.holdings([object_of(content)]):
            count = -(-holding.size // chunk_size_for(holding.size))
            return {index for index in range(count) if holding.complete or holding.chunks >> index & 1}
        return set()

    async def read(self, content: bytes) -> bytes:
        """The object with this content, as it lies here; empty where it is not complete."""
        path = await self.store.object_path(object_of(content))
        return path.read_bytes() if path else b""


class Fleet:
    """An election and its nodes, their stores below `folder`."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.election = make_election(seed)
        self.clock = Clock()
        self.ships: list[Ship] = []
        self.notices: list[Admitted] = []
        self._folder = folder

    async def launch(
        self,
        name: str,
        role: Role = Role.OPERATOR,
        tps: Sequence[str] = ("tps-1",),
        *,
        quota_bytes: int = 1 << 30,
        quota_statements: int = 1_000,
        storage_limit: int | None = None,
    ) -> Ship:
        """Enrol a node and open its store; it knows the notices published so far."""
        node = make_node(self.election, name, role, tps)
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)  # it may be opened again, as after a power cut
        store = await SqliteStore.open(
            folder / "store",
            own=node.identity.node,
            quota_bytes=quota_bytes,
            quota_statements=quota_statements,
            storage_limit=storage_limit,
            keeps_all=role is Role.RECEIVER,
            clock=self.clock,
        )
        log = node.identity.node if role is Role.RECEIVER else None
        custody = Custody(Admission(self.election.root), store, log=log)
        ship = Ship(node, self.election, custody, self.clock, folder)
        self.ships.append(ship)
        await ship.take(*self.notices)
        return ship

    async def carrier(self, name: str, *, quota_bytes: int = 1 << 30, storage_limit: int | None = None) -> Ship:
        """A boat."""
        return await self.launch(name, Role.CARRIER, quota_bytes=quota_bytes, storage_limit=storage_limit)

    async def receiver(self, name: str = "receiver") -> Ship:
        """A receiver whose log is started, named by a notice that every node launched afterwards knows."""
        ship = await self.launch(name, Role.RECEIVER)
        entry = Receiver(name, (f"https://{name}.example:8470",), ship.node.identity.certificate)
        await ship.take(self.publish(Receivers((entry,))))
        ship.log = Log(ship.custody, ship.member, ship.folder / "public", self.clock)
        await ship.log.sequencer.start()
        return ship

    def publish(self, body: Body, version: int = 1) -> Admitted:
        """A notice; nodes launched later know it."""
        raw = sign_notice(ELECTION, 0, version, body, self.election.root, self.election.root_key)
        notice = self.election.admission.admit(Kind.NOTICE, raw)
        self.election.admission.install(notice)
        self.notices.append(notice)
        return notice

    def witnesses(self, *ships: Ship) -> Admitted:
        """A notice that names these nodes as witnesses."""
        return self.publish(Witnesses(tuple((one.name, public_bytes(one.node.identity.key)) for one in ships)))

    def content(self, size: int = 3 * CHUNK + 5) -> bytes:
        """New content, of four chunks by default."""
        return content_of(self.election.dice, size)

    async def close(self) -> None:
        """Close the stores."""
        for ship in self.ships:
            await ship.store.close()


class Link:
    """The way to `host`: passes every call on, and notes what crossed. A `relay.sync.peer.Peer`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.crossed: list[tuple[str, ObjectId, int]] = []
        """Chunks that crossed, in order: `in` or `out`, the object, the index."""
        self.calls: list[str] = []
        """Calls about records, in order."""
        self.steps: list[str] = []
        """What crossed, in order: the kinds of records, and `CHUNK`."""

    def prepare(self) -> None:
        """There is nothing to make ready."""

    async def hello(self, mine: Greeting) -> Greeting:
        """Pass on."""
        self.calls.append("hello")
        answer = await self.host.hello(mine)
        if answer.given:
            self.steps += [f"{kind.name} in" for kind, _ in Given.decode(answer.given).records]
        return answer

    async def news(self, heard: int, wait: float) -> int:
        """Pass on."""
        return await self.host.news(heard, wait)

    async def reconcile(self, message: bytes) -> bytes:
        """Pass on."""
        self.calls.append("reconcile")
        return await self.host.reconcile(message)

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """Pass on."""
        self.calls.append("inquire")
        return await self.host.inquire(inquiry)

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Pass on."""
        return await self.host.consistency(old_size, new_size)

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Pass on."""
        self.calls.append("get_records")
        given = await self.host.get_records(ids)
        self.steps += [f"{kind.name} in" for kind, _ in given.records]
        return given

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """Pass on."""
        self.calls.append("put_records")
        self.steps += [f"{kind.name} out" for kind, _ in records]
        return await self.host.put_records(records)

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """Pass on."""
        return await self.host.holdings(objects)

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """Pass on."""
        return await self.host.wants(skip)

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        """Pass on."""
        return await self.host.missing(objects)

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Pass on."""
        async for object_id, index, data in self.host.get_chunks(spans):
            if data:
                self._cross("in", object_id, index)
            yield object_id, index, data

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """Pass on, chunk by chunk as a server takes them; what came before the end of the contact is kept."""
        return await self.host.put_chunks(self._outgoing(frames))

    async def _outgoing(self, frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
        async for object_id, index, data in frames:
            self._cross("out", object_id, index)
            yield object_id, index, data

    def _cross(self, way: str, object_id: ObjectId, index: int) -> None:
        self.crossed.append((way, object_id, index))
        self.steps.append("CHUNK")


class Curt(Link):
    """A contact with who gives no records with a greeting."""

    async def hello(self, mine: Greeting) -> Greeting:
        """Pass on, but for those."""
        self.calls.append("hello")
        return replace(await self.host.hello(mine), given=b"")


class Late(Link):
    """A contact over which no more statements come, once some came, until so many chunks have crossed."""

    def __init__(self, host: Host, chunks: int) -> None:
        super().__init__(host)
        self._chunks = chunks
        self._crossed = asyncio.Event()

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Pass on, late."""
        await self._wait()
        return await super().get_records(ids)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """Pass on, late."""
        await self._wait()
        return await super().put_records(records)

    async def _wait(self) -> None:
        if any(step.startswith("STATEMENT") for step in self.steps):
            await self._crossed.wait()

    def _cross(self, way: str, object_id: ObjectId, index: int) -> None:
        super()._cross(way, object_id, index)
        if len(self.crossed) == self._chunks:
            self._crossed.set()


class Busy(Curt):
    """A contact over which the first statements are not answered for until the last ones are on their way."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._calls = 0
        self._second = asyncio.Event()

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Pass on; the first answer comes late."""
        await self._wait()
        return await super().get_records(ids)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """Pass on; the first answer comes late."""
        if any(kind is Kind.STATEMENT for kind, _ in records):
            await self._wait()
        return await super().put_records(records)

    async def _wait(self) -> None:
        self._calls += 1
        if self._calls > 1:
            self._second.set()
        async with asyncio.timeout(5):
            await self._second.wait()


class Cut(Link):
    """A contact that ends after so many chunks, of either way."""

    def __init__(self, host: Host, chunks: int) -> None:
        super().__init__(host)
        self._left = chunks

    def _cross(self, way: str, object_id: ObjectId, index: int) -> None:
        if self._left == 0:
            raise Unreachable("The link is lost", "Wait for the next contact.")
        self._left -= 1
        super()._cross(way, object_id, index)


class CutCalls(Link):
    """A contact that ends at its n-th call of any kind."""

    def __init__(self, host: Host, calls: int) -> None:
        super().__init__(host)
        self._left = calls

    def __getattribute__(self, name: str) -> object:
        calls = {
            "hello",
            "reconcile",
            "inquire",
            "get_records",
            "put_records",
            "holdings",
            "wants",
            "missing",
            "put_chunks",
        }
        if name in calls:
            if self._left == 0:
                raise Unreachable("The link is lost", "Wait for the next contact.")
            self._left -= 1
        return super().__getattribute__(name)
