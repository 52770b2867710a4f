"""Crowds: thousands of connections, of strangers and of members, and hundreds of nodes that are not there."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from relay.limits import (
    MAX_CALLS_PER_PEER,
    MAX_CHUNK,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_NODE,
    MAX_HANDSHAKES,
    MAX_LARGE_CALLS_PER_PEER,
    MAX_NEIGHBOURS,
    MAX_RECORDS_MESSAGE,
    MIB,
)
from relay.net.tls import client_context
from relay.node.contacts import Contacts
from relay.node.home import Home, Member
from relay.records.encoding import encode
from relay.records.identifiers import ObjectId, RecordId, StatementId, sha256
from relay.records.statement import FileEntry, Package, sign_statement
from relay.sync.claims import Claims
from relay.sync.messages import FRAME_HEAD, SPAN
from tests.e2e.visitors import as_node
from tests.e2e.world import FORM, TPS, holds
from tests.hostile.waters import Waters, ask, connection, head, open_files, peak, rest
from tests.processes import eventually

CROWD = 3_000


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Connections that are closed at the end."""
    with ExitStack() as crowd:
        yield crowd


def test_thousands_of_strangers_at_the_door_keep_no_member_out(waters: Waters, crowd: ExitStack) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    island.start()
    idle = open_files(island)
    for _ in range(CROWD):
        crowd.enter_context(socket.create_connection(("127.0.0.1", waters.ports["island"]), timeout=20))
    assert open_files(island) <= idle + 2 * MAX_HANDSHAKES, "those at the door, and those who are just being sent away"
    boat.start()
    holds(boat, ("waiting", None))
    eventually(lambda: open_files(island) < idle + 20, 20, "the strangers were let go")


def test_hundreds_of_connections_of_one_member_leave_room_for_others(waters: Waters, crowd: ExitStack) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    pirate = waters.box("pirate", "carrier")
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    island.start()
    idle = open_files(island)
    for _ in range(CROWD // 10):
        crowd.enter_context(connection(pirate, waters.ports["island"]))
    eventually(lambda: open_files(island) <= idle + MAX_CONNECTIONS_PER_NODE + 8, 20, "most were let go")
    boat.start()
    holds(boat, ("waiting", None))


def test_a_crowd_at_the_public_side_disturbs_neither_public_nor_members(waters: Waters, crowd: ExitStack) -> None:
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS], receivers=[receiver])
    receiver.start()
    idle = open_files(receiver)
    for _ in range(CROWD):
        crowd.enter_context(socket.create_connection(("127.0.0.1", waters.public["receiver"]), timeout=20))
    eventually(lambda: open_files(receiver) <= idle + MAX_CONNECTIONS + 8, 20, "most were let go")
    with socket.create_connection(("127.0.0.1", waters.public["receiver"]), timeout=20) as visitor:
        visitor.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert visitor.recv(15) == b"HTTP/1.1 200 OK"
    island.submit(waters.photo(3_000), tps=TPS, form=FORM)
    island.start()
    holds(island, ("delivered", 0))


@pytest.mark.parametrize("fields", [(), ("Accept-Encoding: gzip",)], ids=["plain", "compressed"])
def test_a_crowd_that_asks_the_public_side_for_large_answers_and_does_not_read_costs_no_memory(
    waters: Waters, crowd: ExitStack, fields: tuple[str, ...]
) -> None:
    """The intake lives in the same process: packages are taken in meanwhile, and the public is served."""
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS], receivers=[receiver])
    receiver.start()
    large = random.Random(1).randbytes(6_000_000).hex().encode()
    (receiver.home / "public").mkdir(exist_ok=True)
    (receiver.home / "public" / "large.json").write_bytes(large)
    before = peak(receiver)

    def ask_for(path: str, *more: str, window: int = 1 << 20) -> socket.socket:
        talk = crowd.enter_context(socket.socket())
        talk.settimeout(60)
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        talk.connect(("127.0.0.1", waters.public["receiver"]))
        talk.sendall("\r\n".join([f"GET /{path} HTTP/1.1", "Host: 127.0.0.1", *more, "", ""]).encode())
        return talk

    for _ in range(100):
        assert ask_for("large.json", *fields, window=4_096).recv(15) == b"HTTP/1.1 200 OK"
    _, _, body = rest(ask_for("large.json", "Connection: close", *fields)).partition(b"\r\n\r\n")
    assert (gzip.decompress(body) if fields else body) == large
    assert peak(receiver) < before + 64 * MIB
    island.submit(waters.photo(3_000), tps=TPS, form=FORM)
    island.start()
    holds(island, ("delivered", 0))


