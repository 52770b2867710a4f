"""Enrolment: requests, certificates, the PEM file, and the office's ledger."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, Malformed, RelayError, StoreError
from relay.limits import MAX_REASON, MAX_STATIONS_PER_OPERATOR, MIB
from relay.records.identifiers import Kind
from relay.records.notice import Station, Topic, read_notice
from relay.trust.admission import Admission
from relay.trust.authority import Enrolled, Office, enrol, found, read_ledger, revoke, seal_to
from relay.trust.certificates import issue, make_request, node_id, read_certificate, read_request
from relay.trust.enrolment import Enrolment, pem_block, read_enrolment, read_pem_block, write_enrolment
from relay.trust.roles import Role
from relay.trust.sealing import PUBLIC_SIZE, make_sealing_key, open_sealed, public_sealing_key, seal
from tests.factory import ELECTION, ISSUED_AT

DICE = random.Random(5)


def key() -> Ed25519PrivateKey:
    """A new key."""
    return Ed25519PrivateKey.from_private_bytes(DICE.randbytes(32))


ROOT_KEY, NODE_KEY = key(), key()
STATIONS = tuple(Station(f"tps-{number}", number, "v", "d", "", 500, signal=False) for number in range(1, 4))


@pytest.fixture
def office() -> Office:
    """A new election with three stations."""
    return found(ELECTION, ("form-1",), STATIONS, ROOT_KEY, 7, ISSUED_AT)


def admit(
    office: Office, request: bytes, role: Role, *, tps: tuple[str, ...] = (), urls: tuple[str, ...] = ()
) -> tuple[Office, Enrolment]:
    """Enrol a node."""
    return enrol(office, request, role, tps, urls, ROOT_KEY, 8, ISSUED_AT)


def believed(office: Office) -> Admission:
    """What a node that has all notices believes."""
    admission = Admission(office.root)
    admission.load((Kind.NOTICE, raw) for raw in office.notices.values())
    return admission


# -- requests and certificates


def test_a_request_says_a_name_and_proves_its_key() -> None:
    request = read_request(make_request("pulau-long", NODE_KEY))
    assert (request.name, node_id(request.key)) == ("pulau-long", node_id(NODE_KEY.public_key()))


@pytest.mark.parametrize("name", ["", "a b", "../x", "\u00e9", "x" * 64])
def test_a_name_that_is_no_code(name: str) -> None:
    with pytest.raises(BadInput):
        make_request(name, NODE_KEY)


def foreign_request(name: str, *, names: int = 1) -> bytes:
    """A request as another program makes it."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)] * names
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    return builder.sign(NODE_KEY, None).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"rubbish",
        b"x" * 20_000,
        foreign_request("a b"),
        foreign_request("a", names=2),
        foreign_request("a", names=0),
        make_request("a", NODE_KEY).replace(b"A", b"B"),
        pem_block("CERTIFICATE REQUEST", b"\x30\x00").encode(),
    ],
)
def test_promise_10_what_is_no_request(pem: bytes) -> None:
    with pytest.raises(BadInput):
        read_request(pem)


