"""Checkpoints and cosignatures: a public checkpoint with its witnesses, forgeries, and merging in any order."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import reduce
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Malformed, Refused
from relay.limits import MAX_CHECKPOINT, MAX_COSIGNATURES
from relay.log.checkpoint import (
    Checkpoint,
    check_cosignature,
    cosign,
    merge,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from relay.log.note import COSIGNATURE, Note, NoteKey, Signature, parse_note, sign_note

WITNESSED = json.loads((Path(__file__).parent.parent / "vectors" / "signed_notes.json").read_text())["witnessed"]
ROOT = sha256(b"root").digest()
SAME_TIME = 1_732_665_600


def signer(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def key_of(name: str, kind: int = COSIGNATURE) -> NoteKey:
    return NoteKey(name, signer(name).public_key().public_bytes_raw(), kind)


LOG = key_of("election/receiver", 1)
CHECKPOINT = Checkpoint(LOG.name, 1204, ROOT)
SIGNED = sign_checkpoint(CHECKPOINT, LOG, signer(LOG.name))
WITNESSES = [f"election/boat-{number:02}" for number in range(MAX_COSIGNATURES + 8)]


def cosigned(names: list[str], timestamp: int = SAME_TIME) -> Note:
    note = parse_note(SIGNED)
    for name in names:
        note = cosign(note, key_of(name), signer(name), timestamp)
    return note


LINES = {(name, time): cosigned([name], time) for name in WITNESSES for time in range(3)}


def signed_text(text: str) -> bytes:
    return sign_note(text, LOG, signer(LOG.name)).to_bytes()


def test_public_checkpoint_and_its_witness() -> None:
    note = parse_note(WITNESSED["note"].encode())
    witness = NoteKey.parse(WITNESSED["vkey"])
    assert parse_checkpoint(note).size == WITNESSED["size"]
    assert check_cosignature(note, witness) == 0x6A122120
    forged = Note(note.text.replace("1432088532", "1432088533"), note.signatures)
    with pytest.raises(Refused):
        check_cosignature(forged, witness)


def test_text_of_a_checkpoint() -> None:
    assert CHECKPOINT.text == f"election/receiver\n1204\n{b64encode(ROOT).decode()}\n"
    assert Checkpoint(LOG.name, 0, ROOT).text.splitlines()[1] == "0"


@given(st.integers(0, 10**19 - 1), st.binary(min_size=32, max_size=32))
def test_signed_checkpoint_comes_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(LOG.name, size, root)
    assert open_checkpoint(sign_checkpoint(checkpoint, LOG, signer(LOG.name)), LOG) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "election/receiver\n",
        "election/receiver\n1\n",
        f"\n1\n{b64encode(ROOT).decode()}\n",
        f"election/receiver\n1\n{b64encode(ROOT).decode()}\nextension\n",
        f"election/receiver\n1\n{b64encode(ROOT).decode()}\n\n",
        *(
            f"election/receiver\n{size}\n{b64encode(ROOT).decode()}\n"
            for size in ["", "01", "00", "-1", "+1", "1 ", " 1", "1_0", "0x1", "1.0", "\u0661", "9" * 20, "9" * 9_000]
        ),
        *(
            f"election/receiver\n1\n{root}\n"
            for root in [
                *("", "é", "AAAA", b64encode(ROOT).decode()[:-1], b64encode(ROOT).decode() + "="),
                *(b64encode(ROOT + b"\0").decode(), b64encode(ROOT[:-1]).decode(), ROOT.hex()),
            ]
        ),
    ],
)
def test_signed_text_that_is_no_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        open_checkpoint(signed_text(text), LOG)


def test_checkpoint_needs_the_signature_of_its_own_log() -> None:
    other = key_of("election/other", 1)
    by_other = sign_note(CHECKPOINT.text, other, signer(other.name))
    same_name = NoteKey(LOG.name, other.public)
    for raw, key in [
        (by_other.to_bytes(), LOG),
        (by_other.to_bytes(), other),
        (SIGNED, other),
        (SIGNED, same_name),
        (cosigned([LOG.name]).to_bytes(), key_of(LOG.name)),
    ]:
        with pytest.raises(Refused):
            open_checkpoint(raw, key)
    forged = SIGNED.replace(b"\n1204\n", b"\n1205\n")
    with pytest.raises(Refused) as refusal:
        open_checkpoint(forged, LOG)
    assert refusal.value.reason == "bad-signature"


def test_cosignature_signs_the_words_of_the_specification() -> None:
    (line,) = [one for one in cosigned(WITNESSES[:1]).signatures if one.name == WITNESSES[0]]
    message = f"cosignature/v1\ntime {SAME_TIME}\n{CHECKPOINT.text}".encode()
    assert line.value == SAME_TIME.to_bytes(8) + signer(WITNESSES[0]).sign(message)
    assert line.key_id == sha256(WITNESSES[0].encode() + b"\n\x04" + key_of(WITNESSES[0]).public).digest()[:4]


@given(st.integers(0, (1 << 63) - 1))
def test_cosignature_tells_its_time(timestamp: int) -> None:
    note = parse_note(cosigned(WITNESSES[:1], timestamp).to_bytes())
    assert check_cosignature(note, key_of(WITNESSES[0])) == timestamp
    assert open_checkpoint(note.to_bytes(), LOG) == CHECKPOINT


def test_time_after_the_last_is_refused() -> None:
    with pytest.raises(Refused):
        check_cosignature(cosigned(WITNESSES[:1], 1 << 63), key_of(WITNESSES[0]))


def test_false_cosignatures_are_refused() -> None:
    name = WITNESSES[0]
    key, note = key_of(name), cosigned([name])
    (line,) = [one for one in note.signatures if one.name == name]
    later = (SAME_TIME + 1).to_bytes(8) + line.value[8:]
    for value in later, line.value[:-1], line.value + b"\0", line.value[8:], b"\0":
        with pytest.raises(Refused):
            check_cosignature(Note(note.text, (Signature(name, key.id, value),)), key)
    for wrong in (
        key_of("election/boat-99"),
        NoteKey(name, key.public),
        NoteKey("election/boat-99", key.public, COSIGNATURE),
    ):
        with pytest.raises(Refused):
            check_cosignature(note, wrong)
    as_log = NoteKey(name, key.public)
    with pytest.raises(Refused):
        check_cosignature(Note(note.text, (Signature(name, as_log.id, line.value),)), as_log)
    other = Note(Checkpoint(LOG.name, 1205, ROOT).text, note.signatures)
    with pytest.raises(Refused):
        check_cosignature(other, key)


def test_cosigning_again_replaces_ones_own_line() -> None:
    name = WITNESSES[0]
    again = cosign(cosigned(WITNESSES[:2]), key_of(name), signer(name), SAME_TIME + 5)
    assert [one.name for one in again.signatures] == [LOG.name, *WITNESSES[:2]]
    assert check_cosignature(again, key_of(name)) == SAME_TIME + 5


def test_log_comes_first_then_witnesses_by_name() -> None:
    early = "a-witness"
    note = cosigned([WITNESSES[2], early, WITNESSES[0]])
    assert [one.name for one in note.signatures] == [LOG.name, early, WITNESSES[0], WITNESSES[2]]
    assert parse_note(note.to_bytes()) == note


def test_merging_keeps_the_earlier_of_two_by_one_witness() -> None:
    early, late = cosigned(WITNESSES[:1], 5), cosigned(WITNESSES[:2], 9)
    for merged in merge(early, late), merge(late, early):
        assert [check_cosignature(merged, key_of(name)) for name in WITNESSES[:2]] == [5, 9]
        assert len(merged.signatures) == 3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(WITNESSES), st.integers(0, 2)), max_size=20), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_merging_in_any_order_ends_in_the_same_bytes(sightings: list[list[tuple[str, int]]], dice: Random) -> None:
    notes = [reduce(merge, (LINES[one] for one in seen), parse_note(SIGNED)) for seen in sightings]
    shuffled = [*notes, *notes]
    dice.shuffle(shuffled)
    merged = reduce(merge, notes)
    assert reduce(merge, shuffled) == merged
    assert open_checkpoint(merged.to_bytes(), LOG) == CHECKPOINT
    assert {one.name for one in merged.signatures} <= {LOG.name, *(name for seen in sightings for name, _ in seen)}


def test_merged_note_stays_within_its_limits() -> None:
    crowd = reduce(merge, (LINES[name, 0] for name in WITNESSES))
    assert [one.name for one in crowd.signatures] == [LOG.name, *WITNESSES[:MAX_COSIGNATURES]]
    assert parse_note(crowd.to_bytes()) == crowd

    def bulky(letter: str) -> Note:
        lines = tuple(Signature(f"{letter}{number}", b"some", bytes(900)) for number in range(10))
        note = parse_note(SIGNED)
        return Note(note.text, (*note.signatures, *lines))

    merged = merge(bulky("a"), bulky("z"))
    assert MAX_CHECKPOINT - 2_000 < len(merged.to_bytes()) <= MAX_CHECKPOINT
    assert open_checkpoint(merged.to_bytes(), LOG) == CHECKPOINT


def test_checkpoints_that_differ_do_not_merge() -> None:
    other = parse_note(sign_checkpoint(Checkpoint(LOG.name, 1205, ROOT), LOG, signer(LOG.name)))
    with pytest.raises(Malformed):
        merge(parse_note(SIGNED), other)
