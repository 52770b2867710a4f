"""The catalogue's schema, and how one of another version is met.

`PRAGMA user_version` numbers the schema. An older one is migrated in a single transaction; a newer one, and a
database that is not relay's, is refused before anything is written to it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from relay.errors import StoreError

APPLICATION_ID = 0x524C4159
"""`RLAY`, in the file's header at byte 68 (SQLite's database file format, §1.2.12)."""

_FIRST = """
-- Every record in its bytes. slot: what a notice or a checkpoint fills; NULL for others.
CREATE TABLE records (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL,
    slot TEXT UNIQUE, rank INTEGER NOT NULL, raw BLOB NOT NULL
);
CREATE INDEX records_of_slots ON records (kind) WHERE slot IS NOT NULL;

-- Which statements have a receipt: also those that are not held.
CREATE TABLE receipts (statement BLOB PRIMARY KEY, entry INTEGER NOT NULL) WITHOUT ROWID;

-- weight: bytes of statement and objects. completed: the order in which bundles became complete. entry: by a receipt.
CREATE TABLE bundles (
    number INTEGER PRIMARY KEY,
    statement BLOB NOT NULL UNIQUE,
    node BLOB NOT NULL, device TEXT NOT NULL, tps TEXT NOT NULL, form TEXT NOT NULL, seq INTEGER NOT NULL,
    supersedes BLOB, captured_at INTEGER NOT NULL, flags TEXT NOT NULL,
    size INTEGER NOT NULL, remaining INTEGER NOT NULL, weight INTEGER NOT NULL, own INTEGER NOT NULL,
    completed INTEGER, entry INTEGER, receipt_at INTEGER, withheld INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    state TEXT AS (
        CASE WHEN entry IS NOT NULL THEN 'delivered' WHEN completed IS NULL THEN 'partial' ELSE 'waiting' END)
);
CREATE INDEX bundles_of_chain ON bundles (node, seq, weight);
CREATE INDEX bundles_superseding ON bundles (supersedes) WHERE supersedes IS NOT NULL;
CREATE INDEX bundles_by_completion ON bundles (completed);
CREATE INDEX bundles_underway ON bundles (node, withheld, weight) WHERE entry IS NULL;
CREATE INDEX bundles_awaiting ON bundles (statement) WHERE entry IS NULL AND withheld = 0;
CREATE INDEX bundles_withheld ON bundles (withheld) WHERE withheld = 1;
CREATE INDEX bundles_wanted ON bundles (superseded, node, remaining, statement)
    WHERE completed IS NULL AND withheld = 0;
CREATE INDEX bundles_with_content ON bundles (entry) WHERE entry IS NOT NULL AND remaining < size;

-- The files of statements, in order.
CREATE TABLE files (
    statement BLOB NOT NULL REFERENCES bundles (statement), place INTEGER NOT NULL,
    object BLOB NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (statement, place)
) WITHOUT ROWID;
CREATE INDEX files_by_object ON files (object);

