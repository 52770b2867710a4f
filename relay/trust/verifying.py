"""Ed25519 verification in bulk: libsodium first, where it is installed, and OpenSSL for what it refuses. Pure.

libsodium (PyNaCl, the extra `audit`) takes some 40 µs a signature where OpenSSL takes 60. Whether a signature is valid
stays OpenSSL's to say, as in the receiver that admitted it: the two differ in keys and signatures that no honest signer
makes (a point of small order, another spelling of one), and there libsodium is the stricter one. So what it accepts is
accepted, and what it refuses is asked of OpenSSL: only what both refuse is false.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import SignatureAlgorithmOID

try:
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import CryptoError
except ImportError:  # OpenSSL alone says the same, and takes longer
    QUICK = False
else:
    QUICK = True

_SIGNATURE_SIZE = 64
_ED25519 = bytes.fromhex("300506032b6570")
"""The AlgorithmIdentifier of Ed25519 (RFC 8410 §3)."""
_BEFORE_ALGORITHM = 32
"""What stands before it within a signed certificate, at most: two heads, the version and the serial number."""


class QuickKey:
    """A public key that verifies with libsodium before it asks OpenSSL."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self._raw = key.public_bytes_raw()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises `InvalidSignature`."""
        if not self.is_quickly_right(signature, data):
            self._key.verify(signature, data)

    def is_quickly_right(self, signature: bytes, data: bytes) -> bool:
        """Whether libsodium accepts the signature; False says nothing."""
        if len(signature) != _SIGNATURE_SIZE:  # joined to the data, another length would move its beginning
            return False
        try:
            crypto_sign_open(signature + data, self._raw)
        except CryptoError:
            return False
        return True


def quick(key: Ed25519PublicKey) -> Ed25519PublicKey:
    """The same key, for whoever does nothing but verify with it; as it is where libsodium is not installed."""
    return cast(Ed25519PublicKey, QuickKey(key)) if QUICK else key


class Issuer:
    """A root certificate that is read once, for many that it issued."""

    def __init__(self, root: bytes, key: Ed25519PublicKey) -> None:
        self._named = _ED25519 + x509.load_der_x509_certificate(root).subject.public_bytes()
        """How what was signed goes on after the serial number: algorithm, issuer."""
        self._key = QuickKey(key) if QUICK else None

    def has_issued(self, der: bytes) -> bool:
        """Whether this certificate is plainly one that the root issued. False says nothing: `check_issued` has to."""
        if self._key is None:
            return False
        with suppress(ValueError, x509.InvalidVersion):
            certificate = x509.load_der_x509_certificate(der)
            signed = certificate.tbs_certificate_bytes
            return (
                certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519
                and self._named in signed[: _BEFORE_ALGORITHM + len(self._named)]
                and self._key.is_quickly_right(certificate.signature, signed)
            )
        return False
