"""Strangers get nothing in and nothing out: no certificate, a forged one, a revoked one, somebody else's station."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.errors import Refused, Unreachable
from relay.net.client import HttpPeer
from relay.node.home import Home
from relay.records.identifiers import Kind
from relay.records.statement import Package, describe_file, sign_statement
from relay.sync.messages import Greeting
from relay.trust.certificates import issue, make_request, make_root, read_request
from relay.trust.roles import Role
from tests.boxes import NodeBox
from tests.e2e.visitors import as_node
from tests.e2e.world import FORM, OTHER_TPS, TPS, World, holds
from tests.processes import eventually

QUESTION = b"POST /sync/v1/wants HTTP/1.1\r\nHost: relay\r\nContent-Length: 1\r\nConnection: close\r\n\r\n\x40"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def stations(box: NodeBox) -> set[str]:
    """The polling stations of which a box lists packages."""
    return {bundle["tps"] for bundle in box.list()}


def answer_to(context: ssl.SSLContext | None, port: int) -> bytes:
    """Everything that a node says, above TLS, to somebody who asks what it wants."""
    said = b""
    with (
        suppress(ConnectionError, ssl.SSLError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        closing(context.wrap_socket(plain) if context else plain) as connection,
    ):
        connection.sendall(QUESTION)
        while data := connection.recv(65_536):
            said += data
    return said


def visitor(identity: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A TLS client that believes everybody, with this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(*identity)
    return context


def forged_identity(folder: Path, genuine: Path) -> tuple[Path, Path]:
    """Certificate and key of a node that says of itself all that a genuine one says, under a root of the same name."""
    election = x509.load_pem_x509_certificate(genuine.read_bytes()).subject.get_attributes_for_oid(
        x509.NameOID.ORGANIZATION_NAME
    )
    root_key, key, now = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = str(election[0].value)
    root = make_root(name, root_key, 7, now)
    certificate = issue(root, root_key, read_request(make_request("boat", key)), Role.CARRIER, (), 8, now)
    folder.mkdir()
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "certificate.pem", folder / "key.pem"


def test_a_visitor_without_a_good_certificate_hears_nothing_but_the_handshake(world: World) -> None:
    island, boat = world.box("island", "operator", tps=[TPS]), world.box("boat", "carrier")
    island.submit(world.photo(50_000), tps=TPS, form=FORM)
    island.start()
    port = world.ports["island"]
    forged = forged_identity(world.folder / "forged", boat.home / "certificate.pem")
    old = visitor((boat.home / "certificate.pem", boat.home / "key.pem"))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2

    genuine = visitor((boat.home / "certificate.pem", boat.home / "key.pem"))
    assert answer_to(genuine, port).startswith(b"HTTP/1.1 200"), "the question is a good one"
    for stranger in (None, visitor(), visitor(forged), old):
        assert answer_to(stranger, port) == b""
    island.relay("status")
    assert island.stop() == 0


@dataclass
class Impostor:
    """Somebody who listens where a node is expected, and notes what he hears above TLS."""

    identity: tuple[Path, Path]
    heard: list[bytes] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*self.identity)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._answer, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                with suppress(OSError), plain:
                    plain.settimeout(5)
                    with self._context.wrap_socket(plain, server_side=True) as connection:
                        self.heard.append(connection.recv(65_536))
                self.calls += 1


def test_a_node_says_nothing_to_an_impostor_at_a_known_address(world: World) -> None:
    office = world.election.root
    with closing(Impostor(forged_identity(world.folder / "forged", office))) as impostor:
        island = world.box("island", "operator", tps=[TPS], peers=[impostor.port])
        island.submit(world.photo(50_000), tps=TPS, form=FORM)
        island.start()
        eventually(lambda: impostor.calls >= 2, 30, "the island calls, and calls again")
        island.stop()
        assert b"".join(impostor.heard) == b""
        assert island.status()["peers"] == []


def test_a_revoked_node_gets_nothing_in_and_nothing_out(world: World) -> None:
    island = world.box("island", "operator", tps=[TPS])
    thief = world.box("thief", "operator", tps=[OTHER_TPS])
    boat = world.box("boat", "carrier", peers=[world.ports["island"], world.ports["thief"]])
    thief.submit(world.photo(3_000_000), tps=OTHER_TPS, form=FORM)  # fetched over several connections, which stay open
    more = forge(thief, OTHER_TPS, b"more")
    for box in (island, thief, boat):
        box.start()
    holds(island, ("waiting", None))
    holds(boat, ("waiting", None))

    # News of both comes to the boat at once, while its contact with the thief is open.
    island.stop()
    island.import_(world.election.revoke("thief", "stolen"))
    holds(island)
    island.submit(world.photo(50_000, "new.jpg"), tps=TPS, form=FORM)
    island.start()
    eventually(lambda: stations(boat) == {TPS}, 30, "the boat heard of both")
    assert boat.status()["revoked"] == ["thief"]
    for box in (island, boat):
        with pytest.raises((Refused, Unreachable)):
            asyncio.run(push(thief, world.ports[box.home.name], [more]))

    def left_alone() -> bool:
        return not any(peer["connected"] for peer in boat.status()["peers"] if peer["node"] == "thief")

    eventually(left_alone, 30, "the boat found that the thief is not to be visited")
    assert stations(island) == stations(boat) == {TPS}
    assert TPS not in stations(thief)


async def test_a_revocation_ends_what_was_opened_before_it(world: World) -> None:
    island, thief = world.box("island", "operator", tps=[TPS]), world.box("thief", "carrier")
    island.submit(world.photo(50_000), tps=TPS, form=FORM)
    island.start()
    context, greeting = as_node(thief)
    async with HttpPeer(f"https://127.0.0.1:{world.ports['island']}", context) as peer:
        await peer.hello(Greeting(greeting))
        assert await peer.news(-1, 0.0) >= 0
        revocation = world.election.revoke("thief", "stolen")
        await asyncio.to_thread(island.import_, revocation)
        with pytest.raises(Refused) as refusal:
            async with asyncio.timeout(30):
                while True:  # the daemon takes a moment to see what a command changed
                    await peer.news(1 << 32, 0.1)
        assert refusal.value.reason == "revoked"


def test_a_statement_for_a_station_that_is_not_the_signers_is_refused_by_every_node(world: World) -> None:
    forger = world.box("forger", "operator", tps=[OTHER_TPS])
    carrier = world.box("carrier", "carrier")
    boxes = [world.box("island", "operator", tps=[TPS]), world.box("boat", "carrier"), world.box("rx", "receiver")]
    photo = b"not what was counted" * 1000
    forged = {tps: forge(forger, tps, photo) for tps in (TPS, "9999999999999")}
    honest = forge(forger, OTHER_TPS, photo)
    for box in boxes:
        box.start()
        outcomes = asyncio.run(push(carrier, world.ports[box.home.name], [*forged.values(), honest]))
        assert outcomes == ["foreign-tps", "foreign-tps", "new"], "the same signer's honest statement is taken"
        assert stations(box) == {OTHER_TPS}

    stick = world.folder / "stick"
    (stick / "statements").mkdir(parents=True)
    for tps, raw in forged.items():
        (stick / "statements" / f"{tps}.cose").write_bytes(raw)
    for box in (carrier, *boxes):
        done = box.relay("import", stick, check=False)
        assert done.status == 1
        for tps in forged:
            assert f"{tps}.cose: forger signed for polling station {tps}" in done.stderr
        assert stations(box) <= {OTHER_TPS}
    assert [box.stop() for box in boxes] == [0, 0, 0]


def forge(signer: NodeBox, tps: str, photo: bytes) -> bytes:
    """A statement of this node for any polling station, signed with its own key."""
    member = Home(signer.home).member()
    entry = describe_file("form.jpg", "image/jpeg", [photo], len(photo))
    package = Package(
        election=member.identity.election, tps=tps, form=FORM, seq=1, previous=None, captured_at=0, files=(entry,)
    )
    return sign_statement(package, member.identity.uri, member.identity.certificate, member.key)


async def push(carrier: NodeBox, port: int, statements: Sequence[bytes]) -> list[str]:
    """Hand statements to a node as an enrolled carrier does; what it said to each."""
    context, greeting = as_node(carrier)
    async with HttpPeer(f"https://127.0.0.1:{port}", context) as peer:
        await peer.hello(Greeting(greeting))
        return (await peer.put_records([(Kind.STATEMENT, raw) for raw in statements])).outcomes
