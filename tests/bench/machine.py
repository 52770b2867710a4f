"""What the machine itself does, to hold a receiver against: plain files, bare commits; and what processes use."""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

CONTENT = random.Random(1).randbytes(1_000_000)
"""Of a photograph: nothing of it can be compressed."""

_LOOK_SECONDS = 0.25

Batch = Sequence[tuple[bytes, bytes]]
"""Rows of one commit: a name and bytes."""


def plain_files(folder: Path, count: int) -> dict[int, float]:
    """Megabytes a second that the disk takes as plain files with an fsync each, by one writer and by four at once."""
    return {writers: _plain_files(folder, count, writers) / 1e6 for writers in (1, 4)}


def _plain_files(folder: Path, count: int, writers: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as name, ThreadPoolExecutor(writers) as pool:

        def write(number: int) -> None:
            descriptor = os.open(Path(name, str(number)), os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, CONTENT)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        started = time.perf_counter()
        list(pool.map(write, range(count)))
        return count * len(CONTENT) / (time.perf_counter() - started)


def memory(processes: Sequence[int]) -> int:
    """Megabytes of processes, what they share counted once (PSS): what they cost the machine."""
    return sum(_line(Path(f"/proc/{process}/smaps_rollup"), "Pss:") for process in processes) // 1024


class MemoryWatch:
    """Looks at the memory of processes a few times a second: `peak` is the most that it saw."""

    def __init__(self, processes: Sequence[int]) -> None:
        self.peak = 0
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self.peak = max(self.peak, memory(self._processes))

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.peak = max(self.peak, memory(self._processes))


def _line(file: Path, word: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(word))


def processor(processes: Sequence[int]) -> float:
    """Seconds that processes have computed."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def services(names: Sequence[str]) -> dict[str, float]:
    """Seconds that processes which this one started have computed, by the first of these names that is in their command
    lines; others are left out. A process that ended has computed nothing."""
    found = dict.fromkeys(names, 0.0)
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    for process in parents:
        with suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
            name = next((one for one in names if one in command), None)
            if name is not None and os.getpid() in _ancestors(process, parents):
                found[name] += processor([process])
    return found


def _ancestors(process: int, parents: Mapping[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process


def bare_sqlite(folder: Path, batches: Sequence[Batch]) -> float:
    """Seconds that a bare table in SQLite takes for these rows: one commit a batch, synced as the store's are."""
    with tempfile.TemporaryDirectory(dir=folder) as name, closing(_bare_table(Path(name, "bare.db"))) as database:
        started = time.perf_counter()
        for batch in batches:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO bare VALUES (?, ?)", batch)
            database.execute("COMMIT")
        return time.perf_counter() - started


def _bare_table(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE bare (id BLOB PRIMARY KEY, raw BLOB NOT NULL)")
    return database


async def bare_postgres(url: str, batches: Sequence[Batch]) -> float:
    """Seconds that a bare table in PostgreSQL takes for these rows: one commit a batch, over one connection."""
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE bare (id bytea PRIMARY KEY, raw bytea NOT NULL)")
        started = time.perf_counter()
        for batch in batches:
            await connection.execute(_BARE_ROWS, [name for name, _ in batch], [raw for _, raw in batch])
        seconds = time.perf_counter() - started
        await connection.execute("DROP TABLE bare")
        return seconds
    finally:
        await connection.close()


_BARE_ROWS = "INSERT INTO bare SELECT * FROM unnest($1::bytea[], $2::bytea[])"
