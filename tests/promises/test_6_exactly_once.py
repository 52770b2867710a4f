"""Promise 6: however many carriers bring it, a statement has one log entry and one receipt."""

from __future__ import annotations

import asyncio

from relay.log.merkle import verify_inclusion
from relay.records.identifiers import Kind, RecordId, receipt_id
from relay.records.receipt import Receipt
from relay.store.interface import State
from tests.fleet import Fleet, Ship


async def receipt_at(ship: Ship, statement: RecordId) -> Receipt:
    """The receipt for a statement, as it lies on a node."""
    ((kind, _, raw),) = await ship.store.read([receipt_id(statement)], 60_000)
    admitted = ship.custody.admission.admit(kind, raw)
    assert isinstance(admitted.body, Receipt)
    return admitted.body


async def test_the_whole_journey_and_back(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    assert await boat.state(statement) is State.WAITING
    assert await island.state(statement) is State.WAITING
    await boat.visit(receiver)
    assert await boat.read(content) == await receiver.read(content) == content
    await boat.visit(island)
    bundle = await island.bundle(statement)
    assert bundle is not None
    assert (bundle.state, bundle.entry) == (State.DELIVERED, 0)
    receipt = await receipt_at(island, statement)
    assert (receipt.entry, receipt.inclusion.size) == (0, 1)


async def test_two_carriers_at_the_same_time(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    boats = [await fleet.carrier(name) for name in ("km-bahari", "kp-anis")]
    contents = [fleet.content() for _ in range(4)]
    statements = [await island.submit(content, form=f"form-{place}") for place, content in enumerate(contents)]
    for boat in boats:
        await boat.visit(island)
    await asyncio.gather(*(boat.visit(receiver) for boat in boats))
    assert receiver.log is not None
    await receiver.log.sequencer.sequence()
    state = await receiver.store.log_state()
    assert state.size == len(statements)
    assert len(set(await receiver.store.log_statements(0, 10))) == len(statements)
    for boat in boats:
        await boat.visit(receiver)
    entries = set()
    for statement in statements:
        first, second = [(await receipt_at(boat, statement)).raw for boat in boats]
        assert first == second
        entries.add((await receipt_at(boats[0], statement)).entry)
    assert entries == set(range(len(statements)))


async def test_a_boat_that_comes_late_gets_the_same_receipt(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    early, late = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    statement = await island.submit(fleet.content())
    await early.visit(island)
    await late.visit(island)
    await early.visit(receiver)
    report = await late.visit(receiver)
    assert report.bytes_out == 0, "it hands nothing over that is there already"
    assert (await receiver.store.log_state()).size == 1
    assert (await receipt_at(late, statement)).raw == (await receipt_at(early, statement)).raw


async def test_delivered_statements_do_not_come_back(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat, other = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari"), await fleet.carrier("b")
    statement = await island.submit(fleet.content())
    await boat.visit(island)
    await boat.visit(receiver)
    await boat.visit(other)
    report = await island.visit(other)
    assert report.bytes_out == 0
    assert await other.state(statement) is None
    assert await island.state(statement) is State.DELIVERED
    assert (Kind.STATEMENT, statement) not in island.store.members


async def test_receipts_prove_the_log_that_is_published(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    roots: list[bytes] = []
    for round_ in range(3):
        statements = [await island.submit(form=f"form-{round_}-{place}") for place in range(round_ + 1)]
        await island.visit(receiver)
        origin = f"{fleet.election.admission.election}/receiver"
        checkpoint = receiver.custody.admission.checkpoints[origin].checkpoint
        for statement in statements:
            receipt = await receipt_at(island, statement)
            assert receipt.inclusion.size == checkpoint.size
            verify_inclusion(receipt.leaf, receipt.entry, checkpoint.size, checkpoint.root, receipt.inclusion.path)
        roots.append(checkpoint.root)
    assert len(set(roots)) == 3
