"""Boats that deliver to several receivers, whatever happens to these, and the account of what they were promised.

The visits are the product's own, over TLS, through the balancer; a boat that loses a contact begins another one at
once. A receiver that takes back what it acknowledged is found out by the next inquiry. `Onlookers` watch the published
checkpoint at every public port.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import aiohttp

from relay.errors import Unreachable
from relay.log.checkpoint import Checkpoint, open_checkpoint
from relay.log.merkle import verify_consistency
from relay.net.client import HttpPeer
from relay.node.witness import Witness
from relay.records.identifiers import Kind, RecordId, StatementId, sha256
from relay.store.interface import State
from relay.sync.alarm import read_alarms
from relay.sync.messages import Greeting, Inquiry, InquiryReply, Taken
from relay.sync.visit import Visit
from relay.trust.certificates import read_certificate
from relay.trust.roles import Role
from relay.trust.witness import log_key
from tests.cluster.company import STATIONS, Company
from tests.fleet import Ship
from tests.processes import POLL_SECONDS, eventually

T = TypeVar("T")

PHOTO = 300_000
"""Bytes: five chunks."""
TALLIES = 5
"""Packages without a photograph, for each one with."""
MOST_WAITING = 50
"""Packages of one boat that wait for receipts. With more it makes none."""
SETTLE_SECONDS = 60.0
"""So long after a service is back, all that was made has its receipt."""


@dataclass
class Account:
    """What was made, and what the receivers said of it."""

    made: list[StatementId] = field(default_factory=list)
    acknowledged: set[StatementId] = field(default_factory=set)
    lost: set[StatementId] = field(default_factory=set)
    """Acknowledged, and unknown when asked for later."""
    cut: int = 0
    """Contacts that were lost."""


class Way(HttpPeer):
    """A contact with the receivers that keeps account."""

    def __init__(self, url: str, context: ssl.SSLContext, account: Account) -> None:
        super().__init__(url, context)
        self._account = account

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """See `Peer`."""
        taken = await super().put_records(records)
        for (kind, raw), word in zip(records, taken.outcomes, strict=True):
            if kind is Kind.STATEMENT:
                assert word in ("new", "known"), word
                self._account.acknowledged.add(StatementId(RecordId(sha256(raw))))
        return taken

    async def hello(self, mine: Greeting) -> Greeting:
        """See `Peer`."""
        inquiry = Inquiry.decode(mine.inquiry)
        known = self._account.acknowledged.intersection(inquiry.statements)
        answer = await super().hello(mine)
        if answer.inquiry:
            self._account.lost |= known.intersection(InquiryReply.decode(answer.inquiry).unknown)
        return answer

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """See `Peer`."""
        known = self._account.acknowledged.intersection(inquiry.statements)
        reply = await super().inquire(inquiry)
        self._account.lost |= known.intersection(reply.unknown)
        return reply


class Traffic:
    """Boats under way. `photos` says whether some of what they make from now on has a photograph."""

    def __init__(self, company: Company, ships: Sequence[Ship]) -> None:
        self.account = Account()
        self.photos = True
        self._company = company
        self._ships = ships
        self._over = asyncio.Event()

    async def sail(self, ship: Ship) -> None:
        """Make packages and deliver them until it is over; then deliver the rest."""
        context = self._company.context(ship)
        watch = Witness(ship.member, time.time)
        while not self._over.is_set() or await ship.store.awaiting_receipt(b"", 1):
            if not self._over.is_set() and len(await ship.store.awaiting_receipt(b"", MOST_WAITING)) < MOST_WAITING:
                await self._make(ship)
            try:
                async with Way(self._company.url, context, self.account) as way:
                    visit = Visit(
                        ship.custody, way, ship.greeting(), ship.claims, time.monotonic, watch, at_receiver=True
                    )
                    await visit.run()
            except Unreachable as error:
                print(f"{ship.name} was cut: {error}")
                self.account.cut += 1
                await asyncio.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Make no more."""
        self._over.set()

    async def receipted(self, statements: Sequence[StatementId]) -> set[StatementId]:
        """Those of which a boat has the receipt."""
        return {one for ship in self._ships for one in await ship.store.receipted(statements)}

    async def _make(self, ship: Ship) -> None:
        photos = [(self._company.office.content(PHOTO),)] if self.photos else []
        for contents in [*photos, *[()] * TALLIES]:
            tps, form = next(self._company.forms)
            self.account.made.append(await ship.submit(*contents, tps=tps, form=form))


