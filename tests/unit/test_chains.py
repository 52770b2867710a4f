"""Device chains: gaps and forks are found where they are, and nowhere else."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from relay.receiver.chains import Fork, Gap, Link, findings
from relay.records.identifiers import NodeId, RecordId, StatementId

ONE, TWO = NodeId(b"\x01" * 32), NodeId(b"\x02" * 32)


def name(text: str) -> StatementId:
    return StatementId(RecordId(hashlib.sha256(text.encode()).digest()))


def chain(node: NodeId, length: int, branch: str = "", start: int = 1, after: StatementId | None = None) -> list[Link]:
    """What an honest device (or, with a `branch`, its copy) makes from number `start` on."""
    links: list[Link] = []
    for seq in range(start, start + length):
        links.append(Link(node, seq, name(f"{node.hex()} {seq} {branch}"), links[-1].id if links else after))
    return links


def gaps_by_counting(held: set[int], node: NodeId) -> list[tuple[int, int]]:
    """The maximal runs of missing numbers below the greatest one held, found one by one."""
    runs: list[tuple[int, int]] = []
    for seq in range(1, max(held, default=0)):
        if seq in held:
            continue
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


@given(st.integers(0, 30), st.integers(0, 30), st.integers())
def test_whole_chains_show_nothing(first: int, second: int, seed: int) -> None:
    links = chain(ONE, first) + chain(TWO, second)
    random.Random(seed).shuffle(links)
    assert findings(links) == []


@given(st.sets(st.integers(1, 40)), st.integers())
def test_missing_numbers_are_the_gaps(held: set[int], seed: int) -> None:
    made = {link.seq: link for link in chain(ONE, 40)}
    links = [made[seq] for seq in held]
    random.Random(seed).shuffle(links)
    expected = [Gap(ONE, first, last, (made[last].id,)) for first, last in gaps_by_counting(held, ONE)]
    assert findings(links + links[:3]) == expected


@given(st.integers(1, 20), st.integers(1, 10), st.integers(1, 10), st.data())
def test_a_copied_device_shows_wherever_both_branches_do(
    common: int, left: int, right: int, data: st.DataObject
) -> None:
    trunk = chain(ONE, common)
    branches = [chain(ONE, left, "a", common + 1, trunk[-1].id), chain(ONE, right, "b", common + 1, trunk[-1].id)]
    seen = [data.draw(st.lists(st.sampled_from(branch), unique=True)) for branch in branches]
    found = findings(trunk + seen[0] + seen[1])
    forks = {one.seq: one for one in found if isinstance(one, Fork)}
    for seq in range(1, common + 12):
        # What is known of a number: the statements held, and those that the next ones name.
        held = {one.id for one in [*trunk, *seen[0], *seen[1]] if one.seq == seq}
        named = {one.previous for one in [*trunk, *seen[0], *seen[1]] if one.seq == seq + 1 and one.previous}
        assert (seq in forks) == (len(held | named) > 1)
        if seq in forks:
            assert set(forks[seq].held) == held and set(forks[seq].named) == named - held
    holes = {seq for one in found if isinstance(one, Gap) for seq in range(one.first, one.last + 1)}
    every = {one.seq for one in [*trunk, *seen[0], *seen[1]]}
    assert holes == set(range(1, max(every))) - every


def test_an_id_that_does_not_match_the_statement_held_is_a_fork() -> None:
    first, second, third = chain(ONE, 3)
    other = Link(ONE, 3, third.id, name("elsewhere"))
    assert findings([first, second, other]) == [Fork(ONE, 2, (second.id,), (name("elsewhere"),))]


def test_a_previous_statement_with_another_number_is_a_fork_and_is_not_what_is_missing() -> None:
    first, *_ = chain(ONE, 1)
    late = Link(ONE, 3, name("late"), first.id)
    assert findings([first, late]) == [Gap(ONE, 2, 2, ()), Fork(ONE, 2, (), (first.id,))]


def test_a_previous_statement_of_another_device_is_a_fork() -> None:
    mine, theirs = chain(ONE, 1), chain(TWO, 1)
    stray = Link(ONE, 2, name("stray"), theirs[0].id)
    assert findings([*mine, *theirs, stray]) == [Fork(ONE, 1, (mine[0].id,), (theirs[0].id,))]


def test_two_newest_statements_are_a_fork_without_a_successor() -> None:
    first, second = chain(ONE, 2)
    twin = Link(ONE, 2, name("twin"), first.id)
    assert findings([first, second, twin]) == [Fork(ONE, 2, tuple(sorted([second.id, twin.id])), ())]


def test_a_gap_before_two_branches_names_both() -> None:
    first, *_ = chain(ONE, 1)
    ends = [Link(ONE, 5, name(f"end {one}"), name(f"before {one}")) for one in "ab"]
    named = tuple(sorted([name("before a"), name("before b")]))
    assert findings([first, *ends]) == [
        Gap(ONE, 2, 4, named),
        Fork(ONE, 4, (), named),
        Fork(ONE, 5, tuple(sorted(one.id for one in ends)), ()),
    ]


def test_huge_numbers_cost_nothing() -> None:
    top = (1 << 62) - 1
    gap = findings([Link(ONE, top, name("top"), name("before"))])
    assert gap == [Gap(ONE, 1, top - 1, (name("before"),))]
    assert isinstance(gap[0], Gap) and gap[0].missing == top - 1
