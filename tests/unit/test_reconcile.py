"""Reconciliation against plain sets, against another implementation's transcripts, and against hostile peers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import (
    MAX_RECONCILE_DRY_ROUNDS,
    MAX_RECONCILE_FOUND,
    MAX_RECONCILE_MESSAGE,
    MAX_RECONCILE_RANGES,
    MIN_RECONCILE_MESSAGE,
)
from relay.records.identifiers import Kind
from relay.store.recordset import END, FIRST, RecordSet, key_of
from relay.sync.ranges import MessageWriter, Mode, decode
from relay.sync.reconcile import Initiator, respond, unlisted

Item = tuple[int, bytes]

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "negentropy_v1.json").read_text())


def record(number: int) -> Item:
    return 1 + number % 4, sha256(b"record %d" % number).digest()


@dataclass
class Outcome:
    have: list[Item]
    need: list[Item]
    bytes: int
    rounds: int
    complete: bool


def reconcile(
    ours: RecordSet,
    theirs: RecordSet,
    limit: int = MAX_RECONCILE_MESSAGE,
    their_limit: int = MAX_RECONCILE_MESSAGE,
    between: Callable[[], None] = lambda: None,
    most: int = MAX_RECONCILE_FOUND,
) -> Outcome:
    initiator = Initiator(ours, limit, most)
    message: bytes | None = initiator.start()
    size = 0
    while message is not None:
        reply = respond(theirs, message, their_limit)
        assert len(message) <= limit
        assert len(reply) <= their_limit
        size += len(message) + len(reply)
        between()
        message = initiator.step(reply)
    return Outcome([*initiator.have], [*initiator.need], size, initiator.rounds, initiator.complete)


def check_difference(ours: set[Item], theirs: set[Item], outcome: Outcome) -> None:
    assert outcome.complete
    assert sorted(outcome.have) == sorted(ours - theirs)
    assert sorted(outcome.need) == sorted(theirs - ours)


# -- any two sets


@st.composite
def two_sets(draw: st.DrawFn) -> tuple[set[Item], set[Item]]:
    """Sets of any size up to some hundreds that share anything from nothing to everything."""
    size = draw(st.sampled_from([0, 1, 2, 3, 17, 40, 300, 900]))
    chance = random.Random(draw(st.integers(0, 2**32)))
    ours, theirs = draw(st.sampled_from([(1, 1), (0, 1), (1, 0), (0.5, 0.5), (0.99, 0.99), (1, 0.98), (0.1, 0.9)]))
    everything = [record(chance.randrange(10**9)) for _ in range(size)]
    return (
        {item for item in everything if chance.random() < ours},
        {item for item in everything if chance.random() < theirs},
    )


limits = st.sampled_from([MIN_RECONCILE_MESSAGE, 700, 4096, MAX_RECONCILE_MESSAGE])


@given(two_sets(), limits, limits)
@settings(deadline=None)
def test_any_two_sets_are_equal_afterwards(sets: tuple[set[Item], set[Item]], limit: int, their_limit: int) -> None:
    ours, theirs = sets
    check_difference(ours, theirs, reconcile(RecordSet(ours), RecordSet(theirs), limit, their_limit))


@given(two_sets(), st.integers(0, 2**32), limits)
@settings(deadline=None)
def test_sets_may_change_between_rounds(sets: tuple[set[Item], set[Item]], seed: int, limit: int) -> None:
    chance = random.Random(seed)
    ours, theirs = RecordSet(sets[0]), RecordSet(sets[1])
    ever_ours, ever_theirs = set(sets[0]), set(sets[1])

    def change() -> None:
        for records, ever in ((ours, ever_ours), (theirs, ever_theirs)):
            held = list(records)
            for lost in chance.sample(held, min(len(held), 3)):
                records.discard(*lost)
            for _ in range(3):
                new = record(chance.randrange(1000))
                records.add(*new)
                ever.add(new)

    outcome = reconcile(ours, theirs, limit, between=change)
    assert set(outcome.have) <= ever_ours
    assert set(outcome.need) <= ever_theirs
    check_difference(set(ours), set(theirs), reconcile(ours, theirs, limit))


def test_what_is_found_at_a_limit_is_good_and_the_next_run_goes_on() -> None:
    ours, theirs = RecordSet(map(record, range(500))), RecordSet(map(record, range(400, 1_000)))
    runs = 0
    while True:
        initiator = Initiator(ours, most=100)
        message: bytes | None = initiator.start()
        while message is not None:
            message = initiator.step(respond(theirs, message))
        runs += 1
        assert len(initiator.have) + len(initiator.need) <= 100
        for item in initiator.have:
            assert theirs.add(*item)
        for item in initiator.need:
            assert ours.add(*item)
        if initiator.complete:
            break
    assert runs == 9
    assert list(ours) == list(theirs)
    assert len(ours) == 1_000


@given(two_sets(), st.integers(1, 40), limits)
@settings(deadline=None)
def test_of_too_many_differences_the_first_ones_are_found(
    sets: tuple[set[Item], set[Item]], most: int, limit: int
) -> None:
    """In the order of kinds, on whichever side they are; half of them statements, or what the others leave."""
    ours, theirs = sets
    initiator = Initiator(RecordSet(ours), limit, most)
    rounds_with(partial(respond, RecordSet(theirs)), initiator)
    first = sorted(key_of(*item) for item in ours ^ theirs)
    before = [key for key in first if key[0] < Kind.STATEMENT]
    statements = first[len(before) :]
    kept = min(len(before), max(most - most // 2, most - len(statements)))
    found = before[:kept] + statements[: most - kept]
    assert sorted(key_of(*item) for item in (*initiator.have, *initiator.need)) == found
    assert initiator.reached == next((key for key in first if key not in found), END)
    assert initiator.knows_receipts is (kept == len(before))


@given(two_sets(), st.integers(12, 40), limits)
@settings(deadline=None, max_examples=25)
def test_run_by_run_every_difference_is_found_though_none_is_ever_settled(
    sets: tuple[set[Item], set[Item]], most: int, limit: int
) -> None:
    """Where neither side keeps what it is given, the runs come to the end all the same. Notices and checkpoints are
    few, and compared each time."""
    ours, theirs = ({item for item in items if item[0] >= Kind.RECEIPT} for items in sets)
    found: set[Item] = set()
    since, runs = FIRST, 0
    while since != END:
        initiator = Initiator(RecordSet(ours), limit, most, since=since)
        rounds_with(partial(respond, RecordSet(theirs)), initiator)
        assert since < initiator.reached, "each goes on where the last one ended"
        since, runs = initiator.reached, runs + 1
        found.update(initiator.have, initiator.need)
    assert found == ours ^ theirs
    assert runs <= 2 + len(found) // (most // 2)


def test_a_run_goes_on_at_an_id_that_ends_in_zeros() -> None:
    """A message leaves the zeros at the end of a bound out."""
    since = key_of(Kind.STATEMENT, bytes([7] * 30) + bytes(2))
    theirs = RecordSet((int(Kind.STATEMENT), bytes([number]) * 32) for number in range(1, 20))
    theirs.add(Kind.STATEMENT, since[1:])
    initiator = Initiator(RecordSet(), since=since)
    rounds_with(partial(respond, theirs), initiator)
    assert sorted(key_of(*item) for item in initiator.need) == sorted(theirs.keys(since))


def test_receipts_that_stay_different_leave_the_statements_their_share() -> None:
    """However many there are, and however little fits a message."""
    receipts = [(int(Kind.RECEIPT), record(number)[1]) for number in range(3_000)]
    statements = [(int(Kind.STATEMENT), record(number)[1]) for number in range(5_000, 5_040)]
    ours, theirs = RecordSet(statements[:20]), RecordSet([*receipts, *statements[20:]])
    for limit in (MIN_RECONCILE_MESSAGE * 2, MAX_RECONCILE_MESSAGE):
        initiator = Initiator(ours, limit, most=100)
        message: bytes | None = initiator.start()
        rounds = 0
        while message is not None and rounds < 12:
            message = initiator.step(respond(theirs, message, limit))
            rounds += 1
        assert set(initiator.have) | {item for item in initiator.need if item in statements} == set(statements)
        assert FIRST < initiator.reached < bytes([Kind.STATEMENT])
        assert not initiator.knows_receipts


def test_a_hundred_thousand_differences_are_settled_in_as_many_runs_as_it_takes() -> None:
    """Each goes on where the last one ended, and what rules and frees space comes in the first one."""
    ruling = {(kind, record(number)[1]) for number in range(900) for kind in (Kind.NOTICE, Kind.RECEIPT)}
    statements = [(int(Kind.STATEMENT), record(number)[1]) for number in range(1_000, 101_000)]
    ours, theirs = RecordSet(statements[:40_000]), RecordSet([*ruling, *statements[30_000:]])
    runs, since = 0, FIRST
    while since != END:
        initiator = Initiator(ours, since=since)
        rounds_with(partial(respond, theirs), initiator)
        runs, since = runs + 1, initiator.reached
        assert len(initiator.have) + len(initiator.need) <= MAX_RECONCILE_FOUND
        if runs == 1:
            assert ruling < set(initiator.need)
        for item in initiator.have:
            assert theirs.add(*item)
        for item in initiator.need:
            assert ours.add(*item)
    assert runs == -(-(90_000 + len(ruling)) // MAX_RECONCILE_FOUND)
    assert ours.fingerprint() == theirs.fingerprint()


def test_what_stays_different_does_not_keep_the_next_run_from_what_lies_behind_it() -> None:
    """Whoever refuses thousands of statements for good is told of the others all the same; of notices always."""
    ours = RecordSet((int(Kind.STATEMENT), record(number)[1]) for number in range(1_000))
    initiator = Initiator(ours, most=300)
    rounds_with(partial(respond, RecordSet()), initiator)
    theirs = RecordSet([(int(Kind.NOTICE), record(1)[1])])
    again = Initiator(ours, most=10_000, since=initiator.reached)
    rounds_with(partial(respond, theirs), again)
    assert not set(initiator.have) & set(again.have)
    assert sorted(initiator.have + again.have) == list(ours)
    assert again.need == list(theirs)


def test_who_cuts_a_set_into_ranges_without_end_has_few_of_them_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each range that a peer speaks about waits to be asked about: what lies behind the first ones is left."""
    monkeypatch.setattr("relay.sync.reconcile.MAX_RECONCILE_OPEN", 500)

    def cut(message: bytes) -> bytes:
        writer = MessageWriter(MIN_RECONCILE_MESSAGE * 32)
        for said in decode(message):
            for place in range(1, 256):
                upper = (said.lower + bytes([place]))[:33]
                if said.lower < upper < said.upper and upper > writer.end:
                    writer.add_fingerprint(writer.end, upper, bytes(16))
        return bytes(writer)

    initiator = Initiator(RecordSet(map(record, range(5_000))), MIN_RECONCILE_MESSAGE)
    message: bytes | None = initiator.start()
    most = 0
    for _ in range(5):
        assert message is not None
        message = initiator.step(cut(message))
        most = max(most, len(initiator._open))
    assert 250 < most <= 500
    assert initiator.reached < END


