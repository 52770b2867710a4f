"""One run: an election from its first package to the last receipt, with everything that a seed has in store for it.

First the storm: packages are made, nodes meet by the contact plan, and faults come as chance has it. Then the calm:
whoever is left starts again, everybody is joined to everybody by some way, nothing fails; within `PATIENCE` everything
that is left has to be delivered and everybody has to know it. The promises are looked at all the way.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from unittest.mock import patch

from cryptography.utils import CryptographyDeprecationWarning

from relay.errors import RelayError
from relay.limits import MAX_RECONCILE_FOUND, MIN_RECONCILE_MESSAGE
from relay.node.capture import Submission
from relay.node.home import Member
from relay.records.identifiers import Kind, ObjectId, StatementId
from relay.records.tally import Tally
from relay.sync.reconcile import LISTED
from relay.trust.admission import Admitted
from tests.simulation import plan
from tests.simulation.air import AirPeer, Link
from tests.simulation.clockwork import VirtualLoop, uncounted_tasks
from tests.simulation.company import FORMS, Company
from tests.simulation.disk import Temper
from tests.simulation.pirates import Pirate
from tests.simulation.sea import Sea
from tests.simulation.ship import EPOCH, Ship, Traits

PATIENCE = 900.0
"""Virtual seconds of calm after which everything has to be settled."""


@dataclass(frozen=True)
class Weather:
    """How rough a run is: drawn first, so that some seeds are calm and some are hell."""

    seconds: float
    crashes: int
    cuts: float
    """How likely a contact ends early."""
    stalls: float
    full_disks: int
    clocks: int
    losses: int
    pirates: int
    rogues: int
    revocations: int
    tight: bool
    """Whether some carriers have little room."""
    besieged: bool
    """Whether pirates stay to the end: honest nodes have to get everything through all the same."""
    succession: bool = False
    """Whether the receiver is revoked and another one named."""
    bad_objects: int = 0
    """How often a disk gives some object no more, for good."""
    fine: int = 0
    """Of how few records a comparison speaks one by one, where that is less than it really is: the sets of a run are
    small, and would never be cut into ranges."""
    settled: int = 0
    """How many differences a visit settles, where that is less than it really is: a full disk meets more receipts than
    that, and keeps none of them that is for what is not there."""
    unset: int = 0
    """How many clocks start in 1970, and are set in the course of the run."""
    rotten_objects: int = 0
    """How often a disk gives other bytes of some object from then on, and no error."""
    misplacings: int = 0
    """How often an object that becomes whole on some node does not come to its place."""

    @staticmethod
    def draw(chance: Random, fate: Random, cards: Random, bounds: Random) -> Weather:
        """The weather of a run. What was thought of later is drawn from `fate`, then from `cards` and from `bounds`, so
        that seeds stay what they were."""
        return Weather(
            seconds=chance.uniform(200, 600),
            crashes=chance.choice((0, 2, 5, 12)),
            cuts=chance.choice((0.0, 0.3, 0.8)),
            stalls=chance.choice((0.0, 0.0, 0.01, 0.05)),
            full_disks=chance.choice((0, 0, 2, 5)),
            clocks=chance.choice((0, 3, 8)),
            losses=chance.choice((0, 1, 3)),
            pirates=chance.choice((0, 0, 1, 2)),
            rogues=chance.choice((0, 0, 1, 2)),
            revocations=chance.choice((0, 0, 1, 2)),
            tight=chance.random() < 0.3,
            besieged=chance.random() < 0.5,
            succession=fate.random() < 0.15,
            fine=fate.choice((2, 4, 8, 40)) if fate.random() < 0.3 else 0,
            unset=fate.choice((0, 2, 6)),
            bad_objects=fate.choice((0, 0, 1, 3, 8)),
            rotten_objects=cards.choice((0, 0, 1, 3, 8)),
            misplacings=cards.choice((0, 1, 3)),
            settled=bounds.choice((0, 0, 0, 32, 40)),
        )


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    seed: int
    digest: str
    violations: tuple[str, ...]
    nodes: int
    packages: int
    entries: int
    visits: int
    crashes: int
    events: int
    seconds: float
    """Virtual ones."""


Fit = Callable[[Sea], None]
"""What a test does to a run before it begins: how one shows that a broken promise is found."""


@dataclass
class Voyage:
    """One run under way."""

    sea: Sea
    weather: Weather
    fate: Random
    """What was thought of later is drawn from it."""
    cards: Random
    """And from it what cards do beyond not giving something."""
    chaos: list[asyncio.Task[None]] = field(default_factory=list)
    dawn: float = 0.0
    revoked: list[Member] = field(default_factory=list)
    revocations: int = 0
    """The version of the office's last notice of revocations."""
    succession: list[tuple[Kind, bytes]] = field(default_factory=list)
    """The notices by which the receiver was replaced."""

    async def sail(self) -> None:
        """From the first package to the last receipt."""
        sea, weather = self.sea, self.weather
        unset = self.fate.sample([one for one in sea.ships if not one.is_receiver], weather.unset)
        for ship in unset:
            ship.traits.skew = -EPOCH
        for ship in sea.ships:
            ship.start(sea.company.notices)
        await asyncio.sleep(1)
        self.dawn = sea.loop.time() + weather.seconds
        for work in (*self._misfortunes(), *(self._set_clock(ship) for ship in unset)):
            self.chaos.append(asyncio.create_task(work))
        await asyncio.sleep(weather.seconds)
        await self._calm()

    # -- the storm

    def _misfortunes(self) -> Iterator[Coroutine[Any, Any, None]]:
        sea, weather, chance = self.sea, self.weather, self.sea.chance
        numbers = {ship.name: number for number, ship in enumerate(sea.ships)}
        receivers = [numbers[one.name] for one in sea.receivers]
        islands = [numbers[one.name] for one in sea.ships if one.name.startswith(("island", "rogue"))]
        boats = [numbers[one.name] for one in sea.ships if one.name.startswith(("boat", "pirate"))]
        if chance.random() < 0.5:
            meetings = plan.timetable(chance, islands, boats, receivers[0], weather.seconds)
        else:
            meetings = plan.waypoints(chance, islands + boats, receivers[0], weather.seconds)
        for meeting in meetings:
            yield self._meet(meeting)
            for other in receivers[1:] if meeting.other == receivers[0] else ():
                yield self._meet(replace(meeting, other=other))
        for ship in sea.ships:
            if ship.name.startswith("island"):
                for _ in range(chance.randint(1, 3)):
                    yield self._photograph(ship, chance.uniform(0, weather.seconds * 0.8))
        for _ in range(weather.crashes):
            yield self._crash(chance.choice(sea.ships), chance.uniform(0, weather.seconds))
        for ship in chance.sample([one for one in sea.ships if not one.is_receiver], weather.losses):
            yield self._lose(ship, chance.uniform(0, weather.seconds))
        for _ in range(weather.full_disks):
            yield self._fill(chance.choice(sea.ships), chance.uniform(0, weather.seconds))
        for _ in range(weather.clocks):
            yield self._turn_clock(chance.choice(sea.ships), chance.uniform(0, weather.seconds))
        if weather.revocations:
            yield self._revoke(chance.uniform(0, weather.seconds))
        if weather.succession:
            yield self._succeed(chance.uniform(weather.seconds / 5, weather.seconds))
        for _ in range(weather.bad_objects):
            yield self._spoil(self.fate.uniform(0, weather.seconds))
        for _ in range(weather.rotten_objects):
            yield self._rot(self.cards.uniform(0, weather.seconds))
        for _ in range(weather.misplacings):
            yield self._misplace(self.cards.choice(sea.ships), self.cards.uniform(0, weather.seconds))

    async def _meet(self, meeting: plan.Meeting) -> None:
        sea, chance = self.sea, self.sea.chance
        one, other = sea.ships[meeting.one], sea.ships[meeting.other]
        await asyncio.sleep(meeting.start)
        end = sea.loop.time() + meeting.end - meeting.start
        while (left := end - sea.loop.time()) > 0.1:
            if one.up and other.up and sea.link(one, other) is None:
                link = self._link(rough=chance.random() < self.weather.cuts)
                sea.join(one, other, link)
                await link.until_cut(left)
                if sea.link(one, other) is link:
                    sea.part(one, other)
            await asyncio.sleep(min(end - sea.loop.time(), chance.uniform(0.5, 15)) if end > sea.loop.time() else 0)
        await asyncio.sleep(chance.uniform(0, 20))
        if sea.link(one, other) is None:
            one.loses(other)
            other.loses(one)

    def _link(self, *, rough: bool) -> Link:
        chance = self.sea.chance
        speed = 10 ** chance.uniform(4.2, 6.5)
        budget = 10 ** chance.uniform(2, 5.8) if rough else float("inf")
        return Link(chance, chance.uniform(0.001, 0.1), speed, budget, self.weather.stalls)

    async def _photograph(self, ship: Ship, when: float) -> None:
        """An operator hands over a package; sometimes twice, sometimes a correction, sometimes files seen elsewhere."""
        chance, company = self.sea.chance, self.sea.company
        await asyncio.sleep(when)
        photos = tuple(chance.sample(company.photos, chance.choice((0, 1, 1, 2, 3))))
        tps = sorted(ship.member.identity.tps)[0]
        form = chance.choice(FORMS)
        earlier: StatementId | None = None
        for _ in range(chance.choice((1, 1, 1, 2))):
            tally = Tally({"voters": chance.randint(1, 300)}) if not photos or chance.random() < 0.5 else None
            while not ship.up:
                await asyncio.sleep(5)
                if ship.lost:
                    return
            supersedes = earlier if chance.random() < 0.5 else None
            reason = "retyped" if supersedes else ""
            submission = Submission(
                tps, form, photos, tally, int(ship.wall()), supersedes, reason, anyway=True, pictures_only=False
            )
            task = ship.spawn(ship.submit(submission))
            await asyncio.wait([task])
            earlier = None if task.cancelled() else task.result()
            await asyncio.sleep(chance.uniform(0, 30))

    async def _crash(self, ship: Ship, when: float) -> None:
        """Power fails: at once, or in the middle of the next steps to the disk."""
        chance = self.sea.chance
        await asyncio.sleep(when)
        if not ship.up:
            return
        if chance.random() < 0.2:
            ship.crash()
        else:
            ship.disk.crash_in, ship.disk.crash_after = chance.randint(1, 8), chance.random() < 0.5
        while ship.disk.crash_in is not None:  # noqa: ASYNC110
            await asyncio.sleep(5)
        await asyncio.sleep(chance.choice((1, 20, 120)) * chance.random())
        if not ship.lost:
            ship.start()

    async def _lose(self, ship: Ship, when: float) -> None:
        """It falls into the sea."""
        await asyncio.sleep(when)
        ship.lost = True
        if ship.up:
            ship.crash()

    async def _fill(self, ship: Ship, when: float) -> None:
        await asyncio.sleep(when)
        ship.disk.full = True
        await asyncio.sleep(self.sea.chance.uniform(1, 200))
        ship.disk.full = False

    async def _spoil(self, when: float) -> None:
        """The disk of some node gives an object that it holds whole no more, for good."""
        await asyncio.sleep(when)
        if laden := self._laden():
            ship, object_id = self.fate.choice(laden)
            self.sea.note("bad", ship.name, object_id.hex())
            ship.disk.bad.add(object_id)

    async def _rot(self, when: float) -> None:
        """The disk of some node gives other bytes of an object that it holds whole, and no error, for good."""
        await asyncio.sleep(when)
        if laden := self._laden():
            ship, object_id = self.cards.choice(laden)
            self.sea.note("rotten", ship.name, object_id.hex())
            ship.disk.rotten.add(object_id)

    def _laden(self) -> list[tuple[Ship, ObjectId]]:
        """What honest nodes hold whole of packages under way."""
        return [
            (ship, object_id)
            for ship in self.sea.ships
            if ship.honest and not ship.is_receiver
            for object_id, item in ship.disk.catalogue.objects.items()
            if item.whole is not None and any(row.entry is None for row in item.rows)
        ]

    async def _misplace(self, ship: Ship, when: float) -> None:
        """The next object that becomes whole on a node does not come to its place."""
        await asyncio.sleep(when)
        ship.disk.misplaces += 1

    async def _turn_clock(self, ship: Ship, when: float) -> None:
        await asyncio.sleep(when)
        ship.traits.skew = _skew(self.sea.chance)

    async def _set_clock(self, ship: Ship) -> None:
        """A box without a battery hears what time it is."""
        await asyncio.sleep(self.fate.uniform(0, self.weather.seconds))
        ship.traits.skew = 0.0

    async def _revoke(self, when: float) -> None:
        """The office revokes nodes, and tells two of the others."""
        sea, chance = self.sea, self.sea.chance
        await asyncio.sleep(when)
        rogues = [one for one in sea.ships if not one.honest]
        others = [one for one in sea.ships if one.honest and not one.is_receiver]
        chosen = [*rogues, *chance.sample(others, 1)][: self.weather.revocations]
        notice = self._revocations([one.member for one in chosen])
        told = [one for one in others if one.up and one not in chosen]
        for ship in chance.sample(told, min(2, len(told))):
            ship.spawn(ship.take((notice.kind, notice.raw)))

    async def _succeed(self, when: float) -> None:
        """The office revokes the receiver and names another one; two nodes hear of it, that one does, sometimes the old
        one. Whoever did not hear goes on delivering there."""
        sea, chance = self.sea, self.sea.chance
        await asyncio.sleep(when)
        notices = [self._revocations([sea.company.receiver]), sea.company.succession(2)]
        sea.ledger.notices.update(one.id for one in notices)
        self.succession = [(one.kind, one.raw) for one in notices]
        old, heir = sea.receivers
        others = [one for one in sea.ships if one.honest and not one.is_receiver and one.up]
        told = [heir, *chance.sample(others, min(2, len(others))), *([old] if chance.random() < 0.5 else [])]
        for ship in told:
            ship.spawn(ship.take(*self.succession))

    def _revocations(self, members: Sequence[Member]) -> Admitted:
        """A notice that revokes these as well."""
        self.revoked += members
        self.revocations += 1
        notice = self.sea.company.revocations(self.revocations, self.revoked)
        self.sea.ledger.notices.add(notice.id)
        return notice

    # -- the calm

    async def _calm(self) -> None:
        sea, chance = self.sea, self.sea.chance
        await self._settle_down()
        left = [one for one in sea.ships if one.honest and not one.lost]
        receiver = next((one for one in reversed(left) if one.is_receiver), None)
        if receiver is None:
            return
        if self.succession:
            # A power cut may have come before those who were told, or those are all lost: the office says it once more,
            # to a node that will not be near the new receiver, perhaps.
            carried = next((one for one in left if not one.is_receiver and not _is_revoked(one, left)), receiver)
            for ship in dict.fromkeys((receiver, carried)):
                await asyncio.wait([ship.spawn(ship.take(*self.succession))])
        for ship in left:
            sea.ledger.look_at(ship)
        believed = [one for one in left if not _is_revoked(one, left)]
        expected = sea.ledger.deliverable(believed)
        others = [number for number, one in enumerate(sea.ships) if one in believed and not one.is_receiver]
        roomy = [number for number in others if sea.ships[number].traits.storage_limit is None]
        cramped = [number for number in others if number not in roomy]
        for one, other in plan.web(chance, roomy, cramped, sea.ships.index(receiver)):
            sea.join(sea.ships[one], sea.ships[other], self._link(rough=False))
        for pirate in [one for one in sea.ships if not one.honest and one.up]:
            for prey in chance.sample(believed, 3):
                if sea.link(pirate, prey) is None:
                    sea.join(pirate, prey, self._link(rough=False))
        end = sea.loop.time() + PATIENCE
        while any(sea.ledger.unsettled(believed, receiver, expected)) and sea.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(5)
        for what in sea.ledger.unsettled(believed, receiver, expected):
            sea.ledger.broken(what)
        for ship in left:
            sea.ledger.look_at(ship)
            bundles = await ship.custody.store.bundles()
            sea.ledger.look_at_bundles(ship, [(one.id, one.state) for one in bundles])
        sea.ledger.look_at_agreement(believed if self.succession else left, receiver)

    async def _settle_down(self) -> None:
        """All contacts end, faults as well; whoever is down and not lost starts again."""
        sea = self.sea
        for task in self.chaos:
            task.cancel()
        for ended in await asyncio.gather(*self.chaos, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        for ship in sea.ships:
            ship.disk.full = False
            ship.disk.temper.bad = 0.0
            ship.disk.crash_in = None
            ship.disk.misplaces = 0
            for other in sea.ships:
                sea.part(ship, other)
                ship.loses(other)
            if not ship.up and not ship.lost:
                ship.crash()
                ship.start()
            elif not ship.honest and not ship.lost and not self.weather.besieged:
                ship.lost = True
                ship.crash()
        await asyncio.sleep(60)
        for ship in sea.ships:
            if not ship.up and not ship.lost:
                sea.ledger.broken(f"[5] {ship.name} does not start again")
                ship.lost = True


def _is_revoked(ship: Ship, ships: Sequence[Ship]) -> bool:
    return any(ship.member.identity.node in other.custody.admission.revoked for other in ships)


def _skew(chance: Random) -> float:
    return chance.choice((0.0, chance.gauss(0, 100), -1_732_000_000.0, 410_000_000.0, chance.gauss(0, 1e6)))


def crew(sea: Sea, weather: Weather) -> Iterator[Ship]:
    """Twenty nodes, drawn from the company, and the receiver to come where there is to be another one."""
    chance, company = sea.chance, sea.company

    def traits(*, tight: bool = False) -> Traits:
        return Traits(
            temper=Temper(
                chance.choice((0.0, 0.002, 0.05)), chance.choice((0.0, 0.0, 0.05)), chance.choice((0.0, 0.0, 0.003))
            ),
            skew=_skew(chance),
            retention=chance.choice((0, 60, 3_600)),
            storage_limit=chance.choice((150_000, 400_000)) if tight else None,
            quota_statements=chance.choice((12, 1_000)),
        )

    operators = chance.randint(5, 9)
    carriers = 19 - operators - weather.pirates - weather.rogues
    yield Ship(sea, company.receiver, Traits(temper=Temper(chance.choice((0.0, 0.01)), 0.0)))
    for member in chance.sample(company.operators, operators):
        yield Ship(sea, member, traits())
    for member in chance.sample(company.carriers, carriers):
        yield Ship(sea, member, traits(tight=weather.tight and chance.random() < 0.4))
    for member in chance.sample(company.pirates, weather.pirates) + chance.sample(company.rogues, weather.rogues):
        yield Pirate(sea, member, traits())
    if weather.succession:
        yield Ship(sea, company.heir, Traits(temper=Temper(chance.choice((0.0, 0.01)), 0.0)))


def run(seed: int, company: Company, fit: Fit | None = None, *, tell: bool = False) -> Outcome:
    """One run."""
    loop = VirtualLoop()
    sea = Sea(loop, Random(seed), company)
    sea.tell = tell
    fate = Random(f"fate of {seed}")
    cards = Random(f"cards of {seed}")
    weather = Weather.draw(sea.chance, fate, cards, Random(f"bounds of {seed}"))
    voyage = Voyage(sea, weather, fate, cards)

    async def whole() -> None:
        sea.ledger.notices.update(one.id for one in company.notices)
        sea.ships.extend(crew(sea, weather))
        if fit is not None:
            fit(sea)
        try:
            await voyage.sail()
        finally:
            for ship in sea.ships:
                ship.crash()
            await asyncio.sleep(60)

    def unretrieved(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, RelayError):
            sea.ledger.fault(f"{context['message']}: {error!r}", error)

    loop.set_exception_handler(unretrieved)
    with simulated(sea), comparing_finely(weather.fine), settling_little(weather.settled):
        loop.run_until_complete(whole())
    loop.close()
    receiver = sea.receivers[-1].disk.catalogue
    return Outcome(
        seed,
        sea.digest,
        tuple(sea.ledger.violations),
        len(sea.ships),
        len(sea.ledger.captures),
        receiver.log_state.size,
        sea.visits,
        sea.crashes,
        sea.events,
        loop.time(),
    )


@contextmanager
def comparing_finely(listed: int) -> Iterator[None]:
    """Within it nodes list no more than so many records at once, and a greeting holds as little as an answer may: sets
    are compared in several rounds. None, and they do it as always."""
    if not listed:
        yield
        return
    with (
        patch("relay.sync.reconcile.LISTED", min(listed, LISTED)),
        patch("relay.sync.reconcile.LISTED_ALONE", listed),
        patch("relay.sync.host.MAX_GREETED", MIN_RECONCILE_MESSAGE),
    ):
        yield


@contextmanager
def settling_little(settled: int) -> Iterator[None]:
    """Within it a visit settles no more than so many differences. None, and it settles as many as always."""
    with patch("relay.sync.visit.MAX_RECONCILE_FOUND", settled or MAX_RECONCILE_FOUND):
        yield


@contextmanager
def simulated(sea: Sea) -> Iterator[None]:
    """Put the air where sockets are and the simulated disk where files are; hear of faults that were only logged."""

    class Faults(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                sea.ledger.fault(record.getMessage() + f" {record.exc_info[1]!r}", record.exc_info[1])
            elif record.levelno >= logging.CRITICAL:
                sea.ledger.broken(f"[8] a false alarm: {record.getMessage()}")

    logger = logging.getLogger("relay")
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [Faults()], False
    logger.setLevel(logging.ERROR)
    collecting = gc.isenabled()
    gc.disable()  # what is finalized must not depend on when garbage is collected
    try:
        with (
            patch("relay.node.contacts.HttpPeer", lambda url, ship, _torn: AirPeer(url, ship)),
            sea.company.memory.kept(),
            uncounted_tasks(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # of certificates that pirates bend
            yield
    finally:
        if collecting:
            gc.enable()
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])  # which forgets what was found out of the level in between
