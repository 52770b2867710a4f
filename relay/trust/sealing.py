"""Sealing: packages that only the receiver can read (HPKE, RFC 9180, with a hybrid post-quantum KEM). Pure.

Lives here: the suite, the keys' bytes, sealing and opening. What is sealed: each file, and the tally, one HPKE message
each (encapsulated key, then ciphertext), bound to the package's subject. Hashes and signatures are over the sealed
bytes, so that carriers check what they cannot read (promise 3). Names, sizes and the station stay readable.

Randomness comes from the library: an encapsulation that repeats would break the seal.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from relay.errors import Malformed, Refused

PUBLIC_SIZE = 1184 + 32
"""Bytes of a sealing key's public part: ML-KEM-768, then X25519."""
PRIVATE_SIZE = 64 + 32
"""Bytes of its private part: ML-KEM's seed, then X25519's."""


def make_sealing_key() -> bytes:
    """A new private sealing key."""
    return MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()


def public_sealing_key(private: bytes) -> bytes:
    """The public part of a sealing key. Raises `Malformed`."""
    lattice, curve = _private(private)
    return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def seal(content: bytes, public: bytes, subject: str) -> bytes:
    """Seal content of the package `subject` (`<election>/<tps>/<form>`). Raises `Malformed` for a bad key."""
    if len(public) != PUBLIC_SIZE:
        raise Malformed(f"A sealing key of {len(public)} bytes is not one of {PUBLIC_SIZE}")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])
        )
    except ValueError as error:
        raise Malformed(f"A sealing key cannot be used ({error})") from error
    return _suite().encrypt(content, key, _info(subject))


def open_sealed(sealed: bytes, private: bytes, subject: str) -> bytes:
    """Open what was sealed to this key for `subject`. Raises `Refused` if it was not, or was altered."""
    key = MLKEM768X25519PrivateKey(*_private(private))
    try:
        return _suite().decrypt(sealed, key, _info(subject))
    except (InvalidTag, ValueError) as error:
        raise Refused(
            "not-sealed-to-us", "A sealed file does not open with this key", "Use the key it was sealed to."
        ) from error


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _info(subject: str) -> bytes:
    return b"relay sealed package v1\x00" + subject.encode()


def _private(private: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(private) != PRIVATE_SIZE:
        raise Malformed(f"A private sealing key of {len(private)} bytes is not one of {PRIVATE_SIZE}")
    return MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
