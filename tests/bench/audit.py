"""How fast a published log is audited: `python -m tests.bench.audit --entries 100000`.

Two logs are made and audited from a folder: one of a million entries that say nothing, for the tree alone, and one of
real statements (a tally, a signature, four of each device), for the tree, for every signature, and once more when
nothing is new. Making the second takes a while: it is signed first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.edge import Edge
from relay.log.merkle import leaf_hash
from relay.log.tiles import ENTRIES, WIDTH, TileId, encode_entries
from relay.net.source import open_source
from relay.receiver.auditing import Audit, Scope, read_checkpoint
from relay.receiver.ledger import Ledger
from relay.records.identifiers import Kind, StatementId, statement_id
from relay.records.notice import Receiver, Receivers, sign_notice
from relay.records.statement import Package, sign_statement
from relay.records.tally import Tally
from relay.trust.admission import Admission
from relay.trust.roles import Role
from relay.trust.witness import log_key
from tests.factory import ELECTION, Node, make_election, make_node

_PER_DEVICE = 4


def _bundles(devices: int, seed: int) -> list[bytes]:
    """The statements of so many devices, in bundles."""
    election = make_election()
    election.dice = random.Random(seed)
    raws: list[bytes] = []
    nodes = [make_node(election, f"device-{seed}-{number}") for number in range(devices)]
    previous: dict[str, StatementId] = {}
    for seq in range(1, _PER_DEVICE + 1):
        for node in nodes:
            raw = _statement(node, seq, previous.get(node.identity.name))
            previous[node.identity.name] = statement_id(raw)
            raws.append(raw)
    return [encode_entries(raws[at : at + WIDTH]) for at in range(0, len(raws), WIDTH)]


def _statement(node: Node, seq: int, previous: StatementId | None) -> bytes:
    tally = Tally({"voters": 480, "ballots_used": 420, "valid": 410, "invalid": 10})
    package = Package(ELECTION, "tps-1", "form-1", seq, previous, 1_700_000_000, (), tally)
    return sign_statement(package, node.identity.uri, node.identity.certificate, node.key)


def _noise(entries: int) -> Iterator[bytes]:
    """Full bundles of entries that say nothing, each as long as a statement: for the tree alone."""
    dice = random.Random(1)
    for _ in range(-(-entries // WIDTH)):
        yield encode_entries([dice.randbytes(805) for _ in range(WIDTH)])


def _made(entries: int) -> Iterator[bytes]:
    """Full bundles of a log of about so many entries."""
    devices = 16 * WIDTH // _PER_DEVICE
    with ProcessPoolExecutor() as pool:
        tasks = [pool.submit(_bundles, devices, seed) for seed in range(-(-entries // (16 * WIDTH)))]
        for task in tasks:
            yield from task.result()


def publish(folder: Path, bundles: Iterable[bytes]) -> tuple[Node, int]:
    """Write a log of these bundles; its receiver, and how many entries there are."""
    election = make_election()
    receiver = make_node(election, "receiver", Role.RECEIVER)
    edge = Edge()
    for bundle in bundles:
        _put(folder, TileId(ENTRIES, edge.size // WIDTH), bundle)
        edge = _extend(folder, edge, bundle)
    for tile, content in edge.partial():
        _put(folder, tile, content)
    _sign(folder, receiver, edge)
    return receiver, edge.size


def _extend(folder: Path, edge: Edge, bundle: bytes) -> Edge:
    leaves, at = [], 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at : at + 2])
        leaves.append(leaf_hash(bundle[at + 2 : at + 2 + length]))
        at += 2 + length
    edge, full = edge.extend(b"".join(leaves))
    for tile, content in full:
        _put(folder, tile, content)
    return edge


def _sign(folder: Path, receiver: Node, edge: Edge) -> None:
    checkpoint = Checkpoint(f"{ELECTION}/receiver", edge.size, edge.root())
    (folder / "checkpoint").write_bytes(sign_checkpoint(checkpoint, log_key(receiver.identity), receiver.key))


def _put(folder: Path, tile: TileId, content: bytes) -> None:
    path = folder / tile.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def measure(folder: Path, receiver: Node, scope: Scope, state: Path | None) -> tuple[int, float]:
    """Entries that an audit checked, and its seconds."""
    election = make_election()
    admission = Admission(election.root)
    body = Receivers((Receiver("receiver", ("https://receiver:8470",), receiver.identity.certificate),))
    raw = sign_notice(ELECTION, 0, 1, body, election.root, election.root_key)
    admission.install(admission.admit(Kind.NOTICE, raw))
    began = time.perf_counter()
    async with open_source(folder.as_uri()) as source:
        signed = await read_checkpoint(source, admission)
        ledger = Ledger(state, election.root, signed.checkpoint.origin)
        try:
            report = await Audit(source, admission, signed, ledger, scope, lambda *_: None).run()
        finally:
            ledger.close()
    return report.entries, time.perf_counter() - began


def verify_rate() -> float:
    """Ed25519 verifications a second on one processor: no audit of all signatures on n of them is faster than n times
    this."""
    key = Ed25519PrivateKey.generate()
    public, signature, message = key.public_key(), key.sign(bytes(800)), bytes(800)
    began, count = time.perf_counter(), 5_000
    for _ in range(count):
        public.verify(signature, message)
    return count / (time.perf_counter() - began)


def main() -> None:
    """Make a log, audit it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--tree", type=int, default=1_000_000, help="entries of the log whose tree alone is checked")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    jobs: int = arguments.jobs
    print(f"{verify_rate():,.0f} Ed25519 verifications/s on one processor; {jobs} processes")
    tree, whole = Scope(signatures=False), Scope(receipts=False, objects=False, jobs=jobs)
    with tempfile.TemporaryDirectory() as name:
        print(f"a log of {arguments.tree:,} entries, the tree alone")
        _measure_all(Path(name), _noise(arguments.tree), [("hashes only", tree)])
    with tempfile.TemporaryDirectory() as name:
        print(f"a log of {arguments.entries:,} entries by {arguments.entries // _PER_DEVICE:,} devices")
        scopes = [("hashes only", tree), ("every signature", whole), ("again, nothing new", whole)]
        _measure_all(Path(name), _made(arguments.entries), scopes)


def _measure_all(folder: Path, bundles: Iterable[bytes], scopes: Sequence[tuple[str, Scope]]) -> None:
    log = folder / "log"
    log.mkdir()
    receiver, _ = publish(log, bundles)
    for what, scope in scopes:
        state = folder / "audit.state" if scope.signatures else None
        entries, seconds = asyncio.run(measure(log, receiver, scope, state))
        print(f"  {what:20} {entries:>9,} entries {seconds:8.2f} s {entries / seconds:>10,.0f}/s", flush=True)


if __name__ == "__main__":
    main()
