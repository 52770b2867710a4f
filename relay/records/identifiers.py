"""The names of things: hashes, codes and URIs, parsed once at the border and trusted inside.

Lives here: the types, their patterns and their text forms. Does not live here: who may use them.
URIs of an election (DESIGN §5, subjectAltNames and COSE claims):

    relay://<election>/node/<name>      a node          relay://<election>/role/<role>   what it may do
    relay://<election>/tps/<code>       a station       relay://<election>/authority     the election office
"""

from __future__ import annotations

import hashlib
import re
from enum import IntEnum
from typing import NewType

from relay.errors import Malformed
from relay.limits import MAX_NAME

RecordId = NewType("RecordId", bytes)
"""32 bytes that name a record in reconciliation."""
StatementId = NewType("StatementId", RecordId)
"""SHA-256 of a statement's bytes."""
ObjectId = NewType("ObjectId", bytes)
"""SHA-256 of an object's content."""
NodeId = NewType("NodeId", bytes)
"""SHA-256 of a node's public key (its DER SubjectPublicKeyInfo)."""

HASH_SIZE = 32
SHOWN_DIGITS = 16
"""Hexadecimal digits of an id that people see: they name it, too."""
DRILL_PREFIX = "drill-"
DRILL_FORM = "DRILL-DONE"
"""The form of the package by which a drill is reported; nobody fills it in."""

_CODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})")
_URI = re.compile(
    r"relay://(?P<election>[A-Za-z0-9._-]{1,63})/(?:(?P<kind>node|role|tps)/(?P<value>[A-Za-z0-9._-]{1,63})|authority)"
)


class Kind(IntEnum):
    """The kinds of record, in the order in which they change hands: what frees space and what rules, first."""

    NOTICE = 1
    CHECKPOINT = 2
    RECEIPT = 3
    STATEMENT = 4


def sha256(data: bytes) -> bytes:
    """The one hash function: SHA-256 (FIPS 180-4), 32 bytes."""
    return hashlib.sha256(data).digest()


def statement_id(raw: bytes) -> StatementId:
    """The id of a statement: the SHA-256 of its bytes."""
    return StatementId(RecordId(sha256(raw)))


def receipt_id(statement: RecordId) -> RecordId:
    """The id under which the receipt for a statement is reconciled.

    It follows from the statement's id, so that a node can ask for a receipt before it exists and two nodes that hold
    different valid receipts for one statement are in agreement.
    """
    return RecordId(sha256(b"relay receipt\x00" + statement))


def is_code(text: object) -> bool:
    """Whether `text` can be an election, a node name, a polling station or a form: 1 to 63 of `A-Za-z0-9._-`."""
    return isinstance(text, str) and _CODE.fullmatch(text) is not None


def is_file_name(text: object) -> bool:
    """Whether `text` is a plain printable file name, 1 to 255 bytes: no path, no control or formatting characters, and
    not hidden, since a receiver opens sealed packages into folders under the names that devices chose."""
    return (
        isinstance(text, str)
        and text.isprintable()
        and text == text.strip()
        and text != ""
        and not text.startswith(".")
        and not set(text) & {"/", "\\", ":"}
        and len(text.encode()) <= MAX_NAME
    )


def is_drill(election: str) -> bool:
    """Whether an election is for practice only. The election office makes no other with such a name."""
    return election.startswith(DRILL_PREFIX)


def parse_hash(text: str, what: str) -> bytes:
    """The 32 bytes that 64 hexadecimal digits name; `Malformed` otherwise. `what` names the input in the message."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise Malformed(f"{text[:80]!r} is no {what}", "Give its 64 hexadecimal digits, as `relay list` shows them.")
    return bytes.fromhex(text)


def node_uri(election: str, name: str) -> str:
    """The URI of a node, the issuer (`iss`) of what it signs."""
    return f"relay://{election}/node/{name}"


def role_uri(election: str, role: str) -> str:
    """The URI that a certificate carries for its role."""
    return f"relay://{election}/role/{role}"


def tps_uri(election: str, tps: str) -> str:
    """The URI that a certificate carries for each polling station its holder signs for."""
    return f"relay://{election}/tps/{tps}"


def authority_uri(election: str) -> str:
    """The URI of the election office, in its root certificate and as issuer of notices."""
    return f"relay://{election}/authority"


def parse_uri(uri: str) -> tuple[str, str, str]:
    """`(election, kind, value)` of a relay URI; kind is `node`, `role`, `tps` or `authority` (whose value is empty)."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise Malformed(f"{uri[:200]!r} is not a relay URI")
    return match["election"], match["kind"] or "authority", match["value"] or ""
