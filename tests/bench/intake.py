"""How much a receiver takes in on election night: `python -m tests.bench.intake [--rows statements,packages,…]`.

A real daemon (`relay run`, its public site and all) listens with TLS on loopback; gateways are boats that visit it with
the product's own visit (`relay.sync.visit` over `relay.net.client`), each with a certificate and connections of its
own. Only what a gateway carries is kept in memory here instead of in a store, and all is signed before the clock
starts, so that the load costs little beside the receiver; it has the same processors all the same.

    statements    tallies without photographs, from the first byte to the last receipt in the gateways' hands
    packages      three photographs of 1 MB each, beside what the same disk takes as plain files, each with its fsync
    latency       at half of that rate: from the call with a package's last byte until its receipt is here
    crowd         1 000 connections held open, each served: the daemons' memory

Every receipt is checked afterwards: one for each statement, its signature and proof good, no two with one entry.
`--store` names what answers; a store of its own is a `Receiver` in `STORES`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
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
from relay.records.notice import Body, Receivers, Register, Station, sign_notice
from relay.records.notice import Receiver as Named
from relay.records.receipt import read_receipt
from relay.records.statement import Package, chunk_size_for, describe_file, read_statement, sign_statement
from relay.records.tally import read_tally
from relay.store.interface import Bundle, BundleFile, Holding, Outcome, State
from relay.store.recordset import Item, RecordSet
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.handover import Handed
from relay.sync.messages import Greeting, Hello
from relay.sync.peer import Frame
from relay.sync.signal import Signal
from relay.sync.visit import Visit
from relay.trust.certificates import issue, read_request
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from tests.boxes import NodeBox, free_port
from tests.cluster.balancer import balancer
from tests.cluster.postgres import postgres
from tests.cluster.swift import swift
from tests.factory import ELECTION, ISSUED_AT, Node, make_election, make_node
from tests.factory import Election as Factory
from tests.processes import eventually

PHOTOS = 3
PHOTO = 1_000_000
FORMS = ("presiden", "dpr", "dpd", "dprd-provinsi", "dprd-kabupaten")
"""What a station returns in a general election: so many statements come from each device."""
VOTERS = 280


class Office:
    """The election office: enrols the receivers and everybody else without a command line in between."""

    def __init__(self, stations: int) -> None:
        self.election: Factory = make_election()
        self.stations = [
            Station(f"tps-{n}", n + 1, f"Desa {n // 5}", f"Kecamatan {n // 60}", "", VOTERS, True)
            for n in range(stations)
        ]

    def enrol_receiver(self, request: bytes, url: str, known: Sequence[Named] = ()) -> tuple[Named, bytes]:
        """A receiver that answers at `url`: how notices name it, and its enrolment, with the notices in force."""
        asked = read_request(request)
        office = self.election
        serial = office.dice.getrandbits(64) | 1
        der = issue(office.root, office.root_key, asked, Role.RECEIVER, (), serial, ISSUED_AT)
        named = Named(asked.name, (url,), der)
        notices = self._notices((*known, named))
        for raw in notices:
            office.admission.install(office.admission.admit(Kind.NOTICE, raw))
        return named, write_enrolment(Enrolment(der, office.root, notices))

    def _notices(self, receivers: tuple[Named, ...]) -> tuple[bytes, ...]:
        office, page = self.election, 200
        parts = [Register(FORMS, tuple(self.stations[at : at + page])) for at in range(0, len(self.stations), page)]
        bodies: list[tuple[int, Body]] = [(0, Receivers(receivers)), *enumerate(parts)]
        return tuple(
            sign_notice(ELECTION, part, len(receivers), body, office.root, office.root_key) for part, body in bodies
        )


class Receiver:
    """What answers the gateways: one embedded receiver. Another store is another class with these attributes."""

    url: str
    """Where gateways visit."""

    def __init__(self, folder: Path, office: Office) -> None:
        port, console, public = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._box = NodeBox(folder / "receiver")
        self._box.config(
            listen=f"127.0.0.1:{port}",
            console=f"127.0.0.1:{console}",
            public=f"127.0.0.1:{public}",
            discovery=False,
        )
        _, enrolment = office.enrol_receiver(self._box.init().read_bytes(), self.url)
        file = folder / "receiver.pem"
        file.write_bytes(enrolment)
        self._box.join(file)

    def __enter__(self) -> Receiver:
        self._box.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._box.close()

    @property
    def daemons(self) -> list[int]:
        """The process ids whose memory and processor time count."""
        return [self._box.daemon.pid] if self._box.daemon is not None else []

    @property
    def log(self) -> str:
        """What they said."""
        return self._box.log


class Cluster(Receiver):
    """Two receivers on PostgreSQL and S3, behind a balancer, all on this machine."""

    def __init__(self, folder: Path, office: Office) -> None:
        self._services = ExitStack()
        database = self._services.enter_context(postgres(folder / "postgres"))
        bucket = self._services.enter_context(swift(folder / "swift"))
        os.environ |= {"AWS_ACCESS_KEY_ID": bucket.access_key, "AWS_SECRET_ACCESS_KEY": bucket.secret_key}
        ports = [free_port(), free_port()]
        front = self._services.enter_context(balancer(folder / "balancer", ports))
        self.url = f"https://127.0.0.1:{front.port}"
        self._boxes = [NodeBox(folder / f"receiver-{place}") for place in range(len(ports))]
        _, enrolment = office.enrol_receiver(self._boxes[0].init("receiver").read_bytes(), self.url)
        file = folder / "receiver.pem"
        file.write_bytes(enrolment)
        self._boxes[0].join(file)
        shutil.copytree(self._boxes[0].home, self._boxes[1].home)
        settings = {
            "database": database.fresh_database(),
            "bucket": bucket.fresh_bucket(),
            "bucket_endpoint": bucket.endpoint,
            "bucket_region": bucket.region,
        }
        for box, port in zip(self._boxes, ports, strict=True):
            box.config(
                listen=f"127.0.0.1:{port}",
                console=f"127.0.0.1:{free_port()}",
                public=f"127.0.0.1:{free_port()}",
                discovery=False,
                **settings,
            )
        self._ready = lambda: front.up() == set(ports)

    def __enter__(self) -> Cluster:
        for box in self._boxes:
            box.start(within=30)
        eventually(self._ready, 30, "the balancer sees both receivers")
        return self

    def __exit__(self, *_error: object) -> None:
        for box in self._boxes:
            box.close()
        self._services.close()

    @property
    def daemons(self) -> list[int]:
        """See `Receiver`."""
        return [box.daemon.pid for box in self._boxes if box.daemon is not None]

    @property
    def log(self) -> str:
        """See `Receiver`."""
        return "\n".join(box.log for box in self._boxes)


STORES: dict[str, Callable[[Path, Office], Receiver]] = {"embedded": Receiver, "cluster": Cluster}
"""What can be measured, by name."""


@dataclass(slots=True)
class Load:
    """What one gateway carries: statements, and the content of their objects."""

    statements: dict[StatementId, bytes] = field(default_factory=dict)
    objects: dict[ObjectId, bytes] = field(default_factory=dict)
    """Each object's first bytes, in which it differs from `_COMMON`."""
    needs: dict[StatementId, tuple[ObjectId, ...]] = field(default_factory=dict)


