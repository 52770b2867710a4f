"""Contacts: what a change of the link means to a visit under way, where a neighbour is looked for, and when not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from relay.errors import Refused, Unreachable
from relay.limits import (
    AWAY_SECONDS,
    CONTACT_SECONDS,
    FIRST_RETRY_SECONDS,
    IDLE_SECONDS,
    LINK_HURRY_SECONDS,
    MAX_ADDRESSES,
    MEMORY_FAILURES,
    SETTLED_SECONDS,
    SILENCE_SECONDS,
)
from relay.node import contacts
from relay.node.contacts import Contacts
from relay.node.schedule import next_visit
from relay.records.identifiers import Kind, NodeId, ObjectId
from relay.store.interface import Holding, PeerNote
from relay.sync.custody import Custody
from relay.sync.host import Host
from relay.sync.messages import PROTOCOL, Greeting
from relay.sync.signal import Signal
from tests.factory import make_statement
from tests.fleet import Clock, Fleet, Link, Ship

HERE, THERE = "[fe80::1%wlan0]:8470", "[fe80::1%wlan1]:8470"


class Way(Link):
    """The way to a node at a URL."""

    def __init__(self, host: Host, url: str, rig: Rig) -> None:
        super().__init__(host)
        self.url = url
        self._rig = rig

    async def hello(self, mine: Greeting) -> Greeting:
        self._rig.called.append(self.url)
        await self._rig.on_hello(self.url)
        return await super().hello(mine)

    async def __aenter__(self) -> Way:
        return self

    async def meet(self) -> NodeId:
        """Who answers there, if somebody does."""
        self._rig.knocked.append(self.url)
        return await self._rig.on_meet(self.url) or self._rig.other.node.identity.node

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        self._rig.asked += 1
        await self._rig.on_holdings()
        return await super().holdings(objects)

    async def news(self, heard: int, wait: float) -> int:
        self._rig.listening = True
        if self._rig.cries:
            return heard + 1
        return await Signal().wait(heard, None)  # never any

    async def close(self) -> None:
        """Nothing to close."""


class Rig:
    """A ship whose contacts lead to another one without sockets."""

    def __init__(self, ship: Ship, other: Ship) -> None:
        self.ship, self.other = ship, other
        self.called: list[str] = []
        self.knocked: list[str] = []
        self.asked = 0
        self.listening = False
        self.cries = False
        """Whether the other one says, whenever it is asked, that it has news."""
        self.on_hello: Callable[[str], Any] = self._nothing
        self.on_meet: Callable[[str], Any] = self._nothing
        self.on_holdings: Callable[[], Any] = self._nothing
        self.contacts = Contacts(
            ship.custody, cast(Any, None), ship.greeting, ship.claims, asyncio.get_running_loop().time
        )
        self.key = other.node.identity.node.hex()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that is to happen."""
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def peer(self, url: str, *_rest: object) -> Way:
        """Stands where `HttpPeer` does."""
        return Way(self.other.host(self.ship), url, self)

    async def _nothing(self, *_what: object) -> None:
        return


