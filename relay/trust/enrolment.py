"""The enrolment file: certificate, root and notices in one PEM text (RFC 7468). Pure.

What `relay authority enrol` and `revoke` write, and `relay join` and `relay import` read. The first certificate is the
node's, the second the election's root; a revocation file has notices only. Nothing in the file is secret, and every
part is signed: whoever carries it cannot alter it unseen.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.errors import BadInput
from relay.limits import MAX_ENROLMENT

_CERTIFICATE = "CERTIFICATE"
_NOTICE = "RELAY NOTICE"
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z ]{1,40})-----\r?\n(?P<body>[A-Za-z0-9+/=\r\n]*)-----END (?P=label)-----(?:\r?\n|\Z)"
)
_ROOM = re.compile(rb"\s*")
_ADVICE = "Copy the enrolment file again from the election office; nothing was changed."


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the file holds: DER certificates (None in a file of notices only) and notices' bytes."""

    certificate: bytes | None
    root: bytes | None
    notices: tuple[bytes, ...]


def write_enrolment(enrolment: Enrolment) -> bytes:
    """The PEM text of an enrolment."""
    blocks = [pem_block(_CERTIFICATE, der) for der in (enrolment.certificate, enrolment.root) if der is not None]
    return b"".join(block.encode() for block in (*blocks, *(pem_block(_NOTICE, raw) for raw in enrolment.notices)))


def read_enrolment(text: bytes) -> Enrolment:
    """Parse the PEM text; what it holds is not believed yet. Raises `BadInput` for anything damaged."""
    if len(text) > MAX_ENROLMENT:
        raise BadInput(
            f"The file is over {MAX_ENROLMENT} bytes, more than the largest register takes",
            "Give the file that the election office wrote; nothing was changed.",
        )
    certificates: list[bytes] = []
    notices: list[bytes] = []
    for label, content in _blocks(text):
        if label == _CERTIFICATE:
            certificates.append(content)
        elif label == _NOTICE:
            notices.append(content)
        else:
            raise BadInput(f"The enrolment has an unexpected part ({label})", _ADVICE)
    if len(certificates) not in (0, 2) or not (certificates or notices):
        raise BadInput("The enrolment is not complete", _ADVICE)
    certificate, root = certificates or (None, None)
    return Enrolment(certificate, root, tuple(notices))


def read_pem_block(text: bytes, label: str) -> bytes:
    """The content of a PEM text with one block of this label. Raises `BadInput`."""
    blocks = list(_blocks(text))
    if len(blocks) != 1 or blocks[0][0] != label:
        raise BadInput(f"The file is not a {label.lower()}", "Give the file that relay wrote.")
    return blocks[0][1]


def pem_block(label: str, content: bytes) -> str:
    """One PEM block with lines of 64 characters."""
    encoded = base64.b64encode(content).decode()
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _blocks(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The blocks one by one: a large text is never copied as a whole."""
    if not text.isascii():
        raise BadInput("The enrolment is not a PEM text", _ADVICE)
    at, end = _skip_room(text, 0), len(text)
    while at < end:
        match = _BLOCK.match(text, at)
        if match is None:
            raise BadInput("The enrolment is damaged or incomplete", _ADVICE)
        try:
            content = base64.b64decode(match["body"].translate(None, b"\r\n"), validate=True)
        except binascii.Error as error:
            raise BadInput("The enrolment is damaged", _ADVICE) from error
        yield match["label"].decode(), content
        at = match.end()
        if (rest := _skip_room(text, at)) == end:
            at = rest


def _skip_room(text: bytes, at: int) -> int:
    room = _ROOM.match(text, at)
    return room.end() if room else at
