"""Admission, rule by rule: what each refusal is called, and that nothing refused changes anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Malformed, Refused
from relay.limits import MAX_CACHED_CERTIFICATES
from relay.log.checkpoint import Checkpoint, cosign, sign_checkpoint
from relay.log.merkle import leaf_hash, node_hash, root_from_inclusion
from relay.log.note import COSIGNATURE, ED25519, Note, NoteKey, Signature, parse_note, sign_note
from relay.records.cose import header, sign1
from relay.records.encoding import encode
from relay.records.identifiers import Kind, NodeId, StatementId, authority_uri, node_uri, sha256
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
    sign_notice,
)
from relay.records.receipt import (
    INCLUSION,
    LEAF_HASH,
    RFC9162_SHA256,
    TREE_SIZE,
    VDP,
    VDS,
    Inclusion,
    read_receipt,
    sign_receipt,
)
from relay.records.statement import Package, sign_statement
from relay.records.tally import Tally
from relay.trust.admission import Admission, Admitted
from relay.trust.certificates import make_root, read_certificate
from relay.trust.roles import MAY_SIGN, Role
from relay.trust.witness import SignedCheckpoint, log_key, public_bytes, witness_key
from tests.factory import ELECTION, ISSUED_AT, Election, Node, make_election, make_node

ORIGIN = f"{ELECTION}/receiver"


class Bench:
    """An election with one node of each role, and an admission that knows the receiver and the witness."""

    def __init__(self) -> None:
        self.election: Election = make_election()
        self.operator: Node = make_node(self.election, "pulau-long", tps=("tps-1", "tps-2"))
        self.carrier: Node = make_node(self.election, "km-bahari", Role.CARRIER)
        self.receiver: Node = make_node(self.election, "receiver", Role.RECEIVER)
        self.admission: Admission = self.election.admission
        entry = Receiver("receiver", ("https://receiver.example",), self.receiver.identity.certificate)
        self.install(Receivers((entry,)))
        self.install(Witnesses((("km-bahari", public_bytes(self.carrier.identity.key)),)))

    def notice(self, body: Body, version: int = 1, part: int = 0) -> bytes:
        """A notice of the office."""
        return sign_notice(ELECTION, part, version, body, self.election.root, self.election.root_key)

    def install(self, body: Body, version: int = 1, part: int = 0) -> bool:
        """Admit a notice and put it in force."""
        return self.admission.install(self.admission.admit(Kind.NOTICE, self.notice(body, version, part)))

    def statement(self, signer: Node | None = None, **changes: Any) -> bytes:
        """A statement over a tally."""
        signer = signer or self.operator
        package = Package(ELECTION, "tps-1", "form-1", 1, None, 0, (), Tally({"voters": 1}))
        package = replace(package, **changes)
        return sign_statement(package, signer.identity.uri, signer.identity.certificate, signer.key)

    def receipt(self, signer: Node | None = None, **changes: Any) -> bytes:
        """A receipt for the second of two entries."""
        signer = signer or self.receiver
        statement = self.statement()
        leaf, left = leaf_hash(statement), sha256(b"left")
        values: dict[str, Any] = {
            "election": ELECTION,
            "statement": StatementId(sha256(statement)),  # type: ignore[arg-type]
            "leaf": leaf,
            "inclusion": Inclusion(2, 1, (left,)),
            "root": node_hash(left, leaf),
            "issuer": signer.identity.uri,
            "certificate": signer.identity.certificate,
            "signer": signer.key,
        }
        return sign_receipt(**(values | changes)).raw

    def checkpoint(self, size: int = 1, root: bytes = bytes(32), signer: Node | None = None) -> bytes:
        """A checkpoint of the log."""
        signer = signer or self.receiver
        key = replace(log_key(signer.identity), name=ORIGIN)
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), key, signer.key)

    def refused(self, kind: Kind, raw: bytes) -> str:
        """The reason for which a record is refused."""
        with pytest.raises(Refused) as caught:
            self.admission.admit(kind, raw)
        assert caught.value.what
        assert caught.value.advice
        return caught.value.reason


@pytest.fixture
def bench() -> Bench:
    """The nodes."""
    return Bench()


# -- roots and certificates


def test_only_a_root_can_be_the_root(bench: Bench) -> None:
    with pytest.raises(Malformed):
        Admission(bench.operator.identity.certificate)
    with pytest.raises(Malformed):
        Admission(b"root")


def test_a_root_must_have_signed_itself() -> None:
    one, other = make_election(1), make_election(2)
    forged = bytearray(make_root(ELECTION, one.root_key, 7, ISSUED_AT))
    forged[-1] ^= 1
    with pytest.raises(Refused):
        Admission(bytes(forged))
    assert Admission(other.root).election == Admission(one.root).election == ELECTION


def test_promise_1_a_certificate_of_another_office_is_refused(bench: Bench) -> None:
    """Another root that calls itself by the election's name signs nodes of the same names."""
    pirate = make_node(make_election(99), "pulau-long")
    assert bench.refused(Kind.STATEMENT, bench.statement(pirate)) == "foreign-certificate"


