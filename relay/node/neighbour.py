"""A neighbour: somebody to visit, where it may be, and what is known of the visits so far.

Plain data with the few rules that concern it alone; whom to visit when, and how, is `contacts`' and `schedule`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.limits import MAX_ADDRESSES
from relay.net.client import HttpPeer
from relay.node.schedule import Contact
from relay.records.identifiers import HASH_SIZE, NodeId
from relay.store.recordset import FIRST
from relay.sync.messages import Hello
from relay.sync.report import VisitReport
from relay.trust.roles import Role


@dataclass(frozen=True, slots=True)
class Settled:
    """The counts of news and content, here and there, with which a visit left nothing to exchange, and when it did."""

    here: tuple[int, int]
    there: tuple[int, int]
    at: float


@dataclass(frozen=True, slots=True)
class Reached:
    """Connections to a node, and the revocations by which it was judged when they were made."""

    peer: HttpPeer
    judged: frozenset[NodeId]


@dataclass(slots=True)
class Neighbour:
    """Somebody to visit: `key` is a node id in hex or an address; `addresses` are tried in order."""

    key: str
    addresses: list[str]
    contact: Contact
    heard: float = float("-inf")
    """When it was last seen, or heard of."""
    proven: str = ""
    """The address at which it answered last."""
    hello: Hello | None = None
    remembered: bool = False
    """Only a memory of an earlier contact, given up after a few failures."""
    gone: bool = False
    """Said to be gone: a visit that is under way ends by itself, no other follows."""
    trouble: str = ""
    at_odds: bool = False
    """It was reached, and the visit failed all the same: that it is in sight does not mend that."""
    visit: asyncio.Task[VisitReport] | None = None
    """The visit under way."""
    answered: bool = False
    """Whether the other side answered in the visit that is under way, or in the last one."""
    reached: Reached | None = None
    """Where it answered while a visit to another address was not answered."""
    hurried: float = float("-inf")
    settled: Settled | None = None
    compared: bytes = FIRST
    """Where the comparison of records goes on: beyond the first one, where the last visit did not come to the end."""
    compared_at: int = 0
    """The count of news when it began there."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def node(self) -> NodeId:
        """Who it is; no node's id as long as only an address is known."""
        if self.hello is not None:
            return self.hello.node
        return NodeId(bytes.fromhex(self.key) if len(self.key) == 2 * HASH_SIZE else b"")

    @property
    def is_receiver(self) -> bool:
        """Whether it is a receiver: by its greeting, or, where it never answered, since a URL leads to it."""
        return self.hello.role is Role.RECEIVER if self.hello is not None else self.key.startswith("https://")

    @property
    def works(self) -> bool:
        """Whether it answered, and did so the last time."""
        return self.hello is not None and not self.contact.failures

    def hear_of(self, addresses: Iterable[str]) -> bool:
        """Take in where it is said to be, before what was said earlier; whether any of it is new. Anybody can announce:
        an address that works stays first, and the one at which it answered last is not pushed out."""
        announced = list(addresses)
        fresh = not set(announced) <= set(self.addresses)
        works = self.addresses[:1] if self.works else []
        proven = [self.proven] if self.proven in self.addresses else []
        order = (*works, *announced[:1], *proven, *announced[1:], *self.addresses)
        self.addresses = list(dict.fromkeys(order))[:MAX_ADDRESSES]
        return fresh

    def put_last(self, address: str) -> None:
        """Try all other addresses before this one."""
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.append(address)

    def put_first(self, address: str) -> None:
        """Try this address before all others."""
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.insert(0, address)
