"""Custody in step with its store: what is loaded again, what is left out, what is made up for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import cast
from unittest.mock import patch

import pytest

from relay.errors import StoreError
from relay.limits import MAX_ALARMS, REFRESH_SECONDS
from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.node.config import Config
from relay.node.contacts import Contacts
from relay.node.daemon import Daemon
from relay.node.home import Home
from relay.records.cose import Sign1
from relay.records.identifiers import Kind, RecordId, StatementId, receipt_id
from relay.records.notice import Receiver, Receivers, Register, Station, sign_notice
from relay.records.receipt import Inclusion, read_receipt, sign_receipt
from relay.store.interface import Outcome, State
from relay.store.sqlite import SqliteStore
from relay.sync.alarm import read_alarms
from relay.sync.custody import Custody
from relay.trust.admission import Admission, Admitted
from relay.trust.roles import Role
from relay.trust.witness import log_key
from tests.factory import ELECTION, make_node, make_receipt, make_revocations, make_statement
from tests.fleet import Beside, Fleet, Ship

ORIGIN = f"{ELECTION}/receiver"


def revoked(fleet: Fleet, receiver: Ship) -> Admitted:
    """The receiver is lost."""
    return make_revocations(fleet.election, 1, receiver.node)


def renamed(fleet: Fleet, _receiver: Ship) -> Admitted:
    """Another receiver takes its place."""
    other = make_node(fleet.election, "other", Role.RECEIVER)
    return fleet.publish(Receivers((Receiver("other", (), other.identity.certificate),)), 2)


def enrolled_anew(fleet: Fleet, _receiver: Ship) -> Admitted:
    """It has a new key under its old name."""
    again = make_node(fleet.election, "receiver", Role.RECEIVER)
    return fleet.publish(Receivers((Receiver("receiver", (), again.identity.certificate),)), 2)


async def boat_that_saw_the_log(fleet: Fleet) -> tuple[Ship, Ship]:
    """A receiver with one entry, and a boat that holds its checkpoint."""
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    island = await fleet.launch("pulau-long")
    await island.submit()
    await island.visit(receiver)
    await boat.visit(receiver)
    assert boat.custody.admission.checkpoints[ORIGIN].checkpoint.size == 1
    return receiver, boat


@pytest.mark.parametrize("change", [revoked, renamed, enrolled_anew])
async def test_a_node_starts_again_after_its_receiver_was_revoked_or_replaced(
    fleet: Fleet, change: object, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, boat = await boat_that_saw_the_log(fleet)
    await boat.take(change(fleet, receiver))  # type: ignore[operator]
    again = Custody(Admission(fleet.election.root), boat.store)
    for _ in range(2):
        await again.load()
    assert again.admission.checkpoints == {}
    assert again.admission.receivers == boat.custody.admission.receivers
    told = [one for one in caplog.messages if "out of force" in one or "took back" in one]
    assert len(told) == 1, "told once"


@pytest.mark.parametrize("change", [revoked, renamed, enrolled_anew])
async def test_a_daemon_goes_on_when_its_receiver_is_revoked_or_replaced_beside_it(
    fleet: Fleet, beside: Beside, change: object
) -> None:
    receiver, boat = await boat_that_saw_the_log(fleet)
    command = await beside(boat)
    daemon = Daemon(cast(Home, None), Config(), boat.member, boat.custody)
    configured = asyncio.Event()

    class Listening:
        def configure(self, addresses: Iterable[str]) -> None:
            configured.set()

    async def at_once(_store: SqliteStore, seconds: float) -> None:
        assert seconds == REFRESH_SECONDS
        await asyncio.sleep(0)

    notice = change(fleet, receiver)  # type: ignore[operator]
    with patch.object(SqliteStore, "changed", at_once):
        task = asyncio.create_task(daemon.take_in_changes(cast(Contacts, Listening())))
        heard = boat.custody.news.count
        assert await command.add([notice]) == [Outcome.NEW]
        while boat.custody.news.count == heard:
            configured.clear()
            again = asyncio.create_task(configured.wait())
            await asyncio.wait((task, again), return_when=asyncio.FIRST_COMPLETED)
            assert not task.done()
        task.cancel()
    assert (Kind.NOTICE, notice.id) in boat.store.members


@pytest.mark.parametrize("together", [False, True])
async def test_a_receipt_that_proves_another_entry_is_let_go_when_its_statement_comes(
    fleet: Fleet, together: bool
) -> None:
    """Else a receiver could have boats leave a package behind, by a receipt that comes before its statement."""
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    statement, other = [make_statement(fleet.election, make_node(fleet.election, "pulau-long")) for _ in range(2)]
    good = make_receipt(fleet.election, receiver.node, other)
    body = read_receipt(good.raw)
    lie = sign_receipt(
        ELECTION,
        StatementId(statement.id),
        body.leaf,
        Inclusion(1, 0, ()),
        body.leaf,
        receiver.node.identity.uri,
        receiver.node.identity.certificate,
        receiver.node.key,
    ).raw
    records = [(Kind.RECEIPT, lie), (Kind.STATEMENT, statement.raw)]
    for batch in [records] if together else [records[:1], records[1:]]:
        verdicts = await boat.custody.take(batch)
    assert verdicts[-1].word == "new"
    assert await boat.state(StatementId(statement.id)) is State.WAITING
    assert (Kind.STATEMENT, statement.id) in boat.store.members
    assert (Kind.RECEIPT, receipt_id(StatementId(statement.id))) not in boat.store.members
    (alarm,) = read_alarms(await boat.store.notes())
    assert "another entry" in alarm["what"]


async def test_alarms_are_told_once_and_one_log_leaves_room_for_those_of_others(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has a receiver's key can sign two logs as often as they like, and the same ones again and again."""
    thief, other, boat = await fleet.receiver(), await fleet.receiver("receiver-2"), await fleet.carrier("km-bahari")
    entries = [Receiver(one.name, (), one.node.identity.certificate) for one in (thief, other)]
    await boat.take(fleet.publish(Receivers(tuple(entries)), 2))

    async def signs(ship: Ship, size: int) -> None:
        key = log_key(ship.node.identity)
        two = [sign_checkpoint(Checkpoint(key.name, size, bytes([it]) * 32), key, ship.node.key) for it in (1, 2)]
        for raw in two:
            await boat.custody.take([(Kind.CHECKPOINT, raw)])

    for _ in range(3):
        await signs(thief, 5)
    assert len(read_alarms(await boat.store.notes())) == 1
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    for size in range(6, 6 + 2 * MAX_ALARMS):
        await signs(thief, size)
    await signs(other, 5)
    alarms = read_alarms(await boat.store.notes())
    assert len(alarms) == MAX_ALARMS + 1
    assert (alarms[-1]["log"], len(alarms[-1]["evidence"])) == (f"{ELECTION}/receiver-2", 2)
    assert [record.levelname for record in caplog.records].count("CRITICAL") == MAX_ALARMS + 1


