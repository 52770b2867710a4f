"""Promise 1: a node keeps and forwards only records whose signature chains to its election's root, by a signer not
revoked. (The rules one by one: tests/unit/test_admission.py.)"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.errors import Refused
from relay.limits import JUDGED_AT_ONCE
from relay.records.identifiers import Kind
from relay.records.notice import Receivers, Revocation, Revocations, sign_notice
from relay.store.interface import State
from relay.sync.messages import Greeting
from relay.trust.roles import Role
from tests.factory import make_election, make_node, make_receipt, make_statement
from tests.fleet import Fleet, Link, Ship
from tests.promises.adversaries import Foreigner


def revocation(fleet: Fleet, *ships: Ship, version: int = 1) -> tuple[Kind, bytes]:
    """A notice that revokes these nodes."""
    body = Revocations(tuple(Revocation(one.node.identity.node, one.name, "lost") for one in ships))
    raw = sign_notice(fleet.election.admission.election, 0, version, body, fleet.election.root, fleet.election.root_key)
    return Kind.NOTICE, raw


async def test_what_no_root_vouches_for_is_neither_kept_nor_forwarded(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    pirates = make_election(99)
    pirate = make_node(pirates, "pulau-long")
    notice = sign_notice("test-2024", 0, 9, Receivers(()), pirates.root, pirates.root_key)
    forged = [
        make_statement(pirates, pirate),
        make_receipt(pirates, make_node(pirates, "receiver", Role.RECEIVER), make_statement(pirates, pirate)),
        pirates.admission.admit(Kind.NOTICE, notice),
    ]
    host = boat.host(other)
    words = (await host.put_records([(one.kind, one.raw) for one in forged])).outcomes
    assert words == ["foreign-certificate"] * 3
    assert len(boat.store.members) == 0
    assert await boat.store.read([one.id for one in forged], 1 << 20) == []
    report = await other.visit(boat)
    assert (report.records_in, len(other.store.members)) == (0, 0)


async def test_one_forged_record_does_not_keep_the_others_out(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    island = await fleet.launch("pulau-long")
    good = [make_statement(fleet.election, island.node) for _ in range(2)]
    bad = good[0].raw[:-1] + bytes([good[0].raw[-1] ^ 1])
    records = [(Kind.STATEMENT, good[0].raw), (Kind.STATEMENT, bad), (Kind.STATEMENT, good[1].raw)]
    assert (await boat.host(other).put_records(records)).outcomes == ["new", "bad-signature", "new"]


async def test_a_revoked_signers_statements_stop_travelling(fleet: Fleet) -> None:
    island, boat, other = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari"), await fleet.carrier("b")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    await boat.custody.take([revocation(fleet, island)])
    assert await boat.state(statement) is None
    report = await other.visit(boat)
    assert report.records_in == 1, "the revocation, and nothing of the revoked"
    assert (Kind.STATEMENT, statement) not in other.store.members
    await other.visit(island)
    assert (Kind.STATEMENT, statement) not in other.store.members
    assert await boat.read(content) == content, "an only copy is never deleted"


async def test_a_revocation_rules_what_comes_with_it(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    island = await fleet.launch("pulau-long")
    statement = make_statement(fleet.election, island.node)
    records = [(Kind.STATEMENT, statement.raw), revocation(fleet, island)]
    assert (await boat.host(other).put_records(records)).outcomes == ["revoked", "new"]


async def test_a_signer_that_is_restored_is_believed_again(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    island = await fleet.launch("pulau-long")
    statement = await island.submit()
    await boat.visit(island)
    await other.custody.take([revocation(fleet, island)])
    await other.visit(boat)
    assert await other.state(statement) is None
    assert await boat.state(statement) is None
    await boat.custody.take([revocation(fleet, version=2)])
    await other.visit(boat)
    assert await other.state(statement) is State.WAITING


async def test_a_replayed_older_notice_changes_nothing(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    island = await fleet.launch("pulau-long")
    old, new = revocation(fleet, version=1), revocation(fleet, island, version=2)
    assert (await boat.host(other).put_records([new])).outcomes == ["new"]
    for _ in range(2):
        assert (await boat.host(other).put_records([old])).outcomes == ["stale"]
    assert (await boat.host(other).put_records([new])).outcomes == ["known"]
    assert island.node.identity.node in boat.custody.admission.revoked


async def test_what_is_revoked_stays_so_after_a_restart(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit()
    await boat.visit(island)
    await boat.custody.take([revocation(fleet, island)])
    again = replace(boat, custody=type(boat.custody)(type(boat.custody.admission)(fleet.election.root), boat.store))
    await again.custody.load()
    assert island.node.identity.node in again.custody.admission.revoked
    assert await again.state(statement) is None


@pytest.mark.parametrize("change", [{"election": "pilbup-2024"}, {"version": 99}])
async def test_a_node_of_another_election_or_version_is_left_alone(fleet: Fleet, change: dict[str, str]) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit()
    link = Foreigner(boat.host(island), replace(boat.greeting(), **change))  # type: ignore[arg-type]
    with pytest.raises(Refused):
        await island.visit(link)
    assert link.steps == []
    assert len(boat.store.members) == 0


async def test_a_visitor_of_another_election_is_refused(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    with pytest.raises(Refused, match="pilbup"):
        await Link(boat.host(island)).hello(Greeting(replace(island.greeting(), election="pilbup-2024")))


async def test_who_is_revoked_while_others_are_judged_is_withheld_all_the_same(fleet: Fleet) -> None:
    """A statement is judged, rubbish that comes with it takes a while, and meanwhile its signer is revoked."""
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    statement = make_statement(fleet.election, island.node)
    rubbish = [(Kind.STATEMENT, statement.raw[:-2] + number.to_bytes(2)) for number in range(60 * JUDGED_AT_ONCE)]
    slow = asyncio.create_task(receiver.custody.take([(statement.kind, statement.raw), *rubbish]))
    await asyncio.sleep(0)
    await receiver.custody.take([revocation(fleet, island)])
    assert (await slow)[0].word == "new"
    assert await receiver.store.unlogged(10) == []
