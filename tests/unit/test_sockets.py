"""Sockets: endpoints are read strictly, ports that cannot be used say why, connections are tuned for short contacts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, Unreachable
from relay.net.sockets import Endpoint, client_socket, listen, parse_endpoint


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="IPv6 is switched off on this machine")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("[::]:8470", "::", 8470),
        ("0.0.0.0:8480", "0.0.0.0", 8480),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[fe80::1%wlan0]:8470", "fe80::1%wlan0", 8470),
        ("[2001:db8::7]:65535", "2001:db8::7", 65535),
        ("receiver.example:443", "receiver.example", 443),
    ],
)
def test_endpoints_are_read(text: str, host: str, port: int) -> None:
    assert parse_endpoint(text) == Endpoint(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8470",
        ":8470",
        "host:",
        "host:65536",
        "host:-1",
        "host: 8470",
        "host:8470 ",
        "host:8470\n",
        "host:٨٤٧٠",
        "::1:8470",
        "[::1]",
        "[:::]:8470",
        "[12345::]:8470",
        "[fe80::1%]:8470",
        "[fe80::1%a/b]:8470",
        "[127.0.0.1]:8470",
        "[host]:8470",
        "-host:8470",
        "https://host:8470",
        "a" * 300 + ":8470",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_endpoint(text)
    assert "[fe80::1%wlan0]:8470" in refused.value.advice
    assert len(refused.value.what) < 200


@given(st.text(max_size=400))
def test_any_text_is_an_endpoint_or_bad_input(text: str) -> None:
    with suppress(BadInput):
        assert 0 <= parse_endpoint(text).port <= 65_535


@given(st.integers(0, 2**128 - 1).map(IPv6Address), st.integers(0, 65_535))
def test_any_ipv6_address_is_read(address: IPv6Address, port: int) -> None:
    assert parse_endpoint(f"[{address}]:{port}") == Endpoint(str(address), port)


@needs_ipv6
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_all_addresses_means_both_families(family: int, address: str) -> None:
    with listen("[::]:0") as listening, socket.socket(family, socket.SOCK_STREAM) as visitor:
        visitor.connect((address, listening.getsockname()[1]))


@needs_ipv6
def test_one_address_means_that_one_alone() -> None:
    visitor = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listen("[::1]:0") as listening, visitor, pytest.raises(ConnectionRefusedError):
        visitor.connect(("127.0.0.1", listening.getsockname()[1]))


def test_without_ipv6_all_addresses_are_the_ipv4_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldKernel(socket.socket):
        def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest, **named)

    monkeypatch.setattr("relay.net.sockets.socket.socket", OldKernel)
    with listen("[::]:0") as listening:
        assert listening.family == socket.AF_INET
    with pytest.raises(Unreachable, match="not supported"):
        listen("[::1]:0")


def test_a_port_that_is_taken_says_so() -> None:
    with listen("127.0.0.1:0") as first:
        port = first.getsockname()[1]
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port} is taken") as refused:
            listen(f"127.0.0.1:{port}")
    assert "Another program" in refused.value.advice


def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(Unreachable) as refused:
        listen("192.0.2.1:8470")
    assert "not one of this machine's" in refused.value.advice


def test_a_port_that_is_not_permitted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unprivileged(socket.socket):
        def bind(self, _address: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("relay.net.sockets.socket.socket", Unprivileged)
    with pytest.raises(Unreachable) as refused:
        listen("127.0.0.1:443")
    assert "above 1023" in refused.value.advice


def test_a_zone_that_is_not_there_says_so() -> None:
    with pytest.raises(BadInput, match="cannot be resolved"):
        listen("[fe80::1%nowhere0]:8470")


@pytest.fixture
def accepted() -> Iterator[socket.socket]:
    """The listening side of a connection, tuned by inheritance alone."""
    with listen("127.0.0.1:0") as listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(True)
        connection, _ = listening.accept()
        with connection:
            yield connection


def _options(sock: socket.socket) -> dict[str, int]:
    return {
        "nodelay": bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
        "user timeout": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        "keepalive": bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        "idle": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        "interval": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        "count": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    }


TUNED = {"nodelay": True, "user timeout": 3_000, "keepalive": True, "idle": 1, "interval": 1, "count": 3}

needs_linux = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="these options are Linux's")


@needs_linux
def test_accepted_connections_inherit_the_tuning(accepted: socket.socket) -> None:
    assert _options(accepted) == TUNED


@needs_linux
def test_connections_to_come_are_tuned() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 8470))
    with client_socket(address) as connecting:
        assert _options(connecting) == TUNED
        assert not connecting.getblocking()
        assert not connecting.get_inheritable()


@needs_linux
def test_bbr_is_used_where_the_kernel_lets_us() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        expected = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        with suppress(OSError):
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
            expected = b"bbr".ljust(16, b"\0")
    with listen("127.0.0.1:0") as listening:
        used = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    assert used.rstrip(b"\0") == expected.rstrip(b"\0")
