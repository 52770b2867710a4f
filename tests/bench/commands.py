"""How often the cluster's store has PostgreSQL do something: `python -m tests.bench.commands [--visits 8]`.

Visits of some gateways at once, each with ten statements without photographs, by the calls that they make of the
store; between their two halves the log takes in all of it, in one batch. Counted are the commands that the server
carries out, `BEGIN` and `COMMIT` included, whatever they take: a busy machine does not change them much (the more come
at once, the fewer they are).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from obstore.store import MemoryStore

from relay.limits import RECORDS_BATCH
from relay.records.identifiers import RecordId, StatementId, receipt_id
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.store import ClusterStore
from relay.store.interface import LogBatch, LogState
from relay.trust.admission import Admitted
from tests.cluster.postgres import Postgres, postgres
from tests.store_conformance import Cast

PER_VISIT = 10
_COUNTED = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "on"}
_COUNT = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'"


async def deliver(store: ClusterStore, load: Sequence[Admitted]) -> None:
    """The first half of a visit: ask what is known, bring the rest, and ask what is ready."""
    ids = [StatementId(one.id) for one in load]
    await store.receipted(ids)
    await store.known_statements(ids)
    await store.add(load)
    await store.receipted(ids)


async def collect(store: ClusterStore, load: Sequence[Admitted]) -> None:
    """The second half: the answer to who waited, and the receipts."""
    ids = [StatementId(one.id) for one in load]
    assert await store.receipted(ids) == await store.known_statements(ids) == set(ids)
    offered = await store.offered([RecordId(receipt_id(one)) for one in ids])
    assert len(await store.read(offered, RECORDS_BATCH)) == len(load)
    await store.holdings([])


async def log_all(store: ClusterStore, cast: Cast, everything: Sequence[Admitted]) -> None:
    """One batch of the log."""
    receipts = tuple(cast.receipt(one, entry) for entry, one in enumerate(everything))
    statements = tuple(StatementId(one.id) for one in everything)
    await store.append(LogBatch(0, statements, receipts, LogState(len(everything), b"", b"")))


async def measure(url: str, count: Callable[[], int], visits: int) -> dict[str, object]:
    """Commands for each statement."""
    store = await ClusterStore.open(url, Bucket(MemoryStore()), Path("/nonexistent"), own=None)
    cast = Cast()
    loads = [[cast.statement() for _ in range(PER_VISIT)] for _ in range(visits)]
    counts = [count()]
    await asyncio.gather(*(deliver(store, load) for load in loads))
    counts.append(count())
    await log_all(store, cast, [one for load in loads for one in load])
    counts.append(count())
    await asyncio.gather(*(collect(store, load) for load in loads))
    counts.append(count())
    await store.close()
    delivered, logged, collected = (after - before for before, after in itertools.pairwise(counts))
    each = round((counts[-1] - counts[0]) / (visits * PER_VISIT), 2)
    return {"visits": visits, "delivered": delivered, "logged": logged, "collected": collected, "each_statement": each}


def counter(server: Postgres, url: str) -> Callable[[], int]:
    """Counts the commands that a database was given."""
    server.execute("CREATE EXTENSION pg_stat_statements", url)
    return lambda: int(server.execute(_COUNT, url)[0])


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=8, help="how many at once")
    chosen = parser.parse_args()
    folder = tempfile.TemporaryDirectory(prefix="relay-bench-commands-")
    with folder as name, postgres(Path(name), _COUNTED) as server:
        url = server.fresh_database()
        print(json.dumps(asyncio.run(measure(url, counter(server, url), chosen.visits))))


if __name__ == "__main__":
    main()