def test_members_who_take_all_they_may_at_once_do_not_exhaust_a_node(waters: Waters, crowd: ExitStack) -> None:
    pirates = [waters.box(f"pirate-{place}", "carrier") for place in range(6)]
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    photo = waters.photo(8_000_000)
    island.submit(photo, tps=TPS, form=FORM)
    island.start()
    everything = b"".join(SPAN.pack(sha256(photo.read_bytes()), index, 0) for index in range(60))
    for pirate in pirates:
        for _ in range(MAX_LARGE_CALLS_PER_PEER):  # records of which the last byte never comes
            talk = crowd.enter_context(connection(pirate, waters.ports["island"]))
            size = MAX_RECORDS_MESSAGE
            talk.sendall(head("/records/put", f"Content-Length: {size}") + bytes(size - 1))
        for _ in range(MAX_CALLS_PER_PEER - MAX_LARGE_CALLS_PER_PEER):  # chunks that are asked for and never read
            talk = crowd.enter_context(connection(pirate, waters.ports["island"]))
            talk.sendall(head("/chunks/get", f"Content-Length: {len(everything)}") + everything)
    boat.start()
    holds(boat, ("waiting", None))


def test_a_crowd_of_members_together_holds_no_more_than_one_budget(waters: Waters, crowd: ExitStack) -> None:
    """Each holds what one visitor may, of calls whose last byte never comes: sixty of them would fill the memory."""
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    island.start()
    size = MAX_RECORDS_MESSAGE
    talks: list[ssl.SSLSocket] = []
    for pirate in waters.crew(60):
        for _ in range(MAX_LARGE_CALLS_PER_PEER):
            talks.append(crowd.enter_context(connection(pirate, waters.ports["island"])))
            with suppress(ConnectionError, ssl.SSLError):
                talks[-1].sendall(head("/records/put", f"Content-Length: {size}") + bytes(size - 4_000))
    boat.start()
    for _ in range(10):  # so that none of them stalls
        for talk in talks:
            with suppress(ConnectionError, ssl.SSLError):
                talk.sendall(bytes(10))
    holds(boat, ("waiting", None))


def test_a_crowd_of_members_with_half_a_chunk_each_holds_no_more_than_one_budget(
    waters: Waters, crowd: ExitStack
) -> None:
    """Each begins as many chunks as it may make calls, and sends their last bytes one by one."""
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    island.start()
    begun = FRAME_HEAD.pack(sha256(b"nobody's"), 0, 0, MAX_CHUNK) + bytes(MAX_CHUNK - 4_000)
    fields = f"Content-Length: {FRAME_HEAD.size + MAX_CHUNK}"
    talks: list[ssl.SSLSocket] = []
    for pirate in waters.crew(40):
        for _ in range(MAX_CALLS_PER_PEER - 4):
            talks.append(crowd.enter_context(connection(pirate, waters.ports["island"])))
            with suppress(ConnectionError, ssl.SSLError):
                talks[-1].sendall(head("/chunks/put", fields) + begun)
    boat.start()
    left = 0
    for talk in talks:
        with suppress(ConnectionError, ssl.SSLError):
            talk.sendall(b"x")
            talk.sendall(b"x")
            left += 1
    holds(boat, ("waiting", None))
    assert left < len(talks), "of too much the oldest calls are ended"


def test_a_crowd_at_a_receiver_leaves_its_memory_bounded(waters: Waters, crowd: ExitStack) -> None:
    """Every gateway of sixty holds what it may, in calls of records and of chunks whose last bytes never come, or that
    are answered and not read: an honest one is served, and the receiver stays under what is stated for it."""
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS], receivers=[receiver])
    island.submit(waters.photo(300_000), tps=TPS, form=FORM)
    receiver.start()
    size = MAX_RECORDS_MESSAGE
    begun = FRAME_HEAD.pack(sha256(b"nobody's"), 0, 0, MAX_CHUNK) + bytes(MAX_CHUNK - 4_000)
    calls = [head("/records/put", f"Content-Length: {size}") + bytes(size - 4_000)] * MAX_LARGE_CALLS_PER_PEER
    calls += [head("/chunks/put", f"Content-Length: {FRAME_HEAD.size + MAX_CHUNK}") + begun] * 8
    for pirate in waters.crew(60):
        for call in calls:
            talk = crowd.enter_context(connection(pirate, waters.ports["receiver"]))
            with suppress(ConnectionError, ssl.SSLError):
                talk.sendall(call)
    island.start()
    holds(island, ("delivered", 0))


