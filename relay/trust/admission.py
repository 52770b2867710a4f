"""Admission: the one place that decides what this node believes. Pure.

`Admission` holds everything trusted: the election's root and the notices in force. A record enters a store only as the
`Admitted` that `Admission.admit` returns. The rules (promises 1 and 10):

1. The certificate in the record's x5chain was issued by this election's root; the root itself speaks for the authority.
2. Its role may sign this kind of record (`roles.MAY_SIGN`).
3. Its key is not revoked.
4. The signature covers the record; for a receipt, over the Merkle root that its inclusion proof leads to.
5. A statement is for a polling station in its signer's certificate, and names the signer as its issuer.
6. A checkpoint is signed by a receiver that a notice in force names; it may not contradict the one in force.

Dates play no part. Files, sockets and the choice of what to fetch are handled elsewhere.

    admission = Admission(root_der)
    admission.install(admission.admit(Kind.NOTICE, raw_notice))
    admitted = admission.admit(Kind.STATEMENT, raw_statement)      # or Malformed, or Refused
    await store.add([admitted])
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from relay.errors import REVOKED, Malformed, Refused
from relay.limits import MAX_CACHED_CERTIFICATES
from relay.log.merkle import root_from_inclusion
from relay.log.note import NoteKey, parse_note
from relay.records.cose import Sign1
from relay.records.identifiers import Kind, NodeId, RecordId, sha256
from relay.records.notice import (
    Notice,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Station,
    Topic,
    Witnesses,
    read_notice,
)
from relay.records.receipt import Receipt, read_receipt
from relay.records.statement import Statement, read_statement
from relay.trust.certificates import Identity, check_issued, read_certificate
from relay.trust.roles import MAY_SIGN, Role
from relay.trust.verifying import Issuer, QuickKey
from relay.trust.witness import SignedCheckpoint, combine, log_key, read_signed_checkpoint, witness_key

B = TypeVar("B")
Body: TypeAlias = Notice | SignedCheckpoint | Receipt | Statement


@dataclass(frozen=True, slots=True)
class Admitted:
    """A record that passed admission: the only thing a store takes.

    Notices and checkpoints fill a `slot`, where a higher `rank` replaces a lower one; other records have none.
    """

    kind: Kind
    id: RecordId
    raw: bytes
    body: Body
    signer: NodeId
    slot: str = ""
    rank: int = 0


class Admission:
    """The trusted set of one election, and the judge of everything that wants in."""

    def __init__(self, root: bytes) -> None:
        """Trust `root`, a DER root certificate. Raises `Malformed` or `Refused` if it is not one."""
        self.root = read_certificate(root)
        if self.root.role is not Role.AUTHORITY:
            raise Malformed("A certificate that is no root was given as root")
        check_issued(root, self.root)
        self.election = self.root.election
        self._issuer = Issuer(root, self.root.key)
        self._notices: dict[str, Notice] = {}
        self._checkpoints: dict[str, SignedCheckpoint] = {}
        self._notice_ids: set[bytes] = set()
        self._revoked: dict[NodeId, Revocation] = {}
        self._registered: tuple[dict[str, Station], tuple[str, ...]] | None = None
        self._receivers: dict[str, Receiver] = {}
        self._cosigners: dict[str, NoteKey] | None = None
        self._identities: OrderedDict[bytes, Identity] = OrderedDict()

    # -- what is in force

    @property
    def stations(self) -> dict[str, Station]:
        """The register in force, by polling station."""
        return self._register[0]

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that each station returns."""
        return self._register[1]

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """The receivers in force."""
        return tuple(self._receivers.values())

    @property
    def receiver_nodes(self) -> set[NodeId]:
        """The node ids of the receivers in force; those whose certificate is not this election's are left out."""
        found: set[NodeId] = set()
        for receiver in self._receivers.values():
            with suppress(Malformed, Refused):
                found.add(self.identify(receiver.certificate).node)
        return found

    @property
    def sealed(self) -> bool:
        """Whether packages of this election are sealed to the receivers."""
        return any(isinstance(notice.body, Receivers) and notice.body.sealed for notice in self._notices.values())

    @property
    def sealing_key(self) -> bytes | None:
        """The public key to which packages are sealed, None where they are not."""
        keys = [one.sealing_key for one in self._receivers.values() if one.sealing_key is not None]
        return keys[0] if self.sealed and keys else None

    @property
    def revoked(self) -> dict[NodeId, Revocation]:
        """The nodes whose keys are not believed."""
        return self._revoked

    @property
    def checkpoints(self) -> dict[str, SignedCheckpoint]:
        """The newest checkpoint of each log, by origin, with its cosignatures."""
        found: dict[str, SignedCheckpoint] = {}
        for one in sorted(self._checkpoints.values(), key=lambda one: one.rank):
            found[one.checkpoint.origin] = one
        return found

    @property
    def cosigned(self) -> dict[str, SignedCheckpoint]:
        """The newest checkpoint of each log that a witness cosigned, by origin."""
        return {one.checkpoint.origin: one for one in self._checkpoints.values() if one.cosigned_by}

    def version(self, topic: Topic, part: int = 0) -> int:
        """The version in force of a notice's slot, 0 where there is none."""
        held = self._notices.get(f"{topic}/{part}")
        return held.version if held else 0

    # -- admission

    def identify(self, certificate: bytes) -> Identity:
        """Who holds this certificate: issued by the root and not revoked. Raises `Malformed` or `Refused`."""
        identity = self._identities.get(certificate)
        if identity is None:
            identity = read_certificate(certificate)
            if identity.election != self.election:
                raise Refused(
                    "foreign-election",
                    f"A certificate of election {identity.election} was shown in {self.election}",
                    "Enrol the device in this election, or use it in its own.",
                )
            if not self._issuer.has_issued(certificate):
                check_issued(certificate, self.root)
            self._identities[certificate] = identity
            if len(self._identities) > MAX_CACHED_CERTIFICATES:
                self._identities.popitem(last=False)
        revocation = self._revoked.get(identity.node)
        if revocation is not None:
            raise Refused(
                REVOKED,
                f"The certificate of {identity.name} is revoked ({revocation.reason})",
                "Ask the election office for a new enrolment.",
                self._revoking(identity.node),
            )
        return identity

    def admit(self, kind: Kind, raw: bytes) -> Admitted:
        """Judge a record of the given kind by the rules above. Raises `Malformed` or `Refused`; changes nothing."""
        match kind:
            case Kind.STATEMENT:
                return self._admit_statement(read_statement(raw))
            case Kind.RECEIPT:
                return self.admit_receipt(read_receipt(raw))
            case Kind.NOTICE:
                return self._admit_notice(read_notice(raw))
            case Kind.CHECKPOINT:
                return self._admit_checkpoint(raw)

    def admit_receipt(self, receipt: Receipt) -> Admitted:
        """Judge a receipt that is at hand as a value, as `admit` does."""
        identity, _ = self.prove(receipt)
        return Admitted(Kind.RECEIPT, receipt.id, receipt.raw, receipt, identity.node)

    def prove(self, receipt: Receipt) -> tuple[Identity, bytes]:
        """Judge a receipt as `admit` does: who signed it, and the root that its proof leads to, which is computed once.
        Raises `Malformed` or `Refused`."""
        identity = self._signer(Kind.RECEIPT, receipt.envelope)
        if receipt.election != self.election:
            raise Refused("foreign-election", f"A receipt of election {receipt.election} was shown in {self.election}")
        proof = receipt.inclusion
        root = root_from_inclusion(receipt.leaf, proof.index, proof.size, proof.path)
        receipt.envelope.verify(QuickKey(identity.key), root)
        return identity, root

    def install(self, admitted: Admitted) -> bool:
        """Put an admitted notice or checkpoint in force; False when a newer one is. Other kinds change no trust."""
        match admitted.body:
            case Notice() as notice:
                held = self._notices.get(admitted.slot)
                if held is not None and held.version >= notice.version:
                    return False
                if held is not None:
                    self._notice_ids.discard(held.id)
                self._notices[admitted.slot] = notice
                self._notice_ids.add(notice.id)
                self._apply(notice, first=held is None)
                return True
            case SignedCheckpoint() as checkpoint:
                return self._install_checkpoint(checkpoint)
            case _:
                return False

    def load(self, records: Iterable[tuple[Kind, bytes]]) -> list[tuple[bytes, Refused]]:
        """Admit and install what a store kept: notices first, since checkpoints lean on them. What is in force already
        is not judged again. Checkpoints that are not believed any more, since their receiver was revoked or replaced,
        are left out and returned, each with the reason."""
        refused: list[tuple[bytes, Refused]] = []
        for kind, raw in sorted(records, key=lambda item: item[0]):
            if self._is_in_force(raw):
                continue
            try:
                self.install(self.admit(kind, raw))
            except Refused as error:
                if kind is not Kind.CHECKPOINT:
                    raise
                refused.append((raw, error))
        return refused

    def _is_in_force(self, raw: bytes) -> bool:
        return sha256(raw) in self._notice_ids or any(one.raw == raw for one in self._checkpoints.values())

    # -- one kind each

    def _signer(self, kind: Kind, envelope: Sign1) -> Identity:
        identity = self.identify(envelope.certificate)
        if kind not in MAY_SIGN[identity.role]:
            raise Refused("wrong-role", f"{identity.name} is {identity.role} and may not sign a {kind.name.lower()}")
        if envelope.issuer != identity.uri:
            raise Refused("wrong-issuer", f"A {kind.name.lower()} names another issuer than its signer {identity.name}")
        return identity

    def _admit_statement(self, statement: Statement) -> Admitted:
        identity = self._signer(Kind.STATEMENT, statement.envelope)
        package = statement.package
        if package.election != self.election:
            raise Refused(
                "foreign-election", f"A statement of election {package.election} was shown in {self.election}"
            )
        if package.tps not in identity.tps:
            raise Refused(
                "foreign-tps",
                f"{identity.name} signed for polling station {package.tps}, which is not among its own",
                "Ask the election office to enrol the device for this station.",
            )
        statement.envelope.verify(QuickKey(identity.key))
        return Admitted(Kind.STATEMENT, statement.id, statement.raw, statement, identity.node)

    def _admit_notice(self, notice: Notice) -> Admitted:
        identity = self._signer(Kind.NOTICE, notice.envelope)
        if notice.election != self.election:
            raise Refused("foreign-election", f"A notice of election {notice.election} was shown in {self.election}")
        notice.envelope.verify(QuickKey(identity.key))
        slot = f"{notice.topic}/{notice.part}"
        return Admitted(Kind.NOTICE, notice.id, notice.raw, notice, identity.node, slot, notice.version)

    def _admit_checkpoint(self, raw: bytes) -> Admitted:
        origin = parse_note(raw).text.partition("\n")[0]
        receiver = next((one for one in self.receivers if f"{self.election}/{one.name}" == origin), None)
        if receiver is None:
            raise Refused("unknown-log", f"A checkpoint is of the log {origin[:120]!r}, which no notice names")
        identity = self.identify(receiver.certificate)
        if Kind.CHECKPOINT not in MAY_SIGN[identity.role]:
            raise Refused("wrong-role", f"{identity.name} is {identity.role} and may not sign a checkpoint")
        signed = read_signed_checkpoint(raw, log_key(identity), self._witnesses)
        mine = signed
        for held in [one for one in self._checkpoints.values() if one.checkpoint.origin == origin]:
            both = combine(held, signed)  # which refuses what contradicts one of them
            mine = both if held.slot == signed.slot else mine
        name = RecordId(sha256(mine.raw))
        return Admitted(Kind.CHECKPOINT, name, mine.raw, mine, identity.node, mine.slot, mine.rank)

    def _install_checkpoint(self, signed: SignedCheckpoint) -> bool:
        held = self._checkpoints.get(signed.slot)
        if held is not None and held.rank >= signed.rank:
            return False
        self._checkpoints[signed.slot] = signed
        return True

    @property
    def _register(self) -> tuple[dict[str, Station], tuple[str, ...]]:
        """Stations and forms, put together when they are asked for: a register comes in hundreds of parts."""
        if self._registered is None:
            registers = self._bodies(Register)
            stations = {station.tps: station for body in registers for station in body.stations}
            self._registered = stations, tuple(dict.fromkeys(form for body in registers for form in body.forms))
        return self._registered

    def _revoking(self, node: NodeId) -> bytes:
        """The notice in force that revokes a node."""
        for notice in self._notices.values():
            if isinstance(notice.body, Revocations) and any(one.node == node for one in notice.body.revoked):
                return notice.raw
        return b""

    @property
    def _witnesses(self) -> dict[str, NoteKey]:
        """The keys that cosign checkpoints, by name, put together when they are asked for: they come in parts, too."""
        if self._cosigners is None:
            bodies = self._bodies(Witnesses)
            keys = [witness_key(self.election, name, public) for body in bodies for name, public in body.keys]
            for vkey in [vkey for body in bodies for vkey in body.others]:
                with suppress(Malformed):  # of a type that only a newer relay can check
                    keys.append(NoteKey.parse(vkey))
            self._cosigners = {key.name: key for key in keys}
        return self._cosigners

    def _apply(self, notice: Notice, *, first: bool) -> None:
        """Bring what this notice, the `first` in its slot or not, speaks of up to date."""
        match notice.body:
            case Register():
                self._registered = None
            case Receivers():
                self._receivers = {one.name: one for body in self._bodies(Receivers) for one in body.receivers}
                self._leave_checkpoints()
            case Witnesses():
                self._cosigners = None
            case Revocations() as part:
                # Others may be reading what was in force: it stays as it was.
                before, parts = (self._revoked, [part]) if first else ({}, self._bodies(Revocations))
                self._revoked = before | {one.node: one for body in parts for one in body.revoked}
                self._leave_checkpoints()

    def _leave_checkpoints(self) -> None:
        """Leave checkpoints of receivers that are named no more, or revoked: as when they are loaded."""
        believed: set[str] = set()
        for one in self.receivers:
            with suppress(Malformed, Refused):
                self.identify(one.certificate)
                believed.add(f"{self.election}/{one.name}")
        held = self._checkpoints.items()
        self._checkpoints = {slot: one for slot, one in held if one.checkpoint.origin in believed}

    def _bodies(self, of: type[B]) -> list[B]:
        """What the notices of one topic say, in the order of their slots."""
        return [notice.body for _, notice in sorted(self._notices.items()) if isinstance(notice.body, of)]