@pytest.mark.parametrize("step", ["add", "withhold"])
async def test_a_revocation_that_met_a_full_disk_takes_hold_later(fleet: Fleet, step: str) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit()
    await boat.visit(island)
    notice = make_revocations(fleet.election, 1, island.node)

    async def full(*_: object, **__: object) -> None:
        raise StoreError("The disk is full", "Free some space.")

    with patch.object(SqliteStore, step, full), pytest.raises(StoreError):
        await boat.take(notice)
    assert await boat.state(statement) is not None
    if step == "add":
        assert await boat.take(notice) == ["new"]
    else:
        await boat.custody.rule()
    assert await boat.state(statement) is None


async def boat_that_holds_a_receipt_alone(fleet: Fleet) -> tuple[Ship, Ship, Admitted]:
    """A receiver, a boat that has its receipt for a statement, and the statement."""
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    island = await fleet.launch("pulau-long")
    statement = make_statement(fleet.election, island.node)
    await island.take(statement)
    await island.visit(receiver)
    await boat.visit(receiver)
    receipts = await island.store.read([receipt_id(StatementId(statement.id))], 1 << 20)
    await boat.custody.take([(kind, raw) for kind, _, raw in receipts])
    return receiver, boat, statement


async def test_a_statement_that_is_known_by_a_receipt_which_goes_meanwhile_is_kept(fleet: Fleet) -> None:
    """Simulated election 12852: the visitor was told that it is known, and nothing of it was there any more."""
    receiver, boat, statement = await boat_that_holds_a_receipt_alone(fleet)
    add = SqliteStore.add

    async def revoked_meanwhile(store: SqliteStore, items: Sequence[Admitted], **more: bool) -> list[Outcome]:
        outcomes = await add(store, items, **more)
        if outcomes == [Outcome.KNOWN]:
            await boat.take(revoked(fleet, receiver))
        return outcomes

    with patch.object(SqliteStore, "add", revoked_meanwhile):
        assert await boat.take(statement) == ["new"]
    assert await boat.state(StatementId(statement.id)) is State.WAITING


