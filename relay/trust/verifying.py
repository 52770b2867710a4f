"""Ed25519 verification: libsodium first, where it is installed, and OpenSSL for what it refuses. Pure.

libsodium (PyNaCl, the extra `quick`) takes half to two thirds of OpenSSL's time for a signature, and signatures are
much of what a receiver on election night, and an audit of millions of entries, computes. Whether one is valid stays
OpenSSL's to say, so that all nodes say the same: the two differ in keys and signatures that no honest signer makes (a
point of small order, another spelling of one), and there libsodium is the stricter one. So what it accepts is accepted,
and what it refuses is asked of OpenSSL: only what both refuse is false. A libsodium that is more lenient, as one that
multiplies by the cofactor is, is not used at all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import SignatureAlgorithmOID

_SIGNATURE_SIZE = 64
_LENIENT = (
    bytes.fromhex(
        "704f236ddd0c3e7cba82221b38f72171a15940c2a3bbfb335eb4cd8d65fa3cd5"
        "e6d93b2fca32cfa007fb6e872c816865e1434968b254b4a6a916687ecf4d0b0b"
    ),
    b"statement",
    bytes.fromhex("7767a3242dc9b58bbc68488c1265cc6cc5f26c6f3c88a5d55e901b0734dca572"),
)
"""A signature whose R has a point of order 2 added, its data, its key: right by the equation with the cofactor alone
(RFC 8032 §5.1.7 allows both), and OpenSSL refuses it."""
_ED25519 = bytes.fromhex("300506032b6570")
"""The AlgorithmIdentifier of Ed25519 (RFC 8410 §3)."""
_BEFORE_ALGORITHM = 32
"""What stands before it within a signed certificate, at most: two heads, the version and the serial number."""


@cache
def libsodium() -> Callable[[bytes, bytes, bytes], bool] | None:
    """Whether libsodium accepts a signature over data by a raw public key, for whoever asks; None where there is none
    that is as strict as OpenSSL. It is loaded when somebody first has something to verify: few commands do."""
    try:
        from nacl.bindings import crypto_sign_open
        from nacl.exceptions import CryptoError
    except ImportError:  # OpenSSL alone says the same, and takes longer
        return None

    def accepts(signature: bytes, data: bytes, key: bytes) -> bool:
        if len(signature) != _SIGNATURE_SIZE:  # joined to the data, another length would move its beginning
            return False
        try:
            crypto_sign_open(signature + data, key)
        except CryptoError:
            return False
        return True

    return None if accepts(*_LENIENT) else accepts


class QuickKey:
    """A public key that verifies with libsodium, where that is installed, before it asks OpenSSL."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def public_bytes_raw(self) -> bytes:
        """The key, 32 bytes."""
        return self._key.public_bytes_raw()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises `InvalidSignature`."""
        if not self.is_quickly_right(signature, data):
            self._key.verify(signature, data)

    def is_quickly_right(self, signature: bytes, data: bytes) -> bool:
        """Whether libsodium accepts the signature; False says nothing."""
        accepts = libsodium()
        return accepts is not None and accepts(signature, data, self.public_bytes_raw())


class Issuer:
    """A root certificate that is read once, for many that it issued."""

    def __init__(self, root: bytes, key: Ed25519PublicKey) -> None:
        self._named = _ED25519 + x509.load_der_x509_certificate(root).subject.public_bytes()
        """How what was signed goes on after the serial number: algorithm, issuer."""
        self._key = QuickKey(key)

    def has_issued(self, der: bytes) -> bool:
        """Whether this certificate is plainly one that the root issued. False says nothing: `check_issued` has to."""
        if libsodium() is None:
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
