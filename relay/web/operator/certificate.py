"""The certificate of the operator's page: what a phone's browser is shown.

Browsers know no Ed25519, and a name that every phone trusts needs the internet: so a node makes itself an ECDSA
certificate, once, and keeps it: a browser that was told to go on remembers that very certificate. Its dates follow
from the node's enrolment, not from the clock (promise 9). An office that can have its boxes certified under a public
name sets `operator_certificate` and `operator_key` instead. docs/security.md weighs the two.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.errors import BadInput
from relay.limits import MAX_REQUEST
from relay.node.config import Config
from relay.node.home import Home
from relay.records.identifiers import sha256
from relay.store.durable import explained, write_durably

_NAME = "relay"
_DAYS = 820
"""Safari takes none that is valid for longer than 825."""


def page_certificate(home: Home, config: Config) -> tuple[Path, Path]:
    """Files of the certificate and its key; a node's own is made where there is none. Raises `BadInput`, `StoreError`.

    Needs a node that has joined.
    """
    if config.operator_certificate is not None or config.operator_key is not None:
        if config.operator_certificate is None or config.operator_key is None:
            raise BadInput(
                "config.toml: operator_certificate and operator_key go together", "Set both of them, or none."
            )
        return home.path / config.operator_certificate, home.path / config.operator_key
    file = home.path / "operator-page.pem"
    if not file.exists():
        issued = x509.load_der_x509_certificate(home.member().identity.certificate).not_valid_before_utc
        write_durably(file, _make(issued), mode=0o600)
    return file, file


def page_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer, for browsers. Raises `BadInput`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"The page's certificate {certificate} cannot be used ({error})",
            "Correct operator_certificate and operator_key in config.toml.",
        ) from error
    return context


def fingerprint(certificate: Path) -> str:
    """The certificate's SHA-256 as browsers show it."""
    digest = sha256(_read(certificate).public_bytes(Encoding.DER)).hex().upper()
    return ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))


def names(certificate: Path) -> frozenset[str]:
    """The DNS names of a certificate; a node's own has none that counts."""
    try:
        found = _read(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in found.value.get_values_for_type(x509.DNSName)) - {_NAME}


def _read(path: Path) -> x509.Certificate:
    with explained(path), path.open("rb") as file:
        text = file.read(4 * MAX_REQUEST)
    try:
        return x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise BadInput(f"{path} is no PEM certificate", "Correct operator_certificate in config.toml.") from error


def _make(issued: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued - timedelta(days=1))
        .not_valid_after(issued + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(_NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
