"""The receivers that benchmarks measure, each a real daemon: an embedded one, and two on PostgreSQL and S3."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from relay.records.identifiers import Kind
from relay.records.notice import Body, Receivers, Register, Station, sign_notice
from relay.records.notice import Receiver as Named
from relay.trust.certificates import issue, read_request
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from tests.bench.machine import Batch, bare_postgres, bare_sqlite
from tests.boxes import NodeBox, free_port
from tests.cluster.balancer import balancer
from tests.cluster.postgres import postgres
from tests.cluster.swift import swift
from tests.factory import ELECTION, ISSUED_AT, make_election
from tests.factory import Election as Factory
from tests.processes import eventually

FORMS = ("presiden", "dpr", "dpd", "dprd-provinsi", "dprd-kabupaten")
"""What a station returns in a general election: so many statements come from each device."""
VOTERS = 280


def some_stations(count: int) -> list[Station]:
    """So many polling stations."""
    return [
        Station(f"tps-{n}", n + 1, f"Desa {n // 5}", f"Kecamatan {n // 60}", "", VOTERS, True) for n in range(count)
    ]


class Office:
    """The election office: enrols the receivers and everybody else without a command line in between."""

    def __init__(self, stations: Iterable[Station]) -> None:
        self.election: Factory = make_election()
        self.stations = list(stations)

    def enrol_receiver(self, request: bytes, url: str, known: Sequence[Named] = ()) -> tuple[Named, bytes]:
        """A receiver that answers at `url`: how notices name it, and its enrolment, with the notices in force."""
        asked = read_request(request)
        office = self.election
        serial = office.dice.getrandbits(64) | 1
        der = issue(office.root, office.root_key, asked, Role.RECEIVER, (), serial, ISSUED_AT)
        named = Named(asked.name, (url,), der)
        notices = self.notices((*known, named))
        for raw in notices:
            office.admission.install(office.admission.admit(Kind.NOTICE, raw))
        return named, write_enrolment(Enrolment(der, office.root, notices))

    def notices(self, receivers: tuple[Named, ...]) -> tuple[bytes, ...]:
        """The notices that name these receivers, and all stations."""
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
    statements_per_second = 500
    """What it must reach."""
    services: tuple[str, ...] = ()
    """What its services' processes are called, beside it."""

    def __init__(self, folder: Path, office: Office) -> None:
        self._folder = folder
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

    async def bare_commits(self, batches: Sequence[Batch]) -> float:
        """Seconds that its database takes for bare rows, one commit a batch."""
        return await asyncio.to_thread(bare_sqlite, self._folder, batches)

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

    statements_per_second = 700
    services = ("postgres", "swift", "haproxy")

    def __init__(self, folder: Path, office: Office) -> None:
        self._services = ExitStack()
        self._database = database = self._services.enter_context(postgres(folder / "postgres"))
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

    async def bare_commits(self, batches: Sequence[Batch]) -> float:
        """See `Receiver`. In a database of its own on the same server."""
        return await bare_postgres(self._database.fresh_database(), batches)

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