@pytest.mark.parametrize(
    ("role", "tps"),
    [
        (Role.AUTHORITY, ()),
        (Role.OPERATOR, ()),
        (Role.CARRIER, ("tps-1",)),
        (Role.RECEIVER, ("tps-1",)),
        (Role.OPERATOR, tuple(f"t{number}" for number in range(MAX_STATIONS_PER_OPERATOR + 1))),
    ],
)
def test_stations_fit_the_role(office: Office, role: Role, tps: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        issue(office.root, ROOT_KEY, read_request(make_request("a", NODE_KEY)), role, tps, 9, ISSUED_AT)


def test_a_certificate_says_role_and_stations(office: Office) -> None:
    _, enrolment = admit(office, make_request("pulau-long", NODE_KEY), Role.OPERATOR, tps=("tps-2", "tps-1", "tps-2"))
    assert enrolment.certificate is not None
    identity = read_certificate(enrolment.certificate)
    assert (identity.name, identity.role, identity.tps) == ("pulau-long", Role.OPERATOR, frozenset({"tps-1", "tps-2"}))
    assert identity.uri == f"relay://{ELECTION}/node/pulau-long"


Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def alternative(*uris: str) -> Change:
    """A certificate with these names."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
    return lambda builder: builder.add_extension(names, critical=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda builder: builder,
        alternative(),
        alternative("relay://e/node/a"),
        alternative("relay://e/node/a", "relay://e/role/carrier", "relay://e/role/receiver"),
        alternative("relay://e/node/a", "relay://e/node/b", "relay://e/role/carrier"),
        alternative("relay://e/node/a", "relay://f/role/carrier"),
        alternative("relay://e/node/a", "relay://e/role/authority"),
        alternative("relay://e/node/a", "relay://e/role/king"),
        alternative("relay://e/node/a", "relay://e/role/carrier", "relay://e/authority"),
        alternative("relay://e/node/a", "relay://e/role/carrier", "https://example.org"),
    ],
)
def test_promise_10_a_certificate_that_says_too_little_or_too_much(change: Change) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(NODE_KEY.public_key())
    builder = builder.serial_number(7).not_valid_before(ISSUED_AT).not_valid_after(ISSUED_AT)
    builder = change(builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True))
    with pytest.raises(Malformed):
        read_certificate(builder.sign(ROOT_KEY, None).public_bytes(Encoding.DER))


# -- the file


def test_an_enrolment_is_read_as_it_was_written(office: Office) -> None:
    _, enrolment = admit(office, make_request("km-bahari", NODE_KEY), Role.CARRIER)
    text = write_enrolment(enrolment)
    assert read_enrolment(text) == enrolment
    assert read_enrolment(text.replace(b"\n", b"\r\n")) == enrolment
    assert read_enrolment(b"\n" + text + b"\n\n") == enrolment
    notices = Enrolment(None, None, enrolment.notices)
    assert read_enrolment(write_enrolment(notices)) == notices
    assert max(map(len, text.splitlines())) <= 64


TEXT = write_enrolment(Enrolment(b"certificate", b"root", (b"notice", b"another")))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"\xff" + TEXT,
        TEXT + b"more",
        b"more\n" + TEXT,
        TEXT.replace(b"-----END CERTIFICATE-----\n", b"", 1),
        TEXT.replace(b"-----BEGIN RELAY NOTICE-----\n", b"", 1),
        TEXT.replace(b"RELAY NOTICE", b"PRIVATE KEY"),
        TEXT.replace(b"END RELAY NOTICE", b"END CERTIFICATE", 1),
        TEXT.replace(b"bm90", b"b!90"),
        TEXT.replace(b"bm90", b"b90"),
        pem_block("CERTIFICATE", b"one").encode(),
        pem_block("CERTIFICATE", b"one").encode() * 3,
    ],
)
def test_promise_10_a_damaged_enrolment_is_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput):
        read_enrolment(text)


@given(st.integers(0, len(TEXT) - 2))
def test_promise_10_an_enrolment_cut_anywhere_loses_no_part_unnoticed(cut: int) -> None:
    try:
        rest = read_enrolment(TEXT[:cut])
    except BadInput:
        return
    assert TEXT.startswith(write_enrolment(rest)), "what is left are whole parts"


@given(st.binary(max_size=200))
def test_promise_10_any_bytes_are_an_enrolment_or_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput):
        read_enrolment(text)


def test_the_enrolment_of_a_receiver_of_a_whole_country_is_read() -> None:
    register = tuple(bytes([part % 256]) * 58_000 for part in range(500))
    enrolment = Enrolment(b"certificate", b"root", register)
    text = write_enrolment(enrolment)
    assert len(text) > 32 * MIB
    assert read_enrolment(text) == enrolment


def test_a_file_that_no_register_fills_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.trust.enrolment.MAX_ENROLMENT", len(TEXT) - 1)
    with pytest.raises(BadInput, match="largest register") as refused:
        read_enrolment(TEXT)
    assert "again" not in refused.value.advice, "a copy of it would be no shorter"


def test_one_block() -> None:
    assert read_pem_block(pem_block("RELAY SEALING KEY", b"key").encode(), "RELAY SEALING KEY") == b"key"
    with pytest.raises(BadInput):
        read_pem_block(TEXT, "CERTIFICATE")


# -- the office


def test_a_new_election_publishes_its_register(office: Office) -> None:
    admission = believed(office)
    assert list(admission.stations) == ["tps-1", "tps-2", "tps-3"]
    assert admission.forms == ("form-1",)
    assert office.election == ELECTION


@pytest.mark.parametrize(("election", "form"), [("a b", "form-1"), ("", "form-1"), ("e", "form/1")])
def test_unfit_names_of_elections_and_forms(election: str, form: str) -> None:
    with pytest.raises(BadInput):
        found(election, (form,), STATIONS, ROOT_KEY, 7, ISSUED_AT)


def test_a_receiver_has_an_address_and_a_role_is_changed_only_when_that_is_meant(office: Office) -> None:
    request, url = make_request("a", NODE_KEY), "https://r.example:8470"
    with pytest.raises(BadInput, match="address"):
        admit(office, request, Role.RECEIVER)
    office, _ = admit(office, request, Role.OPERATOR, tps=("tps-1",))
    with pytest.raises(BadInput, match="enrolled as operator") as refused:
        admit(office, request, Role.RECEIVER, urls=(url,))
    assert "--change-role" in refused.value.advice
    admit(office, request, Role.OPERATOR, tps=("tps-2",))
    office, _ = enrol(office, request, Role.RECEIVER, (), (url,), ROOT_KEY, 8, ISSUED_AT, change_role=True)
    assert [line.role for line in office.ledger] == ["receiver"]


@pytest.mark.parametrize("reason", ["", " ", "x\udcff", "two\nlines"])
def test_a_reason_is_a_line_of_text(office: Office, reason: str) -> None:
    office, _ = admit(office, make_request("a", NODE_KEY), Role.CARRIER)
    with pytest.raises(BadInput, match="reason"):
        revoke(office, "a", reason, ROOT_KEY)


def test_receivers_and_witnesses_become_known(office: Office) -> None:
    office, _ = admit(office, make_request("receiver", NODE_KEY), Role.RECEIVER, urls=("https://r.example:8470",))
    office, enrolment = admit(office, make_request("km-bahari", key()), Role.CARRIER)
    admission = believed(office)
    assert [(one.name, one.urls) for one in admission.receivers] == [("receiver", ("https://r.example:8470",))]
    assert admission.version(Topic.WITNESSES) == 2
    assert set(enrolment.notices) == set(office.rules())


@pytest.mark.parametrize(
    ("role", "tps", "urls"),
    [
        (Role.OPERATOR, ("tps-9",), ()),
        (Role.CARRIER, (), ("https://r.example",)),
        (Role.RECEIVER, (), ("http://r.example",)),
    ],
)
def test_promise_10_what_cannot_be_enrolled(
    office: Office, role: Role, tps: tuple[str, ...], urls: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput):
        admit(office, make_request("a", NODE_KEY), role, tps=tps, urls=urls)


def test_one_name_one_device(office: Office) -> None:
    office, _ = admit(office, make_request("km-bahari", NODE_KEY), Role.CARRIER)
    with pytest.raises(BadInput, match="Another device"):
        admit(office, make_request("km-bahari", key()), Role.CARRIER)
    with pytest.raises(BadInput, match="enrolled as km-bahari"):
        admit(office, make_request("kp-anis", NODE_KEY), Role.CARRIER)
    again, _ = admit(office, make_request("km-bahari", NODE_KEY), Role.CARRIER)
    assert len(list(again.ledger)) == len(list(office.ledger)) == 1
    office, _ = revoke(office, "km-bahari", "lost", ROOT_KEY)
    with pytest.raises(BadInput, match="revoked"):
        admit(office, make_request("km-bahari", NODE_KEY), Role.CARRIER)
    office, _ = admit(office, make_request("km-bahari", key()), Role.CARRIER)
    assert [line.revoked for line in office.ledger] == ["lost", None]


def test_a_revoked_receiver_is_no_receiver(office: Office) -> None:
    office, _ = admit(office, make_request("receiver", NODE_KEY), Role.RECEIVER, urls=("https://r.example:8470",))
    office, revocation = revoke(office, "receiver", "stolen", ROOT_KEY)
    admission = believed(office)
    assert admission.receivers == ()
    assert set(admission.revoked) == {node_id(NODE_KEY.public_key())}
    assert revocation.certificate is None
    topics = {read_notice(raw).topic for raw in revocation.notices}
    assert {Topic.REVOCATIONS, Topic.RECEIVERS} <= topics


@pytest.mark.parametrize(
    ("before", "after"),
    [(Role.RECEIVER, Role.RECEIVER), (Role.CARRIER, Role.RECEIVER), (Role.RECEIVER, Role.CARRIER)],
)
def test_no_two_logs_have_one_name(office: Office, before: Role, after: Role) -> None:
    """A second log under the name of the first would be told as a split view of it."""
    urls = {Role.RECEIVER: ("https://r.example:8470",)}
    office, _ = admit(office, make_request("kpu", NODE_KEY), before, urls=urls.get(before, ()))
    heir = make_request("kpu", key())
    with pytest.raises(BadInput, match="name of another device"):
        admit(office, heir, after, urls=urls.get(after, ()))
    office, _ = revoke(office, "kpu", "stolen", ROOT_KEY)
    with pytest.raises(BadInput, match="name of another device"):
        admit(office, heir, after, urls=urls.get(after, ()))


def test_a_receiver_is_enrolled_again_with_its_key(office: Office) -> None:
    urls = ("https://r.example:8470",)
    office, _ = admit(office, make_request("receiver", NODE_KEY), Role.RECEIVER, urls=urls)
    office, _ = admit(office, make_request("receiver", NODE_KEY), Role.RECEIVER, urls=(*urls, "https://s.example:8470"))
    assert [line.name for line in office.ledger] == ["receiver"]


@pytest.mark.parametrize(("name", "reason"), [("nobody", "lost"), ("a", " "), ("a", "x" * (MAX_REASON + 1))])
def test_promise_10_what_cannot_be_revoked(office: Office, name: str, reason: str) -> None:
    office, _ = admit(office, make_request("a", NODE_KEY), Role.CARRIER)
    with pytest.raises(BadInput):
        revoke(office, name, reason, ROOT_KEY)


def test_nobody_is_revoked_twice(office: Office) -> None:
    office, _ = admit(office, make_request("a", NODE_KEY), Role.CARRIER)
    office, _ = revoke(office, "a", "lost", ROOT_KEY)
    with pytest.raises(BadInput, match="already"):
        revoke(office, "a", "lost", ROOT_KEY)


def test_packages_are_sealed_to_a_receiver_that_there_is(office: Office) -> None:
    public = public_sealing_key(make_sealing_key())
    with pytest.raises(BadInput, match="No receiver"):
        seal_to(office, "receiver", public, ROOT_KEY)
    office, _ = admit(office, make_request("receiver", NODE_KEY), Role.RECEIVER, urls=("https://r.example:8470",))
    with pytest.raises(BadInput, match="sealing key"):
        seal_to(office, "receiver", public[:-1], ROOT_KEY)
    office, _ = seal_to(office, "receiver", public, ROOT_KEY)
    assert believed(office).sealing_key == public


def test_the_ledger_of_an_older_relay_is_read() -> None:
    text = b"""[
 {"name": "a", "node": "00ff", "role": "operator", "tps": ["tps-1", "tps-2"], "revoked": null},
 {"name": "b", "node": "01ff", "role": "carrier", "tps": [], "revoked": "lost"}
]"""
    assert read_ledger(text) == (
        Enrolled("a", "00ff", "operator", ("tps-1", "tps-2")),
        Enrolled("b", "01ff", "carrier", (), "lost"),
    )


@pytest.mark.parametrize("text", [b"", b"[1]", b'[{"name": "a"}]', b'[{"tps": 1}]', b"\xff"])
def test_promise_10_a_damaged_ledger_is_told(text: bytes) -> None:
    with pytest.raises(StoreError):
        read_ledger(text)


# -- sealing


def test_what_is_sealed_opens_for_its_receiver_and_subject_only() -> None:
    private, other = make_sealing_key(), make_sealing_key()
    public = public_sealing_key(private)
    assert len(public) == PUBLIC_SIZE
    sealed = seal(b"content", public, "e/t/f")
    assert seal(b"content", public, "e/t/f") != sealed
    assert open_sealed(sealed, private, "e/t/f") == b"content"
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for bytes_, with_key, subject in (
        (sealed, other, "e/t/f"),
        (sealed, private, "e/t/g"),
        (damaged, private, "e/t/f"),
        (b"", private, "e/t/f"),
        (sealed[:100], private, "e/t/f"),
    ):
        with pytest.raises(RelayError):
            open_sealed(bytes_, with_key, subject)


@pytest.mark.parametrize("size", [0, PUBLIC_SIZE - 1, PUBLIC_SIZE + 1])
def test_promise_10_what_is_no_sealing_key(size: int) -> None:
    with pytest.raises(Malformed):
        seal(b"", bytes(size), "s")
    with pytest.raises(Malformed):
        public_sealing_key(bytes(size))
