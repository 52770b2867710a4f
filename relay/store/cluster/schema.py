"""The catalogue's tables in PostgreSQL, and how a database of another version is met.

The tables are those of the embedded store (`relay.store.schema`), without what a receiver that keeps everything has no
use for: freeing, the journal of a reconciliation set.
"""

from __future__ import annotations

from typing import Any

from relay.errors import StoreError

_FIRST = """
-- Every record in its bytes. slot: what a notice or a checkpoint fills; NULL for others.
CREATE TABLE records (
    number bigint GENERATED ALWAYS AS IDENTITY, id bytea PRIMARY KEY, kind smallint NOT NULL,
    slot text UNIQUE, rank bigint NOT NULL, raw bytea NOT NULL
);
CREATE INDEX records_of_slots ON records (kind, number) WHERE slot IS NOT NULL;

-- Which statements have a receipt: also those that are not held.
CREATE TABLE receipts (statement bytea PRIMARY KEY, entry bigint NOT NULL);

-- completed: the order in which bundles became complete. entry: by a receipt.
CREATE SEQUENCE completions;
CREATE TABLE bundles (
    statement bytea PRIMARY KEY,
    node bytea NOT NULL, device text NOT NULL, tps text NOT NULL, form text NOT NULL, seq bigint NOT NULL,
    supersedes bytea, captured_at bigint NOT NULL, flags text NOT NULL,
    size bigint NOT NULL, remaining bigint NOT NULL, own boolean NOT NULL,
    completed bigint, entry bigint, receipt_at bigint, withheld boolean NOT NULL DEFAULT false,
    superseded boolean NOT NULL DEFAULT false
);
CREATE INDEX bundles_of_chain ON bundles (node, seq);
CREATE INDEX bundles_superseding ON bundles (supersedes) WHERE supersedes IS NOT NULL;
CREATE INDEX bundles_to_log ON bundles (completed) WHERE completed IS NOT NULL AND entry IS NULL;
CREATE INDEX bundles_awaiting ON bundles (statement) WHERE entry IS NULL;
CREATE INDEX bundles_wanted ON bundles (superseded, node, remaining, statement)
    WHERE completed IS NULL AND NOT withheld;

-- The files of statements, in order.
CREATE TABLE files (
    statement bytea NOT NULL REFERENCES bundles (statement), place smallint NOT NULL,
    object bytea NOT NULL, name text NOT NULL, media_type text NOT NULL, size bigint NOT NULL,
    PRIMARY KEY (statement, place)
);
CREATE INDEX files_by_object ON files (object);

-- whole: the bucket has it, with this size.
CREATE TABLE objects (id bytea PRIMARY KEY, size bigint NOT NULL, whole boolean NOT NULL);

-- Sizes and lists of chunk hashes that statements give for an object; node: who first said so. held: bit i % 8 of byte
-- i / 8 is chunk i; refuted: all its chunks were held, and the whole was not the object.
CREATE TABLE layouts (
    number bigint GENERATED ALWAYS AS IDENTITY, object bytea NOT NULL, layout bytea NOT NULL, node bytea NOT NULL,
    size bigint NOT NULL, held_bytes bigint NOT NULL DEFAULT 0, refuted boolean NOT NULL DEFAULT false,
    held bytea NOT NULL DEFAULT ''::bytea, hashes bytea NOT NULL,
    PRIMARY KEY (object, layout)
);
CREATE INDEX layouts_filled ON layouts (object) WHERE held_bytes = size AND NOT refuted;

-- Chunks of a layout in the bucket, gathered in the order of their places under one name.
CREATE TABLE pieces (name text PRIMARY KEY, object bytea NOT NULL, layout bytea NOT NULL, chunks bytea NOT NULL);
CREATE INDEX pieces_of_layouts ON pieces (object, layout);

CREATE TABLE peers (
    node bytea PRIMARY KEY, name text NOT NULL, role text NOT NULL, address text NOT NULL, last_seen bigint NOT NULL,
    bytes_in bigint NOT NULL, bytes_out bigint NOT NULL, connected boolean NOT NULL
);
CREATE TABLE notes (key text PRIMARY KEY, value text NOT NULL);

CREATE TABLE log (entry bigint PRIMARY KEY, statement bytea NOT NULL UNIQUE);
CREATE TABLE log_state (
    one smallint PRIMARY KEY CHECK (one = 1), size bigint NOT NULL, frontier bytea NOT NULL, checkpoint bytea NOT NULL
);
INSERT INTO log_state VALUES (1, 0, ''::bytea, ''::bytea);
"""

_SECOND = """
-- edge: of the tree (relay.log.edge), with the last entries all that the next ones need.
ALTER TABLE log_state ADD COLUMN edge bytea NOT NULL DEFAULT ''::bytea;
CREATE INDEX layouts_filling ON layouts (held_bytes) WHERE held_bytes > 0;
"""

_THIRD = """
-- See the second script of `relay.store.schema`.
DROP TABLE receipts;
ALTER TABLE log DROP CONSTRAINT log_statement_key;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND, _THIRD)
"""Script `i` leads from version `i` to `i + 1`. What was released is never edited."""

VERSION = len(MIGRATIONS)
_LOCK = 0x524C4159_0001
"""Of the advisory lock under which the schema is changed."""


async def prepare(connection: Any) -> None:
    """Bring the database to this version of the schema, in one transaction. Raises `StoreError`: it is not ours."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        version = await _version(connection)
        if version > VERSION:
            raise StoreError(
                f"The database was written by a newer relay (schema {version}; this one knows {VERSION})",
                "Install that newer version again; nothing was changed.",
            )
        for script in MIGRATIONS[version:]:
            await connection.execute(script)
        await connection.execute("UPDATE relay_schema SET version = $1", VERSION)


async def _version(connection: Any) -> int:
    if await connection.fetchval("SELECT to_regclass('relay_schema')") is not None:
        return int(await connection.fetchval("SELECT version FROM relay_schema"))
    taken = await connection.fetchval(
        "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
    )
    if taken:
        raise StoreError("The database holds tables of another program", "Give relay a database of its own.")
    await connection.execute("CREATE TABLE relay_schema (version integer NOT NULL)")
    await connection.execute("INSERT INTO relay_schema VALUES (0)")
    return 0
