"""Promise 4: content is freed only against a valid receipt; the device that made a package keeps it besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import DiskFull, StoreError
from relay.limits import JUMP_SECONDS
from relay.node.retention import Retention, free_delivered
from relay.records.identifiers import Kind, StatementId
from relay.records.notice import Receiver, Receivers
from relay.store.content import Content
from relay.store.interface import State
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.certificates import issued_at
from relay.trust.roles import Role
from tests.factory import (
    make_election,
    make_file,
    make_node,
    make_receipt,
    make_revocations,
    make_statement,
    object_of,
)
from tests.fleet import Fleet, Ship, each
from tests.promises.adversaries import Glutton

RETENTION = 1_000
NOW = 1_732_600_000.0
"""After the nodes were enrolled."""


async def free(ship: Ship) -> int:
    """What the daemon does now and then."""
    return await free_delivered(ship.store, int(ship.clock.now), RETENTION)


async def test_nothing_is_freed_without_a_receipt(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    await island.submit(content)
    await boat.visit(island)
    fleet.clock.now += 100 * RETENTION
    for ship in (island, boat):
        assert await free(ship) == 0
        with pytest.raises(StoreError):
            await ship.store.free([object_of(content)])
        assert await ship.read(content) == content


async def test_a_receipt_by_another_authority_frees_nothing(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = make_statement(fleet.election, island.node, make_file(content))
    await boat.take(statement)
    await boat.stage(content, range(4))
    pirates = make_election(99)
    receipt = make_receipt(pirates, make_node(pirates, "receiver", Role.RECEIVER), statement)
    assert await boat.take(receipt) == ["foreign-certificate"]
    assert await free(boat) == 0
    assert await boat.read(content) == content


async def test_a_carrier_frees_what_was_delivered_and_passes_the_receipt_on(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    await boat.visit(receiver)
    assert await free(boat) == len(content)
    assert (await boat.store.counts()).bytes_held == 0
    assert await boat.read(content) == b""
    await boat.visit(island)
    assert await island.state(statement) is State.DELIVERED
    assert await receiver.read(content) == content


async def test_the_maker_keeps_its_own_for_its_retention_time(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    await island.visit(receiver)
    assert await free(island) == 0
    fleet.clock.now += RETENTION - 1
    assert await free(island) == 0
    assert await island.read(content) == content
    fleet.clock.now += 2
    assert await free(island) == len(content)


async def test_content_that_another_package_still_needs_is_kept(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    shared, alone = fleet.content(), fleet.content()
    await island.submit(shared, alone)
    await boat.visit(island)
    await boat.visit(receiver)
    later = await island.submit(shared, form="form-2")
    await boat.visit(island)
    assert await free(boat) == len(alone)
    assert await boat.read(shared) == shared
    assert await boat.state(later) is State.WAITING
    await boat.visit(receiver)
    assert await free(boat) == len(shared)


async def test_a_receipt_frees_a_half_that_came_too_late(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, quick, slow = await fleet.launch("pulau-long"), await fleet.carrier("quick"), await fleet.carrier("slow")
    content = fleet.content()
    statement = await island.submit(content)
    ((kind, _, raw),) = await island.store.read([statement], 1)
    await slow.custody.take([(kind, raw)])
    await slow.stage(content, [0, 1])
    await quick.visit(island)
    await quick.visit(receiver)
    assert await free(slow) == 0
    await slow.visit(quick)
    assert await free(slow) > 0
    assert (await slow.store.counts()).bytes_held == 0


async def test_a_wrong_clock_frees_nothing_without_a_receipt(fleet: Fleet) -> None:
    island = await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    for now in (-(1 << 40), 0, 1 << 40):
        fleet.clock.now = now
        assert await free(island) == 0
    assert await island.read(content) == content


async def test_withheld_content_stays(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement: StatementId = await island.submit(content)
    await boat.visit(island)
    await boat.store.withhold([island.node.identity.node])
    fleet.clock.now += 100 * RETENTION
    assert await free(boat) == 0
    with pytest.raises(StoreError):
        await boat.store.free([object_of(content)])
    await boat.store.withhold([])
    assert await boat.state(statement) is State.WAITING


async def test_a_receiver_gives_no_receipt_for_what_its_disk_does_not_give(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    first, second = fleet.content(), fleet.content()
    statement = await island.submit(first, second)
    await boat.visit(island)
    await receiver.custody.take([(kind, raw) for kind, _, raw in await boat.store.read([statement], 1)])
    await receiver.stage(first, range(4))
    path = receiver.store._content.path(object_of(first))
    path.unlink()
    path.symlink_to(path.name)  # whoever opens it goes round in circles
    assert await receiver.store.read_chunk(object_of(first), 0) is None
    await receiver.stage(second, range(4))
    assert receiver.log is not None
    assert await receiver.log.sequencer.sequence() == 0
    await boat.visit(receiver)
    assert await receiver.read(first) == first
    assert [await ship.state(statement) for ship in (receiver, boat)] == [State.DELIVERED] * 2


async def test_who_says_that_nothing_arrives_has_nothing_read_twice_and_nothing_given_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lacked again and again is compared as it goes, and right: the disk is read for what goes, and no more."""
    island, liar = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content() for _ in range(3)]
    statement = await island.submit(*contents)
    reads = 0
    read_chunk = Content.read_chunk

    def counted(*arguments: Any) -> bytes | None:
        nonlocal reads
        reads += 1
        return read_chunk(*arguments)

    def whole(*_: object) -> bool:
        raise AssertionError("it reads a whole object")

    monkeypatch.setattr(Content, "read_chunk", counted)
    monkeypatch.setattr(Content, "holds", whole)
    glutton = Glutton(liar.host(island), [(object_of(content), len(content)) for content in contents])
    for _ in range(10):
        await island.visit(glutton)
    assert reads == glutton.taken > 0
    visitor = island.host(liar)
    spans = [(object_of(content), index) for content in contents for index in range(4)]
    reads = 0
    for _ in range(10):
        assert all([data async for _, _, data in visitor.get_chunks(each(spans))])
    assert reads == 10 * len(spans)
    assert island.store.unreadable == frozenset()
    assert await island.state(statement) is State.WAITING
    for content in contents:
        assert await island.read(content) == content


