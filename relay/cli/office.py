"""The election office's folder: what lies where, opening it for one command, keeping what was decided.

    root.pem        the election's root certificate, public     notices/<topic>-<part>.cose   in force
    root-key.pem    its key, encrypted under the passphrase      nodes.db                      whom it enrolled

`nodes.db` is an SQLite database with one row for each node, so that a command takes no longer with many: none reads
more than it needs. Who decides something holds it alone. Before, the ledger was one JSON text, `nodes.json`: the first
command that decides something puts it into a database, and leaves it beside as `nodes.json.old`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from relay.errors import BadInput, StoreError
from relay.limits import BUSY_SECONDS, MAX_LEDGER, MAX_RECORD
from relay.node.home import read_pem_certificate
from relay.store.durable import TEMPORARY, explained, sync_folder, write_durably
from relay.trust.authority import Enrolled, Ledger, Notices, Office, read_ledger
from relay.trust.enrolment import pem_block

_LEDGER = "nodes.db"
_FIRST_LEDGER = "nodes.json"
_RESTORE = "Restore the folder from its backup."
_SCHEMA = """
CREATE TABLE nodes (
    place INTEGER PRIMARY KEY, node TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL, tps TEXT NOT NULL,
    revoked TEXT);
CREATE INDEX nodes_by_name ON nodes (name);
"""
_COLUMNS = "name, node, role, tps, revoked"


class OfficeFolder:
    """An office's folder that is open for one command."""

    def __init__(self, path: Path, office: Office, ledger: _KeptLedger | None) -> None:
        self._path = path
        self._ledger = ledger
        self.office = office
        """As the folder keeps it."""

    def keep(self, office: Office) -> None:
        """Write what was decided: notices, then the ledger. After a failure in between, deciding it again repairs it.

        Raises `StoreError`.
        """
        assert self._ledger is not None
        _write_notices(self._path, office)
        self._ledger.keep(office.ledger.decided.values())


def make_office(path: Path, office: Office, key: bytes) -> None:
    """Write a new office's folder; `key` is its root key, encrypted. What makes it an office comes last."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(path / "root-key.pem", key, mode=0o600)
    _write_notices(path, office)
    _make_ledger(path, tuple(office.ledger))
    write_durably(path / "root.pem", pem_block("CERTIFICATE", office.root).encode())


@contextmanager
def open_office(path: Path, *, reading: bool = False) -> Iterator[OfficeFolder]:
    """The office's folder for one command; `reading` writes nothing. Raises `BadInput` or `StoreError`."""
    ledgers = [path / _LEDGER, path / _FIRST_LEDGER]
    if not (path / "root.pem").exists() or not any(one.exists() for one in ledgers):
        if (path / "request.pem").exists():
            raise BadInput(f"{path} is a node, and not the election office's folder", "Name the office's folder.")
        raise BadInput(f"{path} holds no election", "Make one with `relay authority init`, or name its folder.")
    root = read_pem_certificate(path / "root.pem")
    notices = Notices(_KeptNotices(path / "notices"))
    if reading and not (path / _LEDGER).exists():
        decided = {line.node: line for line in _read_first_ledger(path)}
        yield OfficeFolder(path, Office(root, notices, Ledger(None, decided)), None)
        return
    if not reading:
        _move_first_ledger(path)
    # What a power cut left half-written is put right by whoever opens it first, if it may.
    mode = "rw" if not reading or (os.access(path, os.W_OK) and os.access(path / _LEDGER, os.W_OK)) else "ro"
    with _explained(path), closing(_connect(path / _LEDGER, mode)) as database:
        if not reading:
            database.execute("BEGIN IMMEDIATE")
        ledger = _KeptLedger(database)
        yield OfficeFolder(path, Office(root, notices, Ledger(ledger)), ledger)


