"""The visit to a receiver: few round trips, and nothing counts that was not asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from relay.errors import StoreError, Unreachable
from relay.limits import GREETED_STATEMENTS
from relay.log.checkpoint import cosign
from relay.records.identifiers import Kind, RecordId, StatementId
from relay.store.interface import State
from relay.sync.messages import Given, Greeting, Inquiry, InquiryReply, Taken
from relay.trust.witness import public_bytes, witness_key
from tests.factory import make_receipt, make_statement
from tests.fleet import Fleet, Link, Ship


async def logged(receiver: Ship) -> None:
    """Have the receiver log what it has, and publish it."""
    assert receiver.log is not None
    await receiver.log.next_batch(0, 0.0)


async def brought(receiver: Ship, island: Ship, statement: StatementId) -> None:
    """Have a statement come to the receiver by another way, and logged."""
    found = await island.store.read([statement], 1 << 20)
    await receiver.custody.take([(kind, raw) for kind, _, raw in found])
    await logged(receiver)


class Told(Link):
    """A link that keeps the replies to inquiries, those that come with a greeting too."""

    def __init__(self, ship: Ship, visitor: Ship) -> None:
        super().__init__(ship.host(visitor))
        self.replies: list[InquiryReply] = []

    async def hello(self, mine: Greeting) -> Greeting:
        answer = await super().hello(mine)
        if not answer.inquiry:
            return answer
        return replace(answer, inquiry=self._said(InquiryReply.decode(answer.inquiry)).encode())

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        return self._said(await super().inquire(inquiry))

    def _said(self, reply: InquiryReply) -> InquiryReply:
        self.replies.append(reply)
        return reply


async def test_statements_are_delivered_and_their_receipts_there_after_three_calls(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    for place in range(2):  # the second time the island has an older checkpoint
        statements = [await island.submit(form=f"form-{place}-{n}") for n in range(5)]
        link = Link(receiver.host(island))
        await island.visit(link)
        assert link.calls == ["hello", "put_records", "inquire"]
        assert {await island.state(one) for one in statements} == {State.DELIVERED}
    assert (await receiver.store.log_state()).size == 10


async def test_receipts_that_are_ready_and_the_newest_checkpoint_come_with_the_greeting(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    await island.visit(receiver)
    statement = await island.submit()
    await brought(receiver, island, statement)
    link = Link(receiver.host(island))
    await island.visit(link)
    assert link.calls == ["hello"]
    assert await island.state(statement) is State.DELIVERED
    assert await island.store.load(Kind.CHECKPOINT) == await receiver.store.load(Kind.CHECKPOINT)


async def test_where_nothing_is_new_nothing_comes_with_the_greeting(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    await island.submit()
    for _ in range(2):  # with its receipt the log has a newer checkpoint
        await island.visit(receiver)
    link = Told(receiver, island)
    report = await island.visit(link)
    assert link.calls == ["hello"]
    assert link.replies == [InquiryReply((), ())]
    assert not report.moved


async def test_who_does_not_know_that_it_is_a_receiver_delivers_all_the_same(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    content = fleet.content()
    statement = await island.submit(content)
    link = Link(receiver.host(island))
    await island.visit(link, at_receiver=False)
    assert link.calls[:2] == ["hello", "reconcile"]
    assert await island.state(statement) is State.DELIVERED
    assert await receiver.read(content) == content


async def test_who_is_no_receiver_is_visited_as_a_neighbour(fleet: Fleet) -> None:
    """An address was a receiver's once; a boat has it now."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    await island.submit(content)
    await island.visit(boat, at_receiver=True)
    assert await boat.read(content) == content


