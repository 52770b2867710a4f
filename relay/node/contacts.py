"""Contacts: whom this node sees, and visiting them when `schedule` says so.

A neighbour is known by its node id (seen by mDNS, or remembered) or by an address (from config.toml, or a receiver's
URL) until it has greeted. One task follows each neighbour; the visits are `relay.sync.visit`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ssl import SSLContext

from relay.errors import MYSELF, Malformed, Refused, RelayError, StoreError, Unreachable
from relay.limits import (
    AWAY_SECONDS,
    CONTACT_SECONDS,
    HURRY_SECONDS,
    KNOCK_SECONDS,
    LINK_HURRY_SECONDS,
    MAX_ADDRESSES,
    MAX_ARRIVALS,
    MAX_KNOCKS,
    MAX_NEIGHBOURS,
    MAX_NEWS_WAIT,
    MEMORY_FAILURES,
    NOTE_SECONDS,
    SETTLED_SECONDS,
)
from relay.net.client import HttpPeer
from relay.node.neighbour import Neighbour, Reached, Settled
from relay.node.schedule import Contact, next_visit
from relay.node.uplink import UPLINK, read_uplink, tried
from relay.records.identifiers import Kind, NodeId
from relay.store.interface import PeerNote
from relay.store.recordset import END, FIRST
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.delivery import Watch
from relay.sync.messages import Hello
from relay.sync.report import VisitReport
from relay.sync.visit import Visit
from relay.trust.certificates import Identity
from relay.trust.roles import Role

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When a node called here last, and when that was noted last."""

    at: float
    noted: float


