"""A statement: the signed record of one package (a SCITT signed statement), and the chunks of its objects.

Lives here: the format of DESIGN §5, to the byte, and the cutting of content into chunks. Does not live here: reading
files, choosing sequence numbers, and whether the signer may sign for the station (`relay.trust.admission`).
Guards promise 3 (content is what its hash says), promise 7 (`supersedes`) and the device's hash chain (`previous`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.errors import BadInput, Malformed
from relay.limits import KIB, MAX_CHUNKS_PER_PACKAGE, MAX_FILE, MAX_FILES, MAX_REASON, MAX_RECORD, MIB
from relay.records.cose import CONTENT_TYPE, Sign1, Signer, header, read_sign1, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import (
    HASH_SIZE,
    ObjectId,
    RecordId,
    StatementId,
    is_code,
    is_file_name,
    statement_id,
)
from relay.records.tally import Tally, read_tally

PACKAGE_TYPE = "application/vnd.relay.package+cbor"
_SMALL_CHUNK = 64 * KIB
_LARGE_CHUNK = 256 * KIB
_LARGE_FROM = 16 * MIB
_MAX_FLAGS = 16


def files_of(raw: bytes) -> tuple[FileEntry, ...]:
    """The files that a statement names; none where it is not one. What they are worth is for admission to judge."""
    try:
        return read_statement(raw).package.files
    except Malformed:
        return ()


def chunk_size_for(size: int) -> int:
    """The chunk size of an object of `size` bytes: 64 KiB, from 16 MiB on 256 KiB. One rule, so that the same content
    is cut the same way on every device."""
    return _SMALL_CHUNK if size < _LARGE_FROM else _LARGE_CHUNK


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a package: its object's id, size in bytes, and the SHA-256 of each chunk in order."""

    name: str
    media_type: str
    size: int
    sha256: ObjectId
    chunks: tuple[bytes, ...]

    @property
    def chunk_size(self) -> int:
        """Bytes of every chunk but the last."""
        return chunk_size_for(self.size)


@dataclass(frozen=True, slots=True)
class Package:
    """What an operator hands over, with its place in the device's chain.

    `seq` counts from 1 per device key; `previous` is the id of the statement with `seq` - 1. `captured_at` is the
    device's claim in seconds since 1970. `sealed_tally` replaces `tally` where the election seals its packages; the
    files are then the sealed bytes.
    """

    election: str
    tps: str
    form: str
    seq: int
    previous: StatementId | None
    captured_at: int
    files: tuple[FileEntry, ...]
    tally: Tally | None = None
    sealed_tally: bytes | None = None
    sealed: bool = False
    flags: tuple[str, ...] = ()
    supersedes: StatementId | None = None
    reason: str = ""

    @property
    def subject(self) -> str:
        """The `sub` claim: `<election>/<tps>/<form>`."""
        return f"{self.election}/{self.tps}/{self.form}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement; `envelope` holds what its signature is checked against."""

    id: StatementId
    raw: bytes
    envelope: Sign1
    package: Package

    @property
    def size(self) -> int:
        """Bytes of the bundle: the statement and its distinct objects."""
        return len(self.raw) + sum({entry.sha256: entry.size for entry in self.package.files}.values())


def describe_file(name: str, media_type: str, blocks: Iterable[bytes], size: int) -> FileEntry:
    """Hash content of `size` bytes that comes in blocks of any length into a file entry."""
    whole = hashlib.sha256()
    chunks: list[bytes] = []
    step = chunk_size_for(size)
    pending = bytearray()
    for block in blocks:
        whole.update(block)
        pending += block
        while len(pending) >= step:
            chunks.append(hashlib.sha256(pending[:step]).digest())
            del pending[:step]
    if pending:
        chunks.append(hashlib.sha256(pending).digest())
    return FileEntry(name, media_type, size, ObjectId(whole.digest()), tuple(chunks))


