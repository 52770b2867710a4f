"""What a visit calls at once over real connections: never more than a node bears, whatever there is to exchange."""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.errors import Refused
from relay.limits import LARGE_CALLS, MAX_LARGE_CALLS_PER_PEER
from relay.net import routes
from relay.net.client import HttpPeer
from relay.net.server import SyncServer
from relay.net.sockets import listen
from relay.net.tls import client_context, server_context
from relay.records.identifiers import Kind, RecordId, StatementId
from relay.store.recordset import item_of, kind_end
from relay.sync import messages
from relay.sync.host import Host
from relay.sync.messages import Inquiry, InquiryReply, Taken
from relay.sync.report import VisitReport
from relay.sync.visit import Visit
from relay.trust.certificates import Identity
from tests.factory import make_statement
from tests.fleet import Fleet, Ship
from tests.processes import eventually

MANY = 120
"""More than the first page of records, both ways."""


def _files(ship: Ship, folder: Path) -> tuple[Path, Path]:
    """A ship's certificate and key, as TLS reads them."""
    certificate, key = folder / f"{ship.name}.pem", folder / f"{ship.name}.key"
    certificate.write_text(ssl.DER_cert_to_PEM_cert(ship.node.identity.certificate), encoding="ascii")
    key.write_bytes(ship.node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


@dataclass
class Harbour:
    """A ship that listens, and who visits it."""

    port: int
    context: ssl.SSLContext
    visitor: Ship
    server: Counted
    most: list[int] = field(default_factory=lambda: [0])
    """Large calls at once, at the most."""

    async def visit(self, *, expecting: bool) -> VisitReport:
        """Visit the ship that listens."""
        ship = self.visitor
        async with HttpPeer(f"https://127.0.0.1:{self.port}", self.context) as peer:
            visit = Visit(ship.custody, peer, ship.greeting(), ship.claims, time.monotonic, expecting=expecting)
            return await visit.run()


class Counted(SyncServer):
    """A server that notes how many large calls it has at once."""

    def note(self, most: list[int]) -> None:
        """Into this list."""
        self._most_large = most

    @property
    def held(self) -> int:
        """Bytes that calls hold."""
        return self._bodies._total

    def _has_turn(self, node: bytes) -> bool:
        has = super()._has_turn(node)
        self._most_large[0] = max(self._most_large[0], len(self._large.get(node, {})) + has)
        return has


@asynccontextmanager
async def harbour(
    fleet: Fleet, host: Ship, visitor: Ship, folder: Path, answers: Host | None = None
) -> AsyncIterator[Harbour]:
    """Within it, a ship listens for another one."""
    root = fleet.election.root

    def identify(certificate: bytes) -> Identity:
        return host.custody.admission.identify(certificate)

    server = Counted(
        lambda _: answers or host.host(visitor), identify, server_context(*_files(host, folder), root, identify)
    )
    listening = listen("127.0.0.1:0")
    port = listening.getsockname()[1]
    context = client_context(*_files(visitor, folder), root, visitor.custody.admission.identify)
    place = Harbour(port, context, visitor, server)
    server.note(place.most)
    await server.start(listening)
    try:
        yield place
    finally:
        await server.stop()


async def _load(ship: Ship, fleet: Fleet, count: int) -> None:
    await ship.take(*(make_statement(fleet.election, ship.node, form=f"form-{place}") for place in range(count)))


@pytest.mark.parametrize("expecting", [True, False])
async def test_a_visit_with_much_to_tell_both_ways_makes_no_more_calls_than_a_node_bears(
    fleet: Fleet, tmp_path: Path, expecting: bool
) -> None:
    host, visitor = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    await _load(host, fleet, MANY)
    await _load(visitor, fleet, MANY)
    async with harbour(fleet, host, visitor, tmp_path) as place:
        report = await place.visit(expecting=expecting)
    assert (report.records_in, report.records_out) == (MANY, MANY)
    assert place.most == [LARGE_CALLS]


async def test_records_cross_in_fewer_bytes_for_who_takes_them_so(fleet: Fleet, tmp_path: Path) -> None:
    host, visitor = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    await _load(host, fleet, MANY)
    body = messages.encode_ids(
        [item_of(key)[1] for key in host.store.members.keys(bytes([Kind.STATEMENT]), kind_end(Kind.STATEMENT))]
    )
    asked = "\r\nAccept-Encoding: deflate"
    async with harbour(fleet, host, visitor, tmp_path) as place:
        answers = [await _said(place, f"{routes.GET_RECORDS} HTTP/1.1\r\nHost: x{more}", body) for more in ("", asked)]
    (plain_head, plain), (short_head, short) = answers
    assert b"Content-Encoding" not in plain_head
    assert b"Content-Encoding: deflate" in short_head
    assert zlib.decompress(short) == plain
    assert len(short) < len(plain) / 2
    assert len(messages.Given.decode(plain).records) == MANY


async def test_a_deflated_question_counts_by_what_it_is_while_its_answer_is_waited_for(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Or three hundred bytes would hold a quarter of a megabyte, of each of a crowd."""
    host, visitor = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    begun, answer = asyncio.Event(), asyncio.Event()

    class Thoughtful(Host):
        async def inquire(self, inquiry: Inquiry) -> InquiryReply:
            begun.set()
            await answer.wait()
            return InquiryReply((), ())

    thoughtful = Thoughtful(host.custody, host.greeting, "visitor", host.claims, time.monotonic)
    question = Inquiry((StatementId(RecordId(bytes(32))),) * 4_000).encode()
    body = zlib.compress(question)
    assert len(body) < 1_000
    async with harbour(fleet, host, visitor, tmp_path, thoughtful) as place:
        call = f"{routes.INQUIRE} HTTP/1.1\r\nHost: x\r\nContent-Encoding: deflate"
        calling = asyncio.create_task(_said(place, call, body))
        async with asyncio.timeout(10):
            await begun.wait()
        assert place.server.held == len(question)
        answer.set()
        await calling
        assert place.server.held == 0


async def _said(place: Harbour, call: str, body: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to one call."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=place.context, server_hostname="")
    writer.write(f"POST {call}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, answer


async def test_what_a_contact_left_behind_when_it_broke_gives_way_to_the_next_one(fleet: Fleet, tmp_path: Path) -> None:
    """Its calls hang in the middle of their bodies, and TCP does not know yet."""
    host, visitor = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    await _load(host, fleet, MANY)
    await _load(visitor, fleet, MANY)
    head = f"POST {routes.PUT_RECORDS} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n".encode()
    async with harbour(fleet, host, visitor, tmp_path) as place:
        left: list[asyncio.StreamWriter] = []
        for count in range(1, MAX_LARGE_CALLS_PER_PEER + 1):
            _, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=place.context, server_hostname="")
            left.append(writer)
            writer.write(head + bytes(20_000))
            await asyncio.to_thread(eventually, lambda count=count: place.most[0] == count, 10, "the call is there")
        report = await place.visit(expecting=False)
        for writer in left:
            writer.close()
    assert (report.records_in, report.records_out) == (MANY, MANY)
    assert place.most == [MAX_LARGE_CALLS_PER_PEER]


async def test_calls_that_are_being_answered_give_way_to_nobody(fleet: Fleet, tmp_path: Path) -> None:
    """Or a visitor could have as many judged at once as it likes."""
    host, visitor = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    begun, answer = asyncio.Semaphore(0), asyncio.Event()

    class Thoughtful(Host):
        async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
            begun.release()
            await answer.wait()
            return await super().put_records(records)

    thoughtful = Thoughtful(host.custody, host.greeting, "visitor", host.claims, time.monotonic)
    async with harbour(fleet, host, visitor, tmp_path, thoughtful) as place:
        peers = [HttpPeer(f"https://127.0.0.1:{place.port}", place.context) for _ in range(MAX_LARGE_CALLS_PER_PEER)]
        calls = [asyncio.create_task(peer.put_records([])) for peer in peers]
        for _ in calls:
            await begun.acquire()
        with pytest.raises(Refused, match="more calls at once"):
            await place.visit(expecting=False)
        answer.set()
        assert await asyncio.gather(*calls) == [Taken([], [])] * MAX_LARGE_CALLS_PER_PEER
        for peer in peers:
            await peer.close()