-- state: 0 partial or not held, 1 whole, 2 to be deleted: its file goes after the commit that says so.
CREATE TABLE objects (id BLOB PRIMARY KEY, size INTEGER NOT NULL, state INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX objects_to_delete ON objects (id) WHERE state = 2;

-- Sizes and lists of chunk hashes that statements give for an object; node: who first said so. held: bit i % 8 of byte
-- i / 8 is chunk i; refuted: all its chunks were held, and the whole was not the object.
CREATE TABLE layouts (
    number INTEGER PRIMARY KEY, object BLOB NOT NULL, layout BLOB NOT NULL, node BLOB NOT NULL, size INTEGER NOT NULL,
    held_bytes INTEGER NOT NULL DEFAULT 0, refuted INTEGER NOT NULL DEFAULT 0,
    held BLOB NOT NULL DEFAULT x'', hashes BLOB NOT NULL,
    UNIQUE (object, layout)
);
CREATE INDEX layouts_filling ON layouts (held_bytes) WHERE held_bytes > 0;

CREATE TABLE peers (
    node BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, address TEXT NOT NULL, last_seen INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, connected INTEGER NOT NULL
);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE log (entry INTEGER PRIMARY KEY, statement BLOB NOT NULL UNIQUE);
CREATE TABLE log_state (
    one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, frontier BLOB NOT NULL, checkpoint BLOB NOT NULL
);
INSERT INTO log_state VALUES (1, 0, x'', x'');

-- The reconciliation set, and how it changed: the newest line of each record stands. Other processes read on from the
-- last serial number they saw.
CREATE TABLE journal (
    serial INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, id BLOB NOT NULL, present INTEGER NOT NULL,
    UNIQUE (kind, id)
);

-- Sums that are asked for often, kept by the database itself so that no code path can forget one.
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('partial', 0), ('waiting', 0), ('delivered', 0), ('bytes_held', 0);
CREATE TRIGGER bundle_comes AFTER INSERT ON bundles WHEN NEW.withheld = 0 BEGIN
    UPDATE counters SET value = value + 1 WHERE name = NEW.state;
END;
CREATE TRIGGER bundle_changes AFTER UPDATE ON bundles
WHEN OLD.state <> NEW.state OR OLD.withheld <> NEW.withheld BEGIN
    UPDATE counters SET value = value - 1 WHERE name = OLD.state AND OLD.withheld = 0;
    UPDATE counters SET value = value + 1 WHERE name = NEW.state AND NEW.withheld = 0;
END;
CREATE TRIGGER object_comes AFTER INSERT ON objects WHEN NEW.state = 1 BEGIN
    UPDATE counters SET value = value + NEW.size WHERE name = 'bytes_held';
END;
CREATE TRIGGER object_changes AFTER UPDATE ON objects WHEN OLD.state = 1 OR NEW.state = 1 BEGIN
    UPDATE counters SET value = value + (NEW.state = 1) * NEW.size - (OLD.state = 1) * OLD.size
        WHERE name = 'bytes_held';
END;
CREATE TRIGGER layout_fills AFTER UPDATE ON layouts WHEN OLD.held_bytes <> NEW.held_bytes BEGIN
    UPDATE counters SET value = value + NEW.held_bytes - OLD.held_bytes WHERE name = 'bytes_held';
END;
"""

_SECOND = """
-- Every batch touches an index of hashes all over, so that a long log would be slow by each. Two are spared: the ids of
-- receipts say which statements have one, and who has one receipt is logged once.
DROP TABLE receipts;
CREATE TABLE entries (entry INTEGER PRIMARY KEY, statement BLOB NOT NULL);
INSERT INTO entries SELECT entry, statement FROM log ORDER BY entry;
DROP TABLE log;
ALTER TABLE entries RENAME TO log;
CREATE INDEX bundles_to_log ON bundles (completed) WHERE completed IS NOT NULL AND entry IS NULL AND withheld = 0;
"""

_THIRD = """
-- Receipts whose statement is not held, by who signed them, and how many of each there are. Those that came before this
-- are counted for nobody.
CREATE TABLE unclaimed (receipt BLOB PRIMARY KEY, node BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unclaimed_counts (node BLOB PRIMARY KEY, receipts INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER unclaimed_comes AFTER INSERT ON unclaimed BEGIN
    INSERT OR IGNORE INTO unclaimed_counts VALUES (NEW.node, 0);
    UPDATE unclaimed_counts SET receipts = receipts + 1 WHERE node = NEW.node;
END;
CREATE TRIGGER unclaimed_goes AFTER DELETE ON unclaimed BEGIN
    UPDATE unclaimed_counts SET receipts = receipts - 1 WHERE node = OLD.node;
END;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND, _THIRD)
"""Script `i` leads from version `i` to `i + 1`. What was released is never edited."""

VERSION = len(MIGRATIONS)


def prepare(connection: sqlite3.Connection, path: Path, *, known: bool = False) -> None:
    """Bring the database at `path` to this version of the schema. Raises `StoreError`, before any write, for what is
    not ours; and, where a catalogue is `known` to have been there, for an empty one: it would begin a second history.
    """
    application, version = _identity(connection)
    if application == 0 and version == 0 and _is_empty(connection):
        if known:
            raise lost(path)
        application = APPLICATION_ID
    if application != APPLICATION_ID:
        raise StoreError(
            "The store's catalogue.db is the database of another program", "Give relay a folder of its own (--home)."
        )
    if version > VERSION:
        raise StoreError(
            f"The store was written by a newer relay (schema {version}; this one knows {VERSION})",
            "Install that newer version again; nothing was changed.",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    if version < VERSION:
        _migrate(connection)


def check_readable(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database which cannot be written is a catalogue of this version. Raises `StoreError`."""
    identity = _identity(connection)
    if identity == (0, 0):
        raise lost(path)
    if identity != (APPLICATION_ID, VERSION):
        raise StoreError(
            f"The store was written by another version of relay, and its disk can only be read ({path})",
            "Copy the folder to a disk that can be written, and go on there.",
        )


def lost(path: Path) -> StoreError:
    """The error for a catalogue that was there and is gone, or empty."""
    return StoreError(
        f"The store's catalogue is lost: {path} is missing or empty",
        "Keep the folder as it is, and enrol under a new name (docs/howto/backup-and-restore.md): this key would sign "
        "a second history.",
    )


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        _, version = _identity(connection)  # another process may have been quicker
        for script in MIGRATIONS[version:]:
            for command in _commands(script):
                connection.execute(command)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _commands(script: str) -> list[str]:
    """The commands of a script. (`executescript` would commit the transaction first.)"""
    commands: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            commands.append(pending)
            pending = ""
    return commands


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return application, version


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None
