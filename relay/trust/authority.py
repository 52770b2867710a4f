"""The election office: its root key, whom it enrolled, and the notices it publishes. Pure.

Lives here: what the office decides and signs. Does not live here: its folder (`relay.cli.office`) and the passphrase
prompt (`relay.cli.authority`). An `Office` is a value: each act returns a new one, which knows what was decided beside
what the folder keeps, so that a failed act changes nothing. An act reads of the folder what it needs: an election may
have a million nodes.

Who is enrolled gets what rules (receivers, revocations, witnesses), and of the register what it needs: a receiver all,
an operator the parts with its own stations, a carrier nothing. The whole register of a country is tens of megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import BadInput, StoreError
from relay.limits import MAX_REASON, MAX_REGISTER_PARTS, MAX_WITNESSES
from relay.log.note import NoteKey
from relay.records.encoding import encode
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
    fits,
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


class Kept(Protocol):
    """The lines that an office's folder keeps, in the order in which nodes were enrolled first."""

    def __iter__(self) -> Iterator[Enrolled]: ...

    def named(self, name: str) -> Sequence[Enrolled]:
        """The lines of every node that has, or had, this name."""

    def of(self, node: str) -> Enrolled | None:
        """The line of a node, by the hex of its id."""


class Ledger:
    """Whom the office enrolled: the lines that are kept, and those that were decided since. A value."""

    def __init__(self, kept: Kept | None = None, decided: Mapping[str, Enrolled] | None = None) -> None:
        self._kept = kept
        self.decided: Mapping[str, Enrolled] = decided or {}
        """By node."""

    def __iter__(self) -> Iterator[Enrolled]:
        old: set[str] = set()
        for line in self._kept if self._kept is not None else ():
            old.add(line.node)
            yield self.decided.get(line.node, line)
        yield from (line for line in self.decided.values() if line.node not in old)

    def named(self, name: str) -> list[Enrolled]:
        """The lines of every node that has, or had, this name: a node never gets another one."""
        kept = self._kept.named(name) if self._kept is not None else ()
        lines = [self.decided.get(line.node, line) for line in kept]
        old = {line.node for line in lines}
        return [*lines, *(one for one in self.decided.values() if one.name == name and one.node not in old)]

    def of(self, node: str) -> Enrolled | None:
        """The line of a node, by the hex of its id."""
        return self.decided.get(node) or (self._kept.of(node) if self._kept is not None else None)

    def with_line(self, line: Enrolled) -> Ledger:
        """With this line in place of the node's own."""
        return Ledger(self._kept, {**self.decided, line.node: line})


class Notices(Mapping[str, bytes]):
    """The notices in force by slot `topic/part`: those that are kept, and those that were decided since. A value."""

    def __init__(self, kept: Mapping[str, bytes] | None = None, decided: Mapping[str, bytes] | None = None) -> None:
        self._kept: Mapping[str, bytes] = kept or {}
        self.decided: Mapping[str, bytes] = decided or {}

    def __getitem__(self, slot: str) -> bytes:
        return self.decided[slot] if slot in self.decided else self._kept[slot]

    def __iter__(self) -> Iterator[str]:
        yield from self._kept
        yield from (slot for slot in self.decided if slot not in self._kept)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def with_notice(self, slot: str, raw: bytes) -> Notices:
        """With this notice in its slot."""
        return Notices(self._kept, {**self.decided, slot: raw})

    def parts(self, topic: Topic) -> list[tuple[int, str]]:
        """The parts of a topic in their order, each with its slot."""
        found = [slot for slot in self if slot.startswith(f"{topic}/")]
        return sorted((int(slot.rpartition("/")[2]), slot) for slot in found)


