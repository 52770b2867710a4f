"""Who can take part in simulated elections: keys, certificates, notices, photographs. Made once for all runs.

Everything follows from constants, so that a seed means the same run in every process.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from relay.node.home import Member
from relay.records.cose import to_be_signed
from relay.records.identifiers import Kind, NodeId, ObjectId
from relay.records.notice import (
    Body,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Station,
    Witnesses,
    sign_notice,
)
from relay.records.statement import FileEntry, Statement, describe_file, read_statement
from relay.trust.admission import Admitted
from relay.trust.certificates import Identity
from relay.trust.roles import Role
from relay.trust.witness import public_bytes
from tests.factory import ELECTION, Election, make_election, make_node
from tests.simulation.memory import Memory

OPERATORS = 24
CARRIERS = 24
PIRATES = 6
FORMS = ("form-1", "form-2")
SIZES = (900, 5_000, 64 << 10, (64 << 10) + 1, 100_000, 150_000, 200_000, 260_000)
"""Bytes of photographs: one to four chunks."""
PHOTOS = 48


@dataclass(frozen=True)
class Company:
    """All of them. Pirates are enrolled, and mean harm; strangers belong to another election."""

    election: Election
    strange: Election
    operators: tuple[Member, ...]
    carriers: tuple[Member, ...]
    receiver: Member
    heir: Member
    """The receiver that is named when the first one is revoked."""
    pirates: tuple[Member, ...]
    rogues: tuple[Member, ...]
    """Operators that mean harm: they sign."""
    strangers: tuple[Member, ...]
    notices: tuple[Admitted, ...]
    photos: tuple[Path, ...]
    files: dict[ObjectId, FileEntry]
    """The truth about the photographs."""
    memory: Memory = field(default_factory=Memory)
    _verified: dict[bytes, bool] = field(default_factory=dict)

    @property
    def islanders(self) -> frozenset[NodeId]:
        """The honest operators."""
        return frozenset(one.identity.node for one in self.operators)

    def signed(self, raw: bytes) -> bool:
        """Whether an operator of this election signed a statement, for a station of its own."""
        if raw not in self._verified:
            statement = read_statement(raw)
            signer = next(
                (
                    one.identity
                    for one in (*self.operators, *self.rogues)
                    if one.identity.certificate == statement.envelope.certificate
                ),
                None,
            )
            self._verified[raw] = signer is not None and _is_by(statement, signer)
        return self._verified[raw]

    @staticmethod
    def muster(folder: Path) -> Company:
        """Make them; photographs go to `folder`."""
        election, strange = make_election(2024), make_election(666)

        def enrol(name: str, role: Role, tps: Sequence[str] = (), of: Election = election) -> Member:
            node = make_node(of, name, role, tps)
            return Member(node.identity, node.key, of.root)

        operators = [enrol(f"island-{n:02}", Role.OPERATOR, (f"tps-{n:02}",)) for n in range(OPERATORS)]
        carriers = [enrol(f"boat-{n:02}", Role.CARRIER) for n in range(CARRIERS)]
        receiver = enrol("receiver", Role.RECEIVER)
        heir = enrol("receiver-2", Role.RECEIVER)
        pirates = [enrol(f"pirate-{n:02}", Role.CARRIER) for n in range(PIRATES)]
        rogues = [enrol(f"rogue-{n:02}", Role.OPERATOR, (f"tps-{n:02}", f"tps-9{n}")) for n in range(PIRATES)]
        strangers = [enrol(f"island-{n:02}", Role.OPERATOR, (f"tps-{n:02}",), strange) for n in range(3)]
        bodies: list[Body] = [
            Register(FORMS, tuple(_station(f"tps-{n:02}") for n in range(OPERATORS))),
            _receivers(receiver),
            Witnesses(tuple((one.identity.name, public_bytes(one.identity.key)) for one in carriers[:12])),
        ]
        notices = []
        for body in bodies:
            notices.append(proclaim(election, body, 1))
            election.admission.install(notices[-1])
        dice = random.Random(48)
        photos, files = [], {}
        for number in range(PHOTOS):
            content = dice.randbytes(SIZES[number % len(SIZES)])
            photos.append(folder / f"photo-{number:02}.jpg")
            photos[-1].write_bytes(content)
            file = describe_file(photos[-1].name, "image/jpeg", [content], len(content))
            files[file.sha256] = file
        return Company(
            election,
            strange,
            tuple(operators),
            tuple(carriers),
            receiver,
            heir,
            tuple(pirates),
            tuple(rogues),
            tuple(strangers),
            tuple(notices),
            tuple(photos),
            files,
        )

    def succession(self, version: int) -> Admitted:
        """A notice that names the heir as the one receiver."""
        return proclaim(self.election, _receivers(self.heir), version)

    def revocations(self, version: int, revoked: Sequence[Member]) -> Admitted:
        """A notice that revokes these nodes."""
        rows = tuple(Revocation(one.identity.node, one.identity.name, "lost") for one in revoked)
        return proclaim(self.election, Revocations(rows), version)


def url_of(member: Member) -> str:
    """Where a receiver is reached."""
    return f"https://{member.identity.name}.example:8470"


def _receivers(member: Member) -> Receivers:
    return Receivers((Receiver(member.identity.name, (url_of(member),), member.identity.certificate),))


def proclaim(election: Election, body: Body, version: int) -> Admitted:
    """A notice by the election office."""
    raw = sign_notice(ELECTION, 0, version, body, election.root, election.root_key)
    return election.admission.admit(Kind.NOTICE, raw)


def _is_by(statement: Statement, signer: Identity) -> bool:
    envelope = statement.envelope
    try:
        signer.key.verify(envelope.signature, to_be_signed(envelope.protected, envelope.payload or b""))
    except InvalidSignature:
        return False
    return envelope.issuer == signer.uri and statement.package.tps in signer.tps


def _station(tps: str) -> Station:
    return Station(tps, 1, "Village", "District", "Island", 300, signal=False)
