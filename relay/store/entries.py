"""The receiver's log in the catalogue: a batch of entries with their receipts, or none of it (promise 6)."""

from __future__ import annotations

import sqlite3
from itertools import repeat

from relay.errors import StoreError
from relay.store.catalogue import Change, Rules, add, journal
from relay.store.interface import LogBatch, Outcome


def append(db: sqlite3.Connection, batch: LogBatch, rules: Rules, now: int) -> int:
    """See `Store.append`, within a transaction; the newest serial number of the journal. Raises `StoreError`."""
    row = db.execute("SELECT size FROM log_state").fetchone()
    db.executemany("INSERT INTO log VALUES (?, ?)", batch.check(int(row[0]) if row else 0))
    changes: list[Change] = []
    for receipt, logged_at in zip(batch.receipts, batch.times or repeat(now), strict=False):
        outcome, changed = add(db, receipt, rules, logged_at)
        if outcome is not Outcome.NEW:
            raise StoreError("A statement has its receipt already", "Run one sequencer on a store.")
        if not rules.keeps_all:  # a receiver is asked for the receipts of its log: they are not reconciled
            changes += changed
    state = batch.state
    db.execute("INSERT OR REPLACE INTO log_state VALUES (1, ?, ?, ?)", (state.size, state.frontier, state.checkpoint))
    return journal(db, changes, rules)
