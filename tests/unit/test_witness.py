"""Witnesses: carriers cosign a log that only grew, and raise an alarm about one that did not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from relay.errors import NotYet, Refused, Unreachable
from relay.log.checkpoint import Checkpoint, check_cosignature, sign_checkpoint
from relay.log.merkle import leaf_hash
from relay.log.tree import Frontier
from relay.net.client import _named
from relay.net.server import problem
from relay.node.witness import Witness
from relay.receiver.service import ReceiverLog
from relay.records.identifiers import Kind, RecordId
from relay.sync.host import Host
from relay.sync.messages import Given, Greeting, InquiryReply
from relay.trust.heads import Head
from relay.trust.roles import Role
from relay.trust.witness import log_key, public_bytes, witness_key
from tests.factory import ELECTION, make_election, make_node, make_receipt, make_revocations, make_statement
from tests.fleet import Fleet, Link, Ship

ORIGIN = f"{ELECTION}/receiver"


async def grow(fleet: Fleet, receiver: Ship, count: int) -> None:
    """Let the log grow."""
    island = await fleet.launch(f"island-{len(fleet.ships)}")
    for place in range(count):
        await island.submit(form=f"form-{place}")
    await island.visit(receiver)


def cosigners(ship: Ship) -> list[str]:
    """Who signed the newest checkpoint that a node holds."""
    return [one.name for one in ship.custody.admission.checkpoints[ORIGIN].note.signatures]


async def watch(boat: Ship, receiver: Ship | Link) -> str | None:
    """Visit with open eyes; the alarm, if there is one."""
    await boat.visit(receiver, Witness(boat.member, lambda: 7.0))
    return (await boat.store.notes()).get("alarm")


async def test_a_carrier_cosigns_what_it_saw_grow_and_carries_it_on(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    notice = fleet.witnesses(boat)
    for ship in (boat, receiver):
        await ship.take(notice)
    for size in (1, 3):
        await grow(fleet, receiver, size)
        assert await watch(boat, receiver) is None
        assert cosigners(boat) == cosigners(receiver) == [ORIGIN, f"{ELECTION}/km-bahari"]
    held = receiver.custody.admission.checkpoints[ORIGIN]
    assert held.checkpoint.size == 4
    key = witness_key(ELECTION, "km-bahari", public_bytes(boat.node.identity.key))
    assert check_cosignature(held.note, key) == 7
    island = await fleet.launch("pulau-long")
    await island.visit(boat)
    assert cosigners(island) == cosigners(boat)


async def test_an_operator_watches_and_does_not_cosign(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    await grow(fleet, receiver, 1)
    assert await watch(island, receiver) is None
    assert cosigners(island) == [ORIGIN]
    assert any(key.startswith("seen ") for key in await island.store.notes())


async def test_the_empty_log_is_not_cosigned(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    await boat.take(fleet.witnesses(boat))
    await watch(boat, receiver)
    assert cosigners(boat) == [ORIGIN]


class Rewriter(Link):
    """A receiver that shows another log: its checkpoint is well signed, its proof is not."""

    proof: Sequence[bytes] = ()

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Whatever it has."""
        return list(self.proof)