@given(two_sets(), st.integers(0, 40))
@settings(deadline=None)
def test_who_holds_little_lists_it_and_the_peer_knows_what_it_lacks(
    sets: tuple[set[Item], set[Item]], listed: int
) -> None:
    mine, theirs = (RecordSet(one) for one in sets)
    initiator = Initiator(mine, listed=listed)
    message: bytes | None = initiator.start()
    assert message is not None
    found = list(unlisted(theirs, message))
    if len(sets[0]) <= listed:
        assert found == sorted(sets[1] - sets[0])
    else:  # of kinds of which it holds nothing that is known, up to one of which it holds something
        assert found == sorted(sets[1] - sets[0])[: len(found)]
    while message is not None:
        message = initiator.step(respond(theirs, message))
    assert set(initiator.need) == sets[1] - sets[0]
    assert set(initiator.have) == sets[0] - sets[1]


@given(two_sets(), st.integers(1, 5))
@settings(deadline=None)
def test_the_kinds_above_can_be_left_out(sets: tuple[set[Item], set[Item]], below: int) -> None:
    ours, theirs = ({item for item in items if item[0] < below} for items in sets)
    initiator = Initiator(RecordSet(sets[0]), below=below)
    rounds_with(partial(respond, RecordSet(sets[1])), initiator)
    assert initiator.complete
    assert sorted(initiator.have) == sorted(ours - theirs)
    assert sorted(initiator.need) == sorted(theirs - ours)


