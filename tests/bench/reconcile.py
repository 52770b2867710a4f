"""What a reconciliation costs: bytes both ways, round trips, CPU of each side. Prints one row per pair of sets.

python -m tests.bench.reconcile
python -m tests.bench.reconcile --records 100000 --new 0 10 1000
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from relay.store.recordset import RecordSet
from relay.sync.reconcile import Initiator, respond


@dataclass(frozen=True, slots=True)
class Cost:
    """What one reconciliation took. `asking` and `answering` are seconds of CPU."""

    sent: int
    received: int
    rounds: int
    asking: float
    answering: float
    found: int
    complete: bool


def records(start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Reproducible items, three statements to each receipt."""
    for number in range(start, stop):
        yield (4 if number % 4 else 3), sha256(b"relay bench %d" % number).digest()


def measure(ours: RecordSet, theirs: RecordSet) -> Cost:
    """Reconcile `ours` with `theirs` and count."""
    sent = received = 0
    answering = 0.0
    began = time.process_time()
    initiator = Initiator(ours)
    message: bytes | None = initiator.start()
    while message is not None:
        sent += len(message)
        before = time.process_time()
        reply = respond(theirs, message)
        answering += time.process_time() - before
        received += len(reply)
        message = initiator.step(reply)
    asking = time.process_time() - began - answering
    found = len(initiator.have) + len(initiator.need)
    return Cost(sent, received, initiator.rounds, asking, answering, found, initiator.complete)


def main() -> None:
    """Build the sets, reconcile, print."""
    parser = argparse.ArgumentParser(description="Cost of set reconciliation between two nodes.")
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 1_000_000], help="records both hold")
    parser.add_argument("--new", type=int, nargs="+", default=[0, 10, 1_000], help="records only one side holds")
    options = parser.parse_args()
    print(f"{'records':>9} {'new':>7} {'on':>9} {'bytes':>9} {'trips':>5} {'ask ms':>8} {'answer ms':>9} {'found':>7}")
    for count in options.records:
        began = time.process_time()
        base = RecordSet(records(0, count))
        loading = time.process_time() - began
        fuller = RecordSet(base)
        for new in options.new:
            more = list(records(count, count + new))
            for item in more:
                fuller.add(*item)
            for side, ours, theirs in (("initiator", fuller, base), ("responder", base, fuller)):
                cost = measure(ours, theirs)
                print(
                    f"{count:>9} {new:>7} {side:>9} {cost.sent + cost.received:>9} {cost.rounds:>5}"
                    f" {cost.asking * 1000:>8.2f} {cost.answering * 1000:>9.2f} {cost.found:>7}"
                    + ("" if cost.complete else "  (stopped at a limit)")
                )
            for item in more:
                fuller.discard(*item)
        print(f"{count:>9} loaded in {loading:.2f} s of CPU")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB, with two sets of each size")


if __name__ == "__main__":
    main()