async def test_a_log_that_was_rewritten_raises_an_alarm_and_is_not_cosigned(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    await boat.take(fleet.witnesses(boat))
    await grow(fleet, receiver, 2)
    assert await watch(boat, receiver) is None
    other = Frontier().extend([leaf_hash(b"another history")] * 5)
    checkpoint = Checkpoint(ORIGIN, 5, other.root())
    raw = sign_checkpoint(checkpoint, log_key(receiver.node.identity), receiver.node.key)
    await boat.custody.take([(Kind.CHECKPOINT, raw)])
    seen = await boat.store.notes()
    alarm = await watch(boat, Rewriter(receiver.host(boat)))
    assert alarm is not None
    assert ORIGIN in alarm
    assert cosigners(boat) == [ORIGIN]
    notes = await boat.store.notes()
    assert {key: value for key, value in notes.items() if key != "alarm"} == seen, "what was seen stays as evidence"


class Refuser(Link):
    """A receiver that refuses to prove its log: since it heard of this node's revocation, or for another reason."""

    def __init__(self, host: Host, reason: str, evidence: bytes = b"") -> None:
        super().__init__(host)
        self._refusal = Refused(reason, "The certificate of km-bahari is revoked (lost)", evidence=evidence)

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """No more."""
        raise self._refusal


def evidence_against(fleet: Fleet, whom: str) -> bytes:
    """A notice that revokes `km-bahari` or another boat, by the office or by somebody else's; or what is none."""
    node = make_node(fleet.election, "other-boat", Role.CARRIER)
    boat = next(ship.node for ship in fleet.ships if ship.name == "km-bahari")
    match whom:
        case "this boat":
            return make_revocations(fleet.election, 1, boat).raw
        case "another boat":
            return make_revocations(fleet.election, 1, node).raw
        case "this boat, by a stranger":
            return make_revocations(make_election(99), 1, boat).raw
        case "rubbish":
            return b"rubbish"
        case _:
            return b""


@pytest.mark.parametrize(
    ("reason", "evidence", "told"),
    [
        ("revoked", "this boat", False),
        ("revoked", "another boat", True),
        ("revoked", "this boat, by a stranger", True),
        ("revoked", "rubbish", True),
        ("revoked", "nothing", True),
        ("busy", "nothing", True),
    ],
)
async def test_who_is_refused_a_proof_cries_no_alarm_and_says_so_unless_the_office_revoked_it(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, reason: str, evidence: str, told: bool
) -> None:
    """A simulated election found it: a node that was revoked cried out that the receiver's log was forged."""
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    await grow(fleet, receiver, 1)
    assert await watch(boat, receiver) is None
    await grow(fleet, receiver, 1)
    refuser = Refuser(receiver.host(boat), reason, evidence_against(fleet, evidence))
    for visits in (1, 2):
        assert await watch(boat, refuser) is None
        assert caplog.text.count("refuses to prove") == (visits if told else 0)


class Laggard(Link):
    """A receiver that has not published yet what it signed."""

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Later."""
        raise NotYet(f"The log of {new_size} entries is not published yet", "Ask again in a moment.")


async def test_a_proof_that_is_not_ready_is_asked_for_at_the_next_visit(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    notice = fleet.witnesses(boat)
    for ship in (boat, receiver):
        await ship.take(notice)
    await grow(fleet, receiver, 1)
    assert await watch(boat, receiver) is None
    await grow(fleet, receiver, 1)
    island = await fleet.launch("pulau-long")
    statement = await island.submit()
    await island.visit(boat)
    assert await watch(boat, Laggard(receiver.host(boat))) is None
    assert await boat.store.receipted([statement]) == {statement}, "the visit went on"
    assert cosigners(boat) == [ORIGIN], "what is not proved is not cosigned"
    assert await watch(boat, receiver) is None
    assert cosigners(boat) == [ORIGIN, f"{ELECTION}/km-bahari"]


class Mute(Link):
    """A receiver with which the contact ends whenever it is to prove its log."""

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Nothing."""
        raise Unreachable("The contact ended", "It is tried again.")


@pytest.mark.parametrize("kind", [Laggard, Mute])
async def test_a_proof_that_is_put_off_for_ever_is_told_from_the_second_visit_on(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, kind: type[Link]
) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    witness = Witness(boat.member, lambda: 7.0)

    async def visits(count: int, there: Ship | Link) -> int:
        """Make them; how often the log says that a proof did not come."""
        for _ in range(count):
            await grow(fleet, receiver, 1)
            with suppress(Unreachable):
                await boat.visit(there, witness)
        told = caplog.text.count("did not prove")
        caplog.clear()
        return told

    assert await visits(1, receiver) == 0
    assert await visits(1, kind(receiver.host(boat))) == 0, "that happens"
    assert await visits(2, kind(receiver.host(boat))) == 2
    assert await visits(1, receiver) == 0
    assert await visits(1, kind(receiver.host(boat))) == 0, "it was proved meanwhile"
    assert "alarm" not in await boat.store.notes()


class Hiding(Link):
    """A receiver that gives receipts and shows no checkpoint."""

    async def hello(self, mine: Greeting) -> Greeting:
        """None with the greeting."""
        answer = await super().hello(mine)
        reply = InquiryReply.decode(answer.inquiry)
        records = [one for one in reply.records if one[0] is not Kind.CHECKPOINT]
        return replace(answer, inquiry=replace(reply, records=records).encode())

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """All but checkpoints."""
        given = await super().get_records(ids)
        return Given([one for one in given.records if one[0] is not Kind.CHECKPOINT], given.holdings)


async def test_a_receiver_that_shows_no_checkpoint_is_held_to_its_receipts(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    island = await fleet.launch("pulau-long")
    await island.submit()
    await boat.visit(island)
    hiding = Hiding(receiver.host(boat))
    assert await watch(boat, hiding) is None
    assert await watch(boat, hiding) is None, "its one receipt contradicts nothing"
    assert ORIGIN not in boat.custody.admission.checkpoints
    elsewhere = make_receipt(fleet.election, receiver.node, make_statement(fleet.election, island.node), 6)
    assert await boat.take(elsewhere) == ["new"]
    alarm = await watch(boat, hiding)
    assert alarm is not None
    assert ORIGIN in alarm


class Forked(Link):
    """A receiver that shows an old checkpoint, of one entry, and proves of each of two larger logs that it grew out of
    that."""

    first, second, third, other, last = (leaf_hash(name) for name in (b"1", b"2", b"3", b"another", b"4"))

    def heads(self) -> list[Head]:
        """A log of three entries, and one of four, which differ in the third."""
        one = Frontier().extend([self.first, self.second, self.third])
        two = Frontier().extend([self.first, self.second, self.other, self.last])
        return [Head(Checkpoint(ORIGIN, tree.size, tree.root()), Kind.RECEIPT, b"signed") for tree in (one, two)]

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """By the log of that many entries."""
        if old_size == 0:
            return []
        if (old_size, new_size) == (1, 3):
            return [self.second, self.third]
        if (old_size, new_size) == (1, 4):
            return [self.second, Frontier().extend([self.other, self.last]).root()]
        return [self.other, self.last, Frontier().extend([self.first, self.second]).root()]


async def test_two_logs_that_both_grew_out_of_an_old_checkpoint_are_told_apart(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    forked = Forked(receiver.host(boat))
    old = Checkpoint(ORIGIN, 1, Frontier().extend([forked.first]).root())
    raw = sign_checkpoint(old, log_key(receiver.node.identity), receiver.node.key)
    assert [one.word for one in await boat.custody.take([(Kind.CHECKPOINT, raw)])] == ["new"]
    shorter, longer = forked.heads()
    boat.custody.heads.hear(longer)
    assert await watch(boat, forked) is None, "it may well be the beginning"
    boat.custody.heads.hear(shorter)
    assert await watch(boat, forked) is not None


def test_what_is_not_ready_is_told_from_a_lost_contact_across_the_wire() -> None:
    for error in (NotYet("The log is not published yet", "Ask again."), Unreachable("Nobody there", "Wait.")):
        answer = problem(error)
        assert answer.text is not None
        heard = _named(json.loads(answer.text), answer.status, error.what, error.advice)
        assert type(heard) is type(error)


async def test_a_receiver_waits_a_moment_until_what_it_committed_is_published(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await grow(fleet, receiver, 2)
    island = await fleet.launch("pulau-long")
    await island.submit()
    await receiver.custody.take(
        [
            (kind, raw)
            for kind, _, raw in await island.store.read([one.id for one in await island.store.bundles()], 1 << 20)
        ]
    )
    await receiver.log.sequencer.sequence()
    log = ReceiverLog(receiver.store, receiver.log.publisher)
    monkeypatch.setattr("relay.receiver.service.PUBLISH_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("relay.receiver.service.PUBLISH_SECONDS", 0.03)
    with pytest.raises(NotYet):
        await log.consistency(2, 3)
    monkeypatch.setattr("relay.receiver.service.PUBLISH_SECONDS", 60.0)
    asked = asyncio.create_task(log.consistency(2, 3))
    await receiver.log.sequencer.publish()
    assert await asked == await log.consistency(2, 3) != []


async def test_one_size_and_two_roots_is_a_split_view(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    boat = await fleet.carrier("km-bahari")
    await grow(fleet, receiver, 2)
    await watch(boat, receiver)
    raw = sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), log_key(receiver.node.identity), receiver.node.key)
    (verdict,) = await boat.custody.take([(Kind.CHECKPOINT, raw)])
    assert verdict.word == "split-view"
