"""Peers that misbehave, each in one way. Every one is a `Link` to an honest host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.store.interface import Holding, Want
from relay.sync.host import Host
from relay.sync.messages import Given, Greeting, Hello
from relay.sync.peer import Frame, Span
from tests.fleet import Curt, Link


class Smuggler(Curt):
    """Sends records that nobody asked for, besides the others or in their place."""

    def __init__(self, host: Host, cargo: Sequence[tuple[Kind, bytes]], *, honest: bool = True) -> None:
        super().__init__(host)
        self.asked = 0
        self._cargo = list(cargo)
        self._honest = honest

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """What was asked for, and more."""
        self.asked += 1
        return Given([*self._cargo, *((await super().get_records(ids)).records if self._honest else [])])


class Babbler(Curt):
    """Answers every request for records with new rubbish, for ever."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.asked = 0

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Rubbish, never the same."""
        self.asked += 1
        assert self.asked < 100, "a visit to a babbler does not end"
        return Given([(Kind.STATEMENT, b"rubbish %d" % self.asked)])


class Forger(Link):
    """Sends chunks with other content."""

    def __init__(self, host: Host, content: bytes = b"\x00") -> None:
        super().__init__(host)
        self._content = content

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks of the right length."""
        async for object_id, index, data in super().get_chunks(spans):
            yield object_id, index, (self._content * len(data))[: len(data)]


class Stretcher(Link):
    """Sends chunks of another length."""

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks with a byte more."""
        async for object_id, index, data in super().get_chunks(spans):
            yield object_id, index, data + b"\x00"


class Pusher(Link):
    """Sends chunks that nobody asked for."""

    def __init__(self, host: Host, cargo: tuple[ObjectId, int, bytes]) -> None:
        super().__init__(host)
        self._cargo = cargo

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks of its own choice."""
        await anext(spans)
        yield self._cargo


class Braggart(Link):
    """Claims to hold everything, and sends nothing."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """All of it."""
        return [Holding(one, 1, 0, complete=True) for one in objects]

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Nothing."""
        nothing: tuple[Frame, ...] = ()
        for frame in nothing:
            yield frame


class Glutton(Link):
    """Wants the same objects again and again, every chunk and many that do not exist."""

    def __init__(self, host: Host, objects: Sequence[tuple[ObjectId, int]]) -> None:
        super().__init__(host)
        self._objects = objects
        self.asked = 0
        self.taken = 0

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """The same, whatever was brought."""
        self.asked += 1
        return [Want(one, size, (1 << 8 * 128) - 1, size) for one, size in self._objects]

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """Takes and forgets."""
        async for _ in frames:
            self.taken += 1
        return 0


class Foreigner(Link):
    """Greets as a node of another election, or in another version."""

    def __init__(self, host: Host, hello: Hello) -> None:
        super().__init__(host)
        self._hello = hello

    async def hello(self, mine: Greeting) -> Greeting:
        """Its own greeting."""
        return Greeting(self._hello)