@dataclass(frozen=True, slots=True)
class Office:
    """The office's state: root certificate (DER), notices in force, the ledger."""

    root: bytes
    notices: Notices
    ledger: Ledger

    @property
    def election(self) -> str:
        """The election's id."""
        return read_certificate(self.root).election

    def register(self) -> dict[int, Register]:
        """The register, by part."""
        found: dict[int, Register] = {}
        for part, slot in self.notices.parts(Topic.REGISTER):
            body = read_notice(self.notices[slot]).body
            assert isinstance(body, Register)
            found[part] = body
        return found

    def rules(self) -> tuple[bytes, ...]:
        """The notices in force but the register."""
        return tuple(self.notices[slot] for slot in self.notices if not slot.startswith(f"{Topic.REGISTER}/"))


@dataclass(frozen=True, slots=True)
class Correction:
    """A newer register: the notices of the parts that changed, and how many stations were added, corrected, removed."""

    notices: tuple[bytes, ...]
    added: int
    corrected: int
    removed: int


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
    office = Office(root, Notices(), Ledger())
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
    own = _parts_with(office, tps)
    known = {code for codes in own.values() for code in codes}
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
    office = replace(office, ledger=office.ledger.with_line(line))
    receivers = _receivers(office)
    others = tuple(one for one in receivers.receivers if one.name != request.name)
    mine = (Receiver(request.name, tuple(urls), certificate),) if role is Role.RECEIVER else ()
    if (*others, *mine) != receivers.receivers:
        office = _publish(office, 0, replace(receivers, receivers=(*others, *mine)), key)
    if role is Role.CARRIER:
        office = _publish_witness(office, request.name, public_bytes(request.key), key)
    register = [slot for _, slot in office.notices.parts(Topic.REGISTER)] if role is Role.RECEIVER else own
    parts = (office.notices[slot] for slot in register)
    return office, Enrolment(certificate, office.root, (*office.rules(), *parts))


