"""Streams that never end, that trickle, that swell when unpacked: no daemon waits for them, stores them or grows."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from contextlib import suppress

import pytest

from relay.limits import MAX_CHUNK, MAX_CHUNKS_CALL, MIN_RECONCILE_MESSAGE, STALL_SECONDS
from relay.records.encoding import encode
from relay.records.identifiers import sha256
from relay.store.recordset import END, FIRST
from relay.sync.messages import FRAME_HEAD, Greeting
from relay.sync.ranges import MessageWriter
from tests.boxes import NodeBox
from tests.e2e.visitors import as_node
from tests.e2e.world import FORM, TPS, holds
from tests.hostile.waters import Waters, answering, ask, connection, free_port, good, head, rest
from tests.processes import eventually

BOMB = gzip.compress(bytes(200_000_000))


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
    frame = FRAME_HEAD.pack(sha256(b"nobody's"), 0, MAX_CHUNK) + bytes(MAX_CHUNK)
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


@pytest.mark.parametrize("path", ["/hello", "/records/put", "/reconcile", "/chunks/put"])
def test_a_bomb_for_the_visited_side_is_not_unpacked(waters: Waters, path: str) -> None:
    island, pirate = waters.box("island", "operator", tps=[TPS]), waters.box("pirate", "carrier")
    island.start()
    status, said = ask(pirate, waters.ports["island"], path, BOMB, "Content-Encoding: gzip")
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