def test_a_crowd_of_members_that_do_not_read_holds_no_more_than_one_budget(waters: Waters, crowd: ExitStack) -> None:
    """Each asks for a megabyte of records, again and again, and never reads."""
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier", peers=[waters.ports["island"]])
    names = [island.submit(tps=TPS, form=FORM, tally={"voters": place}) for place in range(1)]
    island.config(**waters.settings(island), quota_bytes="8 GB")
    signer = Home(island.home).member()
    large = [_large_statement(signer, place) for place in range(20)]
    stick = waters.folder / "stick" / "statements"
    stick.mkdir(parents=True)
    for place, raw in enumerate(large):
        (stick / f"{place}.cose").write_bytes(raw)
    island.import_(stick.parent)
    island.start()
    ids = encode(b"".join(sha256(raw) for raw in large))
    status, said = ask(boat, waters.ports["island"], "/records/get", ids)
    assert (status, len(said) > 900_000) == (200, True)
    for pirate in waters.crew(60):
        for _ in range(6):
            talk = crowd.enter_context(connection(pirate, waters.ports["island"]))
            with suppress(ConnectionError, ssl.SSLError):
                talk.sendall(head("/records/get", f"Content-Length: {len(ids)}") + ids)
    boat.start()
    eventually(lambda: any(one["id"] == names[0] for one in boat.list()), 30, "the boat has the package")


def _large_statement(signer: Member, place: int) -> bytes:
    """A statement of nearly the most bytes that one may have."""
    digest = sha256(b"large %d" % place)
    file = FileEntry("a.jpg", "image/jpeg", 1_000 * 65_536, ObjectId(digest), tuple([digest] * 250))
    files = tuple(replace(file, name=f"{n}.jpg", sha256=ObjectId(sha256(digest + bytes([n])))) for n in range(6))
    who = signer.identity
    package = Package(who.election, TPS, FORM, 2 + place, StatementId(RecordId(digest)), 0, files)
    return sign_statement(package, who.uri, who.certificate, signer.key)


async def test_hundreds_of_nodes_that_are_not_there_do_not_crowd_out_one_that_is(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    await asyncio.to_thread(island.submit, waters.photo(3_000), tps=TPS, form=FORM)
    await asyncio.to_thread(island.start)
    home = Home(boat.home)
    member = home.member()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        async with home.custody() as custody:
            context = client_context(home.certificate_file, home.key_file, member.root, custody.admission.identify)
            contacts = Contacts(custody, context, lambda: as_node(boat)[1], Claims())
            try:
                for place in range(2 * MAX_NEIGHBOURS):
                    contacts.seen(sha256(place.to_bytes(4)).hex(), [nowhere])
                there = as_node(island)[1].node.hex()
                contacts.seen(there, [f"127.0.0.1:{waters.ports['island']}"])
                async with asyncio.timeout(30):
                    while not await custody.store.awaiting_receipt(b"", 1):
                        await custody.news.wait(custody.news.count, 1.0)
            finally:
                with suppress(asyncio.CancelledError):
                    await contacts.close()


async def test_false_addresses_of_a_neighbour_do_not_push_the_true_one_aside(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    await asyncio.to_thread(island.start)
    home = Home(boat.home)
    member = home.member()
    there = as_node(island)[1].node.hex()
    async with home.custody() as custody:
        context = client_context(home.certificate_file, home.key_file, member.root, custody.admission.identify)
        contacts = Contacts(custody, context, lambda: as_node(boat)[1], Claims())
        try:
            contacts.seen(there, [f"127.0.0.1:{waters.ports['island']}"])
            async with asyncio.timeout(30):
                while not any(one.connected for one in await custody.store.peers()):  # noqa: ASYNC110 - nothing rings
                    await asyncio.sleep(0.05)
            for place in range(20):
                contacts.seen(there, [f"127.0.0.1:{1000 + place}"])
            await asyncio.to_thread(island.submit, waters.photo(3_000), tps=TPS, form=FORM)
            async with asyncio.timeout(30):
                while not await custody.store.awaiting_receipt(b"", 1):
                    await custody.news.wait(custody.news.count, 1.0)
        finally:
            await contacts.close()
