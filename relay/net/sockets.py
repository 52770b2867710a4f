"""Sockets: parsing endpoints, listening, and tuning TCP for short contacts over poor links.

A dead link is given up after three seconds, not after TCP's minutes; small messages go at once; what is sent waits in
our own order and not in the kernel's buffers; where the kernel lets us, BBR keeps a lossy radio link full. Options set
on a listening socket are inherited by what it accepts (Linux).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relay.errors import BadInput, Unreachable
from relay.limits import BACKLOG, DEAD_LINK_SECONDS, UNSENT

_ENDPOINT = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,15})?)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}))"
    r":(?P<port>[0-9]{1,5})"
)


_LINGER = struct.Struct("ii")
"""`struct linger`: whether a close has its own way, and for how many seconds it waits."""
_ACKNOWLEDGED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in Linux's `struct tcp_info`, since 4.1."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address, IPv6 with zone where it is link-local) and a port."""

    host: str
    port: int


def parse_endpoint(text: str) -> Endpoint:
    """Parse `host:port` or `[v6%zone]:port`. Raises `BadInput`."""
    match = _ENDPOINT.fullmatch(text)
    if match is None or int(match["port"]) > 65_535 or not (match["six"] is None or _is_ipv6(match["six"])):
        raise BadInput(f"{text[:80]!r} is no address", 'Write it as "host:port" or "[fe80::1%wlan0]:8470".')
    return Endpoint(match["six"] or match["host"], int(match["port"]))


def listen(endpoint: str, key: str = "") -> socket.socket:
    """A listening socket, of both address families where it is `[::]`. Raises `BadInput` or `Unreachable`, naming the
    `key` of config.toml that asked for it."""
    where = parse_endpoint(endpoint)
    named = f"{key} = {endpoint}" if key else endpoint
    if where.host == "::" and not _kernel_has_ipv6():
        where = Endpoint("0.0.0.0", where.port)  # noqa: S104 - all addresses, as was asked for
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadInput(f"{named} cannot be resolved ({error.strerror})", "Use an address of this machine.") from error
    family, kind, protocol, _, address = found[0]
    try:
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(named, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where.host != "::"))
        tune(listening)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise _unusable(named, error) from error
    return listening


def client_socket(address: Any) -> socket.socket:
    """A tuned socket for a connection to come; for `aiohttp.TCPConnector(socket_factory=...)`."""
    family, kind, protocol, _, _ = address
    connecting = socket.socket(family, kind, protocol)
    connecting.setblocking(False)
    tune(connecting)
    return connecting


def takes_back(transport: asyncio.BaseTransport | None, does: bool) -> None:
    """Say whether a connection that is closed takes with it what the kernel has not sent, with a reset: where a link
    that was lost comes back, that would come beside the next visit's, which sends it again. Else it ends in order."""
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(does, 0))


def abort(transport: asyncio.Transport) -> None:
    """End a connection at once. One that was closed twice already knows nothing of itself in Python before 3.11.4."""
    with suppress(AttributeError):
        transport.abort()


def tune(sock: socket.socket) -> None:
    """Set what a short contact needs; what a system does not know is left as it is."""
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(DEAD_LINK_SECONDS * 1000)),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", int(DEAD_LINK_SECONDS)),
    ]
    for level, name, value in options:
        if hasattr(socket, name):
            with suppress(OSError):
                sock.setsockopt(level, getattr(socket, name), value)
    if hasattr(socket, "TCP_CONGESTION"):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")


def bytes_taken(connection: socket.socket) -> int:
    """How many bytes the other side has taken on a connection, as the kernel knows; 0 where it does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0
    with suppress(OSError):
        facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        if len(facts) == _ACKNOWLEDGED.size:
            return int(_ACKNOWLEDGED.unpack(facts)[0])
    return 0


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _kernel_has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _unusable(named: str, error: OSError) -> Unreachable:
    advice = {
        errno.EADDRINUSE: "Another program listens there: stop it, or set another port in config.toml.",
        errno.EACCES: "This user may not use that port: choose one above 1023 in config.toml.",
        errno.EADDRNOTAVAIL: "The address is not one of this machine's: correct it in config.toml.",
    }.get(error.errno or 0, "Correct the address in config.toml.")
    taken = error.errno == errno.EADDRINUSE
    what = f"{named} is taken" if taken else f"{named} cannot be used ({error.strerror})"
    return Unreachable(what, advice)
