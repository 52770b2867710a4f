"""A greeting is believed only as far as the certificate goes: nobody passes for another node or another role."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.errors import Refused, Unreachable
from relay.limits import STREAMS
from relay.net import client
from relay.net.client import HttpPeer
from relay.net.server import SyncServer
from relay.net.sockets import listen
from relay.net.tls import server_context
from relay.node.home import Home
from relay.records.identifiers import NodeId, ObjectId
from relay.sync.claims import Claims
from relay.sync.host import Host
from relay.sync.messages import Greeting, Hello
from relay.sync.peer import Frame
from relay.trust.admission import Admission
from relay.trust.roles import Role
from tests.e2e.visitors import as_node
from tests.e2e.world import Cable, World
from tests.processes import eventually

_ESTABLISHED = "01"


@asynccontextmanager
async def greeting_as(home: Home, said: Hello) -> AsyncIterator[str]:
    """A node that answers with its own certificate and any greeting; its address."""
    member = home.member()
    identify = Admission(member.root).identify
    context = server_context(home.certificate_file, home.key_file, member.root, identify)
    async with home.custody() as custody:
        server = SyncServer(
            lambda identity: Host(custody, lambda: said, identity.node.hex(), Claims(), time.monotonic),
            identify,
            context,
        )
        listening = listen("127.0.0.1:0")
        port = listening.getsockname()[1]
        await server.start(listening)
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            await server.stop()


@pytest.mark.parametrize(("role", "made"), [("carrier", 1 + STREAMS), ("receiver", 1)])
async def test_connections_for_content_are_made_beside_the_greeting(tmp_path: Path, role: str, made: int) -> None:
    """Where content is expected. A receiver has many visitors, and is spared."""
    with World(tmp_path) as world:
        host, visitor = world.box("host", role), world.box("visitor", "carrier")
        _, truth = as_node(host)
        context, mine = as_node(visitor)
        async with greeting_as(Home(host.home), truth) as url, HttpPeer(url, context) as peer:
            peer.prepare()
            await peer.hello(Greeting(mine))
            await peer.news(-1, 0)  # one more call, over the connection that is there
            await asyncio.to_thread(eventually, lambda: _connections_to(url) == made, 10, f"{made} connections")


async def test_who_answers_at_an_address_is_known_before_anything_is_said_there(tmp_path: Path) -> None:
    """And the greeting goes over the connection by which that was seen."""
    with World(tmp_path) as world:
        host, visitor = world.box("host", "carrier"), world.box("visitor", "carrier")
        _, truth = as_node(host)
        context, mine = as_node(visitor)
        async with greeting_as(Home(host.home), truth) as url, HttpPeer(url, context) as peer:
            assert await peer.meet() == truth.node
            await peer.hello(Greeting(mine))
            assert _connections_to(url) == 1
        with pytest.raises(Unreachable):
            async with HttpPeer(url, context) as peer:
                await peer.meet()


def _connections_to(url: str) -> int:
    """How many connections to a port of this machine there are, as the kernel knows."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(port) and line[3] == _ESTABLISHED for line in lines)


@pytest.mark.parametrize("lie", [{"node": NodeId(bytes(32))}, {"name": "ferry"}, {"role": Role.RECEIVER}])
async def test_nobody_greets_as_what_the_certificate_does_not_say(tmp_path: Path, lie: dict[str, Any]) -> None:
    with World(tmp_path) as world:
        impostor, visitor = world.box("impostor", "carrier"), world.box("visitor", "carrier")
        _, truth = as_node(impostor)
        context, mine = as_node(visitor)
        async with greeting_as(Home(impostor.home), truth) as url, HttpPeer(url, context) as peer:
            assert (await peer.hello(Greeting(mine))).hello.name == "impostor"
        async with greeting_as(Home(impostor.home), replace(truth, **lie)) as url, HttpPeer(url, context) as peer:
            with pytest.raises(Refused) as refused:
                await peer.hello(Greeting(mine))
            assert refused.value.reason == "false-greeting"


@asynccontextmanager
async def greeted_over_a_cable(folder: Path) -> AsyncIterator[tuple[Cable, HttpPeer]]:
    """A way to a node that can be cut, and a visitor that greeted over it."""
    with World(folder) as world:
        host, visitor = world.box("host", "carrier"), world.box("visitor", "carrier")
        _, truth = as_node(host)
        context, mine = as_node(visitor)
        async with greeting_as(Home(host.home), truth) as url:
            cable = Cable(int(url.rpartition(":")[2]), 1_000_000)
            async with HttpPeer(f"https://127.0.0.1:{cable.port}", context) as peer:
                await peer.hello(Greeting(mine))
                yield cable, peer
            cable.close()


async def test_what_a_broken_call_had_not_sent_is_never_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that comes back would bring it beside what the next visit sends."""
    monkeypatch.setattr(client, "STALL_SECONDS", 0.1)
    async with greeted_over_a_cable(tmp_path) as (cable, peer):

        async def frames() -> AsyncIterator[Frame]:
            for index in range(64):
                cable.cut.set()
                yield ObjectId(bytes(32)), index, bytes(64 << 10)

        with pytest.raises(Unreachable):
            await peer.put_chunks(frames())
        await peer.close()
        assert await asyncio.to_thread(cable.was_reset)


async def test_a_contact_that_is_over_ends_without_a_reset(tmp_path: Path) -> None:
    """Whatever stands between two nodes tells its operators of resets."""
    async with greeted_over_a_cable(tmp_path) as (cable, peer):
        await peer.close()
        assert not await asyncio.to_thread(cable.was_reset)