def test_promise_1_another_authority_signs_no_notices(bench: Bench) -> None:
    pirate = make_election(99)
    raw = sign_notice(ELECTION, 0, 9, Receivers(()), pirate.root, pirate.root_key)
    assert bench.refused(Kind.NOTICE, raw) == "foreign-certificate"
    assert bench.admission.version(Topic.RECEIVERS) == 1


def test_promise_1_a_foreign_election_is_refused(bench: Bench) -> None:
    raw = make_root("pilbup-2024", bench.election.root_key, 7, ISSUED_AT)
    notice = sign_notice("pilbup-2024", 0, 9, Receivers(()), raw, bench.election.root_key)
    assert bench.refused(Kind.NOTICE, notice) == "foreign-election"


def test_a_name_is_the_issuers_own(bench: Bench) -> None:
    package = Package(ELECTION, "tps-1", "form-1", 1, None, 0, (), Tally({"voters": 1}))
    identity = bench.operator.identity
    raw = sign_statement(package, node_uri(ELECTION, "pulau-batun"), identity.certificate, bench.operator.key)
    assert bench.refused(Kind.STATEMENT, raw) == "wrong-issuer"


def test_another_key_than_the_certificates(bench: Bench) -> None:
    package = Package(ELECTION, "tps-1", "form-1", 1, None, 0, (), Tally({"voters": 1}))
    identity = bench.operator.identity
    raw = sign_statement(package, identity.uri, identity.certificate, bench.carrier.key)
    assert bench.refused(Kind.STATEMENT, raw) == "bad-signature"


def test_identities_are_cached_within_bounds(bench: Bench) -> None:
    assert bench.admission.identify(bench.operator.identity.certificate) is bench.admission.identify(
        bench.operator.identity.certificate
    )
    assert MAX_CACHED_CERTIFICATES < 1 << 16


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(st.data())
def test_promise_10_a_damaged_certificate_has_a_named_error(data: st.DataObject) -> None:
    election = make_election()
    der = make_node(election, "pulau-long").identity.certificate
    at = data.draw(st.integers(0, len(der) - 1))
    damaged = der[:at] + data.draw(st.binary(max_size=3)) + der[at + data.draw(st.integers(0, 3)) :]
    if damaged != der:
        with pytest.raises((Malformed, Refused)):
            election.admission.identify(damaged)


def test_promise_10_an_x509_version_that_is_none(bench: Bench) -> None:
    der = bench.operator.identity.certificate
    with pytest.raises(Malformed):
        read_certificate(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1))


# -- who may sign what


def test_the_table_of_roles() -> None:
    assert {role: {kind.name for kind in kinds} for role, kinds in MAY_SIGN.items()} == {
        Role.AUTHORITY: {"NOTICE"},
        Role.OPERATOR: {"STATEMENT"},
        Role.CARRIER: set(),
        Role.RECEIVER: {"RECEIPT", "CHECKPOINT"},
    }


@pytest.mark.parametrize("role", [Role.CARRIER, Role.RECEIVER])
def test_promise_1_only_operators_sign_statements(bench: Bench, role: Role) -> None:
    signer = bench.carrier if role is Role.CARRIER else bench.receiver
    assert bench.refused(Kind.STATEMENT, bench.statement(signer)) == "wrong-role"


@pytest.mark.parametrize("role", [Role.CARRIER, Role.OPERATOR])
def test_promise_1_only_receivers_sign_receipts(bench: Bench, role: Role) -> None:
    signer = bench.carrier if role is Role.CARRIER else bench.operator
    assert bench.refused(Kind.RECEIPT, bench.receipt(signer)) == "wrong-role"