def check_size(files: Iterable[FileEntry]) -> None:
    """Refuse a package that would not fit a statement. Raises `BadInput`."""
    chunks = sum(len(entry.chunks) for entry in files)
    if chunks > MAX_CHUNKS_PER_PACKAGE:
        limit = MAX_CHUNKS_PER_PACKAGE * _SMALL_CHUNK // MIB
        raise BadInput(
            f"The files are too large together for one package (about {limit} MiB)",
            "Send fewer or smaller photographs, or hand the rest over as a second package.",
        )


def sign_statement(package: Package, issuer: str, certificate: bytes, signer: Signer) -> bytes:
    """The bytes of the statement for `package`, signed by the device `issuer` with its DER `certificate`."""
    parameters = header(PACKAGE_TYPE, issuer, package.subject, certificate)
    raw = sign1(parameters, encode(_package_map(package)), signer)
    if len(raw) > MAX_RECORD:
        raise BadInput(f"The statement would take {len(raw)} bytes; {MAX_RECORD} are the limit", "Send fewer files.")
    return raw


def read_statement(raw: bytes) -> Statement:
    """Parse a statement. Its signature and its signer's right are not checked here. Raises `Malformed`."""
    envelope = read_sign1(raw)
    if envelope.header.get(CONTENT_TYPE) != PACKAGE_TYPE or len(envelope.header) != 4:
        raise Malformed("A record is not a statement: its header differs")
    if envelope.unprotected or envelope.payload is None:
        raise Malformed("A statement has unprotected parameters or no payload")
    package = _read_package(decode(envelope.payload, MAX_RECORD))
    if envelope.subject != package.subject:
        raise Malformed("A statement's subject is not that of its package")
    return Statement(statement_id(raw), raw, envelope, package)


def _package_map(package: Package) -> dict[str, Any]:
    document: dict[str, Any] = {
        "election": package.election,
        "tps": package.tps,
        "form": package.form,
        "seq": package.seq,
        "previous": package.previous,
        "captured_at": package.captured_at,
        "files": [
            {
                "name": entry.name,
                "media_type": entry.media_type,
                "size": entry.size,
                "sha256": entry.sha256,
                "chunk_size": entry.chunk_size,
                "chunks": list(entry.chunks),
            }
            for entry in package.files
        ],
    }
    optional = {
        "tally": package.tally.to_map() if package.tally else None,
        "sealed_tally": package.sealed_tally,
        "sealed": package.sealed or None,
        "flags": list(package.flags) or None,
        "supersedes": package.supersedes,
        "reason": package.reason or None,
    }
    return document | {key: value for key, value in optional.items() if value is not None}


_REQUIRED = frozenset({"election", "tps", "form", "seq", "previous", "captured_at", "files"})
_OPTIONAL = frozenset({"tally", "sealed_tally", "sealed", "flags", "supersedes", "reason"})


def _read_package(document: object) -> Package:
    if not isinstance(document, dict) or not _REQUIRED <= document.keys() <= _REQUIRED | _OPTIONAL:
        raise Malformed("A package has keys missing, or keys that relay does not know")
    for key in ("election", "tps", "form"):
        if not is_code(document[key]):
            raise Malformed(f"A package's {key} is no code")
    seq = _number(document, "seq", 1)
    previous = _optional_hash(document, "previous")
    if (previous is None) != (seq == 1):
        raise Malformed("A package does not continue its device's chain: only the first has no previous statement")
    sealed = "sealed" in document
    if sealed and document["sealed"] is not True:
        raise Malformed("A package's sealed mark is not true")
    package = Package(
        election=document["election"],
        tps=document["tps"],
        form=document["form"],
        seq=seq,
        previous=previous,
        captured_at=_number(document, "captured_at", -(1 << 62)),
        files=_read_files(document["files"]),
        tally=read_tally(document["tally"]) if "tally" in document else None,
        sealed_tally=_sealed_tally(document),
        sealed=sealed,
        flags=_read_flags(document),
        supersedes=_optional_hash(document, "supersedes"),
        reason=_read_reason(document),
    )
    if _package_map(package).keys() != document.keys():
        raise Malformed("A package spells out an empty value")
    if not package.files and package.tally is None and package.sealed_tally is None:
        raise Malformed("A package is empty: neither files nor tally")
    return package


