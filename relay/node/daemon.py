"""The daemon: opens the folder, starts everything, stops everything in the opposite order.

What runs: the listening side of visits, contacts with neighbours and receivers, discovery on every interface, a look
at what commands changed in the store, and freeing what was delivered. A receiver's own work and the pages are handed
in as extensions, since they live above this room.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from relay.clock import steady
from relay.errors import MYSELF, Refused, RelayError, StoreError
from relay.limits import (
    MAX_BODIES,
    MAX_BODIES_AT_RECEIVER,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_AT_RECEIVER,
    MAX_HANDSHAKES,
    MAX_HANDSHAKES_AT_RECEIVER,
    MAX_REMEMBERED,
    REFRESH_SECONDS,
    RETENTION_SECONDS,
)
from relay.net.discovery import Discovery, Sighting
from relay.net.interfaces import Interface, watch_interfaces
from relay.net.server import SyncServer
from relay.net.sockets import listen, parse_endpoint
from relay.net.tls import client_context, server_context
from relay.node.config import Config
from relay.node.contacts import Contacts
from relay.node.health import bytes_free, notify, watchdog_seconds
from relay.node.home import Home, Member
from relay.node.measures import Measures
from relay.node.pairing import this_boot
from relay.node.retention import Retention
from relay.node.unreadable import keep_unreadable
from relay.node.witness import Witness
from relay.records.identifiers import sha256
from relay.store.interface import PeerNote
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.delivery import Watch
from relay.sync.host import Host, LogReader
from relay.sync.messages import Hello
from relay.together import unless_cancelled
from relay.trust.certificates import Identity, issued_at
from relay.trust.roles import Role

logger = logging.getLogger(__name__)

Extension = Callable[["Daemon"], AbstractAsyncContextManager[None]]
"""Something that runs within the daemon while its context is open."""


class Daemon:
    """One node at work. `log` answers visitors who ask after the receiver's log."""

    def __init__(self, home: Home, config: Config, member: Member, custody: Custody) -> None:
        self.home = home
        self.config = config
        self.member = member
        self.custody = custody
        self.log: LogReader | None = None
        self.measures: Measures | None = None
        """A receiver's, for its metrics."""
        self.watch: Watch = Witness(member, time.time)
        self.work: list[Callable[[], Coroutine[None, None, None]]] = []
        """What extensions want to have run for ever, beside the daemon's own; called once everything has started."""
        self._claims = Claims()
        self._met_itself = False

    def greeting(self) -> Hello:
        """What this node says of itself."""
        identity = self.member.identity
        free = bytes_free(self.home.path)
        news, content = self.custody.news.count, self.custody.content
        return Hello(identity.node, identity.name, identity.role, identity.election, free, news, content)

    def receivers(self) -> tuple[str, ...]:
        """URLs of the receivers: those of config.toml, else those of the notice in force."""
        if self.member.identity.role is Role.RECEIVER:
            return ()
        return self.config.receivers or tuple(url for one in self.custody.admission.receivers for url in one.urls)

    @asynccontextmanager
    async def listening(self, contacts: Contacts) -> AsyncIterator[None]:
        """Answer visitors."""
        socket = listen(self.config.listen, "listen")
        identify = self.custody.admission.identify
        context = server_context(self.home.certificate_file, self.home.key_file, self.member.root, identify)
        most, handshakes, bodies = MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_BODIES
        if self.member.identity.role is Role.RECEIVER:
            most, handshakes, bodies = MAX_CONNECTIONS_AT_RECEIVER, MAX_HANDSHAKES_AT_RECEIVER, MAX_BODIES_AT_RECEIVER
        server = SyncServer(self._host_for, self._visitor, context, contacts.presence, most, handshakes, bodies)
        await server.start(socket)
        try:
            yield
        finally:
            await server.stop()

    @asynccontextmanager
    async def contacts(self) -> AsyncIterator[Contacts]:
        """Visit neighbours and receivers."""
        context = client_context(
            self.home.certificate_file, self.home.key_file, self.member.root, self.custody.admission.identify
        )
        contacts = Contacts(self.custody, context, self.greeting, self._claims, watch=self.watch)
        try:
            yield contacts
        finally:
            await contacts.close()

    async def forget_contacts(self) -> None:
        """At the start nobody is in contact: who was, when this node stopped, has to answer or to call again."""
        peers = await self.custody.store.peers()
        gone = [replace(one, bytes_in=0, bytes_out=0, connected=False) for one in peers if one.connected]
        try:
            await asyncio.gather(*(self.custody.store.note_peer(one) for one in gone))
        except StoreError as error:
            logger.error("%s", error)  # nothing hangs on it

    def configure(self, contacts: Contacts) -> None:
        """Have the addresses visited that are known without discovery. A receiver is visited, it visits nobody."""
        if self.member.identity.role is not Role.RECEIVER:
            contacts.configure((*self.config.peers, *self.receivers()))

    async def discover(self, contacts: Contacts) -> None:
        """Follow the interfaces and see who is on them, for ever."""

        def seen(sighting: Sighting) -> None:
            contacts.seen(sighting.node, [_joined(address, sighting.port) for address in sighting.addresses])

        identity = self.member.identity
        tag = sha256(self.member.root).hex()[:8]
        port = parse_endpoint(self.config.listen).port
        visits = identity.role is not Role.RECEIVER
        found = seen if visits else (lambda _sighting: None)
        discovery = Discovery(identity.node.hex(), tag, port, found, contacts.lost)
        before: set[Interface] = set()
        try:
            async for interfaces in watch_interfaces(self.config.interfaces):
                changed = before.symmetric_difference(interfaces)
                gone = {one.name for one in before} - {one.name for one in interfaces}
                before = set(interfaces)
                contacts.link_changed({one.name for one in changed}, gone)
                for note in await self._remembered() if visits else ():
                    contacts.seen(note.node.hex(), [note.address], remembered=True)
                await discovery.update(interfaces)
        finally:
            await discovery.close()

    async def _remembered(self) -> list[PeerNote]:
        """The neighbours that were met last. A receiver's URL is tried for ever, and who only came here left no
        address."""
        notes = [one for one in await self.custody.store.peers() if one.role != Role.RECEIVER and one.address]
        return sorted(notes, key=lambda one: one.last_seen, reverse=True)[:MAX_REMEMBERED]

    async def take_in_changes(self, contacts: Contacts) -> None:
        """See what commands beside the daemon committed, for ever; what could not be taken in is, the next time."""
        while True:
            try:
                await self.custody.store.changed(REFRESH_SECONDS)
                await self.custody.take_in()
            except RelayError as error:
                logger.error("%s", error)  # a full disk or a long lock passes; carrying goes on meanwhile
                await asyncio.sleep(REFRESH_SECONDS)
            self.configure(contacts)

    async def free_space(self) -> None:
        """Free what was delivered, now and then, for ever. A receiver keeps everything. What keeps it from that is said
        once while it lasts."""
        enrolled = issued_at(self.member.identity.certificate)
        boot = this_boot() or str(steady())  # where the kernel does not say, each run is one
        retention = Retention(self.custody.store, self.config.retention, enrolled, time.time, steady, boot)
        said = ""
        while self.member.identity.role is not Role.RECEIVER:
            heard = self.custody.news.count
            try:
                await self.custody.rule()  # what a revoked receiver signed frees nothing
                self.custody.content += await retention.free()
                said = ""
            except StoreError as error:
                if str(error) != said:
                    logger.error("%s", error)
                said = str(error)
            await self.custody.news.wait(heard, RETENTION_SECONDS)
            await asyncio.sleep(REFRESH_SECONDS)

    async def show_life(self) -> None:
        """Feed systemd's watchdog, for ever, as long as this loop turns."""
        seconds = watchdog_seconds()
        while seconds is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(seconds)

    def _visitor(self, certificate: bytes) -> Identity:
        """Who calls. Raises `Malformed` or `Refused`, also to whoever has a copy of this node's key: what that signs
        would count as made here. Said once, to the people here."""
        identity = self.custody.admission.identify(certificate)
        if identity.node == self.member.identity.node:
            if not self._met_itself:
                self._met_itself = True
                advice = "If no address in config.toml is its own, its key was copied: tell the election office."
                logger.warning("a visitor shows this node's own certificate. %s", advice)
            raise Refused(MYSELF, "A visitor shows this node's own certificate")
        return identity

    def _host_for(self, identity: Identity) -> Host:
        return Host(self.custody, self.greeting, identity.node.hex(), self._claims, time.monotonic, self.log)


