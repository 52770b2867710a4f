"""A published log in a folder, made of real keys and signatures, and its receiver that can be made to lie.

Its tiles are what the receiver's `Tail` grows; `tests/unit/test_log_edge.py` and `test_publishing.py` hold those
against a naive tree.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.growth import Tail
from relay.log.merkle import leaf_hash
from relay.log.tiles import ENTRIES, WIDTH, TileId, decode_entries, encode_entries
from relay.receiver.publishing import NOTICES
from relay.records.identifiers import statement_id
from relay.records.notice import Body, Receiver, Receivers, sign_notice
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import FileEntry
from relay.trust.admission import Admitted
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from relay.trust.witness import log_key
from tests.factory import ELECTION, Election, Node, make_election, make_file, make_node, make_statement


@dataclass
class Published:
    """A receiver's public folder, and everything that is needed to write more of it."""

    folder: Path
    election: Election
    receiver: Node
    device: Node
    notices: list[bytes] = field(default_factory=list)
    raws: list[bytes] = field(default_factory=list)
    tail: Tail = field(default_factory=Tail)

    @property
    def root(self) -> bytes:
        """The root of the log."""
        return self.tail.edge.root()

    @classmethod
    def make(cls, folder: Path, seed: int = 7) -> Published:
        """A log without entries, of a new election."""
        election = make_election(seed)
        log = cls(folder, election, make_node(election, "receiver", Role.RECEIVER), make_node(election, "pulau"))
        entry = Receiver("receiver", ("https://receiver.example:8470",), log.receiver.identity.certificate)
        log.announce(Receivers((entry,)))
        log.publish([])
        return log

    @property
    def url(self) -> str:
        """Where an auditor finds it."""
        return self.folder.as_uri()

    @property
    def root_file(self) -> Path:
        """The election's root certificate, as a PEM file beside the folder."""
        from relay.trust.enrolment import pem_block

        path = self.folder.with_name("root.pem")
        path.write_text(pem_block("CERTIFICATE", self.election.root))
        return path

    def announce(self, body: Body, version: int = 1) -> None:
        """Publish a notice of the election office."""
        self.notices.append(sign_notice(ELECTION, 0, version, body, self.election.root, self.election.root_key))
        self.put(NOTICES, write_enrolment(Enrolment(None, None, tuple(self.notices))))

    def say(self, *contents: bytes, device: Node | None = None) -> Admitted:
        """A device's next statement; its objects are published."""
        files: list[FileEntry] = []
        for number, content in enumerate(contents):
            entry = make_file(content, f"{number}.jpg")
            files.append(entry)
            self.put(f"object/{entry.sha256.hex()}", content)
        return make_statement(self.election, device or self.device, *files)

    def publish(self, raws: Sequence[bytes]) -> None:
        """Append entries: one batch, as the receiver does it."""
        self.raws = [*self.raws, *raws]
        growth = self.tail.grow(raws)
        self.tail = growth.tail
        for tile, content in growth.tiles:
            self.put(tile.path, content)
        size, root = self.tail.edge.size, self.tail.edge.root()
        self.sign(size, root)
        for index, (raw, path) in enumerate(zip(raws, growth.proofs(), strict=True), growth.first):
            self.put_receipt(raw, leaf_hash(raw), Inclusion(size, index, path), root)

    def put_receipt(self, raw: bytes, leaf: bytes, proof: Inclusion, root: bytes) -> None:
        """Sign and publish a receipt."""
        name = statement_id(raw)
        identity = self.receiver.identity
        receipt = sign_receipt(ELECTION, name, leaf, proof, root, identity.uri, identity.certificate, self.receiver.key)
        self.put(f"receipt/{name.hex()}", receipt.raw)

    def sign(self, size: int, root: bytes, by: Node | None = None) -> None:
        """Publish a checkpoint."""
        node = by or self.receiver
        key = log_key(node.identity)
        self.put(
            "checkpoint", sign_checkpoint(Checkpoint(f"{ELECTION}/{node.identity.name}", size, root), key, node.key)
        )

    def put(self, path: str, content: bytes) -> None:
        """Write one file of the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def alter(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change one file of the folder."""
        self.put(path, change((self.folder / path).read_bytes()))

    def alter_bundle(self, index: int, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Change the entries of one bundle."""
        width = min(WIDTH, len(self.raws) - index * WIDTH)
        path = TileId(ENTRIES, index, width).path
        self.alter(path, lambda bundle: encode_entries(change(decode_entries(bundle))))

    def rewrite(self, raws: Sequence[bytes]) -> None:
        """Show another log altogether, rightly signed: tiles, checkpoint, receipts."""
        self.raws, self.tail = [], Tail()
        for path in (self.folder / "tile").rglob("*"):
            if path.is_file():
                path.unlink()
        self.publish(raws)


def flipped(content: bytes, at: int = -1) -> bytes:
    """Content with one bit changed."""
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@asynccontextmanager
async def web_server(folder: Path, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A plain web server over a folder; its URL."""
    app = web.Application()
    app.router.add_static("/log", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/log"
    finally:
        await runner.cleanup()
