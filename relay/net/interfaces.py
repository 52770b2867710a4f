"""Network interfaces that come and go: which are up, with which usable addresses, and when that changes.

A boat's contact lasts half a minute, so a change is seen the moment the kernel tells of it (rtnetlink(7)). The message
itself is only a bell: what counts is listed anew. Where there is no bell (Android, macOS) the list is looked at every
second. An IPv6 address counts once duplicate address detection (RFC 4862 §5.4) is through, or at once where it is
optimistic (RFC 4429): before that it cannot be bound. Who is on a link is `relay.net.discovery`'s.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ifaddr

from relay.limits import INTERFACE_CHECK_SECONDS, INTERFACE_POLL_SECONDS, MAX_ADDRESSES, MAX_INTERFACES

_IF_INET6 = Path("/proc/net/if_inet6")

# netdevice(7), and the same three on the BSDs
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_IFF_MULTICAST = 0x1000 if sys.platform == "linux" else 0x8000
_SIOCGIFFLAGS = 0x8913 if sys.platform == "linux" else 0xC020_6911
_IFREQ = struct.Struct("16sh22x")

# linux/if_addr.h
_IFA_OPTIMISTIC = 0x04
_IFA_DADFAILED = 0x08
_IFA_TENTATIVE = 0x40

# linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up. `addresses` are usable ones, link-local IPv6 with its zone: `fe80::1%wlan0`."""

    name: str
    index: int
    addresses: tuple[str, ...]


def list_interfaces(only: Sequence[str] = ()) -> list[Interface]:
    """The interfaces that are up, can multicast and have an address; all of them, or those named in `only`.

    The loopback interface is left out unless it is named.
    """
    unusable = _unusable_addresses()
    found: dict[str, tuple[int, list[str]]] = {}
    for adapter in _adapters():
        name = adapter.name.partition(":")[0]  # glibc lists an IPv4 label, "eth0:1", by itself
        if adapter.index is None or (only and name not in only) or not _is_usable(name, named=bool(only)):
            continue
        _, addresses = found.setdefault(name, (adapter.index, []))
        addresses.extend(text for text in map(_text, adapter.ips) if (name, text.partition("%")[0]) not in unusable)
    listed = [
        Interface(name, index, tuple(sorted(set(addresses), key=_order)[:MAX_ADDRESSES]))
        for name, (index, addresses) in found.items()
        if addresses
    ]
    return sorted(listed, key=lambda one: one.index)[:MAX_INTERFACES]


async def watch_interfaces(only: Sequence[str] = ()) -> AsyncIterator[list[Interface]]:
    """What `list_interfaces` says: at once, and again whenever it changes."""
    bell = _open_bell()  # before the first look, so that no change falls between
    try:
        known: list[Interface] | None = None
        while True:
            current = list_interfaces(only)
            if current != known:
                known = current
                yield current
            await _wait_for(bell)
    finally:
        if bell is not None:
            bell.close()


def _adapters() -> list[ifaddr.Adapter]:
    try:
        return list(ifaddr.get_adapters())
    except OSError:  # the list changed while it was read, or may not be read: look again later
        return []


def _text(ip: ifaddr.IP) -> str:
    if isinstance(ip.ip, str):
        return ip.ip
    address = ipaddress.IPv6Address(ip.ip[0].partition("%")[0])
    return f"{address}%{ip.nice_name.partition(':')[0]}" if address.is_link_local else str(address)


def _order(address: str) -> tuple[bool, bool, str]:
    """Link-local IPv6 first, since it needs nobody's help; then other IPv6; then IPv4."""
    return "%" not in address, ":" not in address, address


def _is_usable(name: str, *, named: bool) -> bool:
    """Whether the interface is up, has a carrier and is one to look for neighbours on."""
    flags = _flags(name)
    if flags is None:
        return False
    if not (flags & _IFF_UP and flags & _IFF_RUNNING):
        return False
    return bool(flags & _IFF_MULTICAST and not flags & _IFF_LOOPBACK) or (named and bool(flags & _IFF_LOOPBACK))


def _flags(name: str) -> int | None:
    """The flags of an interface; None if it has gone. Where they may not be asked for, it passes for a good one."""
    request = _IFREQ.pack(name.encode()[:15], 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            reply = fcntl.ioctl(asking, _SIOCGIFFLAGS, request)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return None
        return _IFF_LOOPBACK if name.startswith("lo") else _IFF_UP | _IFF_RUNNING | _IFF_MULTICAST
    return int(_IFREQ.unpack(reply)[1]) & 0xFFFF


def _unusable_addresses() -> set[tuple[str, str]]:
    """(Interface, IPv6 address) of those still in, or refused by, duplicate address detection."""
    try:
        return read_unusable(_IF_INET6.read_text("ascii"))
    except (OSError, ValueError):  # not Linux, or not to be read: then all addresses count
        return set()


def read_unusable(table: str) -> set[tuple[str, str]]:
    """Read the kernel's /proc/net/if_inet6: 32 hex digits, index, prefix length, scope, flags and name per line."""
    unusable = set()
    for line in table.splitlines():
        match line.split():
            case [digits, _, _, _, flags, name]:
                bits = int(flags, 16)
                waits = bits & _IFA_TENTATIVE and not bits & _IFA_OPTIMISTIC
                if waits or bits & _IFA_DADFAILED:
                    unusable.add((name, str(ipaddress.IPv6Address(bytes.fromhex(digits)))))
    return unusable


def _open_bell() -> socket.socket | None:
    """A socket that becomes readable when a link or an address changes; None where the system has none for us."""
    if not hasattr(socket, "AF_NETLINK"):
        return None
    bell: socket.socket | None = None
    try:
        bell = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        bell.setblocking(False)
        bell.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    except OSError:
        if bell is not None:
            bell.close()
        return None
    return bell


async def _wait_for(bell: socket.socket | None) -> None:
    """Wait until something may have changed."""
    if bell is None:
        await asyncio.sleep(INTERFACE_POLL_SECONDS)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(INTERFACE_CHECK_SECONDS):
            await _heard(bell)


async def _heard(bell: socket.socket) -> None:
    """Wait for a message, then take all that are there: one change sends several. An overrun (ENOBUFS) is one too."""
    with suppress(OSError):
        await asyncio.get_running_loop().sock_recv(bell, 65_536)
    with suppress(OSError):
        while bell.recv(65_536):
            pass