def test_promise_1_the_authority_signs_no_statement(bench: Bench) -> None:
    package = Package(ELECTION, "tps-1", "form-1", 1, None, 0, (), Tally({"voters": 1}))
    raw = sign_statement(package, authority_uri(ELECTION), bench.election.root, bench.election.root_key)
    assert bench.refused(Kind.STATEMENT, raw) == "wrong-role"


@pytest.mark.parametrize("role", [Role.CARRIER, Role.OPERATOR, Role.RECEIVER])
def test_promise_1_only_the_authority_signs_notices(bench: Bench, role: Role) -> None:
    signer = {Role.CARRIER: bench.carrier, Role.OPERATOR: bench.operator, Role.RECEIVER: bench.receiver}[role]
    raw = sign_notice(ELECTION, 0, 9, Revocations(()), signer.identity.certificate, signer.key)
    assert bench.refused(Kind.NOTICE, raw) == "wrong-role"


@pytest.mark.parametrize("kind", list(Kind))
def test_promise_10_a_record_under_another_kind_is_malformed(bench: Bench, kind: Kind) -> None:
    records = {
        Kind.STATEMENT: bench.statement(),
        Kind.RECEIPT: bench.receipt(),
        Kind.NOTICE: bench.notice(Receivers(()), 2),
        Kind.CHECKPOINT: bench.checkpoint(),
    }
    for true_kind, raw in records.items():
        if true_kind is kind:
            assert bench.admission.admit(kind, raw).kind is kind
        else:
            with pytest.raises(Malformed):
                bench.admission.admit(kind, raw)


# -- statements


def test_an_operator_signs_for_its_own_stations(bench: Bench) -> None:
    admitted = bench.admission.admit(Kind.STATEMENT, bench.statement(tps="tps-2"))
    assert (admitted.signer, admitted.slot, admitted.rank) == (bench.operator.identity.node, "", 0)
    assert bench.refused(Kind.STATEMENT, bench.statement(tps="tps-3")) == "foreign-tps"


def test_a_statement_of_another_election_is_refused(bench: Bench) -> None:
    assert bench.refused(Kind.STATEMENT, bench.statement(election="pilbup-2024")) == "foreign-election"


# -- revocation


def revoke(bench: Bench, *nodes: Node, version: int = 1) -> None:
    """Put a revocation in force."""
    revoked = tuple(Revocation(one.identity.node, one.identity.name, "lost") for one in nodes)
    bench.install(Revocations(revoked), version)


def test_promise_1_a_revoked_signer_is_not_believed_until_it_is_again(bench: Bench) -> None:
    raw = bench.statement()
    revoke(bench, bench.operator)
    assert bench.refused(Kind.STATEMENT, raw) == "revoked"
    assert set(bench.admission.revoked) == {bench.operator.identity.node}
    revoke(bench, version=2)
    assert bench.admission.admit(Kind.STATEMENT, raw).raw == raw


def test_promise_1_a_revoked_receivers_receipts_and_checkpoints_are_not_believed(bench: Bench) -> None:
    receipt, checkpoint = bench.receipt(), bench.checkpoint()
    revoke(bench, bench.receiver)
    assert bench.refused(Kind.RECEIPT, receipt) == "revoked"
    assert bench.refused(Kind.CHECKPOINT, checkpoint) == "revoked"


def test_a_new_certificate_for_a_revoked_key_is_of_no_use(bench: Bench) -> None:
    """A revocation names the key, not the certificate."""
    revoke(bench, bench.operator)
    again = make_election()
    twin = make_node(again, "another-name", tps=("tps-1",))
    assert twin.identity.node == bench.operator.identity.node  # the same dice, the same key
    assert bench.refused(Kind.STATEMENT, bench.statement(twin)) == "revoked"


# -- receipts


def test_what_a_receipt_proves_is_told_only_of_one_that_is_right(bench: Bench) -> None:
    raw = bench.receipt()
    receipt = read_receipt(raw)
    identity, root = bench.admission.prove(receipt)
    proof = receipt.inclusion
    assert identity.role is Role.RECEIVER
    assert root == root_from_inclusion(receipt.leaf, proof.index, proof.size, proof.path)
    with pytest.raises(Refused, match="signature"):
        bench.admission.prove(read_receipt(raw[:-1] + bytes([raw[-1] ^ 1])))