async def test_more_statements_than_a_greeting_asks_after_are_all_delivered(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statements = [await island.submit(form=f"form-{n}") for n in range(GREETED_STATEMENTS + 3)]
    await brought(receiver, island, statements[7])
    await island.visit(receiver)
    assert {await island.state(one) for one in statements} == {State.DELIVERED}


@pytest.mark.parametrize("room", [0, 1_500, 3_000])
async def test_receipts_for_which_a_reply_has_no_room_are_fetched(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("relay.sync.host.GREETED_RECORDS", room)
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statements = [await island.submit(form=f"form-{n}") for n in range(5)]
    for one in statements:
        await brought(receiver, island, one)
    link = Told(receiver, island)
    await island.visit(link)
    assert sum(len(raw) for _, raw in link.replies[0].records) <= room
    assert "get_records" in link.calls
    assert {await island.state(one) for one in statements} == {State.DELIVERED}


async def test_a_greeting_is_answered_where_the_store_is_away_and_the_inquiry_says_why(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    await island.submit()

    async def away(_ids: Sequence[StatementId]) -> set[StatementId]:
        raise StoreError("The database does not answer", "Bring it back.")

    monkeypatch.setattr(receiver.store, "receipted", away)
    link = Link(receiver.host(island))
    with pytest.raises(StoreError, match="does not answer"):
        await island.visit(link)
    assert link.calls[0] == "hello" and "inquire" in link.calls


async def test_a_greeting_does_not_wait_for_a_slow_store(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a visitor who knows of another address begins anew there, and there again here."""
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statement = await island.submit()
    greeted, receipted = asyncio.Event(), receiver.store.receipted

    async def slow(ids: Sequence[StatementId]) -> set[StatementId]:
        await greeted.wait()
        return await receipted(ids)

    class Greeted(Link):
        async def hello(self, mine: Greeting) -> Greeting:
            answer = await super().hello(mine)
            greeted.set()
            return answer

    monkeypatch.setattr(receiver.store, "receipted", slow)
    monkeypatch.setattr("relay.sync.host.GREETED_REPLY_SECONDS", 0.05)
    async with asyncio.timeout(10):
        link = Greeted(receiver.host(island))
        await island.visit(link)
    assert link.calls.count("inquire") == 2, "what the greeting did not tell is asked for"
    assert await island.state(statement) is State.DELIVERED


async def test_what_begins_to_wait_after_the_greeting_is_delivered_too(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statements = [await island.submit(form=f"form-{n}") for n in range(2)]

    class Late(Link):
        async def hello(self, mine: Greeting) -> Greeting:
            statements.extend([await island.submit(form=f"form-{n}") for n in range(2, 8)])
            return await super().hello(mine)

    await island.visit(Late(receiver.host(island)))
    assert len(statements) == 8
    assert {await island.state(one) for one in statements} == {State.DELIVERED}


@pytest.mark.parametrize("theirs", [False, True])
async def test_what_came_with_the_greeting_is_kept_where_the_link_is_cut_after_it(fleet: Fleet, theirs: bool) -> None:
    """Also beside notices that are to go there; where some are to come first, they may rule what came."""
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    await island.take(*fleet.notices)
    statement = await island.submit()
    await brought(receiver, island, statement)
    await (receiver if theirs else island).take(fleet.witnesses(island))

    class Cut(Link):
        async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
            raise Unreachable("The contact ended", "It is tried again.")

        async def get_records(self, ids: Sequence[RecordId]) -> Given:
            raise Unreachable("The contact ended", "It is tried again.")

    with pytest.raises(Unreachable):
        await island.visit(Cut(receiver.host(island)))
    assert await island.state(statement) is (State.WAITING if theirs else State.DELIVERED)
    await island.visit(receiver)
    assert await island.state(statement) is State.DELIVERED


async def test_a_receipt_that_is_refused_is_not_fetched_to_be_refused_again(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    await island.visit(receiver)
    statement = await island.submit()
    await brought(receiver, island, statement)

    class Spoiling(Told):
        def _said(self, reply: InquiryReply) -> InquiryReply:
            receipts = [raw for kind, raw in reply.records if kind is Kind.RECEIPT]
            records = [(Kind.RECEIPT, raw[:-1] + bytes([raw[-1] ^ 1])) for raw in receipts]
            return super()._said(replace(reply, records=records))

    link = Spoiling(receiver, island)
    await island.visit(link)
    assert "RECEIPT in" not in link.steps
    assert await island.state(statement) is State.WAITING


async def test_receipts_that_are_not_believed_are_not_asked_for_again_and_again(fleet: Fleet) -> None:
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statement = await island.submit()

    class Spoiling(Told):
        def _said(self, reply: InquiryReply) -> InquiryReply:
            receipts = [raw for kind, raw in reply.records if kind is Kind.RECEIPT]
            records = [(Kind.RECEIPT, raw[:-1] + bytes([raw[-1] ^ 1])) for raw in receipts]
            assert len(self.replies) < 5, "they are asked for again and again"
            return super()._said(replace(reply, records=records))

    link = Spoiling(receiver, island)
    await island.visit(link)
    assert [call for call in link.calls if call != "get_records"] == ["hello", "put_records", "inquire"]
    assert link.calls.count("get_records") <= 1, "the checkpoint"
    assert await island.state(statement) is State.WAITING


async def test_what_a_reply_brings_unasked_is_not_taken(fleet: Fleet) -> None:
    """Promise 2: a receiver's key does not open a node to whatever its holder likes to bring."""
    receiver, island, other = await fleet.receiver(), await fleet.launch("pulau-long"), await fleet.launch("pulau-lain")
    await island.visit(receiver)
    statement = await island.submit()
    strange = make_statement(fleet.election, other.node)
    false = make_receipt(fleet.election, receiver.node, strange)
    assert receiver.log is not None
    old = await receiver.store.load(Kind.CHECKPOINT)

    class Pushing(Told):
        def _said(self, reply: InquiryReply) -> InquiryReply:
            junk = [(Kind.STATEMENT, strange.raw), (Kind.RECEIPT, false.raw), (Kind.CHECKPOINT, old[0])]
            return super()._said(replace(reply, records=[*junk, *reply.records]))

    held = set(island.store.members.keys(b"", b"\xff"))
    link = Pushing(receiver, island)
    await island.visit(link)
    assert link.replies
    come = {key for key in island.store.members.keys(b"", b"\xff") if key not in held}
    assert strange.id not in {key[1:] for key in come}
    assert false.id not in {key[1:] for key in come}
    assert await island.state(statement) is State.DELIVERED, "its receipt was fetched all the same"


async def test_cosignatures_of_both_sides_are_on_both_sides_after_a_visit(fleet: Fleet) -> None:
    """Of one checkpoint, each has another witness's: what comes is joined to what is there, and goes back."""
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    ships = [await fleet.carrier(name) for name in ("km-satu", "km-dua")]
    notice = fleet.witnesses(*ships)
    for one in (receiver, boat):
        await one.take(notice)
    await boat.visit(receiver)  # the log is empty, and signed
    (signed,) = boat.custody.admission.checkpoints.values()
    raws = []
    for ship in ships:
        identity = ship.node.identity
        key = witness_key(identity.election, identity.name, public_bytes(identity.key))
        raws.append(cosign(signed.note, key, ship.node.key, 1_000).to_bytes())
    await boat.custody.take([(Kind.CHECKPOINT, raws[0])])
    await receiver.custody.take([(Kind.CHECKPOINT, raws[1])])
    await boat.visit(receiver)
    for one in (receiver, boat):
        (held,) = one.custody.admission.checkpoints.values()
        assert len(held.note.signatures) == 3
