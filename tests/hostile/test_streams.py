"""Streams that never end, that trickle, that swell when unpacked: no daemon waits for them, stores them or grows."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from unittest.mock import patch

import pytest

from relay.errors import Unreachable
from relay.limits import MAX_CHUNK, MAX_CHUNKS_CALL, MIN_RECONCILE_MESSAGE, STALL_SECONDS
from relay.net.client import HttpPeer
from relay.records.encoding import encode
from relay.records.identifiers import Kind, ObjectId, RecordId, sha256
from relay.records.statement import chunk_size_for
from relay.store.recordset import END, FIRST, kind_end
from relay.sync.messages import FRAME_HEAD, SPAN, Greeting
from relay.sync.peer import Span
from relay.sync.ranges import MessageWriter
from tests.boxes import NodeBox
from tests.e2e.visitors import as_node
from tests.e2e.world import FORM, TPS, holds
from tests.hostile.waters import Waters, answering, ask, asked_for, connection, free_port, good, head, rest
from tests.processes import eventually

BOMB = gzip.compress(bytes(200_000_000))
DEFLATED_BOMB = zlib.compress(bytes(60_000_000), 9)
"""It is within the limit of every call, until it is inflated."""


def test_visitors_that_trickle_keep_nobody_out_and_are_let_go(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    pirate = waters.box("pirate", "carrier")
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    island.start()
    port = waters.ports["island"]
    half_heads = [connection(pirate, port) for _ in range(8)]
    half_bodies = [connection(pirate, port) for _ in range(8)]
    for talk in half_heads:
        talk.sendall(head("/hello")[:-2])
    for talk in half_bodies:
        talk.sendall(head("/records/put", "Content-Length: 1000000") + bytes(900_000))
    boat.start()
    holds(boat, ("waiting", None))
    for talk in half_bodies:
        talk.settimeout(3 * STALL_SECONDS)
        assert rest(talk)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403", b""), "it stalled, or made too many calls"
    for talk in half_heads:
        talk.close()


def test_an_endless_stream_of_chunks_is_ended(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    pirate = waters.box("pirate", "carrier")
    island.start()
    frame = FRAME_HEAD.pack(sha256(b"nobody's"), 0, 0, MAX_CHUNK) + bytes(MAX_CHUNK)
    with connection(pirate, waters.ports["island"]) as talk:
        talk.sendall(head("/chunks/put", "Transfer-Encoding: chunked"))
        begun, sent = time.monotonic(), 0
        with suppress(ConnectionError, OSError):
            while time.monotonic() - begun < 60:
                talk.sendall(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
                sent += len(frame)
        assert sent > MAX_CHUNKS_CALL
        assert time.monotonic() - begun < 60, "the island listened for a minute"
    assert island.status()["bytes_held"] == 0


def test_who_has_much_read_and_little_sent_is_ended(waters: Waters) -> None:
    """The last byte of each chunk, again and again: what is read for it counts."""
    photo = waters.photo(300_000)
    island, pirate = waters.box("island", "operator", tps=[TPS]), waters.box("pirate", "carrier")
    island.submit(photo, tps=TPS, form=FORM)
    island.start()
    chunk = chunk_size_for(300_000)
    most = MAX_CHUNKS_CALL // chunk
    spans = SPAN.pack(sha256(photo.read_bytes()), 0, chunk - 1) * (2 * most)
    with connection(pirate, waters.ports["island"]) as talk:
        talk.sendall(head("/chunks/get", f"Content-Length: {len(spans)}"))
        with suppress(ConnectionError, OSError):
            talk.sendall(spans)
        answered = rest(talk).count(FRAME_HEAD.pack(sha256(photo.read_bytes()), 0, chunk - 1, 1))
    assert most * 0.9 < answered <= most


@pytest.mark.parametrize("path", ["/hello", "/records/put", "/records/get", "/inquire", "/reconcile", "/chunks/put"])
def test_a_bomb_for_the_visited_side_is_not_unpacked(waters: Waters, path: str) -> None:
    island, pirate = waters.box("island", "operator", tps=[TPS]), waters.box("pirate", "carrier")
    island.start()
    for bomb, coding in ((BOMB, "gzip"), (DEFLATED_BOMB, "deflate")):
        status, said = ask(pirate, waters.ports["island"], path, bomb, f"Content-Encoding: {coding}")
        assert status == 400, said
        assert b"relay:problem/malformed" in said


def test_a_bomb_for_the_public_side_is_not_unpacked(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    receiver.start()
    with socket.create_connection(("127.0.0.1", waters.public["receiver"]), timeout=20) as talk:
        fields = ["Host: 127.0.0.1", "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}", "Connection: close"]
        talk.sendall("\r\n".join(["GET /checkpoint HTTP/1.1", *fields, "", ""]).encode() + BOMB)
        assert rest(talk).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", [b"x-%d: yes\r\n", b"%d;", b"x" * 64])
def test_heads_without_an_end_are_ended_without_a_word_in_the_log(waters: Waters, line: bytes) -> None:
    receiver, pirate = waters.box("receiver", "receiver"), waters.box("pirate", "carrier")
    receiver.start()
    plain = socket.create_connection(("127.0.0.1", waters.public["receiver"]), timeout=20)
    for talk in (plain, connection(pirate, waters.ports["receiver"])):
        begun = time.monotonic()
        with talk, suppress(ConnectionError, OSError):
            talk.sendall(
                head("/hello")[:-2] if line != b"%d;" else head("/hello", "Transfer-Encoding: chunked") + b"1;"
            )
            number = 0
            while time.monotonic() - begun < 60:
                piece = b"".join(line % (number + one) if b"%d" in line else line for one in range(1000))
                talk.sendall(piece)
                number += 1000
        assert time.monotonic() - begun < 60, "it listened for a minute"


def greeting_of(box: NodeBox) -> bytes:
    """What this node would honestly say of itself, and that it holds something else: so it is asked again."""
    writer = MessageWriter(MIN_RECONCILE_MESSAGE)
    writer.add_fingerprint(FIRST, END, bytes(16))
    return good(Greeting(as_node(box)[1], bytes(writer)).encode())


ANSWERS = {
    "says nothing": None,
    "never ends": b"HTTP/1.1 200 OK\r\n\r\n" + bytes(65_536) + b"...",
    "head never ends": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_923 + b"...",
    "is a bomb": good(BOMB, "Content-Encoding: gzip"),
    "is a deflated bomb": good(DEFLATED_BOMB, "Content-Encoding: deflate"),
    "is a long number": good(encode(1 << 63)),
    "is no HTTP": bytes(range(256)),
    "is a fault": b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    "is a problem with control characters": b"HTTP/1.1 400 B\r\nContent-Length: 44\r\n\r\n"
    rb'{"title": "\u001b[2J\nERROR x", "detail": ""}'[:44],
    "goes on for ever before it begins": b"HTTP/1.1 100 Continue\r\n\r\n" * 2622 + b"...",
}


@pytest.mark.parametrize("which", [*ANSWERS])
async def test_an_answer_that_hurts_ends_one_visit_and_no_other(waters: Waters, which: str) -> None:
    pirate = waters.box("pirate", "carrier")
    island = waters.box("island", "operator", tps=[TPS])
    hideout = free_port()
    boat = waters.box("boat", "carrier", peers=[hideout, waters.ports["island"]])
    await asyncio.to_thread(island.submit, waters.photo(300_000), tps=TPS, form=FORM)
    hello = greeting_of(pirate)
    async with answering(pirate, hideout, lambda path: hello if path == "/hello" else ANSWERS[which]) as asked:
        for box in (island, boat):
            await asyncio.to_thread(box.start)
        await asyncio.to_thread(holds, boat, ("waiting", None))
        await asyncio.to_thread(eventually, lambda: "/reconcile" in asked, 20, "the boat visited the pirate")
        await asyncio.to_thread(eventually, lambda: asked.count("/hello") > 1, 40, "it left, and came again")
    assert "\x1b" not in boat.log


TRICKLE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@asynccontextmanager
async def trickling(box: NodeBox, port: int, before: dict[str, bytes]) -> AsyncIterator[list[str]]:
    """Within it, this node answers what `before` has no answer for by a byte now and then, for ever."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                path = await asked_for(reader)
                asked.append(path)
                writer.write(before.get(path, TRICKLE))
                while path not in before:
                    writer.write(b"\0")
                    await writer.drain()
                    await asyncio.sleep(0.02)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.home / "certificate.pem", box.home / "key.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield asked
    finally:
        server.close()


