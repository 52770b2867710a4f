"""Signed notes: public vectors, and bytes that are no note."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Refused
from relay.limits import MAX_CHECKPOINT, MAX_COSIGNATURES, MAX_VERIFIER_KEY
from relay.log.note import COSIGNATURE, ED25519, NoteKey, Signature, decode_base64, parse_note, sign_note, verify_note

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "signed_notes.json").read_text())
TEXT: str = VECTORS["text"]
PETER = NoteKey.parse(VECTORS["peter"]["vkey"])
ENOCH = NoteKey.parse(VECTORS["enoch"]["vkey"])
PETER_LINE: str = VECTORS["peter"]["line"]
ENOCH_LINE: str = VECTORS["enoch"]["line"]

names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1, max_size=20)


def note_of(*lines: str) -> bytes:
    return f"{TEXT}\n{''.join(lines)}".encode()


def test_signing_makes_the_public_note() -> None:
    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["peter"]["seed"]))
    assert signer.public_key().public_bytes_raw() == PETER.public
    assert sign_note(TEXT, PETER, signer).to_bytes() == note_of(PETER_LINE)


def test_public_notes_verify() -> None:
    note = parse_note(note_of(PETER_LINE, ENOCH_LINE))
    assert note.text == TEXT
    assert [one.name for one in note.signatures] == ["PeterNeumann", "EnochRoot"]
    verify_note(note, PETER)
    verify_note(note, ENOCH)
    example = VECTORS["example"]
    verify_note(parse_note(example["note"].encode()), NoteKey.parse(example["vkey"]))


@pytest.mark.parametrize("who", ["peter", "enoch", "example", "witnessed"])
def test_public_verifier_keys_are_spelled_as_published(who: str) -> None:
    key = NoteKey.parse(VECTORS[who]["vkey"])
    assert key.vkey == VECTORS[who]["vkey"]
    assert key.kind == (COSIGNATURE if who == "witnessed" else ED25519)


def test_unknown_signatures_are_kept_and_prove_nothing() -> None:
    raw = note_of(ENOCH_LINE, PETER_LINE)
    note = parse_note(raw)
    assert note.to_bytes() == raw
    verify_note(note, PETER)
    for stranger in NoteKey("Somebody", PETER.public), NoteKey(PETER.name, ENOCH.public):
        with pytest.raises(Refused) as refusal:
            verify_note(note, stranger)
        assert refusal.value.reason == "unsigned-note"


def test_one_key_signs_as_two_kinds_under_two_ids() -> None:
    cosigner = NoteKey(PETER.name, PETER.public, COSIGNATURE)
    assert cosigner.id != PETER.id
    with pytest.raises(Refused):
        verify_note(parse_note(note_of(PETER_LINE)), cosigner)


@given(st.data())
def test_changed_text_or_signature_is_refused(data: st.DataObject) -> None:
    note = parse_note(note_of(PETER_LINE))
    value = note.signatures[0].value
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    flipped = (int.from_bytes(value) ^ 1 << bit).to_bytes(len(value))
    cut = value[: data.draw(st.integers(1, len(value) - 1))]
    for wrong in flipped, cut, value + b"\0":
        line = Signature(PETER.name, PETER.id, wrong).line
        with pytest.raises(Refused) as refusal:
            verify_note(parse_note(note_of(line)), PETER)
        assert refusal.value.reason == "bad-signature"
    with pytest.raises(Refused):
        verify_note(parse_note(note_of(PETER_LINE).replace(b"answer", b"anzwer")), PETER)


def test_text_ends_at_the_last_blank_line() -> None:
    raw = f"a\n\n\nb\n\n{PETER_LINE}".encode()
    note = parse_note(raw)
    assert note.text == "a\n\n\nb\n"
    assert note.to_bytes() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        note_of(),
        note_of("\n"),
        f"\n\n{PETER_LINE}".encode(),
        PETER_LINE.encode(),
        note_of(PETER_LINE[:-1]),
        note_of(PETER_LINE, "Unexpected line.\n"),
        note_of(PETER_LINE.replace("\n", "\r\n")),
        note_of(PETER_LINE.replace("—", "-")),
        note_of(PETER_LINE.replace("— ", "—")),
        note_of(PETER_LINE.replace("PeterNeumann", "Peter Neumann")),
        note_of(PETER_LINE.replace("PeterNeumann", "Peter\u2003Neumann")),
        note_of(PETER_LINE.replace("PeterNeumann", "Peter+Neumann")),
        note_of(PETER_LINE.replace("PeterNeumann", "")),
        note_of(PETER_LINE.replace("=", "")),
        note_of(PETER_LINE.replace("AM=", "AN=")),
        note_of(PETER_LINE.replace("AM=", "AM==")),
        note_of("— PeterNeumann \n"),
        note_of("— PeterNeumann x08gow==\n"),
        note_of("— PeterNeumann é\n"),
        note_of("— PeterNeumann x08go\u0660==\n"),
        b"\x01" + note_of(PETER_LINE),
        b"\xff" + note_of(PETER_LINE),
        note_of(*[PETER_LINE] * (MAX_COSIGNATURES + 2)),
        b"a" * MAX_CHECKPOINT + note_of(PETER_LINE),
    ],
)
def test_what_is_no_note_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_note(raw)


def test_as_many_signatures_as_the_limit_says_are_read() -> None:
    assert MAX_COSIGNATURES + 1 >= 16, "signed-note: verifiers accept at least 16"
    assert len(parse_note(note_of(*[PETER_LINE] * (MAX_COSIGNATURES + 1))).signatures) == MAX_COSIGNATURES + 1


@given(st.binary(max_size=200) | st.text(max_size=120).map(str.encode), st.booleans())
def test_any_bytes_are_a_note_in_one_spelling_or_malformed(noise: bytes, after: bool) -> None:
    for raw in (
        noise,
        note_of("— ") + noise,
        noise + note_of(PETER_LINE) if not after else note_of(PETER_LINE) + noise,
    ):
        try:
            note = parse_note(raw)
        except Malformed:
            continue
        assert note.to_bytes() == raw


@given(names, st.binary(min_size=32, max_size=32), st.sampled_from([ED25519, COSIGNATURE]))
def test_verifier_key_comes_back(name: str, public: bytes, kind: int) -> None:
    key = NoteKey(name, public, kind)
    assert NoteKey.parse(key.vkey) == key


def test_mangled_verifier_keys_are_malformed() -> None:
    vkey = PETER.vkey
    pieces = {vkey[i:j] for i in range(len(vkey)) for j in range(i + 1, len(vkey) + 1)} - {vkey}
    raised = {vkey[:i] + chr(ord(vkey[i]) + 1) + vkey[i + 1 :] for i in range(len(vkey))}
    for mangled in pieces | raised | {*VECTORS["refused_vkeys"].values()}:
        with pytest.raises(Malformed):
            NoteKey.parse(mangled)


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a+b", "a\u00a0b", "a\nb"])
def test_verifier_key_of_an_impossible_name_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        NoteKey.parse(NoteKey(name, bytes(32)).vkey)


def test_verifier_key_over_the_limit_is_malformed() -> None:
    with pytest.raises(Malformed, match="limit"):
        NoteKey.parse(NoteKey("n" * MAX_VERIFIER_KEY, bytes(32)).vkey)


@pytest.mark.parametrize("text", ["é", "A", "AAA", "AA==\n", " AA==", "AB==", "AA===", "-_-_", "A=A=", "=AAA"])
def test_other_spellings_of_base64_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        decode_base64(text, "A test")


@given(st.binary(max_size=80))
def test_base64_comes_back(content: bytes) -> None:
    assert decode_base64(b64encode(content).decode(), "A test") == content
