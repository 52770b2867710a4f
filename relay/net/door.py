"""The door: who may keep a connection to this node open, and how many may.

Accepts on one listening socket and bounds what strangers and members can hold: handshakes under way, connections of
one node, connections altogether, how long one lies idle, and how slowly an answer is read. Who is turned away comes
again; whoever is in the middle of a call is left alone. What is said on a connection is the protocol's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import ssl
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from socket import SHUT_RDWR, socket

from relay.limits import (
    HANDSHAKE_SECONDS,
    IDLE_CONNECTION_SECONDS,
    KIB,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_NODE,
    MAX_HANDSHAKES,
    SLOWEST,
)
from relay.net.sockets import abort, bytes_taken

logger = logging.getLogger(__name__)

_FILES_KEPT = 128
"""Open files that are left for everything else."""
_SWEEP_SECONDS = 1.0
_GOOD_PART = int(IDLE_CONNECTION_SECONDS * SLOWEST)
"""Bytes: who takes fewer while others may lie idle is too slow."""
KnownBy = Callable[[str], bytes]
_BARRED = b"revoked"
"""All revoked nodes are one guest, who has no more connections than another."""


@dataclass(slots=True, eq=False)
class _Guest:
    """A connection that is open. `who` is the node's id, or an address; empty where nobody has to say."""

    socket: socket
    transport: asyncio.Transport
    who: bytes
    since: float
    """When it was last at work, or had taken a good part of an answer."""
    taken: int = 0
    """Bytes that the other side had taken then."""

    @property
    def gone(self) -> bool:
        return self.socket.fileno() == -1


class Door:
    """Lets connections in to `protocol`, over TLS where there is a `context`: at most so many, and so many handshakes
    at a time."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None = None,
        most: int = MAX_CONNECTIONS,
        handshakes: int = MAX_HANDSHAKES,
        *,
        known_by: KnownBy | None = None,
        most_each: int = MAX_CONNECTIONS_PER_NODE,
    ) -> None:
        """`known_by`: by what of an address who has no certificate is known; each may have `most_each` connections."""
        self._protocol = protocol
        self._context = context
        self._most = max(16, min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _FILES_KEPT))
        self._most_entering = handshakes
        self._known_by = known_by
        self._most_each = most_each
        self._entering: set[asyncio.Task[None]] = set()
        self._guests: dict[int, _Guest] = {}
        self._working: Counter[int] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: socket | None = None

    def open(self, listening: socket) -> None:
        """Accept from now on, on a socket that listens already."""
        # The standard library keeps 256 KiB for each TLS connection, ready to be read into; 64 are as fast.
        SSLProtocol.max_size = 64 * KIB
        self._listening = listening
        self._tasks = [asyncio.create_task(self._accept(listening)), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """Accept nobody any more; who is in stays for the protocol to say goodbye to."""
        tasks = [*self._tasks, *self._entering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    @contextmanager
    def call(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """Within it, the connection is at work."""
        key = id(transport)  # its first call may begin before it is a guest
        self._working[key] += 1
        try:
            yield
        finally:
            self._working[key] -= 1
            if not self._working[key]:
                del self._working[key]
            if key in self._guests:
                self._guests[key].since = asyncio.get_running_loop().time()

    async def _accept(self, listening: socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("nobody can be let in: %s", error.strerror)
                await asyncio.sleep(_SWEEP_SECONDS)
                continue
            if len(self._entering) >= self._most_entering:
                # Any of them, so that a crowd of strangers cannot reckon who is turned away.
                random.choice(tuple(self._entering)).cancel()  # noqa: S311
            source = self._known_by(str(address[0])) if self._known_by else b""
            task = asyncio.create_task(self._enter(connection, source))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)
            await asyncio.sleep(0)  # accepting does not wait while somebody stands there: let others work, too

    async def _enter(self, connection: socket, source: bytes) -> None:
        loop = asyncio.get_running_loop()
        patience = HANDSHAKE_SECONDS if self._context is not None else None
        try:
            connection.setblocking(False)
            transport, _ = await loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=patience
            )
        except (OSError, ssl.SSLError) as error:  # strangers, and boats that sail
            logger.debug("a handshake failed: %s", error)
            return
        secured = transport.get_extra_info("ssl_object")
        identity = getattr(secured, "identity", None)
        who = _BARRED if getattr(secured, "barred", False) else getattr(identity, "node", source)
        guest = _Guest(connection, transport, who, loop.time())
        if self._has_room_for(guest):
            self._guests[id(transport)] = guest
        else:
            transport.abort()

    def _has_room_for(self, guest: _Guest) -> bool:
        """Whether there is a place, perhaps that of the connection that lay idle for longest."""
        self._forget_gone()
        same = [one for one in self._guests.values() if guest.who and one.who == guest.who]
        if len(same) >= self._most_each:
            return self._dismiss_one(same)
        return len(self._guests) < self._most or self._dismiss_one(list(self._guests.values()))

    def _dismiss_one(self, guests: list[_Guest]) -> bool:
        idle = [one for one in guests if id(one.transport) not in self._working]
        if idle:
            self._dismiss(min(idle, key=lambda one: one.since))
        return bool(idle)

    def _dismiss(self, guest: _Guest) -> None:
        """End a connection. The kernel may be sending a file on it (`loop.sendfile`), which hears of a socket that is
        shut down and not of one that is closed: it would wait for ever for a number that is another socket's then."""
        with suppress(OSError):
            guest.socket.shutdown(SHUT_RDWR)
        asyncio.get_running_loop().call_later(_SWEEP_SECONDS, abort, guest.transport)
        self._guests.pop(id(guest.transport), None)

    def _forget_gone(self) -> None:
        for key in [key for key, one in self._guests.items() if one.gone]:
            del self._guests[key]

    async def _sweep(self) -> None:
        """Dismiss who says nothing for too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.look_around(loop.time())

    def look_around(self, now: float) -> None:
        """Dismiss who said nothing, and took nothing of an answer, for too long; at this time of the event loop."""
        self._forget_gone()
        for key, guest in list(self._guests.items()):
            if key in self._working:
                continue
            taken = bytes_taken(guest.socket)
            if taken - guest.taken >= _GOOD_PART:
                guest.taken, guest.since = taken, now
            if guest.since < now - IDLE_CONNECTION_SECONDS:
                self._dismiss(guest)


def any_address(address: str) -> bytes:
    """By what who comes is known where everybody comes by himself: the whole address."""
    return address.encode()


def public_address(address: str) -> bytes:
    """By what the public is known: a public address, of IPv6 the network. Nobody is, who comes from this machine or a
    private network: a web server stands there, for everybody behind it."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    if found.is_private or found.is_link_local:
        return b""
    return found.packed[:8] if isinstance(found, IPv6Address) else found.packed
