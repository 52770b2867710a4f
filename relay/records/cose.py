"""COSE_Sign1 (RFC 9052 §4.2) with Ed25519 and X.509 chains (RFC 9360): the envelope of every signed record.

Lives here: the envelope's bytes and its signature. Does not live here: what payloads mean, and whom to believe.
Guards promise 8 (any COSE library reads these) and, with the strict decoder, one spelling for one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature

from relay.errors import Malformed, Refused
from relay.limits import MAX_CERTIFICATE, MAX_RECORD
from relay.records.encoding import byte_string, decode, encode

# Header parameters (IANA "COSE Header Parameters")
ALG = 1
CONTENT_TYPE = 3
CWT_CLAIMS = 15  # RFC 9597
X5CHAIN = 33  # RFC 9360: one certificate is a bstr, more are an array
ISS, SUB = 1, 2  # CWT claims (RFC 8392)

EDDSA = -8
SIGNATURE_SIZE = 64
_SIGN1_TAG = b"\xd2"  # tag 18
_ARRAY_OF_4 = b"\x84"
_NULL = b"\xf6"
_SIG_STRUCTURE = _ARRAY_OF_4 + encode("Signature1")


class Signer(Protocol):
    """Something that signs with Ed25519: an `Ed25519PrivateKey`, or a key held elsewhere."""

    def sign(self, data: bytes, /) -> bytes:
        """The 64-byte signature over `data`."""


class Verifier(Protocol):
    """Something that verifies Ed25519 signatures by one key: an `Ed25519PublicKey`, or what does it in less time."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raises `cryptography.exceptions.InvalidSignature`."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed COSE_Sign1: `protected` are the header's bytes as signed, `header` its map; payload None is detached."""

    protected: bytes
    header: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes | None
    signature: bytes

    @property
    def issuer(self) -> str:
        """The `iss` claim."""
        return str(self.header[CWT_CLAIMS][ISS])

    @property
    def subject(self) -> str:
        """The `sub` claim."""
        return str(self.header[CWT_CLAIMS][SUB])

    @property
    def certificate(self) -> bytes:
        """The signer's certificate, DER."""
        return bytes(self.header[X5CHAIN])

    def to_bytes(self) -> bytes:
        """The tagged COSE_Sign1."""
        payload = _NULL if self.payload is None else byte_string(self.payload)
        return b"".join(
            (
                _SIGN1_TAG,
                _ARRAY_OF_4,
                byte_string(self.protected),
                encode(self.unprotected),
                payload,
                byte_string(self.signature),
            )
        )

    def verify(self, key: Verifier, detached: bytes | None = None) -> None:
        """Check the signature; `detached` is the payload where the envelope has none. Raises `Refused`."""
        payload = self.payload if self.payload is not None else detached
        if payload is None:
            raise Malformed("A signed record has no payload")
        try:
            key.verify(self.signature, to_be_signed(self.protected, payload))
        except InvalidSignature as error:
            raise Refused("bad-signature", "A record's signature does not match its content") from error


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure (RFC 9052 §4.4) with context "Signature1" and no external data."""
    return b"".join((_SIG_STRUCTURE, byte_string(protected), byte_string(b""), byte_string(payload)))


def header(content_type: str | None, issuer: str, subject: str, certificate: bytes) -> dict[Any, Any]:
    """The protected header of a record; receipts have no content type and add their own parameters."""
    parameters: dict[Any, Any] = {ALG: EDDSA, CWT_CLAIMS: {ISS: issuer, SUB: subject}, X5CHAIN: certificate}
    if content_type is not None:
        parameters[CONTENT_TYPE] = content_type
    return parameters


def sign1(
    parameters: Mapping[Any, Any],
    payload: bytes,
    signer: Signer,
    *,
    unprotected: Mapping[Any, Any] | None = None,
    detached: bool = False,
) -> bytes:
    """A tagged COSE_Sign1 over `payload`, which stays out of the envelope when `detached`."""
    return envelope(parameters, payload, signer, unprotected=unprotected, detached=detached).to_bytes()


def envelope(
    parameters: Mapping[Any, Any],
    payload: bytes,
    signer: Signer,
    *,
    unprotected: Mapping[Any, Any] | None = None,
    detached: bool = False,
) -> Sign1:
    """The same as a value: what `read_sign1` reads from those bytes."""
    protected = encode(parameters)
    signature = signer.sign(to_be_signed(protected, payload))
    return Sign1(protected, parameters, unprotected or {}, None if detached else payload, signature)


def read_sign1(raw: bytes) -> Sign1:
    """Parse a tagged COSE_Sign1 with the parameters that every relay record has. Raises `Malformed`."""
    if len(raw) > MAX_RECORD:
        raise Malformed(f"A record of {len(raw)} bytes is over the limit of {MAX_RECORD}")
    if raw[:1] != _SIGN1_TAG:
        raise Malformed("A record is not a tagged COSE_Sign1")
    match decode(raw[1:], MAX_RECORD):
        case [bytes(protected), dict(unprotected), (bytes() | None) as payload, bytes(signature)]:
            envelope = Sign1(protected, _read_header(protected), unprotected, payload, signature)
        case _:
            raise Malformed("A record is not a COSE_Sign1 array")
    if len(envelope.signature) != SIGNATURE_SIZE:
        raise Malformed("A record's signature is not 64 bytes")
    return envelope


def _read_header(protected: bytes) -> Mapping[Any, Any]:
    match decode(protected, MAX_RECORD):
        case {1: -8, 15: {1: str(), 2: str(), **more_claims}, 33: bytes(certificate)} as parameters:
            if more_claims:
                raise Malformed("A record has claims that relay does not know")
            if len(certificate) > MAX_CERTIFICATE:
                raise Malformed(f"A certificate of {len(certificate)} bytes is over the limit of {MAX_CERTIFICATE}")
            return dict(parameters)
        case _:
            raise Malformed("A record lacks a parameter: alg EdDSA, CWT claims iss and sub, x5chain")