async def test_a_receipt_by_a_receiver_that_no_notice_names_frees_nothing(fleet: Fleet) -> None:
    """It is enrolled, and its proof is right: of a log that nobody was told of."""
    await fleet.receiver()
    impostor = await fleet.launch("impostor", Role.RECEIVER)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = make_statement(fleet.election, island.node, make_file(content))
    await boat.take(statement)
    await boat.stage(content, range(4))
    assert await boat.take(make_receipt(fleet.election, impostor.node, statement)) == ["unknown-log"]
    assert await free(boat) == 0
    assert await boat.read(content) == content


async def test_receipts_of_a_receiver_that_was_replaced_stay_good(fleet: Fleet) -> None:
    """For whoever knew the notice that named it, also after a restart."""
    first = await fleet.receiver("receiver")
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    second = await fleet.launch("replacement", Role.RECEIVER)
    statement = make_statement(fleet.election, island.node, make_file(fleet.content()))
    entry = Receiver("replacement", ("https://b.example:8470",), second.node.identity.certificate)
    replaced = fleet.publish(Receivers((entry,)), version=2)
    await boat.take(statement, replaced)
    again = Custody(Admission(fleet.election.root), boat.store)
    await again.load()
    boat.custody = again
    newcomer = await fleet.carrier("km-baru")
    receipt = make_receipt(fleet.election, first.node, statement)
    assert await newcomer.take(receipt) == ["new"], "it was handed the notices in the order in which they came"
    assert await boat.take(receipt) == ["new"]
    assert await boat.state(StatementId(statement.id)) is State.DELIVERED


def keeping(ship: Ship, steady: Callable[[], float], boot: str = "first") -> Retention:
    """What a daemon that starts now keeps."""
    return Retention(ship.store, RETENTION, issued_at(ship.node.identity.certificate), ship.clock, steady, boot)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_box_that_starts_in_1970_keeps_its_own_for_its_time_once_the_clock_is_set(
    fleet: Fleet, restarted: bool
) -> None:
    """Its receipt comes in 1970, then NTP tells what time it is."""
    fleet.clock.now = 60.0
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    running = [0.0]
    retention = keeping(island, lambda: running[0])
    await island.visit(receiver)
    assert await retention.free() == 0
    fleet.clock.now += 200 * RETENTION
    running[0] += 200 * RETENTION
    assert await retention.free() == 0, "a clock that shows a time before the node was enrolled tells none"
    running[0] += 1
    fleet.clock.now = NOW
    if restarted:
        retention = keeping(island, lambda: running[0])
    assert await retention.free() == 0
    fleet.clock.now += RETENTION
    running[0] += RETENTION
    assert await retention.free() == 0
    assert await island.read(content) == content
    fleet.clock.now += 1
    running[0] += 1
    assert await retention.free() == len(content)


