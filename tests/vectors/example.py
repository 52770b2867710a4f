"""The worked example of docs/reference/formats.md: fixed keys, one statement, its receipt.

`python -m tests.vectors.example` prints every part; `tests/unit/test_worked_example.py` holds the bytes fast: they are
signed and logged by then, and must never change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.log.merkle import leaf_hash
from relay.log.tree import Frontier
from relay.records.identifiers import Kind, statement_id
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import Package, describe_file, read_statement, sign_statement
from relay.records.tally import Tally
from relay.trust.admission import Admission
from relay.trust.certificates import Request, issue, make_root, read_certificate
from relay.trust.roles import Role

_DAY = datetime(2024, 11, 27, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Example:
    """The parts, as bytes."""

    root: bytes
    certificate: bytes
    statement: bytes
    receiver: bytes
    receipt: bytes


def make_example() -> Example:
    """Make the example: Ed25519 is deterministic, so the bytes are always the same."""
    root_key, device_key, receiver_key = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
    root = make_root("example-2024", root_key, 1, _DAY)
    device = Request("pulau-long", device_key.public_key())
    certificate = issue(root, root_key, device, Role.OPERATOR, ["1906042003002"], 2, _DAY)
    receiver = issue(root, root_key, Request("receiver", receiver_key.public_key()), Role.RECEIVER, [], 3, _DAY)
    package = Package(
        election="example-2024",
        tps="1906042003002",
        form="C-HASIL-KWK-BUPATI",
        seq=1,
        previous=None,
        captured_at=1_732_698_000,
        files=(describe_file("form.txt", "text/plain", [b"330 valid, 10 invalid\n"], 22),),
        tally=Tally({"valid": 330, "invalid": 10}, {"1": 180, "2": 150}),
        flags=("incomplete",),
    )
    statement = sign_statement(package, read_certificate(certificate).uri, certificate, device_key)
    leaf = leaf_hash(statement)
    receipt = sign_receipt(
        "example-2024",
        statement_id(statement),
        leaf,
        Inclusion(1, 0, ()),
        Frontier().extend([leaf]).root(),
        read_certificate(receiver).uri,
        receiver,
        receiver_key,
    ).raw
    return Example(root, certificate, statement, receiver, receipt)


def main() -> None:
    """Print the example, and check it."""
    example = make_example()
    admission = Admission(example.root)
    admission.admit(Kind.STATEMENT, example.statement)
    admission.admit(Kind.RECEIPT, example.receipt)
    envelope = read_statement(example.statement).envelope
    assert envelope.payload is not None
    for name, part in (
        ("root certificate", example.root),
        ("device certificate", example.certificate),
        ("statement", example.statement),
        ("  protected header", envelope.protected),
        ("  payload", envelope.payload),
        ("  signature", envelope.signature),
        ("  id", statement_id(example.statement)),
        ("  leaf hash", leaf_hash(example.statement)),
        ("receiver certificate", example.receiver),
        ("receipt", example.receipt),
    ):
        print(f"{name} ({len(part)} bytes)\n  {part.hex()}")
    print("statement and receipt are admitted under the root")


if __name__ == "__main__":
    main()