def test_a_receipt_of_the_receiver(bench: Bench) -> None:
    admitted = bench.admission.admit(Kind.RECEIPT, bench.receipt())
    assert admitted.signer == bench.receiver.identity.node


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"leaf": sha256(b"another")}, "bad-signature"),
        ({"root": sha256(b"another")}, "bad-signature"),
        ({"inclusion": Inclusion(2, 1, (sha256(b"another"),))}, "bad-signature"),
        ({"inclusion": Inclusion(2, 0, (sha256(b"left"),))}, "bad-signature"),
        ({"election": "pilbup-2024"}, "foreign-election"),
        ({"issuer": node_uri(ELECTION, "another")}, "wrong-issuer"),
    ],
)
def test_a_receipt_that_proves_nothing(bench: Bench, changes: dict[str, Any], reason: str) -> None:
    assert bench.refused(Kind.RECEIPT, bench.receipt(**changes)) == reason


@pytest.mark.parametrize(
    "inclusion",
    [
        Inclusion(2, 2, (bytes(32),)),
        Inclusion(2, 1, ()),
        Inclusion(2, 1, (bytes(32), bytes(32))),
        Inclusion(2, 1, (bytes(31),)),
        Inclusion(0, 0, ()),
        Inclusion(1 << 62, 0, ()),
        Inclusion(2, -1, (bytes(32),)),
        Inclusion(2, True, (bytes(32),)),
        Inclusion(1 << 61, 1, (bytes(32),) * 64),
    ],
)
def test_promise_10_a_path_that_fits_no_tree_is_malformed(bench: Bench, inclusion: Inclusion) -> None:
    with pytest.raises(Malformed):
        bench.admission.admit(Kind.RECEIPT, bench.receipt(inclusion=inclusion))


def test_a_path_cannot_be_exchanged_after_signing(bench: Bench) -> None:
    good = bench.receipt()
    old = encode([2, 1, [sha256(b"left")]])
    for new in ([4, 3, [sha256(b"left")]], [2, 0, [sha256(b"left")]], [2, 1, [sha256(b"gone")]]):
        assert len(encode(new)) == len(old)
        with pytest.raises((Refused, Malformed)):
            bench.admission.admit(Kind.RECEIPT, good.replace(old, encode(new)))


@pytest.mark.parametrize(
    ("parameters", "unprotected"),
    [
        ({VDS: 2}, None),
        ({LEAF_HASH: b""}, None),
        ({TREE_SIZE: 2}, None),
        ({TREE_SIZE: True}, None),
        ({3: "text/plain"}, None),
        ({}, {}),
        ({}, {VDP: {INCLUSION: []}}),
        ({}, {VDP: {INCLUSION: [encode([1, 0, []])] * 2}}),
        ({}, {VDP: {INCLUSION: [encode([1, 0, []])], -2: []}}),
        ({}, {VDP: {INCLUSION: [b""]}}),
        ({}, {VDP: {INCLUSION: [encode([1, 0, []]) + b"\x00"]}}),
        ({}, {VDP: {INCLUSION: [encode([1, 0])]}}),
        ({}, {VDP: {INCLUSION: [encode([1, 0, []])]}, 4: b"kid"}),
    ],
)
def test_promise_10_other_shapes_of_a_receipt_are_malformed(
    bench: Bench, parameters: dict[int, Any], unprotected: dict[int, Any] | None
) -> None:
    identity = bench.receiver.identity
    good = header(None, identity.uri, f"{ELECTION}/statement/{'00' * 32}", identity.certificate)
    good |= {VDS: RFC9162_SHA256, LEAF_HASH: bytes(32), TREE_SIZE: 1}
    plain = {VDP: {INCLUSION: [encode([1, 0, []])]}}
    bench.admission.admit(Kind.RECEIPT, sign1(good, bytes(32), bench.receiver.key, unprotected=plain, detached=True))
    raw = sign1(
        good | parameters,
        bytes(32),
        bench.receiver.key,
        unprotected=plain if unprotected is None else unprotected,
        detached=True,
    )
    with pytest.raises(Malformed):
        bench.admission.admit(Kind.RECEIPT, raw)