async def test_a_statement_that_comes_while_receipts_are_taken_back_is_kept(fleet: Fleet) -> None:
    receiver, boat, statement = await boat_that_holds_a_receipt_alone(fleet)
    take_back, begun, go_on = SqliteStore.take_back, asyncio.Event(), asyncio.Event()

    async def slowly(store: SqliteStore, gone: Sequence[RecordId]) -> None:
        begun.set()
        await go_on.wait()
        await take_back(store, gone)

    with patch.object(SqliteStore, "take_back", slowly):
        async with asyncio.TaskGroup() as both:
            both.create_task(boat.take(revoked(fleet, receiver)))
            await begun.wait()
            taking = both.create_task(boat.take(statement))
            await asyncio.wait((taking,), timeout=0.2)  # as far as it comes
            go_on.set()
    assert taking.result() == ["new"]
    assert await boat.state(StatementId(statement.id)) is State.WAITING


async def test_what_is_in_force_is_not_judged_again(fleet: Fleet) -> None:
    receiver, boat = await boat_that_saw_the_log(fleet)
    del receiver
    for part in range(1, 20):
        register = Register(("form-1",), (Station(f"tps-{part}", 1, "V", "D", "I", 300, signal=False),))
        raw = sign_notice(ELECTION, part, 1, register, fleet.election.root, fleet.election.root_key)
        await boat.custody.take([(Kind.NOTICE, raw)])
    again = Custody(Admission(fleet.election.root), boat.store)
    verified: list[Sign1] = []
    verify = Sign1.verify

    def counted(envelope: Sign1, *arguments: object) -> None:
        verified.append(envelope)
        verify(envelope, *arguments)  # type: ignore[arg-type]

    built: list[type] = []
    bodies = Admission._bodies

    def seen(admission: Admission, of: type) -> list[object]:
        built.append(of)
        return bodies(admission, of)

    with patch.object(Sign1, "verify", counted), patch.object(Admission, "_bodies", seen):
        await again.load()
        assert len(again.admission.stations) == 19
        assert len(verified) == 19 + 1, "register and receivers"
        assert built.count(Register) == 1, "put together once, and not for each part"
        verified.clear()
        await again.load()
        assert verified == []


async def test_checkpoints_are_no_reason_to_read_the_notices(fleet: Fleet, beside: Beside) -> None:
    receiver, boat = await boat_that_saw_the_log(fleet)
    island = await fleet.launch("pulau-batun")
    await island.submit()
    await island.visit(receiver)
    (raw,) = await receiver.store.load(Kind.CHECKPOINT)
    asked: list[Kind] = []
    load = SqliteStore.load

    async def counted(store: SqliteStore, kind: Kind) -> list[bytes]:
        asked.append(kind)
        return await load(store, kind)

    command = await beside(boat)
    await command.add([boat.custody.admission.admit(Kind.CHECKPOINT, raw)])
    with patch.object(SqliteStore, "load", counted):
        assert await boat.store.refresh() == "heads"
        await boat.custody.load(notices=False)
    assert asked == [Kind.CHECKPOINT]
    assert boat.custody.admission.checkpoints[ORIGIN].checkpoint.size == 2


async def test_a_node_does_not_hear_of_its_own_notices(fleet: Fleet, beside: Beside) -> None:
    boat, island = await fleet.carrier("km-bahari"), await fleet.launch("pulau-long")
    await island.submit()
    command = await beside(boat)
    await boat.take(make_revocations(fleet.election, 1))
    await command.set_note("key", "value")
    assert await boat.store.refresh() == "news"
    await command.add([make_revocations(fleet.election, 2)])
    assert await boat.store.refresh() == "rules"
