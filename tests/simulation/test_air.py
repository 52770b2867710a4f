"""The air of the simulation does what sockets do: links share their speed, and both ends of a call of chunks work while
it goes on, each in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, TypeVar

import pytest

from relay.errors import Refused, Unreachable
from relay.limits import DEAD_LINK_SECONDS, STALL_SECONDS
from relay.node.capture import Submission
from relay.records.identifiers import Kind
from relay.records.notice import Revocation
from relay.records.statement import FileEntry
from relay.sync.host import Host
from relay.sync.peer import Frame, Span
from relay.sync.reconcile import Initiator
from tests.fleet import each
from tests.simulation.air import AirPeer, Link, Stream
from tests.simulation.clockwork import VirtualLoop
from tests.simulation.runs import company
from tests.simulation.sea import Sea
from tests.simulation.ship import Answers, Ship, Traits
from tests.simulation.voyage import Weather, run, simulated

T = TypeVar("T")
FINE = 29
"""A seed whose sets are compared in small steps."""
SPEED = 65_536.0
"""A chunk a second."""


def on_virtual_time(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it to its end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


class Pair:
    """An island that visits a boat over a link which moves a chunk a second."""

    def __init__(self, sea: Sea) -> None:
        self.sea = sea
        self.island, self.boat = sea.ships
        self.link = Link(sea.chance, 0.01, SPEED, float("inf"))
        self.peer = AirPeer(self.boat.url, self.island)

    async def meet(self) -> None:
        """Both run, and only what a test does happens between them."""
        for ship in (self.island, self.boat):
            ship.start(company().notices)
        await asyncio.sleep(1)
        self.sea._links[self.boat.name, self.island.name] = self.link

    async def photograph(self) -> FileEntry:
        """A package on the island of which the boat has the statement: four chunks."""
        photo = next(one for one in company().photos if one.stat().st_size > 200_000)
        tps = sorted(self.island.member.identity.tps)[0]
        await self.island.submit(
            Submission(tps, "form-1", (photo,), None, 0, None, "", anyway=True, pictures_only=False)
        )
        [row] = self.island.disk.catalogue.rows.values()
        await self.boat.take((Kind.STATEMENT, row.statement.raw))
        [file] = row.statement.package.files
        return file

    async def frames(self, file: FileEntry, *, pause: float = 0) -> AsyncIterator[Frame]:
        """Its chunks, for bringing them."""
        for index in range(len(file.chunks)):
            data = await self.island.custody.store.read_chunk(file.sha256, index)
            assert data is not None
            yield file.sha256, index, data
            await asyncio.sleep(pause)

    def held(self, file: FileEntry) -> int:
        """How many of its chunks are durable on the boat."""
        item = self.boat.disk.catalogue.objects[file.sha256]
        return len(item.whole) if item.whole is not None else sum(one.held.bit_count() for one in item.layouts)


def between(scene: Callable[[Pair], Coroutine[Any, Any, T]]) -> T:
    """Play a scene between an island and a boat."""
    loop = VirtualLoop()
    sea = Sea(loop, Random(1), company())
    sea.ledger.notices.update(one.id for one in company().notices)
    sea.ships.extend(Ship(sea, one, Traits()) for one in (company().operators[0], company().carriers[0]))

    async def play() -> T:
        pair = Pair(sea)
        await pair.meet()
        try:
            return await scene(pair)
        finally:
            for ship in sea.ships:
                ship.crash()
            await asyncio.sleep(60)

    with simulated(sea):
        played = loop.run_until_complete(play())
    loop.close()
    assert not sea.ledger.violations
    return played


# -- links


def test_what_goes_one_way_shares_the_speed_of_a_link_and_the_other_way_has_its_own() -> None:
    async def send() -> list[tuple[str, float]]:
        link = Link(Random(1), 0.5, 100, float("inf"))
        arrived: list[tuple[str, float]] = []

        def note(sender: str) -> None:
            arrived.append((sender, asyncio.get_running_loop().time()))

        for sender in ("boat", "boat", "island"):
            link.send(sender, 200, partial(note, sender))
        await asyncio.sleep(10)
        return arrived

    assert on_virtual_time(send) == [("boat", 2.5), ("island", 2.5), ("boat", 4.5)]


def test_a_stream_keeps_its_order_however_often_it_stalls() -> None:
    async def send() -> list[int]:
        link = Link(Random(1), 0.01, 1e6, float("inf"), stalls=0.3)
        stream: Stream[int] = Stream(link, "boat")

        async def put() -> None:
            for number in range(50):
                await stream.put(number, 10_000, 60)
            stream.end()

        putting = asyncio.create_task(put())
        taken = [number async for number in stream.pieces(60)]
        await putting
        return taken

    assert on_virtual_time(send) == list(range(50))


def test_a_stream_holds_its_sender_up_when_nobody_takes() -> None:
    async def send() -> tuple[int, str]:
        stream: Stream[int] = Stream(Link(Random(1), 0.01, 1e6, float("inf")), "boat")
        for number in range(1_000):
            try:
                await stream.put(number, 65_536, STALL_SECONDS)
            except OSError as error:
                return number, type(error).__name__
        return 1_000, ""

    sent, how = on_virtual_time(send)
    assert (sent * 65_536 <= Stream.MOST, how) == (True, "ConnectionResetError")


def test_a_stream_that_brings_nothing_is_given_up_and_a_slow_one_is_not() -> None:
    async def send() -> float:
        stream: Stream[int] = Stream(Link(Random(1), 0.01, 100, float("inf")), "boat")
        pieces = stream.pieces(STALL_SECONDS)
        await stream.put(1, 2_000, 60)  # 20 seconds
        assert await anext(pieces) == 1
        with pytest.raises(TimeoutError):
            await anext(pieces)
        return asyncio.get_running_loop().time()

    assert on_virtual_time(send) == pytest.approx(20 + STALL_SECONDS, abs=0.1)


# -- bringing


def test_a_visited_node_commits_chunks_while_others_are_on_their_way() -> None:
    async def scene(pair: Pair) -> list[int]:
        file = await pair.photograph()
        bringing = asyncio.create_task(pair.peer.put_chunks(pair.frames(file)))
        held = []
        for _ in range(len(file.chunks)):
            await asyncio.sleep(1.2)
            held.append(pair.held(file))
        assert await bringing == len(file.chunks)
        assert len(pair.sea.ledger.chunks[pair.boat.name]) == len(file.chunks)
        return held

    held = between(scene)
    assert held == sorted(held)
    assert 0 < held[1] < 4


def test_what_came_before_a_link_was_cut_is_kept_and_not_acknowledged() -> None:
    async def scene(pair: Pair) -> tuple[int, int]:
        file = await pair.photograph()
        bringing = asyncio.create_task(pair.peer.put_chunks(pair.frames(file)))
        await asyncio.sleep(2.5)
        pair.link.cut()
        with pytest.raises(Unreachable):
            await bringing
        await asyncio.sleep(DEAD_LINK_SECONDS + 1)
        assert not pair.boat.contacts._present
        return pair.held(file), len(pair.sea.ledger.chunks)

    assert between(scene) == (2, 0)


def test_a_visitor_that_leaves_in_the_middle_ends_the_visited_nodes_part() -> None:
    async def scene(pair: Pair) -> int:
        file = await pair.photograph()
        bringing = asyncio.create_task(pair.peer.put_chunks(pair.frames(file, pause=1)))
        await asyncio.sleep(2.5)
        assert pair.boat.contacts._present
        bringing.cancel()
        await asyncio.sleep(2)
        assert not pair.boat.contacts._present
        return pair.held(file)

    assert between(scene) == 2


def test_a_disk_that_fills_between_chunks_takes_no_more_of_them_and_says_so() -> None:
    async def scene(pair: Pair) -> tuple[int, int]:
        file = await pair.photograph()
        bringing = asyncio.create_task(pair.peer.put_chunks(pair.frames(file, pause=3)))
        await asyncio.sleep(1.5)
        pair.boat.disk.full = True
        pair.boat.disk.on_trouble()
        taken = await bringing
        assert len(pair.sea.ledger.chunks[pair.boat.name]) == taken
        return taken, pair.held(file)

    assert between(scene) == (1, 1)


def test_a_call_that_was_refused_is_made_no_further() -> None:
    async def scene(pair: Pair) -> int:
        file = await pair.photograph()
        asked: list[int] = []

        async def frames() -> AsyncIterator[Frame]:
            async for frame in pair.frames(file, pause=1):
                asked.append(frame[1])
                yield frame

        identity = pair.island.member.identity
        pair.boat.custody.admission.revoked[identity.node] = Revocation(identity.node, identity.name, "lost")
        with pytest.raises(Refused):
            await pair.peer.put_chunks(frames())
        return len(asked)

    assert between(scene) < 3


# -- fetching


def test_chunks_come_while_others_are_asked_for() -> None:
    async def scene(pair: Pair) -> list[tuple[int, float]]:
        file = await pair.photograph()
        peer = AirPeer(pair.island.url, pair.boat)
        begun = pair.sea.loop.time()
        spans = [(file.sha256, index) for index in range(len(file.chunks))]
        return [(index, pair.sea.loop.time() - begun) async for _, index, _ in peer.get_chunks(each(spans))]

    came = between(scene)
    assert [index for index, _ in came] == [0, 1, 2, 3]
    assert [when for _, when in came[:3]] == pytest.approx([1.0, 2.0, 3.0], abs=0.1)


def test_a_visited_node_that_crashes_while_it_sends_is_given_up() -> None:
    async def scene(pair: Pair) -> int:
        file = await pair.photograph()
        peer = AirPeer(pair.island.url, pair.boat)
        came = 0
        with pytest.raises(Unreachable):
            async for _ in peer.get_chunks(each([(file.sha256, index) for index in range(len(file.chunks))])):
                came += 1
                pair.island.crash()
        return came

    assert between(scene) == 1


def test_a_visitor_that_crashes_ends_what_the_visited_node_sends() -> None:
    class Counting(Answers):
        ended = False

        async def frames(self, host: Host, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
            """See `Answers`."""
            try:
                async for frame in host.get_chunks(spans):
                    yield frame
            finally:
                self.ended = True

    async def scene(pair: Pair) -> bool:
        file = await pair.photograph()
        answers = pair.island.answers = Counting()

        async def spans() -> AsyncIterator[Span]:
            yield file.sha256, 0
            await asyncio.sleep(1_000)
            yield file.sha256, 1

        async def fetch() -> None:
            async for _ in AirPeer(pair.island.url, pair.boat).get_chunks(spans()):
                pass

        pair.boat.spawn(fetch())
        await asyncio.sleep(2)
        assert not answers.ended
        pair.boat.crash()
        await asyncio.sleep(DEAD_LINK_SECONDS)
        return answers.ended

    assert between(scene)


# -- what runs have in store


def test_sets_are_cut_into_ranges_in_some_runs() -> None:
    """Twenty nodes hold a few dozen records, which are listed in one answer unless lists are short."""
    rounds: list[int] = []
    step = Initiator.step

    def counted(initiator: Initiator, reply: bytes) -> bytes | None:
        message = step(initiator, reply)
        if message is None:
            rounds.append(initiator.rounds)
        return message

    assert Weather.draw(Random(FINE), Random(f"fate of {FINE}"), Random(FINE), Random(FINE)).fine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Initiator, "step", counted)
        assert not run(FINE, company()).violations
    assert max(rounds) > 2
