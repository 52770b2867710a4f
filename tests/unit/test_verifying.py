"""Signatures: what OpenSSL says of them is what is said, whatever libsodium would say."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.records.identifiers import Kind
from relay.trust import verifying
from relay.trust.admission import Admission
from relay.trust.certificates import make_root
from relay.trust.roles import Role
from relay.trust.verifying import Issuer, QuickKey, libsodium
from tests.factory import ISSUED_AT, make_election, make_node, make_receipt, make_statement

ORDER = 2**252 + 27742317777372353535851937790883648493
SEED = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = KEY.public_key().public_bytes_raw()
DATA = b"Model C Hasil KWK"
IDENTITY = (1).to_bytes(32, "little")


def number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def of_the_identity() -> bytes:
    """Made by the key's holder with the nonce 0: OpenSSL accepts it, libsodium does not."""
    clamped = bytearray(hashlib.sha512(SEED).digest()[:32])
    clamped[0] &= 248
    clamped[31] = clamped[31] & 63 | 64
    response = number(IDENTITY, PUBLIC, DATA) * int.from_bytes(clamped, "little") % ORDER
    return IDENTITY + response.to_bytes(32, "little")


def with_the_order_added() -> bytes:
    signature = KEY.sign(DATA)
    return signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")


SIGNATURES: list[tuple[bytes, bytes, bytes]] = [
    (PUBLIC, KEY.sign(DATA), DATA),
    (PUBLIC, KEY.sign(DATA), DATA + b"."),
    (PUBLIC, KEY.sign(DATA)[:-1] + b"\0", DATA),
    (PUBLIC, with_the_order_added(), DATA),
    (PUBLIC, of_the_identity(), DATA),
    (IDENTITY, IDENTITY + bytes(32), DATA),
    (PUBLIC, KEY.sign(DATA)[:-1], DATA),
    (PUBLIC, KEY.sign(DATA) + DATA[:1], DATA[1:]),
    (PUBLIC, b"", KEY.sign(DATA) + DATA),
    (verifying._LENIENT[2], verifying._LENIENT[0], verifying._LENIENT[1]),
]


def accepts(verify: Callable[[bytes, bytes], None], signature: bytes, data: bytes) -> bool:
    try:
        verify(signature, data)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize(("public", "signature", "data"), SIGNATURES)
def test_a_signature_is_valid_where_openssl_accepts_it(public: bytes, signature: bytes, data: bytes) -> None:
    key = Ed25519PublicKey.from_public_bytes(public)
    assert accepts(QuickKey(key).verify, signature, data) == accepts(key.verify, signature, data)


def test_what_libsodium_alone_refuses_is_no_forgery() -> None:
    key = Ed25519PublicKey.from_public_bytes(PUBLIC)
    assert not QuickKey(key).is_quickly_right(of_the_identity(), DATA)
    QuickKey(key).verify(of_the_identity(), DATA)


def test_a_libsodium_that_accepts_more_than_openssl_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes would not agree about what is signed."""
    monkeypatch.setattr("nacl.bindings.crypto_sign_open", lambda signed, _key: signed[64:])
    libsodium.cache_clear()
    assert libsodium() is None
    libsodium.cache_clear()
    monkeypatch.undo()
    assert libsodium() is not None


def test_records_and_certificates_are_judged_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL is asked about nothing that libsodium finds right."""
    election = make_election()
    admission = Admission(election.root)
    statement = make_statement(election, make_node(election, "pulau"))
    receipt = make_receipt(election, make_node(election, "receiver", Role.RECEIVER), statement, 0)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("relay.trust.admission.check_issued", refuse)
    judged: list[bytes] = []
    quickly = QuickKey.is_quickly_right

    def noted(key: QuickKey, signature: bytes, data: bytes) -> bool:
        judged.append(signature)
        return quickly(key, signature, data)

    monkeypatch.setattr(QuickKey, "is_quickly_right", noted)
    for kind, one in ((Kind.STATEMENT, statement), (Kind.RECEIPT, receipt)):
        admission.admit(kind, one.raw)
    assert len(judged) == 4, "two records, two certificates"


def test_libsodium_accepts_what_an_honest_signer_makes() -> None:
    assert QuickKey(KEY.public_key()).is_quickly_right(KEY.sign(DATA), DATA)


@pytest.fixture
def _no_libsodium(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "nacl.bindings", None)
    libsodium.cache_clear()
    yield
    libsodium.cache_clear()


@pytest.mark.usefixtures("_no_libsodium")
@pytest.mark.parametrize(("public", "signature", "data"), SIGNATURES)
def test_without_libsodium_openssl_says_the_same(public: bytes, signature: bytes, data: bytes) -> None:
    assert libsodium() is None
    key = Ed25519PublicKey.from_public_bytes(public)
    assert accepts(QuickKey(key).verify, signature, data) == accepts(key.verify, signature, data)


@pytest.mark.usefixtures("_no_libsodium")
def test_without_libsodium_nothing_is_quickly_right() -> None:
    assert not QuickKey(KEY.public_key()).is_quickly_right(KEY.sign(DATA), DATA)
    election = make_election()
    assert not Issuer(election.root, election.root_key.public_key()).has_issued(election.root)
    Admission(election.root).identify(make_node(election, "pulau").identity.certificate)


def test_a_certificate_is_plainly_issued_by_its_own_root_alone() -> None:
    election, other = make_election(), make_election(99)
    issuer = Issuer(election.root, election.root_key.public_key())
    certificate = make_node(election, "pulau").identity.certificate
    assert issuer.has_issued(certificate)
    assert issuer.has_issued(election.root)
    assert not issuer.has_issued(make_node(other, "pulau").identity.certificate)
    for at in range(len(certificate)):
        assert not issuer.has_issued(certificate[:at] + bytes([certificate[at] ^ 1]) + certificate[at + 1 :])
    assert not issuer.has_issued(certificate + b"\0")
    assert not issuer.has_issued(b"")


def test_the_issuer_goes_by_its_name_as_well_as_by_its_key() -> None:
    election = make_election()
    other = make_root("other-2024", election.root_key, 1, ISSUED_AT)
    certificate = make_node(election, "pulau").identity.certificate
    assert not Issuer(other, election.root_key.public_key()).has_issued(certificate)
