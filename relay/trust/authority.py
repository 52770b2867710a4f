"""The election office: its root key, whom it enrolled, and the notices it publishes. Pure.

Lives here: what the office decides and signs, and its ledger as bytes. Does not live here: its folder and the
passphrase prompt (`relay.cli.authority`). An `Office` is a value: each act returns a new one, so that a failed act
changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import BadInput, StoreError
from relay.limits import MAX_REASON, MAX_WITNESSES
from relay.log.note import NoteKey
from relay.records.identifiers import NodeId, is_code
from relay.records.notice import (
    Body,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Station,
    Topic,
    Witnesses,
    is_receiver_url,
    read_notice,
    sign_notice,
    split_register,
)
from relay.trust.certificates import issue, make_root, node_id, read_certificate, read_request
from relay.trust.enrolment import Enrolment
from relay.trust.roles import Role
from relay.trust.sealing import PUBLIC_SIZE
from relay.trust.witness import public_bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A line of the ledger: a node's name, key (hex of its node id), role, and whether it was revoked, with why."""

    name: str
    node: str
    role: str
    tps: tuple[str, ...]
    revoked: str | None = None


@dataclass(frozen=True, slots=True)
class Office:
    """The office's state: root certificate (DER), notices in force by slot `topic/part`, the ledger."""

    root: bytes
    notices: Mapping[str, bytes]
    ledger: tuple[Enrolled, ...]

    @property
    def election(self) -> str:
        """The election's id."""
        return read_certificate(self.root).election

    def stations(self) -> dict[str, Station]:
        """The register, by polling station."""
        bodies = [read_notice(raw).body for raw in self.notices.values()]
        return {station.tps: station for body in bodies if isinstance(body, Register) for station in body.stations}


def found(
    election: str,
    forms: Sequence[str],
    stations: Sequence[Station],
    key: Ed25519PrivateKey,
    serial: int,
    now: datetime,
) -> Office:
    """A new election with its register published. Raises `BadInput` for an unfit id or form."""
    if not is_code(election):
        raise BadInput(f"{election[:80]!r} cannot name an election", "Use letters, digits, dots, dashes: kwk-2024.")
    if bad := [form for form in forms if not is_code(form)]:
        raise BadInput(f"{bad[0][:80]!r} cannot name a form", "Use letters, digits, dots and dashes.")
    root = make_root(election, key, serial, now)
    office = Office(root, {}, ())
    for part, body in enumerate(split_register(tuple(forms), stations)):
        office = _publish(office, part, body, key)
    office = _publish(office, 0, Receivers(()), key)
    office = _publish(office, 0, Witnesses(()), key)
    return _publish(office, 0, Revocations(()), key)


def enrol(
    office: Office,
    request_pem: bytes,
    role: Role,
    tps: Sequence[str],
    urls: Sequence[str],
    key: Ed25519PrivateKey,
    serial: int,
    now: datetime,
    *,
    change_role: bool = False,
) -> tuple[Office, Enrolment]:
    """Enrol a node (again, with the same key: its newer certificate). Raises `BadInput`.

    Another role than it had is given only where `change_role` says that this is meant.
    """
    request = read_request(request_pem)
    node = node_id(request.key)
    known = office.stations()
    if foreign := [code for code in tps if code not in known]:
        raise BadInput(
            f"Polling station {foreign[0][:80]!r} is not in the register", "Check the code; nothing was enrolled."
        )
    if urls and role is not Role.RECEIVER:
        raise BadInput("Only a receiver has a URL", "Leave --url out, or enrol with --role receiver.")
    if bad := [url for url in urls if not is_receiver_url(url)]:
        raise BadInput(f"{bad[0][:80]!r} is not a receiver's address", "Give it as https://host:8470.")
    if role is Role.RECEIVER and not urls:
        raise BadInput("A receiver needs the address under which nodes reach it", "Give --url https://host:8470.")
    _check_free(office, request.name, node, role)
    if not change_role:
        _check_role(office, node, role)
    certificate = issue(office.root, key, request, role, tps, serial, now)
    line = Enrolled(request.name, node.hex(), str(role), tuple(sorted(set(tps))))
    ledger = tuple(item for item in office.ledger if item.node != line.node)
    office = replace(office, ledger=(*ledger, line))
    receivers = _receivers(office)
    others = tuple(one for one in receivers.receivers if one.name != request.name)
    mine = (Receiver(request.name, tuple(urls), certificate),) if role is Role.RECEIVER else ()
    if (*others, *mine) != receivers.receivers:
        office = _publish(office, 0, replace(receivers, receivers=(*others, *mine)), key)
    if role is Role.CARRIER:
        office = _publish_witness(office, request.name, public_bytes(request.key), key)
    return office, Enrolment(certificate, office.root, tuple(office.notices.values()))


