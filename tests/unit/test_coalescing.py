"""Content is read in lots: as it comes at first, then what some milliseconds bring, never later where that is fast."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import ssl
import termios
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.limits import KIB, LOT_BYTES, LOT_FROM, LOT_READ_SECONDS, LOT_SECONDS, MAX_EMPTY_LOTS
from relay.net.coalescing import Lots, in_lots
from tests.factory import make_election, make_node
from tests.simulation.clockwork import VirtualLoop

FULL = 64 * KIB
"""What TLS reads at once, at the most."""


class Connection(asyncio.Transport):
    """A TLS connection, of which is noted at what times it was not to be read any more, and was again."""

    def __init__(self, *, gone: bool = False) -> None:
        super().__init__()
        self.stops: list[float] = []
        self.goes: list[float] = []
        self.stopped = asyncio.Event()
        self.paused = False
        self._gone = gone

    def is_reading(self) -> bool:
        """As the standard library's."""
        if self._gone:
            raise AttributeError("_is_transport_closing")
        return not self.paused

    def set_read_buffer_limits(self, high: int | None = None) -> None:
        """As the standard library's."""
        if self._gone:
            raise AttributeError("_control_ssl_reading")
        (self.stops if high == 0 else self.goes).append(asyncio.get_running_loop().time())
        self.stopped.set()


def _on_virtual_time(*steps: tuple[float, int]) -> Connection:
    """What becomes of a connection of which, after so many seconds each, so many bytes are read."""

    async def read() -> Connection:
        connection = Connection()
        lots = Lots(connection)
        for seconds, size in steps:
            await asyncio.sleep(seconds)
            if size:
                lots.came(size)
        return connection

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(read())
    finally:
        loop.close()


def _is(seconds: float, found: Iterable[float]) -> bool:
    return all(abs(one - seconds) < 1e-9 for one in found)


def test_the_first_bytes_of_a_call_are_read_as_they_come() -> None:
    assert not _on_virtual_time((1.0, LOT_FROM // 2), (1.0, LOT_FROM // 2), (1.0, 0)).stops


def test_then_the_kernel_gathers_what_some_milliseconds_bring() -> None:
    connection = _on_virtual_time((1.0, LOT_FROM), *[(0.005, 2_000)] * 100)
    assert len(connection.goes) >= 20
    gathered = [go - stop for stop, go in zip(connection.stops, connection.goes, strict=False)]
    assert _is(LOT_SECONDS, gathered[1:])  # of the first one nobody knows yet when it began to come
    assert _is(LOT_READ_SECONDS, (stop - go for stop, go in zip(connection.stops[1:], connection.goes, strict=False)))


def test_the_faster_it_comes_the_shorter_is_a_lot_gathered_and_at_last_not_at_all() -> None:
    connection = _on_virtual_time((1.0, LOT_FROM), *[(0.002, LOT_BYTES)] * 100)
    gathered = [go - stop for stop, go in zip(connection.stops, connection.goes, strict=False)]
    assert len(gathered) >= 20
    assert max(gathered[5:]) < LOT_SECONDS / 5
    assert not _on_virtual_time((1.0, LOT_FROM), *[(0.0005, FULL)] * 100).stops


def test_where_nothing_comes_what_comes_next_is_read_at_once() -> None:
    connection = _on_virtual_time((1.0, LOT_FROM), (0.1, 1_000), (60.0, 0))
    assert len(connection.goes) == len(connection.stops) <= MAX_EMPTY_LOTS
    again = _on_virtual_time((1.0, LOT_FROM), (0.1, 1_000), (60.0, 1_000), (60.0, 0))
    assert len(again.stops) == 2 * len(connection.stops)


def test_whoever_does_not_keep_up_is_left_alone() -> None:
    async def read() -> Connection:
        connection = Connection()
        lots = Lots(connection)
        lots.came(LOT_FROM)
        connection.paused = True
        for _ in range(10):
            lots.came(1)
            await asyncio.sleep(1.0)
        return connection

    loop = VirtualLoop()
    try:
        connection = loop.run_until_complete(read())
    finally:
        loop.close()
    assert not connection.stops
    assert not connection.goes


async def test_whoever_leaves_in_the_middle_of_a_lot_leaves_a_connection_that_is_read() -> None:
    connection = Connection()
    with in_lots(connection) as came:
        came(LOT_FROM)
        came(1)
        await connection.stopped.wait()
        assert not connection.goes
    assert connection.goes


async def test_a_connection_that_is_gone_or_is_no_tls_is_left_alone() -> None:
    for transport in (Connection(gone=True), asyncio.Transport(), None):
        with in_lots(transport) as came:
            came(LOT_FROM)
            came(1)


class _Reader(asyncio.Protocol):
    """Counts what TLS hands over."""

    def __init__(self) -> None:
        self.size = 0
        self.came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        self.came.set()

    async def has(self, size: int) -> None:
        """Wait until so many bytes came."""
        while self.size < size:
            self.came.clear()
            await self.came.wait()


@asynccontextmanager
async def _tls(folder: Path) -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.Transport, _Reader]]:
    """A real TLS connection: one end that writes, and the other one."""
    node = make_node(make_election(), "pulau-long")
    (folder / "node.pem").write_text(ssl.DER_cert_to_PEM_cert(node.identity.certificate), encoding="ascii")
    (folder / "node.key").write_bytes(node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "node.pem", folder / "node.key")
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.check_hostname, calling.verify_mode = False, ssl.CERT_NONE
    writers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: writers.put_nowait(writer), "127.0.0.1", 0, ssl=serving)
    async with server:
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        transport, reader = await loop.create_connection(_Reader, "127.0.0.1", port, ssl=calling)
        writer = await writers.get()
        yield writer, transport, reader
        transport.abort()
        writer.transport.abort()


