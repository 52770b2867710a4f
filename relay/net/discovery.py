"""Discovery by mDNS and DNS-SD (RFC 6762, RFC 6763): who else of this election is on the link.

One zeroconf instance per interface, made when the link has a usable address: one made before sees nobody. Names are
unique by construction (they are hashes of keys), so the second that probing for them would cost is not spent. What is
heard becomes hints in `relay.net.sightings`; which interfaces there are is `relay.net.interfaces`'.

An instance is made anew when its interface gets other addresses. That goes without a goodbye: the node stays where it
is, and a neighbour that took it for gone would end a visit. Only the end of the daemon is announced.

RFC 6762 §8.3 has a node announce itself when its link changes, and be quiet afterwards. Over a mesh, ad hoc, or behind
a radio bridge two nodes come into reach and no link changes: they would never meet. So each announces itself for ever,
every two seconds or so: some 300 bytes. For the same reason a node that hears another one for the first time, or after
a silence, says at once that it is here, and who begins on a link asks at once: §5.2 and §6 have both wait for up to
120 ms at random, for links with many more nodes that begin together than an island has.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

from zeroconf import (  # type: ignore[attr-defined]  # the records can be imported, yet are not in its __all__
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSService,
    DNSText,
    Error,
    RecordUpdate,
    RecordUpdateListener,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf
from zeroconf.const import _CLASS_IN, _FLAGS_QR_QUERY, _TYPE_PTR

from relay.limits import (
    ANNOUNCE_SECONDS,
    GREETING_SECONDS,
    MAX_RESOLVING,
    MAX_SIGHTING_TEXT,
    MAX_SIGHTINGS,
    RESOLVE_SECONDS,
)
from relay.net.interfaces import Interface
from relay.net.sightings import SERVICE, Sighting, Sightings, claims, instance_of, read_sighting, service_name

__all__ = ["Discovery", "Sighting"]

logger = logging.getLogger(__name__)


class Discovery:
    """Announces this node (id in hex) and finds others on every interface handed to `update`.

    `election_tag` tells elections apart without naming them. `found` hears of every sign of life of a node, at most
    about one a second unless it says something new; `lost` when a node was last seen on a link that went, or left.
    """

    def __init__(
        self,
        node: str,
        election_tag: str,
        port: int,
        found: Callable[[Sighting], None],
        lost: Callable[[str], None],
    ) -> None:
        self._node = node
        self._tag = election_tag
        self._port = port
        self._sightings = Sightings(found, lost)
        self._links: dict[Interface, _Link] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def update(self, interfaces: list[Interface]) -> None:
        """Begin on interfaces that came, end on those that went; begin anew where addresses changed."""
        gone = [self._links.pop(one) for one in list(self._links) if one not in interfaces]
        fresh = [one for one in interfaces if one not in self._links]
        await asyncio.gather(*(self._begin(one, interfaces) for one in fresh))
        for link in gone:  # a new link does not wait for the end of an old one
            task = asyncio.create_task(link.close(goodbye=False))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._sightings.keep({one.name for one in interfaces})

    async def close(self) -> None:
        """Say goodbye and end on all interfaces. Nobody is reported lost for it."""
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.close(goodbye=True) for link in links), *self._closing)

    async def _begin(self, interface: Interface, all_interfaces: Collection[Interface]) -> None:
        link = _Link(interface, self._node, self._tag, self._sightings)
        self._links[interface] = link  # before it starts: whoever is cancelled meanwhile finds it and closes it
        try:
            await link.start(self._port, _choice(interface, all_interfaces))
        except (OSError, RuntimeError, Error) as error:
            logger.warning("no discovery on %s: %s; known addresses are tried all the same", interface.name, error)
            del self._links[interface]
            await link.close(goodbye=False)


class _Link(RecordUpdateListener):
    """Discovery on one interface: announces, asks, and hears.

    It listens to every record, not only to what `AsyncServiceBrowser` calls new: a boat that comes back within the
    hour and a quarter for which its announcement was good says nothing new, and is news all the same.
    """

    def __init__(self, interface: Interface, node: str, tag: str, sightings: Sightings) -> None:
        self._interface = interface
        self._node = node
        self._tag = tag
        self._sightings = sightings
        self._heard: set[str] = set()
        self._last_heard: dict[str, float] = {}
        self._announced = float("-inf")
        self._resolving: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mdns: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._listens = False
        self._closed = False

    async def start(self, port: int, choice: list[str | int]) -> None:
        """Announce this node, and ask who is there. Raises `OSError` and others while the interface is not usable."""
        self._mdns = AsyncZeroconf(interfaces=choice)
        zeroconf = self._mdns.zeroconf
        zeroconf.async_add_listener(self, None)  # before anything is awaited: what comes first is told but once
        self._listens = True
        await zeroconf.async_wait_for_start()
        if not zeroconf.engine.senders:
            raise OSError(errno.EADDRNOTAVAIL, "its addresses cannot be used yet")
        _keep_to(zeroconf, self._interface)
        self._info = AsyncServiceInfo(
            SERVICE,
            service_name(self._node),
            port=port,
            properties=claims(self._node, self._tag),
            server=f"{self._node[:16]}.local.",
            parsed_addresses=[address.partition("%")[0] for address in self._interface.addresses],
        )
        announced = await self._mdns.async_register_service(self._info, cooperating_responders=True)
        self._spawn(_finish(announced))
        self._spawn(self._announce_again())
        question = DNSOutgoing(_FLAGS_QR_QUERY)
        question.add_question(DNSQuestion(SERVICE, _TYPE_PTR, _CLASS_IN))
        zeroconf.async_send(question)
        self._browser = AsyncServiceBrowser(zeroconf, SERVICE, handlers=[_ignore])  # it only asks; this object hears

    async def close(self, *, goodbye: bool) -> None:
        """Stop. Without a goodbye neighbours keep what they know, for this link is gone or is begun anew."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._mdns is None:
            return
        zeroconf = self._mdns.zeroconf
        if self._listens:
            zeroconf.async_remove_listener(self)
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._info is not None and not goodbye:
            zeroconf.registry.async_remove(self._info)
        with suppress(OSError, Error):
            await self._mdns.async_close()

    def async_update_records(self, _zeroconf: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """zeroconf received a packet, or records ran out."""
        for record in (update.new for update in records):
            if isinstance(record, DNSPointer) and record.name.lower() == SERVICE:
                name = record.alias
            elif isinstance(record, DNSService | DNSText):
                name = record.name
            else:
                continue
            instance = instance_of(name)
            if instance is None or instance == self._node[:16] or self._closed:
                continue
            if not record.is_expired(now):
                if len(self._heard) < MAX_SIGHTINGS:
                    self._heard.add(instance)
            elif isinstance(record, DNSPointer):
                self._sightings.gone(self._interface.name, instance)

    def async_update_records_complete(self) -> None:
        """The packet's records can be looked up now."""
        heard, self._heard = self._heard, set()
        if self._mdns is None or self._closed:
            return
        self._greet(heard)
        for instance in heard:
            info = AsyncServiceInfo(SERVICE, service_name(instance))
            if info.load_from_cache(self._mdns.zeroconf):
                self._take(instance, info)
            elif instance not in self._resolving and len(self._resolving) < MAX_RESOLVING:
                self._resolving.add(instance)
                self._spawn(self._resolve(instance, info))

    def _greet(self, heard: set[str]) -> None:
        """Say at once that this node is here when somebody comes into reach; floods of names make it say so no more
        often than twice a second."""
        now = asyncio.get_running_loop().time()
        silent = now - 2 * ANNOUNCE_SECONDS
        fresh = any(self._last_heard.get(one, silent) <= silent for one in heard)
        if len(self._last_heard) + len(heard) > MAX_SIGHTINGS:
            self._last_heard.clear()
        self._last_heard.update(dict.fromkeys(heard, now))
        if fresh and now - self._announced >= GREETING_SECONDS:
            self._announce()

    def _announce(self) -> None:
        if self._mdns is not None and self._info is not None:
            zeroconf = self._mdns.zeroconf
            self._announced = asyncio.get_running_loop().time()
            zeroconf.async_send(zeroconf.generate_service_broadcast(self._info, None))

    async def _announce_again(self) -> None:
        """Tell whoever came into reach that this node is here, for ever; nodes that began together do not stay so."""
        while True:
            await asyncio.sleep(ANNOUNCE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
            self._announce()

    async def _resolve(self, instance: str, info: AsyncServiceInfo) -> None:
        """Ask for what an announcement left out; relay's own leave out nothing."""
        assert self._mdns is not None
        try:
            if await info.async_request(self._mdns.zeroconf, RESOLVE_SECONDS * 1000):
                self._take(instance, info)
        finally:
            self._resolving.discard(instance)

    def _take(self, instance: str, info: AsyncServiceInfo) -> None:
        if len(info.text) > MAX_SIGHTING_TEXT:
            return
        sighting = read_sighting(
            instance, info.properties, info.parsed_scoped_addresses(), info.port, self._tag, self._interface
        )
        if sighting is not None:
            self._sightings.seen(sighting, asyncio.get_running_loop().time())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _choice(interface: Interface, interfaces: Collection[Interface]) -> list[str | int]:
    """What zeroconf is to bind: an IPv6 and an IPv4 address. Memberships are per interface: one of each is enough.

    It takes an IPv6 address without its zone, or an interface's index, for which it takes the interface's first
    address, usable yet or not. So the index serves only where two interfaces (VLANs) share their link-local address.
    """
    six = [address.partition("%")[0] for address in interface.addresses if ":" in address]
    four = [address for address in interface.addresses if ":" not in address]
    elsewhere = {text.partition("%")[0] for other in interfaces if other is not interface for text in other.addresses}
    choice: list[str | int] = [*four[:1]]
    if six:
        choice.append(interface.index if six[0] in elsewhere else six[0])
    return choice


def _keep_to(zeroconf: Zeroconf, interface: Interface) -> None:
    """Hear this interface alone.

    zeroconf listens on the wildcard address, and Linux hands such a socket what comes for a group on any interface
    (ip(7), IP_MULTICAST_ALL). It would answer there, with link-local addresses that mean another host on that link.
    """
    option = getattr(socket, "SO_BINDTODEVICE", None)
    if option is None:
        return
    for reader in zeroconf.engine.readers:
        with suppress(OSError):  # before Linux 5.7 it takes privilege
            reader.sock.setsockopt(socket.SOL_SOCKET, option, interface.name.encode() + b"\0")


async def _finish(announced: Any) -> None:
    """Send the rest of the announcements; an interface that goes meanwhile is no error."""
    with suppress(OSError, Error):
        await announced


def _ignore(**_change: object) -> None:
    """What `AsyncServiceBrowser` calls; everything is heard by `_Link` itself."""