# -- what it costs: exact, since the sets are


@pytest.fixture(scope="module")
def million() -> tuple[RecordSet, RecordSet]:
    everything = RecordSet(map(record, range(1_000_000)))
    return everything, RecordSet(everything)


def test_identical_millions_cost_one_fingerprint(million: tuple[RecordSet, RecordSet]) -> None:
    outcome = reconcile(*million)
    assert outcome.complete
    assert (outcome.bytes, outcome.rounds) == (21, 1)


def test_ten_new_among_a_million(million: tuple[RecordSet, RecordSet]) -> None:
    fuller, base = million
    new = {record(number) for number in range(1_000_000, 1_000_010)}
    for item in new:
        fuller.add(*item)
    pushing, pulling = reconcile(fuller, base), reconcile(base, fuller)
    for item in new:
        fuller.discard(*item)
    assert set(pushing.have) == set(pulling.need) == new
    assert (pushing.bytes, pushing.rounds) == (12_665, 3)
    assert (pulling.bytes, pulling.rounds) == (13_220, 3)


def test_ten_new_among_ten_thousand() -> None:
    base = RecordSet(map(record, range(10_000)))
    fuller = RecordSet(map(record, range(10_010)))
    pushing, pulling = reconcile(fuller, base), reconcile(base, fuller)
    assert len(pushing.have) == len(pulling.need) == 10
    assert (pushing.bytes, pushing.rounds) == (7_712, 2)
    assert (pulling.bytes, pulling.rounds) == (8_302, 2)


