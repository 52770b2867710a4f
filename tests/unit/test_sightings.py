"""Sightings: what an announcement may claim, who is in sight, and that neither grows without bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import MAX_ADDRESSES, MAX_SIGHTINGS, SIGHTING_SECONDS
from relay.net.interfaces import Interface
from relay.net.sightings import SERVICE, Sighting, Sightings, instance_of, read_sighting, service_name

NODE = "0123456789abcdef" * 4
TAG = "5eed0001"
WLAN = Interface("wlan0", 3, ("fe80::1%wlan0", "10.0.0.1"))
HONEST: dict[bytes, bytes | None] = {b"v": b"1", b"id": NODE.encode(), b"e": TAG.encode()}


def _read(
    properties: dict[bytes, bytes | None] = HONEST,
    addresses: tuple[str, ...] = ("fe80::2",),
    port: int | None = 8470,
    interface: Interface = WLAN,
) -> Sighting | None:
    return read_sighting(NODE[:16], properties, addresses, port, TAG, interface)


def test_an_announcement_is_read() -> None:
    addresses = ("10.0.0.2", "2001:db8::2", "fe80::2")
    expected = ("fe80::2%wlan0", "2001:db8::2", "10.0.0.2")
    assert _read(addresses=addresses) == Sighting(NODE, expected, 8470, "wlan0")


@pytest.mark.parametrize("zone", ["", "%3", "%wlan0"])
def test_a_link_local_address_is_on_the_link_it_was_heard_on(zone: str) -> None:
    sighting = _read(addresses=(f"fe80::2{zone}",))
    assert sighting is not None
    assert sighting.addresses == ("fe80::2%wlan0",)


@pytest.mark.parametrize("zone", ["%4", "%eth7", "%wlan0%wlan0"])
def test_what_was_heard_on_another_link_is_left_out(zone: str) -> None:
    assert _read(addresses=(f"fe80::2{zone}",)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {b"e": b"5eed0002"},
        {b"e": None},
        {b"v": b"2"},
        {b"v": None},
        {b"id": None},
        {b"id": b""},
        {b"id": NODE[:-1].encode()},
        {b"id": NODE.upper().encode()},
        {b"id": ("f" * 64).encode()},
        {b"id": NODE.encode() * 10},
        {b"id": b"\xff" * 64},
    ],
)
def test_other_elections_and_malformed_claims_are_no_sightings(wrong: dict[bytes, bytes | None]) -> None:
    assert _read(HONEST) is not None
    assert _read({**HONEST, **wrong}) is None


@pytest.mark.parametrize("port", [None, 0, -1, 65_536])
def test_a_port_that_is_none_is_no_sighting(port: int | None) -> None:
    assert _read(port=port) is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255", "::ffff:127.0.0.1", "host", ""],
)
def test_addresses_that_lead_nowhere_or_home_are_left_out(address: str) -> None:
    assert _read(addresses=(address,)) is None
    beside = _read(addresses=(address, "10.0.0.2"))
    assert beside is not None
    assert beside.addresses == ("10.0.0.2",)


def test_on_the_loopback_interface_its_addresses_count() -> None:
    sighting = _read(addresses=("127.0.0.2",), interface=Interface("lo", 1, ("127.0.0.1",)))
    assert sighting is not None
    assert sighting.addresses == ("127.0.0.2",)


def test_addresses_are_bounded() -> None:
    sighting = _read(addresses=tuple(f"10.0.0.{n}" for n in range(200)))
    assert sighting is not None
    assert len(sighting.addresses) == MAX_ADDRESSES


@given(
    st.dictionaries(st.binary(max_size=64) | st.sampled_from([b"v", b"id", b"e"]), st.none() | st.binary(max_size=300)),
    st.lists(st.text(max_size=60), max_size=20),
    st.none() | st.integers(),
)
def test_any_claim_is_a_sighting_or_nothing(
    properties: dict[bytes, bytes | None], addresses: list[str], port: int | None
) -> None:
    sighting = read_sighting(NODE[:16], properties, addresses, port, TAG, WLAN)
    assert sighting is None or sighting.node == NODE


def test_names_of_nodes_are_known() -> None:
    assert instance_of(service_name(NODE)) == NODE[:16]
    assert instance_of(service_name(NODE).upper()) == NODE[:16]


@pytest.mark.parametrize(
    "name",
    [
        "",
        SERVICE,
        f"printer.{SERVICE}",
        f"{NODE}.{SERVICE}",
        f"{NODE[:16]}._http._tcp.local.",
        f"x{service_name(NODE)}",
    ],
)
def test_other_names_are_not(name: str) -> None:
    assert instance_of(name) is None


class Told:
    """What `found` and `lost` were called with, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.sightings = Sightings(self.events.append, self.events.append)

    def take(self) -> list[Any]:
        events = self.events.copy()
        self.events.clear()
        return events


def _sighting(node: str = NODE, interface: str = "wlan0", port: int = 8470) -> Sighting:
    return Sighting(node, ("10.0.0.2",), port, interface)


def test_signs_of_life_are_told_now_and_then_and_news_at_once() -> None:
    told = Told()
    told.sightings.seen(_sighting(), 10.0)
    told.sightings.seen(_sighting(), 10.0 + SIGHTING_SECONDS / 2)
    assert told.take() == [_sighting()]
    told.sightings.seen(_sighting(port=8471), 10.0 + SIGHTING_SECONDS / 2)
    assert told.take() == [_sighting(port=8471)]
    told.sightings.seen(_sighting(port=8471), 10.0 + SIGHTING_SECONDS * 2)
    assert told.take() == [_sighting(port=8471)]


def test_a_node_is_lost_with_its_last_link() -> None:
    told = Told()
    told.sightings.seen(_sighting(interface="wlan0"), 0.0)
    told.sightings.seen(_sighting(interface="eth0"), 0.0)
    told.take()
    told.sightings.gone("wlan0", NODE[:16])
    assert told.take() == []
    told.sightings.gone("wlan0", NODE[:16])
    assert told.take() == []
    told.sightings.gone("eth0", NODE[:16])
    assert told.take() == [NODE]


def test_a_goodbye_counts_for_its_name_alone() -> None:
    told = Told()
    told.sightings.seen(_sighting(), 0.0)
    told.take()
    told.sightings.gone("wlan0", "f" * 16)
    assert told.take() == []


def test_with_an_interface_go_those_seen_on_it() -> None:
    told = Told()
    other = "f" * 64
    told.sightings.seen(_sighting(), 0.0)
    told.sightings.seen(_sighting(other, "eth0"), 0.0)
    told.take()
    told.sightings.keep({"eth0"})
    assert told.take() == [NODE]


def test_the_longest_silent_makes_room() -> None:
    told = Told()
    nodes = [f"{n:064x}" for n in range(MAX_SIGHTINGS)]
    for node in nodes:
        told.sightings.seen(_sighting(node), 0.0)
    told.sightings.seen(_sighting(nodes[0]), 0.1)
    told.take()
    told.sightings.seen(_sighting("f" * 64), 0.2)
    assert told.take() == [nodes[1], _sighting("f" * 64)]
    assert len(told.sightings) == MAX_SIGHTINGS
