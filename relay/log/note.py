"""Signed notes (C2SP `signed-note`): a text, and lines of signatures under it. Pure.

Lives here: the form, key ids, verifier keys, Ed25519 signatures. Does not live here: what the text means
(`checkpoint`). Signatures by unknown keys are carried on and prove nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.errors import Malformed, Refused
from relay.limits import MAX_CHECKPOINT, MAX_COSIGNATURES, MAX_VERIFIER_KEY

ED25519 = 0x01
COSIGNATURE = 0x04
_DASH = "\u2014 "


class Signer(Protocol):
    """Something that signs with Ed25519."""

    def sign(self, data: bytes, /) -> bytes:
        """The 64-byte signature over `data`."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that signs notes: its name, its public key (32 bytes) and what kind of signature it makes."""

    name: str
    public: bytes
    kind: int = ED25519

    @property
    def id(self) -> bytes:
        """The four bytes that name the key in a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key, as other tools take it: name, id and key."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    @staticmethod
    def parse(vkey: str) -> NoteKey:
        """Read a verifier key of an Ed25519 signer or cosigner. Raises `Malformed`."""
        if len(vkey) > MAX_VERIFIER_KEY:
            raise Malformed(f"A verifier key of {len(vkey)} characters is over the limit of {MAX_VERIFIER_KEY}")
        name, _, rest = vkey.partition("+")
        digest, _, encoded = rest.partition("+")
        content = decode_base64(encoded, "A verifier key")
        if not is_key_name(name) or not content:
            raise Malformed("A verifier key is not name+id+key")
        if content[0] not in (ED25519, COSIGNATURE):
            raise Malformed(
                f"A verifier key is of type {content[0]}; Ed25519 keys (1) and their cosignatures (4) can be checked",
                "Ask its owner for a key of type 4.",
            )
        if len(content) != 33:
            raise Malformed("A verifier key is not name+id+key")
        key = NoteKey(name, content[1:], content[0])
        if key.id.hex() != digest:
            raise Malformed("A verifier key's id is not that of its name and key")
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: the key's name, its id, and what follows it."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line as it stands under the note."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note: `text` ends in a newline and is what signatures cover."""

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Its bytes."""
        return (self.text + "\n" + "".join(one.line for one in self.signatures)).encode()

    def signature_of(self, key: NoteKey) -> Signature | None:
        """The first signature line by this key, unchecked."""
        return next((one for one in self.signatures if (one.name, one.key_id) == (key.name, key.id)), None)


def sign_note(text: str, key: NoteKey, signer: Signer) -> Note:
    """A note over `text` (which must end in a newline) with one Ed25519 signature."""
    return Note(text, (Signature(key.name, key.id, signer.sign(text.encode())),))


def verify_note(note: Note, key: NoteKey) -> None:
    """Check that `key` signed the note. Raises `Refused`."""
    signature = note.signature_of(key)
    if signature is None:
        raise Refused("unsigned-note", f"A note is not signed by {key.name}")
    check(key.public, signature.value, note.text.encode())


def check(public: bytes, signature: bytes, data: bytes) -> None:
    """Check an Ed25519 signature. Raises `Refused`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise Refused("bad-signature", "A note's signature does not match its text") from error


def parse_note(raw: bytes) -> Note:
    """Parse a note; nothing is verified. Raises `Malformed`."""
    if len(raw) > MAX_CHECKPOINT:
        raise Malformed(f"A note of {len(raw)} bytes is over the limit of {MAX_CHECKPOINT}")
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("A note is not UTF-8") from error
    if any(ord(character) < 0x20 and character != "\n" for character in content):
        raise Malformed("A note has control characters")
    head, blank, tail = content.rpartition("\n\n")
    if not blank or not head or not tail.endswith("\n"):
        raise Malformed("A note has no signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_COSIGNATURES + 1:
        raise Malformed(f"A note has more than {MAX_COSIGNATURES + 1} signatures")
    return Note(head + "\n", tuple(_parse_line(line) for line in lines))


def is_key_name(name: str) -> bool:
    """Whether `name` can name a key: not empty, no spaces, no plus."""
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of `text`, if it is base64 in its one spelling; `what` it belongs to. Raises `Malformed`."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one, but letters beyond ASCII raise a plain one
        raise Malformed(f"{what} is not base64") from error
    if base64.b64encode(content).decode() != text:
        raise Malformed(f"{what} is not in its one spelling of base64")
    return content


def _parse_line(line: str) -> Signature:
    parts: Sequence[str] = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(parts) != 2 or not is_key_name(parts[0]):
        raise Malformed("A note's signature line is malformed")
    content = decode_base64(parts[1], "A note's signature")
    if len(content) < 5:
        raise Malformed("A note's signature is too short")
    return Signature(parts[0], content[:4], content[4:])
