"""A receiver that came out of a backup goes on only where its log is as new as what anybody has seen of it.

Its key may have signed a larger tree than the backup knows. So the published checkpoint is compared with the store:
a smaller tree has to be the beginning of this one; a larger one shows that the backup is old, and going on would be a
second log (promise 6).
"""

from __future__ import annotations

from relay.errors import BadInput, StoreError
from relay.limits import LOG_BATCH, MAX_CHECKPOINT
from relay.log.checkpoint import Checkpoint
from relay.log.merkle import leaf_hash
from relay.log.tree import Frontier
from relay.net.source import Source
from relay.node.home import Member
from relay.node.restoring import RESTORED, take_mark_off
from relay.receiver.publishing import CHECKPOINT
from relay.store.interface import Store
from relay.sync.custody import Custody
from relay.trust.witness import log_key, read_signed_checkpoint

_OLD = (
    "Restore a newer backup. If there is none, this log ends as it is published: enrol a new receiver with a key of "
    "its own (docs/howto/backup-and-restore.md)."
)


async def compare_with_published(custody: Custody, member: Member, source: Source) -> int:
    """Check that the log published at `source` is this one, or its beginning; its size.

    Raises `StoreError` for one that is newer, or another; `NotHeld`, `Unreachable`, `Malformed`, `Refused` for a
    checkpoint that is not there, or not this receiver's.
    """
    raw = await source.read(CHECKPOINT, MAX_CHECKPOINT)
    shown = read_signed_checkpoint(raw, log_key(member.identity), {}).checkpoint
    await _check(custody.store, shown, "The published log")
    return shown.size


async def go_on(custody: Custody, member: Member) -> int:
    """Let the receiver go on where the backup ends; the size of its log. Raises `StoreError` where the checkpoints that
    came to it as records are newer, and `BadInput` where it was not restored."""
    if not (await custody.store.notes()).get(RESTORED):
        raise BadInput("This receiver was not restored from a backup", "Start it: relay run (or its service).")
    origin = log_key(member.identity).name
    for held in (custody.admission.checkpoints.get(origin), custody.admission.cosigned.get(origin)):
        if held is not None:
            await _check(custody.store, held.checkpoint, "The log that boats saw")
    await take_mark_off(custody.store)
    return (await custody.store.log_state()).size


async def _check(store: Store, shown: Checkpoint, what: str) -> None:
    size = (await store.log_state()).size
    if shown.size > size:
        raise StoreError(f"{what} has {shown.size} entries, and this backup only {size}", _OLD)
    if await _root(store, shown.size) != shown.root:
        raise StoreError(
            f"{what} is not the beginning of this backup's: this key signed two logs",
            "Start neither of them, keep both, and tell the election office.",
        )


async def _root(store: Store, size: int) -> bytes:
    """The root of the log's first `size` entries."""
    frontier = Frontier()
    while frontier.size < size:
        raws = await store.log_statements(frontier.size, min(LOG_BATCH, size - frontier.size))
        if not raws:
            raise StoreError(f"The store lacks entry {frontier.size} of its log", "Use another backup.")
        frontier = frontier.extend(leaf_hash(raw) for raw in raws)
    return frontier.root()
