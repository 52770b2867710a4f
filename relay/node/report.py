"""What a node says of itself and its bundles: one description for `relay status`, `relay list` and the pages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from relay.limits import CONTACT_SECONDS
from relay.node.health import bytes_free
from relay.node.home import Home, Member
from relay.node.overquota import is_over_quota
from relay.node.restoring import RESTORED
from relay.node.unreadable import count_unreadable
from relay.node.uplink import read_uplink
from relay.store.interface import Bundle, PeerNote
from relay.sync.alarm import read_alarms
from relay.sync.custody import Custody


async def describe_node(home: Home, member: Member, custody: Custody) -> dict[str, Any]:
    """The node, its neighbours, its uplink, its counts: what `relay status --json` prints."""
    counts = await custody.store.counts()
    notes = await custody.store.notes()
    alarms = read_alarms(notes)
    peers = await custody.store.peers()
    running = home.daemon_runs()
    near = in_contact(peers, int(time.time()))
    return {
        "node": member.identity.name,
        "node_id": member.identity.node.hex(),
        "role": str(member.identity.role),
        "election": member.identity.election,
        "home": str(home.path),
        "running": running,
        "peers": [
            {
                "node": peer.name,
                "node_id": peer.node.hex(),
                "role": peer.role,
                "address": peer.address,
                "last_seen": peer.last_seen,
                "connected": running and peer in near,
                "bytes_in": peer.bytes_in,
                "bytes_out": peer.bytes_out,
            }
            for peer in peers
        ],
        "alarm": alarms[-1]["what"] if alarms else None,
        "alarms": alarms,
        "uplink": asdict(uplink) if (uplink := read_uplink(notes)) is not None else None,
        "counts": {"partial": counts.partial, "waiting": counts.waiting, "delivered": counts.delivered},
        "bytes_held": counts.bytes_held,
        "bytes_free": bytes_free(home.path),
        "revocation": own_revocation(member, custody),
        "over_quota": is_over_quota(notes),
        "unreadable": count_unreadable(custody.store, notes),
        "restored": bool(notes.get(RESTORED)),
        "revoked": sorted(one.name for one in custody.admission.revoked.values()),
    }


def in_contact(peers: Iterable[PeerNote], now: int) -> list[PeerNote]:
    """The neighbours that are within reach. Who was seen later than now was seen before the clock was set back, and
    would pass for near until the clock is there again: whoever is near indeed is noted anew before long."""
    return [one for one in peers if one.connected and 0 <= now - one.last_seen < CONTACT_SECONDS]


def all_delivered(counts: Mapping[str, int]) -> bool:
    """Whether a node held packages, and every one has its receipt. `counts` as `describe_node` tells them."""
    return counts["delivered"] > 0 and counts["waiting"] == counts["partial"] == 0


def own_revocation(member: Member, custody: Custody) -> str | None:
    """Why the office revoked this very node; None where it did not, as far as this node knows."""
    revocation = custody.admission.revoked.get(member.identity.node)
    return revocation.reason if revocation is not None else None


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """A bundle as `relay list --json` shows it."""
    return {
        "id": bundle.id.hex(),
        "tps": bundle.tps,
        "form": bundle.form,
        "device": bundle.device,
        "seq": bundle.seq,
        "state": str(bundle.state),
        "bytes": bundle.size,
        "bytes_held": bundle.held,
        "entry": bundle.entry,
        "supersedes": bundle.supersedes.hex() if bundle.supersedes else None,
        "flags": list(bundle.flags),
        "captured_at": bundle.captured_at,
        "objects": [
            {"name": entry.name, "media_type": entry.media_type, "sha256": entry.sha256.hex(), "size": entry.size}
            for entry in bundle.files
        ],
    }
