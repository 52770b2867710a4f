"""Statements that are truly signed and say anything at all, in a store of their own: one input is one whole history.

What a store counts as complete has to be so (promise 3), whatever statements say of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from relay.records.identifiers import Kind, ObjectId, sha256
from relay.records.statement import chunk_size_for
from relay.store.interface import Store
from relay.store.sqlite import SqliteStore
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from tests.fuzz import inputs

_MOST = 6
_MEMORY = Path("/dev/shm")


async def live(data: bytes) -> None:
    """Take the statements in, bring what is wanted as far as anybody has it, and look at what counts as complete."""
    with tempfile.TemporaryDirectory(prefix="relay-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        store = await SqliteStore.open(
            Path(folder) / "store",
            own=None,
            quota_bytes=1 << 28,
            quota_statements=4,
            storage_limit=None,
            keeps_all=bool(data[:1] and data[0] & 1),
        )
        try:
            custody = Custody(Admission(inputs.world().election.root), store)
            await custody.take([(Kind.STATEMENT, inputs.signed_statement(one)) for one in _payloads(data[1:])])
            await _bring(store)
            for name, _ in await store.unlogged(100):
                bundle = await store.bundle(name)
                assert bundle is not None
                assert bundle.held == bundle.size
                for file in bundle.files:
                    path = await store.object_path(ObjectId(file.sha256))
                    assert path is not None
                    assert path.stat().st_size == file.size
        finally:
            await store.close()


def _payloads(data: bytes) -> Iterator[bytes]:
    for _ in range(_MOST):
        if len(data) < 2:
            return
        size = int.from_bytes(data[:2])
        yield data[2 : 2 + size]
        data = data[2 + size :]


async def _bring(store: Store) -> None:
    step = chunk_size_for(len(inputs.CONTENT))
    for want in await store.wants(64):
        assert want.missing
        for content in (inputs.CONTENT, b"one"):
            if sha256(content) == want.object:
                for index in range(-(-len(content) // step)):
                    await store.stage_chunk(want.object, index, content[index * step : (index + 1) * step])
    await store.commit_chunks()
