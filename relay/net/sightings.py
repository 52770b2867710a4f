"""Sightings: what an announcement on the link claims, and who is in sight at the moment.

Pure: bytes and times in, sightings out; the packets are `relay.net.discovery`'s. Whoever is on the Wi-Fi can announce
anything, so a sighting is a hint where to try, never more: who answers there, TLS finds out (promise 1). What is kept
is bounded, and whoever gave no sign of life for longest makes room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from relay.limits import MAX_ADDRESSES, MAX_SIGHTINGS, SIGHTING_SECONDS
from relay.net.interfaces import Interface

SERVICE = "_relay._tcp.local."
VERSION = "1"
INSTANCE_DIGITS = 16

_NAME = re.compile(rf"([0-9a-f]{{{INSTANCE_DIGITS}}})\.{re.escape(SERVICE)}")
_NODE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node that announces itself: its claimed node id (hex), addresses (link-local with zone), port, interface."""

    node: str
    addresses: tuple[str, ...]
    port: int
    interface: str


def service_name(node: str) -> str:
    """The name under which a node (id in hex) announces itself: unique by construction, since ids are hashes."""
    return f"{node[:INSTANCE_DIGITS]}.{SERVICE}"


def instance_of(name: str) -> str | None:
    """The instance part of a service name, in lower case; None if it is no name a node gives itself."""
    match = _NAME.fullmatch(name.lower()) if len(name) <= INSTANCE_DIGITS + 1 + len(SERVICE) else None
    return match[1] if match else None


def claims(node: str, election: str) -> dict[str, str | bytes | None]:
    """The TXT record of a node: version of the announcement, node id, election tag."""
    return {"v": VERSION, "id": node, "e": election}


def read_sighting(
    instance: str,
    properties: Mapping[bytes, bytes | None],
    addresses: Iterable[str],
    port: int | None,
    election: str,
    interface: Interface,
) -> Sighting | None:
    """What an announcement heard on `interface` claims; None if it is malformed, or of another election."""
    node = _text(properties.get(b"id"))
    if _text(properties.get(b"v")) != VERSION or _text(properties.get(b"e")) != election:
        return None
    if not _NODE.fullmatch(node) or not node.startswith(instance) or not port or not 0 < port < 65_536:
        return None
    usable = {text for text in (_usable(address, interface) for address in addresses) if text}
    if not usable:
        return None
    return Sighting(node, tuple(sorted(usable, key=_order)[:MAX_ADDRESSES]), port, interface.name)


class Sightings:
    """The nodes in sight, on all interfaces. `found` hears of each sign of life, `lost` when the last link loses one.

    Signs of life that say nothing new are told at most every `SIGHTING_SECONDS`.
    """

    def __init__(self, found: Callable[[Sighting], None], lost: Callable[[str], None]) -> None:
        self._found = found
        self._lost = lost
        self._known: dict[tuple[str, str], tuple[Sighting, float]] = {}  # the longest silent first

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, sighting: Sighting, now: float) -> None:
        """A node announced itself. `now` is in monotonic seconds."""
        key = (sighting.interface, sighting.node)
        before = self._known.pop(key, None)
        if before is None and len(self._known) >= MAX_SIGHTINGS:
            self._drop(next(iter(self._known)))
        if before is not None and before[0] == sighting and now - before[1] < SIGHTING_SECONDS:
            self._known[key] = before
            return
        self._known[key] = (sighting, now)
        self._found(sighting)

    def gone(self, interface: str, instance: str) -> None:
        """The node that announced itself as `instance` said goodbye, or its announcement ran out."""
        for key in [key for key in self._known if key[0] == interface and key[1].startswith(instance)]:
            self._drop(key)

    def keep(self, interfaces: Collection[str]) -> None:
        """Only these interfaces are up: who was seen on others is out of sight there."""
        for key in [key for key in self._known if key[0] not in interfaces]:
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        del self._known[key]
        node = key[1]
        if not any(other == node for _, other in self._known):
            self._lost(node)


def _usable(address: str, interface: Interface) -> str | None:
    """The address as this node can try it; None for what leads nowhere, or back to this node."""
    plain, _, zone = address.partition("%")
    try:
        parsed = ip_address(plain)
    except ValueError:
        return None
    if zone not in ("", interface.name, str(interface.index)):
        return None  # it was heard on another link, where that link's own ears heard it too
    if isinstance(parsed, IPv6Address) and (parsed.ipv4_mapped or parsed.sixtofour or parsed.teredo):
        return None
    if parsed.is_global:
        return None  # a stranger's hint must not make this node knock at doors on the internet
    if parsed.is_multicast or parsed.is_unspecified or str(parsed) == "255.255.255.255":
        return None
    if parsed.is_loopback and not any(ip_address(own.partition("%")[0]).is_loopback for own in interface.addresses):
        return None
    if isinstance(parsed, IPv6Address) and parsed.is_link_local:
        return f"{parsed}%{interface.name}"  # heard on this link, so it is on this link
    return str(parsed)


def _order(address: str) -> tuple[bool, bool, str]:
    """Link-local IPv6 first, since it needs nobody's help; then other IPv6; then IPv4."""
    return "%" not in address, ":" not in address, address


def _text(value: bytes | None) -> str:
    return value.decode("ascii", "replace") if value is not None and len(value) <= 128 else ""