@pytest.mark.parametrize(
    "subject",
    ["", ELECTION, f"{ELECTION}/statement/", f"{ELECTION}/statement/{'AB' * 32}", "a b/statement/" + "00" * 32],
)
def test_promise_10_a_receipt_for_nothing_is_malformed(bench: Bench, subject: str) -> None:
    identity = bench.receiver.identity
    parameters = header(None, identity.uri, subject, identity.certificate) | {
        VDS: 1,
        LEAF_HASH: bytes(32),
        TREE_SIZE: 1,
    }
    unprotected = {VDP: {INCLUSION: [encode([1, 0, []])]}}
    raw = sign1(parameters, bytes(32), bench.receiver.key, unprotected=unprotected, detached=True)
    with pytest.raises(Malformed):
        bench.admission.admit(Kind.RECEIPT, raw)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=200)
@given(st.data())
def test_promise_1_any_flipped_bit_of_a_receipt_is_refused(data: st.DataObject) -> None:
    bench = Bench()
    raw = bench.receipt()
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    with pytest.raises((Refused, Malformed)):
        bench.admission.admit(Kind.RECEIPT, raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])


# -- notices


def test_an_older_notice_never_replaces_a_newer(bench: Bench) -> None:
    old, new = Register(("form-1",), ()), Register(("form-1", "form-2"), ())
    assert bench.install(new, 5)
    for version in (5, 4, 1):
        assert not bench.install(old, version)
    assert bench.admission.forms == ("form-1", "form-2")
    assert bench.admission.version(Topic.REGISTER) == 5
    assert bench.install(old, 6)
    assert list(bench.admission.forms) == ["form-1"]


def test_parts_of_a_register_stand_side_by_side(bench: Bench) -> None:
    def part(number: int) -> Register:
        return Register(("form-1",), (Station(f"tps-{number}", number, "v", "d", "", 500, signal=False),))

    for number in (1, 0, 2):
        bench.install(part(number), part=number)
    assert list(bench.admission.stations) == ["tps-0", "tps-1", "tps-2"]
    bench.install(Register(("form-1",), ()), 2, part=1)
    assert list(bench.admission.stations) == ["tps-0", "tps-2"]


def test_admitting_changes_nothing(bench: Bench) -> None:
    bench.admission.admit(Kind.NOTICE, bench.notice(Receivers(()), 9))
    assert [one.name for one in bench.admission.receivers] == ["receiver"]


def test_loading_what_a_store_kept_in_any_order(bench: Bench) -> None:
    entry = Receiver("receiver", (), bench.receiver.identity.certificate)
    records = [(Kind.CHECKPOINT, bench.checkpoint(4)), (Kind.NOTICE, bench.notice(Receivers((entry,)), 3))]
    fresh = Admission(bench.election.root)
    fresh.load(records)
    assert fresh.checkpoints[ORIGIN].checkpoint.size == 4
    assert fresh.version(Topic.RECEIVERS) == 3


def test_sealing_keys(bench: Bench) -> None:
    assert not bench.admission.sealed
    entry = Receiver("receiver", (), bench.receiver.identity.certificate, b"key")
    bench.install(Receivers((entry,)), 2)
    assert bench.admission.sealing_key is None
    bench.install(Receivers((entry,), sealed=True), 3)
    assert bench.admission.sealing_key == b"key"


# -- checkpoints


def signed(admitted: Admitted) -> SignedCheckpoint:
    """The checkpoint in a record."""
    assert isinstance(admitted.body, SignedCheckpoint)
    return admitted.body


def test_a_checkpoint_of_a_log_that_no_notice_names(bench: Bench) -> None:
    bench.install(Receivers(()), 2)
    assert bench.refused(Kind.CHECKPOINT, bench.checkpoint()) == "unknown-log"


def test_a_notice_cannot_make_a_carrier_a_receiver(bench: Bench) -> None:
    entry = Receiver("receiver", (), bench.carrier.identity.certificate)
    bench.install(Receivers((entry,)), 2)
    assert bench.refused(Kind.CHECKPOINT, bench.checkpoint(signer=bench.carrier)) == "wrong-role"


@pytest.mark.parametrize("who", ["carrier", "operator"])
def test_promise_1_a_checkpoint_signed_by_another(bench: Bench, who: str) -> None:
    assert bench.refused(Kind.CHECKPOINT, bench.checkpoint(signer=getattr(bench, who))) == "unsigned-note"


def test_a_larger_checkpoint_replaces_and_a_smaller_does_not(bench: Bench) -> None:
    for size, expected in ((5, 5), (3, 5), (9, 9)):
        bench.admission.install(bench.admission.admit(Kind.CHECKPOINT, bench.checkpoint(size)))
        assert bench.admission.checkpoints[ORIGIN].checkpoint.size == expected


