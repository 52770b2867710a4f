"""A file in which audits remember: one SQLite database, of one election.

What is in it is its users': what was checked of a log (`ledger`), and what was seen of an election (`memory`); both may
share one. Without a path the same lives in memory, and ends with the audit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.errors import BadInput, StoreError
from relay.limits import KIB, MIB

_APPLICATION_ID = 0x524C4155
"""`RLAU`, in the file's header."""
_VERSION = 1
_CACHE = 64 * MIB
"""Ids come in no order: the index that holds them apart is written all over, and should be in memory."""
_SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tiles (level INTEGER NOT NULL, place INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (level, place));
CREATE TABLE nodes (number INTEGER PRIMARY KEY, node BLOB NOT NULL UNIQUE);
-- id: of the statement, once in a log. Entries are numbered as in the log.
CREATE TABLE entries (
    entry INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, node INTEGER NOT NULL, seq INTEGER NOT NULL, previous BLOB
);
CREATE TABLE objects (number INTEGER PRIMARY KEY, entry INTEGER NOT NULL, sha256 BLOB NOT NULL, size INTEGER NOT NULL);
"""


class StateFile:
    """The file: facts by their keys, tables, and transactions."""

    def __init__(self, path: Path | None, root: bytes) -> None:
        """Open or make it, for the election with this root certificate.

        Raises `BadInput` for a file that is of another election, or none of relay's; `StoreError` where it cannot be
        used.
        """
        self._name = str(path) if path else "memory"
        if path is not None:
            self._check_file(path)
        with self._explained():
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
        try:
            self._prepare(root)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One transaction: what is noted within is kept whole, or not at all."""
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _check_file(self, path: Path) -> None:
        """SQLite takes a very short file for an empty database, and would overwrite it."""
        try:
            head = b""
            if path.exists():
                with path.open("rb") as file:
                    head = file.read(16)
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror})", "Check the file and its owner.") from error
        if head not in (b"", b"SQLite format 3\0"):
            raise BadInput(f"{path} is not the state of an audit", "Give another --state; it is made anew.")

    def _prepare(self, root: bytes) -> None:
        with self._explained():
            (application,) = self._database.execute("PRAGMA application_id").fetchone()
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (application, version, tables) == (0, 0, 0):
                self._database.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID};"
                    f"PRAGMA user_version = {_VERSION}; COMMIT;"
                )
                with self.step():
                    self._set("root", root)
            elif (application, version) != (_APPLICATION_ID, _VERSION):
                raise BadInput(f"{self._name} is not the state of an audit", "Give another --state; it is made anew.")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(f"PRAGMA cache_size = -{_CACHE // KIB}")
        if self._fact("root") != root:
            raise self._of_another_log()

    def _of_another_log(self) -> BadInput:
        return BadInput(f"{self._name} is the state of an audit of another log", "Give one --state file to each log.")

    def _fact(self, key: str) -> bytes:
        row = self._one("SELECT value FROM facts WHERE key = ?", key)
        return bytes(row[0]) if row else b""

    def _set(self, key: str, value: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._all(query, *values)
        return rows[0] if rows else None

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise StoreError(f"The audit's state {self._name} cannot be used ({error})", "Check its disk.") from error
