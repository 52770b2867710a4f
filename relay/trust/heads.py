"""Heads of logs: what receivers signed about their trees, and whether it can all be true. Pure.

A receiver that shows one log here and another there has signed both. Its checkpoints say so, which boats carry to each
other, and so does every receipt, whose signature covers the root and the size of its tree. Two heads of one size and
with different roots contradict each other at once; heads of different sizes wait here until the receiver proves that
the larger tree begins with the smaller one (`relay.node.witness`), or fails to.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.limits import MAX_HEADS
from relay.log.checkpoint import Checkpoint, parse_checkpoint
from relay.log.merkle import root_from_inclusion
from relay.log.note import parse_note
from relay.records.identifiers import Kind, parse_uri
from relay.records.receipt import Receipt
from relay.trust.admission import Admitted


@dataclass(frozen=True, slots=True)
class Head:
    """A tree that a receiver signed, and the record (a checkpoint or a receipt) in which it did."""

    tree: Checkpoint
    kind: Kind
    raw: bytes


class Heads:
    """The heads that were heard of and are not proved to be of one tree yet, by log and size."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[int, Head]] = {}

    def hear(self, head: Head) -> Head | None:
        """Note a head whose signature was checked; the one that it contradicts, if there is one.

        The first ones are kept when there are too many: those that came later wait for another time.
        """
        known = self._heard.setdefault(head.tree.origin, {})
        other = known.get(head.tree.size)
        if other is not None:
            return other if other.tree.root != head.tree.root else None
        if len(known) < MAX_HEADS:
            known[head.tree.size] = head
        return None

    def waiting(self, tree: Checkpoint, most: int) -> list[Head]:
        """Some of the heads that have to be of one log with `tree`: it begins with them, or they begin with it."""
        known = self._heard.get(tree.origin, {})
        return [known[size] for size in sorted(known) if size != tree.size][:most]

    def settle(self, head: Head) -> None:
        """A head is proved: nothing more has to be known of it."""
        self._heard.get(head.tree.origin, {}).pop(head.tree.size, None)


def head_of_checkpoint(raw: bytes) -> Head:
    """The head in a checkpoint, as it came: what is in force may be another one. Raises `Malformed`."""
    return Head(parse_checkpoint(parse_note(raw)), Kind.CHECKPOINT, raw)


def head_of(item: Admitted, raw: bytes) -> Head | None:
    """What an admitted record says of a log; None for records that say nothing of one."""
    if item.kind is Kind.CHECKPOINT:
        return head_of_checkpoint(raw)
    if isinstance(item.body, Receipt):
        receipt, proof = item.body, item.body.inclusion
        root = root_from_inclusion(receipt.leaf, proof.index, proof.size, proof.path)
        return Head(Checkpoint(origin_of(receipt), proof.size, root), Kind.RECEIPT, raw)
    return None


def origin_of(receipt: Receipt) -> str:
    """The origin of the log that a receipt is of."""
    return f"{receipt.election}/{parse_uri(receipt.envelope.issuer)[2]}"
