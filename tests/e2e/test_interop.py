"""A stranger can check everything with public tools: sha256sum, openssl, an independent COSE library."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey

from tests.e2e.world import FORM, TPS, World, holds

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl: apt-get install openssl")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """A receiver that logged two packages, and its public address."""
    with World(tmp_path_factory.mktemp("interop")) as world:
        receiver = world.box("receiver", "receiver")
        receiver.start()
        island = world.box("island", "operator", tps=[TPS], receivers=[receiver])
        island.start()
        for number in range(2):
            island.submit(world.photo(100_000, f"{number}.jpg"), tps=TPS, form=FORM)
        holds(island, ("delivered", 0), ("delivered", 1))
        yield world, f"http://127.0.0.1:{world.public['receiver']}"


def get(url: str) -> bytes:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


def entries(site: str) -> list[bytes]:
    """The statements in the log, read as any C2SP client would."""
    size = int(get(f"{site}/checkpoint").split(b"\n")[1])
    bundle = get(f"{site}/tile/entries/000.p/{size}")
    found: list[bytes] = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return found


def cose_key(certificate: bytes) -> Any:
    """The key of a certificate for the independent library."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(key, Ed25519PublicKey)
    return COSEKey.from_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), alg="EdDSA")


def certificate_of(envelope: bytes) -> bytes:
    """The certificate in an envelope's protected header."""
    certificate: bytes = cbor2.loads(cbor2.loads(envelope).value[0])[33]
    return certificate


def merkle_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 §2.1.3.2, written anew."""
    last = size - 1
    for sibling in path:
        if index % 2 == 1 or index == last:
            leaf = hashlib.sha256(b"\x01" + sibling + leaf).digest()
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            leaf = hashlib.sha256(b"\x01" + leaf + sibling).digest()
        index, last = index // 2, last // 2
    assert last == 0
    return leaf


def test_an_independent_library_verifies_statements(site: tuple[World, str]) -> None:
    for statement in entries(site[1]):
        payload = COSE.new().decode(statement, keys=[cose_key(certificate_of(statement))])
        document = cbor2.loads(payload) if isinstance(payload, bytes) else payload
        assert document["tps"] == TPS


def test_an_independent_library_verifies_receipts(site: tuple[World, str]) -> None:
    for statement in entries(site[1]):
        receipt = get(f"{site[1]}/receipt/{hashlib.sha256(statement).hexdigest()}")
        protected, unprotected, payload, _ = cbor2.loads(receipt).value
        assert payload is None
        assert cbor2.loads(protected)[395] == 1
        size, index, path = cbor2.loads(unprotected[396][-1][0])
        root = merkle_root(hashlib.sha256(b"\x00" + statement).digest(), index, size, path)
        COSE.new().decode(receipt, keys=[cose_key(certificate_of(receipt))], detached_payload=root)
        with pytest.raises(Exception, match=r"verify|Failed"):
            COSE.new().decode(receipt, keys=[cose_key(certificate_of(receipt))], detached_payload=bytes(32))


def test_objects_are_named_by_their_hash(site: tuple[World, str]) -> None:
    address = site[1]
    for statement in entries(address):
        for file in cbor2.loads(cbor2.loads(statement).value[2])["files"]:
            name = file["sha256"].hex()
            assert hashlib.sha256(get(f"{address}/object/{name}")).hexdigest() == name


@needs_openssl
def test_openssl_reads_and_checks_every_certificate(site: tuple[World, str], tmp_path: Path) -> None:
    world, address = site
    statement = entries(address)[0]
    signer = tmp_path / "signer.pem"
    certificate = x509.load_der_x509_certificate(certificate_of(statement))
    signer.write_bytes(certificate.public_bytes(Encoding.PEM))
    files = [world.election.root, world.folder / "receiver" / "certificate.pem", signer]
    for file in files:
        text = subprocess.run(
            ["openssl", "x509", "-in", file, "-text", "-noout"], capture_output=True, text=True, check=True
        ).stdout
        assert "ED25519" in text
        assert "URI:relay://e2e-2024/" in text
    subprocess.run(
        ["openssl", "verify", "-no_check_time", "-CAfile", world.election.root, signer], check=True, capture_output=True
    )
