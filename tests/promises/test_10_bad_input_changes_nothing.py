"""Promise 10: bad input gets a named error and changes nothing. (Formats one by one: tests/unit.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Malformed, RelayError
from relay.limits import MAX_WANTS
from relay.records.encoding import encode
from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.sync import messages
from relay.sync.messages import Given, Greeting, Inquiry, InquiryReply, Taken
from tests.fleet import Fleet, Ship
from tests.promises.adversaries import Smuggler


def snapshot(ship: Ship) -> dict[str, bytes]:
    """Everything that a store keeps in files but its database's own."""
    folder = ship.folder / "store"
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "catalogue" not in path.name
    }


async def test_rubbish_of_every_kind_is_refused_by_name_and_nothing_is_kept(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    before = snapshot(boat)
    rubbish = [b"", b"\x00", b"\xd2\x80", b"x" * 59_999, b"x" * 70_000, b"\xd2" + b"\x9f" * 100]
    for kind in Kind:
        words = (await boat.host(other).put_records([(kind, raw) for raw in rubbish])).outcomes
        assert words == ["malformed"] * len(rubbish)
    assert len(boat.store.members) == 0
    assert snapshot(boat) == before
    assert boat.custody.news.count == 0


async def test_what_a_peer_sends_instead_of_a_record_is_malformed(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit()
    rubbish = [(kind, b"rubbish") for kind in Kind]
    report = await boat.visit(Smuggler(island.host(boat), rubbish, honest=False))
    assert report.records_in == len(rubbish)
    assert len(boat.store.members) == 0


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_ids_that_are_none_are_refused(fleet: Fleet, size: int) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    with pytest.raises(Malformed):
        await boat.host(other).get_records([RecordId(bytes(size))])


async def test_questions_beyond_their_bounds_are_refused(fleet: Fleet) -> None:
    boat, other = await fleet.carrier("km-bahari"), await fleet.carrier("kp-anis")
    host = boat.host(other)
    for question in (
        lambda: host.wants([ObjectId(bytes(32))] * (MAX_WANTS + 1)),
        lambda: host.holdings([ObjectId(bytes(32))] * (MAX_WANTS + 1)),
        lambda: host.reconcile(b""),
        lambda: host.reconcile(b"\x61\xff\xff"),
    ):
        with pytest.raises(Malformed):
            await question()


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "greeting": Greeting.decode,
    "inquiry": Inquiry.decode,
    "inquiry reply": InquiryReply.decode,
    "ids": messages.decode_ids,
    "records": messages.decode_records,
    "given": Given.decode,
    "taken": Taken.decode,
    "holdings": messages.decode_holdings,
    "wants": messages.decode_wants,
    "number": messages.decode_number,
    "pair": messages.decode_pair,
    "path": messages.decode_path,
}


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
@settings(max_examples=60)
def test_any_bytes_are_a_message_or_malformed(name: str, data: st.DataObject) -> None:
    values: st.SearchStrategy[Any] = st.recursive(
        st.integers(-(1 << 64), (1 << 64) - 1)
        | st.binary(max_size=40)
        | st.binary(min_size=32, max_size=32)
        | st.text(max_size=10)
        | st.booleans()
        | st.none(),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(["statements", "wait", "unknown", "ready", "node", "free"]), inner)
        ),
    )
    raw = data.draw(st.binary(max_size=200) | values.map(encode))
    try:
        DECODERS[name](raw)
    except Malformed as error:
        assert error.what


async def test_a_visit_to_a_peer_that_stammers_leaves_a_usable_store(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    await island.submit(content)

    class Stammerer(Smuggler):
        async def hello(self, mine: Greeting) -> Greeting:
            said = await super().hello(mine)
            return Greeting(said.hello, said.compare[:-1])

    with pytest.raises(RelayError):
        await boat.visit(Stammerer(island.host(boat), []))
    await boat.visit(island)
    assert await boat.read(content) == content
