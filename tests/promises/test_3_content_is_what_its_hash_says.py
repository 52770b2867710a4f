"""Promise 3: each chunk is checked when it arrives, each object before it counts as complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import Malformed
from relay.limits import MAX_CHUNKS_PER_PACKAGE
from relay.records.identifiers import ObjectId, sha256
from relay.records.statement import FileEntry
from relay.store.interface import State
from relay.sync import arrival
from relay.sync.host import Host
from relay.sync.peer import Frame, Span
from tests.factory import make_file, make_statement, object_of
from tests.fleet import CHUNK, Fleet, Link, each
from tests.promises.adversaries import Forger, Stretcher


@pytest.mark.parametrize("adversary", [Forger, Stretcher])
async def test_a_chunk_with_other_content_is_not_kept(fleet: Fleet, adversary: type[Forger]) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(adversary(island.host(boat)))
    assert await boat.state(statement) is State.PARTIAL
    assert await boat.chunks_held(content) == set()
    await boat.visit(island)
    assert await boat.read(content) == content


async def test_many_chunks_with_other_content_end_the_visit(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "MAX_WRONG_CHUNKS", 2)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content(4 * CHUNK) for _ in range(4)]
    for place, content in enumerate(contents):
        await island.submit(content, form=f"form-{place}")
    with pytest.raises(Malformed):
        await boat.visit(Forger(island.host(boat)))
    assert [await boat.chunks_held(content) for content in contents] == [set()] * 4


class Mixed(Link):
    """Holds somebody's false chunks of many objects, and the true ones of others."""

    def __init__(self, host: Host, false: set[ObjectId]) -> None:
        super().__init__(host)
        self._false = false

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks of the right length."""
        async for object_id, index, data in super().get_chunks(spans):
            yield object_id, index, bytes(len(data)) if object_id in self._false else data


async def test_false_chunks_that_an_honest_peer_holds_cost_no_visit(fleet: Fleet) -> None:
    """Some are on their way when the first is judged; the rest of that object is not asked for."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    size = 40
    false = [fleet.content(size * CHUNK) for _ in range(8)]
    for place, content in enumerate(false):
        await island.submit(content, form=f"form-{place}")
    true = fleet.content(2 * size * CHUNK)
    statement = await island.submit(true, form="form-8")
    peer = Mixed(island.host(boat), {object_of(content) for content in false})
    await boat.visit(peer)
    assert await boat.state(statement) is State.WAITING
    crossed = Counter(object_id for _, object_id, _ in peer.crossed)
    assert max(crossed[object_of(content)] for content in false) < size // 2


@pytest.mark.parametrize(
    ("index", "data"),
    [(0, b""), (0, b"x" * CHUNK), (1, b"x" * CHUNK), (3, b"x" * 6), (4, b"x"), (MAX_CHUNKS_PER_PACKAGE, b"x")],
)
async def test_a_visitor_cannot_hand_over_other_content(fleet: Fleet, index: int, data: bytes) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    await boat.take(make_statement(fleet.election, island.node, make_file(content)))
    assert await boat.host(island).put_chunks(each([(object_of(content), index, data)])) == 0
    assert await boat.chunks_held(content) == set()


async def test_a_chunk_of_one_place_is_not_taken_at_another(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content(2 * CHUNK)
    await boat.take(make_statement(fleet.election, island.node, make_file(content)))
    assert await boat.host(island).put_chunks(each([(object_of(content), 0, content[CHUNK:])])) == 0
    assert await boat.chunks_held(content) == set()


async def test_a_liar_about_chunks_does_not_set_honest_nodes_against_each_other(fleet: Fleet) -> None:
    """False chunk hashes for an honest object: its true chunks are still taken, and nobody is blamed."""
    island, liar = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    content = fleet.content()
    lie = replace(make_file(content), chunks=make_file(fleet.content()).chunks)
    await boat.take(make_statement(fleet.election, liar.node, lie))
    statement = await island.submit(content)
    await boat.visit(island)
    assert await boat.state(statement) is State.WAITING
    assert await boat.read(content) == content


async def test_chunks_that_do_not_make_the_object_are_thrown_away(fleet: Fleet) -> None:
    """A signer lies about its chunks: each fits its own hash, the whole does not."""
    island, liar = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    content, other = fleet.content(2 * CHUNK), fleet.content(2 * CHUNK)
    lie = replace(make_file(content), chunks=make_file(other).chunks)
    await boat.take(make_statement(fleet.election, liar.node, lie))
    chunks = [(object_of(content), place, other[place * CHUNK :][:CHUNK]) for place in range(2)]
    assert await boat.host(liar).put_chunks(each(chunks)) == 2
    assert await boat.read(content) == b""
    assert await boat.chunks_held(content) == set()
    statement = await island.submit(content)
    await boat.visit(island)
    assert await boat.read(content) == content
    assert await boat.state(statement) is State.WAITING


async def test_sha256sum_agrees(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content(size) for size in (1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK)]
    await island.submit(*contents)
    await boat.visit(island)
    for content in contents:
        path = await boat.store.object_path(object_of(content))
        assert isinstance(path, Path)
        assert path.name == sha256(path.read_bytes()).hex() == sha256(content).hex()


async def test_an_object_with_a_false_size_is_never_logged(fleet: Fleet) -> None:
    """Somebody signs for a photograph of another device, and gives it a size that it does not have."""
    receiver = await fleet.receiver()
    island, liar = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    content = fleet.content()
    honest = await island.submit(content)
    await island.visit(receiver)
    lie = make_statement(
        fleet.election, liar.node, FileEntry("x.jpg", "image/jpeg", 5, object_of(content), (bytes(32),))
    )
    assert await liar.take(lie) == ["new"]
    await liar.visit(receiver)
    assert await receiver.state(honest) is State.DELIVERED
    assert await receiver.store.log_statements(0, 9) == [raw for _, _, raw in await receiver.store.read([honest], 1)]
