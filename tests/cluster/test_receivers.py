"""Several receivers of one identity keep the promises together, whoever of them is killed, and whatever is away.

Real daemons on a real PostgreSQL and a real S3 service, behind a balancer, with boats that deliver all the while. What
`tests.cluster.traffic` looks at holds after each of these tests: nothing acknowledged is lost, every package has one
entry and its receipt, every checkpoint that anybody saw begins the next one, and `relay audit` finds the log right.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from relay.errors import Refused, Unreachable
from relay.limits import MAX_INQUIRY_WAIT, MAX_RECORD
from relay.net.client import HttpPeer
from relay.records.identifiers import Kind, receipt_id
from relay.store.layouts import chunk_count, span
from relay.sync.messages import Greeting, Inquiry
from tests.boxes import NodeBox
from tests.cluster.balancer import why_not
from tests.cluster.company import NAME, START_SECONDS, Company, company
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.cluster.traffic import PHOTO, crew, grown, traffic, until
from tests.factory import object_of
from tests.fleet import Ship, each
from tests.processes import POLL_SECONDS

BUCKET_AWAY_SECONDS = 60.0
"""How long the S3 service is away."""
RULES_SECONDS = 5.0
TAKEN_OVER_SECONDS = 10.0
"""Within this time another receiver sequences when the one that did is no more."""


@pytest.fixture(scope="module")
def built(postgres: Postgres, swift: Swift) -> Iterator[Company]:
    """Two receivers for all tests of this module."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="relay-receivers-") as folder, company(Path(folder), postgres, swift) as it:
        yield it


@pytest.fixture
def receivers(built: Company, postgres: Postgres, swift: Swift) -> Company:
    """All of them at work."""
    built.start()
    built.known_leader()
    return built


async def taken_over(receivers: Company, old: NodeBox) -> None:
    """Wait until the log grows under a receiver that is not `old`; as long as the design allows."""
    began = time.monotonic()

    def led() -> bool:
        leader = receivers.leader()
        return leader is not None and leader is not old

    await until(led, TAKEN_OVER_SECONDS, "another receiver leads")
    size = await asyncio.to_thread(receivers.size)
    await until(lambda: receivers.size() > size, TAKEN_OVER_SECONDS, "it sequences")
    seconds = time.monotonic() - began
    print(f"taken over after {seconds:.1f} s")
    assert seconds <= TAKEN_OVER_SECONDS


def others(receivers: Company, one: NodeBox) -> list[NodeBox]:
    """All receivers but one."""
    return [box for box in receivers.boxes if box is not one]


def fetch(port: int, path: str) -> bytes:
    """A file at a public port; empty where there is none."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as response:
        content: bytes = response.read()
        return content
    return b""


def ready(port: int) -> int:
    """What a receiver answers to a balancer that asks whether it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def site_entries(port: int) -> int:
    """How many entries the site at a public port has taken in."""
    return int(json.loads(fetch(port, "site.json") or b"{}").get("entries", -1))


async def is_refused(url: str, ship: Ship, context: ssl.SSLContext) -> bool:
    """Whether a receiver has no more to do with a ship."""
    async with HttpPeer(url, context) as peer:
        try:
            await peer.hello(Greeting(ship.greeting()))
        except (Refused, Unreachable):
            return True
    return False


async def test_promise_6_two_receivers_keep_one_log(receivers: Company) -> None:
    async with traffic(receivers) as (running, _):
        await grown(receivers, 60)
    assert running.account.cut == 0


async def test_promise_6_chunks_of_one_package_come_to_different_receivers(receivers: Company) -> None:
    async with crew(receivers) as (ship,):
        contents = [receivers.office.content(PHOTO) for _ in range(3)]
        statement = await ship.submit(*contents)
        context = receivers.context(ship)
        async with HttpPeer(receivers.urls[0], context) as one, HttpPeer(receivers.urls[1], context) as other:
            records = await ship.store.read([statement], MAX_RECORD)
            assert (await one.put_records([(kind, raw) for kind, _, raw in records])).outcomes == ["new"]
            for content in contents:
                for index in range(chunk_count(PHOTO)):
                    offset, length = span(PHOTO, index)
                    chunk = (object_of(content), index, content[offset : offset + length])
                    assert await (one, other)[index % 2].put_chunks(each([chunk])) == 1
            inquiry = Inquiry((statement,), wait=MAX_INQUIRY_WAIT)
            assert (await other.inquire(inquiry)).ready == (statement,)
            assert [kind for kind, _ in (await one.get_records([receipt_id(statement)])).records] == [Kind.RECEIPT]
        assert (await asyncio.to_thread(receivers.logged))[-1] == statement
        report = await asyncio.to_thread(receivers.audit)
        assert report["checked"]["objects"] >= len(contents)