def read_file(path: Path, limit: int) -> bytes:
    """A file that somebody gave, as far as `limit`. Raises `BadInput`."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})", "Check the name and its permissions.") from error


class _KeptNotices(Mapping[str, bytes]):
    """The notices of a folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem.replace("-", "/"): file for file in sorted(folder.glob("*.cose"))}

    def __getitem__(self, slot: str) -> bytes:
        return read_file(self._files[slot], MAX_RECORD + 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, slot: object) -> bool:
        return slot in self._files


class _KeptLedger:
    """The lines of a folder's ledger, each read when it is asked for."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __iter__(self) -> Iterator[Enrolled]:
        return map(_line, self._database.execute(f"SELECT {_COLUMNS} FROM nodes ORDER BY place"))

    def named(self, name: str) -> Sequence[Enrolled]:
        """The lines of every node that has, or had, this name."""
        found = self._database.execute(f"SELECT {_COLUMNS} FROM nodes WHERE name = ? ORDER BY place", (name,))
        return [_line(row) for row in found]

    def of(self, node: str) -> Enrolled | None:
        """The line of a node, by the hex of its id."""
        row = self._database.execute(f"SELECT {_COLUMNS} FROM nodes WHERE node = ?", (node,)).fetchone()
        return None if row is None else _line(row)

    def keep(self, lines: Iterable[Enrolled]) -> None:
        """Put these lines in place of their nodes' own, durably; the ledger is free for others then."""
        _put(self._database, lines)
        self._database.execute("COMMIT")


def _write_notices(path: Path, office: Office) -> None:
    folder = path / "notices"
    folder.mkdir(exist_ok=True, mode=0o700)
    for slot, raw in office.notices.decided.items():
        write_durably(folder / f"{slot.replace('/', '-')}.cose", raw)


def _make_ledger(path: Path, lines: Sequence[Enrolled]) -> None:
    """Write a ledger of these lines; under its name it is whole."""
    unfinished = path / f".{_LEDGER}{TEMPORARY}"
    with _explained(path):
        unfinished.unlink(missing_ok=True)
        with closing(_connect(unfinished, "rwc")) as database:
            database.executescript(f"BEGIN; {_SCHEMA}")
            _put(database, lines)
            database.execute("COMMIT")
        unfinished.replace(path / _LEDGER)
        sync_folder(path)


def _move_first_ledger(path: Path) -> None:
    """Put the ledger of an older relay, one JSON text, into a database. An older relay finds no ledger then."""
    first = path / _FIRST_LEDGER
    if first.exists():
        if not (path / _LEDGER).exists():
            _make_ledger(path, _read_first_ledger(path))
        with explained(first):
            first.rename(first.with_name(f"{_FIRST_LEDGER}.old"))
            sync_folder(path)


def _read_first_ledger(path: Path) -> tuple[Enrolled, ...]:
    return read_ledger(read_file(path / _FIRST_LEDGER, MAX_LEDGER))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    database.execute("PRAGMA synchronous = EXTRA")
    return database


def _put(database: sqlite3.Connection, lines: Iterable[Enrolled]) -> None:
    database.executemany(
        f"INSERT INTO nodes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (node) DO UPDATE SET "
        "name = excluded.name, role = excluded.role, tps = excluded.tps, revoked = excluded.revoked",
        ((one.name, one.node, one.role, " ".join(one.tps), one.revoked) for one in lines),
    )


def _line(row: tuple[str, str, str, str, str | None]) -> Enrolled:
    name, node, role, tps, revoked = row
    return Enrolled(name, node, role, tuple(tps.split()), revoked)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with explained(path):
            yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise StoreError(
                f"Another command is at work in {path}", "Wait until it is done, then try again."
            ) from error
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # it lacks the table
            raise StoreError("The authority's ledger nodes.db is damaged", _RESTORE) from error
        raise StoreError(f"{path} cannot be used ({error})", "Check the folder, its owner and its disk.") from error
    except sqlite3.DatabaseError as error:
        raise StoreError("The authority's ledger nodes.db is damaged", _RESTORE) from error
