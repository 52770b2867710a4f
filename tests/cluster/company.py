"""A receiver of several processes, as a province runs it: one identity, one database and bucket, a balancer in front.

The processes are real daemons (`relay run`) on homes that are copies of one, each with ports of its own. The election
office is a `Fleet`, whose ships are the boats that come here (`tests.cluster.traffic`).
"""

from __future__ import annotations

import itertools
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.limits import MAX_STATIONS_PER_OPERATOR
from relay.log.checkpoint import parse_checkpoint
from relay.log.note import parse_note
from relay.net.tls import client_context
from relay.records.identifiers import RecordId, StatementId
from relay.records.notice import Receiver, Receivers, Register, Station
from relay.trust.certificates import issue, read_request
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from tests.boxes import RELAY, NodeBox, free_port
from tests.cluster.balancer import Balancer, balancer
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.factory import ISSUED_AT, make_revocations
from tests.fleet import Fleet, Ship
from tests.processes import Place, eventually

NAME = "receiver"
FORMS = ("form-1", "form-2", "form-3")
STATIONS = tuple(f"tps-{number}" for number in range(1, MAX_STATIONS_PER_OPERATOR + 1))
START_SECONDS = 30.0
PUBLISHED_SECONDS = 30.0
LEADER = 0x524C4159_0002
"""The leader's lock."""