async def run_daemon(home: Home, stop: asyncio.Event, extensions: Sequence[Extension] = ()) -> None:
    """Run a node until `stop` is set. Raises what keeps it from starting, or from going on."""
    config = home.config()
    member = home.member()
    with home.daemon_lock():
        async with AsyncExitStack() as stack:
            custody = await stack.enter_async_context(home.custody(config))
            daemon = Daemon(home, config, member, custody)
            await daemon.forget_contacts()
            for name in config.idle(member.identity.role):
                logger.warning("config.toml sets %s, and no page of this node's role is there", name)
            for extension in extensions:
                await stack.enter_async_context(extension(daemon))
            contacts = await stack.enter_async_context(daemon.contacts())
            await stack.enter_async_context(daemon.listening(contacts))
            daemon.configure(contacts)
            identity = member.identity
            logger.info("%s (%s) of %s is ready on %s", identity.name, identity.role, identity.election, config.listen)
            notify("READY=1")
            await _work(daemon, contacts, stop)
            notify("STOPPING=1")
    logger.info("stopped")


async def _work(daemon: Daemon, contacts: Contacts, stop: asyncio.Event) -> None:
    """Do everything that goes on for ever, until `stop`; a failure of any part ends all."""
    parts = [
        *(begin() for begin in daemon.work),
        daemon.take_in_changes(contacts),
        daemon.free_space(),
        keep_unreadable(daemon.custody),
        daemon.show_life(),
    ]
    if daemon.config.discovery:
        parts.append(daemon.discover(contacts))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(unless_cancelled(part)) for part in parts]
            await stop.wait()
            for task in tasks:
                task.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