def revoke(office: Office, name: str, reason: str, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Revoke every key enrolled under a name; the new notices, to be spread. Raises `BadInput`."""
    lines = office.ledger.named(name)
    if not lines:
        raise BadInput(f"No node named {name[:80]!r} is enrolled", "See the names with `relay authority list`.")
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise BadInput("A revocation needs a reason", f"Give --reason a line of up to {MAX_REASON} characters.")
    if all(line.revoked is not None for line in lines):
        raise BadInput(
            f"{name} is revoked already ({lines[0].revoked})",
            "Nothing was changed; `relay authority notices` writes the revocation once more.",
        )
    for line in lines:
        if line.revoked is None:
            office = replace(office, ledger=office.ledger.with_line(replace(line, revoked=reason)))
            office = _publish_revocation(office, Revocation(NodeId(bytes.fromhex(line.node)), line.name, reason), key)
    receivers = _receivers(office)
    remaining = tuple(one for one in receivers.receivers if one.name != name)
    if remaining != receivers.receivers:
        office = _publish(office, 0, replace(receivers, receivers=remaining), key)
    return office, Enrolment(None, None, office.rules())


def seal_to(office: Office, name: str, sealing_key: bytes, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Have packages sealed to the receiver `name` from now on; the new notices. Raises `BadInput`."""
    receivers = _receivers(office)
    if name not in [one.name for one in receivers.receivers]:
        raise BadInput(f"No receiver named {name[:80]!r} is enrolled", "Enrol it with --role receiver first.")
    if len(sealing_key) != PUBLIC_SIZE:
        raise BadInput("The sealing key is not one", "Give the file that `relay receiver sealing-key` printed.")
    entries = tuple(replace(one, sealing_key=sealing_key if one.name == name else None) for one in receivers.receivers)
    office = _publish(office, 0, Receivers(entries, sealed=True), key)
    return office, Enrolment(None, None, office.rules())


def add_witness(office: Office, vkey: str, key: Ed25519PrivateKey) -> tuple[Office, Enrolment]:
    """Make an independent witness's verifier key known; the new notices. Raises `BadInput` or `Malformed`."""
    witness = NoteKey.parse(vkey)
    election, _, name = witness.name.partition("/")
    if election == office.election and office.ledger.named(name):
        raise BadInput(f"{name} is enrolled as a node", "Have the witness made with another name.")
    known = _witnesses(office)
    held = [one for body in known.values() for one in body.others]
    others = [one for one in held if NoteKey.parse(one).name != witness.name]
    if len(others) >= MAX_WITNESSES:
        raise BadInput(
            f"There are {MAX_WITNESSES} independent witnesses already", "Give another one's new key, or none."
        )
    if vkey not in held:
        for part, body in known.items():
            kept = tuple(one for one in body.others if one in others)
            if kept != body.others:
                office = _publish(office, part, replace(body, others=kept), key)
        office = _extend(office, Witnesses((), (vkey,)), key)
    return office, Enrolment(None, None, office.rules())


def correct_register(
    office: Office, stations: Sequence[Station], key: Ed25519PrivateKey, *, remove: bool = False
) -> tuple[Office, Correction]:
    """Publish a corrected register: the parts that changed. A station stays in its part, as far as it fits. Raises
    `BadInput`; stations that are left out are removed only where `remove` says that this is meant."""
    held = office.register()
    before = {one.tps: one for body in held.values() for one in body.stations}
    after = {one.tps: one for one in stations}
    gone = [code for code in before if code not in after]
    if gone and not remove:
        raise BadInput(
            f"The file lacks {len(gone)} polling stations of the register in force, {gone[0]} among them",
            "Give the whole register; add --remove if they are to go. Nothing was changed.",
        )
    corrected = sum(after.get(code, one) != one for code, one in before.items())
    added = [one for one in stations if one.tps not in before]
    if not (gone or corrected or added):
        raise BadInput("The register in force says the same", "Correct the file first; nothing was changed.")
    office, changed = _publish_register(office, _arranged(held, after, added), key)
    return office, Correction(changed, len(added), corrected, len(gone))


def read_ledger(text: bytes) -> tuple[Enrolled, ...]:
    """Parse a ledger as offices kept it at first, as JSON. Raises `StoreError` when it is damaged."""
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
    own = office.ledger.of(node.hex())
    if own is not None and own.revoked is not None:
        raise BadInput(f"The key of {own.name} is revoked ({own.revoked})", "Make a new node with `relay init`.")
    if own is not None and own.name != name:
        raise BadInput(f"This key is enrolled as {own.name}", "One device has one name; ask under that one.")
    for line in office.ledger.named(name):
        if line.node != node.hex() and Role.RECEIVER in (role, line.role):
            raise BadInput(
                f"{name} is, or was, the name of another device, and a receiver's name is that of its log",
                "Make the new node under a name that no device had: `relay init NAME`.",
            )
        if line.node != node.hex() and line.revoked is None:
            raise BadInput(
                f"Another device is enrolled as {name}", "Choose another name, or revoke the other device first."
            )


def _check_role(office: Office, node: NodeId, role: Role) -> None:
    line = office.ledger.of(node.hex())
    if line is not None and line.role != role:
        raise BadInput(
            f"{line.name} is enrolled as {line.role}, not as {role}",
            "Enrol it with that role again; if it is to change, add --change-role.",
        )


def _parts_with(office: Office, tps: Sequence[str]) -> dict[str, set[str]]:
    """The slots of the register's parts that list some of these stations, and which: most parts are not even parsed."""
    found: dict[str, set[str]] = {}
    spelled = {code: encode(code) for code in tps}
    for _, slot in office.notices.parts(Topic.REGISTER) if spelled else ():
        raw = office.notices[slot]
        if any(one in raw for one in spelled.values()):
            body = read_notice(raw).body
            listed = {one.tps for one in body.stations if one.tps in spelled} if isinstance(body, Register) else set()
            if listed:
                found[slot] = listed
    return found


def _arranged(
    held: Mapping[int, Register], after: Mapping[str, Station], added: Sequence[Station]
) -> dict[int, Register]:
    """The parts of a corrected register: each station in the part that it was in. What does not fit there any more,
    and what is new, fills the last part, and new ones."""
    parts: dict[int, Register] = {}
    moved: list[Station] = []
    for part, body in held.items():
        stations = [after[one.tps] for one in body.stations if one.tps in after]
        if stations != list(body.stations):
            while not fits(replace(body, stations=tuple(stations))):
                moved.append(stations.pop())
        parts[part] = replace(body, stations=tuple(stations))
    if moved or added:
        last = max(parts)
        rest = split_register(parts[last].forms, (*parts[last].stations, *moved, *added))
        parts |= dict(enumerate(rest, last))
    return parts


def _publish_register(
    office: Office, parts: Mapping[int, Register], key: Ed25519PrivateKey
) -> tuple[Office, tuple[bytes, ...]]:
    """Publish the parts that are not in force as they are; the office, and their notices."""
    held = office.register()
    changed = [part for part, body in parts.items() if held.get(part) != body]
    for part in changed:
        office = _publish(office, part, parts[part], key)
    return office, tuple(office.notices[f"{Topic.REGISTER}/{part}"] for part in changed)


def _receivers(office: Office) -> Receivers:
    body = read_notice(office.notices[f"{Topic.RECEIVERS}/0"]).body
    return body if isinstance(body, Receivers) else Receivers(())


def _publish_witness(office: Office, name: str, public: bytes, key: Ed25519PrivateKey) -> Office:
    """Every carrier may cosign checkpoints: make its key known."""
    for part, body in _witnesses(office, naming=name).items():
        if any(one[0] == name for one in body.keys):
            keys = tuple((name, public) if one[0] == name else one for one in body.keys)
            return office if keys == body.keys else _publish(office, part, replace(body, keys=keys), key)
    return _extend(office, Witnesses(((name, public),)), key)


def _publish_revocation(office: Office, revocation: Revocation, key: Ed25519PrivateKey) -> Office:
    """Add a revocation, unless a failure kept only the ledger from knowing of it."""
    if any(bytes(revocation.node) in office.notices[slot] for _, slot in office.notices.parts(Topic.REVOCATIONS)):
        return office
    return _extend(office, Revocations((revocation,)), key)


def _witnesses(office: Office, naming: str | None = None) -> dict[int, Witnesses]:
    """The witnesses by part: of all parts, or of those in which a name may be."""
    found: dict[int, Witnesses] = {}
    for part, slot in office.notices.parts(Topic.WITNESSES):
        raw = office.notices[slot]
        if naming is None or encode(naming) in raw:
            body = read_notice(raw).body
            assert isinstance(body, Witnesses)
            found[part] = body
    return found


def _extend(office: Office, more: Revocations | Witnesses, key: Ed25519PrivateKey) -> Office:
    """Publish a list with more in it: in its last part, or in a new one where that is full."""
    topic = _TOPICS[type(more)]
    last, slot = office.notices.parts(topic)[-1]
    body = _joined(read_notice(office.notices[slot]).body, more)
    if not fits(body):
        last, body = last + 1, more
    if last >= MAX_REGISTER_PARTS:
        raise BadInput(f"The list of {topic} has {MAX_REGISTER_PARTS} full parts", "No more can be added to it.")
    return _publish(office, last, body, key)


def _joined(body: Body, more: Revocations | Witnesses) -> Body:
    match body, more:
        case Revocations(), Revocations():
            return Revocations(body.revoked + more.revoked)
        case Witnesses(), Witnesses():
            return Witnesses(body.keys + more.keys, body.others + more.others)
        case _:
            raise AssertionError("a slot holds what its topic says")


def _publish(office: Office, part: int, body: Body, key: Ed25519PrivateKey) -> Office:
    topic = _TOPICS[type(body)]
    slot = f"{topic}/{part}"
    held = office.notices.get(slot)
    version = read_notice(held).version + 1 if held else 1
    raw = sign_notice(office.election, part, version, body, office.root, key)
    return replace(office, notices=office.notices.with_notice(slot, raw))