class Company:
    """The receivers, on loopback. Make it with `company()`."""

    def __init__(self, folder: Path, postgres: Postgres, swift: Swift, count: int) -> None:
        self.folder = folder
        self.database = postgres.fresh_database()
        self.bucket = swift.fresh_bucket()
        self.office = Fleet(folder / "fleet")
        self.forms = itertools.cycle(itertools.product(STATIONS, FORMS))
        """What is to be filled in next."""
        self.numbers = itertools.count(1)
        """Of boats."""
        self.ports = [free_port() for _ in range(count)]
        self.public = [free_port() for _ in range(count)]
        self.boxes = [NodeBox(folder / f"{NAME}-{place}") for place in range(count)]
        self._postgres = postgres
        self._strangers = Place("strangers", folder / "strangers")
        self._front: Balancer | None = None
        self.certificate = self._join(self.boxes[0])
        for box in self.boxes[1:]:
            shutil.copytree(self.boxes[0].home, box.home)
        for box, port, public in zip(self.boxes, self.ports, self.public, strict=True):
            box.config(
                listen=f"127.0.0.1:{port}",
                console=f"127.0.0.1:{free_port()}",
                public=f"127.0.0.1:{public}",
                discovery=False,
                database=self.database,
                bucket=self.bucket,
                bucket_endpoint=swift.endpoint,
                bucket_region=swift.region,
            )

    # -- the processes

    @property
    def front(self) -> Balancer:
        """The balancer, while it runs."""
        assert self._front is not None
        return self._front

    def start(self) -> None:
        """Have every receiver run, and the balancer send visitors to each of them."""
        for box in self.boxes:
            if box.daemon is None or box.daemon.poll() is not None:
                box.start(within=START_SECONDS)
        eventually(lambda: self.front.up() == set(self.ports), START_SECONDS, "the balancer sees every receiver")

    def leader(self) -> NodeBox | None:
        """The receiver that holds the leader's lock at the moment, as PostgreSQL has it."""
        return next(
            self._connected(
                "SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND "
                "l.locktype = 'advisory' AND a.datname = current_database() AND l.database = a.datid AND "
                f"l.classid = {LEADER >> 32} AND l.objid = {LEADER & 0xFFFFFFFF}"
            ),
            None,
        )

    def waiting_for(self, table: str) -> list[NodeBox]:
        """The receivers that wait, in the middle of a transaction, for a lock of this table."""
        return list(
            self._connected(
                "SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                f"WHERE NOT l.granted AND l.relation = '{table}'::regclass"
            )
        )

    def _connected(self, sql: str) -> Iterator[NodeBox]:
        """The receivers whose connections to PostgreSQL have one of the client ports that this gives."""
        held = self.ask(sql)
        return (box for box in self.boxes if any(_has_socket(box, int(port)) for port in held))

    def known_leader(self) -> NodeBox:
        """The receiver that leads, as soon as one does."""
        leader = eventually(self.leader, START_SECONDS, "a receiver leads")
        assert leader is not None
        return leader

    def ask(self, sql: str) -> list[str]:
        """A question to the database, past all receivers."""
        return self._postgres.execute(sql, self.database)

    def logged(self) -> list[StatementId]:
        """The log as committed, entry by entry."""
        rows = self.ask("SELECT encode(statement, 'hex') FROM log ORDER BY entry")
        return [StatementId(RecordId(bytes.fromhex(row))) for row in rows]

    def size(self) -> int:
        """How many entries the log has, as committed."""
        return int(self.ask("SELECT size FROM log_state")[0])

    # -- those outside

    @property
    def url(self) -> str:
        """Where boats visit: the balancer."""
        return f"https://127.0.0.1:{self.front.port}"

    @property
    def urls(self) -> list[str]:
        """Where each receiver answers by itself."""
        return [f"https://127.0.0.1:{port}" for port in self.ports]

    def context(self, ship: Ship) -> ssl.SSLContext:
        """TLS with the certificate of a ship."""
        certificate, key = ship.folder / "certificate.pem", ship.folder / "key.pem"
        certificate.write_text(ssl.DER_cert_to_PEM_cert(ship.node.identity.certificate))
        key.write_bytes(ship.node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return client_context(certificate, key, self.office.election.root, ship.custody.admission.identify)

    def revoke(self, box: NodeBox, ship: Ship) -> None:
        """Revoke a ship, and tell one of the receivers."""
        notice = make_revocations(self.office.election, 1, ship.node)
        file = self.folder / "revocation.pem"
        file.write_bytes(write_enrolment(Enrolment(None, None, (notice.raw,))))
        box.import_(file)

    def audit(self) -> dict[str, Any]:
        """`relay audit` at a public port, of all that is committed by now. It goes on from the audit before, and so
        proves growth from one to the next."""
        size = self.size()
        eventually(lambda: self.published() >= size, PUBLISHED_SECONDS, f"{size} entries are published")
        options: list[str | Path] = ["--root", self._root, "--state", self.folder / "audited", "--jobs", "1", "--json"]
        url = f"http://127.0.0.1:{self._open_to_all()}"
        outcome = self._strangers.run([*RELAY, "audit", url, *options], within=60, check=False)
        report: dict[str, Any] = outcome.json()
        assert report["ok"], report
        assert report["size"] >= size
        return report

    def report(self) -> list[tuple[str, str]]:
        """Title and end of what the daemons said, for a failure report."""
        return [one for box in self.boxes for one in box.host.report()]

    # -- within

    @contextmanager
    def running(self) -> Iterator[Company]:
        """All of it runs; it has ended on leaving."""
        try:
            with balancer(self.folder / "balancer", self.ports) as self._front:
                self.start()
                yield self
        finally:
            for box in self.boxes:
                box.close()
            self._strangers.close()

    def _join(self, box: NodeBox) -> bytes:
        """Enrol the one identity that all have; its certificate."""
        office = self.office.election
        request = read_request(box.init(NAME).read_bytes())
        serial = office.dice.getrandbits(64) | 1
        certificate = issue(office.root, office.root_key, request, Role.RECEIVER, (), serial, ISSUED_AT)
        self.office.publish(Receivers((Receiver(NAME, ("https://receiver.example:8470",), certificate),)))
        places = enumerate(STATIONS, 1)
        stations = [Station(tps, number, "Pulau Long", "Selat Nasik", "", 280, signal=False) for number, tps in places]
        self.office.publish(Register(FORMS, tuple(stations)))
        notices = tuple(notice.raw for notice in self.office.notices)
        enrolment, self._root = self.folder / "receiver.pem", self.folder / "root.pem"
        enrolment.write_bytes(write_enrolment(Enrolment(certificate, office.root, notices)))
        self._root.write_text(ssl.DER_cert_to_PEM_cert(office.root))
        box.join(enrolment)
        return certificate

    def _open_to_all(self) -> int:
        """The public port of a receiver that runs."""
        ports = zip(self.boxes, self.public, strict=True)
        return next(port for box, port in ports if box.daemon is not None and box.daemon.poll() is None)

    def published(self) -> int:
        """The size of the published log; -1 where nobody says."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._open_to_all()}/checkpoint") as response,
        ):
            return parse_checkpoint(parse_note(response.read())).size
        return -1


@contextmanager
def company(folder: Path, postgres: Postgres, swift: Swift, count: int = 2) -> Iterator[Company]:
    """So many receivers that run; gone on leaving."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", swift.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", swift.secret_key)
        with Company(folder, postgres, swift, count).running() as running:
            yield running


def _has_socket(box: NodeBox, port: int) -> bool:
    """Whether a connection from this local port is a daemon's."""
    if box.daemon is None or box.daemon.poll() is not None:
        return False
    proc = Path(f"/proc/{box.daemon.pid}")
    with suppress(OSError):
        lines = (proc / "net" / "tcp").read_text().splitlines()[1:]
        inodes = {line.split()[9] for line in lines if int(line.split()[1].rpartition(":")[2], 16) == port}
        for descriptor in (proc / "fd").iterdir():
            with suppress(OSError):
                if descriptor.readlink().name.removeprefix("socket:[").removesuffix("]") in inodes:
                    return True
    return False
