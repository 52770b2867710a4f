"""Content that came in parts: complementary halves make a whole, whoever holds them, and no byte is fetched twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import Unreachable
from relay.net.client import HttpPeer
from relay.records.encoding import encode
from relay.records.identifiers import ObjectId, RecordId, sha256
from relay.records.statement import chunk_size_for
from relay.sync.messages import FRAME_HEAD, SPAN, Greeting
from relay.sync.torn import TornChunks
from tests.boxes import NodeBox
from tests.e2e.visitors import as_node
from tests.e2e.world import FORM, TPS, Cable, World, holds
from tests.fleet import each
from tests.processes import eventually

SIZE = 3_000_000
FRAME = 8


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


async def bring_part(carrier: NodeBox, source: int, target: int, statement: str, content: bytes, part: int) -> None:
    """As a carrier whose contact ends early: bring a statement and every other chunk of its object to a node."""
    context, greeting = as_node(carrier)
    async with HttpPeer(f"https://127.0.0.1:{source}", context) as island:
        await island.hello(Greeting(greeting))
        records = (await island.get_records([RecordId(bytes.fromhex(statement))])).records
    step = chunk_size_for(len(content))
    name = ObjectId(sha256(content))
    chunks = [(name, at // step, content[at : at + step]) for at in range(0, len(content), step)][part::2]
    async with HttpPeer(f"https://127.0.0.1:{target}", context) as boat:
        await boat.hello(Greeting(greeting))
        assert (await boat.put_records(records)).outcomes == ["new"]
        for at in range(0, len(chunks), FRAME):
            few = chunks[at : at + FRAME]
            assert await boat.put_chunks(each(few)) == len(few)


def two_boats_with_half_each(world: World) -> tuple[list[NodeBox], bytes]:
    """Boats that each hold one half of a photo of which nobody else holds anything; and the photo."""
    photo = world.photo(SIZE).read_bytes()
    island = world.box("island", "operator", tps=[TPS])
    statement = island.submit(world.folder / "form.jpg", tps=TPS, form=FORM)
    island.start()
    carrier = world.box("carrier", "carrier")
    boats = [world.box(name, "carrier") for name in ("boat-1", "boat-2")]
    for part, boat in enumerate(boats):
        boat.start()
        ports = world.ports["island"], world.ports[boat.home.name]
        asyncio.run(bring_part(carrier, *ports, statement, photo, part))
        (bundle,) = boat.list()
        assert bundle["state"] == "partial"
        assert SIZE * 0.4 < bundle["bytes_held"] < SIZE * 0.6
    island.kill()
    return boats, photo


def test_a_visitor_that_leaves_in_the_middle_of_a_call_is_no_fault(world: World) -> None:
    photo = world.photo(8_000_000).read_bytes()
    island = world.box("island", "operator", tps=[TPS])
    island.submit(world.folder / "form.jpg", tps=TPS, form=FORM)
    island.start()
    boat = world.box("boat", "carrier")
    context, _ = as_node(boat)
    spans = b"".join(SPAN.pack(sha256(photo), index, 0) for index in range(100))
    head = "POST /sync/v1{} HTTP/1.1\r\nHost: relay\r\nContent-Length: {}\r\n\r\n"
    calls = [
        head.format("/chunks/get", len(spans)).encode() + spans,
        head.format("/chunks/put", 1 << 20).encode() + bytes(100_000),
        head.format("/records/put", 1 << 20).encode() + bytes(100_000),
        head.format("/news", 6).encode() + encode([1 << 16, 60]),
        b"POST /sync/v1/hello HTTP/1.1\r\nHost",
    ]
    for call in calls * 2:
        plain = socket.create_connection(("127.0.0.1", world.ports["island"]), timeout=10)
        with context.wrap_socket(plain) as connection:
            connection.sendall(call)
            if b"/chunks/get" in call:
                assert connection.recv(10).startswith(b"HTTP/1.1 2")
            # Closing what was not read resets the connection, as a boat does that sails.
    ferry = world.box("ferry", "carrier", peers=[world.ports["island"]])
    ferry.start()
    holds(ferry, ("waiting", None))
    assert island.stop() == 0
    assert "Traceback" not in island.log


async def test_of_a_chunk_that_was_cut_off_only_the_rest_is_fetched(world: World) -> None:
    photo = world.photo(SIZE).read_bytes()
    island = world.box("island", "operator", tps=[TPS])
    island.submit(world.folder / "form.jpg", tps=TPS, form=FORM)
    island.start()
    context, greeting = as_node(world.box("boat", "carrier"))
    name, step, torn = ObjectId(sha256(photo)), chunk_size_for(SIZE), TornChunks()
    spans = [(name, index) for index in range(5)]
    came: dict[int, bytes] = {}
    cable = Cable(world.ports["island"], 4 * step)
    with pytest.raises(Unreachable):
        async with HttpPeer(f"https://127.0.0.1:{cable.port}", context, torn) as peer:
            await peer.hello(Greeting(greeting))
            async for _, index, data in peer.get_chunks(each(spans)):
                came[index] = data  # noqa: PERF403 - what comes before it fails counts
    cable.close()
    ((_, index, begun),) = torn.of(island.node.hex())
    assert index == len(came)
    assert 0 < begun < step
    direct = Cable(world.ports["island"], SIZE)
    async with HttpPeer(f"https://127.0.0.1:{direct.port}", context, torn) as peer:
        await peer.hello(Greeting(greeting))
        before = direct.passed
        rest = {index: data async for _, index, data in peer.get_chunks(each(spans[len(came) :]))}
    assert direct.passed - before < step * len(rest) - begun + 8_192
    came |= rest
    direct.close()
    assert b"".join(came[index] for index in range(5)) == photo[: 5 * step]
    assert not torn.bytes


async def test_of_a_chunk_that_was_cut_off_only_the_rest_is_brought(world: World) -> None:
    """Shown by a beginning that is wrong: what goes on with it is not taken, and the whole chunk is, after that."""
    photo = world.photo(SIZE).read_bytes()
    island = world.box("island", "operator", tps=[TPS])
    statement = island.submit(world.folder / "form.jpg", tps=TPS, form=FORM)
    island.start()
    boat = world.box("boat", "carrier")
    boat.start()
    context, greeting = as_node(world.box("carrier", "carrier"))
    async with HttpPeer(f"https://127.0.0.1:{world.ports['island']}", context) as source:
        records = (await source.get_records([RecordId(bytes.fromhex(statement))])).records
    url, name, step = f"https://127.0.0.1:{world.ports['boat']}", ObjectId(sha256(photo)), chunk_size_for(SIZE)
    async with HttpPeer(url, context) as peer:
        await peer.hello(Greeting(greeting))
        assert (await peer.put_records(records)).outcomes == ["new"]
    frame = FRAME_HEAD.pack(name, 3, 0, step) + b"x" + photo[3 * step + 1 : 3 * step + 20_000]
    head = f"POST /sync/v1/chunks/put HTTP/1.1\r\nHost: relay\r\nContent-Length: {FRAME_HEAD.size + step}\r\n\r\n"

    def leave_in_the_middle() -> None:
        plain = socket.create_connection(("127.0.0.1", world.ports["boat"]), timeout=10)
        with context.wrap_socket(plain) as connection:
            connection.sendall(head.encode() + frame)

    async def torn() -> tuple[object, ...]:
        async with HttpPeer(url, context) as peer:
            return (await peer.hello(Greeting(greeting))).torn

    await asyncio.to_thread(leave_in_the_middle)
    async with asyncio.timeout(20):
        while not (told := await torn()):
            pass
    assert told == ((name, 3, 20_000),)
    whole = [(name, 3, photo[3 * step : 4 * step])]
    for taken in (0, 1):
        async with HttpPeer(url, context) as peer:
            await peer.hello(Greeting(greeting))
            assert await peer.put_chunks(each(whole)) == taken
    assert await torn() == ()


def test_two_halves_make_a_whole_at_a_ferry_and_then_on_both_boats(world: World) -> None:
    boats, photo = two_boats_with_half_each(world)
    cables = [Cable(world.ports[boat.home.name], 10 * SIZE) for boat in boats]
    ferry = world.box("ferry", "carrier", peers=[cable.port for cable in cables])
    ferry.start()
    for box in (ferry, *boats):
        holds(box, ("waiting", None))
        assert box.cat(sha256(photo).hex()) == photo
    for cable in cables:
        cable.close()
        assert cable.passed < SIZE * 0.6, "each boat gave its half, and no more"


def test_two_halves_make_a_whole_at_the_receiver_though_the_boats_never_meet(world: World) -> None:
    boats, photo = two_boats_with_half_each(world)
    receiver = world.box("receiver", "receiver")
    receiver.start()
    for boat in boats:
        boat.stop()
        boat.config(**world.settings(boat, receivers=[receiver]))
    first, second = boats
    first.start()
    (bundle,) = first.list()
    halved = [(None, bundle["bytes_held"])]
    eventually(lambda: [(one["entry"], one["bytes_held"]) for one in receiver.list()] == halved, 30, "it has one half")
    first.stop()
    second.start()
    holds(receiver, ("delivered", 0))
    assert receiver.cat(sha256(photo).hex()) == photo
