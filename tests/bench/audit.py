"""How fast a published log is audited: `python -m tests.bench.audit [--entries 100000] [--tree 1000000] [--brief]`.

Two logs are made and audited from a folder, as `relay audit` does it, on all processors:

    tree      entries that say nothing, for the log itself: `relay audit --hashes-only`. That noise has no signatures,
              no receipts and no objects changes nothing there: they are not looked at
    signed    real statements by devices that sign four each, with receipts, some with an object: `relay audit` as it
              is by default (signatures, receipts, objects), without receipts and objects, hashes only, and by default
              once more when nothing is new

Each line says whether it reaches 20,000 entries a second, and how much processor time an entry took in all processes,
which is the figure to trust on a machine that does other work as well. Beside it stands the bound: what the signatures
of an entry take to verify, measured just before, and how many times that the entry took. Making the second log takes a
while: it is signed first. `--brief` makes small ones, of which starting processes is a large part.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.growth import Growth, Tail
from relay.log.tiles import WIDTH
from relay.net.source import open_source
from relay.receiver.auditing import Audit, Scope, read_checkpoint
from relay.receiver.ledger import Ledger
from relay.records.identifiers import Kind, StatementId, statement_id
from relay.records.notice import Receiver, Receivers, sign_notice
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import Package, sign_statement
from relay.records.tally import Tally
from relay.trust.admission import Admission
from relay.trust.roles import Role
from relay.trust.verifying import QuickKey, libsodium
from relay.trust.witness import log_key
from tests.bench.cost import verification
from tests.factory import ELECTION, Node, make_election, make_file, make_node

ENOUGH = 20_000
"""Entries a second."""
_PER_DEVICE = 4
_AT_ONCE = 16 * WIDTH
_AHEAD = 4
"""So many times that many are signed ahead of what is written."""
_OBJECTS, _OBJECT = 64, 64 * 1024
"""One in so many statements has an object, of so many bytes: what real photographs cost is reading and hashing them."""

Some = tuple[list[bytes], list[bytes]]
"""Statements, and the objects of some."""


def _signed(seed: int) -> Some:
    """Statements of some devices."""
    election = make_election()
    election.dice = random.Random(seed)
    raws: list[bytes] = []
    objects: list[bytes] = []
    nodes = [make_node(election, f"device-{seed}-{number}") for number in range(_AT_ONCE // _PER_DEVICE)]
    previous: dict[str, StatementId] = {}
    for seq in range(1, _PER_DEVICE + 1):
        for node in nodes:
            content = [] if len(raws) % _OBJECTS else [election.dice.randbytes(_OBJECT)]
            raw = _statement(node, seq, previous.get(node.identity.name), content)
            previous[node.identity.name] = statement_id(raw)
            raws.append(raw)
            objects += content
    return raws, objects


def _statement(node: Node, seq: int, previous: StatementId | None, content: Sequence[bytes]) -> bytes:
    tally = Tally({"voters": 480, "ballots_used": 420, "valid": 410, "invalid": 10})
    files = tuple(map(make_file, content))
    package = Package(ELECTION, "tps-1", "form-1", seq, previous, 1_700_000_000, files, tally)
    return sign_statement(package, node.identity.uri, node.identity.certificate, node.key)


def noise(entries: int) -> Iterator[Some]:
    """Entries that say nothing, each as long as a statement: for the tree alone."""
    dice = random.Random(1)
    for at in range(0, entries, _AT_ONCE):
        yield [dice.randbytes(805) for _ in range(min(_AT_ONCE, entries - at))], []


def signed(entries: int) -> Iterator[Some]:
    """So many real statements, or some more."""
    seeds = iter(range(-(-entries // _AT_ONCE)))
    with ProcessPoolExecutor() as pool:
        tasks = deque(pool.submit(_signed, seed) for seed in islice(seeds, _AHEAD))
        while tasks:
            yield tasks.popleft().result()
            tasks.extend(pool.submit(_signed, seed) for seed in islice(seeds, 1))


def publish(folder: Path, log: Iterator[Some], *, receipts: bool) -> Node:
    """Write a log, and the receipts and objects of its entries; its receiver."""
    election = make_election()
    receiver = make_node(election, "receiver", Role.RECEIVER)
    tail = Tail()
    for raws, objects in log:
        growth = tail.grow(raws)
        tail = growth.tail
        for tile, content in growth.tiles:
            _put(folder / tile.path, content)
        for content in objects:
            _put(folder / "object" / make_file(content).sha256.hex(), content)
        if receipts:
            _put_receipts(folder, receiver, growth, raws)
    checkpoint = Checkpoint(f"{ELECTION}/receiver", tail.edge.size, tail.edge.root())
    _put(folder / "checkpoint", sign_checkpoint(checkpoint, log_key(receiver.identity), receiver.key))
    return receiver


def _put_receipts(folder: Path, receiver: Node, growth: Growth, raws: Sequence[bytes]) -> None:
    size, root, identity = growth.tail.edge.size, growth.tail.edge.root(), receiver.identity
    for place, (raw, proof) in enumerate(zip(raws, growth.proofs(), strict=True)):
        name, inclusion = statement_id(raw), Inclusion(size, growth.first + place, proof)
        signer = identity.uri, identity.certificate, receiver.key
        receipt = sign_receipt(ELECTION, name, growth.leaves[place], inclusion, root, *signer).raw
        _put(folder / "receipt" / name.hex(), receipt)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def processor() -> float:
    """Seconds of processor time that this process took, and those it started: the ones that end are waited for."""
    for child in active_children():
        child.join()
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


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
            report = await Audit(source, admission, signed, ledger, scope, lambda *_: None, time.time).run()
        finally:
            ledger.close()
    return report.entries, time.perf_counter() - began


def signatures(scope: Scope) -> float:
    """How many are verified for an entry: its own, its receipt's, and its share of its device's certificate."""
    return scope.signatures * (1 + scope.receipts + 1 / _PER_DEVICE)


def main() -> None:
    """Make the logs, audit them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000, help="of the signed log")
    parser.add_argument("--tree", type=int, default=1_000_000, help="entries of the log whose tree alone is checked")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--brief", action="store_true", help="8,192 and 100,000 entries")
    arguments = parser.parse_args()
    if arguments.brief:
        arguments.entries, arguments.tree = 2 * _AT_ONCE, 100_000
    jobs: int = arguments.jobs
    library = "libsodium" if libsodium() else "OpenSSL"
    print(f"{1 / verification(QuickKey):,.0f} Ed25519 verifications/s by {library} on one processor; {jobs} processes")
    tree = ("hashes only", Scope(signatures=False))
    default, fewer = Scope(jobs=jobs), Scope(receipts=False, objects=False, jobs=jobs)
    print(f"a log of {arguments.tree:,} entries of noise")
    reached = [_measure_all(lambda: noise(arguments.tree), [tree], receipts=False)]
    print(f"a log of {arguments.entries:,} signed entries, a receipt for each and an object for one in {_OBJECTS}")
    scopes = [("default", default), ("default, nothing new", default), ("no receipts, objects", fewer), tree]
    reached.append(_measure_all(lambda: signed(arguments.entries), scopes, receipts=True))
    raise SystemExit(0 if all(reached) else 1)


