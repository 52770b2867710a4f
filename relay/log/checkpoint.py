"""Checkpoints (C2SP `tlog-checkpoint`) and cosignatures (`tlog-cosignature`): the log's signed head. Pure.

Lives here: their form and signatures. Does not live here: whether one log grew out of another (`merkle`), and what a
node does about it (`relay.trust.witness`).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from itertools import accumulate

from relay.errors import Malformed, Refused
from relay.limits import MAX_CHECKPOINT, MAX_COSIGNATURES
from relay.log.merkle import HASH_SIZE
from relay.log.note import COSIGNATURE, Note, NoteKey, Signature, Signer, check, decode_base64, parse_note, sign_note

_NUMBER = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)
_COSIGNATURE_SIZE = 8 + 64
_MAX_TIMESTAMP = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log named `origin`: number of entries and Merkle root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: NoteKey, signer: Signer) -> bytes:
    """The checkpoint as a signed note; the key's name is the log's origin."""
    return sign_note(checkpoint.text, key, signer).to_bytes()


def parse_checkpoint(note: Note) -> Checkpoint:
    """What a note says, if it is a checkpoint; extension lines are not used and refused. Raises `Malformed`."""
    lines = note.text.split("\n")
    if len(lines) != 4 or not lines[0] or _NUMBER.fullmatch(lines[1]) is None:
        raise Malformed("A note is not a checkpoint")
    root = decode_base64(lines[2], "A checkpoint's root")
    if len(root) != HASH_SIZE:
        raise Malformed(f"A checkpoint's root is not a hash of {HASH_SIZE} bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(raw: bytes, key: NoteKey) -> Checkpoint:
    """The checkpoint in a note that `key` signed, for the log of that name. Raises `Malformed` or `Refused`."""
    note = parse_note(raw)
    checkpoint = parse_checkpoint(note)
    signature = note.signature_of(key)
    if checkpoint.origin != key.name or signature is None:
        raise Refused("unsigned-note", f"A checkpoint is not signed by its log {key.name}")
    check(key.public, signature.value, note.text.encode())
    return checkpoint


def cosign(note: Note, key: NoteKey, signer: Signer, timestamp: int) -> Note:
    """The note with a cosignature/v1 of `key` added; `timestamp` is seconds since 1970, a claim."""
    value = timestamp.to_bytes(8) + signer.sign(_cosigned(note.text, timestamp))
    cosignature = Signature(key.name, key.id, value)
    others = tuple(one for one in note.signatures if (one.name, one.key_id) != (key.name, key.id))
    return _ordered(replace(note, signatures=(*others, cosignature)))


def check_cosignature(note: Note, key: NoteKey) -> int:
    """Check that the witness `key` cosigned the note; the time it claims. Raises `Refused`."""
    signature = note.signature_of(key)
    if signature is None or key.kind != COSIGNATURE or len(signature.value) != _COSIGNATURE_SIZE:
        raise Refused("unsigned-note", f"A checkpoint is not cosigned by {key.name}")
    timestamp = int.from_bytes(signature.value[:8])
    if timestamp > _MAX_TIMESTAMP:
        raise Refused("bad-signature", f"A cosignature by {key.name} claims a time that there is not")
    check(key.public, signature.value[8:], _cosigned(note.text, timestamp))
    return timestamp


def merge(left: Note, right: Note) -> Note:
    """One note with the signatures of two over the same text, which were checked before.

    Of two lines by one key the smaller stays: of two cosignatures, the earlier. So nodes that merge the same notes in
    any order end up with the same bytes. Raises `Malformed` for different texts.
    """
    if left.text != right.text:
        raise Malformed("Two checkpoints that differ cannot be merged")
    both = sorted((*left.signatures, *right.signatures), key=lambda one: one.value, reverse=True)
    return _ordered(Note(left.text, tuple({(one.name, one.key_id): one for one in both}.values())))


def _ordered(note: Note) -> Note:
    """The log's own signature first, then cosignatures by name, as many and as long as a note may have."""
    origin = note.text.partition("\n")[0]
    lines = sorted(note.signatures, key=lambda one: (one.name != origin, one.name, one.key_id))
    room = MAX_CHECKPOINT - len(f"{note.text}\n".encode())
    ends = accumulate(len(one.line.encode()) for one in lines)
    fitting = sum(end <= room for end in ends)
    return replace(note, signatures=tuple(lines[: min(fitting, MAX_COSIGNATURES + 1)]))


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