async def test_a_visited_node_whose_records_trickle_holds_nobody_else_up(waters: Waters) -> None:
    """It says that it holds a thousand records; each visitor that asks for them gets a byte at a time."""
    pirate = waters.box("pirate", "carrier")
    island = waters.box("island", "operator", tps=[TPS])
    hideout = free_port()
    boat = waters.box("boat", "carrier", peers=[hideout, waters.ports["island"]])
    await asyncio.to_thread(island.submit, waters.photo(300_000), tps=TPS, form=FORM)
    writer = MessageWriter(1 << 16)
    ids = sorted(sha256(bytes([place])) for place in range(100))
    writer.add_ids(bytes([Kind.RECEIPT]), kind_end(Kind.RECEIPT), ids)
    hello = good(Greeting(as_node(pirate)[1], bytes(writer)).encode())
    async with trickling(pirate, hideout, {"/hello": hello}) as asked:
        await asyncio.to_thread(boat.start)
        await asyncio.to_thread(eventually, lambda: "/records/get" in asked, 20, "the boat asks for the records")
        await asyncio.to_thread(island.start)
        await asyncio.to_thread(holds, boat, ("waiting", None))


@pytest.mark.parametrize("call", ["records", "chunks"])
async def test_an_answer_that_trickles_is_given_up_in_bounded_time(waters: Waters, call: str) -> None:
    """The bounds are smaller here: an answer may take `CHUNKS_SECONDS`, and what its bytes take at `SLOWEST`."""
    pirate, boat = waters.box("pirate", "carrier"), waters.box("boat", "carrier")
    hideout = free_port()
    names = [RecordId(bytes(32))]

    async def spans() -> AsyncIterator[Span]:
        yield ObjectId(bytes(32)), 0

    async with trickling(pirate, hideout, {}) as asked:
        peer = HttpPeer(f"https://127.0.0.1:{hideout}", as_node(boat)[0])
        with (
            patch("relay.net.client.CHUNKS_SECONDS", 1.0),
            patch("relay.net.client.SLOWEST", 1 << 30),
            pytest.raises(Unreachable),
        ):
            async with asyncio.timeout(60):
                if call == "records":
                    await peer.get_records(names)
                else:
                    async for _ in peer.get_chunks(spans()):
                        pass
        await peer.close()
    assert asked


async def test_nobody_is_sent_elsewhere(waters: Waters) -> None:
    pirate = waters.box("pirate", "carrier")
    hideout = free_port()
    island = waters.box("island", "operator", tps=[TPS], peers=[hideout])
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        away = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with answering(pirate, hideout, lambda _path: away) as asked:
            await asyncio.to_thread(island.start)
            await asyncio.to_thread(eventually, lambda: len(asked) > 1, 20, "the island asked twice")
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
