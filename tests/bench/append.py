"""Whether a long log grows as fast as an empty one: `python -m tests.bench.append [--store cluster]`.

Two logs of one kind of store lie side by side: one is empty, one has a million entries (`tests.bench.preload`: noise as
long as real ones, laid straight into the tables). The same fresh statements, complete as they come since they are
tallies without photographs, are admitted and kept on each in turn, batch by batch, and the real sequencer appends them:
tree, receipts, signed checkpoint, durable commit. So both meet the same moods of the machine, in one process.

    taken       admitted and kept, as when a gateway brought them
    appended    from `Sequencer.sequence` to its return: receipts are committed
    published   their tiles and the checkpoint are on the shelf; of the embedded store only, since a million entries
                would have to be put into the bucket first: where that is away the log of a cluster grows all the same

Each batch is as large as a batch of the log may be. The first on each log warms it up and is not counted. Processor
time is that of this process, and of PostgreSQL's where there is one. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from relay.limits import LOG_BATCH
from relay.trust.roles import Role
from tests.bench.gateways import Stations
from tests.bench.logs import STORES, Took
from tests.bench.receivers import FORMS, Office, some_stations
from tests.factory import make_node

MOST = 1.2
"""Times what the empty log takes."""


async def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Lay the logs, let both grow in turn, compare."""
    rounds: int = chosen.rounds + 1
    office = Office(some_stations(rounds * chosen.batch // len(FORMS) + 1))
    receiver = make_node(office.election, "receiver", Role.RECEIVER)
    loads = Stations(office).loads(rounds * chosen.batch, chosen.batch)
    started = time.perf_counter()
    async with STORES[chosen.store](folder, (0, chosen.entries), office, receiver) as logs:
        empty, large = logs
        sizes = [await log.start() for log in logs]
        assert sizes == [0, chosen.entries]
        prepared = time.perf_counter() - started
        for load in loads:
            for log in logs:
                await log.grow(load.statements.values())
        grown = [(await log.store.log_state()).size for log in logs]
    assert grown == [size + rounds * chosen.batch for size in sizes]
    found = {step: _compared(empty.steps[step][1:], large.steps[step][1:]) for step in empty.steps}
    return {
        "row": "append",
        "store": chosen.store,
        "entries": chosen.entries,
        "batch": chosen.batch,
        "rounds": chosen.rounds,
        "prepared_seconds": round(prepared, 1),
        **found,
        "limit": f"appended: ratio <= {MOST}",
        "holds": found["appended"]["ratio"] <= MOST,
    }


def _compared(empty: Sequence[Took], large: Sequence[Took]) -> dict[str, float]:
    """Medians of both, and how many times that of the empty log the large one takes."""
    wall = [statistics.median(one.wall for one in some) for some in (empty, large)]
    cpu = [statistics.median(one.cpu for one in some) for some in (empty, large)]
    return {
        "empty_ms": round(wall[0] * 1000, 1),
        "large_ms": round(wall[1] * 1000, 1),
        "ratio": round(wall[1] / wall[0], 3),
        "cpu_empty_ms": round(cpu[0] * 1000, 1),
        "cpu_large_ms": round(cpu[1] * 1000, 1),
        "cpu_ratio": round(cpu[1] / max(cpu[0], 1e-9), 3),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=sorted(STORES), default="embedded")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=LOG_BATCH)
    parser.add_argument("--folder", type=Path, default=None, help="where the disk is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-append-", dir=chosen.folder) as folder:
        row = asyncio.run(measure(Path(folder), chosen))
    print(json.dumps(row, indent=2))
    raise SystemExit(0 if row["holds"] else 1)


if __name__ == "__main__":
    main()