async def _gathered(connection: socket.socket, size: int) -> None:
    """Wait until the kernel has so many bytes of a connection that nobody read."""
    waiting = array.array("i", [0])
    while waiting[0] < size:
        await asyncio.sleep(0)
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, waiting)


async def test_the_standard_librarys_tls_reads_nothing_meanwhile(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("relay.net.coalescing.LOT_SECONDS", 3_600)
    monkeypatch.setattr("relay.net.coalescing.LOT_BYTES", 1 << 40)
    async with asyncio.timeout(30), _tls(tmp_path) as (writer, transport, reader):
        lots, stopped = Lots(transport), asyncio.Event()
        gather = lots._gather

        def noted(due: float) -> None:
            gather(due)
            stopped.set()

        monkeypatch.setattr(lots, "_gather", noted)
        writer.write(b"a")
        await reader.has(1)
        lots.came(LOT_FROM)
        lots.came(1)
        await stopped.wait()
        writer.write(bytes(FULL))
        await _gathered(transport.get_extra_info("socket"), FULL)
        assert reader.size == 1
        lots.end()
        await reader.has(1 + FULL)
        writer.write(b"z")
        await reader.has(2 + FULL)


async def test_an_end_does_not_take_with_it_what_came_before(tmp_path: Path, monkeypatch: Any) -> None:
    """It comes without TLS's farewell where a daemon was killed, and while who takes what comes has paused."""
    async with asyncio.timeout(30), _tls(tmp_path) as (writer, transport, reader):
        secured: Any = transport
        protocol, ended, over = secured._ssl_protocol, asyncio.Event(), asyncio.Event()
        end, lots = protocol.eof_received, Lots(transport)
        gather = lots._gather

        def noted_end() -> Any:
            ended.set()
            return end()

        def noted(due: float) -> None:
            gather(due)
            if lots._next is None:
                over.set()

        monkeypatch.setattr(protocol, "eof_received", noted_end)
        monkeypatch.setattr(lots, "_gather", noted)
        writer.write(b"a")
        await reader.has(1)
        lots.came(LOT_FROM)
        transport.pause_reading()
        writer.write(bytes(FULL // 2))
        await writer.drain()
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await ended.wait()
        lots.came(1)
        await over.wait()
        transport.resume_reading()
        await reader.has(1 + FULL // 2)
