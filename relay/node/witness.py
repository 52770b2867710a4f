"""Watching the receiver's log: a node that visits a receiver has it prove that its log only grew.

What was seen last is kept in the store, and what others brought of the log waits in `relay.trust.heads`: all of it has
to be the beginning of the newest tree, so that a log cannot show one tree to some boats and another to others. A
carrier cosigns what it saw grow and carries it on: the boats are the log's witnesses. A receiver that cannot prove it
gets no cosignature, and there is an alarm, with both signed heads as evidence. One that refuses to prove it, or puts it
off, is told of in this node's log. The times in cosignatures are this device's claims (promise 9).
"""

from __future__ import annotations

import base64
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from relay.errors import Malformed, NotYet, Refused, StoreError, Unreachable
from relay.limits import MAX_HEADS, PROOFS_PER_VISIT
from relay.log.checkpoint import Checkpoint, cosign
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
    """This node as a watcher of logs (a `relay.sync.delivery.Watch`). `clock` is seconds since 1970."""

    def __init__(self, member: Member, clock: Callable[[], float]) -> None:
        self._member = member
        self._clock = clock
        self._owed: Counter[tuple[str, int]] = Counter()
        """At how many visits the proof of a head (of which log, of which size) was asked for and did not come."""

    async def __call__(self, custody: Custody, peer: Peer, hello: Hello) -> None:
        """Have the receiver that is visited prove what it signed, and cosign what it proved."""
        origin = f"{hello.election}/{hello.name}"
        signed = custody.admission.checkpoints.get(origin)
        shown = Head(signed.checkpoint, Kind.CHECKPOINT, signed.raw) if signed is not None else None
        newest = _newest(custody, origin, shown)
        if hello.role is not Role.RECEIVER or newest is None:
            return
        key = f"seen {origin}"
        seen = _read((await custody.store.notes()).get(key, ""))
        heads = custody.heads.waiting(newest.tree, PROOFS_PER_VISIT)
        for kept in (shown, seen):
            if kept is not None and kept.tree.size != newest.tree.size and all(one.tree != kept.tree for one in heads):
                heads.insert(0, kept)
        for head in heads:
            if not await self._is_proved(custody, peer, head, newest):
                return
            custody.heads.settle(head)
        if signed is None or shown is None or (seen is not None and seen.tree == shown.tree):
            return
        if seen is not None and seen.tree.size == shown.tree.size:
            await _tell(custody, seen, shown, f"it signed two different logs of {seen.tree.size} entries")
            return
        await custody.store.set_note(key, _write(shown))
        restored = (await custody.store.notes()).get(RESTORED)  # it may have cosigned what it does not know of
        if self._member.identity.role is Role.CARRIER and shown.tree.size and not restored:
            await self._cosign(custody, peer, signed)

    async def _is_proved(self, custody: Custody, peer: Peer, head: Head, newest: Head) -> bool:
        """Whether the receiver proves that, of two trees that it signed, one begins with the other; an alarm if not."""
        old, new = sorted((head.tree, newest.tree), key=lambda tree: tree.size)
        origin = newest.tree.origin
        try:
            path = await peer.consistency(old.size, new.size)
        except Refused as error:
            # No proof, and nothing that anybody could be shown against it. Whom the office revoked, it has to refuse.
            if not await self._is_revoked(custody, error.evidence):
                logger.warning("%s refuses to prove that its log only grew: tell the election office", origin)
            return False
        except Unreachable as error:
            self._tell_owed(origin, head)
            if isinstance(error, NotYet):
                return False  # it has to publish first what it signed: the head waits, and no visit is lost over it
            raise
        except Malformed as error:
            await _tell(custody, head, newest, error.what)
            return False
        try:
            verify_consistency(old.size, old.root, new.size, new.root, path)
        except (Refused, Malformed) as error:
            await _tell(custody, head, newest, error.what)
            return False
        del self._owed[origin, head.tree.size]
        return True

    def _tell_owed(self, origin: str, head: Head) -> None:
        """A proof did not come. Once, that happens to a log under load; who puts it off for ever refuses it."""
        if len(self._owed) > MAX_HEADS:
            self._owed.clear()
        self._owed[origin, head.tree.size] += 1
        visits = self._owed[origin, head.tree.size]
        if visits > 1:
            logger.warning(
                "%s did not prove at %d visits that its log only grew: tell the election office if it stays so",
                origin,
                visits,
            )

    async def _is_revoked(self, custody: Custody, evidence: bytes) -> bool:
        """Whether the office revoked this node, by what it knows or by the notice that a refusal came with. That a
        receiver says so is not enough: it may have a log to hide."""
        if evidence:
            with suppress(StoreError):  # it is in force all the same
                await custody.take([(Kind.NOTICE, evidence)])
        return self._member.identity.node in custody.admission.revoked

    async def _cosign(self, custody: Custody, peer: Peer, signed: SignedCheckpoint) -> None:
        identity = self._member.identity
        key = witness_key(identity.election, identity.name, public_bytes(identity.key))
        raw = cosign(signed.note, key, self._member.key, max(0, int(self._clock()))).to_bytes()
        await custody.take([(Kind.CHECKPOINT, raw)])
        await peer.put_records([(Kind.CHECKPOINT, raw)])


def _newest(custody: Custody, origin: str, shown: Head | None) -> Head | None:
    """The largest tree that a receiver signed, as far as this node heard: of its checkpoint, or of a receipt, where it
    shows this node no checkpoint or an old one."""
    heard = custody.heads.waiting(shown.tree if shown is not None else Checkpoint(origin, 0, b""), MAX_HEADS)
    return max((*([shown] if shown is not None else []), *heard), key=lambda head: head.tree.size, default=None)


async def _tell(custody: Custody, head: Head, newest: Head, why: str) -> None:
    what = f"The log {newest.tree.origin} is not what it was: {why}"
    await raise_alarm(custody.store, newest.tree.origin, what, [(head.kind, head.raw), (newest.kind, newest.raw)])


def _write(head: Head) -> str:
    return base64.b64encode(head.raw).decode()


def _read(text: str) -> Head | None:
    return head_of_checkpoint(base64.b64decode(text)) if text else None
