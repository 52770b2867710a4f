"""Promise 8: a stranger can check everything with public tools.

Here the stranger has `openssl`, `sha256sum`, another COSE library and the text of RFC 9162; none of relay's code. (The
whole way through the command line and the public site: tests/e2e.)
"""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey
from cwt.cose_key_interface import COSEKeyInterface

from relay.node.byhand import export_to
from tests import naive_tree
from tests.factory import Node
from tests.fleet import Fleet, Ship


def run(*command: str | Path) -> str:
    """Run a public tool; what it says. Skips where it is not installed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is missing: apt-get install coreutils openssl")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cose_key(node: Node) -> COSEKeyInterface:
    """A node's public key, for the other library."""
    pem = node.identity.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return COSEKey.from_pem(pem, alg="EdDSA")


async def delivered(fleet: Fleet, folder: Path) -> tuple[Ship, Ship]:
    """An island with three packages that were delivered, and its receiver; the island's export."""
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    for place in range(3):
        await island.submit(fleet.content(1_000), form=f"form-{place}")
    await island.visit(receiver)
    await export_to(island.custody, folder)
    return island, receiver


async def test_sha256sum_names_every_object(fleet: Fleet, tmp_path: Path) -> None:
    await delivered(fleet, tmp_path / "stick")
    objects = sorted((tmp_path / "stick" / "objects").iterdir())
    assert len(objects) == 3
    for line, file in zip(run("sha256sum", *objects).splitlines(), objects, strict=True):
        assert line.split()[0] == file.name


async def test_openssl_verifies_every_certificate_against_the_root(fleet: Fleet, tmp_path: Path) -> None:
    island, receiver = await delivered(fleet, tmp_path / "stick")
    (tmp_path / "root.der").write_bytes(fleet.election.root)
    run("openssl", "x509", "-inform", "DER", "-in", tmp_path / "root.der", "-out", tmp_path / "root.pem")
    for node in (island.node, receiver.node):
        (tmp_path / "node.der").write_bytes(node.identity.certificate)
        run("openssl", "x509", "-inform", "DER", "-in", tmp_path / "node.der", "-out", tmp_path / "node.pem")
        said = run("openssl", "verify", "-no_check_time", "-CAfile", tmp_path / "root.pem", tmp_path / "node.pem")
        assert "OK" in said


async def test_another_cose_library_reads_statements_and_receipts(fleet: Fleet, tmp_path: Path) -> None:
    """Statement, receipt and the receipt's proof, checked by the words of RFC 9052, RFC 9942 and RFC 9162."""
    island, receiver = await delivered(fleet, tmp_path / "stick")
    statements = sorted((tmp_path / "stick" / "statements").iterdir())
    receipts = tmp_path / "stick" / "receipts"
    assert len(statements) == len(list(receipts.iterdir())) == 3
    leaves: dict[int, bytes] = {}
    for file in statements:
        raw = file.read_bytes()
        protected, _, payload = COSE.new().decode_with_headers(raw, cose_key(island.node))
        assert protected[3] == "application/vnd.relay.package+cbor"
        assert protected[33] == island.node.identity.certificate
        package: dict[str, Any] = cbor2.loads(payload)
        assert protected[15][2] == f"{package['election']}/{package['tps']}/{package['form']}"
        for entry in package["files"]:
            content = (tmp_path / "stick" / "objects" / entry["sha256"].hex()).read_bytes()
            assert len(content) == entry["size"]
            assert [sha256(content).digest()] == entry["chunks"]
        receipt = (receipts / f"{sha256(raw).hexdigest()}.cose").read_bytes()
        size, index, path = cbor2.loads(cbor2.loads(receipt).value[1][396][-1][0])
        leaf = sha256(b"\x00" + raw).digest()
        leaves[index] = leaf
        root = walk(leaf, index, size, path)
        COSE.new().decode_with_headers(receipt, cose_key(receiver.node), detached_payload=root)
    assert sorted(leaves) == [0, 1, 2]
    tree = naive_tree.root([leaves[index] for index in range(3)])
    checkpoint = (receiver.folder / "public" / "checkpoint").read_text().split("\n")
    assert checkpoint[1] == "3"
    assert b64encode(tree).decode() == checkpoint[2]


def walk(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 §2.1.3.2, step by step."""
    position, last, root = index, size - 1, leaf
    for sibling in path:
        if position % 2 == 1 or position == last:
            root = sha256(b"\x01" + sibling + root).digest()
            while position % 2 == 0 and position != 0:
                position, last = position >> 1, last >> 1
        else:
            root = sha256(b"\x01" + root + sibling).digest()
        position, last = position >> 1, last >> 1
    assert last == 0
    return root