def test_a_split_view_is_refused_and_the_first_stays(bench: Bench) -> None:
    bench.admission.install(bench.admission.admit(Kind.CHECKPOINT, bench.checkpoint(5, sha256(b"one"))))
    assert bench.refused(Kind.CHECKPOINT, bench.checkpoint(5, sha256(b"two"))) == "split-view"
    assert bench.admission.checkpoints[ORIGIN].checkpoint.root == sha256(b"one")


def cosigned(bench: Bench, node: Node, raw: bytes, time: int = 7) -> bytes:
    """A checkpoint with a cosignature."""
    key = witness_key(ELECTION, node.identity.name, public_bytes(node.identity.key))
    return cosign(parse_note(raw), key, node.key, time).to_bytes()


def test_promise_1_only_cosignatures_of_known_witnesses_travel(bench: Bench) -> None:
    stranger = make_node(bench.election, "stranger", Role.CARRIER)
    raw = bench.checkpoint()
    both = cosigned(bench, stranger, cosigned(bench, bench.carrier, raw))
    assert len(parse_note(both).signatures) == 3
    admitted = signed(bench.admission.admit(Kind.CHECKPOINT, both))
    assert [one.name for one in admitted.note.signatures] == [ORIGIN, f"{ELECTION}/km-bahari"]
    assert admitted.raw == cosigned(bench, bench.carrier, raw)


def test_promise_1_a_cosignature_that_does_not_hold_is_dropped(bench: Bench) -> None:
    raw = bench.checkpoint(1)
    note = parse_note(cosigned(bench, bench.carrier, bench.checkpoint(2)))
    moved = Note(parse_note(raw).text, (*parse_note(raw).signatures, *note.signatures[1:]))
    good = cosigned(bench, bench.carrier, raw)
    cut = parse_note(good).signatures[1]
    cut_short = Note(
        parse_note(raw).text, (parse_note(raw).signatures[0], Signature(cut.name, cut.key_id, cut.value[:-1]))
    )
    for damaged in (moved, cut_short):
        assert signed(bench.admission.admit(Kind.CHECKPOINT, damaged.to_bytes())).raw == raw


def test_cosignatures_of_one_checkpoint_gather(bench: Bench) -> None:
    second = make_node(bench.election, "kp-anis", Role.CARRIER)
    keys = [(one.identity.name, public_bytes(one.identity.key)) for one in (bench.carrier, second)]
    bench.install(Witnesses(tuple(keys)), 2)
    raw = bench.checkpoint()
    for node in (second, bench.carrier):
        bench.admission.install(bench.admission.admit(Kind.CHECKPOINT, cosigned(bench, node, raw)))
    held = bench.admission.checkpoints[ORIGIN]
    assert [one.name.partition("/")[2] for one in held.note.signatures] == ["receiver", "km-bahari", "kp-anis"]
    bench.admission.install(bench.admission.admit(Kind.CHECKPOINT, raw))
    assert bench.admission.checkpoints[ORIGIN] == held


def test_a_cosignature_that_comes_when_the_log_has_grown_on_is_kept(bench: Bench) -> None:
    def take(raw: bytes) -> str:
        admitted = bench.admission.admit(Kind.CHECKPOINT, raw)
        bench.admission.install(admitted)
        return admitted.slot

    first, second, third = (bench.checkpoint(size) for size in (5, 7, 9))
    assert [take(raw) for raw in (first, second)] == [f"checkpoint/{ORIGIN}"] * 2
    assert take(cosigned(bench, bench.carrier, first)) == f"cosigned/{ORIGIN}"
    assert bench.admission.checkpoints[ORIGIN].raw == second
    assert bench.admission.cosigned[ORIGIN].raw == cosigned(bench, bench.carrier, first)
    take(cosigned(bench, bench.carrier, second))
    take(third)
    assert bench.admission.checkpoints[ORIGIN].raw == third
    assert bench.admission.cosigned[ORIGIN].checkpoint.size == 7
    take(cosigned(bench, bench.carrier, first))
    assert bench.admission.cosigned[ORIGIN].checkpoint.size == 7
    for size in (7, 9):
        assert bench.refused(Kind.CHECKPOINT, bench.checkpoint(size, sha256(b"other"))) == "split-view"
    fresh = Admission(bench.election.root)
    bodies = (
        Receivers((Receiver("receiver", ("https://receiver.example",), bench.receiver.identity.certificate),)),
        Witnesses((("km-bahari", public_bytes(bench.carrier.identity.key)),)),
    )
    fresh.load((Kind.NOTICE, bench.notice(body)) for body in bodies)
    fresh.load([(Kind.CHECKPOINT, third), (Kind.CHECKPOINT, bench.admission.cosigned[ORIGIN].raw)])
    assert (fresh.checkpoints, fresh.cosigned) == (bench.admission.checkpoints, bench.admission.cosigned)


