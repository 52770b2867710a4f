"""The catalogue's tables in PostgreSQL, and how a database of another version is met.

A database has one version, and only processes of that version work on it. Each connection is let in by the version that
it finds (`check`), and `migrate`, which a daemon does before it starts, ends every connection that was let in before:
a receiver of an older version finds the newer one when it comes back, and stops. Everything else refuses a database of
another version and leaves it as it is.

The tables are those of the embedded store (`relay.store.schema`), without what a receiver that keeps everything has no
use for: freeing, the journal of a reconciliation set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.errors import Outgrown, StoreError

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

_FOURTH = """
-- The bucket that goes with this database, by the name that both know. written: the bucket has it.
CREATE TABLE bucket (one smallint PRIMARY KEY CHECK (one = 1), id text NOT NULL, written boolean NOT NULL);
INSERT INTO bucket VALUES (1, gen_random_uuid()::text, false);
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""Script `i` leads from version `i` to `i + 1`. What was released is never edited."""

VERSION = len(MIGRATIONS)
_LOCK = 0x524C4159_0001
"""Of the advisory lock under which the schema is changed."""
SESSIONS = ("relay", "relay watch")
"""Names of the connections that are let in by `check`."""
_OTHERS = f"""
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
    AND pid <> pg_backend_pid() AND application_name IN {SESSIONS}
    AND NOT EXISTS (SELECT 1 FROM pg_locks l
        WHERE l.pid = pg_stat_activity.pid AND NOT l.granted AND l.relation = 'relay_schema'::regclass)
"""
"""Who was let in, or may have been: who waits to be let in will see what we write."""
_END_MS = 5_000
"""How long PostgreSQL may take to end one of them."""


async def prepare(connection: Any) -> None:
    """Make the tables of an empty database. Raises `StoreError`: it is not ours, or of another version."""
    async with connection.transaction():
        version = await _locked_version(connection)
        if version:
            _compare(version)
        else:
            await _run(connection, MIGRATIONS)


async def migrate(connection: Any) -> None:
    """Bring a database of an older version to this one, and shut those out that work on it. An empty one is
    left to `prepare`. Raises `StoreError`; then nothing was changed."""
    async with connection.transaction():
        version = await _locked_version(connection)
        if not 0 < version < VERSION:
            _compare(version or VERSION)
            return
        await connection.execute("LOCK TABLE relay_schema IN ACCESS EXCLUSIVE MODE")  # nobody is let in meanwhile
        others = [row[0] for row in await connection.fetch(_OTHERS)]
        await connection.execute("SELECT pg_terminate_backend(pid, $2) FROM unnest($1::int[]) pid", others, _END_MS)
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        if await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1::int[])", others):
            raise StoreError(
                "A receiver of an older version does not let go of the database",
                "Stop all receivers, then start this one.",
            )
        await _run(connection, MIGRATIONS[version:])


async def check(connection: Any) -> None:
    """Whether this version of the program may work on the database. Raises `StoreError`."""
    _compare(int(await connection.fetchval("SELECT version FROM relay_schema")))


def _compare(version: int) -> None:
    if version > VERSION:
        raise Outgrown(
            f"The database was written by a newer relay (schema {version}; this one knows {VERSION})",
            "Install that newer version here as well; nothing was changed.",
        )
    if version < VERSION:
        raise StoreError(
            f"The database was written by an older relay (schema {version}; this one needs {VERSION})",
            "Start a receiver of this version (`relay run`), which brings it up to date: see docs/howto/cluster.md.",
        )


async def _run(connection: Any, scripts: Sequence[str]) -> None:
    for script in scripts:
        await connection.execute(script)
    await connection.execute("UPDATE relay_schema SET version = $1", VERSION)


async def _locked_version(connection: Any) -> int:
    """The version of the schema, which stays as it is until the transaction ends; 0 where there are no tables."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
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
