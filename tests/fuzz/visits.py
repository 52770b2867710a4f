"""Nodes that answer calls without a socket: the HTTP server and everything behind it, stores included.

What a visitor writes is handed to the server's protocol, as if TLS had let it through; what the server writes is
collected. A status of 500 is a fault: every bad call has its named error.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from relay.net.routes import PREFIX
from relay.net.server import SyncServer
from relay.node.byhand import FOLDERS, import_from
from relay.records.identifiers import Kind
from relay.sync.host import Host
from tests.fleet import Fleet, Ship
from tests.fuzz.handed import stick
from tests.fuzz.inputs import CONTENT, PATHS


class _Prompt(Host):
    """A node that keeps nobody waiting."""

    async def news(self, heard: int, wait: float) -> int:
        return await super().news(heard, min(wait, 0.0))


class _Shown:
    """What TLS knows of a visitor."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def getpeercert(self, binary_form: bool = False) -> bytes:
        return self._certificate


class _Wire(asyncio.Transport):
    """The server's side of a connection that nobody else holds."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__({"ssl_object": _Shown(certificate), "peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.closed.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Whatever is written is read at once."""

    def pause_reading(self) -> None:
        """Nobody reads."""

    def resume_reading(self) -> None:
        """Nobody reads."""


class Harbour:
    """A boat and a receiver of one election, and a visitor to both."""

    def __init__(self, fleet: Fleet, visitor: Ship, hosts: Sequence[Ship], folder: Path) -> None:
        self._fleet = fleet
        self._visitor = visitor
        self._hosts = hosts
        self._folder = folder
        self._runners: list[web.AppRunner] = []

    @staticmethod
    async def open() -> Harbour:
        """Make the election, its nodes and their stores in memory, where the machine has a place for that."""
        memory = Path("/dev/shm")
        folder = Path(tempfile.mkdtemp(prefix="relay-fuzz-", dir=memory if memory.is_dir() else None))
        fleet = Fleet(folder, 4)
        receiver = await fleet.receiver()
        island = await fleet.launch("island")
        boat = await fleet.carrier("boat")
        visitor = await fleet.carrier("visitor")
        await island.submit(CONTENT)
        await boat.visit(island)
        await boat.visit(receiver)
        harbour = Harbour(fleet, visitor, (boat, receiver), folder)
        for ship in harbour._hosts:
            runner = harbour._server(ship).runner()
            await runner.setup()
            harbour._runners.append(runner)
        return harbour

    async def close(self) -> None:
        """End everything."""
        for runner in self._runners:
            await runner.cleanup()
        await self._fleet.close()
        shutil.rmtree(self._folder)

    async def call(self, data: bytes) -> None:
        """One call: the first byte says of which node (its high bit) and which call, the rest is the body."""
        which = data[0] if data else 0
        path = f"{PREFIX}/{PATHS[(which & 0x7F) % len(PATHS)]}"
        body = data[1:]
        head = f"POST {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        said = await self._exchange(which >> 7, head.encode() + body, whole=True)
        status = said[9:12]
        assert status in (b"200", b"400", b"403", b"404"), said[:200]

    async def say(self, data: bytes) -> None:
        """Anything at all, and then nothing more."""
        said = await self._exchange(data[0] & 1 if data else 0, data[1:], whole=False)
        assert not said.startswith(b"HTTP/1.1 500"), said[:300]

    async def bring(self, data: bytes) -> None:
        """A stick with one record on it."""
        stick = self._folder / "stick"
        kind = Kind(data[0] % 4 + 1) if data else Kind.NOTICE
        name, suffix = FOLDERS[kind]
        file = stick / name / f"record{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[1:])
        try:
            moved = await import_from(self._hosts[0].custody, stick)
        finally:
            file.unlink()
        assert moved.records + len(moved.refused) <= 1

    async def plug_in(self, data: bytes) -> None:
        """A stick with anything on it."""
        await stick(data, self._hosts[0].custody, self._folder / "plugged")

    async def _exchange(self, host: int, data: bytes, *, whole: bool) -> bytes:
        server = self._runners[host].server
        assert server is not None
        protocol = cast(asyncio.Protocol, server())
        wire = _Wire(self._visitor.node.identity.certificate)
        protocol.connection_made(wire)
        protocol.data_received(data)
        if whole:
            await asyncio.wait_for(wire.closed.wait(), 20)
        else:
            for _ in range(3):
                await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.sleep(0)
        return bytes(wire.written)

    def _server(self, ship: Ship) -> SyncServer:
        def host_for(_identity: object) -> Host:
            visitor = self._visitor.node.identity.node.hex()
            return _Prompt(ship.custody, ship.greeting, visitor, ship.claims, ship.clock, ship.log)

        return SyncServer(host_for, ship.custody.admission.identify, cast(Any, None))
