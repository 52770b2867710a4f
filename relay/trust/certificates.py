"""X.509 certificates (RFC 5280) of the authority and of nodes: making, issuing, reading. Pure.

Lives here: what a certificate of relay looks like, and that a leaf was issued by a root. Role and polling stations are
URI subjectAltNames. Does not live here: what a role may do (`roles`), revocation (`admission`).

Dates are written and never checked: an island box has no clock to check them with (promise 9). Certificates end at
99991231235959Z (RFC 5280 §4.1.2.5: no well-defined expiration); what ends a key is a revocation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.errors import BadInput, Malformed, Refused
from relay.limits import MAX_CERTIFICATE, MAX_REQUEST, MAX_STATIONS_PER_OPERATOR
from relay.records.identifiers import (
    NodeId,
    authority_uri,
    is_code,
    node_uri,
    parse_uri,
    role_uri,
    sha256,
    tps_uri,
)
from relay.trust.roles import NODE_ROLES, Role

_FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_UNREADABLE = (
    ValueError,
    TypeError,  # a name with a value of another kind than its attribute has
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the X.509 library raises for certificates that it cannot read; they have no base but `Exception`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says of its holder. `tps` are the polling stations that an operator signs for."""

    node: NodeId
    election: str
    name: str
    role: Role
    tps: frozenset[str]
    key: Ed25519PublicKey
    certificate: bytes

    @property
    def uri(self) -> str:
        """The holder's URI: the issuer (`iss`) of what it signs."""
        return authority_uri(self.election) if self.role is Role.AUTHORITY else node_uri(self.election, self.name)


@dataclass(frozen=True, slots=True)
class Request:
    """A node's request for a certificate: the name it asks for and its public key."""

    name: str
    key: Ed25519PublicKey


def issued_at(certificate: bytes) -> int:
    """When a certificate (DER) that was read before was issued, by the office's clock: seconds since 1970."""
    return int(x509.load_der_x509_certificate(certificate).not_valid_before_utc.timestamp())


def node_id(key: Ed25519PublicKey) -> NodeId:
    """The id of a node: SHA-256 of its public key's DER SubjectPublicKeyInfo."""
    return NodeId(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))


def make_root(election: str, key: Ed25519PrivateKey, serial: int, issued_at: datetime) -> bytes:
    """A self-signed root certificate (DER) for a new election."""
    name = _distinguished_name(election, "authority")
    builder = _builder(name, name, key.public_key(), key.public_key(), serial, issued_at)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    builder = builder.add_extension(_alternative_names([authority_uri(election)]), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def make_request(name: str, key: Ed25519PrivateKey) -> bytes:
    """A PKCS #10 request (PEM) by which a new node asks for its certificate. Raises `BadInput` for an unfit name."""
    if not is_code(name):
        raise BadInput(f"{name[:80]!r} cannot name a node", "Use letters, digits, dots, dashes: pulau-long, km-bahari.")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None).public_bytes(Encoding.PEM)


def read_request(pem: bytes) -> Request:
    """Read a request and check that its sender holds the key. Raises `BadInput`."""
    advice = "Ask for the request.pem that `relay init` wrote on the device."
    if len(pem) > MAX_REQUEST:
        raise BadInput("The request is too large to be one", advice)
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        valid = request.is_signature_valid
        names = [str(item.value) for item in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except _UNREADABLE as error:
        raise BadInput(f"The request cannot be read ({error})", advice) from error
    if not isinstance(key, Ed25519PublicKey) or not valid or len(names) != 1 or not is_code(names[0]):
        raise BadInput("The request is not one of a relay node, or was altered", advice)
    return Request(names[0], key)


def issue(
    root: bytes,
    root_key: Ed25519PrivateKey,
    request: Request,
    role: Role,
    tps: Sequence[str],
    serial: int,
    issued_at: datetime,
) -> bytes:
    """A node's certificate (DER) under `root`. Raises `BadInput` for polling stations that do not fit the role."""
    if role not in NODE_ROLES:
        raise BadInput(f"{role} is not a role of nodes", "Choose operator, carrier or receiver.")
    if (role is Role.OPERATOR) != bool(tps) or len(set(tps)) > MAX_STATIONS_PER_OPERATOR:
        raise BadInput(
            f"{len(tps)} polling stations do not fit the role {role}",
            f"An operator has 1 to {MAX_STATIONS_PER_OPERATOR} (--tps), other roles none.",
        )
    office = read_certificate(root)
    election = office.election
    uris = [node_uri(election, request.name), role_uri(election, role)]
    uris += [tps_uri(election, code) for code in sorted(set(tps))]
    issuer = x509.load_der_x509_certificate(root).subject
    subject = _distinguished_name(election, request.name)
    builder = _builder(issuer, subject, request.key, office.key, serial, issued_at)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(_alternative_names(uris), critical=False)
    return builder.sign(root_key, None).public_bytes(Encoding.DER)


def read_certificate(der: bytes) -> Identity:
    """What a certificate says; who issued it is not checked here. Raises `Malformed`."""
    if len(der) > MAX_CERTIFICATE:
        raise Malformed(f"A certificate of {len(der)} bytes is over the limit of {MAX_CERTIFICATE}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _UNREADABLE as error:
        raise Malformed("A certificate cannot be read: it is damaged, or not one of relay") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Malformed("A certificate's key is not Ed25519")
    return _identity(
        der, key, is_ca, [parse_uri(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    )


def check_issued(der: bytes, root: Identity) -> None:
    """Check that a certificate was issued by `root` (or is it). Raises `Refused`."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(root.certificate))
    except (InvalidSignature, *_UNREADABLE) as error:
        raise Refused("foreign-certificate", "A certificate was not issued by this election's office") from error


def _identity(der: bytes, key: Ed25519PublicKey, is_ca: bool, uris: list[tuple[str, str, str]]) -> Identity:
    elections = {election for election, _, _ in uris}
    if len(elections) != 1:
        raise Malformed("A certificate names no election, or several")
    values: dict[str, list[str]] = {"authority": [], "node": [], "role": [], "tps": []}
    for _, kind, value in uris:
        values[kind].append(value)
    election = elections.pop()
    if is_ca:
        if values["authority"] != [""] or len(uris) != 1:
            raise Malformed("A root certificate does not name its authority")
        return Identity(node_id(key), election, "authority", Role.AUTHORITY, frozenset(), key, der)
    if values["authority"] or len(values["node"]) != 1 or len(values["role"]) != 1:
        raise Malformed("A certificate does not name one node and one role")
    if values["role"][0] not in [str(role) for role in NODE_ROLES]:
        raise Malformed(f"A certificate has the unknown role {values['role'][0]}")
    return Identity(
        node_id(key), election, values["node"][0], Role(values["role"][0]), frozenset(values["tps"]), key, der
    )


def _distinguished_name(election: str, name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, election), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _alternative_names(uris: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: Ed25519PublicKey,
    issuer_key: Ed25519PublicKey,
    serial: int,
    issued_at: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(max(issued_at, _EARLIEST))
        .not_valid_after(_FOREVER)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
