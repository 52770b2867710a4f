"""Copies of a store's catalogue, taken beside whoever uses it. Everything here blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from relay.errors import StoreError
from relay.limits import BUSY_SECONDS
from relay.records.identifiers import ObjectId
from relay.store.durable import explained, sync_folder
from relay.store.schema import APPLICATION_ID

_SYNC = "PRAGMA synchronous = FULL"


def copy_catalogue(source: Path, target: Path) -> None:
    """Copy a catalogue as it is at one instant, durably; others go on using it meanwhile. Raises `StoreError`."""
    with _opened(source) as catalogue:
        if catalogue.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{source} is no catalogue of relay", "Give the folder of a node (--home).")
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute(_SYNC)
            catalogue.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, and all of it there
    with explained(target):
        sync_folder(target.parent)


def check_catalogue(file: Path) -> None:
    """Raises `StoreError` for a catalogue that is damaged."""
    with _opened(file) as catalogue:
        found = catalogue.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"{file} is damaged ({found})", "Use another copy.")


def whole_objects(file: Path) -> list[tuple[ObjectId, int]]:
    """The objects that a catalogue says are whole, and their sizes. Raises `StoreError`."""
    with _opened(file) as catalogue:
        rows = catalogue.execute("SELECT id, size FROM objects WHERE state = 1 ORDER BY id").fetchall()
    return [(ObjectId(row[0]), int(row[1])) for row in rows]


def newest_own(file: Path) -> int:
    """The number of the newest statement that the node itself signed, by a catalogue; 0 where it signed none."""
    with _opened(file) as catalogue:
        return int(catalogue.execute("SELECT coalesce(max(seq), 0) FROM bundles WHERE own = 1").fetchone()[0])


def leave_note(file: Path, key: str, value: str) -> None:
    """Leave a note in a catalogue that nobody uses (see `Store.notes`), durably. Raises `StoreError`."""
    with _opened(file) as catalogue:
        catalogue.execute(_SYNC)
        catalogue.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.exists():
        raise StoreError(f"{file} is missing", "Give the folder of a node, or a whole backup.")
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as catalogue:
            yield catalogue
    except sqlite3.Error as error:
        raise StoreError(f"{file} cannot be used ({error})", "Check the folder, its owner and its disk.") from error