def test_an_empty_node_costs_little_more_than_the_ids() -> None:
    outcome = reconcile(RecordSet(), RecordSet(map(record, range(20_000))), most=20_000)
    assert len(outcome.need) == 20_000
    assert (outcome.bytes - 20_000 * 32, outcome.rounds) == (326, 3)


# -- another implementation: transcripts of hoytech/negentropy


def items_of(runs: list[list[int]]) -> set[Item]:
    """The items that the vectors name by `[kind, first, end]`."""
    return {
        (kind, sha256(b"relay vector %d %d" % (kind, number)).digest())
        for kind, first, end in runs
        for number in range(first, end)
    }


def transcripts(initiator: str, responder: str) -> list[Any]:
    return [
        pytest.param(case, [bytes.fromhex(message) for message in transcript["messages"]], id=case["name"])
        for case in VECTORS["cases"]
        for transcript in case["transcripts"]
        if (transcript["initiator"], transcript["responder"]) == (initiator, responder)
    ]


@pytest.mark.parametrize(("case", "messages"), transcripts("negentropy", "relay"))
def test_we_answer_another_implementation_as_recorded(case: dict[str, Any], messages: list[bytes]) -> None:
    ours = RecordSet(items_of(case["responder"]))
    for asked, answered in zip(messages[::2], messages[1::2], strict=True):
        assert respond(ours, asked, case["limit"] or MAX_RECONCILE_MESSAGE) == answered