def revoke(office: Office, name: str, reason: str, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Revoke every key enrolled under a name; the new notices, to be spread. Raises `BadInput`."""
    lines = [line for line in office.ledger if line.name == name]
    if not lines:
        raise BadInput(f"No node named {name[:80]!r} is enrolled", "See the names with `relay authority list`.")
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise BadInput("A revocation needs a reason", f"Give --reason a line of up to {MAX_REASON} characters.")
    if all(line.revoked is not None for line in lines):
        raise BadInput(
            f"{name} is revoked already ({lines[0].revoked})",
            "Nothing was changed; `relay authority notices` writes the revocation once more.",
        )
    ledger = tuple(
        replace(line, revoked=reason) if line.name == name and line.revoked is None else line for line in office.ledger
    )
    office = replace(office, ledger=ledger)
    revoked = tuple(
        Revocation(NodeId(bytes.fromhex(line.node)), line.name, line.revoked)
        for line in ledger
        if line.revoked is not None
    )
    office = _publish(office, 0, Revocations(revoked), key)
    receivers = _receivers(office)
    remaining = tuple(one for one in receivers.receivers if one.name != name)
    if remaining != receivers.receivers:
        office = _publish(office, 0, replace(receivers, receivers=remaining), key)
    return office, Enrolment(None, None, tuple(office.notices.values()))


def seal_to(office: Office, name: str, sealing_key: bytes, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Have packages sealed to the receiver `name` from now on; the new notices. Raises `BadInput`."""
    receivers = _receivers(office)
    if name not in [one.name for one in receivers.receivers]:
        raise BadInput(f"No receiver named {name[:80]!r} is enrolled", "Enrol it with --role receiver first.")
    if len(sealing_key) != PUBLIC_SIZE:
        raise BadInput("The sealing key is not one", "Give the file that `relay receiver sealing-key` printed.")
    entries = tuple(replace(one, sealing_key=sealing_key if one.name == name else None) for one in receivers.receivers)
    office = _publish(office, 0, Receivers(entries, sealed=True), key)
    return office, Enrolment(None, None, tuple(office.notices.values()))


def add_witness(office: Office, vkey: str, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Make an independent witness's verifier key known; the new notices. Raises `BadInput` or `Malformed`."""
    witness = NoteKey.parse(vkey)
    election, _, name = witness.name.partition("/")
    if election == office.election and any(line.name == name for line in office.ledger):
        raise BadInput(f"{name} is enrolled as a node", "Have the witness made with another name.")
    known = _witnesses(office)
    others = (*(one for one in known.others if NoteKey.parse(one).name != witness.name), vkey)
    if len(others) > MAX_WITNESSES:
        raise BadInput(
            f"There are {MAX_WITNESSES} independent witnesses already", "Give another one's new key, or none."
        )
    keys = tuple(one for one in known.keys if f"{office.election}/{one[0]}" != witness.name)
    if (keys, others) != (known.keys, known.others):
        office = _publish(office, 0, Witnesses(keys, others), key)
    return office, Enrolment(None, None, tuple(office.notices.values()))


def write_ledger(ledger: Sequence[Enrolled]) -> bytes:
    """The ledger as JSON."""
    return json.dumps([asdict(line) for line in ledger], indent=1).encode() + b"\n"


def read_ledger(text: bytes) -> tuple[Enrolled, ...]:
    """Parse the ledger. Raises `StoreError` when it is damaged."""
    try:
        lines: list[dict[str, Any]] = json.loads(text)
        return tuple(Enrolled(**{**line, "tps": tuple(line["tps"])}) for line in lines)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            "The authority's ledger nodes.json is damaged", "Restore the folder from its backup."
        ) from error


_TOPICS: Mapping[type[Body], Topic] = {
    Register: Topic.REGISTER,
    Receivers: Topic.RECEIVERS,
    Revocations: Topic.REVOCATIONS,
    Witnesses: Topic.WITNESSES,
}


def _check_free(office: Office, name: str, node: NodeId, role: Role) -> None:
    """Whether a key is free to have a name. A receiver's name is also that of its log, and stays so when it is revoked:
    the heads of two logs under one name would look like a receiver that shows two."""
    for line in office.ledger:
        if line.node == node.hex() and line.revoked is not None:
            raise BadInput(f"The key of {line.name} is revoked ({line.revoked})", "Make a new node with `relay init`.")
        if line.node == node.hex() and line.name != name:
            raise BadInput(f"This key is enrolled as {line.name}", "One device has one name; ask under that one.")
        if line.name == name and line.node != node.hex() and Role.RECEIVER in (role, line.role):
            raise BadInput(
                f"{name} is, or was, the name of another device, and a receiver's name is that of its log",
                "Make the new node under a name that no device had: `relay init NAME`.",
            )
        if line.name == name and line.node != node.hex() and line.revoked is None:
            raise BadInput(
                f"Another device is enrolled as {name}", "Choose another name, or revoke the other device first."
            )


def _check_role(office: Office, node: NodeId, role: Role) -> None:
    for line in office.ledger:
        if line.node == node.hex() and line.role != role:
            raise BadInput(
                f"{line.name} is enrolled as {line.role}, not as {role}",
                "Enrol it with that role again; if it is to change, add --change-role.",
            )


def _receivers(office: Office) -> Receivers:
    body = read_notice(office.notices[f"{Topic.RECEIVERS}/0"]).body
    return body if isinstance(body, Receivers) else Receivers(())


def _publish_witness(office: Office, name: str, public: bytes, key: Ed25519PrivateKey) -> Office:
    """Every carrier may cosign checkpoints: make its key known."""
    known = _witnesses(office)
    keys = (*(one for one in known.keys if one[0] != name), (name, public))
    return office if keys == known.keys else _publish(office, 0, replace(known, keys=keys), key)


def _witnesses(office: Office) -> Witnesses:
    body = read_notice(office.notices[f"{Topic.WITNESSES}/0"]).body
    return body if isinstance(body, Witnesses) else Witnesses(())


def _publish(office: Office, part: int, body: Body, key: Ed25519PrivateKey) -> Office:
    topic = _TOPICS[type(body)]
    slot = f"{topic}/{part}"
    held = office.notices.get(slot)
    version = read_notice(held).version + 1 if held else 1
    raw = sign_notice(office.election, part, version, body, office.root, key)
    return replace(office, notices={**office.notices, slot: raw})