def _measure_all(log: Callable[[], Iterator[Some]], scopes: Sequence[tuple[str, Scope]], *, receipts: bool) -> bool:
    """Whether the tree alone is checked fast enough."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-audit-") as name:
        folder = Path(name, "log")
        receiver = publish(folder, log(), receipts=receipts)
        reached = True
        for what, scope in scopes:
            # Each scope remembers what it checked: the same one again finds little to do.
            state = Path(name, f"{scope.receipts}.state") if scope.signatures else None
            bound, began = signatures(scope) * verification(QuickKey), processor()
            entries, seconds = asyncio.run(measure(folder, receiver, scope, state))
            told = ""
            if entries > WIDTH:
                enough = entries / seconds >= ENOUGH
                told = f"{entries / seconds:>10,.0f}/s, {'reaches' if enough else 'less than'} {ENOUGH:,}/s"
                taken = (processor() - began) / entries
                told += f"; {taken * 1e6:.1f} us of processor time each"
                told += f", {taken / bound:.2f} times the {bound * 1e6:.0f} us of its signatures" if bound else ""
                reached = reached and (enough or scope.signatures)
            print(f"  {what:20} {entries:>9,} entries {seconds:8.2f} s {told}", flush=True)
        return reached


if __name__ == "__main__":
    main()
