"""Names: what may name a thing, and what may not come near a file system or a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import MAX_NAME
from relay.records.identifiers import (
    RecordId,
    authority_uri,
    is_code,
    is_file_name,
    node_uri,
    parse_hash,
    parse_uri,
    receipt_id,
    role_uri,
    sha256,
    statement_id,
    tps_uri,
)

UNSAFE = [
    "",
    ".",
    "..",
    ".hidden",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:evil.exe",
    "nul\x00",
    "line\nbreak",
    "\x1b[31mred",
    "\u202egpj.exe",  # right-to-left override
    "\u200b",  # zero width
    "\ud800",  # half a character
    "\ufeffbom",
    " leading",
    "trailing ",
    "no-break\u00a0",
]


@pytest.mark.parametrize("name", [*UNSAFE, "a" * (MAX_NAME + 1), "\u00e9" * 128, None, b"a.jpg", 7])
def test_unsafe_file_names(name: object) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("name", ["a", "C-Hasil KWK (1).jpg", "foto hasil.jpeg", "\u00e9" * 127, "\u6e2c.jpg"])
def test_plain_file_names(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize("code", [*UNSAFE, ".a", "-a", "_a", "a b", "a" * 64, "\u0661", "a\n", None, 1, b"a"])
def test_what_is_no_code(code: object) -> None:
    assert not is_code(code)


@given(st.text(max_size=70))
def test_a_code_is_safe_in_a_path_and_a_uri(text: str) -> None:
    if is_code(text):
        assert text.isascii()
        assert is_file_name(text)
        assert parse_uri(node_uri(text, text)) == (text, "node", text)
        assert parse_uri(role_uri(text, text)) == (text, "role", text)
        assert parse_uri(tps_uri(text, text)) == (text, "tps", text)
        assert parse_uri(authority_uri(text)) == (text, "authority", "")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "relay://e",
        "relay://e/",
        "relay://e/node",
        "relay://e/node/",
        "relay://e/node/a/b",
        "relay://e/boat/a",
        "relay://e/authority/x",
        "relay:///authority",
        "https://e/authority",
        "relay://e/authority\n",
        "relay://e f/authority",
        "relay://" + "e" * 64 + "/authority",
    ],
)
def test_what_is_no_uri(uri: str) -> None:
    with pytest.raises(Malformed):
        parse_uri(uri)


@given(st.binary(min_size=32, max_size=32))
def test_hashes_are_read_in_either_case(digest: bytes) -> None:
    assert parse_hash(digest.hex(), "object") == parse_hash(digest.hex().upper(), "object") == digest


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, " " + "0" * 63, "0" * 64 + "\n", "\u0660" * 64])
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(Malformed):
        parse_hash(text, "object")


def test_a_receipts_id_follows_from_the_statements_and_is_not_its() -> None:
    statement = statement_id(b"statement")
    assert statement == sha256(b"statement")
    assert receipt_id(statement) == sha256(b"relay receipt\x00" + sha256(b"statement"))
    assert receipt_id(statement) != receipt_id(RecordId(sha256(b"another")))
