"""Checkpoints as records, and witnesses: the boats that watch the receiver's log. Pure.

The log of a receiver is named `<election>/<node name>`, and so is a carrier as its witness; the receiver signs
checkpoints with the key of its certificate, carriers cosign those that they saw extend the one before (C2SP
`tlog-cosignature`). Other witnesses sign under names of their own. The election office publishes the keys of all in a
notice, so that everybody can check them.

While a log grows there is a new checkpoint every moment, and a cosignature comes when its checkpoint is no longer the
newest. So two are held of each log: the newest, and the newest that somebody cosigned.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.errors import Refused
from relay.log.checkpoint import Checkpoint, check_cosignature, merge, open_checkpoint
from relay.log.note import COSIGNATURE, Note, NoteKey, parse_note, verify_note
from relay.trust.certificates import Identity

SPLIT_VIEW = "split-view"
"""The reason of the refusal of a checkpoint that contradicts the one in force."""


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that its log signed, with the cosignatures that were checked."""

    note: Note
    checkpoint: Checkpoint

    @property
    def raw(self) -> bytes:
        """The note's bytes."""
        return self.note.to_bytes()

    @property
    def cosigned_by(self) -> tuple[str, ...]:
        """The names of the witnesses."""
        return tuple(one.name for one in self.note.signatures if one.name != self.checkpoint.origin)

    @property
    def slot(self) -> str:
        """Which of a log's two checkpoints this is."""
        return f"{'cosigned' if self.cosigned_by else 'checkpoint'}/{self.checkpoint.origin}"

    @property
    def rank(self) -> int:
        """Larger trees first; of the same tree, the one with more cosignatures."""
        return self.checkpoint.size * 256 + len(self.note.signatures)


def log_key(receiver: Identity) -> NoteKey:
    """The key of a receiver's log."""
    return NoteKey(f"{receiver.election}/{receiver.name}", public_bytes(receiver.key))


def witness_key(election: str, name: str, public: bytes) -> NoteKey:
    """The key with which the carrier `name` cosigns."""
    return NoteKey(f"{election}/{name}", public, COSIGNATURE)


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def read_signed_checkpoint(raw: bytes, log: NoteKey, witnesses: Mapping[str, NoteKey]) -> SignedCheckpoint:
    """Check a checkpoint's signature by its log, and keep the cosignatures of known witnesses that hold.

    Lines by others, and lines that do not hold, are dropped: nothing unsigned travels (promise 1). Raises `Malformed`
    or `Refused`.
    """
    checkpoint = open_checkpoint(raw, log)
    note = parse_note(raw)
    kept = [one for one in note.signatures if (one.name, one.key_id) == (log.name, log.id)][:1]
    for one in note.signatures:
        key = witnesses.get(one.name)
        if key is None or one.key_id != key.id:
            continue
        with suppress(Refused):
            _check(Note(note.text, (one,)), key)
            kept.append(one)
    return SignedCheckpoint(merge(Note(note.text, tuple(kept)), Note(note.text, ())), checkpoint)


def _check(note: Note, key: NoteKey) -> None:
    """Check a witness's signature: a cosignature, or one that is over the checkpoint alone."""
    if key.kind == COSIGNATURE:
        check_cosignature(note, key)
    else:
        verify_note(note, key)


def combine(held: SignedCheckpoint, new: SignedCheckpoint) -> SignedCheckpoint:
    """What to hold of two checkpoints of one log: the larger, or the one with the cosignatures of both.

    Raises `Refused` (`split-view`) for two of the same size that differ: the receiver shows two logs.
    """
    if held.checkpoint.size != new.checkpoint.size:
        return max(held, new, key=lambda one: one.checkpoint.size)
    if held.checkpoint != new.checkpoint:
        raise Refused(
            SPLIT_VIEW,
            f"The receiver signed two different logs of {new.checkpoint.size} entries",
            "Keep this node as evidence and tell the election office and the public.",
        )
    return SignedCheckpoint(merge(held.note, new.note), held.checkpoint)