def _read_files(items: object) -> tuple[FileEntry, ...]:
    if not isinstance(items, list) or len(items) > MAX_FILES:
        raise Malformed(f"A package's files are not an array of at most {MAX_FILES}")
    files = tuple(_read_file(item) for item in items)
    if len({entry.name for entry in files}) < len(files):
        raise Malformed("Two files of a package have the same name")
    layouts: dict[ObjectId, tuple[int, tuple[bytes, ...]]] = {}
    if any(layouts.setdefault(one.sha256, (one.size, one.chunks)) != (one.size, one.chunks) for one in files):
        raise Malformed("Two files of a package share a hash and differ in their size or their chunks")
    return files


def _read_file(item: object) -> FileEntry:
    match item:
        case {
            "name": str(name),
            "media_type": str(media_type),
            "size": int(size),
            "sha256": bytes(digest),
            "chunk_size": int(chunk_size),
            "chunks": list(chunks),
            **unknown,
        }:
            pass
        case _:
            raise Malformed("A package's file entry lacks a key or has one of a wrong type")
    if unknown or not is_file_name(name) or not _is_media_type(media_type):
        raise Malformed("A package's file has an unknown key, an unsafe name or no media type")
    if (
        isinstance(size, bool)
        or not 1 <= size <= MAX_FILE
        or len(digest) != HASH_SIZE
        or chunk_size != chunk_size_for(size)
    ):
        raise Malformed("A package's file has an impossible size, hash or chunk size")
    if len(chunks) != -(-size // chunk_size) or any(
        not isinstance(chunk, bytes) or len(chunk) != HASH_SIZE for chunk in chunks
    ):
        raise Malformed("A package's file does not have one hash for each chunk")
    return FileEntry(name, media_type, size, ObjectId(digest), tuple(chunks))


def _is_media_type(text: str) -> bool:
    kind, slash, subtype = text.partition("/")
    plain = all(character.isalnum() or character in "+-.!#$&^_" for character in kind + subtype)
    return bool(kind and slash and subtype) and text.isascii() and plain and len(text) <= 127


def _number(document: Mapping[str, Any], key: str, least: int) -> int:
    value = document[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 62:
        raise Malformed(f"A package's {key} is not a number in range")
    return value


def _optional_hash(document: Mapping[str, Any], key: str) -> StatementId | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) != HASH_SIZE:
        raise Malformed(f"A package's {key} is not the id of a statement")
    return StatementId(RecordId(value))


def _sealed_tally(document: Mapping[str, Any]) -> bytes | None:
    value = document.get("sealed_tally")
    if value is not None and not (isinstance(value, bytes) and "sealed" in document and "tally" not in document):
        raise Malformed("A package has a sealed tally without being sealed, or beside a readable one")
    return value


def _read_flags(document: Mapping[str, Any]) -> tuple[str, ...]:
    flags = document.get("flags", [])
    if not isinstance(flags, list) or len(flags) > _MAX_FLAGS or not all(is_code(flag) for flag in flags):
        raise Malformed("A package's flags are not a short array of slugs")
    return tuple(flags)


def _read_reason(document: Mapping[str, Any]) -> str:
    reason = document.get("reason", "")
    if not isinstance(reason, str) or len(reason) > MAX_REASON or not reason.isprintable():
        raise Malformed(f"A package's reason is not a printable line of at most {MAX_REASON} characters")
    if reason and "supersedes" not in document:
        raise Malformed("A package gives a reason and corrects nothing")
    return reason