@pytest.mark.parametrize("whose", ["leader", "follower"])
async def test_promises_5_and_6_a_receiver_is_killed(receivers: Company, whose: str) -> None:
    async with traffic(receivers) as (_, onlookers):
        await grown(receivers)
        leader = receivers.known_leader()
        victim = leader if whose == "leader" else others(receivers, leader)[0]
        victim.kill()
        await taken_over(receivers, victim)
        await grown(receivers)
    assert onlookers.sizes == sorted(onlookers.sizes)
    left = receivers.public[receivers.boxes.index(others(receivers, victim)[0])]
    entries = site_entries(left)
    if entries < receivers.size():  # the site follows at its own pace
        await until(lambda: site_entries(left) > entries, 90, "the receiver that is left keeps the site")


async def test_promise_6_a_leader_that_hung_is_followed_and_does_no_harm_when_it_goes_on(receivers: Company) -> None:
    async with traffic(receivers) as (_, onlookers):
        await grown(receivers)
        leader = receivers.known_leader()
        assert leader.daemon is not None
        os.kill(leader.daemon.pid, signal.SIGSTOP)
        try:
            await taken_over(receivers, leader)
            await grown(receivers)
        finally:
            os.kill(leader.daemon.pid, signal.SIGCONT)
        await grown(receivers, 30)
        assert receivers.leader() is not leader
    assert onlookers.sizes == sorted(onlookers.sizes)


async def test_promise_6_a_leader_that_hung_and_leads_again_goes_on_where_its_follower_was(receivers: Company) -> None:
    async with traffic(receivers) as (_, onlookers):
        await grown(receivers)
        leader = receivers.known_leader()
        (follower,) = others(receivers, leader)
        assert leader.daemon is not None
        os.kill(leader.daemon.pid, signal.SIGSTOP)
        try:
            await taken_over(receivers, leader)
            await grown(receivers)
            await until(lambda: onlookers.sizes[-1] >= receivers.size() - 10, 30, "what the follower logged is shown")
            follower.kill()
        finally:
            os.kill(leader.daemon.pid, signal.SIGCONT)
        await grown(receivers, within=60)
        assert receivers.leader() is leader
        await asyncio.to_thread(follower.start, within=START_SECONDS)
    assert onlookers.sizes == sorted(onlookers.sizes)


@asynccontextmanager
async def stopped_within(receivers: Company, table: str, chosen: Callable[[NodeBox], bool]) -> AsyncIterator[NodeBox]:
    """A receiver hangs in the middle of the transaction in which it writes to this table, with all that it locked."""
    gate = await asyncpg.connect(receivers.database)
    transaction = gate.transaction()
    await transaction.start()
    await gate.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    victim: NodeBox | None = None

    def caught() -> NodeBox | None:
        return next(filter(chosen, receivers.waiting_for(table)), None)

    try:
        try:
            victim = await until(caught, 8, f"a receiver writes to {table}")
            assert victim is not None
            assert victim.daemon is not None
            os.kill(victim.daemon.pid, signal.SIGSTOP)
        finally:
            await transaction.rollback()
            await gate.close()
        yield victim
    finally:
        if victim is not None and victim.daemon is not None:
            os.kill(victim.daemon.pid, signal.SIGCONT)


async def test_promise_6_a_leader_that_hangs_within_a_batch_blocks_nobody(receivers: Company) -> None:
    async with traffic(receivers):
        await grown(receivers)
        leader = receivers.known_leader()
        async with stopped_within(receivers, "log", lambda box: box is leader):
            await taken_over(receivers, leader)
            await grown(receivers)
        await grown(receivers)