@pytest.mark.parametrize("jump", [JUMP_SECONDS + 2, 11 * 86_400.0, 13 * 365 * 86_400.0])
async def test_a_clock_that_is_set_forward_frees_nothing_that_came_before(fleet: Fleet, jump: float) -> None:
    """Whatever it showed meanwhile; and what the packages of others take is freed all the same."""
    fleet.clock.now = NOW
    receiver, island, boat = await fleet.receiver(), await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    own, carried = fleet.content(), fleet.content()
    steady = [5.0]
    ships = [(ship, keeping(ship, lambda: steady[0])) for ship in (island, boat)]
    await island.submit(own)
    await island.visit(receiver)
    await boat.take(statement := make_statement(fleet.election, island.node, make_file(carried)))
    await boat.stage(carried, range(4))
    await boat.visit(receiver)
    assert await boat.state(StatementId(statement.id)) is State.DELIVERED
    freed = []
    for forward in (-jump, jump + RETENTION + 100, 50):
        steady[0] += 50
        fleet.clock.now += forward
        freed += [await retention.free() for _, retention in ships]
    assert freed == [0, len(carried), 0, 0, 0, 0]
    assert await island.read(own) == own
    steady[0] += RETENTION
    fleet.clock.now += RETENTION
    assert await ships[0][1].free() == len(own), "it is kept for its time, and no longer"


class Machine:
    """A device that is switched on and off. Its clock goes on from where it was."""

    def __init__(self, ship: Ship, kept_for: int = RETENTION) -> None:
        self.ship = ship
        self.kept_for = kept_for
        self.steady = 0.0
        self.boots = 0

    def start(self, *, machine: bool = False) -> Retention:
        """Start the daemon, or all of it."""
        self.pass_time(300)
        if machine:
            self.steady, self.boots = 5.0, self.boots + 1
        enrolled = issued_at(self.ship.node.identity.certificate)
        store, wall = self.ship.store, self.ship.clock
        return Retention(store, self.kept_for, enrolled, wall, lambda: self.steady, str(self.boots))

    def pass_time(self, seconds: float) -> None:
        """Let time pass while it is on."""
        self.steady += seconds
        self.ship.clock.now += seconds


@pytest.mark.parametrize("behind", [11 * 86_400.0, -13 * 365 * 86_400.0])
@pytest.mark.parametrize("machine", [False, True])
@pytest.mark.parametrize("running", [False, True])
async def test_its_own_is_kept_for_its_time_and_no_longer_whenever_a_wrong_clock_is_set(
    fleet: Fleet, behind: float, machine: bool, running: bool
) -> None:
    """It was behind, or ahead, and likely, as a receipt came; it is set two starts later, or between two daemons."""
    fleet.clock.now = NOW + 14 * 365 * 86_400 - behind
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    device = Machine(island)
    assert await device.start().free() == 0
    await island.visit(receiver)
    for _ in range(2):
        retention = device.start(machine=machine)
        assert await retention.free() == 0
    fleet.clock.now += behind
    if not running:
        retention = device.start()
    assert await retention.free() == 0
    device.pass_time(RETENTION)
    assert await retention.free() == 0
    assert await island.read(content) == content
    device.pass_time(1)
    assert await retention.free() == len(content)


async def test_a_box_whose_clock_is_put_right_at_every_start_frees_its_own_all_the_same(fleet: Fleet) -> None:
    """It starts with the time at which it was switched off, or with that of 1970."""
    fleet.clock.now = NOW
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    await island.visit(receiver)
    device, freed, days = Machine(island, 7 * 86_400), 0, 0
    while not freed and days < 30:
        days += 1
        right = fleet.clock.now + 86_400
        fleet.clock.now = right - 86_400 if days % 3 else 60.0
        retention = device.start(machine=True)
        assert await retention.free() == 0
        fleet.clock.now = right
        freed += await retention.free()
        device.pass_time(3_600)
        freed += await retention.free()
    assert freed == len(content)
    assert days in (8, 9), "its time began anew once, as the clock was set for the first time"


