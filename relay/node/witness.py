"""Watching the receiver's log: a node that visits a receiver has it prove that its log only grew.

What was seen last is kept in the store. A carrier cosigns what it saw grow and carries it on: the boats are the log's
witnesses. A receiver that cannot prove it is reported, and its checkpoint is not cosigned; the old one stays as
evidence. The times in cosignatures are this device's claims (promise 9).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from relay.errors import Malformed, Refused
from relay.log.checkpoint import Checkpoint, cosign
from relay.log.merkle import verify_consistency
from relay.node.home import Member
from relay.records.identifiers import Kind
from relay.sync.custody import Custody
from relay.sync.messages import Hello
from relay.sync.peer import Peer
from relay.trust.roles import Role
from relay.trust.witness import SignedCheckpoint, public_bytes, witness_key

logger = logging.getLogger(__name__)


class Witness:
    """This node as a watcher of logs (a `relay.sync.visit.Watch`). `clock` is seconds since 1970."""

    def __init__(self, member: Member, clock: Callable[[], float]) -> None:
        self._member = member
        self._clock = clock

    async def __call__(self, custody: Custody, peer: Peer, hello: Hello) -> None:
        """Check the log of the receiver that is visited, and cosign what it proved."""
        signed = custody.admission.checkpoints.get(f"{hello.election}/{hello.name}")
        if hello.role is not Role.RECEIVER or signed is None:
            return
        key = f"seen {signed.checkpoint.origin}"
        seen = _read((await custody.store.notes()).get(key, ""), signed.checkpoint.origin)
        if seen == signed.checkpoint:
            return
        try:
            await _check_growth(seen, signed, peer)
        except (Refused, Malformed) as error:
            logger.critical("the log %s is not what it was: %s", signed.checkpoint.origin, error.what)
            await custody.store.set_note("alarm", f"{signed.checkpoint.origin}: {error.what}")
            return
        await custody.store.set_note(key, _write(signed.checkpoint))
        if self._member.identity.role is Role.CARRIER and signed.checkpoint.size:
            await self._cosign(custody, peer, signed)

    async def _cosign(self, custody: Custody, peer: Peer, signed: SignedCheckpoint) -> None:
        identity = self._member.identity
        key = witness_key(identity.election, identity.name, public_bytes(identity.key))
        raw = cosign(signed.note, key, self._member.key, max(0, int(self._clock()))).to_bytes()
        await custody.take([(Kind.CHECKPOINT, raw)])
        await peer.put_records([(Kind.CHECKPOINT, raw)])


async def _check_growth(seen: Checkpoint | None, signed: SignedCheckpoint, peer: Peer) -> None:
    if seen is None:
        return  # the first checkpoint that this node ever saw of the log
    new = signed.checkpoint
    path = await peer.consistency(seen.size, new.size)
    verify_consistency(seen.size, seen.root, new.size, new.root, path)


def _write(checkpoint: Checkpoint) -> str:
    return json.dumps({"size": checkpoint.size, "root": checkpoint.root.hex()})


def _read(text: str, origin: str) -> Checkpoint | None:
    if not text:
        return None
    document = json.loads(text)
    return Checkpoint(origin, int(document["size"]), bytes.fromhex(document["root"]))
