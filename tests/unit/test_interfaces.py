"""Interfaces: which count, with which addresses, and that a change is told at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import ifaddr
import pytest

from relay.limits import MAX_ADDRESSES, MAX_INTERFACES
from relay.net import interfaces
from relay.net.interfaces import Interface, list_interfaces, read_unusable, watch_interfaces

UP = 0x1 | 0x40 | 0x1000
LOOPBACK = 0x1 | 0x8 | 0x40

# Lines of /proc/net/if_inet6: permanent, tentative, tentative and optimistic, refused by duplicate address detection
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80     lo
fe8000000000000000000000000000a1 02 40 20 80  wlan0
fe8000000000000000000000000000b2 03 40 20 c0  wlan1
fe8000000000000000000000000000c3 04 40 20 c4  wlan2
fe8000000000000000000000000000d4 05 40 20 c8  wlan3
20010db8000000000000000000000001 02 40 00 40  wlan0
"""


def test_addresses_in_duplicate_address_detection_are_unusable() -> None:
    assert read_unusable(IF_INET6) == {("wlan1", "fe80::b2"), ("wlan3", "fe80::d4"), ("wlan0", "2001:db8::1")}


def test_the_loopback_counts_only_by_name() -> None:
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    assert loopback not in [one.name for one in list_interfaces()]
    [named] = list_interfaces([loopback])
    assert "127.0.0.1" in named.addresses
    assert named.index == socket.if_nametoindex(loopback)


def test_a_name_that_is_not_there_gives_nothing() -> None:
    assert list_interfaces(["nowhere0"]) == []


def test_flags_are_the_kernels() -> None:
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    flags = interfaces._flags(loopback)
    assert flags is not None
    assert flags & LOOPBACK == LOOPBACK
    assert interfaces._flags("nowhere0") is None


def _adapter(name: str, index: int, *addresses: str) -> ifaddr.Adapter:
    ips = [ifaddr.IP((one, 0, index) if ":" in one else one, 64, name) for one in addresses]
    return ifaddr.Adapter(name, name, ips, index)


class FakeSystem:
    """Adapters and flags as the tests want them."""

    def __init__(self) -> None:
        self.adapters: list[ifaddr.Adapter] = []
        self.flags: dict[str, int] = {}
        self.unusable: set[tuple[str, str]] = set()

    def add(self, name: str, index: int, *addresses: str, flags: int = UP) -> None:
        self.adapters.append(_adapter(name, index, *addresses))
        self.flags[name] = flags


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    fake = FakeSystem()
    monkeypatch.setattr(interfaces, "_adapters", lambda: fake.adapters)
    monkeypatch.setattr(interfaces, "_flags", fake.flags.get)
    monkeypatch.setattr(interfaces, "_unusable_addresses", lambda: fake.unusable)
    return fake


def test_link_local_comes_first_and_has_its_zone(system: FakeSystem) -> None:
    system.add("wlan0", 3, "10.0.0.7", "2001:db8::7", "fe80::7")
    assert list_interfaces() == [Interface("wlan0", 3, ("fe80::7%wlan0", "2001:db8::7", "10.0.0.7"))]


@pytest.mark.parametrize("missing", [0x1, 0x40, 0x1000])
def test_down_without_carrier_or_multicast_does_not_count(system: FakeSystem, missing: int) -> None:
    system.add("wlan0", 3, "fe80::7", flags=UP & ~missing)
    assert list_interfaces() == []


def test_what_has_no_usable_address_does_not_count(system: FakeSystem) -> None:
    system.add("wlan0", 3, "fe80::7")
    system.add("wlan1", 4, "fe80::7")
    system.unusable = {("wlan0", "fe80::7")}
    assert [one.name for one in list_interfaces()] == ["wlan1"]


def test_labels_belong_to_their_interface(system: FakeSystem) -> None:
    system.add("eth0", 2, "10.0.0.7")
    system.add("eth0:1", 2, "10.0.0.8")
    assert list_interfaces() == [Interface("eth0", 2, ("10.0.0.7", "10.0.0.8"))]


def test_only_the_named_ones(system: FakeSystem) -> None:
    system.add("wlan0", 3, "fe80::7")
    system.add("eth0", 2, "fe80::8")
    assert [one.name for one in list_interfaces(["wlan0"])] == ["wlan0"]


def test_many_interfaces_and_addresses_are_bounded(system: FakeSystem) -> None:
    for index in range(1, MAX_INTERFACES + 10):
        system.add(f"eth{index}", index, *(f"fe80::{n:x}" for n in range(1, MAX_ADDRESSES + 10)))
    listed = list_interfaces()
    assert len(listed) == MAX_INTERFACES
    assert {len(one.addresses) for one in listed} == {MAX_ADDRESSES}


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Rings, in place of the kernel, the bell that the watch hears."""
    ringing, heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.setblocking(False)
    monkeypatch.setattr(interfaces, "_open_bell", lambda: heard)
    with ringing, heard:
        yield ringing


async def _next(watch: AsyncIterator[list[Interface]]) -> list[str]:
    return [one.name for one in await anext(watch)]


async def test_the_watch_tells_the_list_at_once_and_each_change(system: FakeSystem, bell: socket.socket) -> None:
    watch = watch_interfaces()
    assert await _next(watch) == []
    system.add("wlan0", 3, "fe80::7")
    bell.send(b"RTM_NEWLINK")
    bell.send(b"RTM_NEWADDR")
    assert await _next(watch) == ["wlan0"]
    bell.send(b"a change that changes nothing")
    system.flags["wlan0"] = 0
    bell.send(b"RTM_DELLINK")
    assert await _next(watch) == []


async def test_without_netlink_the_watch_polls(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_open_bell", lambda: None)
    monkeypatch.setattr(interfaces, "INTERFACE_POLL_SECONDS", 0.0)
    watch = watch_interfaces()
    assert await _next(watch) == []
    system.add("wlan0", 3, "fe80::7")
    assert await _next(watch) == ["wlan0"]


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="rtnetlink is Linux's")
def test_the_bell_is_the_kernels_where_it_lets_us() -> None:
    bell = interfaces._open_bell()
    if bell is None:
        pytest.skip("this system does not let its users listen to rtnetlink")
    with bell:
        assert bell.getsockname()[1] == 0x1 | 0x10 | 0x100


def test_a_bell_that_may_not_be_heard_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("relay.net.interfaces.socket.socket", denied)
    assert interfaces._open_bell() is None
