"""Promise 9: order comes from sequence numbers and the log. No clock of a device decides what is believed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from relay.node.retention import free_delivered
from relay.node.witness import Witness
from relay.records.identifiers import Kind
from relay.records.statement import Package, sign_statement
from relay.records.tally import Tally
from relay.store.interface import State
from relay.trust.certificates import issue, make_request, read_certificate, read_request
from relay.trust.roles import Role
from tests.factory import ELECTION, make_election, make_node
from tests.fleet import Fleet


@pytest.mark.parametrize("year", [1970, 2024, 9999])
def test_dates_of_certificates_play_no_part(year: int) -> None:
    """An island box may have asked for its certificate with its clock anywhere."""
    election = make_election()
    node = make_node(election, "pulau-long")
    request = read_request(make_request("pulau-long", node.key))
    issued_at = datetime(year, 1, 1, tzinfo=UTC)
    der = issue(election.root, election.root_key, request, Role.OPERATOR, ["tps-1"], 7, issued_at)
    identity = election.admission.identify(der)
    assert identity == read_certificate(der)


@pytest.mark.parametrize("claimed", [-(1 << 62), 0, 4_102_444_800, (1 << 62) - 1])
async def test_a_time_of_a_device_is_a_claim(fleet: Fleet, claimed: int) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    package = Package(ELECTION, "tps-1", "form-1", 1, None, claimed, (), Tally({"voters": 1}))
    identity = island.node.identity
    raw = sign_statement(package, identity.uri, identity.certificate, island.node.key)
    await island.custody.take([(Kind.STATEMENT, raw)])
    await island.visit(receiver)
    (bundle,) = await island.store.bundles()
    assert (bundle.captured_at, bundle.state) == (claimed, State.DELIVERED)


async def test_the_journey_with_every_clock_wrong_and_running_backwards(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    fleet.clock.now = 5e9
    await boat.visit(island)
    fleet.clock.now = 3.0
    await boat.visit(receiver, Witness(boat.member, lambda: -5.0))
    fleet.clock.now = -1e9
    await boat.visit(island)
    assert await island.state(statement) is State.DELIVERED
    await free_delivered(island.store, 1 << 40, 90 * 86_400)
    assert await receiver.read(content) == content, "what a wrong clock frees early has been delivered"


async def test_the_log_is_ordered_by_completion_not_by_time(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    first = await island.submit()
    await island.visit(receiver)
    fleet.clock.now = 0.0
    second = await island.submit(form="form-2")
    await island.visit(receiver)
    entries = [(one.id, one.entry) for one in await receiver.store.bundles()]
    assert entries == [(first, 0), (second, 1)]
