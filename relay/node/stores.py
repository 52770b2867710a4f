"""Which store a node has: a folder of its own, or, for a receiver that is told so, a database and a bucket."""

from __future__ import annotations

from pathlib import Path

from relay.errors import BadInput
from relay.limits import BALLAST
from relay.node.config import Config
from relay.store.interface import Store
from relay.store.sqlite import SqliteStore
from relay.trust.certificates import Identity
from relay.trust.roles import Role


async def open_store(
    folder: Path,
    public: Path,
    config: Config,
    identity: Identity,
    *,
    known: bool = False,
    reading: bool = False,
    looking: bool = False,
) -> Store:
    """Open a node's store, in `folder` or where `config` says; `public` is a folder for published files.

    `known` says that a store was made in `folder` before, `reading` that its disk can only be read, `looking` that
    nothing will be compared with another node.

    Raises `BadInput` for settings that do not fit together, and `StoreError`.
    """
    if config.database is not None or config.bucket is not None:
        if identity.role is not Role.RECEIVER:
            raise BadInput(
                "config.toml: database and bucket are for receivers", "Remove both: this node has a store of its own."
            )
        return await open_cluster(folder, config, identity)
    quota = config.quota(at_receiver=identity.role is Role.RECEIVER)
    return await SqliteStore.open(
        folder,
        own=identity.node,
        quota_bytes=quota.bytes,
        quota_statements=quota.statements,
        storage_limit=config.storage_limit,
        keeps_all=identity.role is Role.RECEIVER,
        public=public,
        known=known,
        reading=reading,
        looking=looking,
        ballast=BALLAST,
    )


async def open_cluster(folder: Path, config: Config, identity: Identity) -> Store:
    """Open the store that receivers share; copies of content are kept in `folder`. Raises `BadInput`, `StoreError`."""
    if config.database is None or config.bucket is None:
        raise BadInput("config.toml: database and bucket belong together", "Give both, or neither.")
    try:
        from relay.store.cluster.bucket import Bucket
        from relay.store.cluster.store import ClusterStore
    except ImportError as error:
        raise BadInput(
            f"A store in PostgreSQL and S3 needs {error.name}", "Install it: pip install 'relay-daemon[cluster]'"
        ) from error
    bucket = Bucket.open(config.bucket, config.bucket_endpoint, config.bucket_region)
    return await ClusterStore.open(
        config.database, bucket, folder / "cache", own=identity.node, quota=config.quota(at_receiver=True)
    )
