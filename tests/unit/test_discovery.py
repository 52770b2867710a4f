"""Discovery over real multicast on the loopback interface: who finds whom, who is lost, and what strangers cannot do.

Link-local IPv6 between network namespaces is tested where there is root.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest
from zeroconf import DNSIncoming  # type: ignore[attr-defined]  # can be imported, yet is not in its __all__
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from relay.net import discovery, sightings
from relay.net.discovery import Discovery, Sighting
from relay.net.interfaces import Interface
from relay.net.sightings import SERVICE

PATIENCE = 10.0
LOOPBACK = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
LO = Interface(LOOPBACK, 1, ("127.0.0.1",))


def _multicast_works() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            probe.bind(("127.0.0.1", 0))
            probe.sendto(b"", ("224.0.0.251", 9))
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not _multicast_works(), reason="the loopback interface does not multicast here")


class Node:
    """A node with discovery, and what it was told."""

    _numbers = itertools.count(8470)

    def __init__(self, tag: str) -> None:
        self.id = secrets.token_hex(32)
        self.port = next(self._numbers)
        self.found: dict[str, Sighting] = {}
        self.lost: list[str] = []
        self._told = asyncio.Event()
        self.discovery = Discovery(self.id, tag, self.port, self._find, self._lose)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._told.clear()
                await self._told.wait()

    async def finds(self, other: Node) -> Sighting:
        await self.until(lambda: other.id in self.found)
        return self.found[other.id]

    def _find(self, sighting: Sighting) -> None:
        self.found[sighting.node] = sighting
        self._told.set()

    def _lose(self, node: str) -> None:
        self.lost.append(node)
        self._told.set()


@pytest.fixture
def tag() -> str:
    return secrets.token_hex(4)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def _start(stack: AsyncExitStack, tag: str) -> Node:
    node = Node(tag)
    stack.push_async_callback(node.discovery.close)
    await node.discovery.update([LO])
    return node


async def test_two_nodes_find_each_other(stack: AsyncExitStack, tag: str) -> None:
    first, second = await _start(stack, tag), await _start(stack, tag)
    assert await first.finds(second) == Sighting(second.id, ("127.0.0.1",), second.port, LOOPBACK)
    assert await second.finds(first) == Sighting(first.id, ("127.0.0.1",), first.port, LOOPBACK)
    assert first.id not in first.found


async def test_other_elections_are_not_seen(stack: AsyncExitStack, tag: str) -> None:
    other_tag = f"{int(tag, 16) ^ 1:08x}"
    first, stranger = await _start(stack, tag), await _start(stack, other_tag)
    second, witness = await _start(stack, tag), await _start(stack, other_tag)
    await witness.finds(stranger)
    await second.finds(first)
    assert set(second.found) == {first.id}
    assert set(witness.found) == {stranger.id}


async def test_a_goodbye_is_heard(stack: AsyncExitStack, tag: str) -> None:
    first, second = await _start(stack, tag), await _start(stack, tag)
    await first.finds(second)
    await second.discovery.close()
    await first.until(lambda: second.id in first.lost)


async def test_other_addresses_are_told_without_a_goodbye(stack: AsyncExitStack, tag: str) -> None:
    first, second = await _start(stack, tag), await _start(stack, tag)
    await first.finds(second)
    await second.discovery.update([Interface(LO.name, LO.index, ("127.0.0.1", "127.0.0.2"))])
    await first.until(lambda: "127.0.0.2" in first.found[second.id].addresses)
    assert not first.lost
    assert not second.lost


async def test_a_link_that_goes_says_no_goodbye(stack: AsyncExitStack, tag: str) -> None:
    island, boat = await _start(stack, tag), await _start(stack, tag)
    await island.finds(boat)
    await boat.finds(island)
    await boat.discovery.update([])
    assert boat.lost == [island.id]
    await boat.discovery.close()
    await island.finds(await _start(stack, tag))  # whatever the boat may have said is heard by now
    assert not island.lost


async def test_a_known_announcement_is_a_sign_of_life(
    stack: AsyncExitStack, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "SIGHTING_SECONDS", 0.0)
    island, boat = await _start(stack, tag), await _start(stack, tag)
    await island.finds(boat)
    island.found.clear()
    _hear_again(island, boat)
    assert set(island.found) == {boat.id}


def _hear_again(hearing: Node, saying: Node) -> None:
    """Let one node hear the other's announcement as it was, in bytes."""
    [heard], [said] = hearing.discovery._links.values(), saying.discovery._links.values()
    assert heard._mdns is not None
    assert said._mdns is not None
    assert said._info is not None
    [packet] = said._mdns.zeroconf.generate_service_broadcast(said._info, None).packets()
    heard._mdns.zeroconf.record_manager.async_updates_from_response(DNSIncoming(packet))


async def test_an_interface_that_cannot_be_used_is_left_out(
    stack: AsyncExitStack, tag: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Node(tag)
    stack.push_async_callback(first.discovery.close)
    await first.discovery.update([Interface("nowhere0", 99, ("192.0.2.1",)), LO])
    assert "no discovery on nowhere0" in caplog.text
    await first.finds(await _start(stack, tag))


async def test_a_start_that_is_cancelled_leaves_nothing_open(
    stack: AsyncExitStack, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: list[AsyncZeroconf] = []
    started = asyncio.Event()

    class Slow(AsyncZeroconf):
        async def async_register_service(self, *_arguments: object, **_named: object) -> Awaitable[None]:
            slow.append(self)
            started.set()
            await asyncio.Event().wait()
            raise AssertionError("never")

    monkeypatch.setattr(discovery, "AsyncZeroconf", Slow)
    node = Node(tag)
    starting = asyncio.create_task(node.discovery.update([LO]))
    async with asyncio.timeout(PATIENCE):
        await started.wait()
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    await node.discovery.close()
    assert slow[0].zeroconf.done


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"id": "f" * 64},
        {"id": "../../etc/passwd"},
        {"v": "9"},
        {"padding": "x" * 240, "more": "x" * 240, "still": "x" * 240},
    ],
)
async def test_malformed_announcements_are_ignored(
    stack: AsyncExitStack, tag: str, wrong: dict[str, str | None]
) -> None:
    node = await _start(stack, tag)
    stranger = await stack.enter_async_context(AsyncZeroconf(interfaces=["127.0.0.1"]))
    honest, hostile = "0" * 64, "1" * 64
    for identity, changes in ((hostile, wrong), (honest, {})):
        info = AsyncServiceInfo(
            SERVICE,
            f"{identity[:16]}.{SERVICE}",
            port=1,
            properties={"v": "1", "id": identity, "e": tag, **changes},
            server=f"{identity[:16]}.local.",
            parsed_addresses=["127.0.0.9"],
        )
        await (await stranger.async_register_service(info, cooperating_responders=True))
    await node.until(lambda: honest in node.found)
    assert set(node.found) == {honest}


def test_one_address_of_each_family_is_bound() -> None:
    wlan = Interface("wlan0", 3, ("fe80::1%wlan0", "2001:db8::1", "10.0.0.1", "10.0.0.2"))
    assert discovery._choice(wlan, [wlan]) == ["10.0.0.1", "fe80::1"]


def test_a_link_local_address_on_two_interfaces_is_told_apart_by_index() -> None:
    first, second = Interface("eth0", 2, ("fe80::1%eth0",)), Interface("eth0.7", 5, ("fe80::1%eth0.7",))
    assert discovery._choice(second, [first, second]) == [5]