@pytest.mark.parametrize(("case", "messages"), transcripts("relay", "negentropy"))
def test_we_ask_another_implementation_as_recorded(case: dict[str, Any], messages: list[bytes]) -> None:
    ours, theirs = items_of(case["initiator"]), items_of(case["responder"])
    initiator = Initiator(RecordSet(ours), case["limit"] or MAX_RECONCILE_MESSAGE)
    message: bytes | None = initiator.start()
    for asked, answered in zip(messages[::2], messages[1::2], strict=True):
        assert message == asked
        message = initiator.step(answered)
    assert message is None
    assert initiator.complete
    assert (len(initiator.have), len(initiator.need)) == (case["have"], case["need"])
    assert set(initiator.have) == ours - theirs
    assert set(initiator.need) == theirs - ours


@pytest.mark.parametrize(("case", "messages"), transcripts("negentropy", "negentropy"))
def test_our_fingerprints_and_lists_are_those_of_another_implementation(
    case: dict[str, Any], messages: list[bytes]
) -> None:
    sides = [RecordSet(items_of(case["initiator"])), RecordSet(items_of(case["responder"]))]
    for turn, message in enumerate(messages):
        ours = sides[turn % 2]
        writer = MessageWriter(MAX_RECONCILE_MESSAGE)
        for said in decode(message):
            if said.mode is Mode.FINGERPRINT:
                writer.add_fingerprint(said.lower, said.upper, ours.fingerprint(said.lower, said.upper))
            elif said.mode is Mode.ID_LIST:
                writer.add_ids(said.lower, said.upper, [key[1:] for key in ours.keys(said.lower, said.upper)])
        # The fingerprint that closes its full answers leaves out the range it had no room for: not compared.
        compared = -16 if case["limit"] and turn % 2 else None
        assert bytes(writer)[:compared] == message[:compared]


@pytest.mark.parametrize(("case", "messages"), transcripts("negentropy", "negentropy"))
def test_our_split_is_that_of_another_implementation(case: dict[str, Any], messages: list[bytes]) -> None:
    ours = RecordSet(items_of(case["initiator"]))
    first = decode(messages[0])
    if first[0].mode is Mode.FINGERPRINT:
        assert [(said.lower, said.upper) for said in first] == ours.split(FIRST, END, 16)
    else:
        assert len(ours) < 32


# -- bad input and hostile peers


