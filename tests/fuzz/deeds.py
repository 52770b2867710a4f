"""What visitors bring and receivers log, in any order, on a store with validly signed statements: one input is one
history of chunks, commits, restarts and batches.

Held at the end: what is held has the hash that a statement gives, what is complete is the object, the log has one
entry for each statement (promises 3 and 6).
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from relay.errors import RelayError
from relay.limits import MAX_CHUNK
from relay.records.identifiers import Kind, ObjectId, StatementId, sha256
from relay.store.interface import LogBatch, LogState
from relay.store.sqlite import SqliteStore
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.trust.admission import Admission, Admitted
from tests.factory import make_file, make_receipt, make_statement
from tests.fuzz import inputs

CHUNK = 64 << 10
CONTENTS = (inputs.CONTENT, b"one", b"one" * CHUNK)
_MOST = 24
_MEMORY = Path("/dev/shm")


@cache
def statements() -> tuple[Admitted, ...]:
    """Statements of honest content, one that gives false hashes for it, and one without files."""
    world = inputs.world()
    files = [make_file(content) for content in CONTENTS]
    false = replace(files[0], chunks=tuple(reversed(files[0].chunks)))
    made = [make_statement(world.election, world.island, *some) for some in (files[:2], (false,), files[2:], ())]
    return tuple(made)


def seeds() -> list[bytes]:
    """Everything in order and logged; the wrong chunks first; pieces, with restarts between."""
    whole = b"".join(bytes([0, which, index, 0]) for which in range(3) for index in range(4))
    return [
        b"\x00" + whole + b"\x01\x02\x00\x03\x00\x00",
        b"\x01" + bytes([0, 0, 1, 2, 1, 0, 0, 0, 3, 1]) + whole + b"\x01\x02\x00\x05\x01\x00",
        b"\x00" + bytes([0, 0, 0, 0, 3, 0, 0, 1, 0, 1, 3, 4]),
    ]


async def live(data: bytes) -> None:
    """Live through it."""
    with tempfile.TemporaryDirectory(prefix="relay-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        node = _Node(Path(folder) / "store", keeps_all=bool(data[:1] and data[0] & 1))
        await node.open()
        try:
            await node.custody.take([(Kind.STATEMENT, one.raw) for one in statements()])
            await node.go_on(data[1:])
        finally:
            await node.store.close()


class _Node:
    def __init__(self, folder: Path, *, keeps_all: bool) -> None:
        self._folder = folder
        self._keeps_all = keeps_all
        self.store: SqliteStore
        self.custody: Custody

    async def open(self) -> None:
        self.store = await SqliteStore.open(
            self._folder,
            own=None,
            quota_bytes=1 << 28,
            quota_statements=8,
            storage_limit=None,
            keeps_all=self._keeps_all,
        )
        self.custody = Custody(Admission(inputs.world().election.root), self.store)
        self._arrival = Arrival(self.custody, Claims(), Way("visitor", fetched=False), lambda: 0.0)

    async def go_on(self, data: bytes) -> None:
        for _ in range(_MOST):
            if not data:
                break
            deed, data = data[0] % 4, data[1:]
            with suppress(RelayError):
                match deed:
                    case 0:
                        await self._bring(data[:3].ljust(3, b"\0"))
                    case 1:
                        await self._arrival.finish()
                    case 2:
                        await self._log(data[:3].ljust(3, b"\0"))
                    case _:
                        await self.store.close()
                        await self.open()
            data = data[(3, 0, 3, 0)[deed] :]
        with suppress(RelayError):
            await self._arrival.finish()
        await self._look()

    async def _bring(self, what: bytes) -> None:
        which, index, how = what
        content = CONTENTS[which % len(CONTENTS)]
        chunk = content[index * CHUNK : (index + 1) * CHUNK]
        match how % 6:
            case 1:
                chunk = content[:CHUNK]
            case 2:
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:] if chunk else b"\0"
            case 3:
                chunk = chunk[:-1]
            case 4:
                chunk += bytes(min(1, MAX_CHUNK - len(chunk)))
            case 5:
                chunk = b""
        name = sha256(content) if which < 0xF0 else sha256(what)
        await self._arrival.take(ObjectId(name), index, chunk)

    async def _log(self, how: bytes) -> None:
        """Log what is complete: as it should be, or with something wrong."""
        world = inputs.world()
        size = (await self.store.log_state()).size
        ready = [name for name, _ in await self.store.unlogged(10)]
        chosen = [one for place, one in enumerate(ready) if not how[0] >> place & 1]
        if how[1] & 1 and statements():
            chosen.append(StatementId(statements()[how[1] >> 1 & 3].id))
        by_id = {one.id: one for one in statements()}
        first = size + (how[2] & 1)
        receipts = [
            make_receipt(world.election, world.receiver, by_id[name], place) for place, name in enumerate(chosen, first)
        ]
        if how[2] & 2:
            receipts = receipts[1:]
        if how[2] & 4:
            chosen.reverse()
        state = LogState(first + len(chosen) + (how[2] >> 3 & 1), b"", b"a checkpoint")
        before = await self.store.log_statements(0, 100)
        try:
            await self.store.append(LogBatch(first, tuple(chosen), tuple(receipts), state))
        except RelayError:
            assert await self.store.log_statements(0, 100) == before, "what is refused changes nothing"
            assert (await self.store.log_state()).size == size
            raise

    async def _look(self) -> None:
        contents = {sha256(content): content for content in CONTENTS}
        held = await self.store.holdings([ObjectId(name) for name in contents])
        for one in held:
            content = contents[one.object]
            for index in range(-(-len(content) // CHUNK)):
                if one.chunks >> index & 1:
                    chunk = await self.store.read_chunk(one.object, index)
                    assert one.size == len(content)
                    assert chunk in (content[index * CHUNK : (index + 1) * CHUNK], _false(content, index)), "promise 3"
            path = await self.store.object_path(one.object)
            assert (path is not None) == one.complete
            assert path is None or path.read_bytes() == content
        logged = await self.store.log_statements(0, 100)
        assert len(logged) == len(set(logged)) == (await self.store.log_state()).size


def _false(content: bytes, index: int) -> bytes:
    """What the statement with the false hashes says this chunk is."""
    chunks = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    return chunks[-1 - index]
