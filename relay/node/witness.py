"""Watching the receiver's log: a node that visits a receiver has it prove that its log only grew.

What was seen last is kept in the store, and what others brought of the log waits in `relay.trust.heads`: all of it has
to be the beginning of the newest tree, so that a log cannot show one tree to some boats and another to others. A
carrier cosigns what it saw grow and carries it on: the boats are the log's witnesses. A receiver that cannot prove it
gets no cosignature, and there is an alarm, with both signed heads as evidence. The times in cosignatures are this
device's claims (promise 9).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable

from relay.errors import REVOKED, Malformed, NotYet, Refused
from relay.limits import PROOFS_PER_VISIT
from relay.log.checkpoint import cosign
from relay.log.merkle import verify_consistency
from relay.node.home import Member
from relay.node.restoring import RESTORED
from relay.records.identifiers import Kind
from relay.sync.alarm import raise_alarm
from relay.sync.custody import Custody
from relay.sync.messages import Hello
from relay.sync.peer import Peer
from relay.trust.heads import Head, head_of_checkpoint
from relay.trust.roles import Role
from relay.trust.witness import SignedCheckpoint, public_bytes, witness_key

logger = logging.getLogger(__name__)


class Witness:
    """This node as a watcher of logs (a `relay.sync.visit.Watch`). `clock` is seconds since 1970."""

    def __init__(self, member: Member, clock: Callable[[], float]) -> None:
        self._member = member
        self._clock = clock

    async def __call__(self, custody: Custody, peer: Peer, hello: Hello) -> None:
        """Have the receiver that is visited prove what it signed, and cosign what it proved."""
        signed = custody.admission.checkpoints.get(f"{hello.election}/{hello.name}")
        if hello.role is not Role.RECEIVER or signed is None:
            return
        tree = signed.checkpoint
        key = f"seen {tree.origin}"
        seen = _read((await custody.store.notes()).get(key, ""))
        heads = custody.heads.waiting(tree, PROOFS_PER_VISIT)
        if seen is not None and seen.tree.size != tree.size and all(one.tree != seen.tree for one in heads):
            heads.insert(0, seen)
        newest = Head(tree, Kind.CHECKPOINT, signed.raw)
        for head in heads:
            if not await _is_proved(custody, peer, head, newest):
                return
            custody.heads.settle(head)
        if seen is not None and seen.tree == tree:
            return
        if seen is not None and seen.tree.size == tree.size:
            await _tell(custody, seen, newest, f"it signed two different logs of {tree.size} entries")
            return
        await custody.store.set_note(key, _write(newest))
        restored = (await custody.store.notes()).get(RESTORED)  # it may have cosigned what it does not know of
        if self._member.identity.role is Role.CARRIER and tree.size and not restored:
            await self._cosign(custody, peer, signed)

    async def _cosign(self, custody: Custody, peer: Peer, signed: SignedCheckpoint) -> None:
        identity = self._member.identity
        key = witness_key(identity.election, identity.name, public_bytes(identity.key))
        raw = cosign(signed.note, key, self._member.key, max(0, int(self._clock()))).to_bytes()
        await custody.take([(Kind.CHECKPOINT, raw)])
        await peer.put_records([(Kind.CHECKPOINT, raw)])


async def _is_proved(custody: Custody, peer: Peer, head: Head, newest: Head) -> bool:
    """Whether the receiver proves that, of two trees that it signed, one begins with the other; an alarm if not."""
    old, new = sorted((head.tree, newest.tree), key=lambda tree: tree.size)
    try:
        path = await peer.consistency(old.size, new.size)
    except Refused as error:
        # No proof, and nothing that anybody could be shown against it. Where this node was revoked that is how it is.
        if error.reason != REVOKED:
            logger.warning("%s refuses to prove that its log only grew: tell the election office", newest.tree.origin)
        return False
    except NotYet:
        return False  # it has to publish first what it signed: the head waits, and no visit is lost over it
    except Malformed as error:
        await _tell(custody, head, newest, error.what)
        return False
    try:
        verify_consistency(old.size, old.root, new.size, new.root, path)
    except (Refused, Malformed) as error:
        await _tell(custody, head, newest, error.what)
        return False
    return True


async def _tell(custody: Custody, head: Head, newest: Head, why: str) -> None:
    what = f"The log {newest.tree.origin} is not what it was: {why}"
    await raise_alarm(custody.store, what, [(head.kind, head.raw), (newest.kind, newest.raw)])


def _write(head: Head) -> str:
    return base64.b64encode(head.raw).decode()


def _read(text: str) -> Head | None:
    return head_of_checkpoint(base64.b64decode(text)) if text else None