@pytest.mark.timeout(300)
async def test_promise_6_a_follower_that_hangs_while_it_takes_records_in_blocks_nobody(receivers: Company) -> None:
    async with traffic(receivers) as (running, _):
        await grown(receivers)
        leader = receivers.known_leader()
        async with stopped_within(receivers, "files", lambda box: box is not leader):
            made = set(running.account.made)
            # Each boat waits until it may end such a session: three times as long where the machine is busy.
            await until(lambda: made <= set(receivers.logged()), 120, "what the other one holds is logged")
        await grown(receivers)


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill], ids=["stopped", "killed"])
async def test_promise_5_the_database_goes_and_comes_back(
    receivers: Company, postgres: Postgres, end: Callable[[Postgres], None]
) -> None:
    processes = [box.daemon for box in receivers.boxes]
    async with traffic(receivers) as (running, onlookers):
        await grown(receivers)
        await asyncio.to_thread(end, postgres)
        try:
            cut = running.account.cut
            await until(lambda: running.account.cut > cut, 20, "a boat notices")
            await until(lambda: {ready(port) for port in receivers.public} == {503}, 10, "no receiver is ready")
        finally:
            await asyncio.to_thread(postgres.start)
        await grown(receivers)
        await until(lambda: {ready(port) for port in receivers.public} == {200}, 10, "all receivers are ready")
    assert onlookers.sizes == sorted(onlookers.sizes)
    assert [box.daemon for box in receivers.boxes] == processes
    assert all(one is not None and one.poll() is None for one in processes)


@pytest.mark.timeout(300)
async def test_promise_5_the_bucket_goes_for_a_minute_and_comes_back(
    receivers: Company, postgres: Postgres, swift: Swift
) -> None:
    """Tallies are logged all the while, also by a receiver that was killed, and when the database was away as well."""
    async with traffic(receivers) as (running, onlookers):
        await grown(receivers)
        await asyncio.to_thread(swift.stop)
        away = time.monotonic()
        try:
            await grown(receivers, 15)
            running.photos = False  # those that wait are enough: with fifty of them a boat would make nothing more
            leader = receivers.known_leader()
            leader.kill()
            await taken_over(receivers, leader)
            await asyncio.to_thread(leader.start, within=START_SECONDS)
            second = receivers.known_leader()
            second.kill()
            await taken_over(receivers, second)
            await asyncio.to_thread(second.start, within=START_SECONDS)
            await asyncio.to_thread(postgres.restart)
            await grown(receivers, 15)
            while time.monotonic() < away + BUCKET_AWAY_SECONDS:
                await grown(receivers, 1)
        finally:
            await asyncio.to_thread(swift.start)
        await until(lambda: receivers.published() >= receivers.size(), 60, "all is published")
    assert onlookers.sizes == sorted(onlookers.sizes)


async def test_every_receiver_serves_the_log_and_the_site(receivers: Company) -> None:
    async with traffic(receivers, boats=1):
        await grown(receivers)
    for port in receivers.public:
        await until(lambda port=port: site_entries(port) > 0, 30, f"there is a site at {port}")  # type: ignore[misc]
    entry = receivers.logged()[0]
    for path in ("checkpoint", "notices.pem", "index.html", "tile/0/000", f"statement/{entry.hex()}"):
        await until(
            lambda path=path: b"" != fetch(receivers.public[0], path) == fetch(receivers.public[1], path),  # type: ignore[misc]
            10,
            f"both receivers serve the same {path}",
        )


async def test_promise_1_a_revocation_that_one_receiver_hears_rules_at_all(receivers: Company) -> None:
    async with crew(receivers) as (ship,):
        context = receivers.context(ship)
        for url in receivers.urls:
            async with HttpPeer(url, context) as peer:
                assert (await peer.hello(Greeting(ship.greeting()))).hello.name == NAME
        await asyncio.to_thread(receivers.revoke, receivers.boxes[0], ship)
        async with asyncio.timeout(RULES_SECONDS):
            for url in receivers.urls:
                while not await is_refused(url, ship, context):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