_COMMON = random.Random(1).randbytes(PHOTO)


def _content(head: bytes, at: int, length: int) -> bytes:
    """A part of a photograph; all are the same but for their first bytes, or memory would be full of them."""
    part = _COMMON[at : at + length]
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
        package = read_statement(self._load.statements[statement]).package
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

    async def read_chunk(self, object_id: ObjectId, index: int) -> bytes | None:
        step = chunk_size_for(PHOTO)
        return _content(self._load.objects[object_id], index * step, step)

    def settle(self, statement: StatementId) -> None:
        """A receipt came."""
        self._waiting.remove(statement)
        self.members.discard(Kind.STATEMENT, statement)


@dataclass(frozen=True, slots=True)
class _Taken:
    asked: bytes
    outcome: Outcome = Outcome.NEW


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

    async def take(self, records: Sequence[tuple[Kind, bytes]], asked: frozenset[bytes]) -> list[_Taken]:
        now = time.perf_counter()
        taken: list[_Taken] = []
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
            taken.append(_Taken(name))
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
                await Visit(custody, self.peer, self.hello(), Claims(), time.monotonic).run()
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
                file = describe_file(f"{photo + 1}.jpg", "image/jpeg", [_content(head, 0, PHOTO)], PHOTO)
                self._heads[file.sha256] = head
                files.append(file)
            tally = read_tally(example_tally(station.tps, FORMS[at], VOTERS))
            previous = node.chain[-1] if node.chain else None
            package = Package(ELECTION, station.tps, FORMS[at], at + 1, previous, 1_732_708_000, tuple(files), tally)
            yield package, node


