"""Promise 7: a correction is a new statement that names what it supersedes. Two statements that conflict are both
kept, and flagged by the device's hash chain."""

from __future__ import annotations

from dataclasses import replace

from relay.records.identifiers import Kind, StatementId
from relay.records.statement import Statement, sign_statement
from relay.records.tally import Tally
from relay.store.interface import State
from tests.fleet import Fleet


async def test_a_correction_stands_beside_what_it_supersedes(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content(), fleet.content()]
    first = await island.submit(contents[0])
    second = await island.submit(contents[1], supersedes=first)
    await boat.visit(island)
    await boat.visit(receiver)
    assert [(one.id, one.supersedes) for one in await receiver.store.bundles()] == [(first, None), (second, first)]
    assert len(await receiver.store.log_statements(0, 10)) == 2
    assert [await receiver.read(content) for content in contents] == contents


async def test_two_statements_of_one_place_in_the_chain_are_both_kept(fleet: Fleet) -> None:
    """A device whose chain forks: a restored backup, or a thief with its key."""
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    first = await island.submit()
    ((_, _, raw),) = await island.store.read([first], 1)
    parsed = fleet.election.admission.admit(Kind.STATEMENT, raw).body
    assert isinstance(parsed, Statement)
    other = replace(parsed.package, tally=Tally({"voters": 2}))
    identity = island.node.identity
    fork = sign_statement(other, identity.uri, identity.certificate, island.node.key)
    for record in (raw, fork):
        await boat.custody.take([(Kind.STATEMENT, record)])
    await boat.visit(receiver)
    bundles = await receiver.store.bundles()
    assert [(one.seq, one.state) for one in bundles] == [(1, State.DELIVERED)] * 2
    assert set(await receiver.store.log_statements(0, 10)) == {raw, fork}


async def test_nobody_supersedes_for_a_station_that_is_not_its_own(fleet: Fleet) -> None:
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun", tps=("tps-2",))
    boat = await fleet.carrier("km-bahari")
    first = await island.submit()
    second = await other.submit(tps="tps-2", supersedes=first)
    for ship in (island, other):
        await boat.visit(ship)
    assert await boat.state(first) is State.WAITING
    assert await boat.state(second) is State.WAITING


async def test_a_later_record_of_the_same_id_changes_nothing(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit()
    ((kind, _, raw),) = await island.store.read([statement], 1)
    assert (await boat.host(island).put_records([(kind, raw)])).outcomes == ["new"]
    assert (await boat.host(island).put_records([(kind, raw), (kind, raw)])).outcomes == ["known", "known"]
    assert [record for _, record, _ in await boat.store.read([StatementId(statement)], 1)] == [statement]