@pytest.fixture
async def rig(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    ships = [await fleet.carrier(name) for name in ("km-bahari", "kp-anis")]
    ships.sort(key=lambda ship: ship.node.identity.node)  # the lower id visits at once
    rig = Rig(*ships)
    monkeypatch.setattr(contacts, "HttpPeer", rig.peer)
    yield rig
    await rig.contacts.close()


async def test_a_visit_over_an_interface_that_went_ends_at_once(rig: Rig) -> None:
    stuck = asyncio.Event()

    async def hang(_url: str) -> None:
        if len(rig.called) == 1:
            stuck.set()
            await asyncio.Event().wait()

    rig.on_hello = hang
    rig.contacts.seen(rig.key, [HERE])
    await stuck.wait()
    rig.contacts.link_changed({"wlan1"}, {"wlan1"})
    await asyncio.sleep(0)
    assert len(rig.called) == 1, "another interface is another's affair"
    rig.contacts.link_changed({"wlan0"}, {"wlan0"})
    await rig.until(lambda: len(rig.called) > 1)


async def test_what_a_visit_had_no_room_for_is_had_by_the_next_one_at_once(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what came here in between, and was passed over, by the one after those."""
    monkeypatch.setattr("relay.sync.visit.MAX_RECONCILE_FOUND", 10)
    island = await fleet.launch("pulau-long")
    statements = sorted(
        (make_statement(fleet.election, island.node, form=f"form-{place}") for place in range(36)),
        key=lambda one: one.id,
    )
    late = statements.pop(0)
    await rig.ship.take(*statements)

    async def hello(_url: str) -> None:
        if len(rig.called) == 2:
            await rig.ship.take(late)

    rig.on_hello = hello
    begun = asyncio.get_running_loop().time()
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: (Kind.STATEMENT, late.id) in rig.other.store.members)
    assert asyncio.get_running_loop().time() - begun < IDLE_SECONDS / 2
    assert set(rig.ship.store.members) == set(rig.other.store.members)
    assert len(rig.called) == 5


@pytest.fixture
def earlier() -> list[str]:
    """Addresses of earlier days, at which whoever calls waits in vain."""
    return [f"10.{day}.0.7:8470" for day in range(MAX_ADDRESSES - 1)]


async def wait_for_ever(*_anything: object) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def knocking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as a visit waits for its neighbour; and it waits for nothing else."""
    monkeypatch.setattr(contacts, "KNOCK_SECONDS", 0.001)
    monkeypatch.setattr(Custody, "take_in_before_greeting", lambda _custody: asyncio.sleep(0))


@pytest.mark.usefixtures("knocking_at_once")
async def test_addresses_of_earlier_days_hold_no_visit_up(rig: Rig, earlier: list[str]) -> None:
    """Each of them alone would take three seconds."""

    async def hello(url: str) -> None:
        if HERE not in url:
            await wait_for_ever()

    rig.on_hello = rig.on_meet = hello
    rig.contacts.seen(rig.key, [*earlier, HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    await rig.until(lambda: neighbour.contact.visited is not None)
    assert rig.called == [f"https://{earlier[0]}", f"https://{HERE}"]
    assert rig.knocked == [f"https://{address}" for address in (*earlier[1:], HERE)], "one after the other"
    assert neighbour.addresses[0] == HERE, "and it is the first the next time"


@pytest.mark.usefixtures("knocking_at_once")
async def test_an_address_that_is_heard_of_while_a_visit_waits_at_another_is_tried_at_once(rig: Rig) -> None:
    async def hello(url: str) -> None:
        if HERE not in url:
            await wait_for_ever()

    rig.on_hello = hello
    rig.contacts.seen(rig.key, [THERE])
    await rig.until(lambda: len(rig.called) == 1)
    rig.contacts.link_changed({"wlan1"}, ())  # it is hurried once
    await rig.until(lambda: len(rig.called) == 2)
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: rig.called[-1] == f"https://{HERE}")
    assert rig.called[:-1] == [f"https://{THERE}"] * 2


@pytest.mark.usefixtures("knocking_at_once")
async def test_where_another_node_answers_a_visit_does_not_go(rig: Rig) -> None:
    rig.on_hello = wait_for_ever

    async def another(_url: str) -> NodeId:
        return rig.ship.node.identity.node

    rig.on_meet = another
    rig.contacts.seen(rig.key, [HERE, THERE])
    await rig.until(lambda: len(rig.knocked) == 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert rig.called == [f"https://{HERE}"]


@pytest.mark.usefixtures("knocking_at_once")
async def test_how_many_addresses_are_tried_at_once_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can announce hundreds of nodes at addresses that lead nowhere."""
    monkeypatch.setattr(contacts, "MAX_KNOCKS", 3)
    rig.on_hello = rig.on_meet = wait_for_ever
    for place in range(9):
        rig.contacts.seen(f"{place:f>64x}", [HERE, THERE])
    await rig.until(lambda: len(rig.called) == 9 and len(rig.knocked) == 3)
    for _ in range(100):
        await asyncio.sleep(0.0001)
    assert len(rig.knocked) == 3


async def test_what_is_announced_pushes_out_neither_what_works_nor_what_worked_last(
    rig: Rig, earlier: list[str]
) -> None:
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    await rig.until(lambda: neighbour.contact.visited is not None)
    rig.contacts.seen(rig.key, [*earlier, THERE])
    assert neighbour.addresses == [HERE, *earlier], "it works"
    neighbour.contact.failures = 1
    rig.contacts.seen(rig.key, [THERE, *earlier])
    assert neighbour.addresses[:2] == [THERE, HERE], "what is true now comes first, then what was true last"
    assert len(neighbour.addresses) == MAX_ADDRESSES


async def test_who_is_in_sight_and_refuses_is_not_visited_with_each_sign_of_life(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(rig.contacts, "_clock", lambda: now)

    async def refuse(_url: str) -> None:
        raise Refused("other-version", "It speaks another version", "Update it.")

    rig.on_hello = refuse
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    for times in range(1, 5):
        await rig.until(lambda times=times: len(rig.called) == times)  # type: ignore[misc]
        for _ in range(50):
            rig.contacts.seen(rig.key, [HERE])
            await asyncio.sleep(0)
        assert len(rig.called) == times == neighbour.contact.failures
        now = next_visit(neighbour.contact, 0)
        assert now - (neighbour.contact.failed or 0.0) == FIRST_RETRY_SECONDS * 2 ** (times - 1)
        neighbour.changed.set()
    now += AWAY_SECONDS
    neighbour.contact.failed = now
    rig.contacts.seen(rig.key, [HERE])
    assert not neighbour.contact.failures, "it comes back: perhaps it was updated"


async def test_who_speaks_another_version_is_noted_among_the_neighbours(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an update of one box and not of the other looks as if nobody came."""
    monkeypatch.setattr("relay.sync.visit.PROTOCOL", PROTOCOL + 1)
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    await rig.until(lambda: neighbour.trouble != "")
    assert "speaks version" in neighbour.trouble
    (noted,) = await rig.ship.custody.store.peers()
    assert (noted.name, noted.connected) == (rig.other.name, False)


async def test_who_is_in_sight_and_was_out_of_reach_is_tried_again_with_each_sign_of_life(rig: Rig) -> None:
    async def lose(_url: str) -> None:
        raise Unreachable("Nobody is there", "It is tried again.")

    rig.on_hello = lose
    rig.contacts.seen(rig.key, [HERE])
    for times in range(1, 5):
        await rig.until(lambda times=times: len(rig.called) == times)  # type: ignore[misc]
        rig.contacts.seen(rig.key, [HERE])


async def test_a_memory_of_an_earlier_contact_is_given_up_when_nobody_answers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(rig.contacts, "_clock", lambda: now)

    async def lose(_url: str) -> None:
        raise Unreachable("Nobody is there", "It is tried again.")

    rig.on_hello = lose
    rig.contacts.seen(rig.key, [HERE], remembered=True)
    neighbour = rig.contacts._neighbours[rig.key]
    for times in range(1, MEMORY_FAILURES + 1):
        await rig.until(lambda times=times: neighbour.contact.failures == times)  # type: ignore[misc]
        now += 100
        neighbour.changed.set()
    await rig.until(lambda: not rig.contacts._neighbours)
    assert len(rig.called) == MEMORY_FAILURES


async def test_a_visit_that_nobody_answers_is_begun_anew_when_the_link_comes_but_not_again_and_again(rig: Rig) -> None:
    rig.on_hello = wait_for_ever
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: len(rig.called) == 1)
    rig.contacts.link_changed({"wlan0"}, ())
    await rig.until(lambda: len(rig.called) == 2)
    for _ in range(20):
        rig.contacts.link_changed({"wlan0"}, ())
        await asyncio.sleep(0)
    assert len(rig.called) == 2
    now = rig.contacts._clock() + LINK_HURRY_SECONDS
    rig.contacts._clock = lambda: now
    rig.contacts.seen(rig.key, [HERE])
    await asyncio.sleep(0)
    assert len(rig.called) == 2, "that it is announced is no change of the link"
    rig.contacts.link_changed({"wlan0"}, ())
    await rig.until(lambda: len(rig.called) == 3)


async def test_who_was_visited_just_now_leaves_the_next_visit_to_the_other(rig: Rig) -> None:
    """Two visits at once would bring much twice."""
    higher = Rig(rig.other, rig.ship)
    now = 100.0
    higher.contacts._clock = lambda: now
    higher.contacts.seen(higher.key, [HERE])
    neighbour = higher.contacts._neighbours[higher.key]
    now += SILENCE_SECONDS - 0.1
    with higher.contacts.presence(rig.ship.node.identity, visiting=True):
        pass
    assert next_visit(neighbour.contact, higher.ship.custody.news.count) == now + SILENCE_SECONDS
    now += 0.1
    neighbour.changed.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not higher.called
    await higher.contacts.close()


async def test_what_came_here_does_not_wait_behind_what_the_neighbour_never_takes(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Visits that are over with nothing kept go on where they ended, and not at once: but for news that was passed
    over."""
    monkeypatch.setattr("relay.sync.visit.MAX_RECONCILE_FOUND", 10)
    island, thief = await fleet.launch("pulau-long"), await fleet.launch("thief")
    surplus = [make_statement(fleet.election, thief.node) for _ in range(37)]
    rig.other.store._rules = replace(rig.other.store._rules, quota_statements=1)
    await rig.other.take(surplus.pop())
    await rig.ship.take(*surplus)
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: rig.other.custody.verdicts["statement", "over-quota"] == 10)
    assert len(rig.called) == 1, "nothing was kept that was brought"
    tries = (make_statement(fleet.election, island.node) for _ in itertools.count())
    late = next(one for one in tries if one.id < min(one.id for one in surplus))
    await rig.ship.take(late)
    await rig.until(lambda: (Kind.STATEMENT, late.id) in rig.other.store.members)


async def test_an_address_where_nobody_answers_gives_way_to_the_next(rig: Rig) -> None:
    async def lost(url: str) -> None:
        if HERE in url:
            raise Unreachable("Nobody is there", "It is tried again.")

    rig.on_hello = lost
    rig.contacts.seen(rig.key, [HERE, THERE])
    await rig.until(lambda: f"https://{THERE}" in rig.called)
    assert rig.called == [f"https://{HERE}", f"https://{THERE}"]


async def test_a_node_is_visited_where_it_answers_and_not_only_where_it_is_said_to_be(rig: Rig) -> None:
    """A receiver may listen on one address and be announced at another one; and anybody can announce it."""

    async def lost(url: str) -> None:
        if HERE in url:
            raise Unreachable("Nobody is there", "It is tried again.")

    rig.on_hello = lost
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: len(rig.called) == 1)
    rig.contacts.configure([url := f"https://{THERE}"])
    await rig.until(lambda: rig.contacts._neighbours[url].contact.visited is not None)


async def test_an_address_where_a_visit_was_cut_is_the_first_to_be_tried_again(fleet: Fleet, rig: Rig) -> None:
    island = await fleet.launch("pulau-long")
    statement = await island.submit(fleet.content())
    await rig.ship.custody.take([(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)])

    async def cut() -> None:
        raise Unreachable("The link is lost", "It is tried again.")

    rig.on_holdings = cut
    rig.contacts.seen(rig.key, [HERE, THERE])
    await rig.until(lambda: len(rig.called) == 2)
    assert rig.called == [f"https://{HERE}"] * 2


async def test_something_is_expected_of_who_was_out_of_reach(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes back may have anything: what content needs is made ready beside the greeting."""
    clock, prepared = fleet.clock, 0

    def prepare(_way: Way) -> None:
        nonlocal prepared
        prepared += 1

    async def away(_url: str) -> None:
        raise Unreachable("The boat has sailed", "It comes back.")

    monkeypatch.setattr(Way, "prepare", prepare)
    monkeypatch.setattr(rig.contacts, "_clock", clock)
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    await rig.until(lambda: neighbour.contact.visited is not None)
    expected = []
    for on_hello in (rig._nothing, rig._nothing, away, rig._nothing, rig._nothing):
        before, rig.on_hello, calls = prepared, on_hello, len(rig.called)
        clock.now += IDLE_SECONDS + 1
        neighbour.changed.set()
        await rig.until(lambda calls=calls: len(rig.called) > calls)  # type: ignore[misc]
        last = neighbour.contact
        await rig.until(lambda last=last: clock.now in (last.failed, last.visited))  # type: ignore[misc]
        expected.append(prepared > before)
    assert expected[1:] == [False, False, True, False]


async def test_where_nothing_changed_nobody_is_asked_for_content_again(
    fleet: Fleet, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lack the same photographs: without this they would ask each other for them at every visit."""
    clock = fleet.clock
    island = await fleet.launch("pulau-long")
    await island.submit(fleet.content())
    for ship in (rig.ship, rig.other):
        records = await island.store.read(await island.store.awaiting_receipt(b"", 1), 1 << 20)
        await ship.custody.take([(kind, raw) for kind, _, raw in records])
    monkeypatch.setattr(rig.contacts, "_clock", clock)
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]

    async def visited_again(seconds: float) -> int:
        before, calls = rig.asked, len(rig.called)
        clock.now += seconds
        neighbour.changed.set()
        await rig.until(lambda: len(rig.called) > calls and neighbour.contact.visited == clock.now)
        return rig.asked - before

    await rig.until(lambda: neighbour.contact.visited is not None)
    assert rig.asked == 1
    assert await visited_again(IDLE_SECONDS + 1) == 0
    assert await visited_again(IDLE_SECONDS + 1) == 0
    rig.other.custody.content += 1
    assert await visited_again(IDLE_SECONDS + 1) == 1, "something came or went there"
    assert await visited_again(IDLE_SECONDS + 1) == 0
    assert await visited_again(SETTLED_SECONDS + 1) == 1, "a disk may have room again"


async def test_news_of_others_is_carried_on_though_the_visit_brought_some_too(fleet: Fleet, rig: Rig) -> None:
    """What comes from elsewhere during a visit is no news that the neighbour has heard."""
    island = await fleet.launch("pulau-long")
    theirs, elsewhere = [await island.submit(), await island.submit()]

    await rig.other.custody.take([(kind, raw) for kind, _, raw in await island.store.read([theirs], 1 << 20)])
    real = rig.ship.custody.take

    async def take(records: Any, asked: Any = None) -> Any:
        verdicts = await real(records, asked)
        monkey.undo()
        await real([(kind, raw) for kind, _, raw in await island.store.read([elsewhere], 1 << 20)])
        return verdicts

    monkey = pytest.MonkeyPatch()
    monkey.setattr(rig.ship.custody, "take", take)
    rig.contacts.seen(rig.key, [HERE])
    try:
        await rig.until(lambda: len(rig.other.store.members) == len(rig.ship.store.members) > 1)
    finally:
        monkey.undo()


async def test_what_comes_here_is_carried_on_and_does_not_wait_for_the_next_visit(fleet: Fleet, rig: Rig) -> None:
    island = await fleet.launch("pulau-long")
    statement = await island.submit()
    rig.contacts.seen(rig.key, [HERE])
    await rig.until(lambda: rig.listening)  # asleep until the next visit is due, long after this test
    await rig.ship.custody.take([(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)])
    await rig.until(lambda: (Kind.STATEMENT, statement) in rig.other.store.members)


async def test_who_calls_in_vain_again_and_again_is_visited_less_and_less(
    fleet: Fleet, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = fleet.clock
    monkeypatch.setattr(rig.contacts, "_clock", clock)
    rig.cries = True
    rig.contacts.seen(rig.key, [HERE])
    neighbour = rig.contacts._neighbours[rig.key]
    await rig.until(lambda: neighbour.contact.visited is not None)
    pauses: list[float] = []
    for _ in range(12):
        await rig.until(lambda: neighbour.contact.called)
        due = next_visit(neighbour.contact, rig.ship.custody.news.count)
        pauses.append(due - clock.now)
        clock.now = due
        neighbour.changed.set()
        await rig.until(lambda: neighbour.contact.visited == clock.now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == IDLE_SECONDS
    island = await fleet.launch("pulau-long")
    statement = await island.submit()
    await rig.other.custody.take([(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)])
    clock.now += IDLE_SECONDS
    neighbour.changed.set()
    await rig.until(lambda: (Kind.STATEMENT, statement) in rig.ship.store.members)
    await rig.until(lambda: neighbour.contact.in_vain == 0)


async def visited_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[Rig, Clock]:
    """The node with the higher id, which has visited the other one once, and its clock."""
    higher, clock = Rig(rig.other, rig.ship), Clock()
    monkeypatch.setattr(higher.contacts, "_clock", clock)
    monkeypatch.setattr(contacts, "HttpPeer", higher.peer)
    higher.contacts.seen(higher.key, [HERE])
    clock.now += SILENCE_SECONDS
    higher.contacts._neighbours[higher.key].changed.set()
    await higher.until(lambda: higher.listening)
    return higher, clock


@pytest.mark.parametrize("gone", [True, False])
async def test_who_met_before_and_meets_again_leaves_the_first_visit_to_the_lower_id(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """Its last visit is long ago, so that one is due: both would make it at once, and bring much twice. Whether the
    other one was said to have gone, or was found to be."""
    higher, clock = await visited_once(rig, monkeypatch)
    neighbour = higher.contacts._neighbours[higher.key]
    clock.now += 10 * IDLE_SECONDS
    if gone:
        higher.contacts.lost(higher.key)
    else:
        neighbour.contact.failures, neighbour.contact.failed = 3, clock.now - 5 * IDLE_SECONDS
    higher.contacts.seen(higher.key, [HERE])
    assert next_visit(neighbour.contact, higher.ship.custody.news.count) == clock.now + SILENCE_SECONDS
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(higher.called) == 1, "the other one has its turn"
    clock.now += SILENCE_SECONDS
    neighbour.changed.set()
    await higher.until(lambda: len(higher.called) == 2)
    await higher.contacts.close()


async def test_an_attempt_that_hangs_when_a_neighbour_comes_back_leaves_the_first_visit_to_the_lower_id(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP tries on by itself, and would get through at the moment of the other one's visit: much would come twice."""
    higher, clock = await visited_once(rig, monkeypatch)
    neighbour = higher.contacts._neighbours[higher.key]
    for round_ in range(2):  # the second time soon after the first
        clock.now += 6.0
        neighbour.contact.failures, neighbour.contact.failed = 1, clock.now - 6.0
        higher.on_hello = wait_for_ever
        neighbour.changed.set()
        await higher.until(lambda round_=round_: len(higher.called) == 2 + 2 * round_)  # type: ignore[misc]
        hanging = neighbour.visit
        assert hanging is not None
        higher.contacts.seen(higher.key, [HERE])
        await higher.until(hanging.cancelled)
        for _ in range(100):
            await asyncio.sleep(0)
        assert neighbour.visit is None, "the other one has its turn"
        higher.on_hello = higher._nothing
        clock.now += SILENCE_SECONDS
        neighbour.changed.set()
        await higher.until(lambda round_=round_: len(higher.called) == 3 + 2 * round_)  # type: ignore[misc]
        await higher.until(lambda: neighbour.visit is None)
    await higher.contacts.close()


async def test_who_keeps_calling_stays_in_contact(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boat that lies alongside calls all the time, and makes no new beginning by which it would be noted."""
    now, noted = 0.0, []
    visitors = Contacts(rig.ship.custody, cast(Any, None), rig.ship.greeting, rig.ship.claims, lambda: now)

    async def note(peer: PeerNote) -> None:
        noted.append(now)

    monkeypatch.setattr(contacts, "NOTE_SECONDS", 0.0)
    monkeypatch.setattr(rig.ship.custody.store, "note_peer", note)
    step = IDLE_SECONDS / 3
    while now < 3 * CONTACT_SECONDS:
        with visitors.presence(rig.other.node.identity, visiting=False):
            await asyncio.sleep(0)
        await asyncio.gather(*visitors._notes)
        now += step
    assert max(after - before for before, after in itertools.pairwise(noted)) < CONTACT_SECONDS - step
    assert now - noted[-1] < CONTACT_SECONDS
    assert len(noted) < 3 * CONTACT_SECONDS / step / 2, "and not with every call"
    await visitors.close()