@pytest.mark.parametrize("kind", [ED25519, COSIGNATURE])
def test_a_witness_under_a_name_of_its_own(bench: Bench, kind: int) -> None:
    raw, signer = bench.checkpoint(), bench.carrier.key
    key = NoteKey("witness.example.org/w1", public_bytes(bench.carrier.identity.key), kind)
    newer = NoteKey(key.name, bytes(1312), 6).vkey  # of a type that is not known here: left out, and no fault
    bench.install(Witnesses((), (newer, key.vkey)), 2)
    note = sign_note(parse_note(raw).text, key, signer) if kind == ED25519 else cosign(parse_note(raw), key, signer, 7)
    both = Note(note.text, (*parse_note(raw).signatures, note.signatures[-1]))
    assert signed(bench.admission.admit(Kind.CHECKPOINT, both.to_bytes())).cosigned_by == (key.name,)
    line = note.signatures[-1]
    bad = Note(both.text, (both.signatures[0], Signature(line.name, line.key_id, line.value[:-1] + b"\0")))
    assert signed(bench.admission.admit(Kind.CHECKPOINT, bad.to_bytes())).cosigned_by == ()


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"{ORIGIN}\n{text}".encode("utf-8", "replace")))
def test_promise_10_any_bytes_have_a_named_error_of_every_kind(raw: bytes) -> None:
    bench = Bench()
    for kind in Kind:
        with pytest.raises((Malformed, Refused)):
            bench.admission.admit(kind, raw)


Change = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"\n1\n", b"\n01\n", 1),
        lambda raw: raw.replace(b"\n1\n", b"\n-1\n", 1),
        lambda raw: raw.replace(b"\n1\n", b"\n2\n", 1),
        lambda raw: raw.replace(b"\n\n", b"\nextension\n\n", 1),
        lambda raw: raw.replace(b"\n\n", b"\n", 1),
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw + b"\n" * 20_000,
    ],
)
def test_promise_10_another_spelling_of_a_checkpoint_is_refused(bench: Bench, change: Change) -> None:
    raw = bench.checkpoint()
    assert change(raw) != raw
    with pytest.raises((Malformed, Refused)):
        bench.admission.admit(Kind.CHECKPOINT, change(raw))


def test_a_list_in_many_parts_is_gone_through_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A country's carriers and revocations come in a hundred parts; what was there is not looked at for each."""
    parts, each = 6, 4
    key = public_bytes(bench.carrier.identity.key)
    names = [[f"boat-{part}-{place}" for place in range(each)] for part in range(parts)]
    asked: list[str] = []

    def counted(election: str, name: str, public: bytes) -> NoteKey:
        asked.append(name)
        return witness_key(election, name, public)

    monkeypatch.setattr("relay.trust.admission.witness_key", counted)
    for part, some in enumerate(names):
        bench.install(Witnesses(tuple((name, key) for name in some)), 2, part)
    bench.admission.admit(Kind.CHECKPOINT, bench.checkpoint(4))
    assert sorted(asked) == sorted(name for some in names for name in some)


def test_what_is_revoked_is_the_sum_of_all_parts_in_force(bench: Bench) -> None:
    """A part that is replaced takes back what it said, and no more."""
    nodes = [NodeId(sha256(name.encode())) for name in ("one", "two", "three")]

    def revocations(*places: int) -> Revocations:
        return Revocations(tuple(Revocation(nodes[place], f"node-{place}", "lost") for place in places))

    bench.install(revocations(0), 1, 0)
    bench.install(revocations(1, 2), 1, 1)
    before = bench.admission.revoked
    assert set(before) == set(nodes)
    bench.install(revocations(2), 2, 1)
    assert set(bench.admission.revoked) == {nodes[0], nodes[2]}
    assert set(before) == set(nodes), "what was asked for stays as it was"
