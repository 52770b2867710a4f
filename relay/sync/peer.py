"""The other side of a visit, as the visitor sees it.

`relay.net.client` speaks this over HTTP; `relay.sync.host.Host` answers it directly, which is how tests and
simulations join two nodes without a socket. Every call may raise `Unreachable` (the contact ended), `Malformed` (the
peer does not follow the protocol) or `Refused` (it will not deal with us).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.store.interface import Holding, Want
from relay.sync.messages import Given, Greeting, Inquiry, InquiryReply, Taken

Span = tuple[ObjectId, int]
"""A chunk: its object, and its index there."""
Frame = tuple[ObjectId, int, bytes]
"""A chunk with its content."""


class Peer(Protocol):
    """A node within reach. Every call is stateless for the peer and can be repeated."""

    def prepare(self) -> None:
        """Content is likely to follow the greeting: what it takes is made ready beside it."""

    async def hello(self, mine: Greeting) -> Greeting:
        """Greet, with the first message of a reconciliation; the peer's greeting, with its reply."""

    async def news(self, heard: int, wait: float) -> int:
        """Return the peer's count of news once it passes `heard`, or after `wait` seconds: a reason to visit again."""

    async def reconcile(self, message: bytes) -> bytes:
        """One round of set reconciliation: our message, its reply."""

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """Ask a receiver which statements it lacks and for receipts; other nodes refuse."""

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Ask a receiver to prove that its log only grew from `old_size` to `new_size` entries."""

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Those of the records that the peer holds, perhaps not all at once."""

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """Hand records over; what became of each, durably."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """What the peer holds of these objects."""

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """What the peer takes, best first, but for the objects in `skip`: some of it, none at the end."""

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        """Of these objects, those that the peer takes, each with the bit set of the chunks that it lacks; in the order
        given, but for what others bring it, which comes last."""

    def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks in the order asked for, each as it arrives, while others are still being asked for; those not held
        are left out. At most `MAX_CHUNKS_CALL` bytes in one call."""

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """Hand chunks over, each when the link has room for it; how many the peer took, durably. At most
        `MAX_CHUNKS_CALL` bytes in one call."""