class Bench:
    """One receiver, its gateways, and the rows of the table."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self.folder = folder
        self.chosen = chosen
        wanted = chosen.statements + chosen.packages * 2 + chosen.crowd
        self.office = Office(wanted // len(FORMS) + 8)
        self.receiver = STORES[chosen.store](folder, self.office)
        self.stations = Stations(self.office)
        self.gateways = [Gateway(folder, self.office, f"boat-{n}") for n in range(chosen.gateways)]
        self.delivered: dict[StatementId, bytes] = {}

    async def statements(self) -> dict[str, object]:
        """Tallies without photographs."""
        loads = self.stations.loads(self.chosen.statements, self.chosen.per_visit)
        seconds, busy, mine = await self._race(loads)
        rate = self.chosen.statements / seconds
        return {
            "row": "statements",
            "gateways": len(self.gateways),
            "statements": self.chosen.statements,
            "per_visit": self.chosen.per_visit,
            "visits_broken": self.broken(),
            "seconds": round(seconds, 2),
            "per_second": round(rate),
            "receiver_cpu_ms_each": round(busy / self.chosen.statements * 1000, 2),
            "load_cpu_ms_each": round(mine / self.chosen.statements * 1000, 2),
            "limit": ">= 500",
            "holds": rate >= 500,
        }

    async def packages(self) -> dict[str, object]:
        """Packages with photographs; between two measurements of the plain disk, since it has its moods."""
        loads = self.stations.loads(self.chosen.packages, 1, PHOTOS)
        files = self.chosen.packages * PHOTOS
        before = await asyncio.to_thread(plain_files, self.folder, files)
        seconds, busy, mine = await self._race(loads)
        after = await asyncio.to_thread(plain_files, self.folder, files)
        plain = {writers: statistics.mean((before[writers], after[writers])) for writers in before}
        taken = files * PHOTO / seconds / 1e6
        self.rate = self.chosen.packages / seconds
        return {
            "row": "packages",
            "packages": self.chosen.packages,
            "visits_broken": self.broken(),
            "seconds": round(seconds, 2),
            "megabytes_per_second": round(taken, 1),
            "plain_files_one_writer": round(plain[1], 1),
            "plain_files_four_writers": round(plain[4], 1),
            "receiver_cpu_ms_each": round(busy / self.chosen.packages * 1000, 1),
            "load_cpu_ms_each": round(mine / self.chosen.packages * 1000, 1),
            "ratio": round(taken / plain[1], 2),
            "ratio_to_four": round(taken / plain[4], 2),
            "limit": ">= 0.6",
            "holds": taken / plain[1] >= 0.6,
        }

    async def latency(self) -> dict[str, object]:
        """Packages at half of the rate of the row before, evenly spread."""
        loads = self.stations.loads(self.chosen.packages, 1, PHOTOS)
        pause = 2 / self.rate
        waits: list[float] = []

        async def one(place: int, gateway: Gateway, load: Load) -> None:
            await asyncio.sleep(pause * place)
            await gateway.deliver(load)
            assert gateway.peer is not None
            for statement, objects in load.needs.items():
                came, _ = gateway.receipts[receipt_id(statement)]
                waits.append(came - max(gateway.peer.brought[name] for name in objects))

        async with self._connected(), asyncio.TaskGroup() as group:
            for place, load in enumerate(loads):
                group.create_task(one(place, self.gateways[place % len(self.gateways)], load))
        self._collect(loads)
        waits.sort()
        median = statistics.median(waits)
        return {
            "row": "latency",
            "packages": len(waits),
            "per_second": round(self.rate / 2, 1),
            "median_seconds": round(median, 3),
            "p95_seconds": round(waits[int(len(waits) * 0.95)], 3),
            "most_seconds": round(waits[-1], 3),
            "limit": "median <= 0.5",
            "holds": median <= 0.5,
        }

    async def crowd(self) -> dict[str, object]:
        """Many connections held open; then each gateway delivers one statement while all stay."""
        boats = [Gateway(self.folder, self.office, f"crowd-{n}") for n in range(self.chosen.crowd)]
        loads = self.stations.loads(self.chosen.crowd, 1)
        started = time.perf_counter()
        async with self._connected(boats):
            connected = time.perf_counter() - started
            held = memory(self.receiver.daemons)
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for boat, load in zip(boats, loads, strict=True):
                    group.create_task(boat.deliver(load))
            served = time.perf_counter() - begun
            most = memory(self.receiver.daemons)
        self._collect(loads, boats)
        return {
            "row": "crowd",
            "gateways": len(boats),
            "visits_broken": self.broken(boats),
            "connected_seconds": round(connected, 1),
            "served_seconds": round(served, 1),
            "served": len(boats),
            "megabytes_connected": held["now"],
            "megabytes_peak": most["peak"],
            "limit": "<= 500 MB",
            "holds": most["peak"] <= 500,
        }

    async def _race(self, loads: Sequence[Load]) -> tuple[float, float, float]:
        """All gateways deliver all loads as fast as it goes: seconds, and processor seconds of the daemons and here."""
        waiting = list(reversed(loads))

        async def sail(gateway: Gateway) -> None:
            while waiting:
                await gateway.deliver(waiting.pop())

        async with self._connected():
            busy, mine, started = processor(self.receiver.daemons), time.process_time(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for gateway in self.gateways:
                    group.create_task(sail(gateway))
            seconds = time.perf_counter() - started
            busy, mine = processor(self.receiver.daemons) - busy, time.process_time() - mine
        self._collect(loads)
        return seconds, busy, mine

    @asynccontextmanager
    async def _connected(self, gateways: Sequence[Gateway] | None = None) -> AsyncIterator[None]:
        """Gateways are connected and greeted, as they are when a day's results come in."""
        boats = self.gateways if gateways is None else gateways
        doors = asyncio.Semaphore(32)

        async def connect(boat: Gateway) -> None:
            async with doors:
                await stack.enter_async_context(boat.contact(self.receiver.url))
                assert boat.peer is not None
                await boat.peer.hello(Greeting(boat.hello()))

        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as group:
                for boat in boats:
                    group.create_task(connect(boat))
            yield

    def _collect(self, loads: Sequence[Load], boats: Sequence[Gateway] | None = None) -> None:
        """Keep the receipts that came: one for each statement."""
        receipts = {name: raw for boat in boats or self.gateways for name, (_, raw) in boat.receipts.items()}
        for load in loads:
            self.delivered |= {one: receipts[receipt_id(one)] for one in load.statements}

    def broken(self, boats: Sequence[Gateway] | None = None) -> int:
        """How many visits were broken off until now."""
        return sum(boat.broken for boat in boats or self.gateways)

    def check(self) -> int:
        """Judge every receipt as a boat would; raises where one is missing, false or for an entry twice."""
        entries: set[int] = set()
        for statement, raw in self.delivered.items():
            receipt = read_receipt(self.office.election.admission.admit(Kind.RECEIPT, raw).raw)
            if receipt.statement != statement or receipt.entry in entries:
                raise SystemExit(f"the receipt for {statement.hex()} is wrong")
            entries.add(receipt.entry)
        if entries != set(range(len(entries))):
            raise SystemExit("the log has entries that nobody brought")
        return len(entries)