class Onlookers:
    """What the public was shown: the checkpoint at each public port, as often as one can ask."""

    def __init__(self, company: Company) -> None:
        self.seen: dict[bytes, None] = {}
        """Distinct ones, in the order in which they were first seen."""
        self.sizes: list[int] = []
        """Of the published log, in the order in which they were seen."""
        self._company = company
        self._key = log_key(read_certificate(company.certificate))

    async def watch(self) -> None:
        """Look on, for ever."""
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                for port in self._company.public:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        await self._look(session, port)
                await asyncio.sleep(POLL_SECONDS)

    async def _look(self, session: aiohttp.ClientSession, port: int) -> None:
        async with session.get(f"http://127.0.0.1:{port}/checkpoint") as response:
            if response.status == 200:
                raw = await response.read()
                self.seen[raw] = None
                self.sizes.append(open_checkpoint(raw, self._key).size)

    def trees(self) -> list[Checkpoint]:
        """The distinct trees that were shown, smallest first; of one size there is one."""
        trees = {(tree.size, tree.root): tree for tree in (open_checkpoint(raw, self._key) for raw in self.seen)}
        return [trees[one] for one in sorted(trees)]

    async def check(self, ship: Ship) -> None:
        """Have the receivers prove that each of these trees begins with the one before."""
        trees = self.trees()
        async with HttpPeer(self._company.url, self._company.context(ship)) as peer:
            for old, new in pairwise(trees):
                path = await peer.consistency(old.size, new.size)
                verify_consistency(old.size, old.root, new.size, new.root, path)


@asynccontextmanager
async def crew(company: Company, boats: int = 1) -> AsyncIterator[list[Ship]]:
    """So many boats, new ones, with nothing on board."""
    ships: list[Ship] = []
    try:
        for _ in range(boats):
            ships.append(await company.office.launch(f"boat-{next(company.numbers)}", Role.OPERATOR, STATIONS))  # noqa: PERF401
        yield ships
    finally:
        for ship in ships:
            await ship.store.close()
            company.office.ships.remove(ship)


@asynccontextmanager
async def traffic(company: Company, boats: int = 3) -> AsyncIterator[tuple[Traffic, Onlookers]]:
    """Boats that make and deliver packages as long as this lasts, and onlookers.

    On leaving, they deliver the rest, and it is looked whether the receivers kept every promise.
    """
    async with crew(company, boats) as ships:
        running, onlookers = Traffic(company, ships), Onlookers(company)
        looking = asyncio.create_task(onlookers.watch())
        try:
            async with asyncio.TaskGroup() as group:
                sailing = [group.create_task(running.sail(ship)) for ship in ships]
                try:
                    yield running, onlookers
                    running.end()
                    async with asyncio.timeout(SETTLE_SECONDS):
                        await asyncio.wait(sailing)
                    assert not [task for task in sailing if task.cancelled()], "a boat stopped without a word"
                finally:
                    for task in sailing:
                        task.cancel()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await judge(company, running, onlookers, ships)


async def until(predicate: Callable[[], T], within: float, what: str) -> T:
    """`eventually`, while the boats sail on."""
    return await asyncio.to_thread(eventually, predicate, within, what)


async def grown(company: Company, by: int = 10, within: float = 30.0) -> None:
    """Wait until the log has grown."""
    size = await asyncio.to_thread(company.size)
    await until(lambda: company.size() >= size + by, within, f"the log grows from {size} entries")


async def judge(company: Company, running: Traffic, onlookers: Onlookers, ships: Sequence[Ship]) -> None:
    """Nothing acknowledged is lost, everything has one entry and its receipt, and the log only grew."""
    account = running.account
    assert account.made
    assert not account.lost
    logged = await asyncio.to_thread(company.logged)
    assert len(logged) == len(set(logged)) == await asyncio.to_thread(company.size)
    assert set(account.made) <= set(logged)
    for ship in ships:
        bundles = await ship.store.bundles()
        assert {bundle.state for bundle in bundles} == {State.DELIVERED}
        assert all(bundle.entry is not None and logged[bundle.entry] == bundle.id for bundle in bundles)
        assert not read_alarms(await ship.store.notes())
    report = await asyncio.to_thread(company.audit)
    assert report["chain_findings"] == 0, report["chains"]
    await onlookers.check(ships[0])
