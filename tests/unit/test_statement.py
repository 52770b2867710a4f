"""Statements: what is signed is what is read, and nothing else reads as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import BadInput, Malformed, Refused
from relay.limits import KIB, MAX_CHUNKS_PER_PACKAGE, MAX_FILE, MAX_FILES, MAX_REASON, MAX_RECORD, MAX_TALLY_VALUE, MIB
from relay.records.cose import CONTENT_TYPE, EDDSA, header, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, sha256
from relay.records.statement import (
    PACKAGE_TYPE,
    FileEntry,
    Package,
    check_size,
    chunk_size_for,
    describe_file,
    read_statement,
    sign_statement,
)
from relay.records.tally import COUNTS, Tally
from tests.factory import ELECTION, make_election, make_node

OFFICE = make_election()
ISLAND = make_node(OFFICE, "pulau-long")
ISSUER, CERTIFICATE = ISLAND.identity.uri, ISLAND.identity.certificate

HASHES = st.binary(min_size=32, max_size=32)
STATEMENTS = HASHES.map(lambda one: StatementId(RecordId(one)))
CODES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\:."), min_size=1, max_size=60)
LINES = st.text(max_size=50).map(lambda text: "".join(one for one in text if one.isprintable()))
TALLIES = st.builds(
    Tally,
    st.dictionaries(st.sampled_from(COUNTS), st.integers(-MAX_TALLY_VALUE, MAX_TALLY_VALUE)),
    st.dictionaries(CODES, st.integers(0, MAX_TALLY_VALUE), max_size=5),
)


@st.composite
def file_entries(draw: st.DrawFn, name: str) -> FileEntry:
    """A file of up to a few chunks, with made-up hashes."""
    size = draw(st.integers(1, 4 * 64 * KIB))
    digest = ObjectId(sha256(name.encode()))
    chunks = tuple(draw(HASHES) for _ in range(-(-size // chunk_size_for(size))))
    return FileEntry(name, "image/jpeg", size, digest, chunks)


@st.composite
def packages(draw: st.DrawFn) -> Package:
    """A package of any shape that may be."""
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    files = tuple(draw(file_entries(name)) for name in names)
    previous = draw(st.none() | STATEMENTS)
    sealed = draw(st.booleans())
    supersedes = draw(st.none() | STATEMENTS)
    return Package(
        election=draw(CODES),
        tps=draw(CODES),
        form=draw(CODES),
        seq=1 if previous is None else draw(st.integers(2, (1 << 62) - 1)),
        previous=previous,
        captured_at=draw(st.integers(-(1 << 62), (1 << 62) - 1)),
        files=files,
        tally=None if sealed else draw(TALLIES if not files else st.none() | TALLIES),
        sealed_tally=draw(st.binary(max_size=50)) if sealed else None,
        sealed=sealed,
        flags=tuple(draw(st.lists(CODES, max_size=3))),
        supersedes=supersedes,
        reason=draw(LINES) if supersedes else "",
    )


def sign(package: Package) -> bytes:
    """A statement over a package."""
    return sign_statement(package, ISSUER, CERTIFICATE, ISLAND.key)


def plain(**changes: Any) -> Package:
    """A small package."""
    entry = describe_file("photo.jpg", "image/jpeg", [b"content"], 7)
    package = Package(ELECTION, "tps-1", "form-1", 1, None, 1_700_000_000, (entry,), Tally({"voters": 1}))
    return replace(package, **changes)


def forge(change: Callable[[dict[str, Any]], object], package: Package | None = None) -> bytes:
    """A statement, signed as it should be, whose payload was changed beforehand."""
    payload = read_statement(sign(package or plain())).envelope.payload
    assert payload is not None
    document = decode(payload, MAX_RECORD)
    change(document)
    parts = [str(document.get(key)) for key in ("election", "tps", "form")]
    return sign1(header(PACKAGE_TYPE, ISSUER, "/".join(parts), CERTIFICATE), encode(document), ISLAND.key)


@given(packages())
def test_what_is_signed_is_what_is_read(package: Package) -> None:
    raw = sign(package)
    statement = read_statement(raw)
    assert statement.package == package
    assert statement.id == sha256(raw)
    assert statement.envelope.issuer == ISSUER
    assert statement.envelope.subject == package.subject
    assert sign(statement.package) == raw
    statement.envelope.verify(ISLAND.identity.key)


def test_promise_8_another_cose_library_verifies_it() -> None:
    pem = ISLAND.identity.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = sign(plain())
    protected, _, payload = COSE.new().decode_with_headers(raw, COSEKey.from_pem(pem, alg="EdDSA"))
    assert protected[1] == EDDSA
    assert protected[CONTENT_TYPE] == PACKAGE_TYPE
    assert payload == read_statement(raw).envelope.payload


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(st.data())
def test_promise_1_any_flipped_bit_is_refused_by_admission(data: st.DataObject) -> None:
    raw = sign(plain())
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    damaged = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
    OFFICE.admission.admit(Kind.STATEMENT, raw)
    with pytest.raises((Refused, Malformed)):
        OFFICE.admission.admit(Kind.STATEMENT, damaged)


@given(st.data())
def test_promise_1_any_cut_or_extension_is_malformed(data: st.DataObject) -> None:
    raw = sign(plain())
    changed = raw[: data.draw(st.integers(0, len(raw) - 1))] if data.draw(st.booleans()) else raw + b"\x00"
    with pytest.raises(Malformed):
        read_statement(changed)


@given(st.binary(max_size=200))
def test_promise_10_arbitrary_bytes_are_malformed(data: bytes) -> None:
    for raw in (data, b"\xd2" + data, b"\xd2\x84" + data):
        with pytest.raises(Malformed):
            read_statement(raw)


def file(document: dict[str, Any]) -> dict[str, Any]:
    """The first file's map."""
    entry: dict[str, Any] = document["files"][0]
    return entry


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.pop("captured_at"), id="a key is missing"),
        pytest.param(lambda d: d.update(extra=1), id="a key is unknown"),
        pytest.param(lambda d: d.update({1: 1}), id="a key is a number"),
        pytest.param(lambda d: d.update(tps="../tps"), id="station is no code"),
        pytest.param(lambda d: d.update(form=""), id="form is empty"),
        pytest.param(lambda d: d.update(election=1), id="election is a number"),
        pytest.param(lambda d: d.update(seq=0), id="seq 0"),
        pytest.param(lambda d: d.update(seq=True), id="seq true"),
        pytest.param(lambda d: d.update(seq=1 << 62), id="seq too large"),
        pytest.param(lambda d: d.update(seq=2), id="seq 2 without previous"),
        pytest.param(lambda d: d.update(previous=bytes(32)), id="seq 1 with previous"),
        pytest.param(lambda d: d.update(seq=2, previous=bytes(31)), id="previous is no id"),
        pytest.param(lambda d: d.update(seq=2, previous="0" * 32), id="previous is a text"),
        pytest.param(lambda d: d.update(captured_at="now"), id="time is a text"),
        pytest.param(lambda d: d.update(captured_at=-(1 << 63)), id="time too small"),
        pytest.param(lambda d: d.update(supersedes=b""), id="supersedes no id"),
        pytest.param(lambda d: d.update(supersedes=None), id="an empty value is spelled out"),
        pytest.param(lambda d: d.update(reason=""), id="an empty reason is spelled out"),
        pytest.param(lambda d: d.update(reason="x" * (MAX_REASON + 1)), id="reason too long"),
        pytest.param(lambda d: d.update(reason=b"x"), id="reason is bytes"),
        pytest.param(lambda d: d.update(supersedes=bytes(32), reason="a\r\nb"), id="reason of two lines"),
        pytest.param(lambda d: d.update(supersedes=bytes(32), reason="\x1b[2J"), id="reason commands a terminal"),
        pytest.param(lambda d: d.update(supersedes=bytes(32), reason="a\u202eb"), id="reason turns the text around"),
        pytest.param(lambda d: d.update(reason="mistyped"), id="a reason, and nothing is corrected"),
        pytest.param(lambda d: d.update(flags=[]), id="empty flags are spelled out"),
        pytest.param(lambda d: d.update(flags=["a b"]), id="a flag is no slug"),
        pytest.param(lambda d: d.update(flags=["x"] * 17), id="too many flags"),
        pytest.param(lambda d: d.update(flags="x"), id="flags are a text"),
        pytest.param(lambda d: d.update(sealed=False), id="sealed is false"),
        pytest.param(lambda d: d.update(sealed=1), id="sealed is a number"),
        pytest.param(lambda d: d.update(sealed_tally=b"x"), id="sealed tally of an open package"),
        pytest.param(lambda d: d.update(sealed=True, sealed_tally=b"x"), id="two tallies"),
        pytest.param(lambda d: d.update(tally=None), id="tally null"),
        pytest.param(lambda d: d.update(tally={"voters": True}), id="tally with a truth"),
        pytest.param(lambda d: (d.pop("tally"), d.update(files=[])), id="nothing in it"),
        pytest.param(lambda d: d.update(files={}), id="files are a map"),
        pytest.param(lambda d: d.update(files=[1]), id="a file is a number"),
        pytest.param(lambda d: d.update(files=d["files"] * 2), id="two files of one name"),
        pytest.param(
            lambda d: d.update(files=[file(d) | {"name": f"{n}"} for n in range(MAX_FILES + 1)]), id="too many files"
        ),
        pytest.param(
            lambda d: d.update(files=[file(d), file(d) | {"name": "b", "chunks": [bytes(32)]}]),
            id="one hash, two contents",
        ),
        pytest.param(
            lambda d: d.update(files=[file(d), file(d) | {"name": "b", "size": file(d)["size"] - 1}]),
            id="one hash, two sizes",
        ),
        pytest.param(lambda d: file(d).pop("chunks"), id="a file without chunks"),
        pytest.param(lambda d: file(d).update(more=1), id="a file with an unknown key"),
        pytest.param(lambda d: file(d).update(name="../../etc/passwd"), id="a name with a path"),
        pytest.param(lambda d: file(d).update(name="a\n.jpg"), id="an unprintable name"),
        pytest.param(lambda d: file(d).update(name="x" * 256), id="a long name"),
        pytest.param(lambda d: file(d).update(name=b"a"), id="a name of bytes"),
        pytest.param(lambda d: file(d).update(media_type="jpeg"), id="no media type"),
        pytest.param(lambda d: file(d).update(media_type="text/html;x=\n"), id="media type with more"),
        pytest.param(lambda d: file(d).update(media_type="image/" + "x" * 200), id="long media type"),
        pytest.param(lambda d: file(d).update(size=0), id="size 0"),
        pytest.param(lambda d: file(d).update(size=-1), id="size below 0"),
        pytest.param(lambda d: file(d).update(size=True), id="size true"),
        pytest.param(lambda d: file(d).update(size=MAX_FILE + 1), id="size too large"),
        pytest.param(lambda d: file(d).update(size=65_537), id="too few chunks"),
        pytest.param(lambda d: file(d).update(chunk_size=1), id="another chunk size"),
        pytest.param(lambda d: file(d).update(chunks=[bytes(32)] * 2), id="too many chunks"),
        pytest.param(lambda d: file(d).update(chunks=[bytes(31)]), id="a chunk's hash is short"),
        pytest.param(lambda d: file(d).update(chunks=["x" * 32]), id="a chunk's hash is a text"),
        pytest.param(lambda d: file(d).update(sha256=bytes(31)), id="the hash is short"),
    ],
)
def test_promise_10_a_well_signed_lie_about_the_format_is_malformed(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(Malformed):
        read_statement(forge(change))


def test_the_forge_makes_good_statements() -> None:
    assert read_statement(forge(lambda _document: None)).package == plain()


@pytest.mark.parametrize(
    ("parameters", "unprotected"),
    [
        ({1: -7}, {}),  # another algorithm
        ({3: "application/json"}, {}),
        ({4: b"kid"}, {}),
        ({15: {1: "issuer", 2: "e/t/f", 6: 1}}, {}),
        ({15: {1: "issuer"}}, {}),
        ({33: b"x" * 9_000}, {}),
        ({33: [b"x", b"y"]}, {}),
        ({}, {4: b"unsigned"}),
    ],
)
def test_promise_10_other_headers_are_malformed(parameters: dict[int, Any], unprotected: dict[int, Any]) -> None:
    package = plain()
    payload = read_statement(sign(package)).envelope.payload
    assert payload is not None
    good = header(PACKAGE_TYPE, ISSUER, package.subject, CERTIFICATE)
    with pytest.raises(Malformed):
        read_statement(sign1(good | parameters, payload, ISLAND.key, unprotected=unprotected))


def test_promise_10_claims_that_are_not_the_packages_are_malformed() -> None:
    payload = read_statement(sign(plain())).envelope.payload
    assert payload is not None
    with pytest.raises(Malformed, match="subject"):
        read_statement(sign1(header(PACKAGE_TYPE, ISSUER, "e/t/f", CERTIFICATE), payload, ISLAND.key))


def test_a_detached_statement_is_malformed() -> None:
    parameters = header(PACKAGE_TYPE, ISSUER, plain().subject, CERTIFICATE)
    with pytest.raises(Malformed):
        read_statement(sign1(parameters, b"", ISLAND.key, detached=True))


def test_statements_up_to_their_limit() -> None:
    def size(chunks: int) -> int:
        entry = FileEntry("a", "image/jpeg", chunks * 64 * KIB, ObjectId(bytes(32)), (bytes(32),) * chunks)
        return len(sign(plain(files=(entry,), reason="x" * MAX_REASON)))

    assert size(250) < MAX_RECORD
    entry = FileEntry("a", "image/jpeg", 64 * MIB, ObjectId(bytes(32)), (bytes(32),) * 256)
    most = tuple(replace(entry, name=str(number), sha256=ObjectId(sha256(bytes([number])))) for number in range(4))
    check_size(most)
    assert len(sign(plain(files=most, reason="x" * MAX_REASON))) <= MAX_RECORD
    with pytest.raises(BadInput, match="too large together"):
        check_size((*most, describe_file("b", "image/jpeg", [b"x"], 1)))
    assert sum(len(one.chunks) for one in most) == MAX_CHUNKS_PER_PACKAGE
    with pytest.raises(BadInput, match="limit"):
        sign(plain(files=tuple(replace(one, chunks=one.chunks * 2) for one in most)))


def test_a_record_over_its_limit_is_not_even_decoded() -> None:
    with pytest.raises(Malformed, match="over the limit"):
        read_statement(b"\xd2" + bytes(MAX_RECORD))


@given(st.binary(min_size=1, max_size=3 * 64 * KIB), st.lists(st.integers(1, 100_000), max_size=8))
@settings(max_examples=30)
def test_blocks_of_any_length_make_the_same_entry(content: bytes, cuts: list[int]) -> None:
    blocks, rest = [], content
    for cut in cuts:
        blocks.append(rest[:cut])
        rest = rest[cut:]
    entry = describe_file("a", "image/jpeg", [*blocks, rest], len(content))
    assert entry.sha256 == sha256(content)
    step = entry.chunk_size
    assert list(entry.chunks) == [sha256(content[at : at + step]) for at in range(0, len(content), step)]


@pytest.mark.parametrize(
    ("size", "chunk"), [(1, 64), (16 * 1024 * KIB - 1, 64), (16 * 1024 * KIB, 256), (MAX_FILE, 256)]
)
def test_chunk_sizes(size: int, chunk: int) -> None:
    assert chunk_size_for(size) == chunk * KIB


def test_a_bundle_counts_each_object_once() -> None:
    entry = describe_file("a.jpg", "image/jpeg", [b"1234"], 4)
    raw = sign(plain(files=(entry, replace(entry, name="b.jpg"))))
    assert read_statement(raw).size == len(raw) + 4
