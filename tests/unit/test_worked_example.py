"""The worked example stays what it is, to the byte: statements that were signed must be readable for ever."""

from __future__ import annotations

from hashlib import sha256

from relay.records.identifiers import Kind
from relay.trust.admission import Admission
from tests.vectors.example import make_example


def test_the_signed_formats_have_not_changed() -> None:
    example = make_example()
    digests = [sha256(part).hexdigest() for part in (example.root, example.statement, example.receipt)]
    assert digests == [
        "989e37195f9e095f53eee0f755dd047fae23a3dd0a74e81b038e7897867396d1",
        "f262cc358d001a7717b71764dcbb50826846e914877780897e3d50c1469eb4ff",
        "2b0eece229394fa72cec4e8937427774eef165d9103158435a0dc6c6a7559ee7",
    ]


def test_the_example_is_admitted() -> None:
    example = make_example()
    admission = Admission(example.root)
    assert admission.admit(Kind.STATEMENT, example.statement).body
    assert admission.admit(Kind.RECEIPT, example.receipt).body
