"""Device chains: what the sequence numbers and the previous ids of statements say about statements not seen. Pure.

Each device counts its statements from 1 and names in each the id of the one before (DESIGN §5). So whoever holds some
of them knows of others: a number that is passed over is a package that exists and has not arrived (`Gap`), and two
statements in one place are one key used twice (`Fork`): a device restored from a copy, or a key that was stolen.

Does not live here: reading statements, admitting them, and showing what was found. A finding is a fact about the
statements handed in, not a judgement: both sides of a fork are kept (promise 7). Nothing is said of what a device made
after its newest statement held; nobody can know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from relay.records.identifiers import NodeId, StatementId
from relay.records.statement import Statement


@dataclass(frozen=True, slots=True)
class Link:
    """A statement's place in the chain of the device `node`: `seq` counts from 1, the first has no `previous`."""

    node: NodeId
    seq: int
    id: StatementId
    previous: StatementId | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The statements `first` to `last` of a device exist, since a later one is held, and none of them has arrived.

    `named` are the ids that the statements after the gap give to number `last`: what to ask other nodes for. More than
    one when two statements follow the gap, which is a fork besides.
    """

    node: NodeId
    first: int
    last: int
    named: tuple[StatementId, ...]

    @property
    def missing(self) -> int:
        """How many statements are missing."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Fork:
    """More than one statement claims to be number `seq` of a device: one key used twice.

    `held` are the ids of the statements held with that number; `named` those that the statements numbered `seq` + 1
    give to their previous one and that are not held with that number.
    """

    node: NodeId
    seq: int
    held: tuple[StatementId, ...]
    named: tuple[StatementId, ...]


Finding: TypeAlias = Gap | Fork


def link_of(statement: Statement, node: NodeId) -> Link:
    """The link that a statement of the device `node` (its signer, as admission found it) is."""
    package = statement.package
    return Link(node, package.seq, statement.id, package.previous)


def findings(links: Iterable[Link]) -> list[Finding]:
    """The gaps and forks that these links show, by device and then by sequence number.

    The order of the links and repetitions do not matter. Costs what sorting them costs, however large the numbers.
    """
    chains: dict[NodeId, dict[int, set[Link]]] = defaultdict(lambda: defaultdict(set))
    places: dict[StatementId, tuple[NodeId, int]] = {}
    for link in links:
        chains[link.node][link.seq].add(link)
        places[link.id] = (link.node, link.seq)
    return [found for node in sorted(chains) for found in _of_one(node, chains[node], places)]


def _of_one(
    node: NodeId, chain: dict[int, set[Link]], places: dict[StatementId, tuple[NodeId, int]]
) -> Iterator[Finding]:
    before = 0
    for seq in sorted(chain):
        named = {link.previous for link in chain[seq] if link.previous is not None}
        held = {link.id for link in chain.get(seq - 1, ())}
        if seq - 1 > before:
            # An id that is held elsewhere is not what is missing here, whatever this statement says.
            absent = tuple(sorted(one for one in named if one not in places))
            yield Gap(node, before + 1, seq - 1, absent)
        misplaced = any(places.get(one, (node, seq - 1)) != (node, seq - 1) for one in named)
        if len(held | named) > 1 or misplaced:
            yield Fork(node, seq - 1, tuple(sorted(held)), tuple(sorted(named - held)))
        if len(chain[seq]) > 1 and seq + 1 not in chain:
            yield Fork(node, seq, tuple(sorted(link.id for link in chain[seq])), ())
        before = seq