def plain_files(folder: Path, count: int) -> dict[int, float]:
    """Megabytes a second that the disk takes as plain files with an fsync each, by one writer and by four at once."""
    return {writers: _plain_files(folder, count, writers) / 1e6 for writers in (1, 4)}


def _plain_files(folder: Path, count: int, writers: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as name, ThreadPoolExecutor(writers) as pool:

        def write(number: int) -> None:
            descriptor = os.open(Path(name, str(number)), os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, _COMMON)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        started = time.perf_counter()
        list(pool.map(write, range(count)))
        return count * PHOTO / (time.perf_counter() - started)


def memory(processes: Sequence[int]) -> dict[str, int]:
    """Megabytes of processes: what they share counts once now (PSS), and the sum of their peaks (RSS)."""
    found = {"now": 0, "peak": 0}
    for process in processes:
        found["now"] += _line(Path(f"/proc/{process}/smaps_rollup"), "Pss:") // 1024
        found["peak"] += _line(Path(f"/proc/{process}/status"), "VmHWM:") // 1024
    return found


def _line(file: Path, word: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(word))


def processor(processes: Sequence[int]) -> float:
    """Seconds that processes have computed."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(folder: Path, chosen: argparse.Namespace) -> list[dict[str, object]]:
    """The rows that were asked for."""
    bench = Bench(folder, chosen)
    rows: list[dict[str, object]] = []
    with bench.receiver:
        for name in chosen.rows.split(","):
            rows.append(await getattr(bench, name)())
            print(json.dumps(rows[-1]), flush=True)
        if "Traceback" in bench.receiver.log:
            raise SystemExit(bench.receiver.log)
    print(f"{bench.check()} receipts are good", flush=True)
    return rows


ROWS = ("statements", "packages", "latency", "crowd")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--store", choices=sorted(STORES), default="embedded")
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--per-visit", type=int, default=10)
    parser.add_argument("--packages", type=int, default=100)
    parser.add_argument("--crowd", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the receiver's disk is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-intake-", dir=chosen.folder) as folder:
        rows = asyncio.run(measure(Path(folder), chosen))
    raise SystemExit(0 if all(row["holds"] for row in rows) else 1)


if __name__ == "__main__":
    main()