async def test_a_jump_is_not_forgotten_where_the_disk_was_full_as_it_was_seen(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.clock.now = NOW
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    content = fleet.content()
    await island.submit(content)
    await island.visit(receiver)
    retention = keeping(island, lambda: 0.0)
    fleet.clock.now += JUMP_SECONDS + 2 * RETENTION

    async def full(*_times: int) -> None:
        raise StoreError("The disk is full", "Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(island.store, "date_receipts", full)
        with pytest.raises(StoreError):
            await retention.free()
    assert await retention.free() == 0
    assert await island.read(content) == content


async def test_what_others_made_is_freed_though_the_clock_cannot_be_put_right(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes by no clock; and what it frees may be the room that the rest needs."""
    fleet.clock.now = 60.0
    receiver, island, batun = (
        await fleet.receiver(),
        await fleet.launch("pulau-long"),
        await fleet.launch("pulau-batun"),
    )
    own, carried = fleet.content(), fleet.content()
    await island.submit(own)
    await batun.submit(carried)
    await island.visit(batun)
    await island.visit(receiver)
    retention = keeping(island, lambda: 60.0)
    fleet.clock.now = NOW

    async def full(*_times: int) -> None:
        raise DiskFull("The disk is full", "Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(island.store, "date_receipts", full)
        assert await retention.free() == len(carried)
        with pytest.raises(DiskFull):
            await retention.free()
    assert await retention.free() == 0
    assert await island.read(own) == own
    fleet.clock.now += RETENTION + 1
    assert await retention.free() == len(own)


async def test_at_a_receiver_only_the_receipts_of_its_own_log_count(fleet: Fleet) -> None:
    receiver, other = await fleet.receiver("receiver"), await fleet.launch("other", Role.RECEIVER)
    entries = [
        Receiver(one.name, (f"https://{one.name}.example:8470",), one.node.identity.certificate)
        for one in (receiver, other)
    ]
    await receiver.take(fleet.publish(Receivers(tuple(entries)), version=2))
    island = await fleet.launch("pulau-long")
    statement = await island.submit()
    for _, _, raw in await island.store.read([statement], 1):
        signed = fleet.election.admission.admit(Kind.STATEMENT, raw)
        assert await receiver.take(make_receipt(fleet.election, other.node, signed, 7)) == ["foreign-log"]
    await island.visit(receiver)
    bundle = await receiver.bundle(statement)
    assert bundle is not None
    assert bundle.entry == 0


async def test_a_receipt_of_a_receiver_that_is_revoked_frees_nothing(fleet: Fleet) -> None:
    """What it said it had is to be delivered to the one that is named in its place."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    old = await fleet.receiver()
    content, freed = fleet.content(), fleet.content()
    kept, lost = await island.submit(content), await island.submit(freed)
    await boat.visit(island)
    await boat.visit(old)
    assert await boat.state(kept) is State.DELIVERED
    await boat.store.free([object_of(freed)])
    heir = await fleet.receiver("receiver-2")
    receivers = fleet.publish(Receivers((Receiver("receiver-2", (), heir.member.identity.certificate),)), 2)
    await boat.take(make_revocations(fleet.election, 1, old.node), receivers)
    await heir.take(receivers)
    fleet.clock.now += 100 * RETENTION
    assert await free(boat) == 0
    assert await boat.read(content) == content
    assert (await boat.state(kept), await boat.state(lost)) == (State.WAITING, State.PARTIAL)
    assert all(kind is not Kind.CHECKPOINT for kind, _ in boat.store.members), "nor do its checkpoints travel on"
    await boat.visit(heir)
    assert await boat.state(kept) is State.DELIVERED
    await boat.visit(island)
    await boat.visit(heir)
    assert [await island.state(one) for one in (kept, lost)] == [State.DELIVERED, State.WAITING]
    await boat.visit(island)
    assert [await island.state(one) for one in (kept, lost)] == [State.DELIVERED, State.DELIVERED]
    assert await heir.read(freed) == freed
