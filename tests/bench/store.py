"""Times and memory of the embedded store: `python -m tests.bench.store [--bundles 100000] [--records 1000000]`.

The records are laid straight into the catalogue, since signing them would take longer than all that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from relay.store.sqlite import SqliteStore

FILES = 2
PHOTO = 1_500_000


async def open_store(folder: Path) -> SqliteStore:
    """The store of a carrier."""
    return await SqliteStore.open(folder, own=None, quota_bytes=1 << 40, quota_statements=1 << 30, storage_limit=None)


def fill(database: Path, bundles: int, records: int) -> None:
    """Lay bundles (a tenth partial) and, up to so many records, bare receipts into the catalogue."""

    def statements() -> Iterator[tuple[object, ...]]:
        for number in range(bundles):
            node = (number % 200).to_bytes(32, "big")
            left = FILES * PHOTO if number % 10 == 0 else 0
            yield (
                os.urandom(32), node, f"op-{number % 200}", f"tps-{number % 800}", f"form-{number % 2}", number,
                0, "", FILES * PHOTO, left, FILES * PHOTO + 4000, 0, None if left else number,
            )  # fmt: skip

    with sqlite3.connect(database) as db:
        db.executemany(
            "INSERT INTO bundles (statement, node, device, tps, form, seq, captured_at, flags, size, remaining, "
            "weight, own, completed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            statements(),
        )
        rows = db.execute("SELECT statement, node, remaining FROM bundles").fetchall()
        for statement, node, left in rows:
            db.execute("INSERT INTO records (id, kind, rank, raw) VALUES (?, 4, 0, ?)", (statement, os.urandom(3000)))
            db.execute("INSERT INTO journal (kind, id, present) VALUES (4, ?, 1)", (statement,))
            for place in range(FILES):
                name = os.urandom(32)
                file = (statement, place, name, f"{place}.jpg", "image/jpeg", PHOTO)
                db.execute("INSERT INTO files VALUES (?,?,?,?,?,?)", file)
                db.execute("INSERT INTO objects VALUES (?,?,?)", (name, PHOTO, 0 if left else 1))
                db.execute(
                    "INSERT INTO layouts (object, layout, node, size, hashes) VALUES (?,?,?,?,?)",
                    (name, os.urandom(8), node, PHOTO, os.urandom(23 * 32)),
                )
        db.executemany(
            "INSERT INTO journal (kind, id, present) VALUES (3, ?, 1)",
            ((os.urandom(32),) for _ in range(records - bundles)),
        )
    db.close()


async def measure(folder: Path) -> None:
    """Print what each call takes."""
    start = time.perf_counter()
    store = await open_store(folder)
    try:
        await _measure(store, start)
    finally:
        await store.close()  # whose thread would keep a run that failed from ending


async def _measure(store: SqliteStore, start: float) -> None:
    def show(what: str, start: float) -> None:
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{what:34} {(time.perf_counter() - start) * 1000:9.1f} ms {memory:6} MB now {peak:6} MB peak", flush=True
        )

    show(f"open, {len(store.members)} members", start)
    for _ in range(2):
        start = time.perf_counter()
        counts = await store.counts()
        show(f"counts {counts.partial}/{counts.waiting}", start)
    start = time.perf_counter()
    wants = await store.wants(64)
    show(f"wants, the first {len(wants)}", start)
    start = time.perf_counter()
    wants = await store.wants(64, frozenset(one.object for one in await store.wants(1024)))
    show(f"wants, {len(wants)} after 1024", start)
    start = time.perf_counter()
    await store.refresh()
    show("refresh, nothing new", start)
    start = time.perf_counter()
    page = await store.awaiting_receipt(b"", 2048)
    show(f"awaiting_receipt, {len(page)}", start)
    start = time.perf_counter()
    page = await anext(aiter(store.to_deliver()))
    show(f"to_deliver, the first {len(page)}", start)
    start = time.perf_counter()
    delivered = sum([len(page) async for page in store.to_deliver()])
    show(f"to_deliver, {delivered}", start)
    start = time.perf_counter()
    bundles = await store.bundles()
    show(f"bundles, {len(bundles)}", start)


def fill_apart(database: Path, bundles: int, records: int) -> None:
    """The same in a process of its own, whose memory is not this one's."""
    filling = os.fork()
    if filling == 0:
        fill(database, bundles, records)
        os._exit(0)
    _, status = os.waitpid(filling, 0)
    assert status == 0, "the catalogue could not be filled"


def main() -> None:
    """Fill a store in a temporary folder and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(_make(folder))
        fill_apart(folder / "catalogue.db", options.bundles, options.records)
        asyncio.run(measure(folder))


async def _make(folder: Path) -> None:
    await (await open_store(folder)).close()


if __name__ == "__main__":
    main()