class Contacts:
    """The neighbours of this node. `greeting` is what it says of itself, `clock` is monotonic, `wall` the device's
    time, which people are told."""

    def __init__(
        self,
        custody: Custody,
        context: SSLContext,
        greeting: Callable[[], Hello],
        claims: Claims,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._custody = custody
        self._context = context
        self._greeting = greeting
        self._claims = claims
        self._clock = clock
        self._watch = watch
        self._wall = wall
        self._neighbours: dict[str, Neighbour] = {}
        self._arrivals: dict[NodeId, _Arrival] = {}
        self._present: Counter[NodeId] = Counter()
        """Calls under way, of visits here."""
        self._notes: set[asyncio.Task[None]] = set()
        self._knocks: set[asyncio.Task[None]] = set()
        custody.news.heard_by.append(self._wake)

    # -- who is there

    def seen(self, node: str, addresses: Iterable[str], *, remembered: bool = False) -> None:
        """A node was seen at these addresses (`host:port`): a hint by mDNS, or a memory of an earlier contact."""
        mine = self._greeting().node.hex()
        if node == mine:
            return
        now = self._clock()
        known = self._neighbours.get(node)
        if known is None:
            contact = Contact(met=now, visits_first=mine < node)
            self._follow(Neighbour(node, list(addresses)[:MAX_ADDRESSES], contact, heard=now, remembered=remembered))
            return
        fresh = known.hear_of(addresses)
        came = known.gone or now - known.heard >= AWAY_SECONDS
        known.heard = now
        if came or fresh or not known.at_odds:
            if known.contact.failures or known.gone:
                known.contact.met = now
                came = True
            known.contact.failures = 0
        known.gone = False
        known.remembered &= remembered
        known.changed.set()
        self._hurry(known, LINK_HURRY_SECONDS if came else HURRY_SECONDS)

    def configure(self, addresses: Iterable[str]) -> None:
        """Keep trying these addresses: those of config.toml and the receivers' URLs."""
        wanted = list(dict.fromkeys(addresses))
        for key in [key for key, one in self._neighbours.items() if one.contact.configured and key not in wanted]:
            self.lost(key)
        for address in wanted:
            if address not in self._neighbours:
                self._follow(Neighbour(address, [address], Contact(met=self._clock(), configured=True)))

    def lost(self, key: str) -> None:
        """A neighbour is said to have gone. Anybody on the link can say so: a visit under way is not cut."""
        neighbour = self._neighbours.get(key)
        if neighbour is not None:
            neighbour.gone = True
            neighbour.changed.set()

    def link_changed(self, changed: Collection[str], gone: Collection[str]) -> None:
        """Interfaces of these names came, went or have other addresses: what failed before may work now, and a visit
        over one that is gone need not wait until TCP gives it up."""
        for neighbour in self._neighbours.values():
            zone = _zone(neighbour.addresses[0])
            if zone and zone not in changed and not neighbour.contact.failures:
                continue
            neighbour.contact.met = self._clock()
            neighbour.contact.failures = 0
            neighbour.changed.set()
            if zone in gone and neighbour.visit is not None:
                neighbour.visit.cancel()
            self._hurry(neighbour, LINK_HURRY_SECONDS)

    def arrived(self, identity: Identity, visiting: bool = True) -> None:
        """A node visits this one: then this one need not. A call for news is a sign of life, and no visit: two nodes
        that only listen to each other would else never look again what the last visit left over.

        Who stays is noted again and again: people are told of a boat beside them for as long as it is there.
        """
        now = self._clock()
        before = self._arrivals.pop(identity.node, None)
        noted = before.noted if before is not None else None
        if noted is None or now - noted >= CONTACT_SECONDS / 2:
            self._keep(asyncio.create_task(self._note_arrival(identity)))
            noted = now
        self._arrivals[identity.node] = _Arrival(now, noted)
        if len(self._arrivals) > MAX_ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]  # who came last is forgotten last
        for neighbour in self._neighbours.values():
            if visiting and neighbour.node == identity.node:
                neighbour.contact.was_visited = now

    @contextmanager
    def presence(self, identity: Identity, visiting: bool) -> Iterator[None]:
        """Within it a node calls here; see `arrived`."""
        self.arrived(identity, visiting)
        self._present[identity.node] += visiting
        try:
            yield
        finally:
            self._present[identity.node] -= visiting
            if self._present[identity.node] <= 0:
                del self._present[identity.node]
            self.arrived(identity, visiting)

    async def close(self) -> None:
        """End all contacts."""
        self._custody.news.heard_by.remove(self._wake)
        tasks = [*self._notes, *(one.task for one in self._neighbours.values() if one.task is not None)]
        self._neighbours.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- following one

    def _follow(self, neighbour: Neighbour) -> None:
        if len(self._neighbours) >= MAX_NEIGHBOURS and not self._make_room():
            logger.debug("more than %d neighbours: %s is left out", MAX_NEIGHBOURS, neighbour.key)
            return
        self._neighbours[neighbour.key] = neighbour
        neighbour.task = asyncio.create_task(self._visit_for_ever(neighbour), name=f"contact {neighbour.key[:16]}")
        neighbour.task.add_done_callback(_tell_failure)

    def _make_room(self) -> bool:
        """Leave the one that was hoped for longest and never answered: anybody can announce hundreds of nodes."""
        silent = [one for one in self._neighbours.values() if one.hello is None and not one.contact.configured]
        for one in sorted(silent, key=lambda one: one.contact.met)[:1]:
            del self._neighbours[one.key]
            if one.task is not None:
                one.task.cancel()
        return bool(silent)

    async def _visit_for_ever(self, neighbour: Neighbour) -> None:
        at: Reached | None = None
        try:
            while True:
                await self._wait_until_due(neighbour, at.peer if at is not None else None)
                if neighbour.gone:
                    await self._note_peer(neighbour, neighbour.addresses[0], None)
                    return
                address = neighbour.addresses[0]
                at = await self._reach(neighbour, at, _url(address))
                if not await self._try_visit(neighbour, at.peer, address):
                    await at.peer.close()
                    at = None
                    if not neighbour.answered:  # where it did answer it will answer first when it comes again
                        neighbour.put_last(address)
                    neighbour.gone |= neighbour.remembered and neighbour.contact.failures >= MEMORY_FAILURES
        finally:
            if self._neighbours.get(neighbour.key) is neighbour:
                del self._neighbours[neighbour.key]
            for one in (at, neighbour.reached):
                if one is not None:
                    await one.peer.close()

    async def _reach(self, neighbour: Neighbour, at: Reached | None, url: str) -> Reached:
        """Whom to call at an address: the one that was called last, or was reached there, if it is still believed. The
        other side was judged when the connection was made: a revocation since then makes it anew."""
        revoked = frozenset(self._custody.admission.revoked)
        there = [one for one in (neighbour.reached, at) if one is not None]
        neighbour.reached = None
        chosen = next((one for one in there if (one.peer.url, one.judged) == (url, revoked)), None)
        for one in there:
            if one is not chosen:
                await one.peer.close()
        return chosen or Reached(HttpPeer(url, self._context, self._custody.torn), revoked)

    def _hurry(self, neighbour: Neighbour, apart: float) -> None:
        """Begin a visit anew that nobody answered yet: it may have begun before the link was there, and would wait a
        second for TCP to try again. So many seconds `apart`, so that visits over slow links get their answer."""
        now = self._clock()
        if neighbour.visit is not None and not neighbour.answered and now - neighbour.hurried >= apart:
            neighbour.hurried = now
            neighbour.visit.cancel()

    async def _wait_until_due(self, neighbour: Neighbour, peer: HttpPeer | None) -> None:
        """Sleep until `schedule` says so; news of either side, and changes of the link, wake."""
        calling = asyncio.create_task(self._listen(neighbour, peer)) if peer is not None else None
        try:
            while True:
                heard = self._custody.news.count
                if self._present[neighbour.node]:
                    neighbour.contact.was_visited = self._clock()  # a call that carries chunks may take long
                wait = next_visit(neighbour.contact, heard) - self._clock()
                if wait <= 0 or neighbour.gone:
                    return
                neighbour.changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await neighbour.changed.wait()
        finally:
            if calling is not None:
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)

    def _wake(self) -> None:
        """Something new came here: whoever is followed may be due now."""
        for neighbour in self._neighbours.values():
            neighbour.changed.set()

    async def _listen(self, neighbour: Neighbour, peer: HttpPeer) -> None:
        """Keep a call for the neighbour's news open, so that it is visited when it has some, or is missed at once.

        A receiver has news all the time; it is asked for receipts instead.
        """
        hello = neighbour.hello
        if hello is None or hello.role is Role.RECEIVER:
            return
        try:
            asked = self._clock()
            while await peer.news(hello.news, MAX_NEWS_WAIT) <= hello.news:
                if self._clock() - asked < MAX_NEWS_WAIT / 2:
                    raise Malformed(f"{hello.name} answers a call for news at once, and has none")
                asked = self._clock()
            neighbour.contact.called = True
        except RelayError as error:
            neighbour.contact.failures += 1
            neighbour.contact.failed = self._clock()
            neighbour.at_odds = not isinstance(error, Unreachable)
            await self._note_trouble(neighbour, error)
        neighbour.changed.set()

    async def _try_visit(self, neighbour: Neighbour, peer: HttpPeer, address: str) -> bool:
        contact = neighbour.contact
        await self._custody.take_in_before_greeting()
        mine = self._greeting()
        heard = mine.news
        try:
            visit = Visit(
                self._custody,
                peer,
                mine,
                self._claims,
                self._clock,
                self._watch,
                lambda hello: self._is_settled(neighbour, mine, hello),
                expecting=_expects(neighbour, mine),
                at_receiver=neighbour.is_receiver,
                since=neighbour.compared,
            )
            report = await self._run(neighbour, visit, address)
            awaits = report is not None and await self._awaits(report)
        except RelayError as failure:
            error = _own_address() if isinstance(failure, Refused) and failure.reason == MYSELF else failure
            contact.failures += 1
            contact.failed = self._clock()
            contact.more = True  # nobody knows how far it came
            neighbour.at_odds = not isinstance(error, Unreachable)
            contact.redundant = isinstance(error, Refused) and error.reason in ("known-node", MYSELF)
            await self._note_trouble(neighbour, error)
            if isinstance(error, Refused) and error.evidence:
                await self._hear_why(error.evidence)
            return False
        contact.failures = 0
        if report is None:
            contact.more = True
            return not neighbour.answered
        contact.redundant = False
        contact.in_vain = contact.in_vain + 1 if contact.called and not report.rung else 0
        contact.called = False
        contact.visited = self._clock()
        contact.more = report.more
        # What only this visit rang for came from there; if anything else rang, the neighbour may not have heard of it.
        contact.news = heard + report.rung if self._custody.news.count == heard + report.rung else heard
        contact.awaits = awaits
        self._settle(neighbour, mine, report)
        self._note_compared(neighbour, heard, report)
        neighbour.trouble = ""
        neighbour.at_odds = False
        await self._note_visit(neighbour, peer.url, report)
        return True

    async def _hear_why(self, notice: bytes) -> None:
        """Take in the notice for which a neighbour refuses this node. It is judged like any other: what nobody but the
        office can say, nobody else can make this node believe."""
        with suppress(StoreError):  # it is told again
            await self._custody.take([(Kind.NOTICE, notice)])

    async def _run(self, neighbour: Neighbour, visit: Visit, address: str) -> VisitReport | None:
        """Run a visit at an address; None when it was hurried, its link went, or the neighbour answered elsewhere.
        Raises what it raises."""
        neighbour.answered = False
        running = asyncio.create_task(visit.run(lambda hello: self._expect(neighbour, hello, address)))
        neighbour.visit = running
        knocks: dict[str, asyncio.Task[None]] = {}
        try:
            while not running.done():
                await asyncio.wait((running,), timeout=None if neighbour.answered else KNOCK_SECONDS)
                if not (running.done() or neighbour.answered):
                    self._knock_at_next(neighbour, address, knocks)
        finally:
            neighbour.visit = None
            left = [one for one in (running, *knocks.values()) if not one.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        try:
            return None if running.cancelled() else running.result()
        finally:
            del running, left  # else a visit that failed stays until garbage is collected: its error holds this frame

    def _knock_at_next(self, neighbour: Neighbour, tried: str, knocks: dict[str, asyncio.Task[None]]) -> None:
        """While a visit is not answered, see whether the neighbour answers at another address: each some moments after
        the last (as RFC 8305, section 5, has it), since addresses of earlier days, and false ones, lead nowhere."""
        left = (one for one in neighbour.addresses if one != tried and one not in knocks)
        if len(self._knocks) < MAX_KNOCKS and (address := next(left, None)) is not None:
            knocks[address] = knock = asyncio.create_task(self._knock(neighbour, address))
            self._knocks.add(knock)
            knock.add_done_callback(self._knocks.discard)

    async def _knock(self, neighbour: Neighbour, address: str) -> None:
        """Have the visit begin anew at an address, if the neighbour answers there first."""
        peer = HttpPeer(_url(address), self._context, self._custody.torn)
        reached = Reached(peer, frozenset(self._custody.admission.revoked))
        try:
            node = await reached.peer.meet()
            visit = neighbour.visit if not neighbour.answered and neighbour.reached is None else None
            if visit is not None and neighbour.node == node:
                neighbour.put_first(address)
                neighbour.reached = reached
                visit.cancel()
        except RelayError as error:
            logger.debug("nobody to visit at %s: %s", address, error.what)
        finally:
            if neighbour.reached is not reached:
                await reached.peer.close()

    async def _awaits(self, report: VisitReport) -> bool:
        """Whether the peer is to be visited again soon, for what it has not got ready yet. Raises `StoreError`."""
        if report.peer.role is Role.RECEIVER:
            return bool(await self._custody.store.awaiting_receipt(b"", 1))
        return report.left

    def _is_settled(self, neighbour: Neighbour, mine: Hello, theirs: Hello) -> bool:
        """Whether the last visit left nothing to exchange and no count moved since. Not for ever: a disk may have room
        again without anybody telling."""
        settled = neighbour.settled
        if settled is None or self._clock() - settled.at > SETTLED_SECONDS:
            return False
        return (settled.here, settled.there) == ((mine.news, mine.content), (theirs.news, theirs.content))

    def _settle(self, neighbour: Neighbour, mine: Hello, report: VisitReport) -> None:
        whole = neighbour.compared == FIRST and report.compared == END
        if report.moved or report.more or report.left or not whole:
            neighbour.settled = None
        elif not self._is_settled(neighbour, mine, report.peer):
            here, there = (mine.news, mine.content), (report.peer.news, report.peer.content)
            neighbour.settled = Settled(here, there, self._clock())

    def _note_compared(self, neighbour: Neighbour, heard: int, report: VisitReport) -> None:
        """Have the next visit go on where this one ended. What came here while visits went on so was perhaps passed
        over: the neighbour has not heard of it."""
        if neighbour.compared == FIRST:
            neighbour.compared_at = heard
        else:
            neighbour.contact.news = neighbour.compared_at
        neighbour.compared = FIRST if report.compared == END else report.compared

    def _expect(self, neighbour: Neighbour, hello: Hello, address: str) -> None:
        """Refuse a greeting that is not of the neighbour that was to be visited, or that another task visits."""
        if hello.node == self._greeting().node:
            raise _own_address()
        name = hello.node.hex()
        if len(neighbour.key) == 64 and neighbour.key != name and not neighbour.contact.configured:
            raise Refused("other-node", f"At {address} is {hello.name}, not the node that was seen there")
        other = self._neighbours.get(name)
        # Where it is only said to be, it may not answer: anybody can announce it, and so does who listens elsewhere.
        if other is not None and other is not neighbour and other.works:
            raise Refused("known-node", f"{hello.name} is visited under another address already")
        neighbour.hello = hello
        neighbour.proven = address
        neighbour.answered = True  # from here on it takes as long as it takes

    async def _note_arrival(self, identity: Identity) -> None:
        """Remember who came; where it listens is not known by that. Not at once: its first call has better to do than
        to wait for the disk."""
        await asyncio.sleep(NOTE_SECONDS)
        note = PeerNote(identity.node, identity.name, str(identity.role), "", int(self._wall()), 0, 0, connected=True)
        with suppress(StoreError):  # nothing hangs on it
            await self._custody.store.note_peer(note)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _note_trouble(self, neighbour: Neighbour, error: RelayError) -> None:
        """Say what is new about a failure, once; what is only out of reach is no news."""
        if error.what != neighbour.trouble and not isinstance(error, Unreachable):
            logger.warning("visit to %s: %s", neighbour.addresses[0], error.what)
        else:
            logger.debug("visit to %s: %s", neighbour.addresses[0], error.what)
        if not neighbour.trouble:
            await self._note_peer(neighbour, neighbour.addresses[0], None)
        if error.what != neighbour.trouble and _is_uplink(neighbour):
            await self._note_uplink(neighbour.addresses[0], error.what)
        neighbour.trouble = error.what

    async def _note_visit(self, neighbour: Neighbour, url: str, report: VisitReport) -> None:
        if report.records_in or report.records_out or report.bytes_in or report.bytes_out:
            logger.info(
                "visited %s: %d records in, %d out; %d bytes in, %d out",
                report.peer.name,
                report.records_in,
                report.records_out,
                report.bytes_in,
                report.bytes_out,
            )
        await self._note_peer(neighbour, url.removeprefix("https://"), report)
        if report.peer.role is Role.RECEIVER:
            await self._note_uplink(url, "")

    async def _note_peer(self, neighbour: Neighbour, address: str, report: VisitReport | None) -> None:
        hello = neighbour.hello
        if hello is None:
            return
        note = PeerNote(
            node=hello.node,
            name=hello.name,
            role=str(hello.role),
            address=address,
            last_seen=int(self._wall()),
            bytes_in=report.bytes_in if report else 0,
            bytes_out=report.bytes_out if report else 0,
            connected=report is not None,
        )
        with suppress(StoreError):
            await self._custody.store.note_peer(note)

    async def _note_uplink(self, url: str, trouble: str) -> None:
        store = self._custody.store
        with suppress(StoreError):
            before = read_uplink(await store.notes())
            await store.set_note(UPLINK, tried(before, url, trouble, int(self._wall())).to_note())


def _expects(neighbour: Neighbour, mine: Hello) -> bool:
    """Whether there is likely to be something to move: since something is new here, or nobody knows what is new there
    of a neighbour that was out of reach."""
    settled, returns = neighbour.settled, neighbour.contact.failures > 0 and not neighbour.at_odds
    return returns or settled is None or settled.here != (mine.news, mine.content)


def _own_address() -> Refused:
    """Where a node is led to itself, whichever side notices first."""
    return Refused(MYSELF, "An address in config.toml is this node's own", "Take it out of `peers`.")


def _is_uplink(neighbour: Neighbour) -> bool:
    """Whether it is a receiver, or answers for a while where one should."""
    return neighbour.key.startswith("https://") or neighbour.is_receiver


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A fault of this program ends one contact, not the daemon; the neighbour is followed anew when it is seen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s ended by a fault", task.get_name(), exc_info=error)


def _zone(address: str) -> str:
    """The interface of a link-local address; empty where the address does not say."""
    return address.partition("%")[2].partition("]")[0]


def _url(address: str) -> str:
    return address if address.startswith("https://") else f"https://{address}"