MALFORMED = {
    "nothing": "",
    "no version": "0161",
    "ends in a bound": "6101",
    "ends in a prefix": "610105aa",
    "ends before the mode": "610000",
    "ends in a fingerprint": "61000001aabb",
    "ends in a list": "610000020200",
    "a list longer than any message": "61000002ffffffff7f",
    "an unknown mode": "61000003",
    "a long prefix": "610121" + "aa" * 33 + "00",
    "a long varint": "618001",
    "an endless varint": "61" + "ff" * 40,
    "a kind too high": "61120000",
    "kinds too high in sum": "610a00000a0000",
    "bounds out of order": "610301bb000101aa00",
    "beyond infinity": "61000000020000",
    "infinity with an id": "610001aa00",
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_is_named(message: str) -> None:
    with pytest.raises(Malformed):
        respond(RecordSet(), bytes.fromhex(message))
    initiator = Initiator(RecordSet())
    initiator.start()
    with pytest.raises(Malformed):
        initiator.step(bytes.fromhex(message))


def test_a_message_over_its_limits_is_malformed() -> None:
    with pytest.raises(Malformed, match="bytes"):
        respond(RecordSet(), b"\x61" + bytes(MAX_RECONCILE_MESSAGE))
    with pytest.raises(Malformed, match="ranges"):
        respond(RecordSet(), b"\x61" + b"\x01\x00\x00" * (MAX_RECONCILE_RANGES + 1))


def test_another_version_is_answered_with_ours() -> None:
    assert respond(RecordSet(), b"\x62whatever") == b"\x61"
    with pytest.raises(Malformed, match="version 2"):
        Initiator(RecordSet()).step(b"\x62")


@given(st.data(), st.booleans())
@settings(deadline=None, max_examples=300)
def test_garbage_is_malformed_or_answered(data: st.DataObject, damaged: bool) -> None:
    ours = RecordSet(map(record, range(100)))
    initiator = Initiator(ours)
    start = initiator.start()
    if damaged:
        case = data.draw(st.sampled_from(VECTORS["cases"]))
        recorded = data.draw(st.sampled_from([m for t in case["transcripts"] for m in t["messages"]]))
        message = bytearray.fromhex(recorded)
        for _ in range(data.draw(st.integers(1, 3))):
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
        garbage = bytes(message[: data.draw(st.integers(0, len(message)))])
    else:
        garbage = b"\x61" + data.draw(st.binary(max_size=200))
    assert start
    try:
        assert len(respond(ours, garbage, 600)) <= 600
    except Malformed:
        with pytest.raises(Malformed):
            initiator.step(garbage)
        return
    try:
        initiator.step(garbage)
    except Malformed:
        return


def rounds_with(peer: Callable[[bytes], bytes], initiator: Initiator) -> int:
    message: bytes | None = initiator.start()
    while message is not None:
        message = initiator.step(peer(message))
    return initiator.rounds


def test_a_peer_that_never_agrees_is_given_up() -> None:
    initiator = Initiator(RecordSet(map(record, range(1_000))))
    rounds = rounds_with(lambda message: bytes.fromhex("61000001") + bytes(16), initiator)
    assert rounds == MAX_RECONCILE_DRY_ROUNDS + 1
    assert not initiator.complete
    assert not initiator.have
    assert not initiator.need


def test_a_peer_that_invents_records_without_end_is_given_up() -> None:
    numbers = count(1)

    def invent(message: bytes) -> bytes:
        # One invented record at the beginning of the last range asked about, and "there is more" for all the rest.
        invented = next(numbers)
        writer = MessageWriter(MAX_RECONCILE_MESSAGE)
        upper = b"\x0f" + (invented + 1).to_bytes(32, "big")
        writer.add_ids(decode(message)[-1].lower, upper, [invented.to_bytes(32, "big")])
        writer.finish(upper, bytes(16))
        return bytes(writer)

    initiator = Initiator(RecordSet(), most=50)
    assert rounds_with(invent, initiator) == 51
    assert len(initiator.need) == 50
    assert not initiator.complete


def test_a_closing_fingerprint_that_equals_ours_settles_nothing() -> None:
    ours, theirs = RecordSet(), RecordSet(map(record, range(5)))
    initiator = Initiator(ours)
    initiator.start()
    writer = MessageWriter(MAX_RECONCILE_MESSAGE)
    writer.finish(FIRST, ours.fingerprint())
    second = initiator.step(bytes(writer))
    assert second is not None
    assert initiator.step(respond(theirs, second)) is None
    assert sorted(initiator.need) == sorted(theirs)


def test_only_what_was_asked_about_can_be_listed() -> None:
    ours = RecordSet(map(record, range(1_000)))
    theirs = RecordSet(map(record, range(1, 1_000)))
    initiator = Initiator(ours)
    second = initiator.step(respond(theirs, initiator.start()))
    assert second is not None
    asked = decode(second)
    skipped = next(said for said in asked if said.mode is Mode.SKIP and said.upper > said.lower)
    writer = MessageWriter(MAX_RECONCILE_MESSAGE)
    writer.add_ids(skipped.lower, skipped.upper, [])
    with pytest.raises(Malformed, match="not asked"):
        initiator.step(bytes(writer))


def test_a_listed_id_lies_in_its_range() -> None:
    initiator = Initiator(RecordSet())
    initiator.start()
    writer = MessageWriter(MAX_RECONCILE_MESSAGE)
    writer.add_ids(b"\x04", b"\x04\x10", [b"\x10" + bytes(31)])
    with pytest.raises(Malformed, match="outside"):
        initiator.step(bytes(writer))


def test_a_full_message_of_empty_lists_still_ends_well() -> None:
    asked = b"\x61" + b"".join(b"\x01\x02" + number.to_bytes(2, "big") + b"\x02\x00" for number in range(30_000))
    answer = respond(RecordSet(), asked)
    said = decode(answer)
    assert len(answer) <= MAX_RECONCILE_MESSAGE
    assert said[-1].upper == END
    assert said[-1].mode is Mode.FINGERPRINT
